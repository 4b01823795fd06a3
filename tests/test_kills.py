"SIGKILL at moments nobody chose, while a run trains, saves, measures and ends: what comes out is what would have come out."
import pytest, torch

from align4gen import vae
from align4gen.dpvae import DPVAE
from align4gen.train import train
from align4gen.train_dpvae import train_dpvae
from kills import finish, killed, newest, same_folders, start

every = dict(checkpoint_every=1, log_every=2, eval_every=4, eval_clips=4, sample_every=0,
    precision='fp32', compile='no')
settings = dict(
    vdit=dict(clips=64, batch=8, steps=60, teachers='mini_random', mapper_hidden=32, judge='', keep=3,
        sample_steps=2),
    videodit=dict(clips=32, batch=8, frames=8, steps=20, judge='', sample_steps=2, video_share=.5),
    dpvae=dict(clips=32, batch=4, steps=50, critic_width=8, critic_layers=1, lpips=0.,
        adversarial_start=3))


def work(kind, out, changes):
    "Begin a run, or go on with it."
    learn, preset = (train_dpvae, 'digits') if kind == 'dpvae' else (train,
        'digits' if kind == 'vdit' else 'digits-videodit')
    run = out/'run'
    if (run/'config.json').exists(): return learn(resume=run, progress=False)
    learn(preset, **every | settings[kind] | changes, out=str(out), name='run', progress=False)


@pytest.fixture(scope='module')
def dp(tmp_path_factory):
    "A DP-VAE in a folder."
    torch.manual_seed(0)
    made = DPVAE.from_2d(vae.load('mini').model)
    return dict(vae='dpvae', weights=f"dpvae={made.save(tmp_path_factory.mktemp('dp'))}")


@pytest.mark.parametrize('kind, kills', [('vdit', 8), ('videodit', 4), ('dpvae', 4)])
def test_kills(kind, kills, dp, tmp_path):
    "Saves included; with those of test_kill.py, 21 in all."
    changes = dp if kind == 'videodit' else {}
    def begin_in(out): return lambda: start(work, kind, tmp_path/out, changes)
    finish(begin_in('whole'))
    run, begin = tmp_path/'killed'/'run', begin_in('killed')
    saving = lambda: any(run.glob('checkpoints/tmp-*'))
    assert killed(begin, lambda: newest(run), kills, inside=saving) == kills
    assert 0 < newest(run) < settings[kind]['steps']
    finish(begin)
    same_folders(run, tmp_path/'whole'/'run')
