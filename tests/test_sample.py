"""Sampling: a video depends on (seed, index) alone, and a folder of them says what it holds."""
import json, os, shutil, subprocess, sys

import pytest, torch
from torch import nn

from align4gen.objectives import Diffusion, Flow, dpm, samplers
from align4gen.sample import Sampling, compiled, noise_for, sample, trajectory
from align4gen.sample_folder import align4gen_sample, read_samples, sample_to
from align4gen.train import train
from align4gen.vdit import vdit

quiet = dict(progress=False)
fast = dict(steps=3, format='npy', batch=4, progress=False)


class AsIs:
    "No decoder: no clamp hides a difference."
    def decode(self, latents): return latents


class Counting(nn.Module):
    "A V-DiT from outside, that keeps a record of what it was asked."
    def __init__(self, model):
        super().__init__()
        self.model, self.config, self.null_label, self.num_classes, self.asked = (model,
            model.config, model.null_label, model.num_classes, [])
    def forward(self, x, t, y=None):
        self.asked.append((len(x), None if y is None else y.tolist())); return self.model(x, t, y)


def awake(num_classes=10, **changes):
    "A tiny V-DiT with something to say."
    torch.manual_seed(0)
    model = vdit('mini', **dict(dim=32, heads=2, depth=2, in_channels=4, input_size=4, frames=4,
        num_classes=num_classes) | changes).eval()
    with torch.no_grad():
        for p in model.parameters(): p.add_(.1*torch.randn_like(p))
    return model


@pytest.fixture(scope='module')
def model(): return awake()


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    "Four steps of training: enough for the average and the last weights to differ."
    return train('digits', clips=32, frames=4, background='plain', batch=8, steps=4, warmup=1,
        ema=.9, checkpoint_every=2, keep=2, size='mini', teachers='mini_random', mapper_hidden=32,
                 compile='no', precision='fp32', sample_every=0, judge='',
                 out=str(tmp_path_factory.mktemp('runs')), name='run', progress=False)


@pytest.fixture(scope='module')
def whole(run, tmp_path_factory):
    "Ten videos by one process that nothing happens to."
    return sample_to(tmp_path_factory.mktemp('sets')/'whole', run, 10, **fast)


@pytest.mark.parametrize('sampler', [*samplers])
@pytest.mark.parametrize('objective', [Flow(), Diffusion()], ids=['flow', 'diffusion'])
def test_a_video_depends_on_seed_and_index_alone(model, sampler, objective):
    how = quiet | dict(steps=4, sampler=sampler, objective=objective, guidance=2., vae=AsIs())
    seven = sample(model, 7, **how)
    assert torch.isfinite(seven).all() and torch.equal(sample(model, 7, **how), seven)
    for batch in (1, 2, 3):
        torch.testing.assert_close(sample(model, 7, batch=batch, **how), seven, rtol=1e-3,
            atol=1e-3)
    torch.testing.assert_close(sample(model, 4, **how), seven[:4], rtol=1e-3, atol=1e-3)
    s = Sampling(model, **{k: v for k, v in how.items() if k != 'progress'})
    # the sixth without the five before it
    torch.testing.assert_close(s.draw([5], torch.tensor([5])), seven[5:6], rtol=1e-3, atol=1e-3)
    assert (sample(model, 7, seed=1, **how) - seven).abs().mean() > .1


def test_noise():
    "The first numbers of video 0 and 7 of seed 0 and 3, as every later version has to draw them."
    assert torch.equal(noise_for([0, 7], (2, 3), 3)[1], torch.randn(2, 3,
        generator=torch.Generator().manual_seed(3*1_000_003 + 7)))
    assert (len({tuple(noise_for([i], (4,), seed)[0].tolist()) for i in range(50)
        for seed in range(4)}) == 200)


@pytest.mark.parametrize('sampler', [*samplers])
def test_guidance_asks_once_for_both(model, sampler):
    counting = Counting(model)
    sample(counting, 3, [1, 2, 3], steps=6, sampler=sampler, guidance=3., **quiet)
    assert counting.asked == [(6, [1, 2, 3, 10, 10, 10])]*6
    counting.asked.clear(); sample(counting, 3, [1, 2, 3], steps=6, sampler=sampler, **quiet)
    # with labels and without guidance: one row each
    assert counting.asked == [(3, [1, 2, 3])]*6


def test_labels_matter_without_guidance_and_models_without_labels_work(model):
    "Class-conditional without guidance: Latte's own script stops there."
    how = quiet | dict(steps=4, vae=AsIs())
    a, b = (sample(model, 2, c, **how) for c in (3, 8))
    assert (a - b).abs().mean() > 1e-2
    assert torch.equal(sample(model, 2, 3, guidance=1, **how), a)
    guided = sample(model, 2, 3, guidance=2, **how)
    assert (guided - a).abs().mean() > 1e-3
    free = awake(num_classes=None)
    assert sample(free, 2, **quiet, steps=2).shape == (2, 4, 3, 16, 16)
    with pytest.raises(ValueError, match='needs labels'):
        sample(free, 2, guidance=2, steps=2, **quiet)


def test_a_model_in_training_mode_forgets_no_label(model):
    how = quiet | dict(steps=2, vae=AsIs())
    model.train(); first = sample(model, 20, 3, **how); assert model.training
    model.eval(); assert torch.equal(sample(model, 20, 3, **how), first)


def test_bf16(model):
    how, dtypes = quiet | dict(steps=10, vae=AsIs()), set()
    hook = model.blocks[0].register_forward_hook(lambda m, a, out: dtypes.add(out.dtype))
    handle = [m for m in model.modules() if isinstance(m, nn.Linear)][-1].register_forward_hook(
        lambda m, a, out: dtypes.add(out.dtype))
    try:
        exact = sample(model, 4, precision='fp32', **how)
        assert dtypes == {torch.float32}; half = sample(model, 4, precision='bf16', **how)
    finally: hook.remove(); handle.remove()
    assert torch.bfloat16 in dtypes and half.dtype == torch.float32
    assert 0 < (half - exact).abs().mean() < .02*exact.std()
    # 'auto' follows the surroundings
    with torch.autocast('cpu', torch.bfloat16): assert torch.equal(sample(model, 4, **how), half)


def test_compile_is_asked_for_and_given_back(model, monkeypatch):
    "With a compiler that only counts: the real one takes a minute."
    used = []
    monkeypatch.setattr(nn.Module, 'compile', lambda self, *a, **k: setattr(self,
        '_compiled_call_impl', lambda *b, **c: used.append(self) or self._call_impl(*b, **c)))
    plain = sample(model, 2, steps=3, **quiet)
    assert not used
    for how, n in (('blocks', len(model.blocks)), ('whole', 1)):
        used.clear(); assert torch.equal(sample(model, 2, steps=3, compile=how, **quiet), plain)
        assert len(used) == 3*n and all(m._compiled_call_impl is None for m in model.modules())
    with pytest.raises(RuntimeError, match='stop'), compiled(model, 'blocks'):
        raise RuntimeError('stop')
    assert all(m._compiled_call_impl is None for m in model.modules())
    with pytest.raises(ValueError, match="'no', 'blocks' or 'whole'"):
        sample(model, 2, compile='all', **quiet)


class Elsewhere(nn.Module):
    "A decoder on a device of its own, that records where its latents came from."
    def __init__(self):
        super().__init__(); self.p, self.seen = nn.Parameter(torch.zeros(1, device='meta')), []
    def decode(self, z):
        self.seen.append((z.device.type, z.dtype)); return torch.zeros(len(z), 4, 3, 16, 16)


def test_decoding_happens_where_the_decoder_is(model):
    there = Elsewhere(); sample(model, 3, steps=2, vae=there, batch=2, precision='bf16', **quiet)
    assert there.seen == [('meta', torch.float32)]*2

    # not a module: latents come to the CPU
    class Plain:
        def decode(self, z): assert z.device.type == 'cpu'; return z[:, :, :3]
    assert sample(model, 3, steps=2, vae=Plain(), **quiet).shape == (3, 4, 3, 4, 4)


def test_a_run_samples_with_its_average(run):
    how = quiet | dict(n=3, steps=3)
    average, last = run.model(ema=True), run.model(ema=False)
    known = how | dict(vae=run.vae, objective=run.objective)
    assert torch.equal(sample(run, **how), sample(average, **known))
    assert (torch.equal(sample(run, ema=False, **how), sample(last, **known))
        and not torch.equal(sample(run, **how), sample(run, ema=False, **how)))
    assert (torch.equal(sample(run, checkpoint=2, **how), sample(run.model(step=2), **known))
        and not torch.equal(sample(run, checkpoint=2, **how), sample(run, **how)))
    assert ('weight average of step 4' in str(Sampling(run)) and 'last weights' in str(Sampling(run,
        ema=False)))


def test_trajectory_ends_in_the_video(model):
    walk = trajectory(model, 3, index=2, moments=None, steps=5)
    assert len(walk['times']) == 5 and walk['label'] == 3
    torch.testing.assert_close(walk['believes'][-1], sample(model, 3, 3, steps=5, **quiet)[2],
        atol=1e-4, rtol=1e-4)


def test_missing_files_are_made_again_and_no_others(run, whole, tmp_path):
    folder = tmp_path/'set'; shutil.copytree(whole, folder)
    for i in (2, 3, 9): (folder/f'{i:05d}.npy').unlink()
    with pytest.raises(FileNotFoundError, match='3 of 10 videos are missing'): read_samples(folder)
    before = {p.name: p.stat().st_mtime_ns for p in folder.glob('*.npy')}
    sample_to(folder, run, 10, **fast)
    assert {k: (folder/k).stat().st_mtime_ns for k in before} == before
    assert torch.equal(read_samples(folder)[0], read_samples(whole)[0])
    # more of the same
    sample_to(folder, run, 12, **fast); assert len(read_samples(folder)[0]) == 12
    assert torch.equal(read_samples(folder)[0][:10], read_samples(whole)[0])


def test_killed_and_going_on(run, whole, tmp_path):
    "SIGKILL in the middle of a file: what is under a final name is whole, and the leftovers go."
    folder, code = tmp_path/'set', f'''
import os, signal, numpy as np
from align4gen import sample_folder as s
from align4gen.run import Run
save, n = np.save, [0]
def dying(part, array):
    n[0] += 1
    if n[0] == 7: open(part, 'wb').write(b'half'); os.kill(os.getpid(), signal.SIGKILL)
    save(part, array)
np.save = dying
s.sample_to({str(tmp_path/"set")!r}, Run({str(run.path)!r}), 10, **{fast})'''
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=100,
        env=os.environ | dict(OMP_NUM_THREADS='1'))
    assert done.returncode == -9, done.stderr[-2000:]
    assert len([*folder.glob('[!.]*.npy')]) == 6 and len([*folder.glob('.*.part.*')]) == 1
    sample_to(folder, run, 10, **fast)
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in whole.iterdir())
    assert (read_samples(folder)[0].int() - read_samples(whole)[0].int()).abs().max() <= 1


@pytest.mark.parametrize('changed, says', [(dict(steps=4), 'steps: 3 there, 4 asked'),
    (dict(sampler='heun'), 'sampler'), (dict(guidance=2.), 'guidance'), (dict(seed=1),
    'seed: 0 there, 1 asked'), (dict(ema=False), 'last weights'),
                                           (dict(checkpoint=2), 'weights'), (dict(precision='bf16'),
                                           'bf16'), (dict(classes=3), 'class 0 there, 3 asked'),
                                           (dict(n=9), '10 videos there, only 9 asked'),
                                           (dict(format='gif'), 'format: npy there, gif asked')],
                                           ids=lambda c: str(c)[:24])
def test_a_folder_of_other_videos_is_refused(run, whole, changed, says):
    before = (whole/'manifest.json').read_text()
    with pytest.raises(ValueError, match='take another folder') as e:
        sample_to(whole, run, **dict(n=10, **fast) | changed)
    assert says in str(e.value) and (whole/'manifest.json').read_text() == before


def test_a_folder_without_a_manifest_and_one_of_another_model_are_refused(run, whole, model,
    tmp_path):
    stray = tmp_path/'stray'; stray.mkdir(); shutil.copy(whole/'00000.npy', stray)
    with pytest.raises(ValueError, match='no manifest.json'): sample_to(stray, run, 2, **fast)
    with pytest.raises(ValueError, match='weights'): sample_to(whole, model, 10, **fast)


def test_what_the_manifest_says(run, whole):
    said = json.loads((whole/'manifest.json').read_text())
    assert (said['weights']['ema'] is True and 'EMA' in said['weights']['kind']
        and said['weights']['step'] == 4 and len(said['weights']['hash']) == 16)
    assert ((said['sampler'], said['steps'], said['guidance'], said['seed'], said['precision'],
        said['n']) == ('euler', 3, 1., 0, 'fp32', 10))
    assert ([*said['files'].values()] == [i % 10 for i in range(10)]
        and said['made_with'][0]['torch'] == torch.__version__ and 'Flow' in said['objective'])


def test_a_version_change_on_the_way_is_written_down(run, whole, tmp_path, monkeypatch):
    folder = tmp_path/'set'
    shutil.copytree(whole, folder)
    (folder/'00001.npy').unlink()
    monkeypatch.setattr('align4gen.sample_folder.made_with', lambda: dict(version='99'))
    with pytest.warns(UserWarning, match='was begun with'): sample_to(folder, run, 10, **fast)
    assert ([m['version'] for m in read_samples(folder)[2]['made_with']][-1] == '99'
        and len(read_samples(folder)[2]['made_with']) == 2)


def test_two_processes_write_what_one_writes(run, whole, tmp_path):
    folder = tmp_path/'set'
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node',
        '2', '--', shutil.which('align4gen_sample'), str(run.path), '--n', '10', '--steps', '3',
        '--batch', '4', '--format', 'npy', '--out', str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=os.environ
        | dict(OMP_NUM_THREADS='1'))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count('videos:') == 1                                  # one of them reports
    (a, _, there), (b, _, _) = read_samples(folder), read_samples(whole)
    assert ((a.int() - b.int()).abs().max() <= 1 and sorted(p.name
        for p in folder.iterdir()) == sorted(p.name for p in whole.iterdir()))
    drop = lambda m: {k: v for k, v in m.items() if k not in ('run', 'fps')}
    assert drop(there) == drop(read_samples(whole)[2])


def test_parts_of_three_in_any_order(run, whole, tmp_path):
    counts = []
    for k in (1, 2, 0):
        sample_to(tmp_path/'set', run, 10, part=(k, 3), **fast)
        counts.append(len([*(tmp_path/'set').glob('*.npy')]))
    assert (counts == [4, 6, 10] and torch.equal(read_samples(tmp_path/'set')[0],
        read_samples(whole)[0]))


@pytest.mark.parametrize('wrong, says', [(dict(sampler='ode45'), "no sampler 'ode45'"),
    (dict(steps=0), '1 or more'), (dict(n=0), 'at least 1'), (dict(batch=0), 'at least 1'),
    (dict(classes=10), '0 to 9'),
                                         (dict(classes=[1, 2]), '2 classes for 4'),
                                         (dict(classes=.5), 'integers'), (dict(precision='fp8'),
                                         "'fp32' or 'bf16'")], ids=lambda w: str(w)[:20])
def test_errors(model, wrong, says):
    with pytest.raises(ValueError) as e: sample(model, **dict(n=4, **quiet) | wrong)
    assert says in str(e.value)


def test_more_errors(model, tmp_path, capsys):
    with pytest.raises(TypeError, match='Run\\(folder\\)'): sample('runs/digits')
    with pytest.raises(ValueError, match="'mp4', 'gif' or 'npy'"):
        sample_to(tmp_path, model, 2, format='avi')
    with pytest.raises(SystemExit) as e: align4gen_sample([str(tmp_path/'none')])
    assert e.value.code == 2 and 'is not a run' in capsys.readouterr().err.splitlines()[-1]


def test_a_borrowed_run_stays_as_it_is(tmp_path, monkeypatch, capsys):
    "A run of the package: pictures go to the folder one is in, and the command says so."
    from align4gen.sample_folder import samples_folder
    from align4gen.run import Run, example_run
    run = example_run()
    before = sorted(run.path.rglob('*'))
    monkeypatch.chdir(tmp_path)
    assert align4gen_sample([str(run.path), '--n', '2', '--steps', '2']) == 0
    said = capsys.readouterr().out
    assert (sorted(run.path.rglob('*')) == before
        and len([*(tmp_path/'samples'/'digits').glob('sample-seed0*')]) == 4
        and 'samples/digits' in said and 'not yours' in said)
    assert samples_folder(run.trim(tmp_path/'mine')) == tmp_path/'mine'/'samples'
    # a disk that says no
    monkeypatch.setattr(os, 'access', lambda path, mode: False)
    assert str(samples_folder(Run(tmp_path/'mine'))) == 'samples/mine'


# The samplers, beside those of diffusers

W = torch.randn(8, 8, generator=torch.Generator().manual_seed(5)) / 8**.5
noise = torch.randn(64, 8, generator=torch.Generator().manual_seed(6))
betas = dict(beta_start=1e-4, beta_end=.02)


def toy(x, t): return .9*x*t[:, None].sqrt() + .3*(x @ W).tanh()


def at(objective, given):
    "The objective, asked at somebody else's times."
    return type('Theirs', (type(objective),), dict(times=lambda self, steps: given))()


def theirs(scheduler, x, flow, scaled=False):
    "What their scheduler makes of the toy model; of a flow, their velocity points to the noise."
    for k, sigma in zip(scheduler.timesteps, scheduler.sigmas if hasattr(scheduler, 'sigmas')
            else scheduler.timesteps):
        t = sigma if flow else (k/1000).float()
        x = (scheduler.step((-1 if flow else 1)*toy(scheduler.scale_model_input(x, k) if scaled
            else x, t.expand(len(x))), k, x).prev_sample)
    return x


def near(a, b): torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('n', [1, 7, 12, 50])
def test_ddim_and_euler_are_those_of_diffusers(n):
    from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
    s = DDIMScheduler(clip_sample=False, **betas); s.set_timesteps(n)
    near(Diffusion().sample(toy, noise, n, sampler='ddim'), theirs(s, noise, False))
    s = FlowMatchEulerDiscreteScheduler(); s.set_timesteps(n)
    near(at(Flow(), s.sigmas[:-1].tolist()).sample(toy, noise, n), theirs(s, noise, True))


@pytest.mark.parametrize('n', [2, 12, 30])
def test_heun_is_that_of_diffusers(n):
    from diffusers import FlowMatchHeunDiscreteScheduler, HeunDiscreteScheduler
    s = FlowMatchHeunDiscreteScheduler()
    s.set_timesteps(n)
    given = s.timesteps.div(1000).unique().flip(0).tolist()
    near(at(Flow(), given).sample(toy, noise, 2*n-1, sampler='heun'), theirs(s, noise, True))
    s = HeunDiscreteScheduler(beta_schedule='linear', timestep_spacing='leading', **betas)
    s.set_timesteps(n)
    given, top = s.timesteps.div(1000).unique().flip(0).tolist(), s.sigmas[0]
    near(at(Diffusion(), given).sample(toy, noise*s.init_noise_sigma/(top**2+1)**.5, 2*n-1,
        sampler='heun'), theirs(s, noise*s.init_noise_sigma, False, True))


@pytest.mark.parametrize('n', [2, 5, 14, 50])
@pytest.mark.parametrize('flow', [True, False], ids=['flow', 'diffusion'])
def test_dpm_is_that_of_diffusers(n, flow):
    from diffusers import DPMSolverMultistepScheduler
    s = DPMSolverMultistepScheduler(solver_order=2, final_sigmas_type='zero',
        **(dict(use_flow_sigmas=True, prediction_type='flow_prediction') if flow else betas
        | dict(beta_schedule='linear', timestep_spacing='trailing')))
    s.set_timesteps(n)
    given = s.sigmas[:-1].tolist() if flow else s.timesteps.div(1000).tolist()
    near(at(Flow() if flow else Diffusion(), given).sample(toy, noise, n, sampler='dpm++2m'),
        theirs(s, noise, flow))


@pytest.mark.parametrize('sampler, order', [('euler', 1), ('heun', 2), ('dpm++2m', 2)])
def test_errors_fall_at_least_with_the_order(sampler, order):
    "The perfect model of a Gaussian, and the exact end of its path: mu + s*noise."
    mu, s = 1.5, .5
    def model(x, t):
        t = t[:, None]; a = 1-t; r = (x - a*mu)/(a**2*s**2 + t**2); return mu + a*s**2*r - t*r
    z = noise.double()
    off = [(Flow().sample(model, z, n, sampler=sampler) - (mu + s*z)).abs().max().item()
        for n in (16, 32, 64)]
    # 2m is of order 2, less its first-order ends
    assert off[2] < off[0] / {'euler': 3, 'dpm++2m': 4}.get(sampler, 8), off
    # and no better than it can be
    if order == 1: assert off[2] > off[0] / 5


def test_dpm_with_one_question_is_euler_and_ddim():
    for o in (Flow(), Diffusion()):
        near(o.sample(toy, noise, 1, sampler=dpm), o.sample(toy, noise, 1))
