"""The DP-VAE from the outside: any image autoencoder goes in, the contract of 03_vae comes out."""
import json
import pytest, torch
from diffusers import AutoencoderKL, AutoencoderTiny
from safetensors.torch import save_file
from align4gen import vae
from align4gen.dpvae import (DPVAE, DPLoss, PatchDiscriminator, channel_statistics,
    hinge_loss, regulariser)


def kl(widths, channels, quant, attention=True, layers=1, groups=8, **scaling):
    n = len(widths)
    return AutoencoderKL(block_out_channels=widths, layers_per_block=layers,
        latent_channels=channels, norm_num_groups=groups, sample_size=32,
                         down_block_types=('DownEncoderBlock2D',)*n,
                         up_block_types=('UpDecoderBlock2D',)*n, mid_block_add_attention=attention,
                         use_quant_conv=quant, use_post_quant_conv=quant, **scaling)


makers = dict(sd3=lambda: kl((8, 16, 16, 16), 16, False, scaling_factor=1.5305, shift_factor=.0609),
    sd14=lambda: kl((8, 16, 16, 16), 4, True, scaling_factor=.18215),
              mini=lambda: vae.load('mini').model, two_levels=lambda: kl((8, 16), 4, True),
              one_level=lambda: kl((8,), 4, False))
variants = [dict(), dict(temporal='attention'), dict(key_encoder=False), dict(causal=True),
    dict(stages=1), dict(stages=0)]


def make(name, loud=False, **options):
    "A DP-VAE of a small autoencoder; `loud`: with noise on all trained weights."
    torch.manual_seed(0)
    model = DPVAE.from_2d(makers[name](), **options).eval()
    if loud:
        with torch.no_grad():
            for p in model.trainable_parameters(): p.add_(.05*torch.randn_like(p))
    return model


def clip(t, size=16, b=1, seed=1):
    return torch.rand(b, t, 3, size, size, generator=torch.Generator().manual_seed(seed))*2 - 1


@pytest.mark.parametrize('name', makers)
@pytest.mark.parametrize('options', variants, ids=str)
def test_start_is_the_image_autoencoder(name, options):
    """z = z_k, and D is the 2D decoder on each latent, held; whatever the autoencoder and the
    switches."""
    if options.get('stages', 0) > len(makers[name]().config.block_out_channels) - 1:
        pytest.skip('fewer levels than stages')
    model = make(name, **options)
    q, video, twin = (model.temporal_stride, clip(2*model.temporal_stride, b=2),
        vae.FrameVAE(model.key))
    z = model.encode(video)
    if model.key_encoder: assert torch.equal(z, twin.encode(video[:, ::q]))
    else: torch.testing.assert_close(z, twin.encode(video[:, ::q]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.decode(z, 2*q), twin.decode(z).repeat_interleave(q, 1),
        atol=1e-5, rtol=1e-5)
    assert (model.channels, model.stride) == (twin.channels, twin.stride)


def test_source_is_copied():
    "Training a DP-VAE leaves the autoencoder it came from alone."
    source = makers['sd14']()
    before = {k: v.clone() for k, v in source.state_dict().items()}
    model = DPVAE.from_2d(source)
    with torch.no_grad():
        for p in model.parameters(): p.add_(1)
    assert all(torch.equal(v, before[k]) for k, v in source.state_dict().items())
    assert all(p.requires_grad for p in source.parameters())


@pytest.mark.parametrize('temporal,total', [('conv', 194_975_430), ('attention', 195_504_838)])
def test_parameters_on_sd3(temporal, total):
    "To the unit, on SD3's autoencoder; the paper says 195M."
    with torch.device('meta'):
        model = DPVAE.from_2d(kl((128, 256, 512, 512), 16, False, layers=2, groups=32),
            temporal=temporal)
    n = model.count_parameters()
    assert n['total'] == total == sum(p.numel() for p in model.parameters())
    assert (n['E_k'], n['D_k']) == (34_274_208, 49_545_475)
    assert (n['trained'] == sum(p.numel() for p in model.trainable_parameters())
        and 111e6 < n['trained'] < 112e6)


def seen_by(model, latent, frames):
    x = clip(frames).requires_grad_()
    model.moments(x)[0][:, latent].square().sum().backward()
    return x.grad[0].abs().sum((1, 2, 3)) > 0


@pytest.mark.parametrize('temporal', ['conv', 'attention'])
def test_latents_see_their_gop(temporal):
    "Each latent depends on all frames of its own GoP; causally padded, on none but the key frame."
    for i in range(3):
        assert seen_by(make('sd3', True, temporal=temporal), i, 12)[4*i:4*i+4].all()
        assert (seen_by(make('sd3', True, temporal=temporal, causal=True), i,
            12)[4*i:].tolist() == [True] + [False]*(11 - 4*i))


@pytest.mark.parametrize('name,stages', [('sd14', 2), ('sd14', 1), ('mini', 2), ('two_levels', 1),
    ('one_level', 0)])
def test_any_length(name, stages):
    """Padded at the end, cut again; a length that fits is the same clip; the rest of the padding
    is the last frame."""
    model = make(name, True, stages=stages)
    q = model.temporal_stride
    assert q == 2**stages
    for t in range(2, 10):
        video = clip(t)
        z = model.encode(video)
        assert z.shape[1:] == model.latent_shape(t, 16) and z.shape[1] == -(-t//q)
        assert model.decode(z, t).shape == video.shape
        full = torch.cat([video, video[:, -1:].expand(-1, -t % q, -1, -1, -1)], 1)
        torch.testing.assert_close(model.encode(full), z)


@pytest.mark.parametrize('key_encoder', [True, False])
def test_image_takes_the_2d_path(key_encoder):
    model = make('sd3', True, key_encoder=key_encoder)
    image, twin = clip(1, b=3), vae.FrameVAE(model.key)
    for ours, theirs in zip(model.encode_moments(image), twin.encode_moments(image)):
        torch.testing.assert_close(ours, theirs)
    z = twin.encode(image)
    torch.testing.assert_close(model.decode(z), twin.decode(z))
    assert (model.decode(z, 4).shape[1] == 4 and not torch.allclose(model.decode(z, 4)[:, :1],
        twin.decode(z)))


@pytest.mark.parametrize('temporal', ['conv', 'attention'])
def test_chunks_equal_the_whole(temporal):
    "With the context of the receptive field, and not with none."
    model = make('mini' if temporal == 'conv' else 'two_levels', True, temporal=temporal, window=2)
    video = clip(64 if temporal == 'conv' else 50)
    model.chunk = 10**6
    z = model.encode(video)
    film = model.decode(z, video.shape[1])
    model.chunk = 8
    torch.testing.assert_close(model.encode(video), z, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.decode(z, video.shape[1]), film, atol=1e-4, rtol=1e-4)
    model.overlap = 0
    assert (model.encode(video) - z).abs().max() > 1e-3


def test_still_video_has_still_latents():
    """Edges are repeated, not padded with zeros: a picture that does not move codes to the same
    latent everywhere, ends included."""
    model = make('sd14', True)
    z = model.encode(clip(1).expand(-1, 12, -1, -1, -1))
    torch.testing.assert_close(z, z[:, :1].expand_as(z), atol=1e-5, rtol=1e-5)


def test_receptive_field_is_not_too_small_nor_too_large():
    "The frames that a latent's gradient finds are those that the receptive field promises."
    model = make('two_levels', True)
    first, last = model.E_r.field(0, 0)
    found = seen_by(model, 12, 48).nonzero().flatten()
    assert (found.min().item(), found.max().item()) == (24 + first, 24 + last)


def test_tiles():
    "Same shapes, nearly the same values; exact where the frame is not larger than the tile."
    model = make('two_levels', True)
    video = clip(4, 48)
    z, model.tile = model.encode(video), 24
    tiled = model.encode(video)
    assert tiled.shape == z.shape and 0 < (tiled - z).abs().mean() < .5*z.std()
    assert model.decode(z).shape == video.shape
    small = clip(4, 24)
    inside, model.tile = model.encode(small), None
    assert torch.equal(inside, model.encode(small))
    model.tile = 12
    with pytest.raises(ValueError, match='multiple of 8'): model.encode(video)


def test_scaling_is_owned():
    "Scaled outside, unscaled inside, with shift and factor of the config."
    model, video = make('sd3', True), clip(4)
    mean, std = model.encode_moments(video)
    raw = model.moments(video)[0].chunk(2, 2)
    torch.testing.assert_close(mean, (raw[0] - .0609)*1.5305)
    torch.testing.assert_close(std, (raw[1]/2).exp()*1.5305)
    draws = torch.stack([model.encode(video, sample=True, generator=torch.Generator().manual_seed(
        i)) for i in range(64)])
    assert abs(((draws - mean)/std).std().item() - 1) < .05
    assert make('sd3', True, key_encoder=False).encode_moments(video)[1].abs().max() == 0


@pytest.mark.parametrize('options', [dict(), dict(temporal='attention', key_encoder=False,
    stages=1), dict(causal=True)], ids=str)
def test_save_and_load(tmp_path, options):
    model, video = make('sd14', True, **options), clip(5)
    model.save(tmp_path/'m')
    again = DPVAE.from_pretrained(tmp_path/'m')
    assert (torch.equal(again.encode(video), model.encode(video)) and repr(again) == repr(model)
        and not again.training)
    assert ([p.requires_grad for p in again.parameters()] == [p.requires_grad
        for p in model.parameters()])
    assert sorted(p.name for p in (tmp_path/'m').iterdir()) == ['config.json', 'model.safetensors']


def test_damaged_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match='config.json is missing'):
        DPVAE.from_pretrained(tmp_path)
    make('two_levels').save(tmp_path)
    config = json.loads((tmp_path/'config.json').read_text())
    (tmp_path/'config.json').write_text(json.dumps(config | dict(settings=config['settings']
        | dict(stages=0))))
    with pytest.raises(ValueError, match='do not fit the config'): DPVAE.from_pretrained(tmp_path)
    (tmp_path/'model.safetensors').write_bytes((tmp_path/'model.safetensors').read_bytes()[:1000])
    with pytest.raises(ValueError, match='not a whole'): DPVAE.from_pretrained(tmp_path)
    (tmp_path/'model.safetensors').unlink()
    with pytest.raises(FileNotFoundError, match='model.safetensors'):
        DPVAE.from_pretrained(tmp_path)
    (tmp_path/'config.json').write_text('{"_class_name": "AutoencoderKL"}')
    with pytest.raises(ValueError, match='AutoencoderKL, not a DPVAE'):
        DPVAE.from_pretrained(tmp_path)


def test_gradients_only_where_trained():
    """E_k, D_k, the encoder behind the perceptual loss: frozen, also after `train()`; each side of
    the adversarial loss reaches its own weights only."""
    loss = DPLoss(make('mini', True), critic=PatchDiscriminator(8, 2))
    loss.train()
    terms = loss(clip(8))
    assert list(terms) == ['recon', 'key', 'statistics', 'lpips', 'disc', 'critic']
    critic = terms.pop('critic')
    loss.total(terms).backward()
    for module in (loss.vae.key, loss.perceptual, loss.discriminator):
        assert all(p.grad is None for p in module.parameters())
    trained = loss.vae.trainable_parameters()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)
    assert {id(p) for p in trained} == {id(p) for p in loss.vae.parameters() if p.requires_grad}
    loss.vae.zero_grad()
    critic.backward()
    assert all(p.grad is None for p in loss.vae.parameters())
    assert all(p.grad is not None for p in loss.discriminator.parameters())


def test_regulariser_pulls_latents_back():
    """Gradients go through the frozen D_k: its part falls when z alone is optimised; targets get
    none."""
    model, video = make('mini'), clip(4)
    z_k = model.moments(video)[1].chunk(2, 2)[0]
    keys, z = model.key_decode(z_k).detach(), (z_k + .5).requires_grad_()
    z_k.requires_grad_()
    opt, first = torch.optim.Adam([z], .05), None
    for _ in range(30):
        parts = regulariser(model, keys, z, z_k)
        first = first or {k: v.item() for k, v in parts.items()}
        opt.zero_grad(); sum(parts.values()).backward(); opt.step()
    assert z_k.grad is None and all(parts[k].item() < .5*first[k] for k in ('key', 'mean'))
    mean, std = channel_statistics(torch.randn(2, 50, 3, 20, 20)*2 + 1)
    assert mean.shape == (2, 3) and (mean - 1).abs().max() < .1 and (std - 2).abs().max() < .1


def test_switches_of_table_3():
    "Without E_k the latent is E_r's alone; without the regulariser nothing speaks of z_k."
    video = clip(8)
    for key_encoder in (True, False):
        model = make('mini', True, key_encoder=key_encoder)
        both, z_k = model.moments(video)
        torch.testing.assert_close(both - z_k*key_encoder, model.E_r(video), atol=1e-4, rtol=1e-4)
        with_reg, without = [DPLoss(model, reg=reg, disc=0, lpips=0) for reg in (1, 0)]
        some, few = with_reg(video), without(video)
        assert set(few) == {'recon'} and with_reg.total(some) > without.total(few)
        torch.testing.assert_close(with_reg.total(some), sum(some.values()))


def test_before_the_critic_begins_and_adaptive_weight():
    loss, video = DPLoss(make('mini', True), lpips=0, critic=PatchDiscriminator(8, 2)), clip(4)
    assert 'disc' not in loss(video, False) and 'disc' in loss(video)
    fixed = loss(video)['disc'].item()
    loss.adaptive = True
    adapted = loss(video)['disc']
    assert adapted.isfinite() and adapted.item() != fixed


def test_one_step_learns():
    "A few steps on one clip lower the loss."
    loss, video = DPLoss(make('mini'), disc=0, lpips=0), clip(8)
    opt = torch.optim.AdamW(loss.vae.trainable_parameters(), 1e-3)
    totals = []
    for _ in range(6):
        total = loss.total(loss(video))
        opt.zero_grad()
        total.backward()
        opt.step()
        totals.append(total.item())
    assert totals[-1] < totals[0]


def test_checkpointing_changes_nothing():
    model, video = make('two_levels', True), clip(4)
    grads = []
    for model.E_r.checkpointing in (False, True):
        model.D.checkpointing = model.E_r.checkpointing
        model.zero_grad(); model(video)[0].square().mean().backward()
        grads.append([p.grad.clone() for p in model.trainable_parameters() if p.grad is not None])
    for a, b in zip(*grads, strict=True): torch.testing.assert_close(a, b)


def test_errors(tmp_path):
    for bad, says in ((vae.load('mini'), 'pass its .model'), (AutoencoderTiny(),
            'not AutoencoderTiny'), (torch.nn.Linear(1, 1), 'not Linear')):
        with pytest.raises(ValueError, match=says): DPVAE.from_2d(bad)
    with pytest.raises(ValueError, match='0 to 1 times'): make('two_levels', stages=2)
    with pytest.raises(ValueError, match="'conv' or 'attention'"):
        make('two_levels', temporal='lstm')
    model = make('two_levels')
    for bad, says in ((clip(4)[0], '5 axes'), (clip(4)[..., :15], 'multiples of 2'),
            (clip(4)[:, :, :2], '3 channels'), (clip(4).byte(), 'floating point')):
        with pytest.raises(ValueError, match=says): model.encode(bad)
    with pytest.raises(ValueError, match='3 to 4 frames, not 5'):
        model.decode(torch.zeros(1, 2, 4, 8, 8), 5)
    with pytest.raises(ValueError, match='4 channels'): model.decode(torch.zeros(1, 2, 3, 8, 8))
    with pytest.raises(ValueError, match='negative'): DPLoss(model, lpips=-1)
    with pytest.raises(ValueError, match="'l1' or 'l2'"): DPLoss(model, pixel='l3')
    with pytest.raises(ValueError, match='lpips needs weights: .*vgg16'): DPLoss(model, perceptual='lpips')
    with pytest.raises(ValueError, match="'mini' or 'lpips'"): DPLoss(model, perceptual='vgg')
    save_file({'features.0.weight': torch.zeros(1)}, tmp_path/'vgg.safetensors')
    with pytest.raises(ValueError, match='does not fit'):
        DPLoss(model, perceptual='lpips', weights=tmp_path/'vgg.safetensors')
