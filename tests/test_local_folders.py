"""Weights of networks in several files, from a folder of the reader's."""
import pytest, torch
from safetensors.torch import save_file

from align4gen import encoders
from align4gen.teachers import SD3Tokens

quick = dict(depth=2, block=1, heads=4, vae_width=32)


@pytest.fixture
def stored(tmp_path):
    "A small SD3 laid out as its repository is."
    torch.manual_seed(0)
    model = SD3Tokens(**quick).eval()
    for part in ('transformer', 'vae'):
        (tmp_path/'sd3'/part).mkdir(parents=True)
        state = {k: v.contiguous() for k, v in getattr(model, part).state_dict().items()}
        save_file(state, tmp_path/'sd3'/part/'diffusion_pytorch_model.safetensors')
    return tmp_path, model


def test_sd3_from_a_folder(stored):
    "By its own folder, by NAME=PATH, and by a folder of several encoders."
    folder, model = stored
    for weights in (folder/'sd3', f'sd3={folder/"sd3"}'):
        loaded = encoders.load('sd3', weights, **quick)
        for k, v in model.transformer.state_dict().items():
            assert v.equal(loaded.model.transformer.state_dict()[k]), k
    chosen = encoders.load_all('sd3', folder, **quick)[0]
    assert chosen.model.vae.encoder.conv_in.weight.equal(model.vae.encoder.conv_in.weight)


def test_a_missing_part_is_named(stored):
    folder, _ = stored
    (folder/'sd3/vae/diffusion_pytorch_model.safetensors').unlink()
    with pytest.raises(FileNotFoundError, match='no vae/diffusion_pytorch_model.safetensors'):
        encoders.load('sd3', folder/'sd3', **quick)
    with pytest.raises(ValueError, match='sd3 needs weights: transformer/diffusion_pytorch'):
        encoders.load('sd3')
