"""Commands answer before torch is imported: help, and five kinds of wrong word, in one line."""
import json, subprocess, sys, time
from pathlib import Path
import pytest
from align4gen import commands

specs = json.loads((Path(commands.__file__).parent/'commands.json').read_text())
each = pytest.mark.parametrize('name', [*specs])
door = 'import sys; from align4gen.commands import main; sys.exit(main(sys.argv[2:], sys.argv[1]))'


def run(name, *argv, code=door):
    start = time.time()
    program, *sub = name.split()
    r = subprocess.run([sys.executable, '-c', code, program, *sub, *argv],
        capture_output=True, text=True, timeout=120)
    r.seconds = time.time() - start
    return r


def needed(name):
    "Something for every option a command cannot do without."
    return ['x' for o in specs[name]['options'] if o.get('needed')]


def test_in_step(tmp_path):
    "commands.json says what the source says: python .ci/commands.py writes it."
    code = 'import sys; from align4gen.commands import write_commands as w; w(sys.argv[1])'
    subprocess.run([sys.executable, '-c', code, tmp_path/'now.json'], check=True)
    assert json.loads((tmp_path/'now.json').read_text()) == specs


def test_every_script_goes_through_the_door():
    from importlib.metadata import entry_points
    ours = [p for p in entry_points(group='console_scripts') if p.name.startswith('align4gen_')]
    assert {p.value for p in ours} == {'align4gen.commands:main'}
    assert {p.name for p in ours} == {n.split()[0] for n in specs}


@pytest.fixture(scope='module')
def torch_seconds(): return min(run('x', code='import torch').seconds for _ in range(2))


@each
def test_help(name, torch_seconds):
    "In less time than torch takes, on lines that fit."
    r = run(name, '--help')
    assert r.returncode == 0 and r.stderr == '' and name in r.stdout
    assert r.seconds < max(.5*torch_seconds, 1)
    assert max(map(len, r.stdout.splitlines())) <= 100
    for o in specs[name]['options']:
        assert o['help'], f"{name} --{o['name']} has no comment"


def wrong(name):
    "(kind, arguments, what the line holds) of each kind of error a command can make."
    options = {o['name']: o for o in specs[name]['options']}
    yield 'option', [*needed(name), '--plugn', 'x'], 'did you mean --plugin'
    yield 'missing value', [*needed(name), '--plugin'], '--plugin: expected'
    if number := [n for n, o in options.items() if o['kind'] in ('int', 'float')]:
        yield 'value', [*needed(name), f'--{number[0]}', 'many'], 'number, not'
    if choice := [n for n, o in options.items() if o.get('choices')
            and isinstance(o['choices'][-1], str)]:
        word = str(options[choice[0]]['choices'][-1])
        yield 'choice', [*needed(name), f'--{choice[0]}', word + 'q'], f'did you mean {word!r}'
    if known := [n for n, o in options.items() if o.get('names')]:
        word = next(w for w in options[known[0]]['names'] if w)
        yield 'name', [*needed(name), f'--{known[0]}', word + 'q'], 'did you mean'
    if needed(name): yield 'missing', [], 'is missing'


@each
def test_wrong_words(name, torch_seconds):
    "One line that names the nearest word, exit status 2, before anything heavy is imported."
    for kind, argv, what in wrong(name):
        r = run(name, *argv)
        assert r.returncode == 2, (kind, r)
        assert what in r.stderr and len(r.stderr.splitlines()) == 1, (kind, r.stderr)
        assert r.stdout == '' and r.seconds < max(.5*torch_seconds, 1), kind


def test_plugin(tmp_path):
    "A missing plugin is one line; the file named by --plugin is imported first."
    name = next(iter(specs))
    r = run(name, *needed(name), '--plugin', str(tmp_path/'none.py'))
    assert r.returncode == 2 and 'no plugin file' in r.stderr and len(r.stderr.splitlines()) == 1
    (tmp_path/'mine.py').write_text('raise SystemExit("imported")')
    r = run(name, *needed(name), '--plugin', str(tmp_path/'mine.py'))
    assert 'imported' in r.stderr
