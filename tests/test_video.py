"Right frames from real files: order, display, bit depth, transparency, and files that are whole."
import subprocess, sys
from fractions import Fraction
from pathlib import Path

import av, numpy as np, pytest, torch
from PIL import Image

from align4gen.containers import BadVideo, empty_chunks, list_contents, missing_part, upright
from align4gen.datasets import load
from align4gen.video import frame_indices, read_clip, read_image, read_video

inputs = Path(__file__).parent/'inputs'


def pictures(n, w=64, h=48):
    "Smooth noise that drifts, and a bar that counts the frames."
    coarse = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
    back = coarse.repeat(2*h//12, 0).repeat(2*w//16, 1)
    for i in range(n):
        frame = np.roll(back, (-i, -2*i), (0, 1))[:h, :w].copy()
        frame[:4, :i % w] = 255
        yield frame


def film(path, n=90, codec=None, size=(64, 48), pix_fmt='yuv420p', aspect=None, form=None,
        container=None, **options):
    with av.open(str(path), 'w', format=form, options=container or {}) as file:
        stream = file.add_stream(codec or 'libx264', rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        if aspect: stream.codec_context.sample_aspect_ratio = aspect
        for frame in pictures(n, *size):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
        file.mux(stream.encode())
    return path


# The order of the frames

def same_as_decoding(path, rules=((8, 3), (16, 3), (2, 1)), windows=25):
    every = read_video(path)
    for frames, interval in rules:
        if len(every) < frames: continue
        for at in np.linspace(0, .999, windows):
            want = every[frame_indices(len(every), frames, interval, at)]
            assert torch.equal(read_clip(path, frames, interval, at), want), (frames, interval, at)


def test_packed_b_frames_come_in_the_order_of_decoding():
    "Xvid with two pictures in one packet, the form of UCF-101 and HMDB51."
    same_as_decoding(inputs/'packed_bframes_xvid.avi')


@pytest.mark.parametrize('name, options', [
    ('hidden.webm', dict(codec='libvpx', **{'auto-alt-ref': '1', 'lag-in-frames': '16',
        'arnr-maxframes': '5', 'b': '100k', 'g': '30'})),
    ('vp9.webm', dict(codec='libvpx-vp9', g='30', **{'lag-in-frames': '10', 'deadline': 'realtime'})),
    ('plain.avi', dict(codec='mpeg4', bf='2')), ('h264.avi', dict(g='12', bf='2')),
    ('mpeg2.vob', dict(codec='mpeg2video', bf='2')), ('wmv.asf', dict(codec='wmv2')),
    ('h264.MTS', dict(form='mpegts', g='12')), ('h264.m2ts', dict(form='mpegts', g='12')),
    ('h264.qt', dict(form='mov', g='12')), ('vp8.ogg', dict(codec='libvpx', form='ogg'))])
def test_random_access_equals_decoding(name, options, tmp_path):
    same_as_decoding(film(tmp_path/name, n=60, **options), windows=9)


def test_every_suffix_is_listed_or_named(tmp_path):
    "In a folder of videos nothing vanishes: animations are films, the rest is left out with a reason."
    for name, form in (('a.MTS', 'mpegts'), ('b.m2ts', 'mpegts'), ('c.qt', 'mov'), ('d.asf', None)):
        film(tmp_path/name, n=16, form=form, codec='wmv2' if form is None else None)
    film(tmp_path/'e.vob', n=16, codec='mpeg2video')
    film(tmp_path/'f.ogg', n=16, codec='libvpx')
    stills = [Image.fromarray(p) for p in pictures(16)]
    for name in ('g.webp', 'h.png'):
        stills[0].save(tmp_path/name, save_all=True, append_images=stills[1:], duration=40)
    stills[0].save(tmp_path/'cover.png')
    (tmp_path/'i.xyz').write_text('hello')
    with pytest.warns(UserWarning, match='2 files left out'):
        ds = load('videos', tmp_path, resolution=32)
    assert [p.name for p in ds.paths] == ['a.MTS', 'b.m2ts', 'c.qt', 'd.asf', 'e.vob', 'f.ogg',
        'g.webp', 'h.png']
    assert {Path(p).name: r for p, r in ds.left_out} == {'cover.png': 'a still image',
        'i.xyz': 'not of a known kind, by its name'}
    for i in range(len(ds)): assert ds.clip(i).shape == (16, 3, 32, 32)


# Display

def test_a_phone_video_is_upright():
    video = read_video(inputs/'rotated90.mp4')
    assert video.shape[1:] == (3, 64, 96)
    # the test picture's rainbow runs along the lower part
    saturation = (video[0].amax(0) - video[0].amin(0)).float()
    assert saturation[50:56].mean() > 150
    same_as_decoding(inputs/'rotated90.mp4', ((8, 1),), 5)


@pytest.mark.parametrize('matrix, turn', [((1, 0, 0, 1), lambda x: x),
    ((0, -1, 1, 0), lambda x: np.rot90(x)), ((-1, 0, 0, -1), lambda x: np.rot90(x, 2)),
    ((0, 1, -1, 0), lambda x: np.rot90(x, 3)), ((-1, 0, 0, 1), lambda x: x[:, ::-1]),
    ((1, 0, 0, -1), lambda x: x[::-1]), ((0, 1, 1, 0), lambda x: x.swapaxes(0, 1)),
    ((0, -1, -1, 0), lambda x: np.rot90(x, 2).swapaxes(0, 1))])
def test_display_matrices(matrix, turn):
    a, b, c, d = (65536*m for m in matrix)
    picture = next(pictures(1))
    shown = upright(picture, np.array([a, b, 0, c, d, 0, 0, 0, 2**30], np.int32).tobytes())
    assert np.array_equal(shown, turn(picture))


def test_sample_aspect_ratio(tmp_path):
    assert read_video(inputs/'anamorphic_sar2.mp4').shape[1:] == (3, 64, 96)
    assert read_clip(inputs/'anamorphic_sar2.mp4').shape == (16, 3, 64, 96)
    for aspect, width in ((Fraction(1, 2), 32), (Fraction(4, 3), 85), (Fraction(1, 1), 64)):
        path = film(tmp_path/'a.mkv', n=16, aspect=aspect)
        assert read_video(path).shape == (16, 3, 48, width), aspect


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.tif'])
def test_exif_orientation(suffix, tmp_path):
    "All eight, for single images and folders of frames."
    assert read_image(inputs/'exif6.jpg').shape == (64, 48, 3)
    shown = np.zeros((48, 64, 3), np.uint8)
    shown[:24, :32] = 255
    stored = {1: shown, 2: shown[:, ::-1], 3: shown[::-1, ::-1], 4: shown[::-1],
        5: shown.swapaxes(0, 1), 6: np.rot90(shown), 7: np.rot90(shown, 2).swapaxes(0, 1),
        8: np.rot90(shown, 3)}
    for orientation, picture in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        (tmp_path/f'{orientation}').mkdir()
        for i in range(2):
            Image.fromarray(np.ascontiguousarray(picture)).save(
                tmp_path/f'{orientation}/{i}{suffix}', exif=exif)
        found = read_clip(tmp_path/f'{orientation}', 2, 1)[1].permute(1, 2, 0).numpy()
        assert found.shape == shown.shape, orientation
        assert np.abs(found.astype(int) - shown).mean() < 3, orientation


# Bit depth

def test_sixteen_bits_and_floats():
    for name, levels in (('gray16.png', 64), ('float01.tif', 64)):
        picture = read_image(inputs/name)
        assert abs(picture.mean() - 127.5) < 2 and len(np.unique(picture)) == levels, name


@pytest.mark.parametrize('dtype, top', [(np.uint16, 65535), (np.int32, 255), (np.int32, 65535),
    (np.int32, 2**31 - 1), (np.float32, 1), (np.float32, 255), (np.float32, 65535)])
def test_deep_images(dtype, top, tmp_path):
    ramp = np.linspace(0, top, 64).astype(dtype)[None].repeat(8, 0)
    Image.fromarray(ramp).save(tmp_path/'a.tif')
    want = np.linspace(0, 255, 64)
    assert np.abs(read_image(tmp_path/'a.tif')[0, :, 1] - want).max() < 1
    assert read_clip(tmp_path/'a.tif', 1, 1).shape == (1, 3, 8, 64)


def test_values_without_meaning_are_refused(tmp_path):
    for i, bad in enumerate((-1., np.nan, np.inf)):
        Image.fromarray(np.full((8, 8), bad, np.float32)).save(tmp_path/f'{i}.tif')
        with pytest.raises(BadVideo, match='0 or more is meant'): read_clip(tmp_path/f'{i}.tif', 1)


# Transparency

def test_hidden_colours_stay_hidden():
    for name in ('rgba_hidden_colour.png', 'palette_transparent.png'):
        picture = read_image(inputs/name)
        assert (picture[:, 32:] == 255).all() and not (picture[:, :32] == 255).all(), name


@pytest.mark.parametrize('mode, suffix', [('RGBA', '.png'), ('RGBA', '.webp'), ('RGBA', '.tif'),
    ('LA', '.png'), ('RGBA', '.gif')])
def test_transparent_pixels_are_white(mode, suffix, tmp_path):
    hidden = np.zeros((8, 16, 4), np.uint8)
    hidden[:, :8, 3] = 255
    hidden[:, 8:, 0] = np.arange(8)*30
    Image.fromarray(hidden).convert(mode).save(tmp_path/f'a{suffix}', lossless=True)
    picture = read_clip(tmp_path/f'a{suffix}', 1, 1)[0]
    assert (picture[..., 8:] == 255).all() and (picture[..., :8] == 0).all()


def test_half_transparent_pixels_are_mixed(tmp_path):
    Image.new('RGBA', (4, 4), (200, 0, 0, 51)).save(tmp_path/'a.png')
    assert read_image(tmp_path/'a.png')[0, 0].tolist() == [244, 204, 204]


def test_a_video_with_alpha_lies_on_white(tmp_path):
    with av.open(str(tmp_path/'a.mov'), 'w') as file:
        stream = file.add_stream('qtrle', rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 8, 'argb'
        hidden = np.zeros((8, 16, 4), np.uint8)
        hidden[:, :8, 0] = hidden[:, 8:, 1] = 255
        for _ in range(2):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(hidden, format='argb')))
        file.mux(stream.encode())
    video = read_video(tmp_path/'a.mov')
    assert (video[..., 8:] == 255).all() and (video[..., :8] == 0).all()


# Animations keep their time

def test_a_gif_of_others_keeps_its_time():
    video = read_video(inputs/'gif_repeated_frames.gif')
    assert len(video) == 16 and all(torch.equal(video[0], v) for v in video[:5])
    assert not torch.equal(video[4], video[5])
    same_as_decoding(inputs/'gif_repeated_frames.gif', ((8, 2), (4, 1)), 7)


@pytest.mark.parametrize('suffix', ['.gif', '.webp', '.png'])
def test_durations_are_counted(suffix, tmp_path):
    stills = [Image.fromarray(p) for p in pictures(4)]
    stills[0].save(tmp_path/f'a{suffix}', save_all=True, append_images=stills[1:],
        duration=[200, 100, 300, 100], lossless=True)
    video = read_video(tmp_path/f'a{suffix}')
    runs = [0, 0, 1, 2, 2, 2, 3]
    assert len(video) == 7
    assert all(torch.equal(video[i], video[runs.index(r)]) for i, r in enumerate(runs))
    assert len({v.numpy().tobytes() for v in video}) == 4
    assert read_clip(tmp_path/f'a{suffix}', 7, 1).equal(video)


# Whole files and cut files

def test_dropped_frames_are_no_truncation():
    path = inputs/'libxvid_bf2_dropped.avi'
    assert empty_chunks(path, 0) == 2
    assert read_clip(path, 8, 1).shape == (8, 3, 240, 320)


def with_empty_chunks(data, every=9):
    "An AVI whose every so many pictures are followed by a chunk of length 0, with lengths and counts to match."
    start = data.find(b'movi') + 4
    end = data.find(b'idx1')
    chunks, at = [], start
    while at + 8 <= end:
        length = int.from_bytes(data[at+4:at+8], 'little')
        chunks.append(data[at:at + 8 + length + length % 2])
        at += len(chunks[-1])
    kept = []
    for i, c in enumerate(chunks):
        kept.append(c)
        if c[:4] == b'00dc' and i % every == 0: kept.append(b'00dc' + bytes(4))
    movi, index, at = b'movi' + b''.join(kept), b'', 4
    for c in kept:
        flags = 16 if i == 0 else 0
        index += c[:4] + flags.to_bytes(4, 'little') + at.to_bytes(4, 'little') + c[4:8]
        at += len(c)
    head = bytearray(data[:start - 12])
    added = len(kept) - len(chunks)
    for name, offset in ((b'avih', 24), (b'strh', 40)):
        i = head.find(name) + offset
        head[i:i+4] = (int.from_bytes(head[i:i+4], 'little') + added).to_bytes(4, 'little')
    body = (bytes(head[8:]) + b'LIST' + len(movi).to_bytes(4, 'little') + movi + b'idx1'
        + len(index).to_bytes(4, 'little') + index)
    return b'RIFF' + len(body).to_bytes(4, 'little') + body


def test_chunks_without_content(tmp_path):
    data = film(tmp_path/'a.avi', n=40, codec='mpeg4').read_bytes()
    path = tmp_path/'b.avi'
    path.write_bytes(with_empty_chunks(data))
    assert empty_chunks(path, 0) == 5 and missing_part(path) == ''
    assert read_clip(path).shape == (16, 3, 48, 64)
    same_as_decoding(path, ((16, 2), (8, 1)), 9)
    # 15 pictures are gone, and the header still promises them
    lost = bytearray(path.read_bytes())
    i = lost.find(b'strh') + 40
    lost[i:i+4] = (60).to_bytes(4, 'little')
    path.write_bytes(lost)
    with pytest.raises(BadVideo, match='truncated: 40 of the 60'): read_clip(path)


@pytest.mark.parametrize('tail', [b'TAG' + b'A song'.ljust(125), bytes(64), b'\xff'*5,
    b'Camera trailer 1.0 ' * 30])
@pytest.mark.parametrize('flags', ['', 'faststart', 'frag_keyframe+empty_moov'])
def test_bytes_after_the_last_box(tail, flags, tmp_path):
    whole = film(tmp_path/'a.mp4', n=20, container=dict(movflags=flags) if flags else {})
    path = tmp_path/'b.mp4'
    path.write_bytes(whole.read_bytes() + tail)
    assert missing_part(path) == '' and torch.equal(read_clip(path), read_clip(whole))


containers = {'a.avi': dict(codec='mpeg4'), 'b.avi': dict(codec='mpeg4', bf='2'), 'c.mp4': {},
    'd.mp4': dict(container=dict(movflags='faststart')), 'e.mov': {}, 'f.mkv': {},
    'g.webm': dict(codec='libvpx'), 'h.wmv': dict(codec='wmv2')}


@pytest.mark.parametrize('name', [*containers, 'i.gif'])
def test_a_file_cut_at_any_byte_is_refused(name, tmp_path):
    "All cut points, of small files."
    path, cut = tmp_path/name, tmp_path/f'cut{Path(name).suffix}'
    if name.endswith('.gif'):
        stills = [Image.fromarray(p) for p in pictures(4, 16, 16)]
        stills[0].save(path, save_all=True, append_images=stills[1:])
    else: film(path, n=4, size=(16, 16), **containers[name])
    assert read_clip(path, 4, 1).shape == (4, 3, 16, 16)
    data, unknown = path.read_bytes(), []
    for end in range(len(data)):
        cut.write_bytes(data[:end])
        if not missing_part(cut): unknown.append(end)
    # what the lengths do not tell, the decoder does
    assert len(unknown) < 100
    for end in unknown:
        cut.write_bytes(data[:end])
        with pytest.raises(BadVideo): read_clip(cut, 4, 1)


def test_workers_read_after_their_parent(tmp_path):
    "A process that has decoded forks workers, and they decode too: no thread is left behind."
    code = """
import sys, torch
from torch.utils.data import DataLoader
from align4gen import datasets
from align4gen.video import write_video
for i in range(4): write_video(f'{sys.argv[1]}/{i}.mp4', torch.zeros(8, 3, 32, 32), fps=8)
data = datasets.load('videos', sys.argv[1], frames=4, interval=1, resolution=16)
data[0]
loader = DataLoader(data, batch_size=2, num_workers=2, collate_fn=datasets.collate)
assert sum(len(b['video']) for b in loader) == len(data)
"""
    subprocess.run([sys.executable, '-c', code, str(tmp_path)], check=True, timeout=120)


# Pictures that stay

def test_theora_repeats_a_picture_by_an_empty_packet():
    "5 pictures a second in a file of 25: four of five packets are empty, or nearly."
    path = inputs/'theora_empty_packets.ogv'
    video = read_video(path)
    assert len(video) == 97                                            # 28 packets have content
    same_as_decoding(path)
    still = (video[1:] == video[:-1]).flatten(1).all(1)
    assert still.sum() >= 69
    assert read_clip(path, 19, 1, fps=5).equal(video[np.arange(19)*5])


# Fragments

def fragments(path, flags, n=100):
    with av.open(str(path), 'w', options=dict(movflags=flags)) as file:
        stream = file.add_stream('libx264', rate=25, options=dict(g='25'))
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        for picture in pictures(n):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format='rgb24')))
        file.mux(stream.encode())
    return path


def box_starts(data):
    at = 0
    while at < len(data):
        yield data[at+4:at+8], at
        at += int.from_bytes(data[at:at+4], 'big')


def with_length(data, milliseconds):
    "A header that says how long all fragments are together, as other writers make it."
    box = (16).to_bytes(4, 'big') + b'mehd' + bytes(4) + milliseconds.to_bytes(4, 'big')
    for name in (b'mvex', b'moov'):
        at = data.index(name)
        size = int.from_bytes(data[at-4:at], 'big') + 16
        data = data[:at-4] + size.to_bytes(4, 'big') + data[at:]
    at = data.index(b'mvex') + 4
    return data[:at] + box + data[at:]


@pytest.mark.parametrize('how', ['index', 'length'])
def test_a_cut_between_fragments(how, tmp_path):
    "By the index in front, or by the length in the header."
    flags = 'frag_keyframe+empty_moov+default_base_moof' + '+global_sidx'*(how == 'index')
    path = fragments(tmp_path/'a.mp4', flags)
    data = path.read_bytes()
    if how == 'length':
        data = with_length(data, 4000)
        path.write_bytes(data)
    assert len(read_clip(path, 16)) == 16 and missing_part(path) == ''
    for end in [at for name, at in box_starts(data) if name == b'moof']:
        cut = tmp_path/'cut.mp4'
        cut.write_bytes(data[:end])
        with pytest.raises(BadVideo, match='truncated|no frames'): read_clip(cut, 4)


def test_a_live_recording_says_nothing_of_its_length(tmp_path):
    "It may end after any fragment, and reads as what is there."
    path = fragments(tmp_path/'a.mp4', 'frag_keyframe+empty_moov+default_base_moof+skip_trailer')
    data = path.read_bytes()
    third = [at for name, at in box_starts(data) if name == b'moof'][2]
    path.write_bytes(data[:third])
    assert len(read_video(path)) == 50


# Memory

def test_walking_over_a_large_file_keeps_none_of_it(tmp_path):
    "240 MB of video, and a clip of it."
    path, code = tmp_path/'large.avi', ('import resource, sys\nfrom align4gen.video import read_clip\n'
        'def most(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n'
        'read_clip(sys.argv[2], 4, 1)\nbefore = most()\nread_clip(sys.argv[1], 4, 1, .5)\n'
        'print(most() - before)')
    with av.open(str(path), 'w') as file:
        stream = file.add_stream('rawvideo', rate=25)
        stream.width, stream.height, stream.pix_fmt = 1024, 512, 'rgb24'
        picture = np.zeros((512, 1024, 3), np.uint8)
        for i in range(160):
            picture[0, 0] = i
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format='rgb24')))
        file.mux(stream.encode())
    small = film(tmp_path/'small.avi', n=10)
    done = subprocess.run([sys.executable, '-c', code, str(path), str(small)], capture_output=True,
        text=True)
    assert int(done.stdout) < 80, done.stdout + done.stderr[-500:]
