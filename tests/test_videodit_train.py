"The loop with a converted image model, a video autoencoder, and images among the videos."
import pytest, torch

from align4gen import vae
from align4gen.config import make_config
from align4gen.dpvae import DPVAE
from align4gen.sample import sample
from align4gen.source import Memory, sees_video
from align4gen.train import Run, dry_run, ready_config, train
from align4gen.videodit import VideoDiT

small = dict(clips=32, batch=8, frames=8, compile='no', precision='fp32', sample_every=0, judge='', log_every=1, checkpoint_every=3, sample_steps=2, progress=False)


@pytest.fixture(scope='module')
def dp(tmp_path_factory):
    "A DP-VAE that is not at its start, in a folder."
    torch.manual_seed(0); made = DPVAE.from_2d(vae.load('mini').model)
    with torch.no_grad():
        for p in made.trainable_parameters(): p.add_(.02*torch.randn_like(p))
    return dict(vae='dpvae', vae_weights=str(made.save(tmp_path_factory.mktemp('dp'))))


@pytest.mark.parametrize('how', [dict(), dict(conversion='2d+3d'), dict(patchify='3d'), dict(teachers='mini_mae', gamma=.5)], ids=['2d->3d', '2d+3d', '3d patchify', 'aligned'])
def test_joint_training_goes_on_exactly(how, dp, tmp_path, monkeypatch):
    "Six steps at once, and three and three: the same run, images and all."
    options = small | dp | dict(video_share=.5, out=str(tmp_path)) | how
    whole = train('digits-videodit', steps=6, name='whole', **options)
    kinds = [sees_video(whole.config, s) for s in range(6)]
    assert True in kinds and False in kinds
    from align4gen.train import Trainer
    step = Trainer.train_step
    def interrupted(self, batch, asked=False): return step(self, batch, asked or self.step == 2)
    with monkeypatch.context() as m:
        m.setattr(Trainer, 'train_step', interrupted)
        part = train('digits-videodit', steps=6, name='part', **options)
    assert part.step == 3 and part.stopped
    part = train(resume=part.path, progress=False)
    assert part.log['loss'] == whole.log['loss']
    assert all(torch.equal(a, b) for a, b in zip(part.model().parameters(), whole.model().parameters()))
    if how.get('conversion') == '2d+3d':
        from align4gen.videodit import trained_image_dit
        assert all(torch.equal(a, b) for a, b in zip(whole.model().image.parameters(), trained_image_dit()[0].parameters()))   # the image model stays as it was


def test_latents_of_four_frames(dp, tmp_path):
    "Any number of frames goes in, and as many come out, also where the last latent holds fewer."
    for frames in (1, 3, 6, 8):
        run = train('digits', steps=2, name=f'f{frames}', out=str(tmp_path), teachers='mini_mae', **small | dp | dict(frames=frames))
        assert run.model().config['frames'] == -(-frames//4) and sample(run, 2, steps=2, progress=False).shape == (2, frames, 3, 16, 16)


def test_image_steps_hold_one_latent(dp):
    config = ready_config('digits-videodit', **{k: v for k, v in small.items() if k != 'progress'} | dp | dict(video_share=.5, steps=12))
    memory = Memory(config, (4, 4), progress=False)
    assert [b.mean.shape[1] for b in memory.batches(0)] == [2 if sees_video(config, s) else 1 for s in range(12)]
    assert next(memory.batches(7)).mean.shape[1] == (2 if sees_video(config, 7) else 1)       # a resumed run sees the same kinds


def test_given_away_and_read_again(tmp_path):
    run = train('digits-videodit', steps=3, out=str(tmp_path), **small)
    model = VideoDiT.from_pretrained(run.save_pretrained(tmp_path/'given')).eval()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), run.model().parameters()))
    assert 'VideoDiT.from_pretrained' in (tmp_path/'given/README.md').read_text()


def test_errors(tmp_path):
    with pytest.raises(ValueError, match='V-DiT only'): dry_run(ready_config('digits-videodit', precision='fp32'))
    with pytest.raises(ValueError, match='no file'): train('digits', vae='dpvae', vae_weights=str(tmp_path), out=str(tmp_path), progress=False)
    with pytest.raises(ValueError, match='channels'): train('digits-videodit', vae='pixels', out=str(tmp_path), progress=False)
    with pytest.raises(ValueError, match='video_share'): make_config(data='ucf101', cache=str(tmp_path), video_share=.5, judge='')
