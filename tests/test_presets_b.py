"The presets of VideoDiT say what its text says, sec. 4.1."
import json

import pytest, torch

from align4gen import vae
from align4gen.config import fill
from align4gen.dpvae import DPLoss
from align4gen.extractors import LPIPS
from align4gen.train_dpvae import (_RandomCrops, _sources, DPVAERecipe, dpvae_presets, random_square,
    ready_dpvae)
from align4gen.video import to_float, write_video


def test_dpvae():
    "600K iterations, batch 8, AdamW at 5e-5; long edge at most 1080, crops of 256, 32 frames at about 25 fps."
    c = ready_dpvae('dpvae-sd3', files=False)
    assert (c.steps, c.batch, c.lr, c.schedule, c.warmup) == (600_000, 8, 5e-5, 'constant', 0)
    assert (c.crop, c.long_side, c.resolution, c.frames, c.fps, c.interval) == ('random', 1080, 256, 32, 25, 1)
    assert (c.recon, c.reg, c.disc, c.lpips, c.pixel, c.perceptual) == (1, 1, .01, .1, 'l2', 'lpips')
    assert c.temporal == 'conv' and c.key_encoder and not c.causal and c.stages in (-1, 2)


@pytest.mark.parametrize('name, side, start', [('videodit-320', 320, ''), ('videodit-512', 512, 'runs/videodit-320')])
def test_videodit(name, side, start):
    "200K iterations at 320, then at 512; 96 frames at about 25 fps; EMA 0.9999, 5e-5, batch 64, 80 % videos."
    c = fill(name, {})
    assert (c.steps, c.batch, c.lr, c.ema, c.schedule) == (200_000, 64, 5e-5, .9999, 'constant')
    assert (c.resolution, c.start, c.frames, c.fps, c.interval) == (side, start, 96, 25, 1)
    assert (c.video_share, c.conversion, c.patchify, c.image, c.vae, c.objective) == (.8, '2d->3d', '3d', 'sd3', 'dpvae', 'flow')


def test_a_tenth_of_the_prompts_is_dropped():
    from align4gen.image_models import sd3, sd3_tiny
    from align4gen.videodit import inflate
    assert inflate(sd3(**sd3_tiny | dict(joint_attention_dim=16, pooled_projection_dim=8))).label_dropout == .1


def test_lpips_needs_its_weights(tmp_path):
    "Not silently another loss: the preset without VGG's weights is an error that names them."
    folder = tmp_path/'sd3'/'vae'
    vae.load('mini').model.save_pretrained(folder)
    (tmp_path/'videos').mkdir()
    with pytest.raises(ValueError, match='lpips=PATH'):
        ready_dpvae('dpvae-sd3', root=str(tmp_path/'videos'), image_vae=str(tmp_path/'sd3'))
    assert isinstance(DPLoss(vae.load('dpvae'), perceptual='lpips', weights='random').perceptual, LPIPS)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "A film of 48 x 96 pixels, each column as bright as its place."
    root = tmp_path_factory.mktemp('films')
    film = torch.arange(96).mul(2).to(torch.uint8).expand(6, 3, 48, 96).contiguous()
    for k in range(4): write_video(root/f'{k}.mp4', film)
    return root


def test_random_crops(folder, monkeypatch):
    "Another square in every visit, the same one in the same visit; the middle without the option."
    how = dict(data='videos', root=str(folder), frames=4, resolution=32, batch=2, workers=0, eval_every=0,
        disc=0., lpips=0., flip=False, clips=0)
    recipe = DPVAERecipe(ready_dpvae('digits', crop='random', long_side=64, **how))
    data = _sources(recipe, False)[0].data
    assert isinstance(data, _RandomCrops)
    # 96 x 48 becomes 64 x 32: where the square lies is read off its brightness
    means = [data[0, visit]['video'].mean().item() for visit in range(8)]
    assert torch.equal(data[0, 3]['video'], data[0, 3]['video']) and len({round(m, 2) for m in means}) > 4
    assert max(means) - min(means) > .1
    still = _sources(DPVAERecipe(ready_dpvae('digits', **how)), False)[0].data
    assert torch.equal(still[0, 0]['video'], still[0, 1]['video'])


def test_long_side():
    "A frame of 2160 x 4320 is halved and halved again, one of 480 x 640 is left as it is, a small one enlarged."
    ramp = torch.arange(4320).div(17).to(torch.uint8).expand(1, 3, 540, 4320)
    # 4320 becomes 1080: a square of 256 pixels spans a quarter of the ramp
    crop = random_square(ramp.contiguous(), 135, 1080, (0, 0))
    want = to_float(ramp)[..., :540].reshape(1, 3, 540, 135, 4).mean(-1)[:, :, ::4]
    assert crop.shape == (1, 3, 135, 135) and (crop - want).abs().max() < .02
    film = torch.randint(0, 256, (2, 3, 480, 640), dtype=torch.uint8)
    assert torch.equal(random_square(film, 256, 1080, (0, 0)), to_float(film)[..., :256, :256])
    assert torch.equal(random_square(film, 256, 1080, (.9999, .9999)), to_float(film)[..., -256:, -256:])
    assert random_square(film[..., :100, :], 256, 1080).shape == (2, 3, 256, 256)


def test_crops_are_for_files():
    with pytest.raises(ValueError, match='videos of your own'): ready_dpvae(crop='random')
    assert {'digits', 'digits-plain', 'dpvae-sd3'} == {*dpvae_presets.names()}
