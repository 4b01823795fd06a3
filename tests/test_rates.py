"""Clips at a stated number of frames a second: the nearest frame in time, in data sets, caches and protocols."""
import json, warnings
from fractions import Fraction

import av, numpy as np, pytest, torch

from align4gen.cache import CachedClips, align4gen_cache
from align4gen.clips import load_clips, reader_facts
from align4gen.config import read_config
from align4gen.containers import decoder
from align4gen.datasets import load
from align4gen.run import example_run
from align4gen.train import train
from align4gen.video import at_rate, frame_indices, read_clip, read_video, write_video


def film(path, moments, trc=None, codec='libx264', w=64, h=48):
    "A bar that moves 16 pixels a second, seen at these moments."
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), 'w') as file:
        stream = file.add_stream(codec, rate=1000, options=dict(crf='1', g='12'))
        stream.width, stream.height, stream.pix_fmt = w, h, 'yuv420p'
        stream.codec_context.time_base = Fraction(1, 1000)
        if trc: stream.codec_context.color_trc = trc
        for t in moments:
            picture = np.zeros((h, w, 3), np.uint8)
            picture[:, :int(16*t) % w + 1] = 255
            frame = av.VideoFrame.from_ndarray(picture, format='rgb24')
            frame.pts, frame.time_base = round(1000*t), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def steady(rate, seconds=4): return np.arange(int(rate*seconds))/rate
def paused(): return np.concatenate([steady(25, 1), 2 + steady(25, 2)])        # nothing for a second
def bars(video): return (video[:, 0, 24] > 127).sum(-1)


@pytest.mark.parametrize('fps', [5, 12, 24, 25, 30, 50])
@pytest.mark.parametrize('moments', [steady(10), steady(24), steady(30), steady(60), paused()],
    ids=['10', '24', '30', '60', 'paused'])
def test_the_nearest_frame_in_time(moments, fps):
    "Against a search through all frames."
    found = at_rate(moments, fps)
    wanted = np.arange(len(found))/fps
    want = [np.abs(moments - t).argmin() for t in wanted]                      # of two, the first
    far = np.abs(moments[found] - wanted) - np.abs(moments[want] - wanted)
    assert far.max() < 1e-6 and (np.diff(found) >= 0).all()
    assert abs(len(found)/fps - (moments[-1] + np.median(np.diff(moments)))) < 1/fps + 1e-6


@pytest.mark.parametrize('suffix', ['.mp4', '.mkv'])
def test_one_movement_at_any_rate_is_one_clip(tmp_path, suffix):
    clips = [bars(read_clip(film(tmp_path/f'{r}{suffix}', steady(r)), 8, 3, .3, fps=25))
        for r in (24, 30, 60)]
    assert all((c - clips[2]).abs().max() <= 1 for c in clips)
    plain = [bars(read_clip(tmp_path/f'{r}{suffix}', 8, 3)) for r in (24, 60)]
    assert (plain[0][-1] - plain[1][-1]).abs() > 5                             # frames that are counted


def test_the_files_own_rate_changes_nothing(tmp_path):
    path = film(tmp_path/'a.mp4', steady(25))
    for at in (0, .4, .99): assert read_clip(path, 8, 3, at, fps=25).equal(read_clip(path, 8, 3, at))
    assert read_clip(path, 8, 1, fps=50)[::2].equal(read_clip(path, 4, 1))     # each of them twice


def test_a_camera_that_paused(tmp_path):
    path = film(tmp_path/'a.mp4', paused())
    got, every = read_clip(path, 40, 1, fps=10), read_video(path)
    assert got.equal(every[at_rate(paused(), 10)])
    assert bars(got)[10:15].float().std() == 0 and bars(got)[25] > bars(got)[20]


def test_without_time_stamps_the_average_rate_counts(tmp_path):
    path = tmp_path/'a.avi'
    with av.open(str(path), 'w') as file:                                      # H.264 in AVI: no proof
        stream = file.add_stream('libx264', rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        for t in steady(30, 2):
            picture = np.zeros((48, 64, 3), np.uint8)
            picture[:, :int(16*t) + 1] = 255
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format='rgb24')))
        file.mux(stream.encode())
    assert read_clip(path, 20, 1, fps=10).equal(read_video(path)[::3])


def test_a_gif_knows_its_time(tmp_path):
    video = torch.randint(0, 255, (8, 3, 16, 16), dtype=torch.uint8)
    path = write_video(tmp_path/'a.gif', video, fps=10)
    assert read_clip(path, 4, 1, fps=5).equal(read_video(path)[::2])


def test_folders_of_frames_have_no_rate(tmp_path):
    from PIL import Image
    for i in range(4):
        (tmp_path/'v').mkdir(exist_ok=True)
        Image.new('RGB', (32, 32)).save(tmp_path/'v'/f'{i}.png')
    with pytest.raises(ValueError, match='leave fps out'): load('sky', tmp_path, frames=4, fps=25)
    assert len(load('sky', tmp_path, frames=4)) == 1


def test_mixed_rates_are_said(tmp_path):
    film(tmp_path/'a.mp4', steady(24, 1))
    film(tmp_path/'b.mp4', steady(30, 1))
    with warnings.catch_warnings(action='error'): load('videos', tmp_path, frames=4)
    film(tmp_path/'c.mp4', steady(60, 1))
    with pytest.warns(UserWarning, match=r'rates differ, from 25 .*\(a.mp4\) to 61 .*give fps'):
        load('videos', tmp_path, frames=4)
    with pytest.warns(UserWarning, match='rates differ'): load_clips(tmp_path, frames=4)
    with warnings.catch_warnings(action='error'): ds = load('videos', tmp_path, frames=4, fps=12)
    assert 'of 12 frames a second' in repr(ds)
    want = [frame_indices(12, 4, 3), read_clip(tmp_path/'c.mp4', 4, 3, 0, fps=12)]
    assert want[1].equal(read_video(tmp_path/'c.mp4')[want[0]*5])


@pytest.mark.parametrize('trc', [16, 18])
def test_hdr_is_said(tmp_path, trc):
    path = film(tmp_path/'a.mp4', steady(25, 1), trc)
    with pytest.warns(UserWarning, match='HDR.*without tone mapping'): read_clip(path, 4)
    with pytest.warns(UserWarning, match=r'1 of 1 files looked at are HDR .*a.mp4'):
        load('videos', tmp_path, frames=4)


# Written down

def test_a_cache_says_its_rate_and_its_decoder(tmp_path):
    for i in range(4): film(tmp_path/'films'/f'{i}.mp4', steady(30, 2), w=32, h=32)
    said = ['--data', 'videos', '--root', str(tmp_path/'films'), '--frames', '4', '--resolution', '32',
        '--vae', 'mini', '--teachers', '', '--out', str(tmp_path/'cache')]
    assert align4gen_cache([*said, '--fps', '10']) == 0
    manifest = json.loads((tmp_path/'cache'/'manifest.json').read_text())
    assert manifest['data']['fps'] == 10 and manifest['data']['interval'] == 3
    assert decoder().items() <= manifest['versions'].items() and set(decoder()) >= {'av', 'ffmpeg'}
    with pytest.raises(SystemExit): align4gen_cache(said)                       # another cache
    settings = dict(data='videos', clips=0, resolution=32, frames=4, teachers='', judge='', batch=2,
        steps=1, workers=0, sample_every=0, sample_steps=1, compile='no', precision='fp32',
        progress=False, cache=str(tmp_path/'cache'), out=str(tmp_path))
    with pytest.raises(ValueError, match='fps is 10.0 in its manifest'): train(**settings)
    assert train(**settings, fps=10.).config.fps == 10
    assert len(CachedClips(tmp_path/'cache')) == 4


def test_protocols_say_rate_and_decoder(tmp_path):
    for i in range(3): film(tmp_path/f'{i}.mp4', steady(30, 2))
    clips = load_clips(tmp_path, frames=4, interval=3, fps=10, resolution=32)
    facts = reader_facts(clips)
    assert facts['fps'] == 10 and facts['stride'] == 3
    assert all(v in facts['decoder'] for v in decoder().values())
    assert 'fps' not in reader_facts(load_clips(tmp_path, frames=4))
    assert clips[0][1].shape == (4, 3, 32, 32)
    by_name = load_clips(f'videos:{tmp_path}', 'train', frames=4, resolution=32, fps=10)
    assert by_name.facts['fps'] == 10 and by_name[1][1].equal(clips[1][1])


def test_configs_without_a_rate_open_quietly():
    with warnings.catch_warnings(action='error'):
        assert read_config(example_run().path/'config.json').fps == 0
