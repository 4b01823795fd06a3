"""Pilots: which larger Moving Digits can the labs afford? Baseline against one aligned arm, one seed.

    python benchmarks/pilots.py                        # every world of the list, one after the other
    python benchmarks/pilots.py --worlds 24 --steps 600 --every 100
    python benchmarks/pilots.py --clock                # processor seconds of a step, by size and width

A world is a frame size, the share of the frame that the digit's box takes, and the brightness of the photographs. For each:

    judge       a small convolutional net reads single frames, with labels, seed 1: it teaches no arm, and shares neither
                architecture nor seed with a teacher
    teacher     a ViT of 4 x 4 pixel patches by instance discrimination (InfoNCE), no labels, seed 0; with its k-NN accuracy
    arms        baseline, and the teacher at gamma 2; constant rate, weight average, the same numbers in everything random

The frame VAE is the shipped one: it is convolutional, so larger frames only need their latents' scale measured again.
Every part that is finished lies in --runs and is not done again; a run that was stopped goes on. One thread.
"""
import argparse, json, time
from itertools import product
from pathlib import Path
import torch, torch.nn as nn, torch.nn.functional as F
from align4gen import encoders, source, vae
from align4gen.data import MovingDigits, digit_images
from align4gen.files import read_table, write_json, write_table
from align4gen.labs.evidence import commit
from align4gen.labs.miniatures import (_learn, digit_views, info_nce, measured_scaling, psnr,
    repeatable)
from align4gen.frechet import frechet_distance
from align4gen.objectives import Flow
from align4gen.run import Run, machine
from align4gen.sample import sample
from align4gen.source import autocast
from align4gen.train import train
from align4gen.vdit import vdit
from align4gen.video import to_float
from align4gen.weights import load_weights, ship

here = Path(__file__).resolve().parents[1]
worlds = {'24': dict(size=24), '32': dict(size=32)}
columns = ('world', 'arm', 'seed', 'step', 'denoise', 'accuracy', 'frechet', 'n')
arms = dict(baseline=dict(gamma=0., teachers=''),
    semantic=dict(gamma=2., teachers='pilot_infonce'))


def learn(net, loss, steps, lr, say):
    "AdamW, one cycle; prints the loss twenty times."
    opt = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=.05)
    cycle = torch.optim.lr_scheduler.OneCycleLR(opt, lr, total_steps=steps, pct_start=.1)
    history, recent, began = [], [], time.process_time()
    net.train()
    for step in range(1, steps+1):
        recent.append(_learn(net, loss, opt, 1e9))
        cycle.step()
        if step % max(1, steps//20): continue
        history.append((step, round(sum(recent)/len(recent), 4)))
        print(say, *history[-1], f'{(time.process_time()-began)/step:.3f} s a step', flush=True)
        recent.clear()
    net.eval()
    return dict(steps=steps, lr=lr, history=history,
        cpu_minutes=round((time.process_time()-began)/60, 2))


class Reader(nn.Module):
    "Frames n 3 h w to ten classes; what lies before the last layer are its features."
    def __init__(self):
        super().__init__()
        layers, width = [], 3
        for out, stride in ((32, 2), (64, 2), (128, 1), (128, 2)):
            layers += [nn.Conv2d(width, out, 3, stride, 1), nn.GroupNorm(8, out), nn.GELU()]
            width = out
        self.body, self.head = nn.Sequential(*layers), nn.Linear(256, 10)
    def features(self, x): # n 256
        x = self.body(x)
        return torch.cat([x.mean((2, 3)), x.amax((2, 3))], -1)
    def forward(self, x): return self.head(self.features(x))
    @torch.no_grad()
    def clips(self, video): # (features b 256, predicted class b)
        f = [self.features(v.flatten(0, 1)).unflatten(0, v.shape[:2]) for v in video.split(64)]
        f = torch.cat(f)
        return f.mean(1), self.head(f).log_softmax(-1).mean(1).argmax(-1)


def stored(folder, name, module, make):
    "Weights and card from a folder; make() trains the module and gives the card."
    path = folder/f'{name}.safetensors'
    if not path.exists(): ship(name, module.state_dict(), make(), folder)
    load_weights(module, path, name)
    return module.eval(), json.loads(path.with_suffix('.json').read_text())


def judge(folder, size, steps=1200, batch=128, seed=1):
    images, labels = digit_images('train')
    with repeatable(seed, 1): net = Reader()
    def loss():
        pick = torch.randperm(len(images))[:batch]
        return F.cross_entropy(net(digit_views(images[pick], size)).float(),
            labels[pick], label_smoothing=.05)
    def make():
        with repeatable(seed, 1): card = learn(net, loss, steps, 2e-3, f'judge {size}')
        test = MovingDigits('test', n=1000, size=size, seed=7)
        read = (net.eval().clips(to_float(test.videos))[1] == test.labels).float().mean()
        return card | dict(batch=batch, seed=seed, test_accuracy=round(read.item(), 4))
    return stored(folder, f'judge-{size}', net, make)


def vit(size):
    from timm.models import VisionTransformer
    return VisionTransformer(img_size=size, patch_size=4, embed_dim=96, depth=4, num_heads=3,
        num_classes=0, class_token=False, global_pool='')


def nearest(embed, size, k=10):
    "Share of test frames whose nearest training frames name the digit."
    from sklearn.neighbors import KNeighborsClassifier
    train_set, test = (MovingDigits(s, n=n, frames=1, size=size, seed=7)
        for s, n in (('train', 4096), ('test', 1000)))
    with torch.no_grad(): a, b = (embed(to_float(d.videos)[:, 0]) for d in (train_set, test))
    near = KNeighborsClassifier(k, metric='cosine').fit(a, train_set.labels)
    return round(near.score(b, test.labels), 3)


def teacher(folder, size, steps=800, batch=160, seed=0):
    images, _ = digit_images('train')
    with repeatable(seed, 1):
        net = vit(size)
        head = nn.Sequential(nn.Linear(192, 256), nn.GELU(), nn.Linear(256, 64))
    def loss():
        some = images[torch.randperm(len(images))[:batch]]
        views = digit_views(torch.cat([some, some]), size)
        return info_nce(*head(encoders.pool_tokens(net(views))).chunk(2))
    def make():
        with repeatable(seed, 1):
            card = learn(nn.ModuleList([net, head]), loss, steps, 2e-3, f'teacher {size}')
        embed = lambda x: encoders.pool_tokens(net(x))
        return card | dict(batch=batch, seed=seed, knn=nearest(embed, size),
            knn_pixels=nearest(lambda x: x.flatten(1), size))
    return stored(folder, f'infonce-{size}', net, make)


def autoencoder(size):
    "The shipped VAE at this frame size: (FrameVAE, PSNR of test frames)."
    model = vae.trained_mini_vae()
    clips = MovingDigits(n=1024, size=size)
    model.register_to_config(**measured_scaling(model, to_float(clips.videos.flatten(0, 1))))
    frozen = vae.FrameVAE(model, 'pilot')
    video = to_float(MovingDigits('test', n=256, size=size).videos[:, ::3])
    return frozen, round(psnr(frozen.decode(frozen.encode(video)), video), 2)


def register(size):
    "What train() needs to find the world's VAE and teacher by name."
    encoders.registry.register('pilot_infonce', encoders.Entry('pilot_infonce',
        lambda: vit(size), dim=96, size=size, stride=4, files=('model.safetensors',)))
    vae.register('pilot', lambda weights, chunk, dtype: autoencoder(size)[0],
        lambda weights: (4, 4, 1))


def remember():
    "Latents and features of a world are computed once a process, not once an arm."
    compute, made = source.compute_all, {}
    def once(frozen, videos, labels, progress=True):
        key = tuple(videos.shape), tuple(t.name for t in frozen.teachers)
        if key not in made: made[key] = compute(frozen, videos, labels, progress)
        return made[key]
    source.compute_all = once


def one_arm(runs, world, arm, seed, size, steps, every):
    name, folder = f'{world}-{arm}-{seed}', runs/f'{world}-{arm}-{seed}'
    if (folder/'config.json').exists():
        config = json.loads((folder/'config.json').read_text())
        # the rate is constant, so a finished run may simply go on
        if config['steps'] < steps: write_json(folder/'config.json', config | dict(steps=steps))
        return Run(folder) if Run(folder).step >= steps else train(resume=folder, progress=False)
    return train('digits', progress=False, out=str(runs), name=name, resolution=size, seed=seed,
        vae='pilot', weights=f'pilot_infonce={runs}/infonce-{size}.safetensors', steps=steps,
        schedule='constant', lr=1.5e-3, ema=.995, checkpoint_every=every, keep=10_000,
        sample_every=0, judge='', **arms[arm])


def measure(run, reader, real, n, nfe=20):
    "Rows of the checkpoints that were not measured before."
    table = run.path.with_suffix('.csv')
    rows = read_table(table) if table.exists() else []
    labels, log = torch.arange(n) % 10, run.log
    for checkpoint in run.checkpoints:
        step = int(checkpoint.name[5:])
        if step in [r['step'] for r in rows]: continue
        with autocast(run.config.precision):
            video = sample(run.model(step=step), n, labels, steps=nfe, vae=run.vae,
                objective=run.objective, seed=1234, batch=100, progress=False)
        found, read = reader.clips(video)
        late = [d for s, d in zip(run.log['step'], log['denoise']) if step-100 < s <= step]
        world, arm, seed = run.path.name.split('-')
        rows.append(dict(world=world, arm=arm, seed=seed, step=step, n=n,
            denoise=round(sum(late)/len(late), 4), frechet=round(frechet_distance(found, real), 3),
            accuracy=round((read == labels).float().mean().item(), 4)))
        print(rows[-1], flush=True)
        write_table(table, rows, columns)
    return rows


def record(runs, out, command):
    tables = sorted(runs.glob('*-*-*.csv'))
    write_table(out/'curves.csv', [r for t in tables for r in read_table(t)], columns)
    cards = {p.stem: json.loads(p.read_text()) for p in sorted(runs.glob('*.json'))}
    write_json(out/'info.json', dict(command=command, commit=commit(), machine=machine(),
        worlds=worlds, cards=cards))


def clock(out, steps=4):
    "costs.csv: processor seconds of a training step of batch 32 on one thread, not compiled."
    rows = []
    for size, (dim, heads) in product((16, 24, 32), ((96, 3), (128, 2))):
        net = vdit('mini', dim=dim, heads=heads, input_size=size//4, frames=6, num_classes=10)
        opt, flow = torch.optim.AdamW(net.parameters(), 1e-3, fused=True), Flow()
        x, y = torch.randn(32, 6, 4, size//4, size//4), torch.arange(32) % 10
        for step in range(steps + 1):
            if step == 1: began = time.process_time()
            with autocast('bf16'): loss = flow.loss(net, x, y)
            opt.zero_grad()
            loss.backward()
            opt.step()
        rows.append(dict(size=size, tokens=6*(size//4)**2, dim=dim, batch=32,
            seconds=round((time.process_time() - began)/steps, 3)))
        print(rows[-1], flush=True)
    write_table(out/'costs.csv', rows)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--worlds', default=','.join(worlds), help='names, separated by commas')
    p.add_argument('--arms', default=','.join(arms))
    p.add_argument('--steps', default='1200,2400', help='all arms to the first, then to the next')
    p.add_argument('--every', type=int, default=300)
    p.add_argument('--n', type=int, default=200, help='clips generated at every checkpoint')
    p.add_argument('--clock', action='store_true', help='only measure what a step costs')
    p.add_argument('--runs', type=Path, default=Path('runs/pilots'))
    p.add_argument('--out', type=Path, default=here/'results'/'pilots')
    a = p.parse_args()
    torch.set_num_threads(1)
    if a.clock: return clock(a.out)
    a.runs.mkdir(parents=True, exist_ok=True)
    remember()
    for world in a.worlds.split(','):
        size = worlds[world]['size']
        reader, card = judge(a.runs, size)
        print(f'judge {size}: reads', card['test_accuracy'], flush=True)
        real = reader.clips(to_float(MovingDigits('test', n=2048, size=size).videos))[0]
        psnr_of = autoencoder(size)[1]
        write_json(a.runs/f'vae-{size}.json', dict(psnr=psnr_of, weights='vae_mini'))
        print(f'vae {size}: psnr', psnr_of, flush=True)
        print(f'teacher {size}: k-NN', teacher(a.runs, size)[1]['knn'], flush=True)
        register(size)
        for steps, arm in product(map(int, a.steps.split(',')), a.arms.split(',')):
            measure(one_arm(a.runs, world, arm, 0, size, steps, a.every), reader, real, a.n)
            record(a.runs, a.out, 'python benchmarks/pilots.py --worlds ' + a.worlds)


if __name__ == '__main__': main()
