"""SIGKILL at moments nobody chose, inside a cache, a folder of samples, an evaluation, a table of prompts and the queue of a lab: begun again,
each ends with the files that an undisturbed run leaves. (Training: test_kills.py.)

One kill each; $ALIGN4GEN_KILLS is another number, and results/attacks/kills.json what 4 each gave (two kinds counted)."""
import json, os, shutil
from pathlib import Path

import pytest

from align4gen import cache, datasets, evaluate, prompts, sample, sample_folder
from align4gen.files import write_json
from align4gen.labs import core
from align4gen.run import Run, example_run
from align4gen.weights import fingerprint
from kills import finish, killed, same_folders, start

kills = int(os.environ.get('ALIGN4GEN_KILLS', 1))


def caching(folder):
    cache.build(datasets.DigitClips('train', 48), folder, shard_clips=6, batch=2, teachers=['mini_mae'], progress=False)


def sampling(folder): sample_folder.sample_to(folder, example_run(), 32, steps=4, batch=4, format='npy', progress=False)


def evaluating(folder):
    "A run makes its own samples, in the run's folder, and is measured."
    if not (folder/'run'/'log.csv').exists(): shutil.copytree(example_run().path, folder/'run', dirs_exist_ok=True)
    found = evaluate.evaluate(Run(folder/'run'), metrics='is-mini,fvd-mini', n=24, options={'is-mini': dict(splits=2)},
        sampling=dict(steps=4, batch=4, progress=False), cache=folder/'statistics', progress=False)
    write_json(folder/'results.json', {k: r.value for k, r in found.items()})


def texts(folder):
    captions = [f'a film of {i} digits' for i in range(48)]
    prompts.embed_captions(captions, folder.parent/'encoders', folder, words=8, batch=2, shard_bytes=30_000, progress=False)


def one_job(arm, seed, runs):
    "An arm of a lab: some samples, and what they are."
    videos = sample.sample(example_run(), 2, steps=4, seed=seed, progress=False)
    write_json(Path(runs)/f'{arm}-{seed}.json', dict(arm=arm, seed=seed, videos=fingerprint(videos)))


def queue(folder): core.run_jobs(one_job, [(a, s) for a in 'abc' for s in range(6)], folder)


def written(folder):
    "Files under their final names."
    return sum(p.is_file() and p.name[0] != '.' for p in folder.rglob('*'))


table = {}

@pytest.mark.parametrize('work', [caching, sampling, evaluating, texts, queue], ids=lambda w: w.__name__)
def test_kill(work, tmp_path):
    if work is texts: prompts.random_encoders(tmp_path/'encoders')
    whole, torn = tmp_path/'whole', tmp_path/'torn'
    for folder in (whole, torn): folder.mkdir()
    finish(lambda: start(work, whole))
    done = killed(lambda: start(work, torn), lambda: written(torn), kills)
    finish(lambda: start(work, torn))
    same_folders(torn, whole, keys=('run', 'made_with', 'data', 'seconds', 'made'), ignore=('*/log.csv',))
    table[work.__name__] = dict(killed=done, files=written(whole))
    assert done >= min(kills, 2), 'it ended before it was killed: the test tests less than it says'


def test_table():
    print(json.dumps(table))
    if out := os.environ.get('ALIGN4GEN_KILLS_OUT'):
        from align4gen.run import machine
        from align4gen.sample_folder import made_with
        write_json(out, dict(kills=sum(r['killed'] for r in table.values()), equal=True, works=table, **made_with(), machine=machine()))
