"""One training step of V-DiT, measured: ours against Latte's settings, and what alignment adds.

    python benchmarks/train_step.py                                        # CPU: size S on a small grid
    python benchmarks/train_step.py --size XL --batch 4                    # GPU: 16 frames of 32 x 32 latents (256 pixels)
    python benchmarks/train_step.py --size XL --batch 16 --ways ours       # one way alone, at a batch the plain one cannot hold
    python benchmarks/train_step.py --compiling                            # which compile: no block, each block, the whole loss
    python benchmarks/train_step.py --profile                              # where the time of a step goes
    python benchmarks/train_step.py --mini                                 # the miniature run of `align4gen_train`, end to end

A step is noise, forward, backward, gradient clipping, AdamW and the weight average. The ways:

    plain            Latte's settings: float32 (TF32 on a GPU), attention spelled out, adaLN for every frame and every
                     position, copies between its two axes, AdamW foreach, the average in a loop over parameters
    plain-bf16       the same, with bf16 autocast and PyTorch's fused attention
    ours-eager       VDiT in bf16 autocast, fused AdamW, the average in one call
    ours             the same, each block compiled
    ours-cached      ours and the alignment loss, teacher features read from host memory
    ours-online      ours and the alignment loss, DINOv2-B and SAM2.1-L asked at every step (random weights: same cost)

`plain` holds the same parameters as ours, and both answer alike before a clock starts. The ways take turns, step by step,
within one process, so that a busy neighbour disturbs all of them; every figure is a median. `--clock cpu --threads 1` reads processor time
instead of wall time, which other programs cannot stretch. MFU counts the products of the
model alone (no mapper, no teacher, backward = 2 x forward), against the bf16 peak of the device: of a GPU from its data
sheet, of a CPU the fastest large matrix product measured here.
"""
import argparse, collections, copy, json, math, platform, statistics, subprocess, time
from pathlib import Path

import torch, torch._inductor.config, torch.nn as nn, torch.nn.functional as F
from einops import rearrange, repeat
from torch.utils.flop_counter import FlopCounterMode

from align4gen import encoders
from align4gen.align import Alignment, match_grid
from align4gen.objectives import Flow
from align4gen.vdit import model_sizes, vdit

here = Path(__file__).resolve().parents[1]/'results'/'benchmarks'
teachers = {'dinov2_b': 768, 'sam2_hiera_l': 576}
all_ways = ('plain', 'plain-bf16', 'ours-eager', 'ours', 'ours-cached', 'ours-online')
# dense bf16 FLOP/s
peaks = {'B200': 2250e12, 'H200': 989e12, 'H100 PCIe': 756e12, 'H100': 989e12, 'A100': 312e12,
    'L40S': 362e12, 'L40': 181e12, 'L4': 121e12, 'A10': 125e12, 'RTX 4090': 165e12}


# Latte, written down once more: modules carry the names of its checkpoints, so that the weights of
# ours fit

class PlainAttention(nn.Module):
    def __init__(self, dim, heads, fused):
        super().__init__()
        self.heads, self.fused, self.qkv, self.proj = (heads, fused, nn.Linear(dim, 3*dim),
            nn.Linear(dim, dim))

    def forward(self, x):
        q, k, v = rearrange(self.qkv(x), 'm n (three h d) -> three m h n d', three=3, h=self.heads)
        if self.fused: x = F.scaled_dot_product_attention(q, k, v)
        else: x = ((q @ k.transpose(-2, -1)) * q.shape[-1]**-.5).softmax(-1) @ v
        return self.proj(rearrange(x, 'm h n d -> m n (h d)'))


class PlainMlp(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 4*dim), nn.Linear(4*dim, dim)

    def forward(self, x): return self.fc2(F.gelu(self.fc1(x), approximate='tanh'))


def plain_modulate(x, shift, scale): return x * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


class PlainBlock(nn.Module):
    def __init__(self, dim, heads, fused):
        super().__init__()
        self.norm1, self.norm2 = [nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
            for _ in range(2)]
        self.attn, self.mlp = PlainAttention(dim, heads, fused), PlainMlp(dim)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6*dim))

    def forward(self, x, c): # x: `m n d`, c: `m d`
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, 1)
        x = x + gate1.unsqueeze(1) * self.attn(plain_modulate(self.norm1(x), shift1, scale1))
        return x + gate2.unsqueeze(1) * self.mlp(plain_modulate(self.norm2(x), shift2, scale2))


class PlainFinal(nn.Module):
    def __init__(self, dim, out):
        super().__init__()
        self.norm_final = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.linear, self.adaLN_modulation = (nn.Linear(dim, out), nn.Sequential(nn.SiLU(),
            nn.Linear(dim, 2*dim)))

    def forward(self, x, c):
        shift, scale = self.adaLN_modulation(c).chunk(2, 1)
        return self.linear(plain_modulate(self.norm_final(x), shift, scale))


class PlainLatte(nn.Module):
    """Latte's Variant 1 as its authors run it: the batch is folded with frames, then with
    positions, and copied in between."""
    def __init__(self, ours, fused=False):
        super().__init__()
        c, n, dim = ours.config, ours.x_embedder.num_patches, ours.dim
        self.patch, self.null, self.dropout = c['patch'], c['num_classes'], ours.label_dropout
        self.x_embedder = nn.ModuleDict({'proj': nn.Conv2d(c['in_channels'], dim, c['patch'],
            c['patch'])})
        self.t_embedder = type(ours.t_embedder)(dim)
        self.y_embedder = nn.ModuleDict({'embedding_table': nn.Embedding(c['num_classes'] + 1,
            dim)})
        self.pos_embed, self.temp_embed = [nn.Parameter(torch.zeros(1, k, dim), requires_grad=False)
            for k in (n, c['frames'])]
        self.blocks = nn.ModuleList(PlainBlock(dim, c['heads'], fused) for _ in range(c['depth']))
        self.final_layer = PlainFinal(dim, c['patch']**2 * c['in_channels'])
        self.load_state_dict(ours.state_dict())

    def forward(self, x, t, y):
        b, f = x.shape[:2]
        n = self.pos_embed.shape[1]
        x = (self.x_embedder['proj'](rearrange(x, 'b f c h w -> (b f) c h w')).flatten(2).transpose(
            1, 2) + self.pos_embed)
        if self.training:
            y = torch.where(torch.rand(b, device=y.device) < self.dropout, self.null, y)
        c = self.t_embedder(t) + self.y_embedder['embedding_table'](y)
        per_frame, per_patch = repeat(c, 'b d -> (b f) d', f=f), repeat(c, 'b d -> (b n) d', n=n)
        for i in range(0, len(self.blocks), 2):
            x = rearrange(self.blocks[i](x, per_frame), '(b f) n d -> (b n) f d', b=b)
            if i == 0: x = x + self.temp_embed
            x = rearrange(self.blocks[i+1](x, per_patch), '(b n) f d -> (b f) n d', b=b)
        return rearrange(self.final_layer(x, per_frame), '(b f) (h w) (p q c) -> b f c (h p) (w q)',
            b=b, h=math.isqrt(n), p=self.patch, q=self.patch)


def same_answers(ours, plain, x, t, y):
    """Largest difference between the two models, relative to the largest answer; the
    zero-initialised layers are woken up first."""
    a, b = ours.eval()(x, t, y), plain.eval()(x, t, y)
    ours.train()
    plain.train()
    error = ((a - b).abs().max() / a.abs().max()).item()
    if not error < (2e-2 if x.is_cuda else 1e-4):
        raise RuntimeError(f'plain and ours differ by {error:.1e}: they are not the same model')
    return error


# A step, plain or ours

class Way:
    "One model with its optimizer and its weight average, and the step that moves them."
    def __init__(self, name, model, batch, bf16, alignment=None, heard=None):
        self.name, self.model, self.batch, self.bf16, self.alignment, self.heard = (name, model,
            batch, bf16, alignment, heard)
        self.plain, self.objective = name.startswith('plain'), Flow()
        self.average = copy.deepcopy(model).eval().requires_grad_(False) # before compiling
        if not self.plain and name != 'ours-eager':
            for block in model.blocks: block.compile()
        self.parts = [model] + [alignment]*(alignment is not None)
        self.params = [p for m in self.parts for p in m.parameters() if p.requires_grad]
        self.pairs = [(a, p) for a, p in zip(self.average.parameters(), model.parameters())
            if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.params, lr=1e-4, weight_decay=0,
            **(dict(foreach=True) if self.plain else dict(fused=True)))

    def loss(self):
        x, y = self.batch['latents'], self.batch['labels']
        xt, t, target = self.objective.corrupt(x)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            if self.alignment is None:
                return self.objective.error(self.model(xt, t, y), target).mean()
            features = self.features()
            out, (tokens,) = self.model(xt, t, y, return_tokens=(self.alignment.block,))
            return self.objective.error(out, target).mean() + .5*self.alignment(tokens, features)

    def features(self):
        device = self.batch['latents'].device
        if self.heard is None:
            return [f.to(device, non_blocking=True) for f in self.batch['features']]
        video = self.batch['videos'].to(device, non_blocking=True)
        with torch.no_grad():
            return [match_grid(t(video), t.grid(*video.shape[-2:]), self.model.x_embedder.grid_size)
                for t in self.heard]

    def average_parameters(self):
        with torch.no_grad():
            if self.plain:
                for a, p in self.pairs: a.mul_(.9999).add_(p, alpha=1-.9999)
            else:
                torch._foreach_lerp_([a for a, _ in self.pairs], [p for _, p in self.pairs],
                    1-.9999)

    def phases(self):
        "The parts of a step, in order."
        return dict(forward=lambda: setattr(self, 'last', self.loss()),
            backward=lambda: self.last.backward(),
            clip=lambda: nn.utils.clip_grad_norm_(self.params, 1.),
                    optimizer=lambda: (self.optimizer.step(),
                    self.optimizer.zero_grad(set_to_none=True)), average=self.average_parameters)

    def step(self):
        for phase in self.phases().values(): phase()
        return self.last.detach()


clock = time.perf_counter

def synchronize(device):
    if device == 'cuda': torch.cuda.synchronize()


def timed(step, device):
    "Seconds of one step, and the bytes it needed beyond what lay there before (GPU only)."
    synchronize(device)
    if device == 'cuda':
        torch.cuda.reset_peak_memory_stats(); before = torch.cuda.memory_allocated()
    start = clock()
    step()
    synchronize(device)
    return clock() - start, torch.cuda.max_memory_allocated() - before if device == 'cuda' else None


def bytes_held(way):
    "Parameters, average and optimizer state."
    state = [v for s in way.optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    return sum(v.numel() * v.element_size() for v in [*(p for m in way.parts
        for p in m.parameters()), *way.average.parameters(), *state])


# What the figures are divided by

def model_flops(ours, batch):
    "Floating-point operations of the products in forward and backward, for the whole batch."
    with torch.device('meta'): model = vdit('S', **{k: v for k, v in ours.config.items()})
    x, t, y = (batch['latents'].to('meta'), torch.rand(len(batch['labels']), device='meta'),
        batch['labels'].to('meta'))
    with FlopCounterMode(display=False) as counter: model(x, t, y)
    return 3 * counter.get_total_flops()


def peak_flops(device):
    "The bf16 peak of the device, and where it comes from."
    if device == 'cuda':
        name = torch.cuda.get_device_name()
        found = [v for k, v in peaks.items() if k in name]
        return ((found[0], f'bf16 peak of {name}, data sheet') if found
            else (None, f'no bf16 peak known for {name}'))
    a = torch.randn(2048, 2048, dtype=torch.bfloat16)
    a @ a
    times = [timed(lambda: a @ a, 'cpu')[0] for _ in range(9)]
    return (2*2048**3 / min(times),
        'fastest of 9 bf16 products of 2048 x 2048 matrices on this machine')


def machine(device):
    info = Path('/proc/cpuinfo')
    names = [l.split(':', 1)[1].strip() for l in (info.read_text().splitlines() if info.exists()
        else []) if l.startswith('model name')]
    name = torch.cuda.get_device_name() if device == 'cuda' else (names or [platform.machine()])[0]
    return dict(processor=name, threads=torch.get_num_threads(), torch=torch.__version__,
        python=platform.python_version())


def commit():
    def git(*a):
        return subprocess.run(['git', *a], capture_output=True, text=True,
            cwd=Path(__file__).parent).stdout.strip()
    return (git('rev-parse', '--short', 'HEAD') + '+'*bool(git('status', '--porcelain', '--',
        '../align4gen', '.')))


# The modes

def make_batch(a):
    """Random latents, labels, features of two teachers and videos: the cost does not depend on
    their values."""
    side, b = a.input_size//model_sizes[a.size][3], a.batch
    host = lambda v: v.pin_memory() if a.device == 'cuda' else v
    return dict(latents=torch.randn(b, a.frames, 4, a.input_size, a.input_size, device=a.device),
        labels=torch.randint(101, (b,), device=a.device),
                features=[host(torch.randn(b, a.frames, side**2, d).bfloat16())
                for d in teachers.values()],
                videos=host(torch.rand(b, a.frames, 3, 8*a.input_size, 8*a.input_size)*2 - 1))


def make_model(a):
    torch.manual_seed(0)
    with torch.device(a.device):
        model = vdit(a.size, input_size=a.input_size, frames=a.frames, num_classes=101)
    # the zero-initialised layers say something, so that outputs can be compared
    for p in model.parameters():
        if p.requires_grad and p.count_nonzero() == 0: nn.init.normal_(p, std=.02)
    return model


def build(name, a, batch, base):
    if name.startswith('plain'):
        return Way(name, PlainLatte(base, fused=name == 'plain-bf16').to(a.device), batch,
            bf16=name == 'plain-bf16')
    alignment = heard = None
    if name in ('ours-cached', 'ours-online'):
        alignment = Alignment(base.dim, list(teachers.values()), block=min(8, base.depth-1)).to(
            a.device)
    if name == 'ours-online':
        heard = [encoders.load(t, 'random').to(a.device) for t in teachers]
    return Way(name, copy.deepcopy(base), batch, True, alignment, heard)


def take_turns(steps, a):
    """Warm up, then one step of each in turn until each has had its seconds (3 steps at least):
    seconds and peak bytes of every step."""
    out = {k: [] for k in steps}
    for k in [*steps]:
        try: first = timed(steps[k], a.device)[0]; timed(steps[k], a.device)
        except torch.OutOfMemoryError:
            print(f'{k}: out of memory, left out')
            del steps[k], out[k]; torch.cuda.empty_cache(); continue
        print(f'{k:14} first step {first:6.1f} s', flush=True)
    wants = lambda k: len(out[k]) < 3 or sum(s for s, _ in out[k]) < a.seconds
    while any(map(wants, out)):
        for k in filter(wants, out): out[k].append(timed(steps[k], a.device))
    return out


def compare(a):
    batch, base = make_batch(a), make_model(a)
    xt, t, _ = Flow().corrupt(batch['latents'])
    with torch.no_grad():
        error = same_answers(base, PlainLatte(base).to(a.device), xt, t, batch['labels'])
    flops, (peak, source) = model_flops(base, batch), peak_flops(a.device)
    ways = {k: build(k, a, batch, base) for k in a.ways}
    times = take_turns({k: w.step for k, w in ways.items()}, a)
    seconds = {k: statistics.median(s for s, _ in v) for k, v in times.items()}
    rows = {}
    for k, v in times.items():
        s, spread = seconds[k], statistics.quantiles([x for x, _ in v], n=4)
        rows[k] = dict(ms=round(1000*s, 2), quartiles_ms=[round(1000*spread[0], 2),
            round(1000*spread[2], 2)], clips_per_second=round(a.batch/s, 2),
            tflops=round(flops/s/1e12, 4),
                       mfu=round(flops/s/peak, 4) if peak else None,
                       peak_memory_gib=round((max(m for _, m in v) + bytes_held(ways[k]))/2**30, 2)
                       if a.device == 'cuda' else None, steps=len(v))
        for other in ('plain', 'plain-bf16', 'ours'):
            if other in seconds: rows[k][f'faster_than_{other}'] = round(seconds[other]/s, 3)
    print(f'{"way":14} {"ms/step":>9} {"clips/s":>8} {"TFLOP/s":>8} {"MFU":>6} {"GiB":>6} '
        f'{"x plain":>8}')
    for k, r in rows.items():
        print(f'{k:14} {r["ms"]:9.1f} {r["clips_per_second"]:8.2f} {r["tflops"]:8.3f} '
            f'{r["mfu"] or float("nan"):6.1%} {r["peak_memory_gib"] or float("nan"):6.1f} '
            f'{r.get("faster_than_plain", float("nan")):8.2f}')
    return dict(parameters=sum(p.numel() for p in base.parameters()),
        tokens_per_clip=a.frames*base.x_embedder.num_patches, flops_per_step=flops,
                peak_flops=round(peak) if peak else None, peak_source=source,
                outputs_differ_by=error, rows=rows)


def compiling(a):
    """Nothing compiled, each block, or the whole loss: time until the second step can start, and
    time of a step."""
    # an earlier run must not lend its compiled code
    torch._inductor.config.force_disable_caches = True
    batch, results = make_batch(a), {}
    for how in ('nothing', 'each block', 'whole loss'):
        torch._dynamo.reset(); way = Way('ours-eager', make_model(a), batch, True)
        if how == 'each block': [b.compile() for b in way.model.blocks]
        if how == 'whole loss':
            def loss(model, xt, t, y, target):
                return way.objective.error(model(xt, t, y), target).mean()
            compiled = torch.compile(loss)
            def whole(self=way):
                xt, t, target = self.objective.corrupt(batch['latents'])
                with torch.autocast(a.device, torch.bfloat16):
                    return compiled(self.model, xt, t, batch['labels'], target)
            way.loss = whole
        results[how] = way, timed(way.step, a.device)[0]
    times = take_turns({k: w.step for k, (w, _) in results.items()}, a)
    rows = {k: dict(ms=round(1000*statistics.median(s for s, _ in v), 2),
        first_step_seconds=round(results[k][1], 1), steps=len(v)) for k, v in times.items()}
    for k, r in rows.items():
        print(f'{k:12} {r["ms"]:9.1f} ms/step, first step {r["first_step_seconds"]:.1f} s')
    return dict(rows=rows)


def profiled(way, a):
    """Milliseconds of every part of a step, and of the operations that take most (their own time,
    not their callees')."""
    steps, times = 3, {k: [] for k in way.phases()}
    way.step()
    way.step()
    for _ in range(7):
        for k, phase in way.phases().items(): times[k].append(timed(phase, a.device)[0])
    P = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[P.CPU] + [P.CUDA]*(a.device == 'cuda')) as prof:
        for _ in range(steps): way.step()
    own = lambda e: (e.self_device_time_total if a.device == 'cuda'
        else e.self_cpu_time_total) / 1000 / steps
    ops = sorted(prof.key_averages(), key=own, reverse=True)[:15]
    named = lambda key: 'code made by the compiler' if 'CompiledFxGraph' in key else key
    top = {}
    for e in ops:
        ms, calls = top.get(named(e.key), (0, 0))
        top[named(e.key)] = ms + own(e), calls + e.count/steps
    return dict(phases={k: round(1000*statistics.median(v), 2) for k, v in times.items()},
                top=[dict(op=k, ms=round(ms, 2), calls=round(calls, 1)) for k,
                (ms, calls) in sorted(top.items(), key=lambda kv: -kv[1][0])])


class Launches(torch.utils._python_dispatch.TorchDispatchMode):
    "Collects the operations that compute or copy; views cost nothing on a GPU."
    def __enter__(self): self.seen = collections.Counter(); return super().__enter__()

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        name = op.overloadpacket.__name__
        if not (op.is_view or name in ('_unsafe_view', 'detach', 'empty_like', 'empty',
                'lift_fresh')):
            self.seen[name] += 1
        return op(*args, **kwargs or {})


def launches(a):
    """Operations of one spatial and one temporal block together with the copies between them, forward and backward: what an eager
    GPU would launch, but for the casts of autocast. Counted on the meta device (attention spelled out in both), four blocks less two."""
    counts = {}
    for name in ('plain-bf16', 'ours-eager'):
        for depth in (2, 4):
            with torch.device('meta'):
                base = vdit('S', depth=depth, input_size=a.input_size, frames=a.frames,
                    num_classes=101)
                model = PlainLatte(base, fused=True) if name == 'plain-bf16' else base
                x, t, y = (torch.randn(2, a.frames, 4, a.input_size, a.input_size), torch.rand(2),
                    torch.zeros(2, dtype=torch.long))
            with Launches() as counted: model(x, t, y).sum().backward()
            counts[name, depth] = counted.seen
    pairs = {name: counts[name, 4] - counts[name, 2] for name in ('plain-bf16', 'ours-eager')}
    return {name: dict(all=sum(c.values()), by_operation=dict(c.most_common())) for name,
        c in pairs.items()}


def profile(a):
    batch, base = make_batch(a), make_model(a)
    ways = {}
    for k in ('plain', 'ours-eager', 'ours'):
        ways[k] = profiled(build(k, a, batch, base), a)
        print(k, ways[k]['phases'])
        for r in ways[k]['top']: print(f'   {r["ms"]:9.2f} ms {r["calls"]:7.0f}x  {r["op"]}')
    return dict(launches_per_pair_of_blocks=launches(a), ways=ways)


def mini(a):
    """The miniature run, five ways and one: with and without alignment, features cached or
    computed online, eager and compiled."""
    from align4gen.config import make_config
    from align4gen.data import MovingDigits
    from align4gen.video import to_float
    from align4gen.source import Batch, batch_index, load_frozen
    from align4gen.build import resolve_machine
    from align4gen.train import Trainer
    def cached(trainer, memory):
        stream = memory.batches(0)
        return lambda: trainer.train_step(next(stream))
    def online(trainer, memory, frozen, videos):
        "A step that asks the teachers about the batch's frames first."
        def step():
            index, _ = batch_index(len(memory), trainer.config.batch, trainer.config.seed,
                trainer.step)
            trainer.train_step(Batch(memory.data.mean[index], None,
                frozen.features(to_float(videos[index])), memory.data.labels[index]))
        return step
    ways = {}
    for compiled in ('no', 'whole'):
        for gamma in (0., 2.):
            c = resolve_machine(make_config('digits', clips=512, gamma=gamma, compile=compiled,
                classes=10))
            trainer = Trainer(c)
            memory = trainer.recipe.sources(progress=False)[0]
            kind = 'eager' if compiled == 'no' else 'compiled'
            ways[f'{kind}, {"aligned, cached features" if gamma else "baseline"}'] = cached(trainer,
                memory)
            if gamma:
                ways[f'{kind}, aligned, online features'] = online(Trainer(c), memory,
                    load_frozen(c, trainer.model.x_embedder.grid_size), MovingDigits(n=512, frames=c.frames).videos)
    times = {k: [s for s, _ in v] for k, v in take_turns(ways, a).items()}
    base = statistics.median(times['eager, baseline'])
    rows = {k: dict(ms=round(1000*statistics.median(v), 1), ratio=round(statistics.median(v)/base,
        3), clips_per_second=round(c.batch/statistics.median(v)), steps=len(v)) for k,
        v in times.items()}
    print(f'{"way":40} {"ms/step":>8} {"clips/s":>8} {"time / eager baseline":>22}')
    for k, r in rows.items():
        print(f'{k:40} {r["ms"]:8.1f} {r["clips_per_second"]:8} {r["ratio"]:22.2f}')
    return dict(precision=c.precision, batch=c.batch, rows=rows)


def options(argv=None):
    cuda = torch.cuda.is_available()
    p = argparse.ArgumentParser(description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = p.add_mutually_exclusive_group()
    mode.add_argument('--mini', action='store_true',
        help='time the miniature training run instead (train_step_mini.json)')
    mode.add_argument('--compiling', action='store_true',
        help='time compiling nothing, each block, the whole loss (train_step_compiling.json)')
    mode.add_argument('--profile', action='store_true',
        help='record where the time goes (train_step_profile.json)')
    p.add_argument('--size', default='XL' if cuda else 'S',
        help="model: mini, S, B, L or XL (default: XL on a GPU, S on a CPU)")
    p.add_argument('--batch', type=int, default=4, help='clips in a step (default: 4)')
    p.add_argument('--frames', type=int, default=16 if cuda else 4,
        help='frames in a clip (default: 16 on a GPU, 4 on a CPU)')
    p.add_argument('--input_size', type=int, default=32 if cuda else 8,
        help='side of the latents, an eighth of the pixels (default: 32 on a GPU, 8 on a CPU)')
    p.add_argument('--ways', nargs='+', choices=all_ways, default=[*all_ways], metavar='WAY',
        help=f'what to time: {", ".join(all_ways)} (default: all)')
    p.add_argument('--seconds', type=float, default=10.,
        help='seconds of steps per way, after warming up (default: 10)')
    p.add_argument('--threads', type=int, default=torch.get_num_threads(),
        help='CPU threads (default: what PyTorch takes)')
    p.add_argument('--clock', choices=('wall', 'cpu'), default='wall',
        help='wall time, or the processor time of all threads: with --threads 1 the steadier '
            'clock on a busy CPU (default: wall)')
    p.add_argument('--note', default='',
        help='a sentence to keep with the result, for example what else ran on the machine')
    p.add_argument('--out', type=Path,
        help='JSON to write (default: under results/benchmarks, by mode)')
    a = p.parse_args(argv)
    a.device = 'cuda' if cuda else 'cpu'
    if cuda and a.clock == 'cpu': p.error('--clock cpu measures nothing on a GPU')
    return a


def main(argv=None):
    global clock
    a = options(argv)
    clock = time.process_time if a.clock == 'cpu' else clock
    torch.set_num_threads(a.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True # as Latte does
    name, run = next(((n, f) for n, f, on in (('mini', mini, a.mini), ('compiling', compiling,
        a.compiling), ('profile', profile, a.profile)) if on), ('', compare))
    said = {k: getattr(a, k) for k in (('threads', 'seconds', 'clock') if a.mini else ('size',
        'batch', 'frames', 'input_size', 'threads', 'seconds', 'clock'))}
    command = ' '.join(['python benchmarks/train_step.py', *[f'--{name}']*bool(name),
        *(f'--{k} {v:g}' if isinstance(v, float) else f'--{k} {v}' for k, v in said.items())])
    if not name and a.ways != [*all_ways]: command += ' --ways ' + ' '.join(a.ways)
    result = dict(command=command, commit=commit(), machine=machine(a.device), note=a.note,
        **{k: v for k, v in said.items() if k not in ('threads', 'seconds')}, **run(a))
    out = a.out or here/f'train_step{"_" + name if name else ""}.json'
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + '\n')
    print(out)


if __name__ == '__main__': main()
