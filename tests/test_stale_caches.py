"""A cache of other networks, of other clips or of files that changed since is refused, in one sentence that names the field."""
import json, shutil

import pytest, torch

from align4gen import encoders
from align4gen.cache import CachedClips, align4gen_cache, build
from align4gen.config import make_config
from align4gen.data import MovingDigits
from align4gen.datasets import DigitClips, load
from align4gen.dpvae import trained_mini_dpvae
from align4gen.source import load_frozen, open_source
from align4gen.train import train
from align4gen.video import to_float, write_video
from align4gen.weights import ship

small = dict(batch=4, steps=1, teachers='mini_random', mapper_hidden=32, sample_every=0, judge='',
    compile='no', precision='fp32', progress=False, workers=0, sample_steps=1)
of_files = dict(data='videos', clips=0, resolution=32, frames=4, interval=1, teachers='')


def other_weights(model):
    with torch.no_grad(): next(model.parameters()).add_(.01)
    return model


@pytest.fixture
def films(tmp_path):
    for i, v in enumerate(MovingDigits(n=6, frames=8, size=32).videos):
        write_video(tmp_path/'films'/'ab'[i % 2]/f'{i}.mp4', v)
    return tmp_path/'films'


def cached(films, folder, **options):
    data = load('videos', films, frames=4, interval=1, resolution=32, **options)
    return build(data, folder, data=dict(name='videos', split='train'), progress=False)


def refused(tmp_path, *words, **settings):
    with pytest.raises(ValueError) as e:
        train(**small | dict(cache=str(tmp_path/'cache'), out=str(tmp_path/'runs')) | settings)
    said = str(e.value)
    assert '\n' not in said and all(w in said for w in words), said
    assert not (tmp_path/'runs').exists()


# Other weights

def test_latents_of_another_dpvae(tmp_path):
    one, two = trained_mini_dpvae().save(tmp_path/'one'), tmp_path/'two'
    other_weights(trained_mini_dpvae()).save(two)
    build(DigitClips(n=8, frames=8), tmp_path/'cache', vae='dpvae', weights=f'dpvae={one}',
        progress=False)
    settings = dict(clips=8, frames=8, vae='dpvae', teachers='')
    refused(tmp_path, 'weights hash of dpvae', 'align4gen_cache', weights=f'dpvae={two}', **settings)
    run = train(**small | settings | dict(cache=str(tmp_path/'cache'), weights=f'dpvae={one}',
        out=str(tmp_path)))
    assert run.step == 1


def test_features_of_other_weights(tmp_path):
    state = other_weights(encoders.load('mini_mae').model).state_dict()
    file = ship('mini_mae', state, {}, tmp_path)
    build(DigitClips(n=8), tmp_path/'cache', teachers=['mini_mae'], grid=(4, 4), progress=False)
    settings = dict(clips=8, teachers='mini_mae')
    refused(tmp_path, 'weights hash of mini_mae', weights=f'mini_mae={file}', **settings)
    with pytest.warns(UserWarning, match='mini_mae.*not held against'):
        train(**small | settings | dict(cache=str(tmp_path/'cache'), out=str(tmp_path),
            weights=f'mini_mae={tmp_path}/gone.safetensors'))


# Other clips

@pytest.mark.parametrize('there', [True, False])
def test_flips(films, tmp_path, there):
    cached(films, tmp_path/'cache', flip=there)
    refused(tmp_path, f'flip is {there}', f'{not there} is wanted', flip=not there, **of_files)
    if there: refused(tmp_path, 'flip is True', **of_files)      # videos are not flipped unless asked
    train(**small | of_files | dict(cache=str(tmp_path/'cache'), flip=there, out=str(tmp_path)))


def test_another_background(tmp_path):
    build(DigitClips(n=8, background='plain'), tmp_path/'cache', progress=False)
    refused(tmp_path, "background is 'plain'", clips=8, teachers='')


# Files that changed since

def replace_a_video(films):
    write_video(films/'a'/'2.mp4', MovingDigits(n=9, frames=8, size=32, seed=5).videos[8])


def test_a_replaced_video_is_not_trained_on(films, tmp_path):
    cached(films, tmp_path/'cache')
    settings = of_files | dict(root=str(films))
    open_source(make_config(**{k: v for k, v in (small | settings).items() if k != 'progress'},
        cache=str(tmp_path/'cache')), (4, 4))
    replace_a_video(films)
    refused(tmp_path, 'data.contents', 'align4gen_cache', **settings)


def test_a_replaced_video_does_not_join_a_cache(films, tmp_path, capsys):
    said = ['--data', 'videos', '--root', str(films), '--frames', '4', '--resolution', '32', '--teachers',
        '', '--vae', 'mini', '--out', str(tmp_path/'cache')]
    assert align4gen_cache(said) == 0
    shutil.copytree(films, tmp_path/'moved')                     # the same files, later and elsewhere
    assert align4gen_cache([*said[:3], str(tmp_path/'moved'), *said[4:]]) == 0
    replace_a_video(films)
    with pytest.raises(SystemExit): align4gen_cache(said)
    assert 'data.contents' in capsys.readouterr().err.splitlines()[-1]


def test_caches_of_earlier_versions_open(films, tmp_path):
    "They say nothing of contents."
    cached(films, tmp_path/'cache')
    path = tmp_path/'cache'/'manifest.json'
    manifest = json.loads(path.read_text())
    del manifest['data']['contents'], manifest['versions']['av']
    path.write_text(json.dumps(manifest))
    train(**small | of_files | dict(root=str(films), cache=str(tmp_path/'cache'), out=str(tmp_path)))
    assert len(cached(films, tmp_path/'cache')) == 6


# Latents of several frames

def test_teachers_beside_a_dpvae(tmp_path):
    "A cache holds what the frozen networks give in training: a feature per latent."
    build(DigitClips(n=8, frames=8), tmp_path/'cache', vae='dpvae', teachers=['mini_random'],
        grid=(4, 4), progress=False)
    settings = dict(clips=8, frames=8, vae='dpvae')
    run = train(**small | settings | dict(cache=str(tmp_path/'cache'), out=str(tmp_path)))
    assert run.step == 1
    item = CachedClips(tmp_path/'cache')[3]
    config = make_config(**{k: v for k, v in (small | settings).items() if k != 'progress'})
    want, = load_frozen(config, (4, 4)).features(to_float(MovingDigits(n=8, frames=8).videos[3:4]))
    assert item['features'][0].shape == want[0].shape
    torch.testing.assert_close(item['features'][0].float(), want[0].float(), atol=3e-2, rtol=2e-2)


def test_features_of_every_frame_beside_a_dpvae_are_refused(tmp_path, monkeypatch):
    "As the first version made them."
    from align4gen import cache
    monkeypatch.setattr(cache, 'match_time', lambda features, every: features)
    build(DigitClips(n=8, frames=8), tmp_path/'cache', vae='dpvae', teachers=['mini_random'],
        grid=(4, 4), progress=False)
    refused(tmp_path, 'mini_random', 'align4gen_cache', clips=8, frames=8, vae='dpvae')
