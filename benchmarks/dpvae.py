"""Encoding and decoding by a DP-VAE, against the image autoencoder on every frame: frames per second and peak memory.

    python benchmarks/dpvae.py [--image_vae mini sd14] [--frames 16] [--size 64] [--clips 1] [--repeats 3] [--out results/benchmarks/dpvae.json]

All code the same clips; temporal attention is a way of its own only where the image autoencoder has attention. The repeats alternate, so that a busy machine disturbs both alike. Time is CPU time of the process on one thread (on
a GPU: wall time). Memory is how far the process's resident memory, looked at every 2 ms, rises above what it held with the model loaded, each way
in a process of its own (on a GPU: torch's own peak). `latents` are numbers per clip: a DP-VAE keeps fewer.
"""
import argparse, multiprocessing, os, statistics, threading, time
from pathlib import Path

import torch

from align4gen import vae
from align4gen.data import MovingDigits
from align4gen.files import write_json
from align4gen.video import to_float
from align4gen.dpvae import DPVAE
from align4gen.labs.evidence import commit
from align4gen.run import machine
from align4gen.train_dpvae import DPVAEConfig, load_image_vae


def models(name):
    image = load_image_vae(DPVAEConfig(image_vae=name))
    ways = {'every frame, 2D': lambda: vae.FrameVAE(image),
        'DP-VAE, conv': lambda: DPVAE.from_2d(image)}
    return (ways | ({'DP-VAE, attention': lambda: DPVAE.from_2d(image, 'attention')}
        if image.config.mid_block_add_attention else {}))


def clock(): return time.perf_counter() if torch.cuda.is_available() else time.process_time()
def timed(run):
    if torch.cuda.is_available(): torch.cuda.synchronize()
    start = clock(); out = run()
    if torch.cuda.is_available(): torch.cuda.synchronize()
    return out, clock() - start


def peak(name, way, shape):
    "Megabytes above the loaded model, for encoding and decoding; run in a fresh process."
    torch.set_num_threads(1)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model, clips = models(name)[way]().to(device).eval(), torch.zeros(shape, device=device)
    resident = lambda: int(Path('/proc/self/statm').read_text().split()[1])*os.sysconf(
        'SC_PAGE_SIZE')
    held, seen, done = (torch.cuda.memory_allocated() if device == 'cuda' else resident(), [0],
        threading.Event())
    def watch():
        while not done.wait(.002): seen.append(resident())
    watcher = threading.Thread(target=watch)
    watcher.start()
    with torch.no_grad(): model.decode(model.encode(clips))
    done.set()
    watcher.join()
    return ((torch.cuda.max_memory_allocated() if device == 'cuda' else max(seen)) - held)/2**20


def measure(name, clips, repeats):
    "Speed and memory of every way to code these clips."
    ready = {w: make().to(clips.device).eval() for w, make in models(name).items()}
    seconds = {w: dict(encode=[], decode=[]) for w in ready}
    with torch.no_grad():
        # the first round warms up
        for i in range(repeats + 1):
            for w, model in ready.items():
                z, encode = timed(lambda: model.encode(clips))
                _, decode = timed(lambda: model.decode(z))
                if i: seconds[w]['encode'].append(encode); seconds[w]['decode'].append(decode)
    n, found = clips.shape[0]*clips.shape[1], {}
    with multiprocessing.get_context('spawn').Pool(1, maxtasksperchild=1) as pool:
        for w, model in ready.items():
            rate = {k: n/statistics.median(v) for k, v in seconds[w].items()}
            found[w] = dict(frames_per_second=rate, peak_mb=pool.apply(peak,
                (name, w, tuple(clips.shape))), latents=model.encode(clips[:1]).numel(),
                parameters=sum(q.numel() for q in model.parameters()))
            print(f'{name}: {w:18}', ', '.join(f'{k} {v:.1f} frames/s' for k, v in rate.items()),
                f'peak {found[w]["peak_mb"]:.0f} MB, {found[w]["latents"]} latents a clip',
                flush=True)
    return found


def main():
    p = argparse.ArgumentParser(description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--image_vae', nargs='+', default=['mini', 'sd14'],
        help='image autoencoders; without weights of its own one is random, and as fast')
    p.add_argument('--out', type=Path)
    for k, v in dict(frames=16, size=64, clips=1, repeats=3).items():
        p.add_argument(f'--{k}', type=int, default=v)
    a = p.parse_args()
    torch.set_num_threads(1)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    clips = to_float(MovingDigits('test', n=a.clips, frames=a.frames, size=a.size).videos).to(
        device)
    found = {name: measure(name, clips, a.repeats) for name in a.image_vae}
    if a.out:
        write_json(a.out,
            dict(command=f'python benchmarks/dpvae.py --image_vae {" ".join(a.image_vae)} '
                f'--frames {a.frames} --size {a.size} --clips {a.clips} --repeats {a.repeats}',
                commit=commit(), machine=machine(),
                               clip=[a.frames, 3, a.size, a.size], clips=a.clips, clock='wall'
                               if device == 'cuda'
                               else 'CPU seconds of one process, one thread; medians',
                               autoencoders=found))


if __name__ == '__main__': main()
