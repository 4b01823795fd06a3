"motion-mini sees what an average over frames does not, and the tables say who is blind to what."

import pytest, torch

from align4gen import metrics
from align4gen.data import MovingDigits
from align4gen.evaluate import EvalOptions, evaluate
from align4gen.files import read_table
from align4gen.labs import faults as lab
from align4gen.labs.faults import faults
from align4gen.video import to_float

quiet = dict(progress=False, cache=False, say=lambda *_: None)
real, other = (MovingDigits('test', n=128, seed=s) for s in (0, 1))


def moves(name, broken):
    metric = metrics.load(name).update(to_float(real.videos), real=True)
    return metric.update(broken).compute().value


@pytest.mark.parametrize('fault', ['shuffle', 'freeze', 'warp', 'wobble'])
def test_motion_mini_sees(fault):
    clean = to_float(other.videos)
    assert moves('motion-mini', faults[fault](clean, 1.)) > 3*moves('motion-mini', clean)


def test_one_frame_has_no_motion():
    with pytest.raises(ValueError, match='at least 2 frames'):
        metrics.load('motion-mini').update(torch.zeros(2, 1, 3, 16, 16) - .1)


def test_both_are_the_default_and_the_table_says_who_is_blind():
    assert EvalOptions().metrics == 'fvd-mini,motion-mini'
    found = evaluate(other, real, n=64, **quiet)
    assert [*found] == ['fvd-mini', 'motion-mini']
    assert 'fvd-mini to warp, shuffle, freeze; motion-mini to none of the twelve' in found.markdown()
    frozen = evaluate(other.videos[:, :1].expand_as(other.videos), real, n=64, **quiet)
    more = {k: frozen[k].value/found[k].value for k in found}
    assert more['motion-mini'] > 20 and more['fvd-mini'] < 2


def test_what_the_registry_calls_blind_is_what_the_record_says():
    effect = lab._effects(read_table('results/faults/matrix.csv'))
    for name, label in {'fvd-mini': 'fvd mini_videomae', 'motion-mini': 'motion'}.items():
        never = [f for f in faults if all(abs(effect[label, f, round(s, 4)]) < 3
            for s in lab._severities)]
        said = metrics.registry.find(name).blind
        assert never == ([] if said.startswith('none') else said.split(', '))


def test_drift_mini_is_of_the_object():
    "Samples drift more than real clips; order and stillness do not count."
    from align4gen.run import example_run
    from align4gen.sample import sample
    clean = to_float(other.videos)
    value = lambda v: metrics.load('drift-mini').update(v).compute().value
    drawn = sample(example_run(), 32, steps=8, sampler='dpm++2m', progress=False)
    assert .005 < value(clean) < .02 and value(drawn) > 2*value(clean)
    assert value(faults['shuffle'](clean, 1.)) == pytest.approx(value(clean), rel=1e-4)
    assert value(faults['freeze'](clean, 1.)) < 1e-5
    assert value(faults['flicker'](clean, 1.)) > 5*value(clean)
    r = metrics.load('drift-mini').update(clean).compute()
    assert r.std > 0 and 'brighter than 0.4' in r.protocol['how']
