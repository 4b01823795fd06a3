"""Kill work at moments nobody chose, begin it again, compare what it leaves. For any work that writes into a folder:

    begin = lambda: start(work, *args)              # starts it, or goes on with it
    killed(begin, lambda: count(folder, '*.tar'), kills=5)
    finish(begin)
    same_folders(folder, whole)
"""
import fnmatch, json, multiprocessing, os, random, signal, time
from pathlib import Path

import torch
from safetensors.torch import load_file

preloaded = ['align4gen.train', 'align4gen.train_dpvae', 'align4gen.train_videodit', 'align4gen.evaluate',
    'align4gen.sample_folder', 'align4gen.cache', 'align4gen.prompts']


def _alone(work, args):
    "In the child: a group of its own, so that what it starts dies with it; one thread."
    os.setsid()
    torch.set_num_threads(1)
    work(*args)


def start(work, *args):
    "A process in which the imports are done: work (of a module's top level) begins within a moment."
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(preloaded)
    p = context.Process(target=_alone, args=(work, args))
    p.start()
    return p


def kill(process):
    "SIGKILL for a process of start, and for all that it started."
    try: os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError: process.kill()
    process.join()


def count(folder, pattern): return len([*Path(folder).glob(pattern)])


def newest(run):
    "The step of a run's newest checkpoint."
    return max((int(p.name[5:]) for p in Path(run).glob('checkpoints/step-*')), default=0)


def killed(begin, progress, kills=5, seed=0, pause=.2, wait=120, inside=lambda: False):
    """Kill the work so many times, each after a little more progress (a growing number) and a
    random pause; every other time while inside() holds, if it comes to hold. How many kills there
    were: fewer, if the work ended before."""
    clock = random.Random(seed)
    for i in range(kills):
        p, goal, end = begin(), progress() + i % 3, time.time() + wait
        while p.is_alive() and time.time() < end and progress() < goal: time.sleep(.001)
        end = time.time() + clock.random()*pause
        while p.is_alive() and time.time() < end and not (i % 2 and inside()): time.sleep(.0005)
        done = not p.is_alive()
        if done: assert p.exitcode == 0, f'it ended by itself, with {p.exitcode}'
        kill(p)
        if done: return i
    return kills


def finish(begin, wait=300):
    "Let it end."
    p = begin()
    p.join(wait)
    assert p.exitcode == 0, f'it ended with {p.exitcode}'


def _plain(path, keys):
    "What a file holds, in a form that can be compared; JSON without these keys, at any depth."
    def without(x):
        if isinstance(x, dict): return {k: without(v) for k, v in x.items() if k not in keys}
        return [without(v) for v in x] if isinstance(x, list) else x
    if path.suffix == '.json': return without(json.loads(path.read_text()))
    if path.suffix != '.safetensors': return path.read_bytes()
    return {k: (tuple(v.shape), str(v.dtype), v.flatten().view(torch.uint8).numpy().tobytes())
        for k, v in load_file(path).items()}


def same_folders(a, b, ignore=('timing.csv', 'tmp-*', '*/tmp-*', '*.tmp', '*.mp4'),
    keys=('out', 'seconds', 'machine', 'files', 'made', 'date')):
    "The same files with the same content; ignore: patterns of relative paths; keys: of JSON."
    def listed(folder):
        files = [p.relative_to(folder) for p in Path(folder).rglob('*') if p.is_file()]
        return {str(p) for p in files if not any(fnmatch.fnmatch(str(p), i) for i in ignore)}
    assert listed(a) == listed(b), listed(a) ^ listed(b)
    for name in sorted(listed(a)):
        assert _plain(Path(a)/name, keys) == _plain(Path(b)/name, keys), name
