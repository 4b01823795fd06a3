"A VAE is asked for by its name; a foreign one has weights, or is refused in one line."
import subprocess, sys

import pytest, torch

from align4gen import vae
from align4gen.plugins import load_plugins

foreign = [n for n in vae.registry if vae.registry.find(n).files]


def test_there_are_foreign_ones(): assert {'sd14', 'taesd'} <= {*foreign}


@pytest.mark.parametrize('name', foreign)
def test_a_foreign_vae_needs_weights(name):
    entry = vae.registry.find(name)
    for ask in (vae.load, vae.check_weights):
        with pytest.raises(ValueError, match=f'{name} needs weights') as e: ask(name)
        for word in (entry.files[0], entry.hub, f'--weights {name}=PATH', f'{name}=random'):
            assert word in str(e.value)
    assert vae.check_weights(name, 'hub') == 'hub'
    assert vae.check_weights(name, f'other=x,{name}=random') == 'random'


@pytest.mark.parametrize('name', ['pixels', 'mini', 'taesd', 'dpvae'])
def test_the_shape_is_known_without_weights(name):
    channels, stride, every = vae.latent_shape(name)
    coder = vae.load(name, 'random' if name in foreign else None)
    assert (coder.channels, coder.stride, coder.temporal_stride) == (channels, stride, every)
    video = torch.rand(1, 2*every, 3, 16, 16)*2 - 1
    assert coder.encode(video).shape == (1, 2, channels, 16//stride, 16//stride)


def test_unknown_names():
    with pytest.raises(ValueError, match="no VAE 'mni': did you mean 'mini'"): vae.load('mni')
    with pytest.raises(ValueError, match="no VAE 'mni'"): vae.latent_shape('mni')


def test_a_plugin_brings_its_own(tmp_path):
    (tmp_path/'grey.py').write_text('''
from align4gen import vae

class Grey(vae.PixelVAE):
    name, channels = 'grey', 1
    def encode(self, video, sample=False, generator=None): return video.mean(2, keepdim=True)

vae.register('grey', lambda weights, chunk, dtype: Grey(), lambda weights: (1, 1, 1))
''')
    load_plugins(str(tmp_path/'grey.py'))
    try:
        assert vae.latent_shape('grey') == (1, 1, 1)
        assert vae.load('grey').encode(torch.zeros(1, 2, 3, 4, 4)).shape == (1, 2, 1, 4, 4)
    finally: del vae.registry['grey']


def test_the_chapter_is_light():
    "Nothing of diffusers is imported before a network is built, and the chapter names no chapter after it."
    code = ("import sys; from align4gen import vae; vae.latent_shape('sd14'); print([m for m in "
        "('diffusers', 'transformers', 'timm', 'align4gen.dpvae') if m in sys.modules])")
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert (out.stdout.strip(), out.stderr) == ('[]', '')
