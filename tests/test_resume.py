("A run that is killed goes on as if nothing had happened: same log to the last digit, same "
"weights to the last bit.")
import multiprocessing, random, shutil, signal, subprocess, sys, time

import pytest, torch
from safetensors.torch import load_file

from align4gen.run import Run, locked
from align4gen.train import Trainer, train

tiny = dict(clips=64, batch=8, steps=40, size='mini', teachers='mini_random', mapper_hidden=32,
    checkpoint_every=4, log_every=3, sample_every=0, judge='', compile='no')


def command(out, **more):
    options = [f'--{k}={v}' for k, v in {**tiny, 'out': out, 'name': 'run', **more}.items()]
    return [sys.executable, '-c',
        'import sys; from align4gen.train import align4gen_train; sys.exit(align4gen_train())',
        *options]


def start(*args):
    return subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for_row(path, rows, process):
    "Until log.csv has so many rows."
    end = time.time() + 400
    while time.time() < end and process.poll() is None:
        if path.exists() and len(path.read_text().splitlines()) > rows: return
        time.sleep(.02)
    raise AssertionError(
        'the run ended early or hung: '
        f'{process.stderr.read() if process.poll() is not None else "timeout"}')


def resume(path):
    return [sys.executable, '-c',
        'import sys; from align4gen.train import align4gen_train; sys.exit(align4gen_train())',
        '--resume', str(path)]


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "The same run, never interrupted."
    out = tmp_path_factory.mktemp('whole')
    done = subprocess.run(command(out), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Run(out/'run')


def same(run, whole):
    assert (run.path/'log.csv').read_text() == (whole.path/'log.csv').read_text()
    for name in ('model', 'ema', 'alignment', 'optimizer'):
        a, b = (load_file(r.checkpoints[-1]/f'{name}.safetensors') for r in (run, whole))
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a), name


def test_every_step_sums_in_a_fixed_order(tmp_path, monkeypatch):
    """Compiled code on several threads repeats itself only with torch's deterministic algorithms;
    they must not stay on."""
    seen, step = [], Trainer.train_step
    monkeypatch.setattr(Trainer, 'train_step', lambda self,
        *a: seen.append(torch.are_deterministic_algorithms_enabled()) or step(self, *a))
    train('digits', out=str(tmp_path), progress=False, **tiny | dict(steps=2))
    assert seen == [True, True] and not torch.are_deterministic_algorithms_enabled()


def test_sigkill_then_resume(whole, tmp_path):
    "Killed twice at moments nobody chose."
    clock = random.Random(0)
    for attempt, rows in enumerate((2, 7)):
        p = start(*(command(tmp_path) if attempt == 0 else resume(tmp_path/'run')))
        wait_for_row(tmp_path/'run/log.csv', rows, p)
        time.sleep(clock.random() * .2); p.send_signal(signal.SIGKILL); p.wait()
    assert 0 < Run(tmp_path/'run').step < 40
    done = subprocess.run(resume(tmp_path/'run'), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    same(Run(tmp_path/'run'), whole)


def test_ctrl_c_then_resume(whole, tmp_path):
    "Ctrl-C finishes the step, saves, says how to go on, and exits with 130."
    p = start(*command(tmp_path))
    wait_for_row(tmp_path/'run/log.csv', 3, p); p.send_signal(signal.SIGINT)
    assert p.wait(60) == 130
    step = Run(tmp_path/'run').step
    assert 9 <= step < 40
    assert subprocess.run(resume(tmp_path/'run')).returncode == 0
    same(Run(tmp_path/'run'), whole)


def test_sigterm_then_resume(whole, tmp_path):
    "A machine that will be taken away: save, and exit with the status that says start me again."
    p = start(*command(tmp_path))
    wait_for_row(tmp_path/'run/log.csv', 3, p); p.send_signal(signal.SIGTERM)
    assert p.wait(60) == 75
    assert 9 <= Run(tmp_path/'run').step < 40
    assert subprocess.run(resume(tmp_path/'run')).returncode == 0
    same(Run(tmp_path/'run'), whole)


def test_a_torn_temporary_checkpoint_is_ignored(whole, tmp_path):
    run = train('digits', **{**tiny, 'steps': 8}, out=str(tmp_path), name='run', progress=False)
    torn = tmp_path/'run/checkpoints/tmp-step-0000012'
    torn.mkdir(); (torn/'model.safetensors').write_bytes(b'half')
    assert Run(run.path).step == 8


@pytest.mark.parametrize('wrong, says', [
    ({'gamma': -1}, 'gamma'), ({'batch': 128}, 'batch=128'), ({'teachers': 'mini_infonse'},
    'mini_infonse'), ({'align_block': 6}, 'align_block=6'), ({'ema': 1}, 'ema')])
def test_impossible_values_are_one_clear_error(wrong, says, tmp_path):
    done = subprocess.run(command(tmp_path, **wrong), capture_output=True, text=True)
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1] and 'Traceback' not in done.stderr
    assert not (tmp_path/'run').exists()


def test_unknown_option(tmp_path):
    done = subprocess.run(command(tmp_path, gama=1), capture_output=True, text=True)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert '--gama' in done.stderr and '--gamma' in done.stderr and not (tmp_path/'run').exists()


def test_two_processes_on_one_folder(tmp_path):
    "The second one is refused; a child that the first one forked does not hold the lock."
    run = train('digits', **{**tiny, 'steps': 2}, out=str(tmp_path), name='run', progress=False)
    with locked(run.path):
        with pytest.raises(ValueError, match='another process is training this run'):
            train(resume=run.path, progress=False)
        child = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,))
        child.start()
    train(resume=run.path, progress=False)
    child.kill()


plugin = """
from align4gen import encoders
from align4gen.encoders import Entry, mini_vit
encoders.register(Entry('mine', mini_vit, size=16, stride=4, dim=96, licence='mine', source='here',
    files=(), kind='a test', random=True))
"""

def test_a_run_remembers_its_plugins(tmp_path):
    "What a file registers is found by the run that names it, when it goes on, and missed if it is gone."
    file = tmp_path/'my_encoders.py'
    file.write_text(plugin)
    more = dict(teachers='mine', steps=4, checkpoint_every=2, plugin=str(file))
    assert subprocess.run(command(tmp_path, **more)).returncode == 0
    run = tmp_path/'run'
    shutil.rmtree(run/'checkpoints'/'step-0000004')
    again = subprocess.run(resume(run), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    file.unlink()
    gone = subprocess.run(resume(run), capture_output=True, text=True)
    assert gone.returncode == 2 and 'my_encoders.py' in gone.stderr.splitlines()[-1]
