"""One training step, five ways, as ratios: with and without alignment, features cached or computed online, eager and compiled.

    python benchmarks/train_step.py [--threads 2] [--seconds 10] [--out results/benchmarks/train_step.json]

The ways take turns within one process, so that a noisy neighbour disturbs all of them alike; the figure is the median step.
"""
import argparse, statistics, time
from pathlib import Path

import torch

from align4gen import encoders
from align4gen.align import match_grid
from align4gen.data import MovingDigits, to_float
from align4gen.labs.evidence import commit
from align4gen.train import Trainer, autocast, batch_index, machine, make_config, prepare, resolve_machine, teacher_names, write_json


def online(trainer, teachers, videos, data):
    "A step that asks the teachers about the batch's frames first, and writes their answers where the step will read."
    features = [f.clone() for f in data.features]
    def step():
        index = batch_index(trainer.config, trainer.step)
        video = to_float(videos[index])
        with autocast(trainer.config.precision):
            for f, t in zip(features, teachers): f[index] = match_grid(t(video), t.grid(*video.shape[-2:]), trainer.model.x_embedder.grid_size).to(f.dtype)
        trainer.train_step(data._replace(features=features))
    return step


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--threads', type=int, default=torch.get_num_threads()); p.add_argument('--seconds', type=float, default=10.)
    p.add_argument('--clips', type=int, default=512); p.add_argument('--out', type=Path)
    a = p.parse_args(); torch.set_num_threads(a.threads)
    make = lambda **k: resolve_machine(make_config('digits', clips=a.clips, **k))
    ways = {}
    for compiled in ('no', 'yes'):
        for gamma in (0., 2.):
            c = make(gamma=gamma, compile=compiled); trainer = Trainer(c); data = prepare(c, trainer.model, progress=False)
            kind = 'compiled' if compiled == 'yes' else 'eager'
            ways[f'{kind}, {"aligned, cached features" if gamma else "baseline"}'] = lambda t=trainer, d=data: t.train_step(d)
            if gamma:
                teachers, videos = [encoders.load(t) for t in teacher_names(c)], MovingDigits(n=a.clips, frames=c.frames).videos
                ways[f'{kind}, aligned, online features'] = online(Trainer(c), teachers, videos, data)
    for way in ways.values(): way(); way() # compile and warm up
    times, end = {k: [] for k in ways}, time.time() + a.seconds*len(ways)
    while time.time() < end:
        for k, way in ways.items(): start = time.perf_counter(); way(); times[k].append(time.perf_counter() - start)
    base = statistics.median(times['eager, baseline'])
    rows = {k: dict(ms=round(1000*statistics.median(v), 1), ratio=round(statistics.median(v)/base, 3), clips_per_second=round(c.batch/statistics.median(v)), steps=len(v)) for k, v in times.items()}
    print(f'{"way":40} {"ms/step":>8} {"clips/s":>8} {"time / eager baseline":>22}')
    for k, r in rows.items(): print(f'{k:40} {r["ms"]:8.1f} {r["clips_per_second"]:8} {r["ratio"]:22.2f}')
    if a.out: a.out.parent.mkdir(parents=True, exist_ok=True); write_json(a.out, dict(command=f'python benchmarks/train_step.py --threads {a.threads} --seconds {a.seconds:g}', commit=commit(), machine=machine(), precision=c.precision, batch=c.batch, rows=rows))


if __name__ == '__main__': main()
