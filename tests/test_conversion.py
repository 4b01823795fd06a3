("The lab that converts an image model: arms that can be trained, sums that are right, and "
"nothing done twice.")
import json, math

import pytest, torch

from align4gen import train as training
from align4gen.labs import conversion as lab
from align4gen.labs.conversion import (_means as means, _record as record,
    arm_config, arms, change, columns, one_run, others)
from align4gen.labs.core import paired, run_jobs
from align4gen.files import read_table

small = dict(n=20, steps=2, clips=16, batch=8, eval_every=1)


@pytest.fixture(autouse=True, scope='module')
def few_real_clips():
    "A hundred are enough to see that sums are right."
    with pytest.MonkeyPatch.context() as m:
        usual = lab._test_clips
        m.setattr(lab, '_test_clips', lambda: usual(100))
        yield
    for f in (usual, lab._real_features, lab._test_latents): f.cache_clear()


def row(arm, seed, value):
    return (dict(arm=arm, seed=seed, steps=2, parameters=7, trainable=5, step_ratio=1., kept=3)
        | dict.fromkeys(columns, value))


@pytest.mark.parametrize('arm', [*arms, *others])
def test_arms_are_valid_and_change_one_thing(arm):
    base, config = vars(arm_config('convert')), vars(arm_config(arm))
    both = base.keys() & config.keys()
    differ = {k for k in both if base[k] != config[k]} - {'name', 'preset'}
    assert differ == {k for k, v in (arms | others)[arm].items()
        if k in both - {'preset'} and base[k] != v}
    assert (len(differ) == dict(convert=0, aligned=2, scratch=1).get(arm, len(differ))
        and (differ or arm in ('convert', 'scratch-lr1')))
    assert (type(arm_config(arm)) is type(arm_config('convert'))) != arm.startswith('scratch')


def test_the_command_knows_it(capsys):
    with pytest.raises(SystemExit): lab.main(['--arms', 'convert,inflate'])
    assert 'inflate' in capsys.readouterr().err


def test_summary_is_mean_and_spread_and_differences_are_within_a_seed():
    rows = ([row('convert', s, v) for s, v in enumerate((1., 2., 6.))] + [row('copy', s, v) for s,
        v in enumerate((2., 4., 7.))] + [row('scratch', 0, math.nan)])
    by = {r['arm']: r for r in means(rows)}
    assert (by['convert']['read_mean'] == 3 and by['convert']['read_std'] == pytest.approx(7**.5,
        abs=1e-4) and by['convert']['seeds'] == 3)
    assert math.isnan(by['scratch']['read_mean']) and math.isnan(by['scratch']['read_std'])
    m, s, each = paired(rows, 'copy', 'convert', 'frechet')
    assert each == [1., 2., 1.] and m == pytest.approx(4/3) and s == pytest.approx(3**-.5)
    assert paired(rows, 'flat', 'convert', 'loss')[2] == []


def test_change_knows_stills_strangers_and_clips():
    from align4gen.data import MovingDigits
    from align4gen.video import to_float
    data = MovingDigits('test', n=400)
    turns = torch.stack([(data.labels == k).nonzero()[:10, 0] for k in range(10)], 1).flatten()
    clips = to_float(data.videos[turns])
    mixed = torch.stack([clips[:, i].roll(10*i, 0) for i in range(6)], 1)
    assert change(lab._still(clips[:, :1])) == 0 < change(clips) < .3 < .8 < change(mixed) < 1.2


def test_nothing_is_done_twice_and_what_stopped_goes_on(tmp_path, monkeypatch):
    step, done = training.Trainer.train_step, []
    def counting(self, batch, asked=False):
        done.append(self.step); return step(self, batch, asked or (stop and self.step == 0))
    monkeypatch.setattr(training.Trainer, 'train_step', counting)
    stop = True
    runs = tmp_path/'runs'
    training.train(arm_config('joint', 0, out=str(runs), **{k: v for k, v in small.items()
        if k != 'n'}), progress=False)
    assert done == [0]
    stop = False
    run_jobs(one_run, [('joint', 0), ('real', 0)], runs, **small)
    # the second step alone
    assert done == [0, 1]
    before = (runs/'joint-0.json').read_text()
    run_jobs(one_run, [('joint', 0), ('real', 0)], runs, **small)
    assert done == [0, 1] and (runs/'joint-0.json').read_text() == before
    with pytest.raises(ValueError, match='another --runs'):
        run_jobs(one_run, [('joint', 0)], runs, **small | dict(steps=3))
    (runs/'costs.json').write_text(json.dumps({a: dict(parameters=1, trainable=1, kept=1, step_ms=m)
        for a, m in (('convert', 2.), ('joint', 3.))}))
    record(runs, tmp_path/'out', 'typed', 'quiet')
    found = {r['arm']: r for r in read_table(tmp_path/'out'/'runs.csv')}
    assert (set(found) == {'joint', 'real'} and found['joint']['step_ratio'] == 1.5
        and found['joint']['steps'] == 2)
    assert 0 < found['joint']['image_loss'] < 3 and found['real']['read'] > .8
    assert json.loads((tmp_path/'out'/'info.json').read_text())['command'] == 'typed'
    assert [r['step'] for r in read_table(tmp_path/'out'/'curves.csv')] == [1, 2]


def test_untrained_images_are_those_of_the_image_model(tmp_path):
    both = [json.loads(one_run(arm, 1, tmp_path, 20).read_text()) for arm in ('untrained', 'image')]
    assert (both[0]['image_loss'] == pytest.approx(both[1]['image_loss'], abs=1e-3)
        and both[0]['loss'] != both[1]['loss'])
    assert both[0]['change'] < .8 * both[1]['change']
