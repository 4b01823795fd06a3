"""Attention on a clip as its frames grow: each frame alone, factorised into space and time, and all tokens at once.

    python benchmarks/attention.py [--dim 384] [--heads 6] [--tokens 64] [--frames 1 2 4 8 16 32] [--out results/benchmarks/attention.json]

The three ways are V-DiT's own attention layers, forward only, float32, batch 1:

    per frame     one layer on (b t) n d: what an image model does ('2d')
    factorised    a layer on (b t) n d, then one on (b n) t d: what V-DiT does
    3D            one layer on b (t n) d: what VideoDiT's conversion does ('2d->3d')

They take turns; every figure is the median of `--repeats` calls in CPU time of the process with one thread, so that a busy machine does
not stretch it. FLOPs are those of the matrix products, 8 n d^2 for the projections and 4 n^2 d for the attention table of n tokens,
checked against PyTorch's counter. `gflops_per_second` says how much of the machine each way gets.
"""
import argparse, statistics, time
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from align4gen.files import write_json
from align4gen.labs.evidence import commit
from align4gen.run import machine
from align4gen.vdit import Attention


def ways(dim, heads):
    "Name -> function of `b t n d`."
    space, time_ = (Attention(dim, heads).eval() for _ in range(2))
    per_frame = lambda x: space(x.flatten(0, 1)).view(x.shape)
    along_time = lambda x: time_(x.transpose(1, 2).flatten(0, 1)).view(x.transpose(1,
        2).shape).transpose(1, 2)
    return {'per frame': per_frame, 'factorised': lambda x: along_time(per_frame(x)),
        '3D': lambda x: space(x.flatten(1, 2)).view(x.shape)}


def flops(way, t, n, d):
    "Matrix products of one call on a clip of t frames with n tokens of d channels."
    one = lambda length: t*n*(8*d*d + 4*length*d)
    return {'per frame': one(n), 'factorised': one(n) + one(t), '3D': one(t*n)}[way]


def counted(run, x):
    "What PyTorch's counter says; it does not know the CPU's fused kernel."
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter: run(x)
    return counter.get_total_flops()


@torch.no_grad()
def measure(dim, heads, tokens, frames, repeats):
    "Way -> one row per number of frames."
    runs, rows = ways(dim, heads), {}
    for t in frames:
        x = torch.randn(1, t, tokens, dim, generator=torch.Generator().manual_seed(0))
        for name, run in runs.items():
            assert (counted(run, x) == flops(name, t, tokens,
                dim)), f'{name}, {t} frames: the formula does not count what runs'
        seconds = {name: [] for name in runs}
        for i in range(repeats + 1):
            for name, run in runs.items():
                start = time.process_time()
                run(x); seconds[name].append(time.process_time() - start)
        for name in runs:
            s, f = statistics.median(seconds[name][1:]), flops(name, t, tokens, dim)
            rows.setdefault(name, []).append(dict(frames=t, tokens=t*tokens, ms=round(1000*s, 3),
                gflops=f/1e9, gflops_per_second=round(f/s/1e9, 1)))
        print(f'{t:3} frames:', ', '.join(f"{k} {r[-1]['ms']:.1f} ms, {r[-1]['gflops']:.2f} GFLOP"
            for k, r in rows.items()), flush=True)
    return rows


def options(argv=None):
    p = argparse.ArgumentParser(description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--dim', type=int, default=384, help='channels (default: 384, size S)')
    p.add_argument('--heads', type=int, default=6)
    p.add_argument('--tokens', type=int, default=64, help='tokens of a frame (default: 64)')
    p.add_argument('--frames', type=int, nargs='+', default=[1, 2, 4, 8, 16, 32])
    p.add_argument('--repeats', type=int, default=7)
    p.add_argument('--out', type=Path)
    return p.parse_args(argv)


def main(argv=None):
    a = options(argv); torch.set_num_threads(1)
    rows = measure(a.dim, a.heads, a.tokens, a.frames, a.repeats)
    if a.out:
        said = (f"python benchmarks/attention.py --dim {a.dim} --heads {a.heads} --tokens "
            f"{a.tokens} --frames {' '.join(map(str, a.frames))} --repeats {a.repeats}")
        a.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(a.out, dict(command=said, commit=commit(), machine=machine(),
            clock='CPU seconds of one process, one thread; medians', dim=a.dim, heads=a.heads,
            tokens=a.tokens,
                               repeats=a.repeats, rows=rows))
        print(a.out)


if __name__ == '__main__': main()
