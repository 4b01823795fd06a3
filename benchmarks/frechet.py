"""The Frechet distance from features: ours against the covariances and SciPy's sqrtm, same features, side by side.

    python benchmarks/frechet.py [--dims 768,1024,2048] [--threads 1] [--out results/benchmarks/frechet.json]

Two crowds of 2,048 features of d numbers each, float64. `plain` has independent dimensions, `mixed` is turned by a random rotation and has a spectrum that falls like that of real features. At d = 2,048 the centred features
fill only 2,047 dimensions: sqrtm is then ill-conditioned, and its distance is reported but not a reference. `covariances` is the part of the
square-root route before sqrtm. `sqrtm_known` and `ours_known` start from means and covariances that are there already, as those of real clips
are, and of a metric that streams. All take turns within one process per number of threads; the best of `--times` turns counts. The clock is CPU
time of the process with one thread (what else the machine does hardly matters), wall time with more.
"""
import argparse, json, os, subprocess, sys, time, warnings
from pathlib import Path


def crowd(d, kind, width, draw, n=2048):
    "n features of d numbers."
    import torch
    x = torch.randn(n, d, generator=draw, dtype=torch.float64)
    if kind == 'plain': return x * torch.linspace(.1, width, d) + width/9
    return (x * width * torch.arange(1, d + 1)**-.5 @ torch.linalg.qr(torch.randn(d, d,
        generator=draw, dtype=torch.float64))[0])


def by_sqrtm(a, b):
    "NumPy's covariances and SciPy's root, as FID and FVD codes do it."
    import numpy as np
    from scipy.linalg import sqrtm
    a, b = a.numpy(), b.numpy()
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(s + t - 2*np.real(sqrtm(s @ t))))


def root_known(a, b):
    "The same from means and covariances."
    import numpy as np
    from scipy.linalg import sqrtm
    (m, s), (n, t) = a, b
    return float(np.square(m - n).sum() + np.trace(s + t - 2*np.real(sqrtm(s @ t))))


def measure(dims, threads, times):
    "One process, one number of threads: a list of rows."
    import numpy as np, torch
    from align4gen.frechet import Moments, frechet_distance
    torch.set_num_threads(threads); warnings.simplefilter('ignore')
    clock, rows = time.process_time if threads == 1 else time.perf_counter, []
    for d in dims:
        for kind in ('plain', 'mixed'):
            draw = torch.Generator().manual_seed(d)
            a, b = crowd(d, kind, 3, draw), crowd(d, kind, 4, draw)
            known, moments = ([(x.numpy().mean(0), np.cov(x.numpy(), rowvar=False))
                for x in (a, b)], [Moments().update(x) for x in (a, b)])
            ways = dict(sqrtm=by_sqrtm, ours=frechet_distance, covariances=lambda a,
                b: (np.cov(a.numpy(), rowvar=False), np.cov(b.numpy(), rowvar=False)),
                        sqrtm_known=lambda a, b: root_known(*known), ours_known=lambda a,
                        b: frechet_distance(*moments))
            took, value = {k: [] for k in ways}, {}
            for _ in range(times):
                for name, way in ways.items():
                    start = clock(); value[name] = way(a, b); took[name].append(clock() - start)
            best = {k: min(v) for k, v in took.items()}
            rows.append(dict(d=d, n=2048, kind=kind, threads=threads, clock='CPU' if threads == 1
                else 'wall', **best, ratio=best['sqrtm']/best['ours'],
                ratio_known=best['sqrtm_known']/best['ours_known'],
                             distance=value['ours'],
                             relative_difference=abs(value['sqrtm'] - value['ours'])/value['ours'],
                             full_rank=d < 2048))
            print(f"d {d:5} {kind}, {threads} thread(s): sqrtm {best['sqrtm']:.3f} s, ours "
                f"{best['ours']:.3f} s: {rows[-1]['ratio']:.1f} times as fast, from moments "
                f"{rows[-1]['ratio_known']:.1f}; relative difference "
                f"{rows[-1]['relative_difference']:.1e}", file=sys.stderr, flush=True)
    return rows


def numbers(text): return [int(x) for x in text.split(',')]


def main():
    p = argparse.ArgumentParser(description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--dims', type=numbers, default=[768, 1024, 2048])
    p.add_argument('--threads', type=numbers, default=[1])
    p.add_argument('--times', type=int, default=2)
    p.add_argument('--out', type=Path)
    p.add_argument('--one', type=int, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.one: print(json.dumps(measure(a.dims, a.one, a.times))); return
    from align4gen.files import write_json
    from align4gen.labs.evidence import commit
    from align4gen.run import machine
    import numpy, scipy
    rows = []
    # NumPy's and SciPy's BLAS read their number of threads when they are loaded
    for threads in a.threads:
        env = dict(os.environ, **{f'{k}_NUM_THREADS': str(threads) for k in ('OMP', 'OPENBLAS',
            'MKL')})
        done = subprocess.run([sys.executable, __file__, '--one', str(threads), '--dims',
            ','.join(map(str, a.dims)), '--times', str(a.times)], env=env, stdout=subprocess.PIPE,
            text=True, check=True)
        rows += json.loads(done.stdout)
    found = dict(
        command=f"python benchmarks/frechet.py --dims {','.join(map(str, a.dims))} --threads "
            f"{','.join(map(str, a.threads))} --times {a.times}", commit=commit(),
            machine=machine(),
                 numpy=numpy.__version__, scipy=scipy.__version__, rows=rows,
                 lowest_ratio=min(r['ratio'] for r in rows), lowest_ratio_known=min(r['ratio_known']
                 for r in rows), worst_difference_at_full_rank=max((r['relative_difference']
                 for r in rows if r['full_rank']), default=None))
    if a.out: a.out.parent.mkdir(parents=True, exist_ok=True); write_json(a.out, found)


if __name__ == '__main__': main()
