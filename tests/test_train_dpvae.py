("A DP-VAE is trained by the loop of `train`: killed and continued to the last bit, on one "
"process or two, with its own files and errors.")
import json, os, random, signal, subprocess, sys, time
from dataclasses import fields

import pytest, torch
from safetensors.torch import load_file

from align4gen import vae
from align4gen.config import TrainConfig
from align4gen.dpvae import DPVAE, DPLoss, PatchDiscriminator, hinge_loss
from align4gen.run import Run
from align4gen.train import Trainer, clip_gradient, train
from align4gen.train_dpvae import (DPCore, DPVAEConfig, DPVAERecipe, align4gen_train_dpvae,
    build_dpvae, dpvae_presets, measure_dpvae, ready_dpvae, term_names, train_dpvae)

tiny = dict(clips=32, batch=4, steps=8, critic_width=8, critic_layers=1, lpips=0.,
    adversarial_start=3, checkpoint_every=1, log_every=2, eval_every=4, eval_clips=4,
    sample_every=0, precision='fp32')
program = [sys.executable, '-c',
    'import sys; from align4gen.train_dpvae import align4gen_train_dpvae; '
    'sys.exit(align4gen_train_dpvae())']


def options(out, **more):
    return [f'--{k}={v}' for k, v in {**tiny, 'out': out, 'name': 'run', **more}.items()]


def same(run, whole):
    for name in ('log.csv', 'eval.csv'):
        assert (run.path/name).read_text() == (whole.path/name).read_text()
    for name in ('model', 'ema', 'discriminator', 'optimizer'):
        a, b = (load_file(r.checkpoints[-1]/f'{name}.safetensors') for r in (run, whole))
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a), name


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "A run that nobody interrupted; two pieces a step."
    return train_dpvae(**tiny, accumulate=2, out=str(tmp_path_factory.mktemp('whole')), name='run',
        progress=False)


class Killed(BaseException): pass


def test_sigkill_then_resume(whole, tmp_path):
    "Killed at a moment nobody chose, after the critic began."
    p = subprocess.Popen([*program, *options(tmp_path, accumulate=2)], stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True)
    end = time.time() + 120
    while (p.poll() is None and time.time() < end
            and not (tmp_path/'run/checkpoints/step-0000004').exists()):
        time.sleep(.005)
    time.sleep(random.Random(0).random()*.1)
    p.send_signal(signal.SIGKILL)
    p.wait()
    assert 4 <= Run(tmp_path/'run').step < 8
    same(train_dpvae(resume=tmp_path/'run', progress=False), whole)


@pytest.mark.parametrize('piece', [1, 2])
def test_torn_inside_a_step(whole, tmp_path, monkeypatch, piece):
    "Torn after the first or the second piece of step 6 went through: nothing of it stays."
    forward, calls = DPCore.forward, []
    def torn(self, *args):
        calls.append(1)
        if len(calls) == 10 + piece: raise Killed
        return forward(self, *args)
    monkeypatch.setattr(DPCore, 'forward', torn)
    with pytest.raises(Killed):
        train_dpvae(**tiny, accumulate=2, out=str(tmp_path), name='run', progress=False)
    monkeypatch.undo()
    assert Run(tmp_path/'run').step == 5
    same(train_dpvae(resume=tmp_path/'run', progress=False), whole)


def test_the_critic_begins_when_it_should(whole):
    "Before its start its weights are those it began with; afterwards they move."
    log = whole.log
    assert (log['step'] == [2, 4, 6, 8] and log['critic'][0] == log['disc'][0] == 0 and all(v > 0
        for v in log['critic'][1:]))


def test_a_critic_without_a_start_does_not_move(tmp_path):
    run = train_dpvae(**tiny | dict(steps=2, adversarial_start=100, eval_every=0),
        out=str(tmp_path), name='run', progress=False)
    torch.manual_seed(0)
    config = run.config
    build_dpvae(config)
    want = PatchDiscriminator(8, 1).state_dict()
    got = load_file(run.checkpoints[-1]/'discriminator.safetensors')
    assert all(torch.equal(got[k], v) for k, v in want.items())


def test_rotten_step_is_skipped(tmp_path, monkeypatch):
    """Nothing moves, neither weights nor average nor critic nor optimiser; too many in a row end
    the run with advice."""
    trainer = Trainer(ready_dpvae(**tiny))
    source, _ = trainer.recipe.sources(False)
    batch = next(source.batches(0))
    trainer.step = 3
    trainer.train_step(batch)
    before = {k: v.clone() for k, v in [*trainer.recipe.net.named_parameters(), *trainer.average.items()]}
    # what is learnt is not looked at, so that the numbers reach the step
    def rotten(b): return b._replace(mean=(b.mean*float('nan')).requires_grad_())
    row = trainer.train_step(rotten(batch))
    assert row['skipped'] == 1 and trainer.skipped == 1
    assert all(torch.equal(v, before[k]) for k, v in [*trainer.recipe.net.named_parameters(),
        *trainer.average.items()])
    assert (trainer.train_step(batch)['skipped'] == 0 and any(not torch.equal(v, before[k]) for k,
        v in trainer.recipe.net.named_parameters()))
    inputs = DPVAERecipe.inputs
    monkeypatch.setattr(DPVAERecipe, 'inputs', lambda self, b, step: inputs(self, rotten(b), step))
    with pytest.raises(FloatingPointError, match='3 steps in a row.*Lower lr .* or disc'):
        train_dpvae(**tiny | dict(patience=3), out=str(tmp_path), name='rotten', progress=False)


def test_two_processes_are_one(tmp_path):
    "Each with half of the clips, in two pieces."
    settings = dict(steps=4, adversarial_start=1, eval_every=0, checkpoint_every=4, log_every=1)
    one = train_dpvae(**tiny | settings, out=str(tmp_path), name='one', progress=False)
    script = tmp_path/'go.py'
    script.write_text(
        'import sys; from align4gen.train_dpvae import align4gen_train_dpvae\nif __name__ == '
        '"__main__": sys.exit(align4gen_train_dpvae())')
    done = subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--standalone',
        '--nproc_per_node', '2', str(script), *options(tmp_path, name='two', accumulate=2,
        **settings)],
                          capture_output=True, text=True, timeout=300, env=os.environ
                          | dict(OMP_NUM_THREADS='1'))
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count('2 processes') == 1
    two = Run(tmp_path/'two')
    for k, v in one.log.items(): assert two.log[k] == pytest.approx(v, rel=1e-4, abs=1e-6), k
    for name in ('model', 'ema', 'discriminator'):
        a, b = (load_file(r.checkpoints[-1]/f'{name}.safetensors') for r in (two, one))
        for k in a: assert (a[k] - b[k]).abs().max() <= 1e-5 * max(1, b[k].abs().max()), (name, k)


def test_one_backward_is_two():
    "The sum's gradients are those of the two passes, each side's own."
    torch.manual_seed(0)
    core, clips = (DPCore(DPVAE.from_2d(vae.load('mini').model), lpips=0,
        critic=PatchDiscriminator(8, 2)), torch.rand(2, 8, 3, 16, 16)*2 - 1)
    gradients = lambda: {k: p.grad.clone() for k, p in core.named_parameters()
        if p.grad is not None}
    core.total(dict(zip(term_names, core(clips, clips)))).backward()
    one = gradients()
    core.zero_grad()
    terms = DPLoss.forward(core, clips)
    core.total({k: v for k, v in terms.items() if k != 'critic'}).backward()
    net, x_hat = core.discriminator, core.vae(clips)[0].detach()
    hinge_loss(net(clips), net(x_hat)).backward()
    two = gradients()
    assert one.keys() == two.keys()
    for k in one: torch.testing.assert_close(one[k], two[k], atol=1e-5, rtol=1e-3)


def test_each_side_is_clipped_by_itself(tmp_path):
    trainer = Trainer(ready_dpvae(**tiny | dict(clip=1e-3)))
    batch = next(trainer.recipe.sources(False)[0].batches(0))
    trainer.step = 3
    trainer.gradient(trainer.recipe.inputs(batch, 3))
    clip_gradient(trainer)
    sides = {critic: torch.stack([p.grad.norm() for n, p in trainer.params.items()
        if n.startswith('discriminator') == critic]).norm().item() for critic in (False, True)}
    assert sides == pytest.approx({False: 1e-3, True: 1e-3}, rel=1e-2)


def folder(path, widths=(8, 16), **more):
    from diffusers import AutoencoderKL
    n = len(widths)
    AutoencoderKL(block_out_channels=widths, layers_per_block=1, latent_channels=4,
        norm_num_groups=4, down_block_types=('DownEncoderBlock2D',)*n,
        up_block_types=('UpDecoderBlock2D',)*n, **more).save_pretrained(path)
    return str(path)


@pytest.mark.parametrize('preset', dpvae_presets)
def test_every_preset_is_valid(preset, tmp_path):
    more = {}
    if preset == 'dpvae-sd3':
        home = folder(tmp_path/'sd3'/'vae').removesuffix('/vae')
        more = dict(root=str(tmp_path), image_vae=home, weights='lpips=random')
    config = ready_dpvae(preset, **more)
    assert config.preset == preset and config.precision != 'auto'
    assert build_dpvae(config).temporal_stride in (2, 4)


def test_every_field_is_read():
    """Fields of our own in this module; shared ones are those of TrainConfig, which has its own
    test."""
    import ast
    from align4gen import train_dpvae as module
    nodes = ast.walk(ast.parse(open(module.__file__, encoding='utf-8').read()))
    read = {n.attr for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load)
        and getattr(n.value, 'id', getattr(n.value, 'attr', None)) in ('c', 'config')}
    own = ({f.name for f in fields(DPVAEConfig)} - {f.name for f in fields(TrainConfig)} | {'start',
        'weights', 'preset', 'checkpointing', 'compile', 'precision', 'eval_every', 'resolution'})
    assert own - read == set()


def test_an_autoencoder_from_a_folder(tmp_path):
    "Any diffusers AutoencoderKL; afterwards the run opens without it, also trimmed and given away."
    home = folder(tmp_path/'vae')
    run = train_dpvae(**tiny | dict(steps=1, adversarial_start=0, eval_every=1), image_vae=home,
        temporal='attention', out=str(tmp_path), name='run', progress=False)
    (tmp_path/'vae').rename(tmp_path/'moved')
    model, clips = run.model(), torch.rand(2, 8, 3, 16, 16)*2 - 1
    assert (model.settings['temporal'] == 'attention' and model.temporal_stride == 2
        and not any(p.requires_grad for p in model.parameters()))
    assert set(measure_dpvae(model, clips)) >= {'psnr', 'ssim', 'image', 'residual', 'guess'}
    assert torch.equal(DPVAE.from_pretrained(run.save_pretrained(tmp_path/'gift')).encode(clips),
        model.encode(clips))
    small = run.trim(tmp_path/'small')
    assert (type(small) is Run
        and (small.model().encode(clips) - model.encode(clips)).abs().max() < .1
        and (small.path/'eval.csv').exists())
    assert {'psnr', 'image', 'residual'} <= json.loads((run.path/'summary.json').read_text()).keys()


def test_start_from_a_saved_one(tmp_path):
    given = build_dpvae(ready_dpvae(start='random')).save(tmp_path/'given')
    torch.manual_seed(5)
    again = build_dpvae(ready_dpvae(start=str(given)))
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(),
        DPVAE.from_pretrained(given).state_dict().values()))
    with pytest.raises(ValueError, match='does not fit this model'):
        build_dpvae(ready_dpvae(start=str(given), stages=1))


def test_runs_are_not_mixed_up(whole, tmp_path):
    "A run knows by itself what kind it is."
    assert type(Run(whole.path).config) is DPVAEConfig
    other = train(clips=16, batch=4, steps=1, teachers='', judge='', compile='no', sample_steps=1,
        out=str(tmp_path), name='vdit', progress=False)
    assert type(Run(other.path).config) is TrainConfig
    with pytest.raises(ValueError, match='leave out lr'): train_dpvae(resume=whole.path, lr=1.)


def test_help(capsys):
    "Every field is an option, and a dry run needs no file."
    named = {o['name'] for o in align4gen_train_dpvae.options()}
    assert {f.name for f in fields(DPVAEConfig)} <= named
    assert align4gen_train_dpvae(['--preset', 'dpvae-sd3', '--dry_run', '--device', 'h100']) == 0
    assert '600,000' in capsys.readouterr().out


@pytest.mark.parametrize('wrong, says', [({'reg': -1}, 'reg=-1'), ({'batch': 64}, 'batch=64'),
    ({'image_vae': 'nowhere'}, "image_vae='nowhere' is neither"), ({'resolution': 18},
    'multiple of 4'),
                                         ({'start': 'nowhere'}, "start='nowhere'"),
                                         ({'perceptual': 'lpips', 'weights': 'lpips=nowhere.safetensors', 'lpips': .1},
                                         'nowhere.safetensors'), ({'ema': 1}, 'ema'), ({'gama': 1},
                                         'no option --gama')])
def test_bad_input_is_one_line(wrong, says, tmp_path, capsys):
    with pytest.raises(SystemExit) as e: align4gen_train_dpvae(options(tmp_path, **wrong))
    assert (e.value.code == 2 and says in capsys.readouterr().err.splitlines()[-1]
        and not (tmp_path/'run').exists())


def test_a_run_of_an_earlier_version_opens(tmp_path):
    "Its words for weights, booleans and the perceptual loss are translated."
    from align4gen.config import read_config
    old = dict(preset='digits', image_vae='sd14', image_vae_weights='', lpips_weights='vgg.safetensors',
        causal='yes', key_encoder='no', flip='auto', checkpointing='no', steps=7)
    (tmp_path/'config.json').write_text(json.dumps(old))
    with pytest.warns(UserWarning, match='taking the defaults'):
        c = read_config(tmp_path/'config.json')
    assert (c.kind, c.causal, c.key_encoder, c.flip, c.steps) == ('dpvae', True, False, None, 7)
    assert (c.weights, c.perceptual) == ('sd14=random,lpips=vgg.safetensors', 'lpips')
