"""Aligner on other people's video models: tiny, random weights, real code. Do tokens come from the frame and place they stand for?"""
import copy, warnings

import pytest, torch, torch.nn as nn
from diffusers import (CogVideoXTransformer3DModel, HunyuanVideoTransformer3DModel,
    LatteTransformer3DModel, SD3Transformer2DModel, WanTransformer3DModel)
from einops import rearrange
from torch.utils.checkpoint import checkpoint

from align4gen import encoders
from align4gen.align import Alignment, align_loss, fuse, match_grid
from align4gen.aligner import Aligner, _frame_groups as frame_groups, known, probe
from align4gen.vdit import vdit

two_heads = dict(num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4)


# The models: how to build one, and how to ask it with latents b t c h w

def latte():
    return LatteTransformer3DModel(**two_heads, num_layers=3, cross_attention_dim=32,
        attention_bias=True, sample_size=8, patch_size=2, activation_fn='gelu-approximate',
                                   num_embeds_ada_norm=1000, norm_type='ada_norm_single',
                                   norm_elementwise_affine=False, caption_channels=8,
                                   video_length=6)

def ask_latte(m, z):
    return m(z.transpose(1, 2), torch.full((len(z),), 500), torch.zeros(len(z), 5, 8),
        return_dict=False)[0].transpose(1, 2)

def cog():
    return CogVideoXTransformer3DModel(**two_heads, time_embed_dim=16, text_embed_dim=8,
        num_layers=3, sample_width=12, sample_height=8, sample_frames=9, patch_size=2,
        max_text_seq_length=5)

def ask_cog(m, z):
    return m(z, torch.zeros(len(z), 5, 8), torch.full((len(z),), 500), return_dict=False)[0]

def wan():
    return WanTransformer3DModel(patch_size=(1, 2, 2), **two_heads, text_dim=8, freq_dim=32,
        ffn_dim=48, num_layers=3, rope_max_seq_len=32)

def ask_wan(m, z):
    return m(z.transpose(1, 2), torch.full((len(z),), 500), torch.zeros(len(z), 5, 8),
        return_dict=False)[0].transpose(1, 2)

def hunyuan():
    return HunyuanVideoTransformer3DModel(**two_heads, num_layers=3, num_single_layers=2,
        num_refiner_layers=1, mlp_ratio=2., patch_size=2, patch_size_t=1, guidance_embeds=False,
                                          text_embed_dim=8, pooled_projection_dim=8,
                                          rope_axes_dim=(4, 6, 6))

def ask_hunyuan(m, z):
    b = len(z)
    return m(z.transpose(1, 2), torch.full((b,), 500), torch.zeros(b, 5, 8), torch.ones(b, 5),
        torch.zeros(b, 8), return_dict=False)[0].transpose(1, 2)

def sd3():
    return SD3Transformer2DModel(sample_size=8, patch_size=2, **two_heads, num_layers=3,
        joint_attention_dim=8, caption_projection_dim=32, pooled_projection_dim=8,
        pos_embed_max_size=16)

def ask_sd3(m, z):
    n = z.shape[0] * z.shape[1]
    return m(z.flatten(0, 1), torch.zeros(n, 5, 8), torch.zeros(n, 8), torch.full((n,), 500),
        return_dict=False)[0].unflatten(0, z.shape[:2])

def our_vdit():
    return vdit('mini', dim=32, heads=2, depth=4, in_channels=4, input_size=8, frames=6, patch=2)

def ask_vdit(m, z): return m(z, torch.full((len(z),), .5))

# name: build, ask, a tap, its layout, the rule for time, frames of the video, height and width of
# the latents
cases = dict(
    VDiT=(our_vdit, ask_vdit, 'blocks.1', 'b t n d', 'each', 6, 8, 8),
    Latte=(latte, ask_latte, 'transformer_blocks.1', '(b t) n d', 'each', 6, 8, 12),
    Latte_temporal=(latte, ask_latte, 'temporal_transformer_blocks.1', '(b n) t d', 'each', 6, 8,
    12),
    CogVideoX=(cog, ask_cog, 'transformer_blocks.1', 'b (t n) d', 'causal 4', 9, 8, 12),
    Wan=(wan, ask_wan, 'blocks.1', 'b (t n) d', 'causal 4', 9, 8, 12),
    Wan_groups=(wan, ask_wan, 'blocks.1', 'b (t n) d', 'groups 4', 12, 12, 8),
    Hunyuan=(hunyuan, ask_hunyuan, 'transformer_blocks.1', 'b (t n) d', 'causal 4', 9, 8, 12),
    Hunyuan_single=(hunyuan, ask_hunyuan, 'single_transformer_blocks.1', 'b (t n) d', 'causal 4', 9,
    12, 8),
    SD3=(sd3, ask_sd3, 'transformer_blocks.1', '(b t) n d', 'each', 6, 8, 12))
each_model = pytest.mark.parametrize('name', cases)
names = ['mini_infonce', 'mini_mae']


@pytest.fixture(scope='module')
def teachers(): return [encoders.load(n) for n in names]


class Case:
    "A model whose gates are open, a batch, and the aligner of its tap, found in the table."
    def __init__(self, name, teachers, b=2, **options):
        self.build, self.ask, self.tap, self.layout, self.time, self.frames, self.h, self.w = cases[
            name]
        torch.manual_seed(0)
        self.model = self.build()
        with torch.no_grad():
            for p in self.model.parameters():
                if p.requires_grad: p.add_(.02*torch.randn_like(p))
        self.groups = frame_groups(self.frames, self.time)
        self.video = torch.rand(b, self.frames, 3, 2*self.h, 2*self.w)*2 - 1
        self.z = torch.randn(b, len(self.groups), 4, self.h, self.w)
        self.aligner = Aligner(self.model, self.tap, encoders=teachers, **dict(hidden=16) | options)
        self.grid = (self.h//2, self.w//2)
    def run(self, z=None): return self.ask(self.model, self.z if z is None else z)
    def grads(self):
        "All gradients of base loss + alignment."
        (self.run().square().mean() + self.aligner.loss(self.video)).backward()
        got = {k: p.grad.clone() for m in (self.model, self.aligner) for k,
            p in m.named_parameters() if p.grad is not None}
        for m in (self.model, self.aligner): m.zero_grad()
        return got


def same(a, b, eps=1e-6):
    assert a.keys() == b.keys()
    for k in a: assert (a[k] - b[k]).abs().max() <= eps, k


# Right frame, right place

@each_model
def test_table_knows_the_model(name, teachers):
    case = Case(name, teachers)
    assert case.aligner.tap.layout == case.layout and case.aligner.tap.name == case.tap
    case.run(); tokens = case.aligner.tokens(case.video)
    time, groups, grid = case.aligner.token_grid
    assert (time, groups, grid) == (case.time, case.groups, case.grid)
    assert tokens.shape == (2, len(groups), grid[0]*grid[1], 32)


@each_model
def test_tokens_come_from_their_frame_and_place(name, teachers):
    "The gradient of a token is largest in its own patch of its own frame of its own clip."
    case = Case(name, teachers)
    rows, cols = case.grid
    for clip, frame, row, col in ((0, 0, 0, cols-1), (1, 1, rows-1, 0), (1, len(case.groups)-1, 1,
            2)):
        z = case.z.clone().requires_grad_()
        case.run(z)
        case.aligner.tokens(case.video)[clip, frame, row*cols + col].square().sum().backward()
        from_patch = rearrange(z.grad.abs(), 'b t c (h i) (w j) -> b t h w (c i j)', i=2,
            j=2).sum(-1)
        assert ([*torch.unravel_index(from_patch.argmax(), from_patch.shape)] == [clip, frame, row,
            col])


@each_model
def test_targets_are_pooled_by_the_rule(name, teachers):
    "Group by group, written out."
    case = Case(name, teachers)
    case.run(); case.aligner.tokens(case.video)
    got = case.aligner.targets(case.video, *case.aligner.token_grid[1:])
    for f, e in zip(got, teachers):
        full, start = e(case.video), 0
        for i, k in enumerate(case.groups):
            want = match_grid(full[:, start:start+k].mean(1, keepdim=True), e.grid(), case.grid)
            assert torch.allclose(f[:, i:i+1], want, atol=1e-5)
            start += k
        assert start == case.frames


@each_model
def test_loss_is_that_of_align(name, teachers):
    "The same mapper, tokens and targets through fuse and align_loss."
    case = Case(name, teachers, gamma=.3)
    case.run()
    loss = case.aligner.loss(case.video)
    case.run()
    tokens = case.aligner.tokens(case.video)
    target = fuse(case.aligner.targets(case.video, *case.aligner.token_grid[1:]))
    want = align_loss(case.aligner.alignment.mappers[0](tokens), target)
    assert torch.allclose(loss, .3*want, atol=1e-6)
    assert (abs(case.aligner.cosine.item() - (1 - want.item())) < 1e-6
        and not case.aligner.cosine.requires_grad)


@each_model
def test_block_number_is_enough(name, teachers):
    case = Case(name, teachers)
    model = copy.deepcopy(case.model)
    with Aligner(model, block=1, encoders=teachers, hidden=16) as a:
        assert (a.tap == next(t for t in [a.tap] if t.name == known[type(model).__name__][
            0].name.format(1)))
        case.ask(model, case.z)
        assert a.loss(case.video).isfinite()


def test_vdit_equals_return_tokens(teachers):
    case = Case('VDiT', teachers)
    case.model.eval()
    out, (tokens,) = case.model(case.z, torch.full((2,), .5), return_tokens=(1,))
    by_hand = case.aligner.alignment(tokens, [match_grid(e(case.video), e.grid(), case.grid)
        for e in teachers])
    assert isinstance(case.aligner.alignment, Alignment)
    assert torch.equal(case.aligner.loss(case.video), .5*by_hand)


@pytest.mark.parametrize('name, tap, layout, text', [('CogVideoX', 'patch_embed', 'b (t n) d', 5),
    ('Wan', 'patch_embedding', 'b d t h w', 0), ('Latte', 'pos_embed', '(b t) n d', 0)])
def test_other_taps_of_a_known_model(name, tap, layout, text, teachers):
    """After the patch embedding only one patch of one frame can matter; text tokens in front are
    left out."""
    case = Case(name, teachers)
    rows, cols = case.grid
    with Aligner(case.model, tap, layout, teachers, text=text, hidden=16) as a:
        z = case.z.clone().requires_grad_()
        case.run(z)
        a.tokens(case.video)[1, 1, 1*cols + 2].square().sum().backward()
        from_patch = rearrange(z.grad.abs(), 'b t c (h i) (w j) -> b t h w (c i j)', i=2,
            j=2).sum(-1)
        assert from_patch.nonzero().tolist() == [[1, 1, 1, 2]]


# Learning

@each_model
def test_gradient_reaches_the_model_and_loss_falls(name, teachers):
    case = Case(name, teachers, gamma=1.)
    case.run()
    case.aligner.loss(case.video).backward()
    touched = {n for n, p in case.model.named_parameters() if p.grad is not None
        and p.grad.abs().sum() > 0}
    assert (any(n.startswith(case.tap.rsplit('.', 1)[0] + '.0.') for n in touched)
        and any(n.startswith(case.tap + '.') for n in touched))
    # nothing after the tap
    assert not any(n.startswith(('proj_out', 'final_layer', 'transformer_blocks.2', 'blocks.2'))
        for n in touched if 'single' not in case.tap)
    case.model.zero_grad()
    case.aligner.zero_grad()
    opt = torch.optim.AdamW([*case.model.parameters(), *case.aligner.parameters()], lr=3e-3)
    losses = []
    for _ in range(8):
        opt.zero_grad()
        case.run()
        loss = case.aligner.loss(case.video)
        loss.backward(); opt.step(); losses.append(loss.item())
    assert losses[-1] < losses[0] - .02


@each_model
def test_checkpointing_changes_no_gradient(name, teachers):
    want = Case(name, teachers).grads()
    case = Case(name, teachers)
    if name == 'VDiT': case.model.checkpointing = True
    else: case.model.enable_gradient_checkpointing()
    same(case.grads(), want)
    # recomputation left nothing behind
    with pytest.raises(RuntimeError, match='once before every loss'): case.aligner.loss(case.video)


class Stretched(nn.Module):
    "Three blocks checkpointed together, so that a hook inside does fire again in backward."
    def __init__(self, reentrant=False):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.blocks, self.reentrant = (nn.Linear(48, 24),
            nn.Sequential(*[nn.Sequential(nn.Linear(24, 24), nn.GELU()) for _ in range(3)]),
            reentrant)
        self.on, self.text, self.times = True, 0, 1
    def forward(self, x):                                  # b t 3 h w, patches of 4
        x = self.embed(rearrange(x, 'b t c (h i) (w j) -> b (t h w) (c i j)', i=4, j=4))
        if self.text: x = torch.cat([x, torch.zeros(len(x), self.text, 24)], 1)
        for _ in range(self.times):
            x = (checkpoint(self.blocks, x, use_reentrant=self.reentrant) if self.on
                else self.blocks(x))
        return x

clip = torch.rand(2, 3, 3, 8, 12, generator=torch.Generator().manual_seed(0))*2 - 1
plain = dict(tap='blocks.1', layout='b (t n) d', dim=24, hidden=8)

def test_recomputation_of_a_stretch_is_not_heard(teachers):
    calls, got = [], []
    for on in (False, True):
        model = Stretched(); model.on = on
        torch.manual_seed(1); a = Aligner(model, encoders=teachers, **plain)
        model.blocks[1].register_forward_hook(lambda *_: calls.append(on))
        (model(clip).square().mean() + a.loss(clip)).backward()
        got.append({k: p.grad for k, p in [*model.named_parameters(), *a.named_parameters()]})
        assert a.hook.value is None
    assert calls == [False, True, True]
    same(*got, eps=0)


def test_reentrant_checkpointing_is_refused(teachers):
    model = Stretched(reentrant=True); a = Aligner(model, encoders=teachers, **plain)
    model(clip)
    with pytest.raises(RuntimeError, match='use_reentrant=True'): a.loss(clip)


@pytest.mark.parametrize('name, backend, how', [('Wan', 'eager', 'wrapped'), ('Wan', 'aot_eager',
    'blocks'), ('VDiT', 'aot_eager', 'in place'), ('CogVideoX', 'eager', 'wrapped, checkpointed'),
                                                ('SD3', 'eager', 'compiled first'),
                                                ('Latte_temporal', 'eager', 'in place')])
def test_compiled_model_has_the_same_gradients(name, backend, how, teachers):
    want = Case(name, teachers).grads()
    torch._dynamo.reset(); torch._dynamo.utils.counters.clear()
    case = Case(name, teachers)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        if 'checkpointed' in how: case.model.enable_gradient_checkpointing()
        # wrapped, not run, then handed to Aligner
        if how == 'compiled first':
            case.aligner.remove()
            model = torch.compile(case.model, backend=backend)
            again = Case(name, teachers)
            case.aligner = Aligner(model, case.tap, encoders=teachers, hidden=16)
            case.aligner.load_state_dict(again.aligner.state_dict())
            call = model
        elif 'wrapped' in how: call = torch.compile(case.model, backend=backend)
        elif how == 'in place': case.model.compile(backend=backend); call = case.model
        else: [b.compile(backend=backend) for b in case.model.blocks]; call = case.model
        base, case.model = case.model, call
        case.run = lambda: case.ask(call, case.z)
        # the third step must not compile again
        for _ in range(3):
            before = dict(torch._dynamo.utils.counters['frames'])
            (case.run().square().mean() + case.aligner.loss(case.video)).backward()
            got = {k: p.grad.clone() for m in (base, case.aligner) for k, p in m.named_parameters()
                if p.grad is not None}
            base.zero_grad()
            case.aligner.zero_grad()
            same(got, want, eps=1e-5)
    assert dict(torch._dynamo.utils.counters['frames']) == before
    breaks = sum(torch._dynamo.utils.counters['graph_break'].values())
    assert (breaks > 0) == ('checkpointed' in how)
    torch._dynamo.reset()


def test_compiled_before_is_an_error_not_silence(teachers):
    torch._dynamo.reset()
    model = Stretched(); model.on = False; model.compile(backend='eager'); model(clip)
    a = Aligner(model, encoders=teachers, **plain); model(clip)
    with pytest.raises(RuntimeError, match='make the Aligner first'): a.loss(clip)
    torch._dynamo.reset()


def test_ddp(teachers, tmp_path):
    "Both wrapped: the aligner is called, since a wrapper sees forward only."
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel
    want = Case('Wan', teachers).grads()
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        case = Case('Wan', teachers)
        case.aligner.remove()
        torch.manual_seed(0)
        model = DistributedDataParallel(case.model)
        inner = Aligner(model, case.tap, encoders=teachers, hidden=16)
        inner.load_state_dict(Case('Wan', teachers).aligner.state_dict())
        aligner = DistributedDataParallel(inner)
        (ask_wan(model, case.z).square().mean() + aligner(case.video)).backward()
        same({k: p.grad for m in (case.model, inner) for k, p in m.named_parameters()
            if p.grad is not None}, want)
    finally: dist.destroy_process_group()


@pytest.mark.filterwarnings('ignore:Mismatch dtype')
def test_autocast(teachers):
    case = Case('Wan', teachers)
    with torch.autocast('cpu', torch.bfloat16): case.run(); loss = case.aligner.loss(case.video)
    assert loss.dtype == torch.float32
    case.run(); assert abs(loss.item() - case.aligner.loss(case.video).item()) < .02
    half = Stretched().to(torch.bfloat16); a = Aligner(half, encoders=teachers, **plain)
    half(clip.bfloat16()); a.loss(clip).backward()
    assert half.embed.weight.grad.dtype == torch.bfloat16 and half.embed.weight.grad.abs().sum() > 0


# What it owns

def test_state_holds_the_mappers_only(teachers, tmp_path):
    case = Case('Wan', teachers, mode='separate')
    assert ({k.rsplit('.', 2)[0] for k in case.aligner.state_dict()} == {'alignment.mappers.0',
        'alignment.mappers.1'})
    assert {id(p) for p in case.aligner.parameters()}.isdisjoint({id(p) for m in [case.model,
        *teachers] for p in m.parameters()})
    assert all(p.requires_grad for p in case.aligner.parameters())
    case.run()
    want = case.aligner.loss(case.video).item()
    case.aligner.save(tmp_path/'a')
    case.aligner.remove()
    # encoders by name
    again = Aligner.load(tmp_path/'a', case.model)
    case.run()
    assert again.loss(case.video).item() == want
    case.run()
    assert Aligner.load(tmp_path/'a', case.model, encoders=teachers).settings == again.settings
    with pytest.raises(ValueError, match='was trained with'):
        Aligner.load(tmp_path/'a', case.model, encoders=teachers[::-1])


def test_remove_leaves_the_model_as_it_was(teachers):
    case = Case('Wan', teachers)
    case.aligner.remove()
    hooks = lambda: sum(len(m._forward_hooks) + len(m._forward_pre_hooks)
        for m in case.model.modules())
    assert hooks() == 0
    with Aligner(case.model, case.tap, encoders=teachers, hidden=8): assert hooks() == 3
    assert hooks() == 0
    with pytest.raises(RuntimeError, match='was removed'): case.aligner.loss(case.video)


def test_copies_are_deaf(teachers):
    case = Case('Wan', teachers); case.run()
    average = copy.deepcopy(case.model); case.aligner.loss(case.video)
    case.ask(average, case.z)
    with pytest.raises(RuntimeError, match='once before every loss'): case.aligner.loss(case.video)
    hook = case.aligner.hook
    assert type(copy.deepcopy(hook)) is type(hook) and not copy.deepcopy(hook).live


def test_features_from_a_cache(teachers):
    case = Case('Wan', teachers)
    case.run()
    want = case.aligner.loss(case.video)
    case.run()
    assert torch.equal(case.aligner.loss(case.video, features=[e(case.video) for e in teachers]),
        want)


# Models that are not in the table, and mistakes

@pytest.mark.parametrize('text', [0, 5])
def test_unknown_model(text, teachers):
    model = Stretched()
    model.text = text
    assert probe(model, 'blocks.1', clip)[0]['shape'] == (2, 18 + text, 24)
    a = Aligner(model, encoders=teachers, text=-text, **plain)
    model(clip)
    tokens = a.tokens(clip)
    assert tokens.shape == (2, 3, 6, 24) and a.token_grid == ('each', [1, 1, 1], (2, 3))
    assert torch.allclose(tokens[1, 2, 4], model.blocks[:2](model.embed(clip[1, 2, :, 4:8,
        4:8].flatten()[None]))[0], atol=1e-6)


def test_two_token_grids_are_an_error_until_one_is_chosen(teachers):
    # 16 frames x 64 patches of 4, or 4 frames x 256
    video = torch.zeros(1, 16, 3, 32, 32)
    model = Stretched()
    with pytest.raises(ValueError,
            match=r"time='each' with grid=\(8, 8\), or time='groups 4' with grid=\(16, 16\)"):
        a = Aligner(model, encoders=teachers, **plain); model(video); a.loss(video)
    for options in (dict(time='each'), dict(grid=(8, 8))):
        a = Aligner(model, encoders=teachers, **plain, **options); model(video); a.loss(video)
        assert a.token_grid == ('each', [1]*16, (8, 8))


mistakes = {
    'has no submodule': lambda m, t: Aligner(m, **plain | dict(tap='blocks.7'), encoders=t),
    'not in aligner.known': lambda m, t: Aligner(m, block=1, encoders=t),
    'give layout=': lambda m, t: Aligner(m, 'blocks.1', dim=24, encoders=t),
    'give dim=': lambda m, t: Aligner(m, 'blocks.1', 'b (t n) d', encoders=t),
    'one letter each': lambda m, t: Aligner(m, 'blocks.1', 'b s d', dim=24, encoders=t),
    "'causal 4'": lambda m, t: Aligner(m, **plain, time='pairs', encoders=t)}

@pytest.mark.parametrize('words', mistakes)
def test_mistakes_at_the_start(words, teachers):
    model = Stretched()
    with pytest.raises(ValueError, match=words): mistakes[words](model, teachers)
    assert not model._forward_hooks and not model._forward_pre_hooks


def test_mistakes_in_the_loop(teachers):
    model = Stretched(); a = Aligner(model, encoders=teachers, time='each', **plain)
    def fails(kind, words, video=clip, seen=clip, **options):
        model(seen)
        with pytest.raises(kind, match=words): a.loss(video, **options)
    with pytest.raises(RuntimeError, match='nothing new from blocks.1'): a.loss(clip)
    fails(ValueError, 'same batch', video=clip[:1].repeat(3, 1, 1, 1, 1))
    fails(ValueError, 'no way to read that', video=clip[:, :, :, :, :8])
    fails(ValueError, '3 channels on axis 2', video=clip.flip(0).transpose(1, 2)[:, :, :2])
    fails(ValueError, '1 features for 2', features=[clip])
    model.times = 2
    fails(RuntimeError, 'ran 2 times')
    model.times = 1
    with torch.no_grad(): model(clip)
    with pytest.raises(RuntimeError, match='no gradient'): a.loss(clip)
    with torch.no_grad(): model(clip); assert a.loss(clip).isfinite()
    model.forward(clip)
    with pytest.raises(RuntimeError, match=r'not model.forward'): a.loss(clip)
    with Aligner(model, 'blocks.1', 'b (t n) d', teachers, dim=32, hidden=8) as wide:
        model(clip)
        with pytest.raises(ValueError, match='dim=24'): wide.loss(clip)


# Real sizes, on the meta device: no weights, no memory

def empty(*shape): return torch.empty(*shape, device='meta')

real = dict(
    cogvideox_2b=(CogVideoXTransformer3DModel, (49, 480, 720), ('causal 4', 13, (30, 45)),
    lambda: (empty(1, 13, 16, 60, 90), empty(1, 226, 4096), empty(1))),
    wan_14b=(WanTransformer3DModel, (81, 480, 832), ('causal 4', 21, (30, 52)),
    lambda: (empty(1, 16, 21, 60, 104), empty(1), empty(1, 512, 4096))),
    wan_video_of_one_frame=(WanTransformer3DModel, (1, 480, 832), ('each', 1, (30, 52)),
    lambda: (empty(1, 16, 1, 60, 104), empty(1), empty(1, 512, 4096))),
    hunyuan_13b=(HunyuanVideoTransformer3DModel, (129, 720, 1280), ('causal 4', 33, (45, 80)),
                 lambda: (empty(1, 16, 33, 90, 160), empty(1), empty(1, 256, 4096), empty(1, 256),
                 empty(1, 768), empty(1))))

@pytest.mark.parametrize('name', real)
def test_real_sizes(name, teachers):
    build, (frames, h, w), (time, t, grid), inputs = real[name]
    with torch.device('meta'): model = build()
    with Aligner(model, block=9, encoders=teachers) as a:
        model(*inputs())
        assert a.tokens(empty(1, frames, 3, h, w)).shape == (1, t, grid[0]*grid[1], a.dim)
        assert (a.token_grid[0], len(a.token_grid[1]), a.token_grid[2]) == (time, t, grid)


# Patches in time

def cog15():
    "CogVideoX 1.5: patches of two latent frames, positions by rotation."
    return CogVideoXTransformer3DModel(**two_heads, time_embed_dim=16, text_embed_dim=8,
        num_layers=3, sample_width=12, sample_height=8, sample_frames=53, patch_size=2,
        patch_size_t=2, use_rotary_positional_embeddings=True, max_text_seq_length=5)


@pytest.mark.parametrize('build, frames, time, groups', [
    (cog15, 53, '5 then 8', [5] + [8]*6), (cog15, 85, '5 then 8', [5] + [8]*10),
    (cog, 53, 'causal 4', [1] + [4]*13), (cog, 85, 'causal 4', [1] + [4]*21)])
def test_cogvideox_with_long_clips(build, frames, time, groups, teachers):
    "The rule is found, may be said, and the targets are means over these groups; a token looks at its own latents."
    latents, model = (frames - 1)//4 + 1, build()
    with torch.no_grad():
        for p in model.parameters(): p.add_(.02*torch.randn_like(p))
    video = torch.rand(1, frames, 3, 16, 24)*2 - 1
    z = torch.randn(1, latents, 4, 8, 12, requires_grad=True)
    for said in (None, time):
        with Aligner(model, block=0, encoders=teachers, time=said, hidden=8) as a:
            ask_cog(model, z)
            tokens = a.tokens(video)
            assert a.token_grid == (time, groups, (4, 6)) and tokens.shape[:3] == (1, len(groups), 24)
    tokens[0, 2].square().sum().backward()
    each = z.grad[0].flatten(1).norm(dim=1)
    own = [4, 5] if build is cog15 else [2]
    assert set(each.topk(len(own)).indices.tolist()) == set(own)
    wanted = torch.stack([f.mean(1) for f in teachers[0](video).split(groups, 1)], 1)
    got = a.targets(video, groups, teachers[0].grid(16, 24))[0]
    assert torch.allclose(got, wanted, atol=1e-5)


def test_latents_of_another_clip_are_refused_in_words(teachers):
    model = cog15()
    with Aligner(model, block=0, encoders=teachers, hidden=8) as a:
        ask_cog(model, torch.randn(1, 14, 4, 8, 12))
        with pytest.raises(ValueError, match='for a video of 50 frames of 16 x 24: no way to read that'):
            a.loss(torch.rand(1, 50, 3, 16, 24)*2 - 1)


# Pixels

def test_pixels_in_the_wrong_range(teachers):
    """[0, 1] is a warning, once a step until a dark pixel was seen; bytes and NaN are errors; black,
    white and cached features are none of our business."""
    model, case = our_vdit(), torch.rand(1, 6, 3, 16, 16)
    z = torch.randn(1, 6, 4, 8, 8)
    with Aligner(model, block=1, encoders=teachers, hidden=8) as a:
        def loss(video, **more):
            ask_vdit(model, z)
            return a.loss(video, **more)
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            loss(case, features=[e(case) for e in teachers])
        with pytest.warns(UserWarning, match=r'pass 2\*video - 1'): loss(case)
        for wrong in (case*255, case*float('nan')):
            with pytest.raises(ValueError, match=r'in \[-1, 1\]|no number'): loss(wrong)
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            loss(-torch.ones_like(case))
            loss(case) # a bright batch, after a dark one

