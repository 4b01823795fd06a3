"Every encoder of the registry keeps the same contract; weights are loaded whole or refused."
import argparse, copy, math, os, pickle, subprocess, sys, time
from dataclasses import replace
from functools import partial

import pytest, timm, torch
from safetensors.torch import load_file, save_file

from align4gen import encoders
from align4gen.encoders import Encoder, VideoEncoder, find, load, load_all, registry, table
from align4gen.teachers import Dust3rTokens, dust3r_state
from align4gen.vdit import count_parameters
from align4gen.weights import load_state, to_safetensors

names = encoders.list()
every = pytest.mark.parametrize('name', names)


def quick(name, **more):
    "The entry's architecture with few blocks and random weights."
    torch.manual_seed(0)
    return load(name, 'random', **find(name).quick, **more)


def clip(b, t, h, w, seed=0):
    return torch.rand(b, t, 3, h, w, generator=torch.Generator().manual_seed(seed))*2 - 1


# The contract, for all of them

@every
def test_contract(name):
    "One network per encoder, all checks on it: building it is the slow part."
    encoder, e = quick(name), find(name)
    video = clip(1, 2, e.size, e.size) if e.tubelet == 1 else clip(2, 2, e.size, e.size)
    rows, columns = encoder.grid(e.size, e.size)
    tokens = encoder(video)
    # shape, grid, type
    assert (tokens.shape == (*video.shape[:2], rows*columns, encoder.dim)
        and (rows, columns) == (e.size//e.stride,)*2)
    assert tokens.dtype == torch.float32 and tokens.isfinite().all() and encoder.dim == e.dim
    # it says the same twice, and does not say the same of everything
    assert torch.equal(encoder(video), tokens)
    assert tokens.std(-2).max() > 1e-4
    # no gradient, frozen, in eval mode whatever one asks
    assert not tokens.requires_grad and not any(p.requires_grad for p in encoder.parameters())
    assert not encoder.train().training and not any(m.training for m in encoder.modules())
    # cut into pieces, the answer is the same
    encoder.chunk = 1
    torch.testing.assert_close(encoder(video), tokens, rtol=1e-3, atol=2e-3)
    # coarser arithmetic inside, float32 outside
    encoder.chunk, encoder.dtype = 256, torch.bfloat16
    half = encoder(video[:1])
    assert (half.dtype == torch.float32 and torch.nn.functional.cosine_similarity(half, tokens[:1],
        dim=-1).mean() > .98)
    # frames that are not square, of another size: resized
    encoder.dtype = None
    assert (encoder(clip(1, e.tubelet, 20, 28)).shape == (1, e.tubelet, rows*columns, encoder.dim)
        and encoder.grid(20, 28) == (rows, columns))


def test_wrong_videos_are_named():
    encoder = quick('mini_mae')
    for video, says in ((clip(1, 1, 16, 16)[0], '5 axes'), (clip(1, 1, 16, 16)[:, :, :2],
            '3 channels'), ((clip(1, 1, 16, 16)*127).byte(), 'floating point')):
        with pytest.raises(ValueError, match=says): encoder(video)


# The listing

def test_table_lists_everything_quickly():
    start = time.process_time()
    rows = {r['name']: r for r in table()}
    assert time.process_time() - start < 20
    assert [*rows] == names
    assert ([n for n, r in rows.items() if r['commercial_use'] == 'NO'] == ['mae_b', 'videomae_s',
        'videomae_b', 'videomae_l', 'dust3r'])
    assert ([n for n, r in rows.items() if r['commercial_use'] == 'conditions'] == ['dinov3_b',
        'dinov3_s', 'dinov3_l', 'sd3'])
    assert all(float(r['GFLOPs_per_frame']) > 0 and r['licence'] and r['source']
        for r in rows.values())
    assert (rows['videomae_b']['time'] == 'every 2, repeat'
        and rows['dinov2_b']['time'] == 'every frame')
    assert all(n in table()._repr_markdown_() for n in names)


@pytest.mark.parametrize('name, options, millions', [
    # with the published position table
    ('dinov2_s', dict(img_size=518), 22.1), ('dinov2_b', dict(img_size=518), 86.6),
    ('dinov2_l', dict(img_size=518), 304.4),
    ('dinov2_s', {}, 21.6), ('dinov2_b_reg', {}, 85.7), ('dinov2_l_reg', {}, 303.2),
    ('dinov3_s', {}, 21.6), ('dinov3_b', {}, 85.6), ('dinov3_l', {}, 303.1),
    ('sam2_fpn_t', {}, 27.2), ('sam2_fpn_b', {}, 69.1), ('sam2_fpn_l', {}, 212.7), ('videomae_b',
    {}, 86.2), ('videomae_l', {}, 303.9),
    ('dust3r', {}, 303.1), ('internvit', {}, 303.2), ('mae_b', {}, 85.8), ('clip_b', {}, 85.9)])
def test_full_size(name, options, millions):
    with torch.device('meta'): model = find(name).build(**options)
    assert count_parameters(model)/1e6 == pytest.approx(millions, abs=.06)


def test_full_size_sd3():
    with torch.device('meta'): model = find('sd3').build()
    assert sum(p.numel() for p in model.transformer.parameters()) == 2_028_328_000
    assert sum(p.numel() for p in model.vae.parameters()) == 34_274_208


@pytest.mark.parametrize('name', [n for n in names if find(n).source.startswith('timm/')])
def test_facts_are_timms(name):
    "Repository, colours and licence are not typed by hand."
    e = find(name)
    c = timm.get_pretrained_cfg(e.build.args[0])
    assert (e.hub, e.mean, e.std, e.licence) == (c.hf_hub_id, c.mean, c.std, c.license)


# Time

@pytest.mark.parametrize('t', (2, 4, 6))
def test_halved_time_comes_back(t):
    video, e = clip(1, t, 32, 32), find('videomae_s')
    repeat, between = (quick('videomae_s', time=how) for how in ('repeat', 'interpolate'))
    between.model.load_state_dict(repeat.model.state_dict())
    a, b = repeat(video), between(video)
    assert a.shape == b.shape == (1, t, 196, e.dim) and torch.equal(a[:, ::2], a[:, 1::2])
    torch.testing.assert_close(a[:, 0], b[:, 0])
    if t > 2: torch.testing.assert_close(b[:, 1], .75*a[:, 1] + .25*a[:, 2])
    assert "time='repeat'" in repr(repeat) and "time='interpolate'" in repr(between)


@pytest.mark.parametrize('t', (1, 3))
def test_odd_time_is_one_clear_error(t):
    with pytest.raises(ValueError, match='axis 1 of b t c h w, must be a multiple of 2'):
        quick('videomae_s')(clip(1, t, 32, 32))


def test_a_clip_is_never_cut():
    "Frames of one clip see each other however small the chunk; clips do not."
    encoder, video = quick('videomae_s', chunk=2), clip(2, 4, 32, 32)
    both = encoder(video)
    changed = video.clone()
    changed[0, 3] = 0
    assert (not torch.allclose(encoder(changed)[0, 0], both[0, 0])
        and torch.equal(encoder(changed)[1], both[1]))


# Weights

@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv('HF_ENDPOINT', 'http://127.0.0.1:9')
    import huggingface_hub.constants as constants
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True, raising=False)


@pytest.mark.parametrize('name', [n for n in names if find(n).hub])
def test_no_network_is_one_quick_error(name, offline, tmp_path, monkeypatch):
    monkeypatch.setenv('HF_HUB_CACHE', str(tmp_path))
    start = time.time()
    with pytest.raises(OSError) as said: load(name, 'hub')
    assert time.time() - start < 5
    assert (find(name).hub in str(said.value) and find(name).files[0] in str(said.value)
        and f"load('{name}', weights='path/to/folder')" in str(said.value))


def to_checkpoint(name, module):
    "A state dict as the published file has it."
    state = {k: v.clone().contiguous() for k, v in getattr(module, 'model',
        module).state_dict().items()}
    if name.startswith('mini'):
        return {k: v.clone().contiguous() for k, v in module.state_dict().items()}
    if name.startswith('sam2_fpn'):
        return ({f'vision_encoder.{k}': v for k, v in state.items()}
            | {'mask_decoder.x': torch.ones(1)})
    if name.startswith('videomae'):
        named = {k.replace('query.bias', 'q_bias').replace('value.bias', 'v_bias'): v
            + .01*k.endswith('query.bias') for k, v in state.items()}
        return {f'videomae.{k}': v for k, v in named.items()} | {'decoder.x': torch.ones(1)}
    if name == 'clip_b': state['head.weight'] = torch.ones(512, 768)
    return state


@pytest.mark.parametrize('name', ('mini_infonce', 'mini_mae', 'dinov3_s', 'clip_b', 'sam2_fpn_t',
    'videomae_s'))
def test_weights_come_back(name, tmp_path):
    encoder, e = quick(name), find(name)
    state = to_checkpoint(name, encoder.model)
    save_file(state, tmp_path/'model.safetensors')
    again = load(name, tmp_path, **e.quick)
    if name.startswith('videomae'):
        for k, p in encoder.model.named_parameters(): p.data += .01*k.endswith('query.bias')
    video = clip(1, 2, e.size, e.size)
    torch.testing.assert_close(again(video), encoder(video), rtol=1e-4, atol=1e-4)
    # one key less, one key more
    lost = next(k for k in state if k.endswith('norm1.weight') or 'layernorm_before' in k
        or 'layer_norm1' in k)
    save_file({k: v for k, v in state.items() if k != lost}, tmp_path/'model.safetensors')
    with pytest.raises(ValueError,
            match=rf'does not fit the model: 1 missing \(.*{lost.split(".")[-2]}'):
        load(name, tmp_path, **e.quick)
    prefix = 'vision_encoder.' if name.startswith('sam2_fpn') else ''
    save_file(state | {f'{prefix}surplus.x': torch.ones(1)}, tmp_path/'model.safetensors')
    if name != 'clip_b':
        with pytest.raises(ValueError, match=r'1 unexpected \(surplus.x\)'):
            load(name, tmp_path, **e.quick)


@pytest.mark.parametrize('name', ('dinov2_s', 'dinov2_s_reg', 'mae_b', 'clip_b', 'internvit'))
def test_published_position_tables_are_adapted(name, tmp_path):
    """The file is of the size the encoder was trained at; ours is another. Nothing but the table
    changes."""
    e = find(name)
    published = timm.create_model(e.build.args[0], **e.quick)
    state = {k: v.clone().contiguous() for k, v in published.state_dict().items()}
    save_file(state, tmp_path/'model.safetensors')
    own = load(name, tmp_path, **e.quick).model.model.state_dict()
    assert own.keys() == {k for k in state if not k.startswith('head.')}
    assert own['pos_embed'].shape != state['pos_embed'].shape
    assert all(torch.equal(own[k], state[k]) for k in own if k != 'pos_embed')


def test_sam2_trunk_from_the_whole_models_file(tmp_path):
    "timm's file has all four stages; the encoder keeps three."
    e = find('sam2_hiera_t')
    whole = timm.create_model(e.build.args[0], **e.quick)
    save_file({k: v.contiguous() for k, v in whole.state_dict().items()},
        tmp_path/'model.safetensors')
    with torch.no_grad():
        frame = torch.rand(1, 3, 256, 256)
        expected = whole.eval().forward_intermediates(frame, indices=[2], intermediates_only=True)[
            0]
        found = load('sam2_hiera_t', tmp_path, **e.quick).model(frame)
    torch.testing.assert_close(found, expected.flatten(2).mT)


def test_sd3_from_a_folder(tmp_path, monkeypatch):
    options, narrow = find('sd3').quick | dict(heads=2), replace(find('sd3'), dim=128)
    monkeypatch.setitem(registry.things, 'sd3', narrow)
    encoder = Encoder(narrow, narrow.build(**options))
    parts = {'transformer': encoder.model.transformer.state_dict(),
        'vae': encoder.model.vae.state_dict() | {'decoder.x': torch.ones(1)}}
    with pytest.raises(FileNotFoundError, match='no vae/diffusion_pytorch_model.safetensors'): 
        (tmp_path/'transformer').mkdir()
        (tmp_path/'transformer/diffusion_pytorch_model.safetensors').touch()
        load('sd3', tmp_path, **options)
    for part, state in parts.items():
        (tmp_path/part).mkdir(exist_ok=True)
        save_file({k: v.contiguous() for k, v in state.items()},
            tmp_path/part/'diffusion_pytorch_model.safetensors')
    video = clip(1, 1, 256, 256)
    assert torch.equal(load('sd3', tmp_path, **options)(video), encoder(video))
    noisy = load('sd3', tmp_path, noise=.5, **options)
    assert (noisy.model.timestep == 500 and not torch.allclose(noisy(video), encoder(video))
        and torch.equal(noisy(video), noisy(video)))
    text = torch.randn(1, 7, 4096)
    assert not torch.allclose(load('sd3', tmp_path, text=text, **options)(video), encoder(video))


def test_lost_biases_are_noticed(tmp_path):
    state = to_checkpoint('videomae_s', quick('videomae_s').model)
    save_file({k: v*0 if k.endswith('q_bias') else v for k, v in state.items()},
        tmp_path/'x.safetensors')
    with pytest.raises(ValueError, match='every q_bias'):
        load('videomae_s', tmp_path, **find('videomae_s').quick)


class Trap:
    def __init__(self, mark): self.mark = str(mark)
    def __reduce__(self): return os.mkdir, (self.mark,)


@pytest.mark.parametrize('name', [n for n in names if len(find(n).files) == 1])
def test_other_files_are_refused_and_never_run(name, tmp_path):
    mark = tmp_path/'mark'
    trap = pickle.dumps({'model': Trap(mark)}, protocol=2)
    for file in ('a.pth', 'a.bin', 'a.pt'):
        (tmp_path/file).write_bytes(trap)
        with pytest.raises(ValueError, match='is not a .safetensors file.*to_safetensors'):
            load(name, tmp_path/file)
    (tmp_path/'a.safetensors').write_bytes(trap)
    options = find(name).quick
    with pytest.raises(ValueError, match='not a whole .safetensors file'):
        load(name, tmp_path/'a.safetensors', **options)
    save_file({'x': torch.ones(100)}, tmp_path/'b.safetensors')
    with pytest.raises(ValueError, match=r'does not fit the model: \d+ missing \('):
        load(name, tmp_path/'b.safetensors', **options)
    (tmp_path/'b.safetensors').write_bytes((tmp_path/'b.safetensors').read_bytes()[:-40])
    with pytest.raises(ValueError, match='not a whole .safetensors file'):
        load(name, tmp_path/'b.safetensors', **options)
    with pytest.raises(FileNotFoundError, match='no weights at'):
        load(name, tmp_path/'c.safetensors')
    assert not mark.exists()


def test_to_safetensors(tmp_path):
    mark, good = tmp_path/'mark', {'a': torch.randn(3), 'b': torch.randn(2, 2)}
    torch.save({'args': argparse.Namespace(lr=1), 'model': good, 'epoch': 3}, tmp_path/'good.pth')
    assert all(torch.equal(v, good[k]) for k,
        v in load_file(to_safetensors(tmp_path/'good.pth')).items())
    torch.save({'model': good, 'extra': Trap(mark)}, tmp_path/'trap.pth')
    (tmp_path/'old.pth').write_bytes(pickle.dumps(Trap(mark), protocol=2))
    (tmp_path/'cut.pth').write_bytes((tmp_path/'good.pth').read_bytes()[:-100])
    (tmp_path/'empty.pth').touch()
    for name in ('trap', 'old', 'cut', 'empty'):
        with pytest.raises(ValueError, match='nothing in it was run'):
            to_safetensors(tmp_path/f'{name}.pth')
    assert not mark.exists() and not (tmp_path/'trap.safetensors').exists()


# DUSt3R, against CroCo's encoder written another way: complex rotations, one head at a time

def rotate(x, positions):
    """RoPE of n l 32: channels i and i+16 are the real and imaginary part of one number, turned by
    position * 100^(-i/16)."""
    half = x.shape[-1]//2
    speed = torch.tensor([100.**(-i/half) for i in range(half)], dtype=torch.float64)
    turned = (torch.complex(x[..., :half].double(), x[..., half:].double()) * torch.exp(
        1j*positions.double()[:, None]*speed))
    return torch.cat([turned.real, turned.imag], -1)


def croco_encoder(s, images, heads, blocks):
    s = {k: v.double() for k, v in s.items()}
    images, (h, w) = images.double(), (images.shape[-2]//16, images.shape[-1]//16)
    y, x = torch.arange(h).repeat_interleave(w), torch.arange(w).repeat(h)

    def norm(v, key):
        v = v - v.mean(-1, keepdim=True)
        return (v / (v.square().mean(-1, keepdim=True) + 1e-6).sqrt() * s[f'{key}.weight']
            + s[f'{key}.bias'])

    def dense(v, key): return v @ s[f'{key}.weight'].T + s[f'{key}.bias']

    patches = images.unfold(2, 16, 16).unfold(3, 16, 16).permute(0, 2, 3, 1, 4,
        5).flatten(3).flatten(1, 2)
    v = patches @ s['patch_embed.proj.weight'].flatten(1).T + s['patch_embed.proj.bias']
    for b in range(blocks):
        key = f'enc_blocks.{b}'
        q, k, u = dense(norm(v, f'{key}.norm1'), f'{key}.attn.qkv').chunk(3, -1)
        size, out = v.shape[-1]//heads, []
        for i in range(heads):
            qi, ki, ui = (z[..., i*size:(i + 1)*size] for z in (q, k, u))
            qi, ki = (torch.cat([rotate(z[..., :size//2], y), rotate(z[..., size//2:], x)], -1)
                for z in (qi, ki))
            out.append((qi @ ki.mT / math.sqrt(size)).softmax(-1) @ ui)
        v = v + dense(torch.cat(out, -1), f'{key}.attn.proj')
        hidden = dense(norm(v, f'{key}.norm2'), f'{key}.mlp.fc1')
        v = v + dense(hidden * .5 * (1 + torch.erf(hidden/math.sqrt(2))), f'{key}.mlp.fc2')
    return norm(v, 'enc_norm')


def croco_checkpoint(dim, blocks, seed=0):
    "A state dict with CroCo's names, and a decoder that nobody wants."
    g, draw = torch.Generator().manual_seed(seed), {}
    shapes = {'patch_embed.proj': (dim, 3, 16, 16), 'enc_norm': (dim,)}
    for b in range(blocks):
        shapes |= {f'enc_blocks.{b}.{k}': v for k, v in {'norm1': (dim,), 'attn.qkv': (3*dim, dim),
            'attn.proj': (dim, dim), 'norm2': (dim,),
                                                          'mlp.fc1': (4*dim, dim), 'mlp.fc2': (dim,
                                                          4*dim)}.items()}
    for k, shape in shapes.items():
        fan = math.prod(shape[1:])
        draw[f'{k}.weight'] = (torch.randn(shape, generator=g)*(1.5/math.sqrt(fan) if len(shape) > 1
            else .2) + (len(shape) == 1))
        draw[f'{k}.bias'] = torch.randn(shape[0], generator=g)*.2
    return (draw | {'mask_token': torch.zeros(1, 1, dim), 'dec_blocks.0.norm1.weight': torch.ones(
        dim), 'downstream_head1.proj.weight': torch.ones(1)})


@pytest.mark.parametrize('h, w', ((3, 3), (2, 5), (7, 4)))
@pytest.mark.parametrize('heads', (1, 2, 3))
def test_dust3r_is_croco(heads, h, w):
    state = croco_checkpoint(64*heads, 2)
    module = load_state(Dust3rTokens(64*heads, 2, heads).eval().model,
        dust3r_state(state, heads), 'dust3r', 'a dict')
    x = torch.randn(2, 3, 16*h, 16*w, generator=torch.Generator().manual_seed(1))
    expected = croco_encoder(state, x, heads, 2)
    with torch.no_grad(): found = module.forward_features(x)
    assert found.shape == (2, h*w, 64*heads)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    plain = {k.removeprefix('enc_'): v for k, v in state.items()
        if k.startswith(('enc_', 'patch_embed'))}
    with torch.no_grad(): wrong = load_state(module, plain, 'dust3r', 'a dict').forward_features(x)
    assert (wrong - expected).abs().max() > .05


def test_dust3r_state_is_a_reordering():
    "Nothing is lost, made up or changed in place; values keep their order."
    state = croco_checkpoint(128, 1)
    before, mapped = copy.deepcopy(state), dust3r_state(state, 2)
    assert all(torch.equal(state[k], before[k]) for k in state)
    for part in ('weight', 'bias'):
        theirs, ours = state[f'enc_blocks.0.attn.qkv.{part}'], mapped[f'blocks.0.attn.qkv.{part}']
        assert torch.equal(ours[256:], theirs[256:]) and not torch.equal(ours[:256], theirs[:256])
        assert torch.equal(ours.flatten().sort()[0], theirs.flatten().sort()[0])
        order = [*range(16), *range(32, 48), *range(16, 32), *range(48, 64)]
        # second head of the queries
        assert torch.equal(ours[64:128], theirs[64:128][order])
    assert not any(k.startswith(('dec_', 'mask', 'downstream')) for k in mapped)


def test_dust3r_through_load(tmp_path):
    "From a .pth with a Namespace, by way of safetensors, to features."
    state = croco_checkpoint(1024, 1)
    torch.save({'args': argparse.Namespace(model='x'), 'model': state}, tmp_path/'dust3r.pth')
    with pytest.raises(ValueError, match='to_safetensors'): load('dust3r', tmp_path/'dust3r.pth')
    encoder = load('dust3r', to_safetensors(tmp_path/'dust3r.pth'), depth=1)
    video = clip(1, 1, 256, 256)
    torch.testing.assert_close(encoder(video)[0].double(), croco_encoder(state, video[0], 16, 1),
        rtol=1e-4, atol=2e-5)


# The names the rest of the book relies on

def test_entries_of_ones_own():
    class Mean(torch.nn.Module):
        def forward(self, x): return torch.nn.functional.avg_pool2d(x, 4).flatten(2).mT
    entry = encoders.Entry('test_mean', Mean, dim=3, size=16, stride=4, kind='floor')
    encoders.register(entry)
    try:
        assert load('test_mean')(clip(1, 1, 16, 16)).shape == (1, 1, 16, 3)
        with pytest.raises(ValueError, match='already'): encoders.register(entry)
        assert 'test_mean' in table()._repr_markdown_()
    finally: del registry['test_mean']


@pytest.mark.parametrize('made', [torch.zeros(2, 16, 5), torch.zeros(2, 3, 4, 4), (), 'tokens'])
def test_a_broken_contract_is_told_in_its_words(made):
    class Broken(torch.nn.Module):
        def forward(self, x): return made
    entry = encoders.Entry('broken', Broken, dim=3, size=16, stride=4)
    with pytest.raises(ValueError, match=r'broken: the network made .* the contract is '
            r'n \(rows columns\) d = \(2, 16, 3\)'):
        Encoder(entry, Broken())(clip(1, 2, 16, 16))


@pytest.mark.parametrize('name', [n for n in names if find(n).hub])
def test_a_foreign_encoder_needs_weights(name):
    "One error that names the files, the repository and the option; and the word that does without."
    with pytest.raises(ValueError, match=f'{name} needs weights') as e: load(name)
    for word in (find(name).files[0], find(name).hub, f'--weights {name}=PATH', f'{name}=random'):
        assert word in str(e.value)
    encoders.check_weights(name, 'hub')
    assert encoders.check_weights(name, f'mini_mae=x,{name}=random') == 'random'


def test_names():
    with pytest.raises(ValueError, match="did you mean 'dinov2_b'"): load('dinov2')
    with pytest.raises(ValueError, match="did you mean 'mini_mae'"): load('mini_mea')


def test_several(tmp_path):
    "A string works where a list does; one word for all is for those that need it."
    mine = quick('mini_mae')
    assert load_all(['mini_infonce', mine])[1] is mine
    assert [e.name for e in load_all('mini_infonce, mini_mae', 'random')] == ['mini_infonce',
        'mini_mae']
    same = load_all('mini_mae', 'random')[0].state_dict()
    assert all(torch.equal(v, same[k]) for k, v in load('mini_mae').state_dict().items())
    with pytest.raises(ValueError, match='dinov2_s needs weights'): load_all('mini_mae,dinov2_s')
    save_file({'x': torch.ones(1)}, tmp_path/'dinov2_s.safetensors')
    with pytest.raises(ValueError, match='does not fit the model'): load_all('dinov2_s', tmp_path)


def test_listing_is_light():
    "The chapter names no foreign network, and its names are listed without any library of theirs."
    code = ("import sys; from align4gen import encoders; assert 'align4gen.teachers' not in "
        "sys.modules; import align4gen.teachers; assert 'dinov2_b' in encoders.registry.things; "
        "print([m for m in ('timm', 'transformers', 'diffusers', 'torchvision') if m in sys.modules])")
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert (out.stdout.strip(), out.stderr) == ('[]', '')


def test_kinds_of_encoder():
    assert type(quick('dust3r')) is Encoder and type(quick('videomae_s')) is VideoEncoder
    with pytest.raises(ValueError, match='sees single frames'): load('dinov2_s', time='repeat')
    with pytest.raises(ValueError, match="'repeat' or by 'interpolate'"):
        load('videomae_s', time='tile')
