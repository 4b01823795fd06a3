"""One random clip (16 frames at interval 3) of a longer video: seeking, against reading the whole file with PyAV.

    python benchmarks/decode.py [--frames 300] [--clips 20] [--out results/benchmarks/decode.json] [--against CHECKOUT]

The files are made first: a photograph that drifts, 340 x 256, as H.264 in an mp4 (a key frame every 50 frames, and every 250, which is
x264's habit) and as MPEG-4 in an avi (every 12). All ways read the same clips in turns and give the same bytes, which is checked. Time is
CPU time of the process with one decoding thread, so a clip per second is a clip per second and core, whatever else the machine does.
`first` has never seen the file (it walks over the packets, then seeks), `again` has; `up to` decodes from the start but stops after the
last frame of the clip and converts only what is wanted; `whole` reads everything and picks. `--against` times `first` and `again` of
another checkout of this repository too, in turns with this one, each in processes of its own.
"""
import argparse, json, os, random, subprocess, sys, tempfile, time
from pathlib import Path

import av, numpy as np, torch
from PIL import Image

from align4gen import video
from align4gen.containers import decode_all
from sklearn.datasets import load_sample_images
from align4gen.labs.evidence import commit
from align4gen.files import write_json
from align4gen.run import machine

kinds = {'h264 mp4, key 50': ('a.mp4', 'libx264', dict(g='50')), 'h264 mp4, key 250': ('b.mp4',
    'libx264', dict(g='250')), 'mpeg4 avi, key 12': ('c.avi', 'mpeg4', dict(g='12'))}


def film(path, codec, options, frames, w=340, h=256):
    "A window that drifts over a photograph, with a little noise in every frame."
    photo, rng = load_sample_images().images[0], np.random.default_rng(0)
    photo = np.array(Image.fromarray(photo).resize((2*h*640//427, 2*h), Image.BILINEAR))
    with av.open(str(path), 'w') as file:
        stream = file.add_stream(codec, rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = w, h, 'yuv420p'
        if codec == 'mpeg4': stream.codec_context.bit_rate = 1_000_000
        for i in range(frames):
            frame = (np.roll(photo, (-i//2, -i), (0, 1))[:h, :w].astype(np.int16) + rng.integers(-4,
                5, (h, w, 1)))
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame.clip(0, 255).astype(np.uint8),
                format='rgb24')))
        file.mux(stream.encode())
    return path


def first(path, frames, at):
    video._remembered.cache_clear(); return video.read_clip(path, at=at)
def again(path, frames, at): return video.read_clip(path, at=at)
def up_to(path, frames, at):
    return torch.from_numpy(np.stack(decode_all(path, video.frame_indices(frames,
        at=at)))).permute(0, 3, 1, 2)

def whole(path, frames, at):
    with av.open(str(path)) as file:
        file.streams.video[0].codec_context.thread_count = 1
        every = [frame.to_ndarray(format='rgb24') for frame in file.decode(video=0)]
    return torch.from_numpy(np.stack([every[i] for i in video.frame_indices(len(every),
        at=at)])).permute(0, 3, 1, 2)


alone = """
import json, sys, time, torch
torch.set_num_threads(1)
from align4gen import datasets as module
if not hasattr(module, '_remembered'): from align4gen import video as module
path, *places = json.loads(sys.argv[1])
module.read_clip(path)
seconds = dict(first=0., again=0.)
for at in places:
    for way in seconds:
        if way == 'first': module._remembered.cache_clear()
        start = time.process_time()
        module.read_clip(path, at=at)
        seconds[way] += time.process_time() - start
print(json.dumps(seconds))
"""


def in_turns(path, places, checkouts, rounds=3):
    "CPU seconds of each way in each checkout, the best of several turns."
    best = {c: dict.fromkeys(('first', 'again'), 1e9) for c in checkouts}
    for _ in range(rounds):
        for c in checkouts:
            done = subprocess.run([sys.executable, '-c', alone, json.dumps([str(path), *places])],
                env=os.environ | dict(PYTHONPATH=str(c)), capture_output=True, text=True, check=True)
            best[c] = {w: min(s, best[c][w]) for w, s in json.loads(done.stdout).items()}
    return [best[c] for c in checkouts]


def revision(folder):
    "The commit of a checkout."
    return subprocess.run(['git', '-C', str(folder), 'rev-parse', '--short', 'HEAD'],
        capture_output=True, text=True).stdout.strip()


def main():
    p = argparse.ArgumentParser(description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--frames', type=int, default=300)
    p.add_argument('--clips', type=int, default=20)
    p.add_argument('--out', type=Path)
    p.add_argument('--against', type=Path)
    a = p.parse_args()
    torch.set_num_threads(1)
    ways, found = {'first': first, 'again': again, 'up to': up_to, 'whole': whole}, {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, (name, codec, options) in kinds.items():
            path = film(Path(folder)/name, codec, options, a.frames)
            whole(path, a.frames, 0.)
            seconds, r = dict.fromkeys(ways, 0.), random.Random(0)
            for at in [r.random() for _ in range(a.clips)]:
                clips = []
                for way, read in ways.items():
                    start = time.process_time()
                    clips.append(read(path, a.frames, at))
                    seconds[way] += time.process_time() - start
                assert all(torch.equal(c, clips[0]) for c in clips), f'{kind}: not the same frames'
            rate = {w: a.clips/s for w, s in seconds.items()}
            found[kind] = dict(bytes=path.stat().st_size, clips_per_second=rate,
                ratio_to_whole={w: rate[w]/rate['whole'] for w in ways})
            print(f'{kind:18}',
                ', '.join(f'{w} {rate[w]:.1f} clips/s ({rate[w]/rate["whole"]:.1f}x)'
                for w in ways))
            if a.against:
                r, home = random.Random(0), Path(__file__).resolve().parent.parent
                new, old = in_turns(path, [r.random() for _ in range(a.clips)], (home, a.against))
                found[kind]['times_as_fast_as_before'] = {w: old[w]/new[w] for w in new}
                print(f'{"":18}', ', '.join(f'{w} {old[w]/new[w]:.2f}x as fast as {a.against.name}'
                    for w in new))
    if a.out:
        a.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(a.out,
            dict(command=f'python benchmarks/decode.py --frames {a.frames} --clips {a.clips}',
            commit=commit(), against=a.against and revision(a.against), machine=machine(), av=av.__version__,
                               clip='16 frames at interval 3', size=[340, 256], frames=a.frames,
                               clips=a.clips,
                               clock='CPU seconds of one process, one decoding thread',
                               files=found))


if __name__ == '__main__': main()
