"Real files: made here, read back, broken in every way that comes to mind, and counted."
import csv, random, warnings

import av, numpy as np, pytest, torch
from PIL import Image
from torch.utils.data import DataLoader

from align4gen.video import frame_indices, read_clip, read_video, to_float
from align4gen.containers import (BadVideo, decode_all, decode_from_key, list_contents,
    missing_part)
from align4gen.datasets import (BadFiles, ClipDataset, check_ucf101, chances, collate, data_sets,
    fit_frames, load, split_folders)


def pictures(n, w=64, h=48, seed=0):
    "Smooth noise that drifts, and a bar that counts the frames."
    rng = np.random.default_rng(seed)
    back = np.array(Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize((2*w,
        2*h), Image.BICUBIC))
    for i in range(n):
        frame = np.roll(back, (-i, -2*i), (0, 1))[:h, :w].copy(); frame[:4, :i % w] = 255
        yield frame


def film(path, n=90, codec=None, sound=False, seed=0, sizes=(64, 48), container=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), 'w', options=container or {}) as file:
        stream = file.add_stream(codec or ('mpeg4' if path.suffix == '.avi' else 'libx264'),
            rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = *sizes, 'yuv420p'
        audio = file.add_stream('aac', rate=16000) if sound else None
        for frame in pictures(n, *sizes, seed):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='rgb24')))
        file.mux(stream.encode())
        if sound: hum(file, audio)
    return path


def hum(file, stream):
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format='fltp',
        layout='mono')
    frame.sample_rate = 16000
    file.mux(stream.encode(frame))
    file.mux(stream.encode())


def scratch(data, flips, seed):
    r, data = random.Random(seed), bytearray(data)
    for _ in range(flips): data[r.randrange(len(data)//10, len(data)*9//10)] ^= 1 << r.randrange(8)
    return bytes(data)


# Which frames

@pytest.mark.parametrize('n', [16, 17, 29, 47, 48, 49, 100, 1000])
def test_frame_rule(n):
    """Inside the video, rising, evenly spaced, at interval 3 from 48 frames on; every window can
    come."""
    starts = set()
    for at in np.linspace(0, 1, 200, endpoint=False):
        i = frame_indices(n, at=at)
        steps = set(np.diff(i).tolist())
        assert (len(i) == 16 and 0 <= i[0] and i[-1] < n and min(steps) >= 1
            and max(steps) - min(steps) <= 1)
        assert n < 48 or steps == {3}
        starts.add(int(i[0]))
    assert starts == set(range(max(n - 48, 0) + 1)) or n == 1000


def test_too_short_is_an_error():
    with pytest.raises(ValueError, match='15 of the 16 frames'): frame_indices(15)


def test_fit_frames_is_antialiased_and_centred():
    x = torch.randint(0, 256, (2, 3, 48, 80), dtype=torch.uint8)
    assert torch.equal(fit_frames(x, 48), to_float(x)[..., 16:64])
    small = fit_frames(x, 12)
    assert (small.shape == (2, 3, 12, 12) and small.std() < .5 * to_float(x).std()
        and small.abs().max() <= 1)


# Random access

layouts = {'h264 mp4, B-frames': ('a.mp4', dict(g='20', bf='3')), 'h264 mp4, fast start': ('b.mp4',
    dict(g='20', container=dict(movflags='faststart'))),
           'h264 mp4, one key frame': ('c.mp4', {}), 'h264 mp4, open groups': ('d.mp4',
           {'x264-params': 'open-gop=1:keyint=20:min-keyint=20:bframes=3'}),
           'h264 mp4, fragments': ('e.mp4',
           dict(g='20', container=dict(movflags='frag_keyframe+empty_moov'))),
           'h264 mp4, intra refresh': ('f.mp4',
           {'x264-params': 'intra-refresh=1:keyint=20:bframes=0'}), 'h264 mp4 with sound': ('g.mp4',
           dict(g='20', sound=True)),
           'mpeg4 avi': ('h.avi', {}), 'mpeg4 avi, B-frames': ('i.avi', dict(bf='2')),
           'mpeg4 mp4, B-frames': ('j.mp4', dict(codec='mpeg4', bf='2')),
           'h264 avi, made-up times': ('k.avi', dict(codec='libx264')), 'h264 mkv': ('l.mkv',
           dict(g='20')), 'h264 ts': ('m.ts', dict(g='20')), 'mpeg1': ('n.mpg',
           dict(codec='mpeg1video', bf='2'))}


@pytest.mark.parametrize('layout', layouts)
def test_seeking_gives_the_frames_of_decoding_everything(layout, tmp_path):
    "Bit for bit, at every start; where seeking declines, the clip still comes."
    name, options = layouts[layout]
    path = film(tmp_path/name, **options)
    whole, contents = read_video(path), list_contents(path)
    assert contents.count == len(whole) == 90 and not missing_part(path)
    answered = 0
    for at in np.linspace(0, .999, 8):
        want = frame_indices(90, at=at)
        assert torch.equal(read_clip(path, at=at), whole[want])
        seeked = contents.times is not None and decode_from_key(path, contents, want)
        if seeked:
            answered += 1
            assert np.array_equal(np.stack(seeked).transpose(0, 3, 1, 2), whole[want].numpy())
    assert answered == 0 if layout == 'h264 avi, made-up times' else answered < 8 if 'refresh' in layout else answered == 8 or layout == 'mpeg1'


def test_seeking_decodes_a_part_only(tmp_path, monkeypatch):
    "A late clip of a long file does not cost the file."
    path, seen = film(tmp_path/'a.mp4', n=300, g='25'), []
    contents = list_contents(path)
    from align4gen import containers
    monkeypatch.setattr(containers, 'check_intact', lambda frame, path: seen.append(1))
    decode_from_key(path, contents, frame_indices(300, at=.99)); seeked, seen[:] = len(seen), []
    decode_all(path, frame_indices(300, at=.99))
    assert seeked <= 75 and len(seen) > 290


def test_without_time_stamps_everything_is_decoded(tmp_path):
    path = tmp_path/'raw.mpeg'
    film(tmp_path/'a.mp4', bf='2', codec='mpeg4')
    with av.open(str(tmp_path/'a.mp4')) as f:
        f.streams.video[0]; packets = [bytes(p) for p in f.demux(video=0)]
    with av.open(str(tmp_path/'a.mp4')) as f:
        path.write_bytes((f.streams.video[0].codec_context.extradata or b'') + b''.join(packets))
    whole = read_video(path)
    assert (len(whole) >= 88 and torch.equal(read_clip(path, at=.5), whole[frame_indices(len(whole),
        at=.5)]))


# Damage

@pytest.mark.parametrize('suffix, options', [('.avi', {}), ('.avi', dict(bf='2')), ('.mp4', {}),
    ('.mp4', dict(container=dict(movflags='faststart')))])
def test_every_cut_is_noticed(suffix, options, tmp_path):
    "At 40 places, from the first byte to the last, for every window."
    data = film(tmp_path/f'a{suffix}', **options).read_bytes()
    cut = tmp_path/f'cut{suffix}'
    for end in [0, 1, 8, 12, 100, len(data) - 1, len(data) - 2,
            *random.Random(0).sample(range(len(data)), 33)]:
        cut.write_bytes(data[:end])
        for at in (0, .99):
            with pytest.raises(BadVideo) as e: read_clip(cut, at=at)
            assert e.value.path == str(cut) and e.value.reason
            if end > 12:
                assert e.value.reason.startswith(('truncated', 'an mp4 without')), e.value.reason


@pytest.mark.parametrize('suffix', ['.avi', '.mp4', '.mkv'])
def test_flipped_bits_give_a_clip_or_a_reason(suffix, tmp_path):
    "Nothing but BadVideo ever comes out, and much damage of many bits is always seen."
    data, path = film(tmp_path/f'a{suffix}', g='12').read_bytes(), tmp_path/f'x{suffix}'
    refused = 0
    for seed in range(12):
        for flips in (1, 60):
            path.write_bytes(scratch(data, flips, seed))
            try: clip = read_clip(path); assert clip.shape[:2] == (16, 3)
            except BadVideo as e: refused += flips == 60; assert e.reason
    assert refused == 12


def zoo(folder):
    "One of each kind; gives what its reason must say."
    whole = film(folder/'whole.mp4').read_bytes()
    folder = folder/'zoo'
    folder.mkdir()
    def put(name, data): (folder/name).write_bytes(data)
    put('empty.avi', b'')
    put('text.mp4', b'<html>404</html>\n'*100)
    put('noise.avi', random.Random(0).randbytes(5000))
    put('no_moov.mp4', whole[:whole.find(b'moov') - 4])
    with av.open(str(folder/'sound.mp4'), 'w') as file:
        hum(file, file.add_stream('aac', rate=16000))
    put('cut.mp4', whole[:len(whole)//2])
    film(folder/'short.mp4', n=15)
    put('picture.mp4', b'')
    Image.new('RGB', (32, 32)).save(folder/'picture.mp4', 'JPEG')
    return {'empty.avi': 'empty', 'text.mp4': 'decode', 'noise.avi': 'decode',
        'no_moov.mp4': 'no moov box', 'sound.mp4': 'audio only', 'cut.mp4': 'truncated',
        'short.mp4': '15 of the 16', 'picture.mp4': '1 of the 16'}


def test_the_zoo_is_named_counted_and_replaced(tmp_path):
    """Eight broken files among 200: training sees 200 clips a round, the list has eight lines, and
    1% stops it."""
    expected = zoo(tmp_path)
    for i in range(4): film(tmp_path/f'zoo/good{i}.mp4', seed=i)
    ds = load('videos', tmp_path/'zoo', resolution=32)
    assert (len(ds) == 12 and ds.num_classes is None and ds.classes == []
        and set(ds.labels.tolist()) == {-1})
    lenient, strict = BadFiles(tmp_path/'run', len(ds), allow=1), BadFiles(tmp_path/'run2', len(ds))
    for draw in range(2):
        items = [ds[i, draw] for i in range(len(ds))]
        assert all(x['video'].shape == (16, 3, 32, 32) and ds.paths[x['index']].name.startswith(
            'good') for x in items)
        lenient.add(collate(items)['bad'])
    with open(tmp_path/'run/bad_files.csv', newline='') as f: rows = list(csv.DictReader(f))
    assert sorted(r['path'].split('/')[-1] for r in rows) == sorted(expected)
    for r in rows: assert expected[r['path'].split('/')[-1]] in r['reason'], r
    with pytest.raises(ValueError, match=r'1 of 12 files \(8.3%\).*allow_bad'):
        strict.add([next(iter(lenient.reasons.items()))])
    for i, path in enumerate(ds.paths):
        if path.name in expected:
            with pytest.raises(BadVideo): ds.clip(i)


def test_bad_files_counts_each_once_and_goes_on_after_a_restart(tmp_path):
    bad = BadFiles(tmp_path, 300)
    for _ in range(3):
        bad.add([('a.avi', 'empty, "0" bytes'), ('b.avi', 'cut\nin two')]); bad.add([])
    again = BadFiles(tmp_path, 300)
    again.add([('b.avi', 'cut')])
    again.add([('c.avi', 'cut')])
    # 1% of 300 is still fine
    assert len(again) == 3 and again.reasons['a.avi'] == 'empty, "0" bytes'
    with pytest.raises(ValueError, match='4 of 300'): again.add([('d.avi', 'cut')])
    with pytest.raises(ValueError, match='allow_bad'): BadFiles(tmp_path, 300).add([])


def test_nothing_readable_is_an_error_not_a_loop(tmp_path):
    for i in range(3): (tmp_path/f'{i}.mp4').write_bytes(b'')
    with pytest.raises(ValueError, match='3 clips in a row'): load('videos', tmp_path)[0]


def test_a_broken_frame_and_a_changing_size(tmp_path):
    for i, frame in enumerate(pictures(20)): Image.fromarray(frame).save((tmp_path/f'{i}.png'))
    clip = read_clip(tmp_path)
    assert torch.equal(clip[3].permute(1, 2, 0), torch.from_numpy([*pictures(20)][3]))
    data = (tmp_path/'5.png').read_bytes(); (tmp_path/'5.png').write_bytes(data[:len(data)//2])
    with pytest.raises(BadVideo, match='decode'): read_clip(tmp_path)
    Image.new('RGB', (9, 9)).save(tmp_path/'5.png')
    with pytest.raises(BadVideo, match='several sizes'): read_clip(tmp_path)


# Determinism

def test_a_clip_depends_on_seed_index_and_draw_alone(tmp_path):
    for i in range(6): film(tmp_path/f'{i}.avi', n=80 + i, seed=i)
    # its substitute is determined too
    (tmp_path/'3.avi').write_bytes(b'')
    make = lambda seed=0: load('videos', tmp_path, resolution=32, flip=True, seed=seed)
    keys = [(i, d) for d in range(3) for i in range(6)]
    ds, backwards = make(), make()
    want = {k: ds[k] for k in keys}
    for k in reversed(keys):
        got = backwards[k]
        assert (torch.equal(got['video'], want[k]['video']) and {**got, 'video': 0} == {**want[k],
            'video': 0})
    assert (torch.equal(ds[2]['video'], want[2, 0]['video']) and torch.equal(ds[-1]['video'],
        want[5, 0]['video']))
    assert len({ds[0, d]['video'].numpy().tobytes() for d in range(8)}) >= 6
    assert not torch.equal(make(seed=1)[0]['video'], want[0, 0]['video'])
    batches = {w: [*DataLoader(make(), 4, sampler=keys, collate_fn=collate, num_workers=w)]
        for w in (0, 2)}
    for a, b in zip(*batches.values(), strict=True):
        assert (all(torch.equal(a[k], b[k]) for k in ('video', 'label', 'index'))
            and a['bad'] == b['bad'])
    assert sum(len(b['bad']) for b in batches[0]) >= 3
    with pytest.raises(IndexError): ds[6]


def test_flips_are_half_and_only_where_asked(tmp_path):
    path = film(tmp_path/'a.mp4', n=16)
    plain, flips = ClipDataset([path], resolution=48), ClipDataset([path], resolution=48, flip=True)
    # 16 frames: only one window
    assert all(torch.equal(plain.clip(0, d), plain.clip(0)) for d in range(10))
    mirror = plain.clip(0).flip(-1)
    mirrored = [torch.equal(flips.clip(0, d), mirror) for d in range(40)]
    assert (10 < sum(mirrored) < 30 and mirrored == [bool(chances(0, 0, d)[1] < .5)
        for d in range(40)])


# Splits

def ucf_tree(root, lists='ucfTrainTestlist', home='UCF-101'):
    names = [f'{c}/v_{c}_g{g:02d}_c0{k}.avi' for c in ('ApplyEyeMakeup', 'HammerThrow', 'Hammering')
        for g in (1, 8, 9) for k in (1, 2)]
    for i, n in enumerate(names): film(root/home/n, n=20, seed=i)
    (root/lists).mkdir(exist_ok=True)
    (root/lists/'trainlist01.txt').write_text(''.join(f'{n} {1 + i//6}\r\n' for i,
        n in enumerate(names) if '_g01' not in n))
    (root/lists/'testlist01.txt').write_text(''.join(f'{n}\r\n' for n in names if '_g01' in n))
    return names


@pytest.mark.parametrize('lists, home', [('ucfTrainTestlist', 'UCF-101'), ('.', '.')])
def test_ucf101_in_miniature(lists, home, tmp_path):
    names = ucf_tree(tmp_path, lists, home)
    with warnings.catch_warnings():
        # all there: load says nothing
        warnings.simplefilter('error')
        train, test = (load('ucf101', tmp_path, resolution=32), load('ucf101', tmp_path, 'test',
            resolution=32))
    assert ((len(train), len(test)) == (12, 6) and train.flip
        and not set(train.paths) & set(test.paths))
    assert (train.classes == test.classes == ['ApplyEyeMakeup', 'HammerThrow', 'Hammering']
        and train.num_classes == 3)
    assert all(train.classes[l] == p.parent.name for p, l in zip(train.paths, train.labels))
    with pytest.warns(UserWarning,
            match='12 videos, official are 9,537.*6 videos, official are 3,783'):
        told = check_ucf101(tmp_path)
    assert told['train'] == dict(listed=12, official=9537, found=12, missing=0, classes=3)
    for n in names[:3]: (tmp_path/home/n).unlink()
    with pytest.warns(UserWarning, match='1 of 12 listed videos are missing'):
        train = load('ucf101', tmp_path)
    assert len(train) == 11 and train.left_out[0][1] == 'missing' and train.labels[-1] == 2
    with pytest.raises(ValueError, match='2 of 6 listed videos are missing'):
        check_ucf101(tmp_path, strict=True)
    with pytest.raises(ValueError, match='val'): load('ucf101', tmp_path, 'val')


def test_ucf101_official_numbers(tmp_path):
    "With lists of the official lengths and all files there, the check is silent."
    classes = [f'Class{i:03d}' for i in range(101)]
    for split, n in (('train', 9537), ('test', 3783)):
        names = [f'{classes[i % 101]}/v_{split}_{i}.avi' for i in range(n)]
        for c in classes: (tmp_path/c).mkdir(exist_ok=True)
        for name in names: (tmp_path/name).touch()
        (tmp_path/f'{split}list01.txt').write_text(''.join(f'{name} 1\n' for name in names))
    with warnings.catch_warnings():
        warnings.simplefilter('error'); told = check_ucf101(tmp_path, strict=True)
    assert ((told['train']['found'], told['test']['found'], told['train']['classes']) == (9537,
        3783, 101))


def test_frame_folders_and_videos(tmp_path):
    """SkyTimelapse and FaceForensics: folders of frames, in the order of their numbers, beside
    videos."""
    for where, n in (('sky_train/v/v_1', 30), ('sky_train/v/v_2', 12), ('sky_test/w/w_1', 16)):
        (tmp_path/where).mkdir(parents=True)
        for i, frame in enumerate(pictures(n)):
            Image.fromarray(frame).save(tmp_path/where/f'frame{i + 1}.png')
    film(tmp_path/'sky_train/z.mp4')
    sky, test, ffs = (load('sky', tmp_path, resolution=48), load('sky', tmp_path, 'test'),
        load('ffs', tmp_path))
    assert ([p.name for p in sky.paths] == ['v_1', 'z.mp4'] and len(test) == 1 and (sky.flip,
        ffs.flip) == (False, True))
    assert (sky.left_out == [(str(tmp_path/'sky_train/v/v_2'),
        'too short: 12 of the 16 frames that a clip needs')])
    want = torch.from_numpy(np.stack([*pictures(30)])).permute(0, 3, 1, 2)[frame_indices(30)]
    assert (torch.equal(sky.clip(0), fit_frames(want, 48)) and sky.num_classes is None
        and sky[0]['label'] == -1)
    assert sky[1]['video'].shape == (16, 3, 48, 48)


def test_kinetics(tmp_path):
    "The official columns over two files, and a path,label file; classes come from all splits."
    film(tmp_path/'train/juggling/abc-_1_000010_000020.mp4')
    film(tmp_path/'val/zumba/xyz_000000_000010.mp4')
    head = 'label,youtube_id,time_start,time_end,split\n'
    (tmp_path/'train.csv').write_text(head
        + 'juggling,abc-_1,10,20,train\n"zumba, fast",gone,5,15,train\n')
    (tmp_path/'validate.csv').write_text(head + 'zumba,xyz,0,10,validate\n')
    with pytest.warns(UserWarning, match='1 of 2 listed videos are missing'):
        train = load('kinetics', tmp_path)
    val = load('kinetics', tmp_path, 'val')
    assert (train.classes == val.classes == ['juggling', 'zumba', 'zumba, fast']
        and train.labels.tolist() == [0] and val.labels.tolist() == [1])
    assert train.left_out[0][0].endswith('gone_000005_000015.mp4')
    (tmp_path/'mine.csv').write_text(
        'path,label\nval/zumba/xyz_000000_000010.mp4,b\ntrain/juggling/abc-_1_000010_000020.mp4,a\n')
    assert load('kinetics', tmp_path/'mine.csv').labels.tolist() == [1, 0]
    (tmp_path/'bad.csv').write_text('file,class\nx,y\n')
    with pytest.raises(ValueError, match='path,label, not file,class'):
        load('kinetics', tmp_path/'bad.csv')


def test_any_folder_of_videos_and_images(tmp_path):
    for c, i in (('cat', 0), ('dog', 1), ('dog', 2)): film(tmp_path/f'train/{c}/{i}.mp4', seed=i)
    film(tmp_path/'test/dog/3.avi')
    (tmp_path/'train/notes.txt').write_text('hello')
    train, test = load('videos', tmp_path), load('videos', tmp_path, 'test')
    assert (train.classes == test.classes == ['cat', 'dog'] and train.labels.tolist() == [0, 1, 1]
        and test.labels.tolist() == [1])
    assert (train.left_out == [(str(tmp_path/'train/notes.txt'),
        'not of a known kind, by its name')] and not train.flip)
    assert (load('videos', tmp_path/'train').labels.tolist() == [0, 1, 1] and load('videos',
        tmp_path/'train/dog').num_classes is None)
    with pytest.raises(ValueError, match='none for .val.'): load('videos', tmp_path, 'val')
    with pytest.raises(ValueError, match='no train clip'): load('images', tmp_path)
    for c in 'ab':
        (tmp_path/'i'/c).mkdir(parents=True)
        Image.new('RGB', (40, 30), (255, 0, 0)).save(tmp_path/f'i/{c}/1.jpg')
    images = load('images', tmp_path/'i', resolution=16, frames=16)
    assert (images[1]['video'].shape == (1, 3, 16, 16) and images.classes == ['a', 'b']
        and images[1]['label'] == 1)


def test_wrong_arguments_are_named(tmp_path):
    for call, says in ((lambda: load('ucf102', tmp_path), 'ucf101'),
            (lambda: load('sky', tmp_path/'x'), 'there is no'),
            (lambda: ClipDataset([], interval=0), 'interval is a whole number of at least 1'),
                       (lambda: load('kinetics', tmp_path), 'no CSV'),
                       (lambda: load('videos', tmp_path, 'dev'), "'train', 'val' or 'test'")):
        with pytest.raises(ValueError, match=says): call()


@pytest.mark.parametrize('names, splits', [(['freight_train', 'passenger_train'], []),
    (['freight_train'], []), (['sky_train', 'sky_test'], ['test', 'train']), (['train'], ['train']),
    (['Train', 'VALIDATION'], ['train', 'val']), (['train', 'cats'], []), (['été-train', 'e\u0301te\u0301-test'],
    ['test', 'train']), (['contest', 'latest'], []), (['b_train', 'b_train_2'], [])])
def test_splits_are_recognised_by_one_rule(names, splits, tmp_path):
    "All of them train, val or test, perhaps with one name before; everything else is a class."
    for n in names: (tmp_path/n).mkdir()
    assert sorted(split_folders(tmp_path)) == splits


def test_two_folders_for_one_split_are_an_error(tmp_path):
    for n in ('train', 'training'): (tmp_path/n).mkdir()
    with pytest.raises(ValueError, match='two folders for one split'): split_folders(tmp_path)


def test_classes_that_end_in_train_keep_their_clips(tmp_path):
    for i, c in enumerate(('freight_train', 'passenger_train')): film(tmp_path/c/'a.mp4', n=16, seed=i)
    ds = load('videos', tmp_path)
    assert ds.classes == ['freight_train', 'passenger_train'] and ds.labels.tolist() == [0, 1]


def test_what_was_left_out_is_listed_and_not_counted(tmp_path):
    film(tmp_path/'v/a.mp4', n=16)
    (tmp_path/'v/b.xyz').write_text('?')
    with pytest.warns(UserWarning, match='1 files left out: 1 not of a known kind'):
        ds = load('videos', tmp_path/'v')
    bad = BadFiles(tmp_path/'run', len(ds), left_out=ds.left_out)
    BadFiles(tmp_path/'run', len(ds), left_out=ds.left_out).add([])
    assert len(bad) == 0
    with open(tmp_path/'run/bad_files.csv', newline='') as f: rows = [*csv.DictReader(f)]
    assert [(r['path'].split('/')[-1], r['reason']) for r in rows] == [
        ('b.xyz', 'not of a known kind, by its name')]


def test_moving_digits_are_a_data_set_like_others():
    from align4gen.data import MovingDigits
    ds, plain = load('digits', clips=8, frames=4), MovingDigits(n=8, frames=4)
    assert torch.equal(ds.videos, plain.videos) and torch.equal(ds.labels, plain.labels)
    assert torch.equal(ds[3]['video'], plain[3][0]) and ds.in_memory and 'digits' in data_sets
