"""The price of a run: what is counted agrees with the counter, and the guide to the paper's tables names commands that exist."""
import ast, json, shlex
from pathlib import Path

import pytest, torch

from align4gen import build, commands, config, cost, encoders, train, videodit
from align4gen.vdit import count_parameters, vdit

guide = Path(__file__).resolve().parent.parent/'nbs'/'guides'/'paper_tables.ipynb'
pair = 'dinov2_b,sam2_hiera_l'


# Counting

@pytest.mark.parametrize('size,batch,shape', [
    ('mini', 32, dict(input_size=4, frames=6, num_classes=10, teachers='mini_infonce,mini_mae',
    mapper_hidden=512)),
    ('S', 1, dict(input_size=8, frames=1)),
    ('S', 3, dict(input_size=16, frames=5, in_channels=16, learn_sigma=True, teachers='dinov2_b',
    mapper_layers=1)),
    ('B', 2, dict(num_classes=101, teachers=('dinov2_b', 'sam2_hiera_l'), fusion='separate')),
    ('L', 24, dict(num_classes=101, teachers=pair)),
    ('XL', 16, dict(num_classes=101, teachers=pair)),
], ids=str)
def test_closed_form_equals_the_counter(size, batch, shape):
    assert (sum(cost.step_flops(size, batch, **shape).values()) == cost.count_step(size, batch,
        **shape).get_total_flops())


@pytest.mark.parametrize('size', ['mini', 'S'])
def test_recomputing_is_counted(size):
    shape = dict(input_size=8, frames=4, teachers='mini_mae')
    parts = cost.step_flops(size, 2, checkpointing=True, **shape)
    assert (sum(parts.values()) == cost.count_step(size, 2, checkpointing=True,
        **shape).get_total_flops())
    assert parts['recomputing'] > 0 == cost.step_flops(size, 2, **shape)['recomputing']


@pytest.mark.parametrize('checkpointing', [False, True])
@pytest.mark.parametrize('patchify', ['2d', '3d'])
@pytest.mark.parametrize('conversion', ['2d', '2d->3d', '2d+3d'])
@pytest.mark.parametrize('image,side', [('image-mini', 4), ('sd3-tiny', 8)])
def test_a_converted_model_has_the_counters_price(image, side, conversion, patchify, checkpointing):
    "Frames, clips, copies and words: the closed form against PyTorch's counter, to the last FLOP."
    shape = dict(input_size=side, frames=3, num_classes=10, conversion=conversion,
        patchify=patchify, checkpointing=checkpointing)
    parts = cost.step_flops(image, 2, **shape)
    assert sum(parts.values()) == cost.count_step(image, 2, **shape).get_total_flops()
    assert ((parts.get('text', 0) > 0) == (image == 'sd3-tiny')
        and (parts.get('copies', 0) > 0) == (conversion == '2d+3d'))


def test_three_dimensional_attention_is_where_the_price_is():
    "Twice the frames: twice the linear layers, and more than that for one sequence of all of them."
    grow = {c: [cost.step_flops('sd3-tiny', 1, input_size=16, frames=t, conversion=c)['attention']
        for t in (8, 16)] for c in ('2d', '2d->3d')}
    assert grow['2d'][1] == 2*grow['2d'][0] and 2 < grow['2d->3d'][1]/grow['2d->3d'][0] < 4


def test_parts_and_memory_of_a_converted_model():
    e = cost.estimate('sd3', 64, 10, device='H200', gpus=8, accumulate=8, in_channels=16,
        input_size=40, frames=24, patchify='3d', checkpointing=True, online=True, vae='dpvae',
        video_share=.8)
    assert (list(e.parts.values()) == [2_028_328_000, 99_840, 2_360_832]
        and e.learned == sum(e.parts.values()) == 2_030_788_672)
    assert (e.tokens == 9_600 and e.memory['weights'] == e.memory['EMA'] == 4*e.learned
        and e.memory['teachers and VAE'] == 4*cost.vae_parameters('dpvae'))
    assert round(cost.vae_parameters('dpvae')/1e6) == 195                      # VideoDiT: "195M"
    both = cost.memory('image-mini', 1, input_size=4, conversion='2d+3d')
    # the image model rests
    assert both['EMA'] == both['gradients'] < both['weights']
    steps = [sum(cost.step_flops('image-mini', 4, input_size=4, frames=f).values()) for f in (6, 1)]
    mixed = cost.estimate('image-mini', 4, 10, device='H200', input_size=4, frames=6,
        video_share=.75)
    assert (mixed.step_flops == pytest.approx(.75*steps[0] + .25*steps[1])
        and '75% clips' in str(mixed))


def test_an_image_is_cheaper_to_encode_than_four_frames():
    "DP-VAE's first network alone, against two."
    image, four = (cost.vae_flops('dpvae', 32, f) for f in (1, 2))
    assert 0 < 2*image < four


def test_online_adds_teachers_and_vae():
    base, live = (cost.step_flops('S', 4, teachers='dinov2_s', online=o, vae='sd14')
        for o in (False, True))
    assert base['teachers'] == base['VAE'] == 0
    per_frame = encoders.measure(encoders.find('dinov2_s').build, 224)[1] * 1e9
    assert live['teachers'] == pytest.approx(4 * 16 * per_frame)
    assert live['VAE'] == 4 * cost.vae_flops('sd14', 32) > 0
    assert {k: live[k] for k in ('mapper', 'MLP')} == {k: base[k] for k in ('mapper', 'MLP')}
    assert cost.step_flops('S', 4, online=True, vae='pixels')['VAE'] == 0


@pytest.mark.parametrize('name', encoders.list())
def test_every_encoder_has_a_price(name):
    "On the meta device: no weights, no memory."
    parameters, flops = cost.teacher_cost(encoders.find(name))
    assert parameters > 10_000 and flops > 1e6


@pytest.mark.parametrize('size,total', [('L', 466), ('XL', 683)])
def test_the_papers_parameters(size, total):
    "Align4Gen, sec. 4: 466M and 683M."
    p = cost.parameters(size, num_classes=101, teachers=pair)
    assert p['V-DiT'] == count_parameters(cost.meta_model(size, num_classes=101)[0])
    assert round((p['V-DiT'] + p['mapper'])/1e6) == total
    assert list(p) == ['V-DiT', 'mapper', 'dinov2_b', 'sam2_hiera_l']


# Memory

@pytest.mark.parametrize('checkpointing', [False, True])
def test_kept_bytes_agree_with_a_real_pass(checkpointing):
    "The same hook around real tensors on the CPU, in fp32."
    shape, kept = dict(input_size=8, frames=4), {}
    net, (ghost, _) = vdit('mini', **shape), cost.meta_model('mini', **shape)
    net.checkpointing = ghost.checkpointing = checkpointing
    def pack(x): s = x.untyped_storage(); kept[s._cdata] = s; return x
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        net(torch.randn(3, 4, 4, 8, 8), torch.rand(3))
    weights = {p.untyped_storage()._cdata for p in net.parameters()}
    real = sum(s.nbytes() for i, s in kept.items() if i not in weights)
    meta = lambda *size: torch.empty(*size, device='meta')
    counted, copies = cost.kept_bytes(lambda: ghost(meta(3, 4, 4, 8, 8), meta(3)),
        [*ghost.parameters()], half=False)
    assert counted == pytest.approx(real, rel=.01) and copies == 0


def test_longest_clips_fit_with_checkpoints_only():
    "96 frames of 512 pixels, 24 latent frames of 64 x 64: 24,576 tokens."
    spelled, fused, light = (cost.activations('sd3', 1, input_size=64, frames=24, fused=f,
        checkpointing=c)[0] for f, c in ((False, False), (True, False), (True, True)))
    # blocks x heads x n^2 numbers, some in bf16, some in fp32
    assert spelled - fused > 2 * 24 * 24 * (24_576 + 154)**2
    assert light < 8 * 2**30 < 32 * 2**30 < fused


@pytest.mark.parametrize('checkpointing', [False, True])
def test_memory_of_a_converted_model_is_what_a_real_pass_keeps(checkpointing):
    small = dict(sample_size=8, num_layers=3, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, caption_projection_dim=32, pooled_projection_dim=20, in_channels=4,
        out_channels=4, pos_embed_max_size=12)
    kept = []
    for device in ('meta', 'cpu'):
        with torch.device(device):
            net = videodit.inflate(videodit.sd3(**small), frames=4)
            net.checkpointing = checkpointing
            args = torch.zeros(1, 4, 4, 8, 8), torch.zeros(1)
            y = videodit.Prompt(torch.zeros(1, 5, 24), torch.zeros(1, 20))
        kept.append(cost.kept_bytes(lambda: net(*args, y), [*net.parameters()], half=False,
            fused=device == 'meta')[0])
    assert kept[0] == pytest.approx(kept[1], rel=.02)


def test_memory_parts():
    m, p = cost.memory('S', 2, teachers=pair), cost.parameters('S', teachers=pair)
    learned = p['V-DiT'] + p['mapper']
    assert ((m['weights'], m['gradients'], m['AdamW'], m['EMA']) == (4*learned, 4*learned,
        8*learned, 4*p['V-DiT']))
    assert m['teachers and VAE'] == 0 and 0 < m['bf16 copies'] <= 2*learned
    live = cost.memory('S', 2, teachers=pair, online=True)
    assert live['teachers and VAE'] == 4*(p['dinov2_b'] + p['sam2_hiera_l'])
    less, more = (cost.memory('S', 2, teachers=pair, **k)['activations']
        for k in (dict(checkpointing=True), dict(precision='fp32')))
    assert less < m['activations']/3 and more > m['activations']
    assert (cost.memory('S', 4, teachers=pair)['activations'] == pytest.approx(2*m['activations'],
        rel=.01))


# Time

@pytest.mark.parametrize('name,key', [('NVIDIA H200', 'H200'), ('NVIDIA H100 80GB HBM3', 'H100'),
    ('NVIDIA H100 PCIe', 'H100 PCIe'), ('NVIDIA A100-SXM4-40GB', 'A100'),
    ('NVIDIA L4', 'L4'), ('NVIDIA L40S', 'L40S'), ('NVIDIA A10', 'A10'), ('NVIDIA GeForce RTX 4090',
    'RTX 4090'), ('NVIDIA RTX 6000 Ada Generation', 'RTX 6000 Ada')])
def test_devices_are_recognised(name, key): assert cost.find_peak(name)[1:] == cost.peaks[key]


@pytest.mark.parametrize('call,word', [
    (lambda: cost.find_peak('Abacus 9'), 'Abacus 9'),
    (lambda: cost.hours(1e12, 1, 1e12, 40), 'mfu=40'),
    (lambda: cost.estimate('S', 9, 1, gpus=2, device='A100'), 'batch=9'),
    (lambda: cost.estimate('S', 8, 1, device='A100', mfu=0), 'mfu=0'),
    (lambda: cost.estimate('huge', 8, 1, device='A100'), 'huge'),
    (lambda: cost.parameters('S', teachers='dinov9'), 'dinov9'),
    (lambda: cost.vae_flops('sd9', 32), 'sd9'),
    (lambda: cost.memory('S', 1, precision='int8'), 'int8'),
])
def test_bad_input_is_named(call, word):
    with pytest.raises(ValueError, match=word): call()


def test_estimate_prints_everything():
    e = cost.estimate('S', 8, 1000, device='A100', gpus=2, teachers='dinov2_s', num_classes=5)
    text = str(e)
    assert ([line.split()[0] for line in text.splitlines() if line[0] != ' '] == ['run',
        'parameters', 'tokens', 'FLOPs', 'memory', 'time'])
    assert max(map(len, text.splitlines())) <= 80
    assert all(word in text for word in ('V-DiT-S', '2 x A100', '4,096 per clip', 'dinov2_s',
        'estimate', '40%'))
    assert (e.gpu_hours == pytest.approx(e.step_flops*1000/(312e12*.4)/3600) == pytest.approx(
        2*e.hours))
    assert e.bytes == sum(cost.memory('S', 4, teachers='dinov2_s', num_classes=5).values())


# The guide

known = {'preset', 'root', 'cache', 'teachers', 'gamma', 'fusion', 'objective', 'align_block',
    'steps', 'name'}
blocks = {'ucf101-L': 24, 'sky-L': 24, 'ffs-L': 24, 'ucf101-XL': 28}

def guide_cells(): return json.loads(guide.read_text(encoding='utf-8'))['cells']

def guide_rows():
    "The guide's own data: dict(...) calls with literal values, read without running anything."
    cell, = [s for s in (''.join(c['source']) for c in guide_cells() if c['cell_type'] == 'code')
        if '\nrows = [' in '\n' + s]
    calls = ast.parse(cell).body[-1].value.elts
    return [{k.arg: ast.literal_eval(k.value) for k in call.keywords} for call in calls]

def options(command):
    program, *words = shlex.split(command)
    assert (program == 'align4gen_train' and all(w.startswith('--') for w in words[::2])
        and len(words) % 2 == 0)
    return {k[2:]: v for k, v in zip(words[::2], words[1::2])}

def parse(command):
    "Through the real command's parser: an unknown option or preset is an error."
    return commands._parse('align4gen_train', spec, shlex.split(command)[1:])

spec = train.align4gen_train.spec()

rows = guide_rows()
ids = [f"{r['table']}, {r['method']}, {r['at']//1000}K" for r in rows]


def test_guide_has_every_row():
    count = lambda t: sum(r['table'] == t for r in rows)
    assert [count(f'Table {i}') for i in range(1, 7)] == [8, 8, 4, 5, 2, 8]
    best = {(r['table'], r['method'], r['at']): r['FVD'] for r in rows}
    assert (best['Table 1', 'V-DiT + Ours (Fusion)', 1_000_000] == 187.46 and best['Table 5',
        'Fusion', 200_000] == 295.63)
    runs = {}
    for r in rows:
        assert (runs.setdefault(options(r['command'])['name'],
            r['command']) == r['command']), 'two commands share a name'


@pytest.mark.parametrize('row', rows, ids=ids)
def test_guide_command_is_sound(row):
    o = options(row['command'])
    assert set(o) <= known and o['preset'] in blocks and o['objective'] in ('flow', 'diffusion')
    if float(o['gamma']) == 0: assert not {'teachers', 'fusion', 'align_block'} & set(o)
    else:
        assert (set(o['teachers'].split(',')) <= set(encoders.list())
            and 0 <= int(o['align_block']) < blocks[o['preset']])
        assert (int(o['align_block']) % 2 == 1) == ('temporal' in row['method'])
        assert ('fusion' in o) == (',' in o['teachers'])


def test_guide_shows_what_it_says():
    "Every command and every quoted FVD is in a rendered table."
    shown = ''.join(''.join(o.get('data', {}).get('text/markdown', '')) for c in guide_cells()
        if c['cell_type'] == 'code' for o in c['outputs'])
    for r in rows: assert f"`{r['command']}`" in shown and f"{r['FVD']:.2f}" in shown


@pytest.mark.skipif('ucf101-XL' not in config.presets,
    reason='the presets of the paper are not in align4gen.train yet')
@pytest.mark.parametrize('row', rows, ids=ids)
def test_guide_command_is_understood(row): assert parse(row['command'])['preset'] in config.presets


@pytest.mark.parametrize('preset, name', [('ucf101-L', 'ucf101-L-fusion'), ('sky-L', 'sky-L-fusion'),
    ('ffs-L', 'ffs-L-fusion'), ('ucf101-XL', 'ucf101-XL-flow-fusion')])
def test_presets_are_their_rows(preset, name):
    "A preset alone is the best row of its table: objective, steps, batch, teachers, gamma and depth."
    row = next(r for r in rows if options(r['command'])['name'] == name)
    given = {k: v for k, v in parse(row['command']).items() if k not in ('root', 'name', 'preset')}
    assert config.make_config(preset, **given) == config.make_config(preset)
    c = config.make_config(preset)
    assert c.steps == max(r['at'] for r in rows if options(r['command'])['name'] == name)
    assert (c.batch, c.gamma) == (16 if c.size == 'XL' else 24, .5) # sec. 4, App. E


@pytest.mark.parametrize('where', [dict(root='nowhere'), dict(cache='nowhere'), dict(root='nowhere', eval_every=10)])
def test_a_plan_needs_no_folder(where):
    "It names what is missing, and goes on."
    c = build.ready_config('ucf101-XL', files=False, **where)
    assert c.classes == 0 and 'no folder nowhere yet' in cost.plan(c, 'h100')
    with pytest.raises((ValueError, OSError), match='nowhere'):
        build.ready_config('ucf101-XL', **{**where, 'weights': 'random'})
