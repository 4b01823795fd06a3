"""Several processes do what one does: the same clips, the same noise, the same losses up to the order of sums."""
import csv, os, shutil, subprocess, sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from align4gen.data import MovingDigits
from align4gen.run import Run
from align4gen.video import write_video
from test_resume import plugin

settings = dict(clips=64, batch=8, steps=6, teachers='mini_random,mini_mae', mapper_hidden=32,
    precision='fp32', compile='no', judge='', sample_every=0, checkpoint_every=3, log_every=1,
    sample_steps=2)

sharded = '''
import sys
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from align4gen import train as t

def wrap(self, net, optimizer):
    "What Accelerate does for FSDP on accelerators: every block on its own, then the rest; the optimiser gets the parts."
    mesh = init_device_mesh('cpu', (self.accelerator.num_processes,))
    for block in net.model.blocks: fully_shard(block, mesh=mesh)
    fully_shard(net, mesh=mesh)
    return net, self.accelerator.prepare(t.make_optimizer(self.config, net))

if __name__ == '__main__':
    t.Trainer.wrap = wrap
    sys.exit(t.align4gen_train())
'''


def launch(n, *options, script=None, **changes):
    "The command, in n processes."
    before = ([sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node',
        str(n)] if n > 1 else [])
    program = [str(script)] if script else [shutil.which('align4gen_train')]
    done = subprocess.run([*before, *(program if n > 1 else [sys.executable, *program]), *options,
        *[f'--{k}={v}' for k, v in changes.items()]], capture_output=True, text=True, timeout=300,
        env=os.environ | dict(OMP_NUM_THREADS='1'))
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope='module')
def one(tmp_path_factory):
    out = tmp_path_factory.mktemp('one')
    launch(1, out=out, name='run', **settings)
    return Run(out/'run')


def close(run, one, eps=2e-5):
    """Same logs, same weights, same averages, same optimiser state: in each, the difference is a
    matter of rounding."""
    for k, v in one.log.items(): assert run.log[k] == pytest.approx(v, rel=1e-4), k
    for name in ('model', 'ema', 'alignment', 'optimizer'):
        a, b = (load_file(r.checkpoints[-1]/f'{name}.safetensors') for r in (run, one))
        assert a.keys() == b.keys()
        for k in a:
            assert (a[k].shape == b[k].shape and (a[k] - b[k]).abs().max() <= eps * max(1,
                b[k].abs().max())), (name, k)


@pytest.mark.parametrize('pieces', [1, 2])
def test_two_processes_are_one_run(one, tmp_path, pieces):
    said = launch(2, out=tmp_path, name='run', accumulate=pieces, **settings)
    assert said.count('2 processes') == 1                                    # one of them speaks
    close(Run(tmp_path/'run'), one)


def test_sharded_weights_average_and_optimiser(one, tmp_path):
    """Each of two processes holds half of everything; the checkpoint is whole, and one process can
    go on with it."""
    script = tmp_path/'sharded.py'; script.write_text(sharded)
    assert '2 processes, sharded' in launch(2, script=script, out=tmp_path, name='run', **settings)
    close(Run(tmp_path/'run'), one)
    shutil.rmtree(Run(tmp_path/'run').checkpoints[-1])                       # back to step 3
    launch(1, '--resume', str(tmp_path/'run'))
    close(Run(tmp_path/'run'), one)


def test_accelerate_leaves_fsdp_aside_on_cpus(tmp_path):
    "Why the tests shard the model themselves. When this fails, let Accelerate do it here too."
    script = tmp_path/'kind.py'
    script.write_text('from accelerate import Accelerator\nprint(Accelerator(cpu=True).distributed_type.value)')
    done = subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node',
        '2', script], capture_output=True, text=True, timeout=120, env=os.environ | dict(
        OMP_NUM_THREADS='1', ACCELERATE_USE_FSDP='true', FSDP_VERSION='2'))
    assert done.stdout.split() == ['MULTI_CPU', 'MULTI_CPU'], done.stderr[-2000:]


def test_one_process_then_two_sharded(one, tmp_path):
    "A run may go on with another number of processes."
    script = tmp_path/'sharded.py'; script.write_text(sharded)
    shutil.copytree(one.path, tmp_path/'run'); shutil.rmtree(Run(tmp_path/'run').checkpoints[-1])
    launch(2, '--resume', str(tmp_path/'run'), script=script)
    close(Run(tmp_path/'run'), one)


def test_every_process_finds_what_a_plugin_registers(tmp_path):
    "Through torchrun at the start, and again when the run goes on."
    file = tmp_path/'my_encoders.py'
    file.write_text(plugin)
    mine = settings | dict(teachers='mine', steps=2, checkpoint_every=1)
    launch(2, plugin=file, out=tmp_path, name='run', **mine)
    run = Run(tmp_path/'run')
    rows = run.log
    assert rows['step'] == [1, 2]
    shutil.rmtree(run.checkpoints[-1])
    launch(2, '--resume', str(run.path))
    assert run.log == rows


watch = """
import os
from align4gen import datasets
write = datasets.BadFiles._write
def told(self, new):
    with open({log!r}, 'a') as f: f.write(os.environ.get('RANK', '0'))
    write(self, new)
datasets.BadFiles._write = told
"""


def test_one_process_lists_the_damaged_files(tmp_path):
    "Whoever met them; both know the whole list."
    root = tmp_path/'videos'
    for i, v in enumerate(MovingDigits(n=16, frames=12, size=32).videos):
        write_video(root/f'{i:02}.mp4', v)
    for i in range(0, 16, 2): (root/f'{i:02}.mp4').write_bytes(b'no video')
    (tmp_path/'watch.py').write_text(watch.format(log=str(tmp_path/'ranks')))
    files = settings | dict(data='videos', root=root, clips=0, resolution=32, frames=4, workers=0, steps=4,
        teachers='mini_random', allow_bad=1, out=tmp_path, checkpoint_every=4)
    launch(2, plugin=tmp_path/'watch.py', name='pair', **files)
    listed = list(csv.DictReader((tmp_path/'pair'/'bad_files.csv').open()))
    assert sorted(Path(r['path']).name for r in listed) == [f'{i:02}.mp4' for i in range(0, 16, 2)]
    assert set((tmp_path/'ranks').read_text()) == {'0'}
    with pytest.raises(AssertionError, match='allow_bad'):
        launch(2, name='strict', **files | dict(allow_bad=.2))


def test_a_batch_that_cannot_be_shared(tmp_path):
    with pytest.raises(AssertionError, match='cannot be shared evenly by 2 processes'):
        launch(2, out=tmp_path, name='run', **settings | dict(batch=9))
