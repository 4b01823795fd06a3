"""Rerun arms of two labs for their first steps and compare with what was recorded.

python tests/arms.py [LAB/ARM ...] [--steps 100] [--write]

The schedule is that of the recorded run; after so many steps it is asked to stop. Its log is compared with
results/arms.json, and held-out losses with results/conversion/curves.csv. On another machine the last digits may
differ. --write records what the code of today computes.
"""
import argparse, csv, json, os, signal, sys, tempfile
from dataclasses import asdict
from pathlib import Path

import torch

from align4gen.labs import autoencoders, conversion
from align4gen.train import run_config

results = Path(__file__).resolve().parent.parent/'results'
arms = 'conversion/copy', 'conversion/joint-aligned', 'autoencoders/no-reg', 'autoencoders/frames'


def config_of(lab, arm, out):
    "The config of an arm's seed 0."
    if lab == 'conversion': return conversion.arm_config(arm, 0, out=out)
    config = autoencoders._arm_config(arm, 0, out=out)
    return autoencoders._FrameConfig(**asdict(config)) if arm == 'frames' else config


def first_steps(config, steps):
    "(log, held-out losses) of the first steps, each a list of dicts of floats."
    taken, step = [], torch.optim.AdamW.step
    def counted(self, *args, **kwargs):
        taken.append(1)
        # the step that is under way and one more are finished
        if len(taken) == steps: os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *args, **kwargs)
    torch.optim.AdamW.step = counted
    try: run = run_config(config, progress=False)
    finally: torch.optim.AdamW.step = step
    return [[row for row in table(run.path/name) if row['step'] <= steps] for name in ('log.csv', 'eval.csv')]


def table(path):
    if not path.exists(): return []
    with path.open(newline='') as f: return [{k: float(v) for k, v in r.items()} for r in csv.DictReader(f)]


def recorded_losses(arm):
    "Step to held-out loss of seed 0, as the lab recorded it."
    with (results/'conversion/curves.csv').open(newline='') as f:
        return {int(r['step']): float(r['loss']) for r in csv.DictReader(f) if r['arm'] == arm and r['seed'] == '0'}


def differences(name, log, held, record):
    "Lines that say what is not as recorded."
    lab, arm = name.split('/')
    for row, old in zip(log, record[name]):
        for k in old.keys() & row.keys():
            # repr: two that are not numbers are equal
            if repr(row[k]) != repr(old[k]): yield f"{name}: {k} of step {row['step']:.0f} is {row[k]!r}, was {old[k]!r}"
    if len(log) != len(record[name]): yield f'{name}: {len(log)} rows, there were {len(record[name])}'
    if lab != 'conversion': return
    for row in held:
        want = recorded_losses(arm)[int(row['step'])]
        if round(row['denoise'], 5) != want:
            yield f"{name}: held-out loss of step {row['step']:.0f} is {row['denoise']:.5f}, was {want}"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('names', nargs='*', default=arms)
    p.add_argument('--steps', type=int, default=100)
    p.add_argument('--write', action='store_true')
    args, file = p.parse_args(), results/'arms.json'
    record = json.loads(file.read_text()) if file.exists() else {}
    torch.set_num_threads(1)
    wrong = []
    for name in args.names:
        with tempfile.TemporaryDirectory() as out: log, held = first_steps(config_of(*name.split('/'), out), args.steps)
        if args.write: record[name] = log
        found = [*differences(name, log, held, record)]
        print(f'{name}: {len(log)} rows of the log, {len(held)} held-out losses,', found[:3] or 'all equal', flush=True)
        wrong += found
    if args.write:
        rows = {k: '[\n  ' + ',\n  '.join(map(json.dumps, v)) + '\n ]' for k, v in record.items()}
        file.write_text('{\n' + ',\n'.join(f' {json.dumps(k)}: {v}' for k, v in rows.items()) + '\n}\n')
    return bool(wrong)


if __name__ == '__main__': sys.exit(main())
