"""Every metric against a program of others, in that program's own convention: NumPy, SciPy and
scikit-learn, on h w 3 in [0, 1], bytes, probabilities or features, as each of them wants it."""
import hashlib

import numpy as np, pytest, torch
from scipy.linalg import sqrtm
from scipy.ndimage import gaussian_filter
from scipy.stats import entropy
from sklearn.metrics import accuracy_score
from sklearn.metrics.pairwise import cosine_similarity

from align4gen import encoders, extractors, metrics
from align4gen.data import MovingDigits
from align4gen.video import to_float

real, other = (MovingDigits('test', n=40, seed=s) for s in (0, 1))
a, b = to_float(real.videos), to_float(other.videos)


def pixels(video):
    "As images are kept: t h w 3, double, in [0, 1]."
    return ((video + 1)/2).permute(0, 2, 3, 1).double().numpy()


def ssim_by_scipy(x, y):
    "Wang et al. 2004 on one channel h w in [0, 1], as scikit-image computes it, border included."
    mean = lambda v: gaussian_filter(v, 1.5, truncate=3.5, mode='mirror')
    mx, my = mean(x), mean(y)
    vx, vy, both = mean(x*x) - mx*mx, mean(y*y) - my*my, mean(x*y) - mx*my
    c1, c2 = .01**2, .03**2
    return ((2*mx*my + c1)*(2*both + c2)/((mx*mx + my*my + c1)*(vx + vy + c2))).mean()


def test_psnr_and_ssim_of_images_in_zero_to_one():
    x, y = pixels(b[0]), pixels(a[0])
    psnr = np.mean([10*np.log10(1/((p - q)**2).mean()) for p, q in zip(x, y)])
    ssim = np.mean([ssim_by_scipy(p[..., c], q[..., c]) for p, q in zip(x, y) for c in range(3)])
    assert metrics.psnr(b[:1], a[:1]).item() == pytest.approx(psnr, abs=1e-4)
    assert metrics.ssim(b[:1], a[:1]).item() == pytest.approx(ssim, abs=1e-5)


def test_pairs_of_two_kinds_are_refused():
    for score in (metrics.psnr, metrics.ssim):
        with pytest.raises(ValueError, match='uint8'): score(b, real.videos)
        with pytest.raises(ValueError, match='one shape'): score(b, a[:, :3])


def frechet(x, y, ddof):
    "numpy.cov and scipy.linalg.sqrtm, as pytorch-fid (ddof 1) and StyleGAN-V (ddof 0) have it."
    sx, sy = (np.cov(v, rowvar=False, ddof=ddof) for v in (x, y))
    return ((x.mean(0) - y.mean(0))**2).sum() + np.trace(sx + sy - 2*sqrtm(sx @ sy).real)


@pytest.mark.parametrize('divisor, ddof', [('n', 0), ('n-1', 1)])
def test_frechet_distance_of_numpy_features(divisor, ddof):
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 12, generator=g), torch.randn(50, 12, generator=g)*1.3 + .2
    want = frechet(x.double().numpy(), y.double().numpy(), ddof)
    assert metrics.frechet_distance(x, y, divisor) == pytest.approx(want, rel=1e-9)


class Program(torch.nn.Module):
    def forward(self, x, rescale: bool = False, resize: bool = False, return_features: bool = False):
        return x.float().mean((3, 4)).flatten(1)


def test_fid_and_both_fvd_divide_by_n(tmp_path):
    "The papers follow StyleGAN-V, which divides by n for both."
    torch.jit.script(Program()).save(str(tmp_path/'p.pt'))
    sha = hashlib.sha256((tmp_path/'p.pt').read_bytes()).hexdigest()
    made = [metrics.load('fvd', 'random', dim=64, depth=1, heads=4), metrics.load('fid', 'random'),
        metrics.load('fvd-i3d', tmp_path/'p.pt', sha256=sha)]
    assert [m.protocol()['divisor'] for m in made] == ['n']*3
    x, y = (made[2].extractor(v).double().numpy() for v in (b, a))
    value = made[2].update(a, real=True).update(b).compute().value
    assert value == pytest.approx(frechet(x, y, 0), rel=1e-3)
    assert abs(value/frechet(x, y, 1) - 1) > .01


def test_motion_mini_is_the_steps_of_tokens():
    encoder = encoders.load('mini_croco')
    with torch.no_grad(): x, y = (encoder(v).double().numpy() for v in (b, a))
    steps = lambda t: np.abs(np.diff(t, axis=1)).mean((1, 2))
    value = metrics.load('motion-mini').update(a, real=True).update(b).compute().value
    assert value == pytest.approx(frechet(steps(x), steps(y), 1), rel=1e-3)


def test_inception_score_is_scipys_relative_entropy():
    p = torch.randn(50, 7, generator=torch.Generator().manual_seed(1)).mul(2).double().softmax(1)
    want = np.exp(np.mean([entropy(row, p.numpy().mean(0)) for row in p.numpy()]))
    assert metrics.inception_score(p, 1).item() == pytest.approx(want, rel=1e-9)


def test_accuracy_is_scikit_learns():
    read = encoders.load('mini_supervised').classify(b).argmax(-1)
    wrong = other.labels.clone()
    wrong[:7] = (wrong[:7] + 1) % 10
    value = metrics.load('read-mini').update(b, labels=wrong).compute().value
    assert value == pytest.approx(accuracy_score(wrong.numpy(), read.numpy()))


def test_similarity_of_frames_is_scikit_learns_cosine():
    f = extractors.encoder_extractor('mini_infonce', per='frame')(b[:2]).unflatten(0, (2, -1))
    cos = [cosine_similarity(v) for v in f.double().numpy()]
    want = np.mean([[(c[0, t] + c[t - 1, t])/2 for t in range(1, len(c))] for c in cos])
    value = metrics.load('clip-mini').update(b[:2]).compute().value
    assert value == pytest.approx(want, rel=1e-5)


def test_feature_distance_is_numpys():
    encoder = encoders.load('mini_infonce')
    with torch.no_grad(): x, y = (encoder(v[:3]).double().numpy() for v in (b, a))
    unit = lambda t: t/np.linalg.norm(t, axis=-1, keepdims=True)
    want = ((unit(x) - unit(y))**2).sum(-1).mean()
    value = metrics.load('feature-distance').update(b[:3], a[:3]).compute().value
    assert value == pytest.approx(want, rel=1e-4)


def test_a_split_of_data_is_no_number_of_splits():
    with pytest.raises(ValueError, match='splits'): metrics.load('is-mini', split=3)
