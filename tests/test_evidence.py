"The evidence: who judges does not teach, and an encoder of one's own reaches every process."
import json, os, subprocess, sys
from pathlib import Path
import pytest
from align4gen.files import read_table, write_table
from align4gen.labs import evidence

root = Path(__file__).resolve().parents[1]
command = 'import sys; from align4gen.labs.evidence import main; sys.exit(main())'
plugin = '''
import torch.nn as nn
from align4gen.encoders import Entry, register
class Patches(nn.Module):
    def forward(self, x): return x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
register(Entry('mine', Patches, dim=48, size=16, stride=4))
'''


def lab(*options, cwd):
    env = os.environ | dict(PYTHONPATH=str(root), OMP_NUM_THREADS='1')
    return subprocess.run([sys.executable, '-c', command, *map(str, options)], cwd=cwd, env=env,
        capture_output=True, text=True)


def test_the_judge_teaches_no_arm():
    taught = ','.join(c.get('teachers', '') for c in (evidence.arms | evidence.others).values())
    assert 'mini_judge' not in taught
    # the record was made before there was such a judge, and says so
    info = json.loads((root/'results'/'evidence'/'info.json').read_text())
    assert info['judge'] == 'mini_supervised'


def test_the_record_speaks_of_accuracy():
    for name in ('curves', 'others', 'sweep'):
        assert {'accuracy', 'frechet'} <= read_table(root/'results'/'evidence'/f'{name}.csv')[0].keys()
    assert 'accuracy_mean' in read_table(root/'results'/'evidence'/'summary.csv')[0]


def test_an_encoder_of_ones_own_reaches_the_child_process(tmp_path):
    (tmp_path/'mine.py').write_text(plugin)
    # the run itself is finished: what is tried is whether its process knows the encoder
    row = dict(arm='mine', seed=0, step=20, denoise=1., accuracy=.1, frechet=30.)
    (tmp_path/'runs').mkdir()
    write_table(tmp_path/'runs'/'mine-0.csv', [row], evidence.columns)
    done = lab('--plugin', 'mine.py', '--teachers', 'mine', '--seeds', 1, '--runs', 'runs', '--out', 'out', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert read_table(tmp_path/'out'/'others.csv') == [row]


def test_without_its_plugin_it_is_one_line(tmp_path):
    done = lab('--teachers', 'mine', '--seeds', 1, cwd=tmp_path)
    assert done.returncode and '--plugin' in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('arm', ['mini_mae', 'mini_mae+mini_dit'])
def test_encoders_are_arms(arm):
    assert evidence.arm_settings(arm) == dict(teachers=arm.replace('+', ','))
