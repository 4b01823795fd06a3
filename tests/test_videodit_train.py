"The loop with a converted image model, a video autoencoder, and images among the videos."
import math
from pathlib import Path

import pytest, torch
from einops import rearrange
from safetensors.torch import load_file

from align4gen import cost, train as training, train_videodit, vae
from align4gen.config import plans
from align4gen.video import to_uint8
from align4gen.dpvae import DPVAE
from align4gen.prompts import TextToVideo
from align4gen.sample import sample
from align4gen.sample_folder import align4gen_sample, read_samples
from align4gen.train_videodit import _is_video_step as sees_video
from align4gen.prompts import PromptTable, digit_captions, embed_captions, random_encoders
from align4gen.run import Run, example_run
from align4gen.build import ready_config
from align4gen.train import Trainer, align4gen_train, train
from align4gen.image_models import image_kinds, sd3, sd3_tiny
from align4gen.videodit import VideoDiT

small = dict(clips=32, batch=8, frames=8, compile='no', precision='fp32', sample_every=0, judge='',
    log_every=1, checkpoint_every=3, sample_steps=2, progress=False)


@pytest.fixture(scope='module')
def dp(tmp_path_factory):
    "A DP-VAE that is not at its start, in a folder."
    torch.manual_seed(0); made = DPVAE.from_2d(vae.load('mini').model)
    with torch.no_grad():
        for p in made.trainable_parameters(): p.add_(.02*torch.randn_like(p))
    return dict(vae='dpvae', weights=f"dpvae={made.save(tmp_path_factory.mktemp('dp'))}")


@pytest.mark.parametrize('how', [dict(), dict(conversion='2d+3d'), dict(patchify='3d'),
    dict(teachers='mini_mae', gamma=.5)], ids=['2d->3d', '2d+3d', '3d patchify', 'aligned'])
def test_joint_training_goes_on_exactly(how, dp, tmp_path, monkeypatch):
    "Six steps at once, and three and three: the same run, images and all."
    options = small | dp | dict(video_share=.5, out=str(tmp_path)) | how
    whole = train('digits-videodit', steps=6, name='whole', **options)
    kinds = [sees_video(whole.config, s) for s in range(6)]
    assert True in kinds and False in kinds
    step = Trainer.train_step
    def interrupted(self, batch, asked=False): return step(self, batch, asked or self.step == 2)
    with monkeypatch.context() as m:
        m.setattr(Trainer, 'train_step', interrupted)
        part = train('digits-videodit', steps=6, name='part', **options)
    assert part.step == 3 and part.stopped
    part = train(resume=part.path, progress=False)
    assert part.log['loss'] == whole.log['loss']
    assert all(torch.equal(a, b) for a, b in zip(part.model().parameters(),
        whole.model().parameters()))
    if how.get('conversion') == '2d+3d':
        from align4gen.image_models import trained_image_dit
        # the image model stays as it was
        assert all(torch.equal(a, b) for a, b in zip(whole.model().image.parameters(),
            trained_image_dit()[0].parameters()))


def test_latents_of_four_frames(dp, tmp_path):
    "Any number of frames goes in, and as many come out, also where the last latent holds fewer."
    for frames in (1, 3, 6, 8):
        run = train('digits', steps=2, name=f'f{frames}', out=str(tmp_path), teachers='mini_mae',
            **small | dp | dict(frames=frames))
        assert (run.model().config['frames'] == -(-frames//4) and sample(run, 2, steps=2,
            progress=False).shape == (2, frames, 3, 16, 16))


def test_image_steps_hold_one_latent(dp):
    config = ready_config('digits-videodit', **{k: v for k, v in small.items() if k != 'progress'}
        | dp | dict(video_share=.5, steps=12))
    memory = Trainer(config).recipe.sources(False)[0]
    assert ([b.mean.shape[1] for b in memory.batches(0)] == [2 if sees_video(config, s) else 1
        for s in range(12)])
    # a resumed run sees the same kinds
    assert next(memory.batches(7)).mean.shape[1] == (2 if sees_video(config, 7) else 1)


def test_given_away_and_read_again(tmp_path):
    run = train('digits-videodit', steps=3, out=str(tmp_path), **small)
    model = VideoDiT.from_pretrained(run.save_pretrained(tmp_path/'given')).eval()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), run.model().parameters()))
    assert 'VideoDiT.from_pretrained' in (tmp_path/'given/README.md').read_text()


def test_errors(tmp_path):
    assert ('1,060,036 = 1,060,036 (image model)' in plans.find('videodit')(ready_config(
        'digits-videodit', precision='fp32'), None, 1))
    with pytest.raises(ValueError, match='no file'):
        train('digits', vae='dpvae', weights=f'dpvae={tmp_path}', out=str(tmp_path), progress=False)
    with pytest.raises(ValueError, match='channels'):
        train('digits-videodit', vae='pixels', out=str(tmp_path), progress=False)
    with pytest.raises(ValueError, match='video_share'):
        ready_config('digits-videodit', data='ucf101', cache=str(tmp_path), video_share=.5, judge='')

# Stable Diffusion 3, in small: two layers, random weights, made-up embeddings

@pytest.fixture(scope='module')
def embedded(tmp_path_factory):
    """Tiny text encoders in a folder, and what they say about the prompts of the digits and about
    three more."""
    encoders = random_encoders(tmp_path_factory.mktemp('encoders'))
    embed_captions([*digit_captions, 'a dog', 'a wave', 'a bird'], encoders,
        text := tmp_path_factory.mktemp('text'), words=16, progress=False)
    return str(encoders), str(text)


@pytest.fixture
def words(embedded, tmp_path):
    "Options of a run that reads prompts."
    return dict(image='sd3-tiny', text=embedded[1], frames=6, guidance=2., out=str(tmp_path/'runs'))


ways = {'2d->3d, pieces': dict(patchify='3d', accumulate=2, checkpointing=True),
    '2d+3d': dict(conversion='2d+3d'), 'aligned': dict(teachers='mini_mae', gamma=.5,
    align_block=1)}

@pytest.mark.parametrize('how', ways.values(), ids=ways)
def test_prompts_train_and_go_on_exactly(how, words, monkeypatch, tmp_path):
    """Six steps at once, and three and three: equal to the last bit; and the run's folder is all
    that its model needs."""
    options = small | words | how | dict(video_share=.5)
    whole, step = train('digits-videodit', steps=6, name='whole', **options), Trainer.train_step
    with monkeypatch.context() as m:
        m.setattr(Trainer, 'train_step', lambda self, batch, asked=False: step(self, batch, asked
            or self.step == 2))
        part = train('digits-videodit', steps=6, name='part', **options)
    assert part.step == 3 and part.stopped
    part = train(resume=part.path, progress=False)
    assert (part.log['loss'] == whole.log['loss']
        and (whole.path/'samples/step-0000006.gif').exists())
    # no table, no image model
    monkeypatch.setattr(PromptTable, '__init__', None)
    monkeypatch.setattr(train_videodit, 'sd3', None)
    one, two, last = part.model(), whole.model(), whole.model(ema=False)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(),
        two.state_dict().values()))
    moved = {k for k, v in last.state_dict().items() if not torch.equal(v, two.state_dict()[k])}
    assert moved and not any(p.requires_grad or p.is_meta for p in one.parameters())
    # what is frozen has no average, no moments, and stays
    if how.get('conversion') == '2d+3d':
        optimiser = load_file(whole.checkpoints[-1]/'optimizer.safetensors')
        assert (not any(k.startswith('image.') for k in moved)
            and not any(k.startswith('model.image.') for k in optimiser))
    small_one = whole.trim(tmp_path/'trimmed').model()
    torch.testing.assert_close(small_one.state_dict(), two.state_dict(), atol=2e-3, rtol=2e-3)


def trainer(words, **changes):
    options = {k: v for k, v in small.items() if k != 'progress'} | words | changes
    return Trainer(ready_config('digits-videodit', steps=2, **options))


def test_a_tenth_of_the_prompts_is_dropped(words):
    t = trainer(words, clips=512, batch=512, video_share=1.)
    batch = next(t.recipe.sources(False)[0].batches(0))
    y = t.recipe.inputs(batch, 0)[2]
    gone = (y.tokens == 0).flatten(1).all(1)
    assert .05 < gone.float().mean() < .15 and torch.equal(gone, (y.pooled == 0).all(1))
    assert torch.equal(y.tokens[~gone], batch.labels.tokens[~gone])


def test_the_loss_knows_which_way_stable_diffusion_looks(words):
    """An image model that answers noise - data, as SD3 does, and is always right: the loss is 0,
    and would not be without the change of sign."""
    t = trainer(words, video_share=1.)
    inputs = t.recipe.inputs(next(t.recipe.sources(False)[0].batches(0)), 0)
    class Right(type(image_kinds['sd3'])):
        def head(self, m, x, c):
            return -rearrange(inputs[3], 'b t c (h p) (w q) -> b t (h w) (p q c)', p=2, q=2)
    t.model.adapter = Right()
    assert t.net(*inputs)[0] < 1e-10
    t.model.adapter.sign = 1.
    assert t.net(*inputs)[0] == pytest.approx(4*inputs[3].square().mean().item(), rel=1e-4)


def hub(folder, **changes):
    "A small SD3 as it lies on the Hub."
    torch.manual_seed(3)
    sd3(**sd3_tiny | dict(in_channels=4, out_channels=4, joint_attention_dim=96,
        pooled_projection_dim=64) | changes).save_pretrained(folder/'transformer')
    return str(folder)


def test_an_image_model_from_a_folder_and_a_second_stage(words, tmp_path):
    "Weights in the Hub's layout; then larger frames, from the first run or from what it gave away."
    words = words | dict(image=hub(tmp_path/'sd3'), patchify='3d')
    first = train('digits-videodit', steps=3, name='first', **small | words)
    theirs, ours = sd3(tmp_path/'sd3').state_dict(), first.model(ema=False).image.state_dict()
    # where it began
    assert (ours.keys() == theirs.keys() and all((ours[k] - v).abs().max() < .1 for k,
        v in theirs.items()))
    first.save_pretrained(tmp_path/'given')
    want = first.model().state_dict()
    for start in (first.path, tmp_path/'given', tmp_path/'given/model.safetensors'):
        second = trainer(words, resolution=32, start=str(start))
        assert second.model.x_embedder.grid_size == (4, 4) and not any(p.is_meta for p in second.model.parameters())
        assert all(torch.equal(v, want[k]) for k, v in second.model.state_dict().items())
    assert math.isfinite(train('digits-videodit', steps=2, name='second', **small | words
        | dict(resolution=32, start=str(first.path))).log['loss'][-1])
    with pytest.raises(ValueError, match='does not fit this model'):
        trainer(words, patchify='2d', start=str(first.path))
    with pytest.raises(ValueError, match='folder without a run'):
        trainer(words, start=str(tmp_path))


def test_what_does_not_fit_is_said(words, tmp_path):
    with pytest.raises(ValueError, match='embeddings of 96 and 64 channels.*reads 16'):
        trainer(words, image=hub(tmp_path/'a', joint_attention_dim=16))
    with pytest.raises(ValueError, match='latents of 16 channels'):
        trainer(words, image=hub(tmp_path/'b', in_channels=16, out_channels=16))
    with pytest.raises(ValueError, match='4096'): trainer(words, image='sd3')
    # the judge reads digits
    with pytest.raises(ValueError, match='leave it empty'): ready_config('digits-videodit', **words)


@pytest.mark.parametrize('name, tokens', [('videodit-320', '9,600'), ('videodit-512', '24,576')])
def test_a_plan_needs_no_files(name, tokens, capsys):
    "No network, no weights, seconds."
    assert align4gen_train(['--preset', name, '--dry_run']) == 0
    said = capsys.readouterr().out
    for part in ('2,030,788,672 = 2,028,328,000', '99,840', '2,360,832',
            f'tokens      {tokens} per clip', 'H200', '40% of', 'no folder yet', '80% clips'):
        assert part in said, part
    assert (align4gen_train(['--preset', name, '--dry_run', '--weights', 'dpvae=none-1', '--image',
        'none-2', '--text', 'none-3', '--root', 'none-4']) == 0)
    again = capsys.readouterr().out
    for part in ('2,030,788,672 = 2,028,328,000', f'tokens      {tokens} per clip',
            'no folder none-1 yet', 'no folder none-2 yet'):
        assert part in again, part
    # a run needs them
    with pytest.raises(SystemExit): align4gen_train(['--preset', name])


def test_videos_of_prompts(words, embedded, tmp_path, capsys):
    "The command and Python; looked up, or read by encoders; and what the folder says."
    run = train('digits-videodit', steps=2, name='talks', **small | words)
    out, options = tmp_path/'set', ['--steps', '2', '--format', 'npy', '--guidance', '2']
    command = [str(run.path), '--out', str(out), *options]
    assert align4gen_sample([*command, '--prompts', 'a dog', 'a wave']) == 0
    videos, told, manifest = read_samples(out)
    assert (told == ['a dog', 'a wave'] and manifest['guidance'] == 2. and videos.shape == (2, 6, 3,
        16, 16))
    expected = sample(run, 2, PromptTable(words['text'])(['a dog', 'a wave']), steps=2, guidance=2.,
        progress=False)
    assert (videos.float() - to_uint8(expected).float()).abs().max() <= 1
    (tmp_path/'list.txt').write_text('a dog\n\na wave\na bird\n')
    (out/'00001.npy').unlink()
    # goes on, and one more
    assert align4gen_sample([*command, '--prompts', str(tmp_path/'list.txt')]) == 0
    assert (read_samples(out)[1] == ['a dog', 'a wave', 'a bird']
        and torch.equal(read_samples(out)[0][:2], videos))
    with pytest.raises(SystemExit):
        align4gen_sample([*command, '--prompts', 'a bird', 'a wave', 'a dog'])
    assert 'prompt a dog there, a bird asked' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        align4gen_sample([*command, '--prompts', 'a cat', '--classes', '1'])
    make = TextToVideo(run, sd3=embedded[0], steps=2, guidance=2.)
    # encoders read what no table holds
    assert len(make(['a cat'], progress=False)) == 1
    torch.testing.assert_close(make(['a dog', 'a wave'], progress=False), expected, atol=1e-3,
        rtol=1e-3)
    assert make('a dog', n=3, progress=False).shape[0] == 3
    with pytest.raises(ValueError, match="'a cat'"): sample(run, 1, 'a cat', progress=False)
    # the run's folder is enough
    moved = Path(words['text']).rename(Path(words['text']).with_name('moved'))
    try:
        again = TextToVideo(Run(run.path), sd3=embedded[0], steps=2, guidance=2.)
        torch.testing.assert_close(again(['a dog', 'a wave'], progress=False), expected, atol=1e-3,
            rtol=1e-3)
        assert (len(TextToVideo(run.trim(tmp_path/'small'), sd3=embedded[0], steps=1)('a cat',
            progress=False)) == 1)
    finally: moved.rename(words['text'])
    with pytest.raises(ValueError, match='prompts was made by other encoders'):
        TextToVideo(run, sd3=random_encoders(tmp_path/'strangers', seed=3))
    (tmp_path/'empty.txt').write_text('\n')
    for what, says in (('empty.txt', 'holds no caption'), ('none.txt', 'no such file')):
        with pytest.raises(SystemExit):
            align4gen_sample([*command, '--prompts', str(tmp_path/what)])
        assert says in capsys.readouterr().err
    with pytest.raises(ValueError, match='this one reads classes'):
        sample(example_run(), 1, sd3=str(embedded[0]), progress=False)
