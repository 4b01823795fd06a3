"""The loader over a cache against computing the same clips, as clips per second and as a ratio; and the speed of reading clips of the papers' size.

    python benchmarks/cache.py [--clips 512] [--passes 3] [--out results/benchmarks/cache.json]

Miniature: `DataLoader(CachedClips)` with 0, 1 and 2 worker processes, all features or latents alone, against drawing Moving Digits and asking
the VAE and two teachers (a fast set: the papers' networks are some thousand times larger, the ratio grows with them). The ways take turns;
the figure is the median pass. Papers' size: random numbers in the shapes of 16 x 256 x 256 with DINOv2-B and SAM2.1-L, read from the page
cache, so it is the loader that is measured and not the disk.
"""
import argparse, os, statistics, tempfile, time
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from align4gen import cache
from align4gen.datasets import DigitClips
from align4gen.cache import (CachedClips, CacheSpec, Plan, build, collate, encode_clips,
    pack, shard_index, write_shard)
from align4gen.labs.evidence import commit
from align4gen.files import write_json
from align4gen.run import machine


def videos(items): return torch.stack([x['video'] for x in items])


def pass_over(dataset, workers, collate_fn, work=lambda batch: None, batch=16):
    "Clips per second of one pass, workers already started."
    loader = iter(DataLoader(dataset, batch_size=batch, num_workers=workers, collate_fn=collate_fn,
        persistent_workers=False))
    work(next(loader))
    start, n = time.perf_counter(), 0
    for b in loader: work(b); n += batch
    return n / (time.perf_counter() - start)


def large(folder, clips=24, shard_clips=12):
    "A cache of random numbers in the papers' shapes."
    g, plan = torch.Generator().manual_seed(0), Plan(clips, 1, shard_clips)
    shapes = {'mean': (16, 4, 32, 32), 'std': (16, 4, 32, 32), 'features.dinov2_b': (16, 256, 768),
        'features.sam2_hiera_l': (16, 256, 576)}
    for k in range(plan.shards):
        write_shard(folder/plan.name(k), (pack({n: torch.randn(s, generator=g).half() for n,
            s in shapes.items()}, i, d, 0) for i, d in plan.pairs(k)))
        write_json((folder/plan.name(k)).with_suffix('.json'), shard_index(folder/plan.name(k))
            | dict(bad=[]))
    cache.merge(folder, plan)
    write_json(folder/'manifest.json', dict(data=dict(name='random', classes=[]),
        vae=dict(name='sd14', sha256=''), dtype='fp16', clips=1,
                     teachers=[dict(name=n, sha256='', grid=[16, 16]) for n in ('dinov2_b',
                     'sam2_hiera_l')]))
    return cache.clip_bytes(shapes)


def main():
    p = argparse.ArgumentParser(description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--clips', type=int, default=512)
    p.add_argument('--passes', type=int, default=3)
    p.add_argument('--threads', type=int, default=torch.get_num_threads())
    p.add_argument('--out', type=Path)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    teachers, digits = ['mini_infonce', 'mini_mae'], DigitClips(n=a.clips)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        start = time.perf_counter()
        build(digits, folder/'mini', teachers=teachers, progress=False)
        made = a.clips / (time.perf_counter() - start)
        models = CacheSpec(teachers=teachers).load()
        ways = {'computed': lambda: pass_over(digits, 0, videos, lambda video: encode_clips(video,
            *models))}
        for workers in (0, 1, 2):
            ways[f'cached, {workers} workers'] = lambda w=workers: pass_over(
                CachedClips(folder/'mini'), w, collate)
            ways[f'cached, latents only, {workers} workers'] = lambda w=workers: pass_over(
                CachedClips(folder/'mini', teachers=[]), w, collate)
        speeds = {k: [] for k in ways}
        for _ in range(a.passes):
            for k, way in ways.items(): speeds[k].append(way())
        base = statistics.median(speeds['computed'])
        mini = {k: dict(clips_per_second=round(statistics.median(v)),
            ratio=round(statistics.median(v)/base, 2)) for k, v in speeds.items()}
        (folder/'large').mkdir()
        size, papers = large(folder/'large'), {}
        for what, names in (('all features', None), ('latents only', [])):
            for workers in (0, 1, 2):
                v = statistics.median(pass_over(CachedClips(folder/'large', teachers=names),
                    workers, collate, batch=4) for _ in range(a.passes))
                papers[f'{what}, {workers} workers'] = dict(clips_per_second=round(v, 1),
                    MB_per_second=round(v*(size if names is None else 2*16*4*32*32*2)/1e6))
    print(f'building: {made:.0f} clips/s, with starting and writing')
    for title, rows in (('miniature', mini), ("papers' size", papers)):
        print(title)
        for k, r in rows.items(): print(f'  {k:34}', '  '.join(f'{n} {x:,}' for n, x in r.items()))
    if a.out:
        a.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(a.out,
            dict(command=f'python benchmarks/cache.py --clips {a.clips} --passes {a.passes}',
            commit=commit(), machine=machine(), load_average=[round(l, 1) for l in os.getloadavg()],
            clips=a.clips, built_clips_per_second=round(made), miniature=mini,
            papers_size=dict(bytes_per_clip=size, rows=papers)))


if __name__ == '__main__': main()
