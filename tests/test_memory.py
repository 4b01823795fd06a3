"""Memory does not grow with what a user's file holds: a film ten times as long, ten times the captions, ten times the videos
cost hardly more than the first one did. Peaks are measured in a child."""
import resource, shutil, subprocess, sys
from pathlib import Path

import pytest

from align4gen import cache, clips, datasets, evaluate, prompts, report, sample_folder, video
from align4gen.run import example_run

allowed = dict(texts=10)                                # MB, else 30; a long film's frames are 118 MB, its floats four times that


def film(path, frames, side=256):
    "A film that grows by frames alone."
    import av, numpy as np
    with av.open(str(path), 'w') as out:
        stream = out.add_stream('mpeg4', 25, options=dict(qscale='8'))
        stream.width = stream.height = side
        picture = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
        for i in range(frames):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(picture, i, 1), format='rgb24')))
        out.mux(stream.encode())


def films(folder, size):
    folder.mkdir(parents=True, exist_ok=True)
    film(folder/'0.mp4', 60*size)
    for i in (1, 2, 3): shutil.copy(folder/'0.mp4', folder/f'{i}.mp4')
    return folder


def reading(folder, size): video.read_clip(films(folder, size)/'0.mp4', 16, 3, .9)


def caching(folder, size):
    data = datasets.load('videos', films(folder, size), frames=8, resolution=32)
    cache.build(data, folder/'cache', teachers=['mini_random'], progress=False)


def evaluating(folder, size):
    evaluate.evaluate(films(folder, size), metrics='is-mini', options={'is-mini': dict(splits=2)}, frames=8, resolution=32,
        batch=2, cache=False, progress=False)


def analyzing(folder, size):
    report.align4gen_analyze(['--encoders', 'mini_random,mini_mae', '--videos', str(films(folder, size)), '--frames', '8', '--size', '16',
        '--k', '2', '--out', str(folder/'out')])


def texts(folder, size):
    if not (folder.parent/'encoders').exists(): prompts.random_encoders(folder.parent/'encoders')
    prompts.embed_captions([f'film {i}' for i in range(20*size)], folder.parent/'encoders', folder, words=512, batch=4,
        shard_bytes=2_000_000, progress=False)


def sampling(folder, size):
    sample_folder.sample_to(folder, example_run(), 60*size, steps=1, batch=20, format='npy', progress=False)


works = dict(reading=reading, caching=caching, evaluating=evaluating, analyzing=analyzing, texts=texts, sampling=sampling)


def child(name, folder):
    "Megabytes by which the peak grew, from the second small work to the large one."
    import torch
    torch.set_num_threads(1)
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for i in range(2): works[name](Path(folder)/f'small{i}', 1)
    before = peak()
    works[name](Path(folder)/'large', 10)
    print('grew', peak() - before)


@pytest.mark.parametrize('name', works)
def test_memory(name, tmp_path):
    done = subprocess.run([sys.executable, __file__, name, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    grew = float(done.stdout.split('grew')[-1])
    print(f'{name}: {grew:.0f} MB')
    assert grew < allowed.get(name, 30)


if __name__ == '__main__': child(*sys.argv[1:])
