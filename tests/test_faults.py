"Faults that are what they say, and metrics that do what theory demands of them."
import json

import numpy as np, pytest, torch

from align4gen import extractors, metrics
from align4gen.data import MovingDigits
from align4gen.video import to_float
from align4gen.extractors import steps_extractor
from align4gen.labs import faults as lab
from align4gen.files import read_table
from align4gen.labs.faults import _severities as severities, faults

data = MovingDigits('test', n=60, seed=5)
clean, labels = to_float(data.videos), data.labels
each_fault = pytest.mark.parametrize('name', [*faults])
judge = extractors.encoder_extractor('mini_supervised')


@each_fault
def test_severity_zero_is_the_identity(name):
    assert faults[name](clean, 0, labels=labels) is clean


@each_fault
@pytest.mark.parametrize('severity', [.01, 1/3, 1.])
def test_shape_range_and_input_stay(name, severity):
    before = clean.clone()
    hit = faults[name](clean, severity, seed=1, labels=labels)
    assert (hit.shape == clean.shape and hit.dtype == clean.dtype and hit.isfinite().all()
        and hit.abs().max() <= 1)
    assert torch.equal(clean, before), 'the input was written into'


@each_fault
def test_deterministic_in_the_seed(name):
    torch.manual_seed(0)
    a = faults[name](clean, .6, seed=1, labels=labels)
    torch.manual_seed(9)
    state = torch.get_rng_state()
    b = faults[name](clean, .6, seed=1, labels=labels)
    assert (torch.equal(a, b) and torch.equal(torch.get_rng_state(),
        state)), 'the global generator has no say'
    if name not in ('blur', 'fade', 'freeze'):
        assert not torch.equal(a, faults[name](clean, .6, seed=2, labels=labels))


@each_fault
def test_full_severity_changes_clips(name):
    hit = faults[name](clean, 1., seed=1, labels=labels)
    assert ((hit - clean).flatten(1).abs().amax(1) > .01).float().mean() > .7


@pytest.mark.parametrize('name', [k for k, f in faults.items() if f.paired])
def test_one_fault_only_turned_up(name):
    "With one seed, a larger severity is further from the clean clips."
    far = [(faults[name](clean, s, seed=1) - clean).square().mean().item()
        for s in (0, *severities)]
    assert np.all(np.diff(far) > 0), far


@pytest.mark.parametrize('coherent, broken', [('cast', 'flicker'), ('warp', 'wobble')])
def test_pairs_make_equally_bad_frames(coherent, broken):
    "One frame cannot tell them apart: equal marginals; with a single frame, the same draw."
    still = clean[:, :1]
    assert torch.equal(faults[coherent](still, .8, seed=3), faults[broken](still, .8, seed=3))
    held = clean[:, :1].expand(-1, 6, -1, -1, -1)
    assert ((faults[coherent](held, .8, seed=3).diff(dim=1) == 0).all() and faults[broken](held, .8,
        seed=3).diff(dim=1).abs().mean() > .01)


def test_shuffle_keeps_the_frames_and_moves_all_of_them():
    numbered = torch.linspace(-1, 1, 6)[None, :, None, None, None].expand(50, 6, 3, 16, 16)
    order = faults['shuffle'](numbered, 1., seed=2)[:, :, 0, 0, 0]
    assert (torch.equal(order.sort(1).values, numbered[:, :, 0, 0, 0]) and (order != numbered[:, :,
        0, 0, 0]).all())
    moved = [(faults['shuffle'](numbered, s, seed=2)[:, :, 0, 0, 0] != numbered[:, :, 0, 0,
        0]).sum(1) for s in severities]
    assert [m.unique().tolist() for m in moved] == [[2], [4], [6]]


def test_freeze_stops_where_it_says():
    hit = faults['freeze'](clean, 1.)
    assert torch.equal(hit, clean[:, :1].expand_as(clean))
    half = faults['freeze'](clean, 1/3)
    assert (torch.equal(half[:, :4], clean[:, :4]) and torch.equal(half[:, 4:],
        clean[:, 3:4].expand(-1, 2, -1, -1, -1)))


def test_variety_is_what_is_lost():
    marked = torch.linspace(-1, 1, 60)[:, None, None, None, None].expand(-1, 2, 3, 16, 16)
    marks = torch.arange(60) % 10
    def left(name, s):
        ids = ((faults[name](marked, s, seed=1, labels=marks)[:, 0, 0, 0, 0]
            + 1)*59/2).round().long()
        return len(ids.unique()), len((ids % 10).unique())
    assert [left('repeat', s) for s in severities] == [(42, 10), (24, 10), (6, 6)]
    assert [left('missing', s) for s in severities] == [(42, 7), (24, 4), (6, 1)]
    assert left('collapse', 1.) == (10, 10)
    kept = faults['collapse'](marked, 1., seed=1, labels=marks)[:, 0, 0, 0, 0]
    assert all(len(kept[marks == c].unique()) == 1 for c in range(10)), 'a clip stays in its class'


@pytest.mark.parametrize('call, message', [
    (lambda: faults['blur'](clean, 1.1), 'severity'), (lambda: faults['blur'](clean[0], .5),
    '5 axes'), (lambda: faults['blur'](clean*2, .5), r'\[-1, 1\]'),
    (lambda: faults['missing'](clean, .5), 'one label per clip'), (lambda: faults['repeat'](clean,
    .5, labels=labels[:-1]), 'one label per clip')])
def test_errors_name_the_fix(call, message):
    with pytest.raises(ValueError, match=message): call()


# What theory demands, on a small sample

@pytest.fixture(scope='module')
def samples():
    d = MovingDigits('test', n=250, seed=6)
    return to_float(d.videos), d.labels


@pytest.mark.parametrize('name', ['noise', 'cast', 'flicker', 'fade'])
def test_psnr_falls_clip_by_clip(name):
    scores = torch.stack([metrics.psnr(faults[name](clean, s, seed=1), clean)
        for s in (0, *severities)])
    assert (scores.diff(dim=0) < 0).all()


def test_frame_averages_cannot_see_the_order(samples):
    videos, _ = samples
    real = judge(to_float(MovingDigits('test', n=250, seed=7).videos))
    whole, broken = (lab.frechet_distance(judge(v), real) for v in (videos,
        faults['shuffle'](videos, 1., seed=1)))
    assert abs(whole - broken) < 1e-4*whole


def test_steps_see_what_averages_cannot(samples):
    videos, _ = samples
    eyes = steps_extractor()
    real = eyes(to_float(MovingDigits('test', n=250, seed=7).videos))
    whole, *worse = (lab.frechet_distance(eyes(faults['shuffle'](videos, s, seed=1)), real)
        for s in (0, *severities))
    assert min(worse) > 20*whole, 'far above the floor, at every severity'


@pytest.mark.parametrize('name', ['noise', 'blur', 'fade', 'collapse'])
def test_frechet_distance_rises(samples, name):
    videos, marks = samples
    real = judge(to_float(MovingDigits('test', n=500, seed=7).videos))
    far = [lab.frechet_distance(judge(faults[name](videos, s, seed=1, labels=marks)), real)
        for s in (0, *severities)]
    assert lab._follows([0, *severities], far, 'rises'), far


def test_floor_falls_with_n_as_the_formula_says():
    g = torch.Generator().manual_seed(0); scale = torch.linspace(.2, 2, 20)
    draw = lambda n: torch.randn(n, 20, generator=g)*scale
    for n, m in ((200, 1000), (800, 1000)):
        found = np.mean([lab.frechet_distance(draw(n), draw(m)) for _ in range(40)])
        assert abs(found/lab._expected_floor(scale.square().diag(), n, m) - 1) < .1


def test_extrapolation_takes_most_of_the_floor_away():
    g = torch.Generator().manual_seed(1)
    draw = lambda n, shift=0.: torch.randn(n, 20, generator=g) + shift
    near = np.mean([lab._extrapolate(draw(400), draw(400), seed=s) for s in range(10)])
    far = np.mean([lab._extrapolate(draw(400, .5), draw(400), seed=s) for s in range(10)])
    assert abs(near) < .25*np.mean([lab.frechet_distance(draw(400), draw(400)) for _ in range(10)])
    assert abs(far - 20*.25) < .4


# The lab's machinery

def test_measured_once_and_only_what_is_missing(tmp_path, monkeypatch):
    "A second run asks nothing; a new metric is asked alone; other settings are refused."
    few = dict(n=20, n_real=24)
    lab._measure_all([('real', 0)], tmp_path, 1, ('psnr',), **few)
    first = (tmp_path/'real-0.json').read_bytes()
    monkeypatch.setattr(lab, '_one_job', lambda *a, **k: pytest.fail('measured again'))
    lab._measure_all([('real', 0)], tmp_path, 1, ('psnr',), **few)
    assert (tmp_path/'real-0.json').read_bytes() == first
    monkeypatch.undo()
    lab._measure_all([('real', 0), ('missing', 0)], tmp_path, 1, ('psnr', 'fvd mini_videomae'),
        **few)
    found = lab._measured('real', 0, tmp_path)
    assert (found['psnr'] == json.loads(first)['psnr']
        and found['fvd mini_videomae'][0]['protocol'][
        'extractor'] == 'mini_videomae')
    assert lab._measured('missing', 0, tmp_path)['psnr'] == [], 'no pairs where clips were exchanged'
    with pytest.raises(ValueError, match='another --runs'):
        lab._measure_all([('real', 0)], tmp_path, 1, ('psnr',), n=30, n_real=24)
    lab._record([('real', 0), ('missing', 0)], tmp_path, tmp_path/'out', 'a test')
    rows = read_table(tmp_path/'out'/'matrix.csv')
    assert ({r['metric'] for r in rows} == {'psnr', 'fvd mini_videomae'}
        and json.loads((tmp_path/'out'/'info.json').read_text())['n'] == 20)
