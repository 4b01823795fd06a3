"""Training from real files and from a cache, through the same function that the laptop's default run uses."""
import shutil

import pytest, torch
from safetensors.torch import load_file

from align4gen.data import MovingDigits
from align4gen.video import write_video
from align4gen.datasets import DigitClips
from align4gen.cache import build
from align4gen.train import align4gen_train, train

small = dict(batch=4, steps=6, size='mini', teachers='mini_random', mapper_hidden=32,
    checkpoint_every=3, log_every=1, sample_every=0, sample_steps=2, judge='', compile='no',
    precision='fp32', progress=False)


@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    "Sixteen short mp4 files in two classes."
    root = tmp_path_factory.mktemp('videos')
    for i, v in enumerate(MovingDigits(n=16, frames=24, size=32).videos):
        write_video(root/('test' if i >= 12 else 'train')/'ab'[i % 2]/f'{i}.mp4', v)
    return root


def same(a, b):
    assert (a.path/'log.csv').read_text() == (b.path/'log.csv').read_text()
    for name in ('model', 'ema', 'alignment', 'optimizer'):
        x, y = (load_file(r.checkpoints[-1]/f'{name}.safetensors') for r in (a, b))
        assert all(torch.equal(x[k], y[k]) for k in x), name


def test_videos_with_and_without_workers_and_resumed(videos, tmp_path):
    settings = (small | dict(data='videos', root=str(videos), clips=0, resolution=32, frames=4,
        out=str(tmp_path), eval_every=3, eval_clips=4))
    whole = train(**settings, workers=0, name='whole')
    assert whole.config.classes == 2 and len((whole.path/'eval.csv').read_text().splitlines()) == 3
    ahead = train(**settings, workers=2, name='ahead')
    same(ahead, whole)
    shutil.rmtree(ahead.checkpoints[-1])                                     # back to step 3
    same(train(resume=ahead.path, progress=False), whole)


def test_images(tmp_path):
    root = tmp_path/'images'
    root.mkdir()
    from PIL import Image
    for i, v in enumerate(MovingDigits(n=8, frames=1, size=32).videos):
        Image.fromarray(v[0].permute(1, 2, 0).numpy()).save(root/f'{i}.png')
    run = train(**small | dict(data='images', root=str(root), clips=0, resolution=32, frames=1,
        workers=0, out=str(tmp_path), steps=2))
    assert run.config.classes == 0 and run.step == 2
    assert run.model().num_classes is None


def test_damaged_files_are_counted_and_too_many_are_an_error(videos, tmp_path, capsys):
    root = tmp_path/'some'
    shutil.copytree(videos, root)
    (root/'train'/'a'/'broken.mp4').write_bytes(b'no video')
    settings = (small | dict(data='videos', root=str(root), clips=0, resolution=32, frames=4,
        workers=0, out=str(tmp_path)))
    run = train(**settings | dict(name='allowed', allow_bad=.1, steps=8))
    rows = (run.path/'bad_files.csv').read_text().splitlines()
    assert len(rows) == 2 and 'broken.mp4' in rows[1] and len(run.log['step']) == 8
    options = [f'--{k}={v}' for k, v in (settings | dict(name='strict', steps=8)).items()
        if k != 'progress']
    with pytest.raises(SystemExit) as e: align4gen_train(options)
    assert e.value.code == 2 and 'allow_bad' in capsys.readouterr().err.splitlines()[-1]


def test_from_a_cache(tmp_path):
    folder = tmp_path/'cache'
    build(DigitClips(n=32), folder, vae='mini', teachers=['mini_random', 'mini_mae'], grid=(4, 4),
        progress=False)
    settings = small | dict(cache=str(folder), clips=32, workers=1, out=str(tmp_path))
    run = train(**settings, name='cached')
    assert run.step == 6 and run.log['cosine'][-1] > run.log['cosine'][0] - .1
    again = train(**settings | dict(workers=0), name='again')
    same(again, run)
    with pytest.raises(ValueError, match='mini_croco'):
        train(**settings | dict(teachers='mini_croco'))
    with pytest.raises(ValueError, match='frames'): train(**settings | dict(frames=4))


def test_starting_from_another_runs_weights(tmp_path):
    first = train(**small | dict(clips=32, out=str(tmp_path), name='first'))
    second = train(**small | dict(clips=32, out=str(tmp_path), name='second', steps=1, lr=1e-12,
        start=str(first.checkpoints[-1]/'model.safetensors')))
    a, b = (r.model(ema=False).state_dict() for r in (first, second))
    assert all((a[k] - b[k]).abs().max() < 1e-6 for k in a)


def test_unconditional(tmp_path):
    run = train(**small | dict(clips=32, classes=0, out=str(tmp_path), steps=2))
    assert run.model().num_classes is None


def test_wrong_input_leaves_no_folder(videos, tmp_path):
    "Too few clips for a batch, a data set that is not there, a teacher without weights."
    for wrong, words in ((dict(batch=32), 'more than the'), (dict(data='vidoes'), "'videos'"),
            (dict(teachers='dinov2_b'), '--weights dinov2_b=PATH')):
        settings = dict(data='videos', root=str(videos), clips=0, resolution=32, frames=4, workers=0)
        with pytest.raises(ValueError, match=words):
            train(**small | settings | dict(out=str(tmp_path/'runs'), name='no') | wrong)
    assert not (tmp_path/'runs').exists()


def test_configs_of_the_first_version_open(recwarn):
    "The example runs were written before configs had groups, kinds and booleans."
    from align4gen.config import TrainConfig
    from align4gen.run import example_run
    config = example_run().config
    assert type(config) is TrainConfig and (config.flip, config.checkpointing) == (None, False)
    assert config.weights == '' and config.teachers == 'mini_infonce,mini_mae' and not recwarn.list


def test_a_run_is_named_after_what_it_trains():
    from align4gen.config import TrainConfig, make_config
    from align4gen.run import run_name
    assert run_name(make_config()) == 'digits' and run_name(make_config(size='S')) == 'digits-S'
    assert run_name(TrainConfig(data='ucf101', size='L')) == 'ucf101-L'
    assert run_name(make_config('digits-videodit')) == 'digits-videodit'
    assert run_name(make_config('sky-L', name='mine')) == 'mine'
