("The lab on autoencoders: a fair comparison, sums that are right, nothing done twice; and the "
"trained miniature that comes with the package.")
import json, math

import pytest, torch

from align4gen import vae
from align4gen.data import MovingDigits
from align4gen.video import to_float
from align4gen.dpvae import DPVAE, trained_mini_dpvae
from align4gen.labs import autoencoders as lab
from align4gen.labs.autoencoders import (_all_jobs, _arm_config, _arms, _columns, _controls,
    _generation_scales, _in_own_scale, _one_run, _record, _tables, _train_coder)
from align4gen.labs.core import mean_std, paired, run_jobs, summarise
from align4gen.files import read_table
from align4gen.metrics import psnr
from align4gen.train_dpvae import build_dpvae
from align4gen.weights import ship, shipped

tiny = dict(steps=4, diffusion_steps=2, n=20, drawn=20, clips=16, batch=4)


@pytest.fixture(autouse=True, scope='module')
def small_data():
    "Few clips are enough to see that sums are right."
    with pytest.MonkeyPatch.context() as m:
        clips, config = lab._test_clips, lab._diffusion_config
        m.setattr(lab, '_test_clips', lambda n=512: clips(min(n, 40)))
        eyes, best = lab._motion_features, lab._best_motion
        m.setattr(lab, '_motion_features', lambda: eyes(64))
        m.setattr(lab, '_best_motion', lambda coder: best(coder, 40))
        m.setattr(lab, '_diffusion_config', lambda *a, **k: config(*a, **dict(clips=32) | k))
        yield
    clips.cache_clear(); lab._real_features.cache_clear(); eyes.cache_clear()


def found(arm, seed, value, scales=()):
    drawn = {f'{a}{k}': value for k in lab._drawn_columns for a in ('', 'start_')}
    return (dict(arm=arm, seed=seed, numbers=128, parameters=7) | {k: value for k in _columns[2:7]}
        | dict(generation=[dict(scale=s) | drawn for s in scales]))


@pytest.mark.parametrize('arm', _arms)
def test_arms_change_what_they_say_and_nothing_else(arm):
    base, config = vars(_arm_config('dpvae', 2)), vars(_arm_config(arm, 2))
    differ = {k for k in base if base[k] != config[k]} - {'name', 'preset'}
    assert differ == {'no-reg': {'reg'}, 'no-key': {'key_encoder'}, 'neither': {'reg',
        'key_encoder'}, 'plain': {'reg', 'key_encoder', 'start'},
                      'causal': {'causal'}, 'frames': {'stages', 'reg', 'steps',
                      'adversarial_start'}}.get(arm, set())
    assert config['seed'] == 2 and config['adversarial_start'] == config['steps']//2


def test_jobs_come_seed_by_seed_and_the_command_knows_its_arms(capsys):
    jobs = _all_jobs(3)
    assert (len(jobs) == len({*jobs}) == 3*len([*_arms, *_controls]) and [s for _,
        s in jobs] == sorted(s for _, s in jobs))
    with pytest.raises(SystemExit): lab.main(['--arms', 'dpvae,vqvae'])
    assert 'vqvae' in capsys.readouterr().err
    assert {a for a in (*_arms, *_controls) if not _generation_scales(a)} == {'frames', 'image'}


def test_all_rivals_have_equally_many_numbers(tmp_path):
    clips = to_float(MovingDigits('test', n=2, frames=8).videos)
    coders = {a: build_dpvae(_arm_config(a)).eval() for a in _arms if a != 'frames'}
    frames = lab.FrameCoder(lab._one_channel())
    hold, image = (_train_coder(a, 0, tmp_path)[0] for a in _controls)
    counts = {k: c.encode(clips)[0].numel() for k,
        c in (coders | dict(frames=vae.FrameVAE(frames.key), hold=hold)).items()}
    assert set(counts.values()) == {128} and image.encode(clips)[0].numel() == 512


def test_a_frame_coder_knows_no_other_frame():
    coder = lab.FrameCoder(lab._one_channel())
    clips = to_float(MovingDigits('test', n=2, frames=8).videos)
    other = clips.clone(); other[:, 3] = -other[:, 3]
    with torch.no_grad(): a, b = coder(clips)[0], coder(other)[0]
    same = (a - b).abs().amax((0, 2, 3, 4)) < 1e-4
    assert same.tolist() == [i != 3 for i in range(8)]
    assert coder(clips)[0].sum().requires_grad and all(p.requires_grad for p in coder.parameters())


def test_own_scale_is_the_same_autoencoder_with_latents_of_unit_size(tmp_path):
    torch.manual_seed(0)
    odd = DPVAE.from_2d(vae.load('mini').model).eval()
    with torch.no_grad():
        for p in odd.E_r[-1].parameters(): p += .5*torch.randn_like(p)
    before, x = odd.std.clone(), to_float(MovingDigits(n=64, frames=8).videos)
    own = _in_own_scale(odd, 64)
    z = own.encode(x)
    assert torch.equal(odd.std, before) and not torch.allclose(own.std, before)
    assert z.mean((0, 1, 3, 4)).abs().max() < 1e-3 and (z.std((0, 1, 3, 4)) - 1).abs().max() < 1e-3
    assert torch.allclose(own.decode(z, 8), odd.decode(odd.encode(x), 8), atol=1e-4)
    # the scale survives the disk
    again = DPVAE.from_pretrained(own.save(tmp_path/'own'))
    assert (torch.equal(again.encode(x[:2]), own.encode(x[:2]))
        and torch.allclose(again.key.config['latents_std'][0]*torch.ones(()), own.std.flatten()[0]))


def test_perfection_is_measured_as_such_and_worse_as_worse():
    clips = lab._test_clips(40)[0]
    perfect, held, dark = (lab._measure_pair(x, clips) for x in (clips,
        clips[:, ::4].repeat_interleave(4, 1), clips*.5 - .5))
    assert (perfect['psnr'] == perfect['key'] == held['key'] == 100 and perfect['distance'] == 0
        and abs(perfect['frechet']) < 1e-3)
    assert held['between'] < 30 and held['distance'] > 0 < dark['distance'] and dark['key'] < 30


def test_moments_and_histograms_know_a_shift():
    z = torch.randn(50, 2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    facts, moved = lab._spread(z), lab.latent_facts(2*z + 1, z)
    assert (facts['histogram'].shape == (4, len(lab._bins) - 1)
        and facts['histogram'].sum().item() == z.numel())
    assert facts['mean'].abs().max() < .1 and (facts['deviation'] - 1).abs().max() < .1
    assert (moved['deviation'] == pytest.approx(1, abs=.01) and moved['mean'] > .9
        and moved['residual'] == pytest.approx(1, abs=.01))


def test_tables_are_means_over_seeds():
    rows = ([found('dpvae', s, v, ('image', 'own')) for s, v in enumerate((1., 2., 6.))]
        + [found('hold', 0, 4., ('image',)), found('frames', 0, 5.)])
    t = _tables(rows)
    by, drawn = ({r['arm']: r for r in t['summary']}, {(r['arm'], r['scale']): r
        for r in t['generation_summary']})
    assert (by['dpvae']['psnr_mean'] == 3 and by['dpvae']['psnr_std'] == pytest.approx(7**.5,
        abs=1e-4) and by['dpvae']['seeds'] == 3 and by['dpvae']['numbers'] == 128)
    assert math.isnan(by['hold']['psnr_std']) and math.isnan(by['frames']['image_mean'])
    assert (set(drawn) == {('dpvae', 'image'), ('dpvae', 'own'), ('hold', 'image')}
        and drawn['dpvae', 'own']['start_frechet_mean'] == 3)
    assert (paired(t['runs'], 'dpvae', 'hold', 'psnr') == (-3., pytest.approx(math.nan,
        nan_ok=True), [-3.]))
    assert mean_std([None, 2., 4.]) == (3., 2**.5) and summarise([], ('a',)) == []


def test_one_arm_from_end_to_end_and_nothing_twice(tmp_path, monkeypatch, capsys):
    runs = tmp_path/'runs'
    jobs = [('causal', 0), ('frames', 0), ('image', 0)]
    run_jobs(_one_run, jobs, runs, **tiny)
    before = {p.name: p.stat().st_mtime_ns for p in runs.glob('*.json')}
    run_jobs(_one_run, jobs, runs, **tiny)
    assert ({p.name for p in runs.glob('*.json')} == {'settings.json', *(f'{a}-0.json' for a,
        _ in jobs)})
    assert all(p.stat().st_mtime_ns == before[p.name] for p in runs.glob('*-0.json'))
    with pytest.raises(ValueError, match='another --runs'):
        run_jobs(_one_run, jobs, runs, **tiny | dict(steps=5))
    whole = (runs/'causal-0.json').read_text()
    told = json.loads(whole)
    row = told['generation'][0]
    assert (row['motion'] != row['start_motion'] > 0 < row['best_motion'] == pytest.approx(
        lab._best_motion(_train_coder('causal', 0, runs)[0]), rel=.1))
    for k in ('start_motion', 'motion', 'best_motion'): del row[k]
    # measured on what is there: the same
    (runs/'causal-0.json').write_text(json.dumps(told))
    lab._measure_again(runs)
    for k in ('start_motion', 'motion', 'best_motion'):
        assert (json.loads((runs/'causal-0.json').read_text())['generation'][0][k] == pytest.approx(
            json.loads(whole)['generation'][0][k], rel=1e-3)), k
    _record(runs, tmp_path/'out', 'typed', 'quiet')
    rows = {r['arm']: r for r in read_table(tmp_path/'out'/'runs.csv')}
    drawn = read_table(tmp_path/'out'/'generation.csv')
    assert (rows['causal']['numbers'] == rows['frames']['numbers'] == 128
        and rows['image']['numbers'] == 512)
    assert (rows['image']['psnr'] > 29 > rows['causal']['psnr'] > 20
        and rows['causal']['residual'] > 0 and math.isnan(rows['frames']['residual']))
    assert ([(r['arm'], r['scale']) for r in drawn] == [('causal', 'image')]
        and all(r['loss'] != r['start_loss'] for r in drawn))
    info = json.loads((tmp_path/'out'/'info.json').read_text())
    assert info['command'] == 'typed' and info['settings'] == tiny and info['seeds'] == [0]
    from safetensors.torch import load_file
    assert (load_file(tmp_path/'out'/'samples.safetensors')['causal.shown'].shape == (2, 3, 8, 3,
        16, 16))
    assert (load_file(tmp_path/'out'/'latents.safetensors')['causal.0.key_histogram'].shape == (4,
        96))


def test_the_miniature_beats_held_key_frames_in_as_many_numbers(tmp_path):
    clips = to_float(MovingDigits('test', n=64, frames=8).videos)
    mini, hold = vae.load('dpvae'), DPVAE.from_2d(vae.load('mini').model).eval()
    z = mini.encode(clips)
    db = lambda model: psnr(model.decode(model.encode(clips), 8), clips).mean().item()
    assert z[0].numel() == hold.encode(clips[:1]).numel() and db(mini) > db(hold) + 2
    card = shipped('mini_dpvae')[1]
    assert (abs(db(mini) - card['measured']['psnr']) < .5
        and card['command'].startswith('align4gen_train_dpvae'))
    assert (vae.latent_shape('dpvae') == (4, 4, 4) == (mini.channels, mini.stride,
        mini.temporal_stride))
    assert not any(p.requires_grad for p in mini.parameters())
    state = {k: v for k, v in mini.state_dict().items() if k.startswith(('E_r.', 'D.'))}
    again = trained_mini_dpvae(ship('mini_dpvae', state, card, tmp_path).parent)
    assert torch.equal(again.encode(clips[:2]), mini.encode(clips[:2]))


def test_training_takes_the_miniature_when_no_folder_is_named(tmp_path):
    from align4gen.train import train
    run = train('digits', vae='dpvae', teachers='', gamma=0., judge='', frames=8, clips=8, batch=4,
        steps=1, compile='no', out=str(tmp_path), sample_every=0, progress=False)
    assert run.model().config['frames'] == 2 and run.vae.name == 'mini_dpvae'
