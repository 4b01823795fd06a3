"""Every command on any page is run, or read by the program it belongs to.

Commands stand in shell blocks, in code spans, in indented lines, in what a cell prints, in
the examples of a command's help. Each is read by the command's own parser. Then it is run in
a small world, with what a reader has at that point of the page: as a plan (`--dry_run`)
where it would take hours or a GPU, with few clips and steps otherwise."""
import contextlib, io, json, re, runpy, shlex, shutil, subprocess, sys
from pathlib import Path

import pytest, torch
from PIL import Image

from align4gen import commands, encoders
from align4gen.commands import main
from align4gen.run import example_run
from align4gen.video import write_video

root = Path(__file__).resolve().parent.parent
specs = json.loads((Path(commands.__file__).parent/'commands.json').read_text(encoding='utf-8'))
pages = [*sorted(p for p in (root/'nbs').rglob('*.ipynb') if p.parts[-2][0] not in '._'),
    *(root/n for n in ('README.md', 'CONTRIBUTING.md', 'results/README.md'))]

# Words that start a command, and those that a reader replaces by his own
starts = r'(?:align4gen_\w+|torchrun|accelerate|python|pip|nbdev_\w+|pytest|until)'
shell_words = {'RUN': 'runs/digits', 'NAME': 'evidence', 'DIR': 'clips', 'FOLDER': 'clips',
    'FILE': 'weights.pt', '…': '', '...': ''}


def texts(path):
    "(where, text, is it code) of everything that a page says."
    if path.suffix == '.md': yield path.name, path.read_text(encoding='utf-8'), False
    else:
        for c in json.loads(path.read_text(encoding='utf-8'))['cells']:
            yield f"{path.stem} {c['id']}", ''.join(c['source']), c['cell_type'] == 'code'
            for o in c.get('outputs', []):
                data = o.get('data', {})
                said = o.get('text') or data.get('text/markdown') or data.get('text/plain') or ''
                yield f"{path.stem} {c['id']}", ''.join(said), False


def lines(text, code):
    "Command lines in a text: blocks, spans, indented lines."
    if code:
        yield from re.findall(rf'^[ \t]*!({starts} .*)$', text, re.M)
        joined = re.sub(r"""['"]\s*\n\s*f?['"]""", '', text)
        yield from re.findall(r"""['"](align4gen_\w+ --?\w[^'"{}]*|align4gen_\w+ runs/[^'"{}]*)['"]""", joined)
        return
    for block in re.findall(r'^```(?:bash|sh)?\n(.*?)^```', text, re.M | re.S):
        for line in re.sub(r'\\\n', ' ', block).splitlines(): yield line
    text = re.sub(r'^```.*?^```', '', text, flags=re.M | re.S)
    for line in re.findall(rf'^(?: {{4}}|  )({starts} .*)$', text, re.M): yield line
    for span in re.findall(r'`([^`\n]+)`', text):
        if re.match(rf'{starts} ', span): yield span


def split_line(line):
    "One command a piece: without comments, settings of variables, and `&&`."
    line = re.sub(r'(^|\s)#.*', '', line).strip()
    for part in re.split(r'\s*(?:&&|;)\s*', line):
        part = re.sub(r'\s*\|\s.*', '', part.removeprefix('until ').removeprefix('! '))
        if re.match(rf'{starts}\b', part): yield part


def printed():
    "Command to the places that print it."
    found = {}
    for path in pages:
        variables = {}
        for where, text, code in texts(path):
            variables |= dict(re.findall(r'^([A-Z]\w*)="?([^"\n]*?)"?$', text, re.M))
            for line in lines(text, code):
                for k, v in variables.items(): line = line.replace(f'${k}', v)
                for part in split_line(line):
                    found.setdefault(re.sub(r'\s+', ' ', part).strip(), []).append(where)
    for name, spec in specs.items():
        for line in spec['examples']:
            for part in split_line(line): found.setdefault(part, []).append(f'{name} --help')
    return found


found = printed()
ours = sorted(c for c in found if c.startswith('align4gen_'))
each = pytest.mark.parametrize('line', ours)

# What is not run here, and why
elsewhere = {
    r'(python -m venv|pip (install|list)|source) ?.*': 'made by .ci/run for every commit',
    r'nbdev_\w+.*': 'run by .ci/run and by tests/test_house.py',
    r'pytest.*': 'this is pytest',
    r'python tests/\w+\.py.*': 'computes recorded arms again, which takes an hour',
    r'python \.ci/(readme|commands|outputs|colab)\.py.*': 'run by tests of their own',
}


def words(line):
    "A command's name and arguments, with a reader's own words filled in."
    first, *rest = [shell_words.get(w, w) for w in shlex.split(line)]
    rest = [re.sub(r'(?<==)(FILE|FOLDER|PATH)$', lambda m: shell_words.get(m[1], 'x'), w)
        for w in rest if w]
    return first, [re.sub(r'HASH', '0'*64, w) for w in rest]


def only_names(line):
    "A span such as `align4gen_text --out` names an option and gives no value."
    name, *rest = line.split()
    kinds = {f"--{o['name']}": o['kind'] for o in specs.get(name, dict(options=[]))['options']}
    return len(rest) == 1 and kinds.get(rest[0], 'yes') != 'yes'


def test_there_are_commands():
    "The list is not empty by an oversight."
    assert len(ours) > 50 and len({c.split()[0] for c in ours}) >= len({n.split()[0] for n in specs}) - 1


@each
def test_options_are_known(line):
    "Names and values are what the command's own parser takes."
    name, argv = words(line)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said): name, argv = commands._choose(specs, name, argv)
    except SystemExit as e:
        assert e.code == 0
        return
    known = {f"--{o['name']}" for o in specs[name]['options']}
    if argv and argv[-1] in known and only_names(line): argv = argv[:-1]
    spec = specs[name]
    if '--plugin' in argv: # it may add names
        spec = spec | dict(options=[{k: v for k, v in o.items() if k != 'names'} for o in spec['options']])
    if '--help' not in argv: commands._parse(name, spec, argv)


@pytest.mark.parametrize('line', sorted(c for c in found if not c.startswith('align4gen_')))
def test_others_are_known(line):
    "Launchers are read by their own parsers, benchmarks explain the options they are given."
    if any(re.fullmatch(p, line) for p in elsewhere): return
    first, argv = words(line)
    if first == 'torchrun':
        from torch.distributed.run import get_args_parser
        given = get_args_parser().parse_args([re.sub(r'\$\(which (\w+)\)', r'\1', w) for w in
            shlex.split(re.sub(r'\$\(which (\w+)\)', r'\1', line))[1:]])
        rest = [given.training_script, *given.training_script_args]
    elif first == 'accelerate':
        from accelerate.commands.launch import launch_command_parser
        line = re.sub(r'\$\(which (\w+)\)', r'\1', line)
        given = launch_command_parser().parse_args(shlex.split(line)[2:])
        rest = [given.training_script, *given.training_script_args]
    else:
        assert first == 'python' and argv[0].startswith('benchmarks/'), line
        text = (root/argv[0]).read_text(encoding='utf-8')
        ast_options = re.findall(r"add_argument\(f?'--(\w+)", text)
        wanted = [w[2:] for w in argv[1:] if w.startswith('--') and w != '--help']
        assert [w for w in wanted if w not in ast_options] == [], line
        return
    name, argv = words(shlex.join(rest))
    commands._parse(name, specs[name], [a for a in argv if a])


@pytest.mark.parametrize('name', sorted({c.split()[1] for c in found if c.startswith('python benchmarks/')}))
def test_benchmarks_explain_themselves(name, monkeypatch, capsys):
    "Their --help, in this process: torch is here already."
    monkeypatch.setattr(sys, 'argv', [name, '--help'])
    with pytest.raises(SystemExit) as ended: runpy.run_path(str(root/name), run_name='__main__')
    assert ended.value.code == 0 and 'usage' in capsys.readouterr().out


# A world in which the pages' commands can be typed

@pytest.fixture(scope='module')
def world(tmp_path_factory):
    "Runs, folders of clips and data sets under the names that the pages use."
    top = tmp_path_factory.mktemp('world')
    for name, kept in (('digits', 'digits'), ('baseline', 'digits-baseline')):
        shutil.copytree(example_run(kept).path, top/'runs'/name)
    film = torch.rand(16, 20, 3, 32, 32)*2 - 1
    for folder in ('clips', 'my_clips', 'videos', 'webvid', 'pexels'):
        for i, video in enumerate(film):
            (top/folder).mkdir(exist_ok=True)
            write_video(top/folder/f'{i}.mp4', video, fps=25)
    names = [f'{c}/v_{c}_g{g:02d}_c01.avi' for c in ('ApplyEyeMakeup', 'Hammering') for g in (1, 8)]
    for n in names:
        (top/'UCF-101'/n).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(top/'clips/0.mp4', top/'UCF-101'/n)
    for split, group in (('train', 'g08'), ('test', 'g01')):
        (top/f'UCF-101/{split}list01.txt').write_text(''.join(f'{n} {1 + i//2}\n' if split == 'train'
            else f'{n}\n' for i, n in enumerate(names) if group in n))
    for name in ('SkyTimelapse/sky_train/v/v_1', 'SkyTimelapse/sky_test/w/w_1', 'FaceForensics/train/a',
            'FaceForensics/test/b'):
        (top/name).mkdir(parents=True)
        for i in range(20): Image.new('RGB', (32, 32), (12*i, 0, 99)).save(top/name/f'frame{i + 1}.png')
    rows = [f'{p.name},a film' for p in sorted((top/'clips').glob('*.mp4'))]
    (top/'captions.csv').write_text('\n'.join(['file,caption', *rows]))
    (top/'my_encoder.py').write_text(own, encoding='utf-8')
    yield top
    encoders.registry.things.pop('patches', None) # other tests list the encoders


# Command to what is put in place of options (None: taken out), and why
smaller = {
    'align4gen_sample': (dict(n=4, steps=2, classes='4'), 'seconds, not minutes'),
    'align4gen_analyze': (dict(n=40, k='2-3'), 'seconds, not minutes'),
    'align4gen_eval': (dict(n=16, steps=2), 'seconds, not minutes'),
    'align4gen_reconstruct': (dict(n=2), 'seconds, not minutes'),
    'align4gen_text': (dict(weights='random'), 'no text encoder of 19 GB here'),
}
# Read by the parser above, not run, because of
not_run = {
    r'align4gen_lab .*': 'a lab takes up to hours; each has tests of its arms',
    r'.*(fvd=|is=|clip=|sd14=).*': 'weights of others, which cannot be fetched here',
    r'align4gen_\w+ --plugin \w+\.py': 'the file is the reader\'s; tests/test_commands.py has one',
    r'align4gen_cache --check .*': 'the folder is the reader\'s; tests/test_cache.py has some',
    r'align4gen_eval --compare .*': 'two results of the reader\'s; tests/test_evaluate.py has some',
    r'.*--cache cache/.*': 'a cache of UCF-101 with the weights of others',
    r'align4gen_(sample|eval) .*--prompts .*': 'a run that reads prompts; tests/test_prompts.py has one',
    r'align4gen_train --resume runs/\S+': 'a run that was stopped; tests/test_resume.py has many',
}


def as_small(line):
    "The same command, with less to do."
    name, argv = words(line)
    if '--help' in argv: return name, argv
    if name in ('align4gen_train', 'align4gen_cache', 'align4gen_train_dpvae', 'align4gen_text',
            'align4gen_reconstruct') and '--dry_run' not in argv and '--resume' not in argv:
        argv = [*argv, '--dry_run']
    given = dict(smaller.get(name, ({}, ''))[0])
    if '--dry_run' in argv and name != 'align4gen_text': given = {}
    if name == 'align4gen_sample' and '--classes' not in argv: given.pop('classes', None)
    if name == 'align4gen_eval' and not {'--run', '--generated'} & {*argv}: given = {}
    for option, value in given.items():
        if f'--{option}' in argv:
            i = argv.index(f'--{option}')
            argv = argv[:i] + argv[i + 2:]
        argv = [*argv, f'--{option}', str(value)]
    return name, argv


def once(lines):
    "Of commands that differ in a name, a weight or a block alone, the first."
    kinds = {}
    for line in lines: kinds.setdefault(re.sub(r' --(name|gamma|align_block|seed) \S+', '', line), line)
    return [*kinds.values()]


runs = [line for line in once(ours) if not only_names(line) and not any(re.fullmatch(p, line) for p in not_run)]

def test_what_is_not_run_is_little():
    "Every exception in the table is one of a printed command."
    assert [p for p in not_run if not any(re.fullmatch(p, line) for line in ours)] == []


@pytest.mark.parametrize('line', runs)
def test_it_runs(line, world, monkeypatch, capsys):
    "In the reader's place: exit status 0."
    monkeypatch.chdir(world)
    name, argv = as_small(line)
    try: status = main(argv, name)
    except SystemExit as e: status = e.code
    said = capsys.readouterr()
    assert status in (0, None), f'{line}\n{said.err[-600:]}'


# An encoder of the reader's own, in another process

own = '''
from einops import rearrange
from torch import nn
from align4gen.encoders import Entry, register

class Patches(nn.Module):
    "4 x 4 patches of pixels, 48 numbers each."
    def forward(self, x):
        return rearrange(x, 'n c (r p) (k q) -> n (r k) (p q c)', p=4, q=4)

register(Entry('patches', Patches, dim=48, size=16, stride=4, kind='floor: pixels'))
'''


@pytest.fixture(scope='module')
def own_encoder(world):
    "The cell of 04_encoders in a file, as its Try it says."
    (world/'my_encoder.py').write_text(own, encoding='utf-8')
    return world


def in_process(folder, *argv):
    code = 'import sys; from align4gen.commands import main; sys.exit(main(sys.argv[2:], sys.argv[1]))'
    return subprocess.run([sys.executable, '-c', code, *argv], cwd=folder, capture_output=True,
        text=True, timeout=300)


def test_the_cell_is_the_one_on_the_page():
    "What the file holds stands in 04_encoders."
    page = '\n'.join(t for _, t, code in texts(root/'nbs/04_encoders.ipynb') if code)
    for line in own.strip().splitlines():
        if line and not line.startswith(('from', 'register')): assert line in page, line


def test_own_encoder_is_analysed_elsewhere(own_encoder):
    "05's Try it."
    done = in_process(own_encoder, 'align4gen_analyze', '--plugin', 'my_encoder.py', '--encoders',
        'mini_mae,patches', '--n', '20', '--k', '2-3', '--out', 'mine')
    assert done.returncode == 0, done.stderr[-800:]
    assert 'patches' in (own_encoder/'mine/ranking.csv').read_text()


def test_own_encoder_reaches_the_runs(own_encoder, monkeypatch):
    "The evidence lab's Try it: a run of its own process knows the plugins, too."
    from align4gen import plugins
    from align4gen.labs import evidence
    ran = []
    monkeypatch.setattr(plugins, '_named', [str(own_encoder/'my_encoder.py')])
    monkeypatch.setattr(evidence.subprocess, 'run', lambda argv, **kw: ran.append(argv))
    evidence.start_run('mine-0', Path('runs'), ['--steps=2'])
    assert '--plugin' in ' '.join(ran[0]) and str(own_encoder/'my_encoder.py') in ' '.join(ran[0])
