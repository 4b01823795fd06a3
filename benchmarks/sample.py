"""Videos a second at equal steps: `align4gen.sample` against a plain version of Latte's sampling loop.

    python benchmarks/sample.py                                            # CPU: size S on a small grid
    python benchmarks/sample.py --device cuda                              # GPU: XL, 16 frames of 32 x 32 latents (256 pixels)

The plain loop is Latte's sampling script, written down once more: the model of `train_step.py` (same weights), float32 (TF32 on a
GPU), attention spelled out, not compiled; one video at a time, for guidance together with its unlabelled twin in a batch of two;
diffusers' DDIM scheduler, and a list of the latents is kept on the way. Ours is `sample`'s own loop in the precision and with the
batch named in the rows. Every way walks all the steps from the same noise, without the decoder, and answers like the plain one
before a clock starts. The ways take turns within one process; every figure is a median.
"""
import argparse, functools, statistics, sys, time
from pathlib import Path

import torch
from diffusers import DDIMScheduler

sys.path.insert(0, str(Path(__file__).resolve().parent))
from train_step import PlainLatte, commit, machine, make_model, timed

from align4gen.files import write_json
from align4gen.objectives import Diffusion
from align4gen.sample import Sampling, noise_for

here = Path(__file__).resolve().parents[1]/'results'/'benchmarks'


class Nothing:
    "No decoder: the loop alone is timed."
    def decode(self, latents): return latents


@torch.no_grad()
def plain_loop(model, noise, labels, steps, guidance, device):
    "Latte's script: video by video; with guidance the twin goes along through every step."
    done, scheduler = [], DDIMScheduler(clip_sample=False, beta_start=1e-4, beta_end=.02)
    scheduler.set_timesteps(steps)
    for z, label in zip(noise, labels):
        z, y = z[None].to(device), label[None].to(device)
        if guidance != 1: z, y = torch.cat([z, z]), torch.cat([y, torch.full_like(y, model.null)])
        for k in scheduler.timesteps:
            t = torch.full((len(z),), k/1000, device=device)
            if guidance == 1: out = model(z, t, y)
            else:
                half = z[:1]
                labelled, free = model(torch.cat([half, half]), t, y).chunk(2)
                out = free + guidance*(labelled - free); out = torch.cat([out, out])
            z = scheduler.step(out, k, z).prev_sample
        done.append(z[:1])
    return torch.cat(done).cpu()


def our_loop(model, n, labels, batch, a, guidance, precision, compiled):
    s = Sampling(model, a.steps, 'ddim', guidance, a.seed, Nothing(), Diffusion(), precision=precision, compile='blocks' if compiled else 'no')
    return torch.cat([s.draw(index, labels[index]) for index in torch.arange(n).split(batch)])


def main(argv=None):
    cuda = torch.cuda.is_available()
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--device', choices=('cpu', 'cuda'), default='cuda' if cuda else 'cpu', help='where (default: a GPU if there is one)')
    p.add_argument('--size', help='model: mini, S, B, L or XL (default: XL on a GPU, S on a CPU)')
    p.add_argument('--frames', type=int, help='frames of a video (default: 16 on a GPU, 4 on a CPU)')
    p.add_argument('--input_size', type=int, help='side of the latents (default: 32 on a GPU, 8 on a CPU)')
    p.add_argument('--n', type=int, help='videos a round (default: 16 on a GPU, 4 on a CPU)')
    p.add_argument('--steps', type=int, default=50, help='questions for each video (default: 50)')
    p.add_argument('--guidance', type=float, default=4., help='the second half of the table (default: 4)')
    p.add_argument('--rounds', type=int, default=3, help='of every way (default: 3)')
    p.add_argument('--threads', type=int, default=torch.get_num_threads(), help='CPU threads')
    p.add_argument('--clock', choices=('wall', 'cpu'), default='wall', help='wall time, or the processor time of all threads (default: wall)')
    p.add_argument('--compile', action='store_true', help='also with each block compiled')
    p.add_argument('--seed', type=int, default=0, help='of the noise')
    p.add_argument('--note', default='', help='a sentence to keep with the result')
    p.add_argument('--out', type=Path, default=here/'sample.json', help='JSON to write')
    a = p.parse_args(argv); gpu = a.device == 'cuda'
    for k, here_, there in (('size', 'S', 'XL'), ('frames', 4, 16), ('input_size', 8, 32), ('n', 4, 16)): setattr(a, k, getattr(a, k) or (there if gpu else here_))
    if gpu and a.clock == 'cpu': p.error('--clock cpu measures nothing on a GPU')
    import train_step; train_step.clock = time.process_time if a.clock == 'cpu' else time.perf_counter
    torch.set_num_threads(a.threads); torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True      # as Latte does
    model = make_model(a).eval(); plain = PlainLatte(model).to(a.device).eval()
    labels = torch.arange(a.n) % 101; noise = noise_for(range(a.n), (a.frames, 4, a.input_size, a.input_size), a.seed)
    result = dict(command=f'python benchmarks/sample.py --device {a.device} --size {a.size} --frames {a.frames} --input_size {a.input_size} --n {a.n} --steps {a.steps} --guidance {a.guidance:g} --rounds {a.rounds} --threads {a.threads} --clock {a.clock}' + ' --compile'*a.compile,
                  commit=commit(), machine=machine(a.device), note=a.note, parameters=sum(q.numel() for q in model.parameters()), rows={})
    for guidance in (1., a.guidance):
        ways = {'plain, fp32, one by one': functools.partial(plain_loop, plain, noise, labels, a.steps, guidance, a.device)}
        for precision in ('fp32', 'bf16'):
            for compiled in (False, True)[:1 + a.compile]:
                ways[f'ours, {precision}, batch {a.n}{", compiled" if compiled else ""}'] = functools.partial(our_loop, model, a.n, labels, a.n, a, guidance, precision, compiled)
        ways['ours, fp32, one by one'] = functools.partial(our_loop, model, a.n, labels, 1, a, guidance, 'fp32', False)
        made = {k: w() for k, w in ways.items()}                                 # warms up, and compares
        want = made['plain, fp32, one by one']; apart = {k: ((v - want).norm()/want.norm()).item() for k, v in made.items()}
        for k, v in apart.items():
            if not v < (.1 if 'bf16' in k or gpu else 1e-3): raise RuntimeError(f'{k} differs from the plain loop by {v:.1e}: not the same videos')
        times = {k: [] for k in ways}
        for _ in range(a.rounds):
            for k, w in ways.items(): times[k].append(timed(w, a.device)[0])
        base = statistics.median(times['plain, fp32, one by one'])
        rows = {k: dict(seconds=round(statistics.median(v), 3), rounds=[round(x, 3) for x in v], videos_per_second=round(a.n/statistics.median(v), 3), faster_than_plain=round(base/statistics.median(v), 3), differs_by=apart[k]) for k, v in times.items()}
        result['rows'][f'guidance {guidance:g}'] = rows
        for k, r in rows.items(): print(f'guidance {guidance:<3g} {k:34} {r["videos_per_second"]:8.3f} videos/s {r["faster_than_plain"]:6.2f} x plain, differs by {r["differs_by"]:.0e}', flush=True)
    print(write_json(a.out, result))


if __name__ == '__main__': main()
