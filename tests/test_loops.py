"The loops of the guide, as they stand there: a stopped run goes on to its end, a wrong one ends them with its error."
import json, os, re, shutil, signal, subprocess, sys, time
from pathlib import Path

import pytest

from align4gen.run import Run
from test_resume import command, same, tiny, wait_for_row

guide = Path(__file__).parent.parent/'nbs'/'guides'/'many_gpus.ipynb'
bin = Path(sys.executable).parent


def loop(word):
    "The bash block of the guide that begins with `until WORD`."
    cells = json.loads(guide.read_text())['cells']
    blocks = re.findall(r'```bash\n(.*?)```', '\n'.join(''.join(c['source']) for c in cells), re.S)
    found, = [b for b in blocks if b.startswith(f'until {word}')]
    return found


def begin(word, folder):
    "The loop on runs/run in a folder, with two processes instead of eight and no time to wait."
    text = loop(word).replace('ucf101-XL', 'run').replace('sleep 10', 'sleep .1')
    text = text.replace('--nproc_per_node 8', '--nproc_per_node 2')
    return subprocess.Popen(['bash', '-c', text], cwd=folder, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | dict(PATH=f'{bin}:{os.environ["PATH"]}', OMP_NUM_THREADS='1'))


def child(process):
    "The program that the loop waits for now, by its number."
    there = subprocess.run(['pgrep', '-P', str(process.pid)], capture_output=True, text=True)
    return int(there.stdout.split()[0])


def stop_after(process, log, rows):
    "SIGTERM for what the loop started, once the log has so many rows."
    wait_for_row(log, rows, process)
    os.kill(child(process), signal.SIGTERM)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    "A finished run, and its folder."
    out = tmp_path_factory.mktemp('whole')/'runs'
    done = subprocess.run(command(out, precision='fp32'), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Run(out/'run')


@pytest.fixture
def started(whole, tmp_path):
    "The same run, with its first checkpoint only."
    shutil.copytree(whole.path, tmp_path/'runs'/'run')
    run = Run(tmp_path/'runs'/'run')
    for later in run.checkpoints: shutil.rmtree(later)
    (run.path/'summary.json').unlink()
    return run


@pytest.mark.parametrize('word', ['align4gen_train', 'torchrun'])
def test_a_stopped_run_goes_on_to_its_end(word, started, whole):
    log = started.path/'log.csv'
    log.unlink()
    p = begin(word, started.path.parent.parent)
    stop_after(p, log, 2)
    said, errors = p.communicate(timeout=300)
    assert p.returncode == 0, errors[-3000:]
    assert said.count('stopped at step') == 1 and (started.path/'summary.json').exists()
    if word == 'align4gen_train': same(started, whole)
    else: assert started.log['loss'] == pytest.approx(whole.log['loss'], rel=1e-4)


@pytest.mark.parametrize('word, status', [('align4gen_train', 2), ('torchrun', 1)])
def test_a_wrong_run_ends_the_loop(word, status, started):
    file = started.path/'config.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | dict(gamma=-1)))
    p = begin(word, started.path.parent.parent)
    said, errors = p.communicate(timeout=120)
    assert p.returncode == status and 'gamma=-1' in errors


def test_stopped_before_the_first_step(tmp_path):
    "SIGTERM while the data is opened: the same answer, and nothing is lost."
    late = 'import signal; from align4gen import train as t; t.Trainer = lambda *a: ' \
        'signal.raise_signal(signal.SIGTERM); raise SystemExit(t.align4gen_train())'
    done = subprocess.run([sys.executable, '-c', late, '--out', str(tmp_path)])
    assert done.returncode == 75


def test_help_says_so():
    for name in ('align4gen_train', 'align4gen_train_dpvae'):
        said = subprocess.run([bin/name, '--help'], capture_output=True, text=True).stdout
        assert '75 stopped early' in said
