("An image model becomes a video model: what must stay equal, what must change, and how much it "
"weighs.")
import copy, importlib.util
from pathlib import Path

import pytest, torch
from diffusers import SD3Transformer2DModel
from torch import nn

from align4gen import image_models, videodit
from align4gen.align import Alignment
from align4gen.objectives import Flow, drop_labels
from align4gen.sample import sample
from align4gen.train import Aligned
from align4gen.vdit import count_parameters, vdit
from align4gen.image_models import (Prompt, _cropped_positions, _squeezed_positions, image_dit,
    sd3)
from align4gen.videodit import VideoDiT, inflate, sincos_3d

small = dict(sample_size=8, num_layers=3, attention_head_dim=16, num_attention_heads=2,
    joint_attention_dim=24, caption_projection_dim=32,
             pooled_projection_dim=20, in_channels=4, out_channels=4, pos_embed_max_size=12)
every = [(m, p) for m in ('2d', '2d->3d', '2d+3d') for p in ('2d', '3d')]
kinds = ('ours', 'sd3')


def awake(model):
    "Random numbers wherever a fresh model has zeros: otherwise every two models agree."
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad and not p.count_nonzero(): nn.init.normal_(p, std=.1)
    return model.eval()


def make(kind):
    "(image model, noisy images b 1 c h w, times, condition)"
    torch.manual_seed(0)
    model = awake(image_dit(dim=32, depth=3, heads=2, patch=2, input_size=8) if kind == 'ours'
        else sd3(**small))
    y = (torch.tensor([3, 10]) if kind == 'ours' else Prompt(torch.randn(2, 5, 24), torch.randn(2,
        20)))
    return model, torch.randn(2, 1, 4, 8, 8), torch.tensor([.2, .7]), y


def image_answer(model, x, t, y):
    "The image model on each frame, called as its makers do, in the book's direction of velocity."
    if isinstance(model, SD3Transformer2DModel):
        return torch.stack([-model(f, y.tokens, y.pooled, 1000*t).sample for f in x.unbind(1)], 1)
    return torch.cat([model(x[:, i:i+1], t, y) for i in range(x.shape[1])], 1)


def close(a, b, tolerance=1e-5): torch.testing.assert_close(a, b, rtol=0, atol=tolerance)

def far(a, b): return ((a - b).square().mean() / b.square().mean()).sqrt().item()


@pytest.fixture(params=kinds)
def world(request): return make(request.param)


# Equal at the start

@pytest.mark.parametrize('mode,patchify', every)
@torch.no_grad()
def test_one_frame_is_the_image_model(world, mode, patchify):
    model, x, t, y = world
    want = image_answer(model, x, t, y)
    assert want.std() > .1
    close(inflate(copy.deepcopy(model), mode, patchify)(x, t, y), want)


@pytest.mark.parametrize('patchify', ('2d', '3d'))
@torch.no_grad()
def test_2d_plus_3d_starts_frame_by_frame(world, patchify):
    model, _, t, y = world
    clip = torch.randn(2, 5, 4, 8, 8)
    want = image_answer(model, clip, t, y)
    for mode in ('2d', '2d+3d'):
        close(inflate(copy.deepcopy(model), mode, patchify)(clip, t, y), want)
    # and 3D attention is something else
    assert far(inflate(model, '2d->3d')(clip, t, y), want) > 1e-3


@torch.no_grad()
def test_3d_patchify_changes_nothing_at_first(world):
    model, _, t, y = world
    clip = torch.randn(2, 5, 4, 8, 8)
    assert torch.equal(inflate(copy.deepcopy(model), patchify='3d')(clip, t, y),
        inflate(model)(clip, t, y))


@torch.no_grad()
def test_copies_of_an_image_stay_copies(world):
    model, x, t, y = world
    for mode, patchify in every:
        out = inflate(copy.deepcopy(model), mode, patchify)(x.expand(-1, 6, -1, -1, -1), t, y)
        close(out, out[:, :1].expand_as(out))
        # with text in the room, t copies outvote it
        if mode != '2d->3d' or not isinstance(y, Prompt):
            close(out[:, :1], image_answer(model, x, t, y))


def test_conversion_takes_the_weights_over(world):
    model, *_ = world
    before = {k: v.clone() for k, v in model.state_dict().items()}
    video = inflate(model)
    assert [p.data_ptr() for p in video.parameters()] == [p.data_ptr() for p in model.parameters()]
    # not even the sign of the last layer
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


# The direction of velocity

def test_velocity_points_to_the_data():
    """A SD3 that knows the data: its last layer answers eps - x0, as SD3 is trained to. Sampling
    must arrive at x0."""
    x0, eps = torch.randn(2, 3, 4, 8, 8), torch.randn(2, 3, 4, 8, 8)
    model = sd3(**small).eval()
    class Knows(nn.Module):
        def forward(self, h):
            return (eps - x0).unflatten(-1, (4, 2)).unflatten(-3, (4, 2)).permute(0, 1, 3, 5, 4, 6,
                2).reshape(2, -1, 16)
    model.proj_out = Knows()
    video = inflate(model)
    close(video(eps, torch.ones(2)), x0 - eps)
    close(Flow().sample(video, eps, steps=7), x0)
    xt, t, target = Flow().corrupt(x0, torch.tensor([.3, .6]), eps)
    # the training target, too
    assert Flow().error(video(xt, t), target).max() < 1e-10


@torch.no_grad()
def test_ours_keeps_its_direction():
    model, x, t, y = make('ours')
    assert far(inflate(model)(x, t, y), model(x, t, y)) < 1e-5


@torch.no_grad()
def test_sd3_time_goes_to_1000():
    model, x, t, y = make('sd3'); heard = []
    handle = model.time_text_embed.register_forward_pre_hook(lambda m, args: heard.append(args[0]))
    inflate(model)(x, t, y); handle.remove()
    close(heard[0], torch.tensor([200., 700.]), 1e-3)
    assert far(inflate(model)(x, torch.tensor([.9, .1]), y), inflate(model)(x, t, y)) > 1e-4


# After one update

def one_step(video, y):
    opt = torch.optim.AdamW([p for p in video.parameters() if p.requires_grad], lr=1e-2)
    Flow().loss(video.train(), torch.randn(2, 5, 4, 8, 8), y).backward()
    opt.step(); opt.zero_grad()
    return video.eval()


@torch.no_grad()
def order_gap(video, t, y):
    clip, order = torch.randn(2, 5, 4, 8, 8), torch.tensor([2, 0, 4, 1, 3])
    return far(video(clip[:, order], t, y), video(clip, t, y)[:, order])


@pytest.mark.parametrize('mode', ('2d->3d', '2d+3d'))
def test_frame_order_counts_after_one_update(world, mode):
    model, _, t, y = world
    blind, timed = (inflate(copy.deepcopy(model), mode, p) for p in ('2d', '3d'))
    assert max(order_gap(blind, t, y), order_gap(timed, t, y)) < 1e-5
    with torch.enable_grad(): one_step(blind, y); one_step(timed, y)
    assert order_gap(blind, t, y) < 1e-5
    assert order_gap(timed, t, y) > 1e-4


def test_2d_plus_3d_learns_in_its_copies_alone(world):
    model, _, t, y = world
    clip = torch.randn(2, 5, 4, 8, 8)
    video = inflate(model, '2d+3d', '3d')
    before, first = ({k: v.clone() for k, v in video.state_dict().items()}, video(clip, t,
        y).detach())
    for _ in range(2): one_step(video, y)
    moved = {k.split('.')[0] for k, v in video.state_dict().items() if not torch.equal(v,
        before[k])}
    assert (moved == {'copies', 'zeros', 'branch', 'zero'} | ({'text_zeros'} if isinstance(y,
        Prompt) else set()))
    assert far(video(clip, t, y).detach(), first) > 1e-4
    assert not any(p.requires_grad for p in video.image.parameters())


def test_everything_that_learns_gets_a_gradient(world):
    "No dead weights: after the first step, when the zeros are gone."
    model, _, t, y = world
    for mode, patchify in every:
        video = inflate(copy.deepcopy(model), mode, patchify); one_step(video, y)
        video.label_dropout = 0.
        video(torch.randn(2, 3, 4, 8, 8), t, y).square().mean().backward()
        dead = [k for k, p in video.named_parameters() if p.requires_grad and p.grad is None]
        assert not dead, f'{mode} {patchify}: {dead}'


def test_text_hears_the_whole_clip():
    "2D+3D on SD3: opening only the text's zero projections lets frames change each other."
    model, _, t, y = make('sd3')
    video = inflate(model, '2d+3d')
    for z in video.text_zeros:
        if isinstance(z, nn.Linear): nn.init.eye_(z.weight)
    # of three blocks: the last one's text goes nowhere
    assert sum(isinstance(z, nn.Linear) for z in video.text_zeros) == 2
    clip = torch.randn(2, 4, 4, 8, 8)
    other = torch.cat([clip[:, :3], torch.randn(2, 1, 4, 8, 8)], 1)
    with torch.no_grad(): assert far(video(other, t, y)[:, :3], video(clip, t, y)[:, :3]) > 1e-4


# Checkpointing, autocast

@pytest.mark.parametrize('mode,patchify', every[2:])
def test_checkpointing_changes_no_gradient(world, mode, patchify):
    model, _, t, y = world; clip, grads = torch.randn(2, 3, 4, 8, 8), []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        # zero projections say something now
        video = awake(inflate(copy.deepcopy(model), mode, patchify))
        video.checkpointing = checkpointing
        calls = []
        block = video.adapter.blocks(video.image)[0]
        block.register_forward_pre_hook(lambda *_: calls.append(1))
        video(clip, t, y).square().mean().backward()
        # really computed again
        assert len(calls) == 1 + checkpointing
        grads.append({k: p.grad for k, p in video.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys() and len(grads[0]) > 20
    for k, g in grads[0].items(): close(grads[1][k], g)


@torch.no_grad()
def test_autocast_is_that_of_the_image_model():
    model, x, t, y = make('ours')
    with torch.autocast('cpu', torch.bfloat16): a, b = inflate(model)(x, t, y), model(x, t, y)
    close(a.float(), b.float(), 2e-2)


# What it weighs

@pytest.fixture(scope='module')
def real():
    with torch.device('meta'):
        return {k: inflate(sd3(), *k) for k in (('2d->3d', '2d'), ('2d->3d', '3d'),
            ('2d+3d', '2d'))}


def test_sd3_counts(real):
    base, timed, both = real.values()
    assert count_parameters(base) == 2_028_328_000
    assert (count_parameters(timed.branch), count_parameters(timed.zero)) == (99_840, 2_360_832)
    assert count_parameters(timed) == 2_028_328_000 + 99_840 + 2_360_832
    assert count_parameters(both.copies) == 2_008_851_456
    assert (count_parameters(both) == 2_028_328_000 + 2_008_851_456
        + 47*2_360_832 == count_parameters(both, trainable=True) + 2_028_328_000)
    assert ([f'{count_parameters(m)/1e9:.2f}B' for m in (base, timed, both)] == ['2.03B', '2.03B',
        '4.15B'])


def test_our_counts():
    model = image_dit()
    n, b = count_parameters(model), count_parameters(model.blocks)
    assert count_parameters(inflate(model)) == n
    assert count_parameters(inflate(copy.deepcopy(model), patchify='3d')) == n + 480 + 96*97
    assert count_parameters(inflate(copy.deepcopy(model), '2d+3d')) == n + b + 6*96*97


# Places

def test_addresses_are_all_different():
    table = sincos_3d(5, 4, 6, 48)
    assert (table.shape == (5, 24, 48) and len(torch.unique(table.float().flatten(0,
        1).round(decimals=4), dim=0)) == 120)
    # time in the first quarter, place in the rest
    assert (torch.equal(table[0, :, 12:], table[4, :, 12:]) and torch.equal(table[:, 0, :12],
        table[:, 23, :12]))
    same = sincos_3d(1, 4, 4, 48).view(4, 4, 48)
    # counted from the middle
    close(sincos_3d(1, 8, 8, 48).view(8, 8, 48)[2:6, 2:6], same)


def test_larger_frames():
    model, _, t, y = make('ours')
    video = inflate(model)
    close(_squeezed_positions(4, 4, 4, 32), model.pos_embed.double(), 1e-6)
    wide = _squeezed_positions(8, 4, 4, 32)[0].view(8, 4, 32)
    # columns as before
    assert torch.equal(wide[0, :, :16], wide[7, :, :16])
    # rows a quarter apart from the old ones
    close((wide[0, 0, 16:] - _squeezed_positions(4, 4, 4, 32)[0, 0, 16:]).abs().max(),
        torch.tensor(.25).sin().double(), .1)
    assert video(torch.randn(2, 3, 4, 16, 8), t, y).shape == (2, 3, 4, 16, 8)
    stable, _, t, y = make('sd3')
    video = inflate(stable)
    assert torch.equal(_cropped_positions(stable, 6, 4).view(6, 4, -1),
        _cropped_positions(stable, 12, 12).view(12, 12, -1)[3:9, 4:8])
    with torch.no_grad():
        close(video(torch.randn(2, 1, 4, 24, 8, generator=torch.Generator().manual_seed(1)), t, y),
            image_answer(stable, torch.randn(2, 1, 4, 24, 8,
            generator=torch.Generator().manual_seed(
            1)), t, y))
    with pytest.raises(ValueError, match='has places for 24 x 24'):
        video(torch.randn(2, 1, 4, 32, 32), t, y)


# In V-DiT's place

def test_it_is_trained_aligned_and_sampled_like_vdit():
    model = inflate(make('ours')[0], patchify='3d', frames=4)
    assert ((model.num_classes, model.null_label, model.x_embedder.grid_size, model.depth,
        model.dim) == (10, 10, (4, 4), 3, 32))
    core = Aligned(model.train(), Alignment(model.dim, [24], 1), Flow())
    xt, t, target = core.objective.corrupt(torch.randn(2, 4, 4, 8, 8))
    denoise, align = core(xt, t, torch.tensor([1, 2]), target, [torch.randn(2, 4, 16, 24)])
    (denoise + align).backward()
    assert all(p.grad is not None for p in core.parameters() if p.requires_grad)
    class Coder:
        def decode(self, z): return z
    assert (sample(model, 3, steps=2, guidance=2., vae=Coder(), progress=False).shape == (3, 4, 4,
        8, 8))
    assert model.training


@torch.no_grad()
def test_tokens_are_those_of_the_block(world):
    model, _, t, y = world
    clip = torch.randn(2, 3, 4, 8, 8)
    video = inflate(model)
    out, (b, a) = video(clip, t, y, return_tokens=(2, 0))
    assert (a.shape == b.shape == (2, 3, 16, 32) and torch.equal(out, video(clip, t, y))
        and not torch.equal(a, b))
    assert torch.equal(video(clip, t, y, return_tokens=0)[1][0], a)


def test_labels_and_prompts_are_dropped(world):
    model, x, t, y = world; video = inflate(model).train(); video.label_dropout = 1.
    nothing = drop_labels(y, torch.ones(len(y), dtype=torch.bool), video.null_label)
    with torch.no_grad():
        dropped = video(x, t, y)
        close(dropped, video.eval()(x, t, nothing)); assert far(video(x, t, y), dropped) > 1e-6
        video.train().label_dropout = 0.; kept = video(x, t, y); close(kept, video.eval()(x, t, y))


def test_prompt_stands_where_labels_do():
    p = Prompt(torch.randn(3, 5, 8), torch.randn(3, 4))
    assert len(p) == 3 and len(p[1:]) == 2
    assert torch.equal(p[torch.tensor([2, 0])].pooled[0], p.pooled[2])
    both = p.join(p.drop(torch.ones(3, dtype=torch.bool)))
    assert len(both) == 6 and torch.equal(both.tokens[:3], p.tokens)
    assert not both.tokens[3:].any() and not both.pooled[3:].any()
    some = p.drop(torch.tensor([False, True, False]))
    assert torch.equal(some.tokens[[0, 2]], p.tokens[[0, 2]]) and not some.tokens[1].any()
    assert p.to(torch.float16).pooled.dtype is torch.float16
    for bad in (lambda: Prompt(torch.randn(3, 8), torch.randn(3, 4)),
            lambda: Prompt(torch.randn(3, 5, 8), torch.randn(2, 4))):
        with pytest.raises(ValueError, match='b l d'): bad()
    with pytest.raises(TypeError): torch.mul(p, 2)


@torch.no_grad()
def test_guidance_with_prompts():
    "Guidance asks with and without the prompt, in one batch."
    model, x, t, y = make('sd3'); video = inflate(model)
    from align4gen.objectives import predict
    want = video(x, t, y.drop(torch.ones(2, dtype=torch.bool))); want = want + 3*(video(x, t, y) - want)
    close(predict(video, x, t, y, guidance=3., null=video.null_label), want)
    empty = Prompt(torch.zeros(2, 154, 24), torch.zeros(2, 20))
    close(video(x, t), video(x, t, empty))


# Kept and brought back

@pytest.mark.parametrize('mode,patchify', every)
@torch.no_grad()
def test_saved_and_loaded(world, mode, patchify, tmp_path):
    model, _, t, y = world
    clip = torch.randn(2, 3, 4, 8, 8)
    video = inflate(model, mode, patchify, frames=3, input_size=16)
    for name, p in video.named_parameters():
        if name.startswith('zero'): nn.init.normal_(p)
    video.save_pretrained(tmp_path)
    assert {'config.json', 'model.safetensors'} <= {p.name for p in tmp_path.iterdir()}
    back = VideoDiT.from_pretrained(tmp_path).eval()
    assert back.config == video.config and torch.equal(back(clip, t, y), video(clip, t, y))
    # as a run's weight average is built
    with torch.device('meta'): ghost = VideoDiT(**video.config)
    ghost.load_state_dict(video.state_dict(), assign=True)
    assert torch.equal(ghost.eval()(clip, t, y), video(clip, t, y))
    assert ([n for n, p in ghost.named_parameters() if p.requires_grad] == [n for n,
        p in video.named_parameters() if p.requires_grad])


def test_shipped_image_model():
    model, card = videodit.trained_image_dit()
    assert not model.training and card['measured']['accuracy_guidance_3'] > .8
    assert {b.temporal for b in model.blocks} == {False}
    with pytest.raises(FileNotFoundError, match='mini_image_dit'):
        videodit.trained_image_dit('nowhere')


def test_sd3_weights(tmp_path, monkeypatch):
    from safetensors.torch import save_file
    monkeypatch.setattr(image_models, '_sd3_class', lambda: lambda **config: SD3Transformer2DModel(
        **config | small))
    want = SD3Transformer2DModel(**small)
    (tmp_path/'transformer').mkdir()
    save_file(want.state_dict(), tmp_path/'transformer'/'diffusion_pytorch_model.safetensors')
    got = sd3(tmp_path)
    assert all(torch.equal(v, want.state_dict()[k]) for k, v in got.state_dict().items())
    assert (not got.training and all(p.requires_grad and p.dtype is torch.float32
        for p in got.parameters()))
    save_file({k: v for k, v in want.state_dict().items() if 'proj_out' not in k},
        tmp_path/'transformer'/'diffusion_pytorch_model.safetensors')
    with pytest.raises(ValueError, match='proj_out'): sd3(tmp_path)
    with pytest.raises(FileNotFoundError): sd3(tmp_path/'elsewhere')
    with pytest.raises(ValueError, match='whole model'): sd3(tmp_path, num_layers=2)
    with pytest.raises(TypeError, match='layers'): sd3(layers=2)


# Errors

def test_errors():
    model, x, t, y = make('ours')
    video = inflate(model)
    prompt = Prompt(torch.randn(2, 5, 24), torch.randn(2, 20))
    for call, words in ((lambda: inflate(model, '3d'), "mode='3d'"),
            (lambda: inflate(model, patchify='4d'), "patchify='4d'"),
            (lambda: inflate(model, frames=0), 'frames=0'),
                        (lambda: inflate(vdit('mini', input_size=4)), 'temporal blocks already'),
                        (lambda: VideoDiT('unet', {}), "kind='unet'"),
                        (lambda: video(x[:, 0], t, y), 'b t c h w'), (lambda: video(x[:, :, :3], t,
                        y), 'c = 4'), (lambda: video(x[..., :7], t, y), 'multiples of patch=2'),
                        (lambda: video(x, t[:1], y), 'one noise time'),
                        (lambda: video(x, 1000*t, y), r'\[0,1\]'), (lambda: video(x, t, y[:1]),
                        'one for each'),
                        (lambda: video(x, t, y + 5), '0..10'), (lambda: video(x, t, prompt),
                        'reads labels'), (lambda: video(x, t, y, return_tokens=3),
                        'numbered 0 to 2'),
                        (lambda: sincos_3d(1, 2, 2, 24), 'multiple of 16')):
        with pytest.raises(ValueError, match=words): call()
    with pytest.raises(TypeError, match='not Linear'): inflate(nn.Linear(2, 2))
    with pytest.raises(ValueError, match='unconditional'):
        inflate(image_dit(None))(torch.randn(2, 1, 4, 4, 4), t, y)
    stable, x, t, y = make('sd3')
    video = inflate(stable)
    with pytest.raises(ValueError, match='reads prompts'): video(x, t, torch.tensor([1, 2]))
    with pytest.raises(ValueError, match='this model reads 24'):
        video(x, t, Prompt(torch.randn(2, 5, 8), torch.randn(2, 20)))
    with pytest.raises(ValueError, match='one for each'): video(x, t, y[:1])


# The benchmark

def test_attention_benchmark_counts_what_runs(tmp_path):
    spec = importlib.util.spec_from_file_location('attention',
        Path(__file__).resolve().parents[1]/'benchmarks'/'attention.py')
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    # asserts the formula against PyTorch's counter
    rows = bench.measure(32, 2, 9, [1, 4], 1)
    ratio = lambda way: rows[way][1]['gflops'] / rows[way][0]['gflops']
    assert (ratio('per frame') == 4 and ratio('3D') > 4 and rows['per frame'][0]['gflops'] == rows[
        '3D'][0]['gflops'])
    x, ways = torch.randn(1, 3, 9, 32), bench.ways(32, 2)
    with torch.no_grad():
        changed = {k: (w(torch.cat([x[:, :2], x[:, :1]], 1)) - w(x))[:, :2].abs().max().item()
            for k, w in ways.items()}
    assert changed['per frame'] < 1e-6 < 1e-4 < min(changed['factorised'], changed['3D'])
