"""Damaged files of every kind through every reader, in a child with little memory and little time: each is read or
refused with a reason, nothing crashes, hangs or runs.

200 files by a fixed seed; $ALIGN4GEN_FUZZ is another number, and results/attacks/fuzz.json what 2,000 gave."""
import collections, faulthandler, json, os, random, resource, shutil, signal, subprocess, sys, warnings
from pathlib import Path

import pytest

count, seed = int(os.environ.get('ALIGN4GEN_FUZZ', 200)), 0
seconds, memory = 30, 6 * 2**30          # of the processor, for one file; address space of the child, most of it libraries


# The child

def sound(folder):
    "What is damaged later: small files of every kind, name to (reader, path)."
    import av, numpy as np, torch
    from PIL import Image
    from safetensors.torch import save_file
    from align4gen import cache, run, sample_folder, vdit
    from align4gen.datasets import DigitClips
    from align4gen.metrics import Result
    pictures = np.random.default_rng(0).integers(0, 255, (10, 32, 48, 3), np.uint8)
    for ending, codec in (('mp4', 'h264'), ('mov', 'mjpeg'), ('avi', 'mpeg4'), ('mkv', 'h264'), ('webm', 'libvpx'),
            ('ts', 'mpeg2video'), ('mpg', 'mpeg1video'), ('gif', '')):
        path = folder/f'a.{ending}'
        if not codec: Image.fromarray(pictures[0]).save(path, save_all=True, append_images=[*map(Image.fromarray, pictures[1:])])
        else:
            with av.open(str(path), 'w') as film:
                stream = film.add_stream(codec, 24)
                stream.width, stream.height = 48, 32
                stream.pix_fmt = 'yuvj420p' if codec == 'mjpeg' else 'yuv420p'
                for p in pictures: film.mux(stream.encode(av.VideoFrame.from_ndarray(p)))
                film.mux(stream.encode())
        yield f'video.{ending}', 'film', path
    for ending in ('png', 'jpg', 'webp', 'tif', 'bmp'):
        Image.fromarray(pictures[0]).save(folder/f'a.{ending}')
        yield f'image.{ending}', 'picture', folder/f'a.{ending}'
    save_file(dict(w=torch.rand(3, 4), b=torch.rand(4)), folder/'a.safetensors')
    yield 'safetensors', 'tensors', folder/'a.safetensors'
    torch.manual_seed(0)
    torch.save(dict(model=vdit.vdit('mini', dim=8, depth=2, heads=2, input_size=4, frames=2).state_dict()), folder/'a.pt')
    yield 'pickle', 'latte', folder/'a.pt'
    shutil.copytree(run.example_run().path, folder/'run')
    yield 'run: config', 'run', folder/'run'/'config.json'
    yield 'run: state', 'run', next((folder/'run').glob('checkpoints/*/state.json'))
    cache.build(DigitClips('train', 4), folder/'cache', teachers=['mini_random'], progress=False)
    for name in ('manifest.json', 'index.json', 'shard-000000.tar'):
        yield f'cache: {name}', 'cache', folder/'cache'/name
    sample_folder.sample_to(folder/'samples', run.Run(folder/'run'), 1, steps=1, format='npy', progress=False)
    yield 'samples: manifest', 'samples', folder/'samples'/'manifest.json'
    yield 'samples: npy', 'samples', folder/'samples'/'00000.npy'
    Result('psnr', 1.).save(folder/'result.json')
    yield 'result', 'result', folder/'result.json'
    (folder/'captions.csv').write_text('file,caption\na.mp4,a film\n"b.mp4","two, films"\n')
    yield 'captions.csv', 'captions', folder/'captions.csv'
    (folder/'a.txt').write_text('a film')
    subprocess.run(['tar', 'cf', 'captions.tar', 'a.mp4', 'a.txt'], cwd=folder, check=True)
    yield 'captions.tar', 'captions', folder/'captions.tar'


def read(reader, path):
    "Read a file in all the ways there are."
    from align4gen import cache, clips, metrics, prompts, run, sample_folder, vdit, video, weights
    import torch
    def film(p): video.read_clip(p, 4, 1, .5); video.read_video(p)
    def samples(p): clips.load_clips(p.parent, frames=2)[0]; sample_folder.read_samples(p.parent)
    def latte(p):
        weights.to_safetensors(p, p.with_suffix('.out'))
        run.load_start(vdit.vdit('mini', dim=8, depth=2, heads=2, input_size=4, frames=2), p)
    def cached(p):
        clips = cache.CachedClips(p.parent)
        for i in range(min(4, len(clips))): clips[i]
    def opened(p): run.Run(next(q for q in p.parents if (q/'config.json').exists())).model()
    ways = dict(film=film, picture=video.read_image, tensors=lambda p: weights.read_state(p, 'it'), latte=latte, run=opened,
        cache=cached, samples=samples, result=metrics.Result.load, captions=prompts.read_captions)
    ways[reader](path)


def tried(reader, path):
    "(what happened, message): 'read', 'refused', or the name of another error."
    def late(*a): raise TimeoutError('it hangs')
    for number in (signal.SIGPROF, signal.SIGALRM): signal.signal(number, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(10*seconds)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            read(reader, path)
        return 'read', ''
    except TimeoutError as e: return 'hang', str(e)
    except (ValueError, OSError) as e: return 'refused' if str(e) else type(e).__name__, str(e)
    except Exception as e: return type(e).__name__, str(e)
    finally: signal.setitimer(signal.ITIMER_PROF, signal.alarm(0)*0)


def child(folder):
    "Read what stdin names, one JSON line a file."
    import torch
    torch.set_num_threads(1)
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    for line in sys.stdin:
        reader, path = json.loads(line)
        print('fuzz', json.dumps(tried(reader, Path(path))), flush=True)


# The parent

def damaged(data, dice):
    "Bytes with something wrong: cut, flipped, zeroed, doubled, mixed up, or numbers made large."
    data = bytearray(data)
    if len(data) < 2: return bytes(data)
    for _ in range(dice.choice((1, 1, 1, 2, 5, 20))):
        at, size = dice.randrange(len(data)), dice.choice((1, 2, 4, 8, 64, 512))
        how = dice.choice(('cut', 'flip', 'byte', 'zero', 'double', 'large', 'move', 'drop'))
        if how == 'cut' and dice.random() < .3: del data[at:]
        elif how == 'flip': data[at] ^= 1 << dice.randrange(8)
        elif how == 'byte': data[at] = dice.randrange(256)
        elif how == 'zero': data[at:at + size] = bytes(len(data[at:at + size]))
        elif how == 'double': data[at:at] = data[at:at + size]
        elif how == 'large': data[at:at + 4] = dice.choice((b'\xff'*4, b'\x7f\xff\xff\xff', b'9999', b'-1.5'))
        elif how == 'move': data[at:at + size] = data[(b := dice.randrange(len(data))):b + size]
        elif how == 'drop': del data[at:at + size]
        if len(data) < 2: break
    return bytes(data)


class Reader:
    "The child, begun again when it has died."
    def __init__(self): self.p = None
    def __call__(self, reader, path):
        if self.p is None or self.p.poll() is not None:
            self.p = subprocess.Popen([sys.executable, __file__, 'child'], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True)
        self.p.stdin.write(json.dumps([reader, str(path)]) + '\n')
        self.p.stdin.flush()
        for line in self.p.stdout:
            if line.startswith('fuzz'): return json.loads(line[5:])
        return f'crash {self.p.wait()}', ''
    def close(self):
        if self.p is not None: self.p.kill(); self.p.wait()


class Canary:
    def __init__(self, path): self.path = path
    def __reduce__(self): return os.mkdir, (str(self.path),)


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sound')
    return folder, [*sound(folder)]


@pytest.fixture(scope='module')
def reader():
    r = Reader()
    yield r
    r.close()


def test_sound_files_are_read(files, reader):
    "What is damaged below is whole to begin with."
    for name, how, path in files[1]: assert reader(how, path) == ['read', ''], name


def test_damaged_files(files, reader, tmp_path):
    "No crash, no hang, no error that is not ours; the counts are printed."
    folder, kinds = files
    found, odd = collections.Counter(), []
    for i in range(count):
        name, how, path = kinds[i % len(kinds)]
        dice = random.Random(f'{seed} {i}')
        whole = path.read_bytes()
        bad = damaged(whole, dice)
        try:
            path.write_bytes(bad)
            happened, said = reader(how, path)
        finally: path.write_bytes(whole)
        found[name, happened] += 1
        if happened not in ('read', 'refused') or '\n' in said.strip():
            odd.append((i, name, happened, said[:300]))
            if keep := os.environ.get('ALIGN4GEN_KEEP'): (Path(keep)/f'{i}-{path.name}').write_bytes(bad)
    counts = {n: {h: found[n, h] for m, h in found if m == n} for n, _, _ in kinds}
    print(json.dumps(dict(files=count, seed=seed, counts=counts), indent=1))
    if out := os.environ.get('ALIGN4GEN_FUZZ_OUT'):
        from align4gen.run import machine
        from align4gen.sample_folder import made_with
        total = collections.Counter(h for _, h in found.elements())
        Path(out).write_text(json.dumps(dict(files=count, seed=seed, total=total, odd=len(odd), **made_with(),
            machine=machine(), counts=counts), indent=1) + '\n')
    assert odd == [], '\n'.join(map(str, odd))


def test_nothing_is_run(reader, tmp_path):
    "A pickle that makes a folder when it is loaded makes none, as weights to start from or to convert."
    import torch
    for where in ('model', 'state_dict', 'a'):
        path = tmp_path/'canary.pt'
        torch.save({where: Canary(tmp_path/'sung')}, path)
        assert reader('latte', path)[0] == 'refused' and not (tmp_path/'sung').exists()


if __name__ == '__main__' and sys.argv[1:] == ['child']: child(None)
