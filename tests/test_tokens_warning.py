"A clip of very many tokens is priced before anything starts."
import warnings
import pytest
from align4gen.build import check_vdit
from align4gen.config import make_config


def test_pixels_of_64_are_priced():
    config = make_config(vae='pixels', resolution=64, frames=16, size='S', teachers='', gamma=0.)
    with pytest.warns(UserWarning, match='16,384 tokens.*4 times'): check_vdit(config)


def test_the_default_says_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        check_vdit(make_config())
