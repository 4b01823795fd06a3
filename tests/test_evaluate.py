("Two folders give one table, the same one every time and from any number of processes; and the "
"table says what was computed.")
import json, os, shutil, subprocess, sys, warnings

import numpy as np, pytest, torch

from align4gen import datasets, evaluate as ev, metrics as measures
from align4gen.data import MovingDigits
from align4gen.video import to_float, write_video
from align4gen.clips import (chosen, class_counts, clip_batches, digit_clips, folder_clips,
    load_clips, ucf101_clips)
from align4gen.evaluate import evaluate
from align4gen.results import compare_results, load_results

code = 'import sys; from align4gen.evaluate import align4gen_eval; sys.exit(align4gen_eval())'
quiet = dict(progress=False, say=lambda *_: None)


def digits(n, **how): return MovingDigits('test', n=n, **how)


def write(folder, videos, kinds=('npy',), labels=None):
    for i, v in enumerate(videos):
        path = (folder/('' if labels is None
            else f'class-{labels[i]}')/f'{i:03d}.{kinds[i % len(kinds)]}')
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == '.npy': np.save(path, v.numpy())
        else: write_video(path, v, fps=8)
    return folder


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    "Two folders of real files of several kinds."
    root = tmp_path_factory.mktemp('two')
    return (write(root/'generated', digits(40, seed=1).videos, ('npy', 'mp4', 'gif')),
        write(root/'real', digits(44).videos, ('mp4', 'npy'), digits(44).labels.tolist()))


def align4gen_eval(argv):
    "The exit status of the command."
    try: return ev.align4gen_eval([*map(str, argv)])
    except SystemExit as e: return e.code


def ask(two, tmp_path, *more, out='results.json', cache='kept'):
    return align4gen_eval(['--generated', str(two[0]), '--real', str(two[1]), '--frames', '6',
        '--n', '40', '--cache', str(tmp_path/cache), '--out', str(tmp_path/out), '--quiet', *more])


# The command

def test_twice_the_same_bytes_and_the_protocol_in_each(two, tmp_path, capsys):
    names = ['fvd-mini', 'fid-mini', 'is-mini', 'clip-mini']
    assert ask(two, tmp_path, '--metrics', ','.join(names), out='a.json') == 0
    assert 'read from' not in capsys.readouterr().out
    assert ask(two, tmp_path, '--metrics', ','.join(names), out='b.json') == 0
    # fvd-mini and fid-mini
    assert capsys.readouterr().out.count('real statistics of 40 clips read from') == 2
    assert ((tmp_path/'a.json').read_bytes() == (tmp_path/'b.json').read_bytes()
        and (tmp_path/'a.md').read_bytes() == (tmp_path/'b.md').read_bytes())
    told = json.loads((tmp_path/'a.json').read_text())
    assert ([*told['results']] == names and {'version', 'commit', 'torch',
        'device'} <= told['made_with'].keys() and told['generated']['clips'] == told['real'][
        'clips'] == 40)
    for name, r in told['results'].items():
        p = r['protocol']
        assert ({*measures.protocol_fields} <= p.keys() and (p['n'], p['clip_length'], p['resolution'],
            p['stride']) == (40, 6, '16x16', 1) and p['weights'])
        if name in ('fvd-mini', 'fid-mini'):
            assert ((p['data'], p['seed'], p['n_real'], p['chosen'], p['divisor']) == ('real', 0,
                40, 'proportional', 'n-1') and 'antialias' in p['crop'] and p['listing'])
        else: assert p['data'] is None and 'n_real' not in p
        assert name in (tmp_path/'a.md').read_text()
    assert len({r['hash'] for r in told['results'].values()}) == 4


def test_two_processes_give_what_one_gives(two, tmp_path):
    names = 'fvd-mini,fid-mini,is-mini,clip-mini'
    assert ask(two, tmp_path, '--metrics', names, '--batch', '8', out='one.json') == 0
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node',
        '2', '--no-python', '--', sys.executable, '-c', code,
               '--generated', two[0], '--real', two[1], '--frames', '6', '--n', '40', '--no_cache',
               '--batch', '8', '--metrics', names, '--quiet', '--out', tmp_path/'two.json']
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=200,
        env=os.environ | dict(OMP_NUM_THREADS='1'))
    assert done.returncode == 0, done.stderr[-3000:]
    # one of them reports
    assert done.stdout.count('| metric |') == 1
    a, b = load_results(tmp_path/'one.json'), load_results(tmp_path/'two.json')
    for k in a:
        assert (a[k].protocol == b[k].protocol and b[k].value == pytest.approx(a[k].value,
            rel=1e-5)), k
        assert ((a[k].std is None) == (b[k].std is None) and (a[k].std is None
            or b[k].std == pytest.approx(a[k].std, rel=1e-4))), k


@pytest.mark.parametrize('argv, told', [
    ([], 'give --run or --generated'), (['--run', 'nowhere'], 'nowhere is not a run'),
    (['--generated', 'nowhere', '--metrics', 'is-mini'], 'nowhere is not a folder'),
    (['--metrics', 'fvd-mega'], "'fvd-mega': did you mean 'fvd-mini'"), (['--metrics', 'psnr,fvd'],
    'needs weights'), (['--n', '2048'], 'there are 40'),
    (['--frames', '16'], 'too short: 6 of the 16'), (['--weights', 'fvd'], 'METRIC=PATH'),
    (['--weights', 'fvd=x.pth'], 'not among the metrics'), (['--n', '1'], 'at least 2'),
    (['--real', 'ucf101:nowhere'], 'there is no nowhere'), (['--metrics', 'fvd,fid,is'],
    '3 of 3 metrics cannot be loaded'), (['--options', 'splits=1'], 'METRIC.NAME=VALUE'),
    (['--options', 'fvd-mini.splits=1'], "no option 'splits': it has divisor, extractor"),
    (['--options', 'is.splits=1'], 'not among the metrics'), (['--metrics', 'read-mini'],
    'need the classes'), (['--compare', 'a.json', 'b.json'], 'a.json')])
def test_an_error_is_one_line_and_status_2(two, tmp_path, capsys, argv, told):
    usual = ({} if not argv or argv[0] in ('--run', '--compare') else {'--generated': str(two[0]),
        '--real': str(two[1]), '--frames': '6', '--cache': str(tmp_path)})
    given = usual | dict(zip(argv[::2], argv[1::2])) if '--compare' not in argv else {}
    assert align4gen_eval(argv if not given else [x for pair in given.items() for x in pair]) == 2
    err = capsys.readouterr().err
    assert err.startswith('align4gen_eval: ') and err.count('\n') == 1 and told in err, err


def test_options_reach_the_metric_and_the_protocol(two, tmp_path):
    assert (ask(two, tmp_path, '--metrics', 'fvd-mini,is-mini', '--options',
        'fvd-mini.extractor=mini_mae', 'fvd-mini.divisor=n', 'is-mini.splits=1',
        'is-mini.shuffle=null') == 0)
    told = load_results(tmp_path/'results.json')
    assert ((told['fvd-mini'].protocol['extractor'], told['fvd-mini'].protocol['divisor'],
        told['is-mini'].protocol['splits'], told['is-mini'].protocol['shuffle']) == ('mini_mae',
        'n', 1, None))
    assert (ev.metric_options(['is.sha256=123', 'fid.antialias=false', 'fvd.dtype=bfloat16']) == {
        'is': dict(sha256='123'), 'fid': dict(antialias=False), 'fvd': dict(dtype=torch.bfloat16)})


def test_help_teaches(capsys):
    assert align4gen_eval(['--help']) == 0
    said = capsys.readouterr().out
    assert 'torchrun' in said and 'ucf101:' in said and 'App. A' in said
    assert align4gen_eval(['--list']) == 0 and 'fvd-mini' in capsys.readouterr().out


def test_compare_names_what_differs(two, tmp_path, capsys):
    assert (ask(two, tmp_path, out='a.json') == 0 and ask(two, tmp_path, '--seed', '3', '--n', '30',
        out='b.json') == 0)
    capsys.readouterr()
    assert align4gen_eval(['--compare', str(tmp_path/'a.json'), str(tmp_path/'b.json')]) == 0
    said = capsys.readouterr().out
    assert 'warning: fvd-mini' in said and 'n (40 and 30)' in said and 'seed (0 and 3)' in said
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert compare_results(tmp_path/'a.json', tmp_path/'a.json')[0]['difference'] == '+0.0000'


# The cache of real statistics

def test_the_cache_is_hit_only_by_what_it_is_of(two, tmp_path):
    said, cache = [], tmp_path/'kept'
    def go(real=two[1], **more):
        return evaluate(two[0], real, ['fvd-mini'], frames=6, cache=cache, progress=False,
            say=said.append, **more)['fvd-mini']
    first, again = go(n=20), go(n=20)
    assert len(said) == 1 and first.value == again.value and first.protocol == again.protocol
    # the divisor comes after the statistics
    go(n=20, options={'fvd-mini': dict(divisor='n')})
    assert len(said) == 2
    for more in (dict(n=21), dict(n=20, seed=1), dict(n=20, resolution=20),
            dict(n=20, options={'fvd-mini': dict(extractor='mini_mae')})):
        go(**more)
    assert (len(said) == 2 and len([*cache.glob('*.safetensors')]) == len(
        [*cache.glob('*.json')]) == 5)
    copy = shutil.copytree(two[1], tmp_path/'real')
    before = go(copy, n=20)
    files = sorted(copy.rglob('*.npy'))
    changed = np.load(files[0])
    changed[:] = 0
    for f in files: np.save(f, changed)
    # equal names and sizes, other content
    assert go(copy, n=20).value > before.value and len(said) == 2


def test_a_damaged_cache_is_computed_again(two, tmp_path):
    def go():
        return (evaluate(two[0], two[1], ['fvd-mini'], n=20, frames=6, cache=tmp_path,
            **quiet)['fvd-mini'].value)
    first = go()
    for p in tmp_path.glob('*.safetensors'): p.write_bytes(p.read_bytes()[:100])
    with pytest.warns(UserWarning, match='computed again'): assert go() == first
    assert go() == first
    assert (evaluate(two[0], two[1], ['fvd-mini'], n=20, frames=6, cache=False,
        **quiet)['fvd-mini'].value == first)


# Sources

def test_all_kinds_of_files_are_read(tmp_path):
    v = digits(1, frames=9).videos[0]
    np.save(tmp_path/'a.npy', v.numpy())
    write_video(tmp_path/'b.gif', v, fps=8)
    write_video(tmp_path/'c.mp4', v, fps=8)
    clips = folder_clips(tmp_path, frames=3, interval=3)
    assert clips.names == ['a.npy', 'b.gif', 'c.mp4'] and clips[0][1].equal(to_float(v[::3]))
    assert all((clips[i][1] - clips[0][1]).abs().mean() < .1 for i in (1, 2))
    from PIL import Image
    for i, f in enumerate(v):
        (tmp_path/'frames'/'one').mkdir(parents=True, exist_ok=True)
        Image.fromarray(f.permute(1, 2, 0).numpy()).save(tmp_path/'frames'/'one'/f'{i}.png')
    assert folder_clips(tmp_path/'frames', frames=9)[0][1].equal(to_float(v))
    with pytest.raises(ValueError, match='a folder of its own'):
        folder_clips(tmp_path/'frames'/'one', frames=9)
    (tmp_path/'none').mkdir()
    with pytest.raises(ValueError, match='holds no video'): folder_clips(tmp_path/'none')


def test_bad_files_are_named_and_never_replaced(tmp_path):
    write(tmp_path, digits(12).videos)
    (tmp_path/'005.npy').write_bytes(b'no array')
    np.save(tmp_path/'007.npy', np.zeros((6, 16, 16, 3), 'uint8'))
    np.save(tmp_path/'008.npy', np.zeros(3))
    with pytest.raises(ValueError, match=r'of 12 files give no clip.*005.npy: no array'):
        evaluate(tmp_path, digits(12), ['fvd-mini'], frames=6, cache=False, batch=4, **quiet)
    with pytest.raises(ValueError, match='allow_bad=3'):
        evaluate(tmp_path, digits(12), ['fvd-mini'], frames=6, cache=False, batch=64, allow_bad=2,
            **quiet)
    r = evaluate(tmp_path, digits(12), ['fvd-mini'], frames=6, cache=False, allow_bad=3,
        **quiet)['fvd-mini']
    assert (r.protocol['n'], r.protocol['n_real'], r.protocol['left_out']) == (9, 12, 3)
    r = evaluate(digits(12), tmp_path, ['fvd-mini'], cache=tmp_path/'kept', allow_bad=3,
        **quiet)['fvd-mini']
    assert ((r.protocol['n'], r.protocol['n_real'], r.protocol['left_out']) == (12, 9, 3)
        and not [*tmp_path.glob('kept/*')])
    r = evaluate(tmp_path, digits(12), ['psnr'], frames=6, allow_bad=3, **quiet)['psnr']
    # the pairs stay pairs
    assert (r.protocol['n'], r.value) == (9, 100)
    for p in tmp_path.glob('*.npy'): p.write_bytes(b'')
    with pytest.raises(ValueError, match='not one clip'):
        evaluate(load_clips(tmp_path, frames=6, resolution=16), metrics=['clip-mini'], allow_bad=12,
            **quiet)


def test_a_fingerprint_is_of_contents(two, tmp_path):
    "The same names and sizes, other pixels: another protocol."
    one, other = (write(tmp_path/'one'/'real', digits(8).videos), write(tmp_path/'other'/'real',
        digits(8, seed=3).videos))
    assert ([f.stat().st_size for f in sorted(one.iterdir())] == [f.stat().st_size
        for f in sorted(other.iterdir())])
    a, b = (evaluate(digits(8, seed=1), folder, **quiet)['fvd-mini'] for folder in (one, other))
    assert a.hash != b.hash
    with pytest.warns(UserWarning, match='listing'): measures.compare(a, b)
    again = shutil.copytree(one, tmp_path/'copy'/'real')
    assert folder_clips(again, frames=6).listing() == folder_clips(one, frames=6).listing()
    first = sorted(one.iterdir())[0]
    state = first.stat()
    np.save(first, 255 - np.load(first))
    os.utime(first, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert folder_clips(again, frames=6).listing() != folder_clips(one, frames=6).listing()


def test_sizes_are_not_mixed_in_silence(tmp_path):
    folder = write(tmp_path/'mixed', [*digits(3).videos, digits(1, size=24).videos[0]])
    with pytest.raises(ValueError,
            match='003.npy.*24 pixels, that of the first file 16.*--resolution'):
        evaluate(folder, digits(4, seed=1), frames=6, **quiet)
    assert (evaluate(folder, digits(4, seed=1), frames=6, resolution=16,
        **quiet)['fvd-mini'].protocol['resolution'] == '16x16')


@pytest.mark.parametrize('text, told', [('{"files": ', 'is damaged'),
    ('{"files": {"000.npy": null}}', 'needs files .name to class. and frames'), ('[1]', None),
    ('{"name": "somebody"}', None)])
def test_manifests_of_others(tmp_path, text, told):
    folder = write(tmp_path/'samples', digits(4).videos); (folder/'manifest.json').write_text(text)
    if told is None: assert len(folder_clips(folder, frames=6)) == 4
    else:
        with pytest.raises(ValueError, match=f'manifest.json.*{told}'): folder_clips(folder)


@pytest.mark.parametrize('what', ['n', 'frames', 'interval', 'resolution'])
def test_counts_are_at_least_one(two, tmp_path, capsys, what):
    with pytest.raises(ValueError, match=f'{what} should be at least 1, not 0'):
        load_clips(two[0], **{what: 0})
    assert ask(two, tmp_path, f'--{what}', '0') == 2 and 'at least' in capsys.readouterr().err


def test_pairs_are_in_order(tmp_path):
    a, b = write(tmp_path/'a', digits(11).videos), write(tmp_path/'b', digits(11).videos)
    assert evaluate(a, b, ['psnr', 'ssim'], n=7, frames=6, **quiet)['psnr'].value == 100
    with pytest.raises(ValueError, match='7 generated clips and 11 real'):
        ev.measure(ev.build_metrics(['psnr']), load_clips(a, n=7, frames=6), load_clips(b,
            frames=6))
    (b/'010.npy').rename(b/'x10.npy')
    with pytest.warns(UserWarning, match='names differ'):
        evaluate(a, b, ['psnr'], frames=6, **quiet)


@pytest.mark.parametrize('n, batch, places', [(5, 2, 2), (4, 64, 3), (12, 4, 3)])
def test_processes_share_every_clip_once(n, batch, places):
    parts = [[i for b in clip_batches(digit_clips(n=n), batch, (p, places)) for i in b['index'].tolist()]
        for p in range(places)]
    # some may have nothing to do
    assert sorted(sum(parts, [])) == [*range(n)]


def test_readers_ahead_change_nothing(two):
    a, b = ([(x['index'].tolist(), x['video']) for x in clip_batches(
        folder_clips(two[0], frames=6), 7, workers=w)] for w in (0, 2))
    assert ([i for i, _ in a] == [i for i, _ in b] and all(x.equal(y) for (_, x), (_, y) in zip(a,
        b)))


# UCF-101

@pytest.fixture(scope='module')
def ucf(tmp_path_factory):
    root, many = (tmp_path_factory.mktemp('ucf'), dict(ApplyEyeMakeup=9, HammerThrow=6, Hammering=4,
        YoYo=2))
    lists = dict(train=[], test=[])
    for c, n in many.items():
        for g in range(1, n+3):
            name = f'{c}/v_{c}_g{g:02d}_c01.avi'
            lists['test' if g <= n else 'train'].append(name)
            (root/'UCF-101'/c).mkdir(parents=True, exist_ok=True)
            write_video(root/'film.mp4', digits(1, frames=20, seed=len(lists['test'])).videos[0],
                fps=25)
            (root/'film.mp4').rename(root/'UCF-101'/name)
    (root/'ucfTrainTestlist').mkdir()
    for split, names in lists.items():
        (root/'ucfTrainTestlist'/f'{split}list01.txt').write_text('\n'.join(n
            + (f' {[*many].index(n.split("/")[0]) + 1}' if split == 'train' else '') for n in names)
            + '\n')
    return root, lists, many


def test_ucf101_is_app_a(ucf):
    root, lists, many = ucf
    clips = ucf101_clips(root, n=11, interval=1, resolution=16)
    counts = torch.bincount(clips.labels, minlength=4)
    assert (counts.tolist() == class_counts(torch.arange(4).repeat_interleave(
        torch.tensor([*many.values()])), 11).tolist() and all(abs(c - 11*m/21) < 1 for c,
        m in zip(counts.tolist(), many.values())))
    names = [n.removeprefix('UCF-101/') for n in clips.names]
    # one clip per video, of the test split
    assert len({*names}) == 11 and {*names} <= {*lists['test']}
    assert ([sorted(many).index(n.split('/')[0]) for n in names] == clips.labels.tolist()
        and clips.labels.tolist() != sorted(clips.labels.tolist()))
    assert (clips[0][1].shape == (16, 3, 16, 16) and (clips.facts['data'], clips.facts['split'],
        clips.facts['stride'], clips.facts['chosen']) == ('ucf101', 'test', 1, 'proportional'))
    assert (names == [n.removeprefix('UCF-101/') for n in ucf101_clips(root, n=11).names] != [
        n.removeprefix('UCF-101/') for n in ucf101_clips(root, n=11, seed=1).names])
    assert ucf101_clips(root, n=11).facts['stride'] == 3


def test_ucf101_as_stylegan_v_has_it(ucf):
    root, lists, many = ucf
    clips = ucf101_clips(root, n=11, variant='stylegan-v', resolution=16)
    assert ([n.removeprefix('UCF-101/') for n in clips.names] == lists['test'][:11]
        and clips.facts['chosen'] == 'first')
    with pytest.raises(ValueError, match='there are 21'): ucf101_clips(root)
    with pytest.raises(ValueError, match='variant'): ucf101_clips(root, variant='latte')


def test_the_windows_are_random_and_of_the_seed(ucf):
    a, b, c = (ucf101_clips(ucf[0], n=21, frames=4, interval=1, resolution=16, variant='stylegan-v',
        seed=s) for s in (0, 0, 1))
    same = [a[i][1].equal(c[i][1]) for i in range(21)]
    assert all(a[i][1].equal(b[i][1]) for i in range(21)) and sum(same) < 7
    train = datasets.load('ucf101', ucf[0], 'test', 4, 1, 16, flip=False)
    assert all(a[i][1].equal(train.clip(i)) for i in range(21))


@pytest.mark.parametrize('n', [1, 13, 2048, 3783])
def test_class_counts_of_official_size(n):
    labels = torch.randint(101, (3783,), generator=torch.Generator().manual_seed(0))
    counts, there = class_counts(labels, n), torch.bincount(labels)
    assert (counts.sum() == n and (counts <= there).all()
        and ((counts - there*n/3783).abs() < 1).all())
    picked = chosen(labels, n, seed=4)
    assert len(picked.unique()) == n and torch.bincount(labels[picked], minlength=101).equal(counts)


# A run

def test_a_run_is_measured_on_the_classes_of_its_data(tmp_path):
    from align4gen.train import train
    run = train('digits', steps=2, clips=16, batch=8, gamma=0., teachers='', sample_every=0,
        judge='', out=str(tmp_path), name='run', progress=False)
    go = lambda **more: evaluate(run, metrics=['fvd-mini', 'read-mini'], n=16,
        sampling=dict(steps=2, progress=False) | more, cache=tmp_path/'kept', **quiet)
    one = go()
    (folder,) = run.path.glob('samples/evaluate-*')
    files = {p.name: p.stat().st_mtime_ns for p in folder.glob('*.npy')}
    assert ([*json.loads((folder/'manifest.json').read_text())['files'].values()] == digits(
        16).labels.tolist() and len(files) == 16)
    victim = folder/'00003.npy'
    was = victim.read_bytes()
    victim.unlink()
    # goes on, with the same video
    assert go().content() == one.content() and victim.read_bytes() == was
    assert ({p.name: p.stat().st_mtime_ns for p in folder.glob('*.npy') if p != victim} == {k: v
        for k, v in files.items() if k != victim.name})
    assert (one.content()['generated']['made']['weights']['step'] == 2
        and 'euler 2, guidance 1, seed 0' in one['fvd-mini'].protocol['generated']
        and 'npy' in one['fvd-mini'].protocol['generated'])
    other = go(seed=5)
    assert (other['fvd-mini'].value != one['fvd-mini'].value
        and 'generated' in measures.differences(
        one['fvd-mini'], other['fvd-mini']))
    victim.unlink()
    with pytest.raises(FileNotFoundError, match='1 of 16 videos are missing, e.g. 00003.npy'):
        evaluate(folder, digits(16), **quiet)


def test_the_guides_line_runs(two, tmp_path, capsys):
    "Networks with random weights, and a program named by its hash: IS in one split."
    import hashlib
    class Program(torch.nn.Module):
        def forward(self, x): return x.float().mean((2, 3, 4)).softmax(1)
    path = tmp_path/'c3d_ucf101.pt'
    torch.jit.script(Program()).save(str(path))
    line = ['--metrics', 'is', '--weights', f'is={path}']
    assert ask(two, tmp_path, *line) == 2 and 'is.sha256=' in capsys.readouterr().err
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert ask(two, tmp_path, *line, '--options', 'is.splits=1', f'is.sha256={found}') == 0
    told = load_results(tmp_path/'results.json')['is']
    assert told.protocol['splits'] == 1 and told.std is None and told.value >= 1
