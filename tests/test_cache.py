("A cache is whole or it says so: killed anywhere it goes on, however many processes make it the "
"bytes are the same, and what does not fit is named.")
import functools, http.server, json, os, random, signal, subprocess, sys, tarfile, threading, time

import pytest, torch, webdataset

from align4gen import cache, encoders, vae
from align4gen.datasets import DigitClips
from align4gen.cache import (CachedClips, align4gen_cache, build, check_manifest,
    collate, encode_clips, finished, unpack, verify)
from align4gen.weights import fingerprint

teachers = ['mini_random', 'mini_mae']
code = 'import sys; from align4gen.cache import align4gen_cache; sys.exit(align4gen_cache())'
options = ['--videos', '48', '--clips', '2', '--shard_clips', '12', '--batch', '4', '--teachers',
    ','.join(teachers)]


def command(out, *more): return [sys.executable, '-c', code, '--out', str(out), *options, *more]
def make(out, *more): return align4gen_cache(['--out', str(out), *options, *more])
def shards(folder): return {p.name: p.read_bytes() for p in sorted(folder.glob('shard-*'))}


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "Made by one process, in one go."
    folder = tmp_path_factory.mktemp('whole')/'cache'
    assert make(folder) == 0
    return folder


@pytest.fixture
def copy(whole, tmp_path):
    for p in whole.iterdir(): (tmp_path/p.name).write_bytes(p.read_bytes())
    return tmp_path


def test_items_are_what_the_networks_say(whole):
    cached, digits, coder = CachedClips(whole), DigitClips(n=48), vae.load('mini')
    assert (len(cached) == 96 and cached.classes == digits.classes and cached.num_classes == 10
        and cached.bad == [])
    assert (cached.labels == digits.labels.tolist()*2 and cached.index == [*range(48)]*2
        and cached.draws == [0]*48 + [1]*48)
    models = [encoders.load(t) for t in teachers]
    for j in (0, 5, 47, 48, 90):
        item, source = cached[j], digits[j % 48, j // 48]
        assert cached[j, 3]['mean'].equal(item['mean'])
        (want,) = encode_clips(source['video'][None], coder, models, dtype='fp32')
        torch.testing.assert_close(item['mean'], want['mean'], atol=2e-3, rtol=1e-3)
        torch.testing.assert_close(item['std'], want['std'], atol=1e-3, rtol=1e-3)
        for t, f in zip(teachers, item['features']):
            torch.testing.assert_close(f.float(), want[f'features.{t}'], atol=5e-3, rtol=2e-3)
        assert (item['label'] == source['label'] and item['index'] == j % 48
            and item['mean'].dtype == item['std'].dtype == torch.float32)


@pytest.mark.parametrize('threads, more', [(2, ['--jobs', '2']), (2, ['--workers', '1']), (1, [])])
def test_any_number_of_processes_and_threads_gives_the_same_bytes(whole, tmp_path, threads, more):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try: assert make(tmp_path, *more) == 0
    finally: torch.set_num_threads(before)
    for name in ('manifest.json', 'index.json'):
        assert (tmp_path/name).read_bytes() == (whole/name).read_bytes()
    assert shards(tmp_path) == shards(whole)


def test_machines_share_a_folder(whole, tmp_path):
    "Each makes its own shards; the last to finish writes the index."
    assert (make(tmp_path, '--world', '2', '--rank', '1') == 0
        and not (tmp_path/'index.json').exists())
    assert ([p.name for p in sorted(tmp_path.glob('*.tar'))] == [f'shard-{k:06d}.tar'
        for k in (1, 3, 5, 7)])
    with pytest.raises(FileNotFoundError, match='no cache was finished there'):
        CachedClips(tmp_path)
    assert make(tmp_path, '--world', '2', '--rank', '0') == 0
    assert shards(tmp_path) == shards(whole)


def test_sigkill_then_again(whole, tmp_path):
    """Killed at moments nobody chose; finished shards are not made again, the rest is, and the
    bytes agree."""
    clock, kept = random.Random(0), {}
    for wanted in (1, 3):
        p = subprocess.Popen(command(tmp_path), stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        end = time.time() + 120
        while (time.time() < end and p.poll() is None
                and len([*tmp_path.glob('shard-*.json')]) < wanted):
            time.sleep(.005)
        time.sleep(clock.random()*.05)
        p.send_signal(signal.SIGKILL)
        p.wait()
        names = [f'shard-{k:06d}.tar' for k in range(8)]
        done = {n: (tmp_path/n).stat().st_mtime_ns for n in names if finished(tmp_path, n)}
        assert len(done) >= wanted and all(done[n] == t for n, t in kept.items())
        kept = done
    assert not (tmp_path/'index.json').exists() or len(kept) == 8
    (tmp_path/'.0000.part.shard-000005.tar').write_bytes(b'half')
    assert make(tmp_path) == 0
    assert all((tmp_path/n).stat().st_mtime_ns == t for n, t in kept.items())
    assert shards(tmp_path) == shards(whole) and not [*tmp_path.glob('.*')]


def test_killed_parent_takes_its_workers_along(tmp_path):
    p = subprocess.Popen(command(tmp_path, '--jobs', '2', '--videos', '4000'),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.time() + 120
    while time.time() < end and len([*tmp_path.glob('shard-*.json')]) < 2: time.sleep(.02)
    p.send_signal(signal.SIGKILL)
    p.wait()
    time.sleep(3)
    before = len([*tmp_path.iterdir()])
    time.sleep(2)
    assert len([*tmp_path.iterdir()]) == before, 'somebody still writes'


def test_a_failing_worker_is_one_message(tmp_path):
    with pytest.raises(RuntimeError, match='ValueError: broken on purpose'):
        build(Broken(n=8), tmp_path, jobs=2, shard_clips=2, progress=False)


class Broken(DigitClips):
    def __getitem__(self, i):
        if multiprocess(): raise ValueError('broken on purpose')
        return super().__getitem__(i)


def multiprocess():
    import multiprocessing
    return multiprocessing.parent_process() is not None


def test_plain_stream(whole):
    "WebDataset reads the shards without us."
    urls = [str(p) for p in sorted(whole.glob('*.tar'))]
    seen = {(s['__key__']): unpack(s, teachers) for s in webdataset.WebDataset(urls,
        shardshuffle=False)}
    assert len(seen) == 96
    cached = CachedClips(whole)
    for j in (3, 60):
        item = seen[f'{j % 48:08d}-{j // 48:03d}']
        assert (item['mean'].equal(cached[j]['mean']) and all(a.equal(b) for a,
            b in zip(item['features'], cached[j]['features']))
            and item['label'] == cached.labels[j])
    assert any('json' in s and json.loads(s['json'])['draw'] == 1
        for s in webdataset.WebDataset(urls, shardshuffle=False))


@pytest.mark.parametrize('workers', [0, 2])
def test_loader(whole, workers):
    loader = torch.utils.data.DataLoader(CachedClips(whole, teachers=['mini_mae']), batch_size=32,
        num_workers=workers, collate_fn=collate)
    batches = [*loader]
    assert ([b['mean'].shape for b in batches] == [(32, 6, 4, 4, 4)]*3
        and batches[0]['label'].dtype == torch.long)
    assert (len(batches[0]['features']) == 1 and batches[0]['features'][0].shape == (32, 6, 16, 96)
        and batches[0]['bad'] == [])
    assert torch.cat([b['index'] for b in batches]).tolist() == [*range(48)]*2


def test_teachers_in_the_order_asked_for(whole):
    both, turned, none = (CachedClips(whole), CachedClips(whole, teachers=teachers[::-1]),
        CachedClips(whole, teachers=[]))
    assert both[1]['features'][0].equal(turned[1]['features'][1]) and none[1]['features'] == []
    with pytest.raises(ValueError, match=r"teachers is .* \['dinov2_b'\] is wanted"):
        CachedClips(whole, teachers=['dinov2_b'])


def cut(path): path.write_bytes(path.read_bytes()[:-20480])
def longer(path): path.write_bytes(path.read_bytes() + b'x')
def gone(path): path.unlink()


@pytest.mark.parametrize('damage', [cut, longer, gone])
def test_a_damaged_shard_is_named_and_mended(whole, copy, damage):
    damage(copy/'shard-000002.tar')
    with pytest.raises((ValueError, FileNotFoundError), match='shard-000002.tar'): CachedClips(copy)
    assert make(copy) == 0
    assert shards(copy) == shards(whole)


def test_damage_after_opening_names_the_shard(copy):
    cached = CachedClips(copy); j = cached._shard.tolist().index(4)
    where = copy/'shard-000004.tar'; good = where.read_bytes()
    where.write_bytes(good[:cached._offset[j] + 100])
    with pytest.raises(ValueError, match='shard-000004.tar'): cached[j]
    where.write_bytes(good[:cached._offset[j]] + os.urandom(len(good) - cached._offset[j]))
    with pytest.raises(ValueError, match='shard-000004.tar'): cached[j]


def test_one_flipped_bit_is_found_by_check(copy, capsys):
    assert (align4gen_cache(['--check', str(copy)]) == 0
        and 'all as written' in capsys.readouterr().out)
    path = copy/'shard-000006.tar'
    data = bytearray(path.read_bytes())
    data[len(data)//2] ^= 1
    path.write_bytes(data)
    with pytest.raises(SystemExit) as e: align4gen_cache(['--check', str(copy)])
    assert e.value.code == 2 and 'shard-000006.tar is damaged' in capsys.readouterr().err


@pytest.mark.parametrize('wanted, says', [
    (dict(vae='sd14'), "vae is 'mini' in its manifest, 'sd14' is wanted"), (dict(frames=16),
    'frames is 6'), (dict(resolution=256), 'resolution is 16'), (dict(grid=(16, 16)),
    'grid of mini_random is'),
    (dict(teachers=['mini_infonce']), 'teachers is'), (dict(data='ucf101'), "data is 'digits'"),
    (dict(split='test'), "split is 'train'"), (dict(clips=3), 'clips is 2'), (dict(dtype='bf16'),
    "dtype is 'fp16'"),
    (dict(hashes=dict(mini='00')), 'weights hash of mini is'), (dict(hashes=dict(sd3='00')),
    'weights hash of sd3 is None'), (dict(colour=3), 'colour is no field')])
def test_what_does_not_fit_is_named(whole, wanted, says):
    with pytest.raises(ValueError) as e: CachedClips(whole, expect=wanted)
    assert says in str(e.value)


def test_what_fits_fits(whole):
    manifest = json.loads((whole/'manifest.json').read_text())
    check_manifest(manifest, vae='mini', teachers=['mini_mae'], frames=6, resolution=16,
        grid=(4, 4), data='digits', split='train', interval=None,
                   hashes=dict(mini=fingerprint(vae.load('mini')),
                   mini_mae=fingerprint(encoders.load('mini_mae'))))


@pytest.mark.parametrize('more, says', [(['--frames', '8'], 'frames is 6 there, 8 is wanted'),
    (['--dtype', 'bf16'], 'dtype'), (['--clips', '3'], 'clips'), (['--videos', '50'], 'data'),
    (['--grid', '2x2'], 'grid'), (['--shard_clips', '10'], 'shard')])
def test_another_cache_does_not_go_into_the_same_folder(whole, capsys, more, says):
    before = shards(whole)
    with pytest.raises(SystemExit) as e: align4gen_cache(['--out', str(whole), *options, *more])
    assert e.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert 'holds another cache' in message and says in message and shards(whole) == before


def test_grid_dtype_and_no_teacher(tmp_path):
    cached = build(DigitClips(n=5), tmp_path/'a', teachers=['mini_mae'], grid=(2, 2), dtype='bf16',
        progress=False)
    assert (cached[0]['features'][0].shape == (6, 4, 96)
        and cached[0]['features'][0].dtype == torch.bfloat16)
    pixels = build(DigitClips(n=5), tmp_path/'b', vae='pixels', dtype='fp32', progress=False)
    assert (pixels[4]['mean'].equal(DigitClips(n=5)[4]['video'])
        and pixels[4]['std'].abs().max() == 0 and pixels.teachers == [])
    fast = build(DigitClips(n=5), tmp_path/'c', teachers=['mini_mae'], precision='bf16',
        progress=False)
    assert fast.manifest['precision'] == 'bf16' and fast[0]['features'][0].isfinite().all()
    # zeros are not stored
    assert sum(len(v) for v in shards(tmp_path/'b').values()) < 5*6*3*16*16*4*1.5


class Damaged(DigitClips):
    "Videos 2 and 7 cannot be read; another clip takes their place, as the data sets of files do."
    def __getitem__(self, i):
        index, draw = i if isinstance(i, tuple) else (i, 0)
        return (super().__getitem__(((index + 1) % len(self), draw))
            | dict(bad=[(f'v{index}.avi', 'empty file')]) if index in (2, 7)
            else super().__getitem__(i))


def test_bad_files_are_listed_and_not_stored(tmp_path):
    with pytest.raises(ValueError,
            match=r'4 of 24 clips could not be read, for example v2.avi \(empty file\).*allow_bad='):
        build(Damaged(n=12), tmp_path, clips=2, shard_clips=6, progress=False)
    before = shards(tmp_path)
    cached = build(Damaged(n=12), tmp_path, clips=2, shard_clips=6, allow_bad=.2, progress=False)
    assert shards(tmp_path) == before and len(cached) == 20 and not {2, 7} & {*cached.index}
    assert cached.bad == [[f'v{i}.avi', 'empty file', i, d] for i in (2, 7) for d in (0, 1)]
    assert len({(i, d) for i, d in zip(cached.index, cached.draws)}) == 20


def test_dry_run_writes_nothing(tmp_path, capsys):
    assert align4gen_cache(['--out', str(tmp_path/'cache'), *options, '--dry_run']) == 0
    said = capsys.readouterr().out
    assert ('48 videos x 2 clips = 96 clips in 8 shards, fp16' in said and 'about' in said
        and 'free' in said and [*tmp_path.iterdir()] == [])


def test_the_estimated_size_is_the_size(whole):
    spec = cache.CacheSpec(teachers=teachers)
    seen = cache.probe(DigitClips(n=1), spec, spec.load())
    tars = sum(p.stat().st_size for p in whole.glob('*.tar'))
    assert .97 < cache.clip_bytes(seen['shapes'])*96/tars < 1.03


def test_a_full_disk_is_said_before(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cache.shutil, 'disk_usage', lambda p: type('U', (), dict(free=1000)))
    with pytest.raises(SystemExit) as e: align4gen_cache(['--out', str(tmp_path/'cache'), *options])
    assert (e.value.code == 2 and 'are needed' in capsys.readouterr().err
        and not [*tmp_path.rglob('*.tar')])


@pytest.fixture
def server(copy):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *a): pass
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet,
            directory=str(copy))) as s:
        threading.Thread(target=s.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{s.server_port}', copy
        s.shutdown()


def test_url(whole, server, tmp_path_factory):
    "Copied once, then local; a shard that arrives damaged is refused."
    (url, remote), local = server, tmp_path_factory.mktemp('local')
    cached = CachedClips(url, local=local)
    assert verify(local) and cached[50]['mean'].equal(CachedClips(whole)[50]['mean'])
    stamps = {p.name: p.stat().st_mtime_ns for p in local.glob('*.tar')}
    (local/'shard-000001.tar').unlink()
    CachedClips(url, local=local)
    assert all((local/n).stat().st_mtime_ns == t for n, t in stamps.items()
        if n != 'shard-000001.tar')
    (local/'shard-000001.tar').unlink()
    cut(remote/'shard-000001.tar')
    with pytest.raises(OSError, match='shard-000001.tar.*bytes came'): CachedClips(url, local=local)
    with pytest.raises(OSError, match='could not fetch .*manifest.json'):
        CachedClips(f'{url}/nowhere', local=local/'other')
    assert not [*local.glob('.*')]


def test_bytes_do_not_depend_on_the_clock(whole):
    with tarfile.open(whole/'shard-000000.tar') as tar:
        assert ({m.mtime for m in tar} == {0} and [m.name.split('.', 1)[1] for m in tar] == ['json',
            'safetensors']*12)


@pytest.mark.parametrize('bad, says', [
    (['--data', 'ucf101'], '--root'), (['--teachers', 'mini_infonse'], 'mini_infonse'),
    (['--grid', '4'], '--grid'), (['--clips', '0'], 'clips=0'), (['--rank', '2'], 'rank=2'),
    (['--jobs', '0'], 'jobs=0'),
    (['--vae', 'sd15'], "--vae 'sd15'"), (['--vae', 'sd14'], 'sd14=PATH'),
    (['--data', 'ucf'], "'ucf101'"), (['--weights', 'mini_infonce=hub'], 'mini_infonce'),
    (['--weights', 'mini_mae=hub'], 'not on the Hub'), (['--batch', '0'], 'batch=0')])
def test_impossible_values_are_one_clear_error(bad, says, tmp_path, capsys):
    with pytest.raises(SystemExit) as e:
        align4gen_cache(['--out', str(tmp_path/'cache'), *options, *bad])
    assert (e.value.code == 2 and says in capsys.readouterr().err.splitlines()[-1]
        and [*tmp_path.iterdir()] == [])


def test_a_folder_of_videos(tmp_path, capsys):
    "Real files through the command; one of them is empty."
    from align4gen.data import MovingDigits
    from align4gen.video import write_video
    clips = MovingDigits(n=6, frames=8, size=32)
    for i in range(6):
        path = tmp_path/f'videos/{"ab"[i % 2]}/{i}.mp4'
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, clips.videos[i], 8)
    (tmp_path/'videos/b/6.mp4').write_bytes(b'')
    said = ['--data', 'videos', '--root', str(tmp_path/'videos'), '--frames', '4', '--interval',
        '1', '--resolution', '16', '--vae', 'mini', '--teachers', 'mini_mae', '--clips', '2',
        '--out', str(tmp_path/'cache')]
    with pytest.raises(SystemExit): align4gen_cache(said)
    assert '6.mp4' in capsys.readouterr().err
    assert align4gen_cache([*said, '--allow_bad', '.2']) == 0
    cached = CachedClips(tmp_path/'cache', expect=dict(data='videos', frames=4, interval=1,
        resolution=16, vae='mini'))
    assert (len(cached) == 12 and cached.classes == ['a', 'b'] and {b[0].rsplit('/', 1)[1]
        for b in cached.bad} == {'6.mp4'} and cached[0]['mean'].shape == (4, 4, 4, 4))
    assert str(tmp_path) not in (tmp_path/'cache/manifest.json').read_text()
