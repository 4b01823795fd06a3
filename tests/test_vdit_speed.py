"""What makes a step fast must not change what it computes: equalities only, no clocks."""
import importlib.util
from pathlib import Path

import pytest, torch

from align4gen.vdit import vdit

spec = importlib.util.spec_from_file_location('train_step',
    Path(__file__).resolve().parents[1]/'benchmarks'/'train_step.py')
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)
small = ['--size', 'S', '--batch', '2', '--frames', '4', '--input_size', '8', '--threads', '1']


@pytest.fixture(scope='module')
def setup():
    if torch.cuda.is_available(): pytest.skip('the tolerances below are for float32 on a CPU')
    a = bench.options(small); torch.manual_seed(0); batch = bench.make_batch(a)
    model = vdit('S', depth=4, input_size=8, frames=4, num_classes=101)
    for p in model.parameters():
        if p.requires_grad and p.count_nonzero() == 0: torch.nn.init.normal_(p, std=.02)
    return a, batch, model


def inputs(batch): return batch['latents'], torch.tensor([.1, .8]), batch['labels']


@pytest.mark.parametrize('fused', [False, True])
def test_plain_latte_is_the_same_model(setup, fused):
    "The yardstick of the benchmark: same keys, same answers, same gradients."
    _, batch, model = setup
    plain = bench.PlainLatte(model, fused)
    assert plain.state_dict().keys() == model.state_dict().keys()
    assert bench.same_answers(model, plain, *inputs(batch)) < 1e-5
    grads = []
    for m in (model, plain):
        m.eval().zero_grad(); m(*inputs(batch)).square().mean().backward()
        grads.append({k: p.grad for k, p in m.named_parameters() if p.requires_grad})
    for k, g in grads[0].items():
        torch.testing.assert_close(grads[1][k], g, rtol=1e-3, atol=1e-6, msg=k)
    model.zero_grad()


def test_a_different_model_is_refused(setup):
    _, batch, model = setup
    plain = bench.PlainLatte(model)
    with torch.no_grad(): plain.temp_embed.zero_()
    with pytest.raises(RuntimeError, match='not the same model'):
        bench.same_answers(model, plain, *inputs(batch))


def test_compiled_blocks_say_the_same(setup):
    "Compiling each block changes neither keys nor answers nor gradients."
    _, batch, model = setup
    want = model.eval()(*inputs(batch))
    want.square().mean().backward()
    grads, keys = ({k: p.grad.clone() for k, p in model.named_parameters() if p.requires_grad},
        list(model.state_dict()))
    model.zero_grad()
    for b in model.blocks: b.compile(backend='aot_eager')
    try:
        got = model(*inputs(batch)); got.square().mean().backward()
        assert list(model.state_dict()) == keys
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
        for k, p in model.named_parameters():
            if p.requires_grad:
                torch.testing.assert_close(p.grad, grads[k], rtol=1e-3, atol=1e-6, msg=k)
    finally:
        for b in model.blocks: b._compiled_call_impl = None
        model.zero_grad(); torch._dynamo.reset()


def test_steps_move_ours_and_plain_alike(setup):
    "Fused AdamW and the average in one call do what foreach AdamW and the loop do."
    a, batch, model = setup
    ways = [bench.Way('plain', bench.PlainLatte(model), batch, bf16=False), bench.Way('ours-eager',
        bench.copy.deepcopy(model), batch, bf16=False)]
    losses = []
    for w in ways:
        # both draw alike, neither drops
        w.model.train(); w.model.label_dropout = w.model.dropout = 0.
        torch.manual_seed(1); losses.append([w.step().item() for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for (k, p), q in zip(ways[0].average.state_dict().items(),
            ways[1].average.state_dict().values()):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-5, msg=k)


def test_flops_are_those_of_the_formula(setup):
    """Per token and block 24 d^2 for the products and 4 d x (sequence) for attention; once per
    clip 12 d^2 for adaLN."""
    a, batch, model = setup
    d, b, t, n, depth = model.dim, a.batch, a.frames, model.x_embedder.num_patches, model.depth
    blocks = depth*(b*t*n*24*d*d + b*12*d*d) + depth//2*b*t*n*4*d*(n + t)
    # patches in and out, noise time, last adaLN
    ends = b*t*n*2*d*16 * 2 + b*t*0 + b*(2*256*d + 2*d*d + 4*d*d)
    assert bench.model_flops(model, batch) == 3*(blocks + ends)


def test_ours_launches_less_than_plain(setup):
    "Fewer operations per pair of blocks, counted on the meta device, where there is no clock."
    counts = bench.launches(setup[0])
    assert counts['ours-eager']['all'] < counts['plain-bf16']['all']
