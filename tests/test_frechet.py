"The Frechet distance against the formulas of others, and against itself where they have none."
import warnings

import numpy as np, pytest, torch
from safetensors.torch import load_file, save_file
from scipy.linalg import sqrtm
from torchmetrics.image.fid import _compute_fid

from align4gen.frechet import Moments, factor, frechet_distance, trace_root

float64 = torch.float64


def crowd(n, d, seed, low=.5, high=3., shift=0.):
    "n features of d numbers, dense covariance with standard deviations from low to high."
    g = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=float64))[0]
    return (torch.randn(n, d, generator=g, dtype=float64) * torch.linspace(low, high, d) @ turn
        + shift)


def close(a, b, relative=1e-6): assert abs(a - b) <= relative*abs(b), (a, b, abs(a - b)/abs(b))


def by_sqrtm(a, b):
    "NumPy and SciPy; n-1."
    a, b = a.numpy(), b.numpy()
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(np.cov(a.T)
        + np.cov(b.T) - 2*np.real(sqrtm(np.cov(a.T) @ np.cov(b.T)))))


def stylegan_v(a, b):
    """Raw sums over the features, divided by n, less the outer product of the means; the root of
    the product."""
    (m, s), (k, t) = ((x.mean(0), x.T @ x / len(x) - np.outer(x.mean(0), x.mean(0)))
        for x in (a.numpy(), b.numpy()))
    return float(np.real(np.square(k - m).sum() + np.trace(t + s - 2*sqrtm(t @ s))))


def nuclear(a, b):
    "What the recorded figures of labs/evidence were computed with; n-1."
    a, b = a.double(), b.double()
    ca, cb = ((f - f.mean(0)) / (len(f)-1)**.5 for f in (a, b))
    return ((a.mean(0) - b.mean(0)).square().sum() + ca.square().sum()
        + cb.square().sum() - 2*torch.linalg.matrix_norm(ca @ cb.T, 'nuc')).item()


def both(a, b): return Moments().update(a), Moments().update(b)


@pytest.mark.parametrize('n, m, d', [(500, 400, 40), (2048, 2048, 96), (2048, 900, 256)])
@pytest.mark.parametrize('shift', [0., 1.])
def test_other_formulas(n, m, d, shift):
    "Where the root is well-conditioned, all formulas agree, from features and from moments."
    a, b = crowd(n, d, 0), crowd(m, d, 1, high=4., shift=shift)
    torchmetrics = _compute_fid(a.mean(0), a.T.cov(), b.mean(0), b.T.cov()).item()
    for pair in ((a, b), both(a, b)):
        close(frechet_distance(*pair), by_sqrtm(a, b)); close(frechet_distance(*pair), torchmetrics)
        close(frechet_distance(*pair, 'n'), stylegan_v(a, b))
    # the divisor does matter
    assert abs(frechet_distance(a, b) - frechet_distance(a, b, 'n')) > 1e-5*frechet_distance(a, b)


def test_the_recorded_figures_stay():
    "labs/evidence: 400 generated clips against 2,048 real ones, float32, the distance as it was."
    a, b = crowd(400, 192, 0, low=1e-3).float(), crowd(2048, 192, 1, low=1e-3).float()
    from align4gen import metrics
    assert metrics.frechet_distance is frechet_distance
    close(frechet_distance(a, b), nuclear(a, b), 1e-8)
    close(frechet_distance(a[:100], b), nuclear(a[:100], b), 1e-8)


@pytest.mark.parametrize('n, m, d', [(30, 30, 64), (30, 50, 64), (30, 500, 64), (64, 64, 64),
    (65, 65, 64), (2, 2, 64), (200, 20, 64)])
def test_fewer_features_than_dimensions(n, m, d):
    """No full rank: real, not negative, without direction, the same from moments, as the nuclear
    norm has it."""
    a, b = crowd(n, d, 0), crowd(m, d, 1)
    found = frechet_distance(a, b)
    assert isinstance(found, float) and found > 0
    close(found, nuclear(a, b))
    close(frechet_distance(b, a), found); close(frechet_distance(*both(a, b)), found)
    close(frechet_distance(a, both(a, b)[1]), found)


def test_rank_deficient_by_hand():
    "Features that fill only some dimensions, with the answer on paper."
    a = crowd(300, 20, 0)
    flat = torch.cat([a, torch.zeros(300, 30, dtype=float64)], 1)
    other = torch.cat([torch.zeros(300, 30, dtype=float64), a], 1)
    close(frechet_distance(flat, torch.cat([2*a, torch.zeros(300, 30, dtype=float64)], 1)),
        (a.mean(0).square().sum() + a.var(0).sum()).item())
    close(frechet_distance(flat, other), nuclear(flat, other))
    close(frechet_distance(*both(flat, other)), nuclear(flat, other))
    constant = torch.ones(50, 50, dtype=float64)
    # no variance at all
    close(frechet_distance(constant, 3*constant), 4*50.)
    assert frechet_distance(constant, constant) == 0
    close(frechet_distance(constant, flat), ((1 - flat.mean(0)).square().sum()
        + flat.var(0).sum()).item())
    assert factor(flat.T.cov()).shape == (20, 50)


def test_exactly_zero_on_itself():
    for n in (2, 30, 64, 500):
        a = crowd(n, 64, n, low=1e-4)
        assert (frechet_distance(a, a) == 0. and frechet_distance(a, a.clone()) == 0.
            and frechet_distance(a.float(), a.float()) == 0.)
        assert frechet_distance(*both(a, a)) == 0. and frechet_distance(*both(a, a), 'n') == 0.
        in_parts = Moments()
        for part in a.split(7): in_parts.update(part)
        # the same crowd by another way
        for other in (a.flip(0), in_parts):
            assert 0 <= frechet_distance(a, other) < 1e-20*a.square().sum()
    assert frechet_distance(a, a + 1e-3) > 0


def test_a_small_difference_keeps_its_digits():
    "Nearly equal crowds: the distance is far below the rounding of a plain eigenvalue sum."
    a = crowd(500, 32, 0, low=1e-5); a = a - a.mean(0)
    for k in (1e-3, 1e-5): close(frechet_distance(a, a*(1 + k)), k**2*a.var(0).sum().item(), 1e-3)
    for k in (.1, 1., 10.): close(frechet_distance(a, a*(1 + k)), k**2*a.var(0).sum().item(), 1e-9)


@pytest.mark.parametrize('size', [1, 7, 100, 2000])
def test_streaming_equals_at_once(size):
    a = crowd(1000, 24, 0, shift=5.)
    streamed = Moments()
    for part in a.split(size): assert streamed.update(part) is streamed
    assert streamed.n == 1000
    torch.testing.assert_close(streamed.cov(), a.T.cov(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(streamed.mean, a.mean(0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(streamed.cov('n'), a.T.cov(correction=0), rtol=1e-10, atol=1e-12)
    b = crowd(700, 24, 1)
    close(frechet_distance(streamed, b), frechet_distance(a, b), 1e-9)


def test_merge():
    a = crowd(1000, 24, 0)
    whole, (first, second) = Moments().update(a), both(a[:130], a[130:])
    kept = second.scatter.clone()
    first.merge(second).merge(Moments())
    assert first.n == 1000 and torch.equal(second.scatter, kept) and second.n == 870
    torch.testing.assert_close(first.scatter, whole.scatter, rtol=1e-10, atol=1e-9)
    empty = Moments().merge(second)
    empty.update(a[:130])
    assert empty.n == 1000 and second.n == 870 and torch.equal(second.scatter, kept)
    with pytest.raises(ValueError, match='d = 24'): first.merge(Moments().update(crowd(10, 5, 0)))


def test_state_round_trip(tmp_path):
    a, b = crowd(100, 24, 0), crowd(100, 24, 1)
    before = Moments().update(a)
    save_file(before.state(), tmp_path/'real.safetensors')
    after = Moments.from_state(load_file(tmp_path/'real.safetensors'))
    assert (after.n == 100 and after.dim == 24 and torch.equal(after.scatter, before.scatter)
        and torch.equal(after.mean, before.mean))
    assert (frechet_distance(after, b) == frechet_distance(before, b) and frechet_distance(after,
        before) == 0.)
    after.update(b)
    before.update(b)
    assert torch.equal(after.scatter, before.scatter)
    with pytest.raises(ValueError, match='scatter'):
        Moments.from_state(dict(n=torch.tensor(3), mean=torch.zeros(3)))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_low_precision_features(dtype):
    "They are widened first: the distance is that of the same numbers in float64."
    a, b = crowd(500, 24, 0).to(dtype), crowd(400, 24, 1, shift=1.).to(dtype)
    assert frechet_distance(a, b) == frechet_distance(a.double(), b.double())
    assert both(a, b)[0].scatter.dtype == float64
    assert frechet_distance(a.clone().requires_grad_(), b) == frechet_distance(a, b)
    if dtype == torch.float32:
        assert frechet_distance(a.numpy(), b.numpy()) == frechet_distance(a, b)


def test_large_offset():
    "Far from zero, where raw sums lose every digit."
    a, b = crowd(500, 24, 0), crowd(400, 24, 1)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore'); raw = stylegan_v(a + 1e8, b + 1e8)
    wanted = frechet_distance(a, b, 'n')
    assert abs(raw - wanted) > .01*wanted
    close(frechet_distance(a + 1e8, b + 1e8, 'n'), wanted, 1e-5)
    streamed = Moments()
    for part in (a + 1e8).split(33): streamed.update(part)
    close(frechet_distance(streamed, b + 1e8, 'n'), wanted, 1e-5)


def test_trace_root_has_no_direction():
    a, b = crowd(500, 24, 0).T.cov(), crowd(10, 24, 1).T.cov()
    close(trace_root(a, b), trace_root(b, a), 1e-9)
    close(trace_root(a, 4*a), 2*a.trace().item(), 1e-9); assert trace_root(a, 0*a) == 0.


@pytest.mark.parametrize('bad, message', [
    (lambda a: a*float('nan'), 'not finite'), (lambda a: torch.where(a == a[3, 3], float('inf'), a),
    'not finite'), (lambda a: a[:, :5], 'with one d'),
    (lambda a: a[:1], 'at least 2'), (lambda a: a[:0], 'at least 2'), (lambda a: a[0], 'n d'),
    (lambda a: a[None], 'n d')])
def test_errors(bad, message):
    a = crowd(50, 24, 0)
    for pair in ((bad(a), a), (a, bad(a))):
        with pytest.raises(ValueError, match=message): frechet_distance(*pair)
        with pytest.raises(ValueError, match='should be one of'): frechet_distance(a, a, 'n-2')


def test_errors_of_moments():
    a = crowd(50, 24, 0)
    with pytest.raises(ValueError, match='d = 24'): Moments(24).update(a[:, :5])
    with pytest.raises(ValueError, match='d = 24'): Moments().update(a).update(a[:, :5])
    with pytest.raises(ValueError, match='not finite'): Moments().update(a*float('nan'))
    with pytest.raises(ValueError, match='at least 2'): Moments().update(a[:1]).cov()
    with pytest.raises(ValueError, match='at least 2'): frechet_distance(Moments(24), a)
    with pytest.raises(ValueError, match='no features'): Moments().state()
    seen = Moments().update(a)
    with pytest.raises(ValueError): seen.update(a*float('nan'))
    # a bad batch leaves no trace
    assert seen.n == 50 and frechet_distance(seen, a) == 0.


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_gpu():
    "The sums are gathered where the features are; the distance is the same."
    a, b = crowd(500, 64, 0), crowd(30, 64, 1)
    on_gpu = Moments().update(a.cuda()).update(a.cuda())
    assert on_gpu.scatter.device.type == 'cuda' and on_gpu.state()['scatter'].device.type == 'cpu'
    close(frechet_distance(a.cuda(), b.cuda()), frechet_distance(a, b), 1e-9)
    close(frechet_distance(on_gpu, b), frechet_distance(Moments().update(a).update(a), b), 1e-9)
    assert frechet_distance(a.cuda(), a.cuda()) == 0.
    on_gpu.merge(Moments().update(b)); assert on_gpu.n == 1030
