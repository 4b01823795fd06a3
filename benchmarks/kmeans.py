"""K-means over many clips and several K: ours against a loop over scikit-learn, same clips, same starts per fit, same tolerance.

    python benchmarks/kmeans.py [--clips 6] [--device cuda --of 1000] [--out results/benchmarks/kmeans.json]

The tokens have the shape of real features: 16 frames x 256 tokens x 384 numbers, a mixture with many parts. Both take turns on the
same clips within one process. On a GPU ours runs over `--of` clips, scikit-learn over `--clips` of them, and time is compared per clip.
"""
import argparse, time
from pathlib import Path

import torch
from sklearn.cluster import KMeans

from align4gen.clusters import kmeans_many
from align4gen.labs.evidence import commit
from align4gen.files import write_json
from align4gen.run import machine


def tokens(clips, n=16*256, d=384, parts=24, seed=0):
    "Clips of clustered tokens, clips n d."
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(clips, parts, d, generator=g)
    return (centres[torch.arange(clips)[:, None], torch.randint(parts, (clips, n), generator=g)]
        + 1.5*torch.randn(clips, n, d, generator=g))


def main():
    p = argparse.ArgumentParser(description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--clips', type=int, default=6)
    p.add_argument('--of', type=int)
    p.add_argument('--starts', type=int, default=5)
    p.add_argument('--device', default='cpu')
    p.add_argument('--threads', type=int, default=torch.get_num_threads())
    p.add_argument('--out', type=Path)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    ks, x = range(2, 11), tokens(a.clips)
    kmeans_many(x[:1].to(a.device), [2], starts=1)
    KMeans(2, n_init=1).fit(x[0].numpy()) # warm up
    many = tokens(a.of or a.clips).to(a.device)
    ours = theirs = 0.
    inertia, reference = [], []
    for i in range(len(x)):
        start = time.perf_counter()
        for k in ks:
            reference.append(KMeans(k, n_init=a.starts, random_state=i).fit(x[i].numpy()).inertia_)
        theirs += time.perf_counter() - start
        if a.device == 'cpu':
            start = time.perf_counter()
            found = kmeans_many(x[i:i+1], ks, starts=a.starts, seed=i)
            ours += time.perf_counter() - start
            inertia += [found[k].inertia.item() for k in ks]
    if a.device != 'cpu':
        torch.cuda.synchronize()
        start = time.perf_counter()
        found = kmeans_many(many, ks, starts=a.starts)
        torch.cuda.synchronize(); ours = time.perf_counter() - start
        inertia = [found[k].inertia[i].item() for i in range(len(x)) for k in ks]
    per_clip = dict(ours=ours/len(many), scikit_learn=theirs/len(x))
    found = dict(command=f'python benchmarks/kmeans.py --clips {a.clips} --device {a.device}'
        + (f' --of {a.of}' if a.of else ''), commit=commit(), machine=machine(),
        shape=list(many.shape), ks=[*ks], starts=a.starts,
                 seconds_per_clip=per_clip, ratio=per_clip['scikit_learn']/per_clip['ours'],
                 inertia_ours_over_scikit_learn=sum(inertia)/sum(reference))
    print(f"{len(many)} clips {tuple(many.shape[1:])}, K 2 to 10, {a.starts} starts: ours "
        f"{per_clip['ours']:.2f} s a clip, scikit-learn {per_clip['scikit_learn']:.2f} s: "
        f"{found['ratio']:.1f} times as fast; inertia "
        f"{found['inertia_ours_over_scikit_learn']:.5f} of scikit-learn's")
    if a.out: a.out.parent.mkdir(parents=True, exist_ok=True); write_json(a.out, found)


if __name__ == '__main__': main()
