"""Two hosts, each with an address of its own: the same losses as one process, one folder; one of them is lost, comes back, and the run goes on."""
import os, shutil, signal, subprocess, sys, time

import pytest

from align4gen.run import Run
from test_many import close, launch, settings
from test_resume import wait_for_row

mine = settings | dict(steps=16, checkpoint_every=2, keep=10)
names, port = [f'a4g{os.getpid()}{i}' for i in 'ab'], 29400 + os.getpid() % 500


def ip(*words, **more): return subprocess.run(['ip', *words], capture_output=True, text=True, **more)


@pytest.fixture(scope='module')
def hosts():
    "Two network namespaces, and a cable between them."
    if not shutil.which('ip') or ip('netns', 'add', names[0]).returncode:
        pytest.skip('may not make network namespaces here')
    try:
        ip('netns', 'add', names[1], check=True)
        cable = ip('link', 'add', 'veth0', 'netns', names[0], 'type', 'veth', 'peer', 'veth0', 'netns',
            names[1])
        if cable.returncode: pytest.skip(f'may not make a veth pair here: {cable.stderr}')
        for i, name in enumerate(names):
            ip('-n', name, 'addr', 'add', f'10.77.0.{i+1}/24', 'dev', 'veth0', check=True)
            for link in ('lo', 'veth0'): ip('-n', name, 'link', 'set', link, 'up', check=True)
        yield names
    finally:
        for name in names: ip('netns', 'del', name)


def host(i, *options, **changes):
    "torchrun on one of them; it ends when it has waited 60 s for the other."
    command = ['ip', 'netns', 'exec', names[i], sys.executable, '-m', 'torch.distributed.run', '--nnodes',
        '2', '--node_rank', str(i), '--master_addr', '10.77.0.1', '--master_port', str(port),
        '--nproc_per_node', '1', shutil.which('align4gen_train'), *options,
        *[f'--{k}={v}' for k, v in changes.items()]]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
        env=os.environ | dict(OMP_NUM_THREADS='1', GLOO_SOCKET_IFNAME='veth0'))


def lose(i):
    "Everything that runs there is gone, without a goodbye."
    for pid in ip('netns', 'pids', names[i]).stdout.split(): os.kill(int(pid), signal.SIGKILL)


def finish(processes):
    "What they said; all of them must end well."
    said = [p.communicate(timeout=600) for p in processes]
    assert [p.returncode for p in processes] == [0, 0], said[0][1][-2000:] + said[1][1][-2000:]
    return [out for out, _ in said]


@pytest.fixture(scope='module')
def one(tmp_path_factory):
    out = tmp_path_factory.mktemp('one')
    launch(1, out=out, name='run', **mine)
    return Run(out/'run')


def test_a_host_is_lost_and_comes_back(hosts, one, tmp_path):
    there = [host(i, out=tmp_path, name='run', **mine) for i in (0, 1)]
    wait_for_row(tmp_path/'run'/'log.csv', 4, there[0])
    lose(1)
    there[0].communicate(timeout=600)
    there[1].communicate()
    assert there[0].returncode not in (0, 75)        # the other one notices, and ends with an error
    stopped = Run(tmp_path/'run').step
    assert 4 <= stopped < 16
    said = finish([host(i, '--resume', str(tmp_path/'run')) for i in (0, 1)])
    assert '2 processes' in said[0] and '2 processes' not in said[1]   # one of them speaks
    assert [p.name for p in tmp_path.iterdir()] == ['run']             # and one of them writes
    close(Run(tmp_path/'run'), one)
