"Any video autoencoder of diffusers keeps the contract, and one table compares them all."
import diffusers, numpy as np, pytest, torch

from align4gen import vae
from align4gen.data import MovingDigits
from align4gen.dpvae import DPVAE
from align4gen.reconstruction import (VideoVAE, _next_length, reconstruction,
    reconstruction_table)


def digits(n, **how): return MovingDigits('test', n=n, **how)


def write(folder, videos):
    for i, v in enumerate(videos): np.save(folder/f'{i:03d}.npy', v.numpy())
    return folder


def tiny():
    torch.manual_seed(0); d = diffusers
    return dict(
        cogvideox=d.AutoencoderKLCogVideoX(block_out_channels=(8,)*4, latent_channels=4,
        layers_per_block=1, norm_num_groups=2),
        hunyuan=d.AutoencoderKLHunyuanVideo(latent_channels=4, block_out_channels=(8,)*4,
        layers_per_block=1, norm_num_groups=2),
        wan=d.AutoencoderKLWan(base_dim=3, z_dim=4, dim_mult=[1]*4, num_res_blocks=1,
        latents_mean=[.1, .2, .3, .4], latents_std=[2., 3., 4., 5.]),
        ltx=d.AutoencoderKLLTXVideo(latent_channels=8, block_out_channels=(8,)*4,
        decoder_block_out_channels=(8,)*4, layers_per_block=(1,)*5, decoder_layers_per_block=(1,)*5,
        patch_size=1),
        mochi=d.AutoencoderKLMochi(encoder_block_out_channels=(32,)*4,
        decoder_block_out_channels=(32,)*4, latent_channels=4, layers_per_block=(1,)*5,
        latents_mean=[0.]*4, latents_std=[1.]*4))


@pytest.mark.parametrize('name', ['cogvideox', 'hunyuan', 'wan', 'ltx', 'mochi'])
def test_every_video_vae_speaks_our_language(name):
    model = tiny()[name]; coder = VideoVAE(model, name)
    for t in (1, 6, 16, 17) if name == 'wan' else (6, 17):
        video = torch.rand(2, t, 3, 32, 32)*2 - 1
        z = coder.encode(video)
        back = coder.decode(z, t)
        assert (back.shape == video.shape and z.shape[0] == 2 and z.shape[2] == len(coder.mean)
            and z.shape[-2:] == (4, 4) and back.abs().max() <= 1)
        whole = torch.cat([video, video[:, -1:].expand(-1, coder.length(t) - t, -1, -1, -1)],
            1).transpose(1, 2)
        raw = model.encode(whole).latent_dist.mode()
        torch.testing.assert_close(back, model.decode(raw).sample.clamp(-1, 1).transpose(1,
            2)[:, :t], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(z.transpose(1, 2), (raw - coder.mean)/coder.std)
    assert not any(p.requires_grad for p in coder.parameters()) and not coder.train().training


def test_scales_are_the_networks_own():
    t = tiny()
    assert (VideoVAE(t['wan']).mean.flatten().tolist() == pytest.approx([.1, .2, .3, .4])
        and VideoVAE(t['wan']).std.flatten().tolist() == [2, 3, 4, 5])
    assert (VideoVAE(t['cogvideox']).std.flatten().tolist() == pytest.approx([1/1.15258426]*4)
        and VideoVAE(t['hunyuan']).std[0].item() == pytest.approx(1/.476986))
    assert [_next_length(k, 8, (0, 1)) for k in (1, 2, 8, 9, 10)] == [1, 8, 8, 9, 16]


def test_a_dpvae_comes_back_at_any_length():
    found = reconstruction(DPVAE.from_2d(vae.load('mini').model), digits(3), ['psnr'],
        progress=False)['psnr']
    # six frames are no multiple of four
    assert found.protocol['clip_length'] == 6 and found.value > 10


def test_reconstruction_table(tmp_path):
    folder = write(tmp_path, digits(6, size=32).videos)
    found = reconstruction({'pixels': vae.load('pixels'), 'mini': vae.load('mini'),
        'wan': tiny()['wan']}, folder, ['psnr', 'ssim', 'fvd-mini'], frames=6, batch=4,
        progress=False)
    assert (found['pixels']['psnr'].value == 100 and found['pixels']['ssim'].value == pytest.approx(
        1) and found['pixels']['fvd-mini'].value == pytest.approx(0, abs=1e-6))
    assert (100 > found['mini']['psnr'].value > found['wan']['psnr'].value
        and found['mini']['ssim'].value > found['wan']['ssim'].value)
    p = found['wan']['psnr'].protocol
    assert ((p['n'], p['clip_length'], p['filled_to'], p['vae'], p['data']) == (6, 6, 9,
        'AutoencoderKLWan', tmp_path.name) and p['vae_weights']
        and found['mini']['psnr'].protocol['filled_to'] is None)
    table = repr(reconstruction_table(found))
    assert all(k in table for k in ('pixels', 'mini', 'wan', 'psnr', 'ssim'))
    with pytest.raises(ValueError, match='choose frames and resolution'):
        reconstruction(tiny()['wan'], digits(2, size=20), ['psnr'], progress=False)
    with pytest.raises(TypeError, match='compresses time'):
        reconstruction(diffusers.AutoencoderKLTemporalDecoder(), digits(2), ['psnr'],
            progress=False)
