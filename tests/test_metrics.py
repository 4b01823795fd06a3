"""Metrics against other programs, through files and in parts: what the chapter does not show."""
import hashlib, json, warnings
import pytest, torch, torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torchmetrics.functional.image import (peak_signal_noise_ratio,
    structural_similarity_index_measure)
from torchmetrics.image.fid import _compute_fid
from align4gen import extractors, metrics
from align4gen.data import MovingDigits
from align4gen.video import to_float
from align4gen.weights import fingerprint

# weights from outside
needed = {'fvd', 'fvd-i3d', 'fid', 'is', 'clip', 'lpips'}
ours = [n for n in metrics.registry if n not in needed]

@pytest.fixture(scope='module')
def clips():
    a, b = (MovingDigits('test', n=48, seed=s) for s in (0, 1))
    return to_float(a.videos), to_float(b.videos), b.labels

def see(metric, videos, clips, index=None):
    "Update a metric with what it needs."
    real, whole, labels = clips
    index = torch.arange(len(whole)) if index is None else index
    more = dict(pairs=dict(reference=real[index]), labels=dict(labels=labels[index])).get(
        metric.needs, {})
    return metric.update(videos[index], index=index, **more)

def measure(name, clips, index=None, **options):
    m = metrics.load(name, **options)
    if m.needs == 'real': m.update(clips[0], real=True)
    return see(m, clips[1], clips, index)

def to_theirs(videos):
    "Frames in the convention of torchmetrics and scikit-image: n 3 h w in [0, 1]."
    return (videos.flatten(0, 1) + 1)/2

def test_psnr_and_ssim_are_torchmetrics_in_its_convention(clips):
    a, b = (to_theirs(v[:3]) for v in clips[:2])
    frames = [(x[None], y[None]) for x, y in zip(b, a)]
    for name, theirs in (('psnr', peak_signal_noise_ratio),
            ('ssim', structural_similarity_index_measure)):
        want = torch.stack([theirs(x, y, data_range=1.) for x, y in frames]).mean()
        ours = metrics.load(name).update(clips[1][:3], clips[0][:3]).compute()
        assert ours.value == pytest.approx(want.item(), abs=1e-4)

def pictures():
    "Two pictures, n t c h w in [-1, 1], from a formula: another program can draw them."
    y, x = torch.meshgrid(torch.arange(192.), torch.arange(256.), indexing='ij')
    one = torch.stack([(x/9).sin(), (y/7).cos(), ((x + 2*y)/23).sin()])*.8
    other = (one + .05*((3*x + 5*y)/4).sin() + .05).clamp(-1, 1)
    return one[None, None], other[None, None]

def test_psnr_and_ssim_are_those_of_scikit_image():
    """Computed once by scikit-image 0.26.0 from the pictures as h w 3 in [0, 1]: psnr with
    data_range=1; ssim with gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    data_range=1, channel_axis=2 (it leaves out the border of 5 pixels)."""
    one, other = pictures()
    assert metrics.psnr(one, other).item() == pytest.approx(30.27999, abs=1e-4)
    assert metrics.ssim(one, other).item() == pytest.approx(.91310, abs=1e-3)

@pytest.mark.parametrize('x, y, want', [(128/255, 132/255, .9995), (0., 1., .0001), (.5, .5, 1.)])
def test_ssim_of_flat_greys_is_its_luminance(x, y, want):
    flat = lambda v: torch.full((1, 1, 3, 32, 32), 2*v - 1)
    assert metrics.ssim(flat(x), flat(y)).item() == pytest.approx(want, abs=1e-4)

def test_ssim_of_noise_and_its_negative():
    v = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))*2 - 1
    assert metrics.ssim(v, -v).tolist() == pytest.approx([-.966]*2, abs=2e-3)

def test_frechet_is_torchmetrics_formula(clips):
    eyes = extractors.encoder_extractor('mini_supervised', per='frame')
    x, y = (eyes(v).double() for v in clips[:2])
    theirs = _compute_fid(x.mean(0), torch.cov(x.T), y.mean(0), torch.cov(y.T)).item()
    assert measure('fid-mini', clips).compute().value == pytest.approx(theirs, rel=1e-5)

def test_divisor_changes_the_number_and_the_protocol(clips):
    a, b = (measure('fvd-mini', clips, divisor=d).compute() for d in ('n-1', 'n'))
    assert a.value > b.value and metrics.differences(a, b) == {'divisor': ('n-1', 'n')}

@pytest.mark.parametrize('name', ours)
def test_two_processes_are_one(name, clips):
    one, (p, q) = (measure(name, clips).compute(), (measure(name, clips, torch.arange(i, 48, 2))
        for i in (0, 1)))
    two = p.merge(q).compute()
    assert (two.value == pytest.approx(one.value, rel=1e-6) and two.protocol == one.protocol
        and two.hash == one.hash)
    assert ((two.std is None) == (one.std is None) and (one.std is None
        or two.std == pytest.approx(one.std, rel=1e-6)))

@pytest.mark.parametrize('name', ours)
def test_protocol_is_whole_and_survives_a_file(name, clips, tmp_path):
    r = measure(name, clips, data='Moving Digits', split='test', stride=1, seed=3).compute()
    p = r.protocol
    assert ({*metrics.protocol_fields} <= p.keys() and all(v is None or isinstance(v, (str, int, float))
        for v in p.values()))
    assert ((p['data'], p['split'], p['n'], p['clip_length'], p['stride'], p['resolution'],
        p['seed']) == ('Moving Digits', 'test', 48, 6, 1, '16x16', 3))
    if p['extractor']: assert len(p['weights']) == 16 and p['resize'] and p['range']
    assert (metrics.Result.load(r.save(tmp_path/'r.json')) == r and f"n={p['n']}" in str(r)
        and r.hash in str(r))
    assert json.loads((tmp_path/'r.json').read_text())['hash'] == r.hash

@pytest.mark.parametrize('name', ours)
def test_state_goes_through_a_file(name, clips, tmp_path):
    m = measure(name, clips)
    save_file(m.state(), tmp_path/'s.safetensors')
    again = metrics.load(name).from_state(load_file(tmp_path/'s.safetensors'))
    assert again.compute() == m.compute()
    assert m.reset().n == 0
    with pytest.raises(ValueError): m.compute()

def test_state_of_other_eyes_is_refused(clips):
    with pytest.raises(ValueError, match='another extractor, weights'):
        metrics.load('fvd-mini', extractor='mini_mae').from_state(measure('fvd-mini',
            clips).state())
    with pytest.raises(ValueError, match='only equal metrics'):
        measure('fvd-mini', clips).merge(measure('fvd-mini', clips, divisor='n'))

def test_known_moments_of_the_real_side(clips):
    m = measure('fvd-mini', clips)
    other = metrics.load('fvd-mini', real=m.real).update(clips[1])
    assert other.compute().value == m.compute().value
    # reset keeps what was given
    assert other.reset().update(clips[1]).compute().value == m.compute().value

def test_compare_warns_and_names():
    make = lambda **p: metrics.Result('fid', 3., protocol=dict(n=2048, divisor='n-1', device='cpu')
        | p)
    with warnings.catch_warnings():
        warnings.simplefilter('error'); assert metrics.compare(make(), make(device='cuda')) == 0
    with pytest.warns(UserWarning, match=r'divisor \(n-1 and n\)'):
        metrics.compare(make(), make(divisor='n'))
    with pytest.raises(ValueError, match='two metrics'):
        metrics.compare(make(), metrics.Result('is', 3.))

@pytest.mark.parametrize('name', ours)
@pytest.mark.parametrize('wrong, says', [(lambda v: v*127.5 + 127.5, 'these are in'),
    (lambda v: (v*127.5 + 127.5).byte(), 'to_float'), (lambda v: v[0], '5 axes'),
                                         (lambda v: v*float('nan'), 'no numbers'), (lambda v: v[:0],
                                         'no videos')])
def test_wrong_videos_are_refused(name, wrong, says, clips):
    with pytest.raises(ValueError, match=says):
        metrics.load(name).update(wrong(clips[1]), wrong(clips[0]) if name in ('psnr', 'ssim')
            else None, labels=clips[2])

def test_zero_to_one_is_suspicious(clips):
    with pytest.warns(UserWarning, match=r'\[0, 1\]'):
        metrics.load('clip-mini').update(clips[1]*.5 + .5)

def test_real_videos_only_where_they_are_needed(clips):
    with pytest.raises(ValueError, match='only real'):
        metrics.load('is-mini').update(clips[0], real=True)
    with pytest.raises(ValueError, match='one shape'):
        metrics.load('fvd-mini').update(clips[0], real=True).update(clips[1][:, :4])

@pytest.mark.parametrize('name', sorted(needed))
def test_missing_weights_are_one_error(name, tmp_path):
    for weights in (None, tmp_path/'nothing.pth'):
        with pytest.raises((ValueError, FileNotFoundError),
                match=f"{name} needs weights.*--weights {name}=PATH"):
            metrics.load(name, weights=weights)

def test_inception_score_is_torchmetrics():
    "Its class, given logits by a network that hands them through; one split, no chance."
    from torchmetrics.image.inception import InceptionScore
    logits = torch.randn(60, 7, generator=torch.Generator().manual_seed(0)).mul(2)
    class Through(torch.nn.Module):
        num_features = 7
        def forward(self, x): return logits
    theirs = InceptionScore(feature=Through(), splits=1)
    theirs.update(torch.zeros(60, 3, 8, 8, dtype=torch.uint8))
    p = logits.softmax(1).double()
    ours = metrics.inception_score(p, 1).item()
    assert ours == pytest.approx(theirs.compute()[0].item(), rel=1e-5)
    assert metrics.inception_score(p, 5).mean() < ours                              # splits cost

def test_clip_sees_what_its_own_processor_makes(clips):
    "transformers' processor takes bytes, h w 3, red green blue; a frame that is not square."
    from transformers import CLIPImageProcessor
    frame = F.interpolate(clips[0][0, :1], (64, 96), mode='bilinear')
    bytes_ = extractors.as_bytes(frame)[0].byte()
    theirs = CLIPImageProcessor(size=dict(shortest_edge=32), crop_size=dict(height=32, width=32))(
        bytes_.permute(1, 2, 0).numpy(), return_tensors='pt')['pixel_values'][0]
    square = extractors.centre_square(frame)
    ours = extractors.fit_frames(square, 32, extractors.clip_mean, extractors.clip_std)[0]
    # only bytes and the last columns before the crop differ
    assert (ours - theirs).abs().mean() < .02
    assert (ours - theirs)[..., 3:-3].abs().max() < .05

def test_similarity_of_frames_is_the_mean_of_cosines():
    f = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    cos = lambda a, b: F.cosine_similarity(f[:, a], f[:, b])
    want = sum((cos(0, t) + cos(t - 1, t))/2 for t in range(1, 5))/4
    assert metrics.frame_similarity(f).tolist() == pytest.approx(want.tolist(), rel=1e-5)

def small_videomae(tmp_path):
    "A checkpoint with the published names and random weights."
    torch.manual_seed(0)
    m = extractors.VideoMAE2(64, 2, 4)
    state = {}
    for k, v in m.state_dict().items():
        if k.endswith('qkv.bias'):
            for which in 'qv': state[k.replace('qkv.bias', f'{which}_bias')] = torch.randn(64)
        else:
            state[k.replace('embed.', 'patch_embed.proj.').replace('norm.', 'fc_norm.')
                if k.startswith(('embed.', 'norm.')) else k] = v
    torch.save(dict(module=state | {'head.weight': torch.zeros(174, 64),
        'head.bias': torch.zeros(174)}), tmp_path/'v.pth')
    return state, tmp_path/'v.pth'

def test_fvd_from_a_file(tmp_path):
    state, path = small_videomae(tmp_path)
    v = to_float(MovingDigits('test', n=6, frames=16).videos)
    m = metrics.load('fvd', path, dim=64, depth=2, heads=4).update(v[:3], real=True).update(v[3:])
    r = m.compute()
    assert (r.protocol['divisor'] == 'n' and r.protocol['weights'] == fingerprint(path)
        and r.value > 0)
    torch.save(dict(module={k: v for k, v in state.items() if 'blocks.1' not in k}),
        tmp_path/'cut.pth')
    with pytest.raises(ValueError, match='missing'):
        metrics.load('fvd', tmp_path/'cut.pth', dim=64, depth=2, heads=4)

def test_fvd_is_cd_fvds_network(tmp_path):
    theirs = pytest.importorskip('cdfvd.third_party.VideoMAEv2.videomaev2_finetune')
    from cdfvd.third_party.VideoMAEv2.utils import preprocess_videomae
    state, path = small_videomae(tmp_path)
    model = theirs.VisionTransformer(patch_size=14, embed_dim=64, depth=2, num_heads=4,
        mlp_ratio=48/11, qkv_bias=True, norm_layer=lambda d: torch.nn.LayerNorm(d, eps=1e-6),
        num_classes=174, use_mean_pooling=True)
    model.load_state_dict(state | {'head.weight': torch.zeros(174, 64),
        'head.bias': torch.zeros(174)})
    model.eval()
    data = MovingDigits('test', n=2, frames=16).videos
    with torch.no_grad():
        want = model.forward_features(preprocess_videomae(data.permute(0, 1, 3, 4, 2).numpy()))
    assert torch.allclose(extractors.videomae2_extractor(path, dim=64, depth=2,
        heads=4)(to_float(data)), want, atol=1e-5)

def inception_file(tmp_path):
    torch.manual_seed(0); net = extractors.FidInception().model
    for m in net.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.normal_(0, .1); m.running_var.uniform_(.5, 1.5)
    torch.save(net.state_dict(), tmp_path/'i.pth')
    return tmp_path/'i.pth'

def test_fid_from_a_file(tmp_path, clips):
    m = metrics.load('fid', inception_file(tmp_path)).update(clips[0][:2, :2],
        real=True).update(clips[1][:2, :2])
    r = m.compute()
    assert (m.real.n == 4 and m.moments.dim == 2048 and r.protocol['per'] == 'frame'
        and r.protocol['n'] == 2)

def test_fid_is_torch_fidelitys_network(tmp_path, clips):
    theirs = (pytest.importorskip(
        'torch_fidelity.feature_extractor_inceptionv3').FeatureExtractorInceptionV3)
    path = inception_file(tmp_path)
    frames = clips[0][:1, :2]
    net = theirs('i', ['2048'], feature_extractor_weights_path=str(path))
    x = F.interpolate(extractors.as_bytes(frames)[0], (299, 299), mode='bilinear', align_corners=False,
        antialias=True)
    # already 299: its own resize does nothing
    with torch.no_grad(): want = net(x.round().byte())[0]
    eyes = extractors.inception_extractor(path)
    got = extractors.FidInception()
    got.model.load_state_dict(torch.load(path, weights_only=True))
    got.eval()
    with torch.no_grad(): assert torch.allclose(got((x.round() - 128)/128), want, atol=1e-4)
    # only the rounding of the resize differs
    assert (eyes(frames) - want).abs().max() < .05*want.abs().max()

def test_lpips_is_torchmetrics(tmp_path, clips):
    from torchmetrics.functional.image.lpips import _LPIPS
    torch.manual_seed(0)
    theirs = _LPIPS(pnet_rand=True, net='alex')
    state = {f"features.{k.split('.', 1)[1]}": v for k, v in theirs.net.state_dict().items()}
    torch.save(state | {'classifier.1.bias': torch.zeros(3)}, tmp_path/'a.pth')
    big = [F.interpolate(v[0], (64, 64), mode='bilinear')[None] for v in clips[:2]]
    with torch.no_grad(): want = theirs(big[1][0], big[0][0]).mean().item()
    assert (metrics.load('lpips', tmp_path/'a.pth').update(big[1],
        big[0]).compute().value == pytest.approx(want, rel=1e-4))

def test_clip_from_a_folder(tmp_path, clips):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
    torch.manual_seed(0)
    CLIPVisionModelWithProjection(CLIPVisionConfig(hidden_size=32, intermediate_size=64,
        num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8,
        projection_dim=16)).save_pretrained(tmp_path)
    m = metrics.load('clip', tmp_path).update(clips[0][:4])
    frozen = metrics.load('clip', tmp_path).update(clips[0][:4, :1].expand(-1, 6, -1, -1,
        -1)).compute()
    assert (m.compute().value < frozen.value == pytest.approx(1., abs=1e-6)
        and len(frozen.protocol['weights']) == 16)

class Program(torch.nn.Module):
    def forward(self, x, rescale: bool = False, resize: bool = False,
        return_features: bool = False):
        return (x.float().mean((2, 3, 4)).softmax(1) if not return_features
            else x.float().mean((3, 4)).flatten(1))

def test_what_a_metric_does_not_know_is_an_error():
    with pytest.raises(ValueError,
            match="fvd-mini has no option 'extracter': it has divisor, extractor"):
        metrics.load('fvd-mini', extracter='mini_mae')
    with pytest.raises(ValueError, match="is-mini has no option 'split"):
        metrics.load('is-mini', splitss=2)
    with pytest.raises(ValueError, match='splits should be an integer.*abc'):
        metrics.load('is-mini', splits='abc')
    with pytest.raises(ValueError, match='takes no weights'): metrics.load('ssim', 'nope.pt')
    with pytest.raises(ValueError, match='1 of 2 clips hold values that are no numbers'):
        metrics.load('clip-mini').update(torch.tensor([0., float('nan')])[:, None, None, None,
            None].expand(-1, 6, 3, 16, 16))


def test_a_program_runs_only_if_it_is_the_one_meant(tmp_path, clips):
    path = tmp_path/'p.pt'
    torch.jit.script(Program()).save(str(path))
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match='was not loaded'): metrics.load('fvd-i3d', path)
    with pytest.raises(ValueError, match=sha): metrics.load('is', path)
    r = metrics.load('fvd-i3d', path, sha256=sha).update(clips[0],
        real=True).update(clips[1]).compute()
    assert r.protocol['divisor'] == 'n' and r.protocol['weights'] == sha[:16] and r.value > 0
    assert (metrics.load('is', path, sha256=sha, splits=2).update(clips[0]).compute().protocol[
        'splits'] == 2)
