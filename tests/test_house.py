"""What no single notebook can know: that the parts of the house agree with each other."""
import ast, importlib.metadata, importlib.util, json, re, shutil, subprocess, sys
from configparser import ConfigParser
from pathlib import Path

import pytest, yaml

root = Path(__file__).resolve().parent.parent
nbs = root/'nbs'
ini = ConfigParser(delimiters=['='])
ini.read(root/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']

notebooks = sorted(p for p in nbs.rglob('*.ipynb') if not any(part[0] in '._'
    for part in p.relative_to(nbs).parts))
names = [p.relative_to(nbs).as_posix() for p in notebooks]
modules = sorted('.'.join(p.relative_to(root).with_suffix('').parts)
    for p in (root/'align4gen').rglob('*.py') if p.stem[0] != '_')
scripts = [line.split('=')[0].strip() for line in cfg['console_scripts'].splitlines()
    if line.strip()]
each_notebook = pytest.mark.parametrize('path', notebooks, ids=names)


def cells(path): return json.loads(path.read_text(encoding='utf-8'))['cells']
def source(cell): return ''.join(cell['source'])


def command(name):
    "A program of the environment these tests run in."
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    assert found, f"{name} is not installed: run pip install -e '.[dev]'"
    return found


def run(*args, cwd, timeout=300):
    return subprocess.run([*map(str, args)], cwd=cwd, capture_output=True, text=True,
        timeout=timeout, stdin=subprocess.DEVNULL)


@pytest.fixture
def copy(tmp_path):
    "The notebooks, the package and settings.ini, somewhere else."
    skip = shutil.ignore_patterns('_proc', '_docs', 'runs', '.ipynb_checkpoints', '__pycache__')
    for name in ('nbs', 'align4gen'):
        shutil.copytree(root/name, tmp_path/name, symlinks=True, ignore=skip)
    for name in ('settings.ini', '_quarto.yml'): shutil.copy(root/name, tmp_path/name)
    return tmp_path


# The top level

def test_top_level():
    "Nothing lies at the top but what the design puts there."
    if not (root/'.git').exists(): pytest.skip('not a git clone')
    listed = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard'], cwd=root,
        capture_output=True, text=True)
    if listed.returncode: pytest.skip('git does not list this clone')
    have = {line.split('/')[0] for line in listed.stdout.splitlines() if (root/line).exists()}
    allowed = {'nbs', 'align4gen', 'settings.ini', 'setup.py', '_quarto.yml', 'README.md', 'tests',
        'results', 'benchmarks',
               '.github', '.ci', 'LICENSE', 'CONTRIBUTING.md', 'CHANGELOG.md', '.gitignore',
               '.gitattributes'}
    assert have - allowed == set()


# Metadata and Python versions

def test_python_versions():
    "settings.ini, the installed package and the workflow name the same versions."
    versions = cfg['python_versions'].split()
    assert versions[0] == cfg['min_python']
    meta = importlib.metadata.metadata(cfg['lib_name'])
    assert meta['Requires-Python'] == f">={cfg['min_python']}"
    assert meta['Version'] == cfg['version']
    assert [c.split(' :: ')[-1] for c in meta.get_all('Classifier') if 'Python ::' in c] == versions
    workflow = yaml.safe_load((root/'.github/workflows/test.yml').read_text(encoding='utf-8'))
    assert workflow['jobs']['test']['strategy']['matrix']['python'] == versions


def test_actions_are_pinned():
    "Every action in the workflows is a full commit with its version beside it."
    for path in (root/'.github/workflows').glob('*.yml'):
        used = re.findall(r'uses: (.+)', path.read_text(encoding='utf-8'))
        assert (used and all(re.fullmatch(r'[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+', use)
            for use in used)), path.name


# The site

def sidebar():
    site = yaml.safe_load((root/'_quarto.yml').read_text(encoding='utf-8'))
    return site, site['website']['sidebar']['contents']


def hrefs(entries):
    "Every page of the sidebar, in reading order."
    for entry in entries:
        if isinstance(entry, str): yield entry
        else:
            if 'href' in entry: yield entry['href']
            yield from hrefs(entry.get('contents', []))


def test_site_configuration_is_found():
    "nbdev looks in nbs/ and finds the one at the root."
    assert ((nbs/'_quarto.yml').read_text(encoding='utf-8') == (root/'_quarto.yml').read_text(
        encoding='utf-8'))
    assert cfg['custom_sidebar'] == 'True'


def test_site_is_plain():
    "Mathematics needs no network, and there is a theme for the night."
    html = sidebar()[0]['format']['html']
    assert html['html-math-method'] == 'mathml'
    assert set(html['theme']) == {'light', 'dark'}
    assert (nbs/html['css']).exists()


def test_sidebar_chapters():
    chapters = [entry['section'] for entry in sidebar()[1] if 'section' in entry]
    assert chapters == ['The idea', 'The library', 'Labs', 'Guides']


def test_sidebar_lists_every_notebook_once():
    "Sorted, the sidebar is the list of notebooks: none missing, none dead."
    assert sorted(hrefs(sidebar()[1])) == sorted(names)


def test_site_is_prepared_without_quarto(copy):
    "nbdev gathers pages and configuration for Quarto; only the rendering needs the program."
    code = ('from nbdev.quarto import refresh_quarto_yml; from nbdev.serve import proc_nbs\nif '
        '__name__ == "__main__": refresh_quarto_yml(); proc_nbs(n_workers=0)')
    (copy/'prepare.py').write_text(code, encoding='utf-8')
    done = run(sys.executable, 'prepare.py', cwd=copy)
    assert done.returncode == 0, done.stderr
    assert ((copy/'_proc/_quarto.yml').read_text(encoding='utf-8') == (
        root/'_quarto.yml').read_text(
        encoding='utf-8'))
    assert ([name for name in [*names, 'nbdev.yml', 'styles.css']
        if not (copy/'_proc'/name).exists()] == [])


# README.md

def readme_commands():
    text = (root/'README.md').read_text(encoding='utf-8')
    return [block.strip() for block in re.findall(r'^```bash\n(.*?)^```', text, re.M | re.S)]


def test_readme_agrees_with_index():
    spec = importlib.util.spec_from_file_location('readme', root/'.ci/readme.py')
    readme = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(readme)
    assert ((root/'README.md').read_text(
        encoding='utf-8') == readme.render()), 'run `python .ci/readme.py`'


def test_readme_commands():
    "Two commands, one line each; .ci/run takes the second from here and does not spell it again."
    assert (readme_commands() == ["pip install -e '.[dev]' && align4gen_train",
        "pip install -e '.[dev]' && nbdev_test && pytest -n auto --dist loadfile tests"])
    assert 'nbdev_test' not in (root/'.ci/run').read_text(encoding='utf-8')


def test_readme_example_and_results():
    "Ten lines of Python that end in a shape, and a table of results that was really made."
    text = (root/'README.md').read_text(encoding='utf-8')
    example, = re.findall(r'^```python\n(.*?)^```', text, re.M | re.S)
    assert (len(example.splitlines()) <= 10
        and re.search(r'\.shape +# torch\.Size\(\[\d+(, \d+)+\]\)$', example.strip()))
    assert ('| accuracy |' in text), ('run nbs/index.ipynb once results/ is there, then '
        '`python .ci/readme.py`')


def test_map_lists_every_notebook():
    text = '\n'.join(source(c) for c in cells(nbs/'index.ipynb') if c['cell_type'] == 'markdown')
    assert ([name for name in names if name != 'index.ipynb'
        and f'- [{name.removesuffix(".ipynb")}]({name}): ' not in text] == [])


# Every notebook

@each_notebook
def test_notebook_opens_with_title_and_blurb(path):
    text = next(source(c) for c in cells(path) if c['cell_type'] == 'markdown')
    assert re.match(r'# \S.*\n+> \S',
        text), 'the first markdown cell starts with an H1 and a one-line > blurb'


@each_notebook
def test_notebook_is_small_and_whole(path):
    assert path.stat().st_size < 500_000
    errors = [o['evalue'] for c in cells(path) for o in c.get('outputs', [])
        if o['output_type'] == 'error']
    assert errors == []


@each_notebook
def test_notebook_imports_apart(path):
    """nbdev runs a cell that imports when it prepares the site, and none before it that does not:
    a cell imports, or does something."""
    for cell in cells(path):
        code = source(cell)
        if (cell['cell_type'] != 'code' or re.search(r'^#\| *(export|eval: *false)', code, re.M)
                or 'nbdev_export()' in code):
            continue
        kinds = {type(node) for node in ast.walk(ast.parse(re.sub(r'^[ \t]*[%!].*', '', code,
            flags=re.M)))}
        assert not (kinds & {ast.Import, ast.ImportFrom} and kinds & {ast.Expr,
            ast.Assign}), f'move the import of this cell to one of its own:\n{code}'


@each_notebook
def test_notebook_leaves_the_process_as_it_was(path):
    "nbdev_test runs several notebooks in one process: a switch left over by one breaks the next."
    switch = re.compile(
        r'^torch\.(set_grad_enabled|set_num_threads|set_default_\w+|use_deterministic_algorithms)\(', re.M)
    found = [m[0] for c in cells(path) if c['cell_type'] == 'code'
        for m in switch.finditer(source(c))]
    assert not found, f'{path.name}: use a with block instead of {found[0]}...)'


@each_notebook
def test_notebook_links_lead_somewhere(path):
    text = '\n'.join(source(c) for c in cells(path) if c['cell_type'] == 'markdown')
    text = re.sub(r'```.*?```|`[^`\n]*`', '', text, flags=re.S)
    local = [link.split('#')[0] for link in re.findall(r'\]\(([^)\s]+)\)', text)
        if not re.match(r'[a-z]+:|#', link)]
    assert [link for link in local if not (path.parent/link).exists()] == []


@each_notebook
def test_notebook_has_no_mermaid(path):
    assert not re.search(r'[`{]mermaid', path.read_text(encoding='utf-8'))


def test_no_machine_paths():
    "Nobody else has our folders."
    def shown(path):
        if path.suffix != '.ipynb': return path.read_text(encoding='utf-8')
        def text(out):
            return json.dumps([v for k, v in out.get('data', {}).items()
                if not k.startswith('image/')] + [out.get('text', '')])
        return '\n'.join(source(c) + ''.join(map(text, c.get('outputs', []))) for c in cells(path))
    product = [*notebooks, *(root/'align4gen').rglob('*.py'), root/'README.md']
    assert ([(p.name, m[0]) for p in product for m in [re.search(r'/(root|work|home|Users)/\w*',
        shown(p))] if m] == [])


def test_notebooks_are_clean(copy):
    done = run(command('nbdev_clean'), cwd=copy)
    # nbdev only warns about a notebook it cannot write
    assert done.returncode == 0 and 'Failed' not in done.stderr, done.stderr
    assert ([name for name in names
        if (copy/'nbs'/name).read_bytes() != (nbs/name).read_bytes()] == []), 'run nbdev_clean'


# The package

def test_export_is_in_step(copy):
    "nbdev_export makes the package that is here, file for file."
    done = run(command('nbdev_export'), cwd=copy)
    assert done.returncode == 0, done.stderr
    def package(where):
        return {p.relative_to(where).as_posix(): p.read_text(encoding='utf-8')
            for p in (where/'align4gen').rglob('*.py')}
    here, made = package(root), package(copy)
    assert (sorted(name for name in here.keys() | made.keys()
        if here.get(name) != made.get(name)) == []), 'run nbdev_export'


imports = '''
import contextlib, importlib, io, os, sys, traceback
names = sys.argv[1:]
for name in names: importlib.import_module(name)                     # so that other people's libraries are loaded once, not for every module
for name in [n for n in sys.modules if n.split('.')[0] == 'align4gen']: del sys.modules[name]
for name in names:
    if child := os.fork(): os.waitpid(child, 0); continue
    said, trouble = io.StringIO(), ''
    try:
        with contextlib.redirect_stdout(said): importlib.import_module(name)
    except BaseException: trouble = traceback.format_exc()
    if trouble or said.getvalue(): print(name, trouble, said.getvalue(), flush=True)
    os._exit(0)
'''


def test_modules_import_alone(tmp_path):
    """Each first in its own process, elsewhere: exported code leans on no notebook's variables and
    on no order of imports, and says nothing."""
    done = run(sys.executable, '-c', imports, *modules, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, ''), done.stdout + done.stderr


@pytest.mark.parametrize('name', scripts)
def test_command_explains_itself(name, tmp_path):
    done = run(command(name), '--help', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(name)
    assert list(tmp_path.iterdir()) == [], '--help writes nothing'


def test_weights_are_small():
    "Shipped miniatures and example runs: under 60 MB together, safetensors and text only."
    files = [p for p in (root/'align4gen'/'weights').rglob('*') if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 60_000_000
    assert {p.suffix for p in files} <= {'.safetensors', '.json', '.csv', '.md'}


# How the house is built: CONTRIBUTING.md states these rules, the contributor's guide prints the limits

limits = {
    'lines of an exported cell, half of them at most': 9,
    'nine of ten at most': 20,
    'the longest': 40,
    'exported cells with several definitions, %': 1,
    'exported cells shown in the next cell, % at least': 60,
    'characters in a line': 110,
    'characters of a page': 84,
    'lines with two thoughts, all modules together': 80,
    'cells of a chapter of The idea': 140,
    'lines of train and of evaluate': 380,
    'public names': 212,
    'methods added by @patch': 20,
    'docstrings and types that are missing': 40}

ground = ['plugins', 'files', 'weights', 'containers', 'video', 'drawing', 'commands']
paper_b = ['adversarial', 'dpvae_files', 'dpvae', 'train_dpvae', 'reconstruction', 'image_models',
    'videodit', 'prompts', 'train_videodit']
last = ['cost', 'labs']


def tree(module): return ast.parse((root/(module.replace('.', '/') + '.py')).read_text(encoding='utf-8'))


def own_imports(node, module):
    "Modules of ours that an import statement names, without the package's name."
    if isinstance(node, ast.Import): found = [a.name for a in node.names]
    else:
        parts = module.split('.')[:-node.level] if node.level else []
        base = '.'.join([*parts, *([node.module] if node.module else [])])
        found = [base] if base != 'align4gen' else [f'align4gen.{a.name}' for a in node.names]
    return [f.split('.')[1] for f in found if f.startswith('align4gen.') and f.split('.')[1] != '__version__']


def imports_of(module, body=None):
    nodes = ast.walk(tree(module)) if body is None else body
    imports = [n for n in nodes if isinstance(n, (ast.Import, ast.ImportFrom))]
    return {name for n in imports for name in own_imports(n, module)}


def part(section):
    "Modules of a part of the sidebar, in reading order."
    pages, = (e['contents'] for e in sidebar()[1] if e.get('section') == section)
    exports = [re.search(r'^#\| default_exp (\S+)', source(c), re.M) for p in hrefs(pages)
        for c in cells(nbs/p) if c['cell_type'] == 'code']
    return [m[1] for m in exports if m]


@pytest.mark.parametrize('section', ['The idea', 'The library'])
def test_reading_order(section):
    "A chapter imports only chapters of its part that come before it."
    order = part(section)
    early = [(m, name) for i, m in enumerate(order) for name in imports_of(f'align4gen.{m}')
        if name in order[i + 1:]]
    assert early == []


def test_ground_stands_on_ground():
    assert [(m, n) for m in ground for n in imports_of(f'align4gen.{m}') if n not in ground] == []


def test_paper_a_knows_nothing_of_paper_b():
    "VideoDiT, DP-VAE, prompts, costs and labs register themselves."
    later = paper_b + last
    early = [m for m in modules if m.split('.')[1] not in later and not m.endswith('_modidx')]
    named = re.compile(r'\b(VideoDiT|DPVAE|DPTrainer|PromptTable|align4gen\.(%s))\b' % '|'.join(later))
    found = [(m, n) for m in early for n in imports_of(m) if n in later]
    for m in early:
        for node in ast.walk(tree(m)):
            name = getattr(node, 'id', None) or getattr(node, 'attr', None)
            if isinstance(name, str) and named.fullmatch(name): found.append((m, name))
    assert found == []


@pytest.mark.parametrize('module', modules)
def test_no_late_imports(module):
    "Our own modules are imported at the top: a circle would show."
    late = [n.lineno for f in ast.walk(tree(module)) if isinstance(f, (ast.FunctionDef, ast.ClassDef))
        for n in ast.walk(f) if isinstance(n, (ast.Import, ast.ImportFrom)) and own_imports(n, module)]
    assert late == []


def exported(path):
    "Sources of the exported cells of a notebook, and whether a code cell that shows something follows."
    kept = [c for c in cells(path) if source(c).strip()]
    is_export = [c['cell_type'] == 'code' and bool(re.search(r'^#\| *exports?i?\b', source(c), re.M))
        for c in kept]
    for i, c in enumerate(kept):
        if is_export[i]:
            after = i + 1 < len(kept) and kept[i + 1]['cell_type'] == 'code' and not is_export[i + 1]
            yield source(c), after


def definitions(code):
    return [n for n in ast.parse(code).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]


def test_one_definition_a_cell():
    found = [len(definitions(code)) > 1 for path in notebooks for code, _ in exported(path)]
    assert sum(found) <= limits['exported cells with several definitions, %']/100*len(found)


def test_exported_cells_are_short():
    "Lines of the exported cells: the median, nine of ten, and the longest."
    count = sorted(sum(bool(l.strip()) and not l.startswith('#|') for l in code.splitlines())
        for path in notebooks for code, _ in exported(path))
    found = count[len(count)//2], count[9*len(count)//10], count[-1]
    most = [limits[k] for k in ('lines of an exported cell, half of them at most',
        'nine of ten at most', 'the longest')]
    assert all(f <= m for f, m in zip(found, most)), (found, most)


def test_exported_cells_are_shown():
    "Most exported cells are called in the next cell."
    shown = [after for path in notebooks for _, after in exported(path)]
    assert sum(shown) >= limits['exported cells shown in the next cell, % at least']/100*len(shown)


@each_notebook
def test_lines_fit(path):
    "110 characters at most anywhere in code."
    wide = [l for c in cells(path) if c['cell_type'] == 'code' for l in source(c).splitlines()
        if len(l) > limits['characters in a line'] and not l.startswith('#| fig-alt')]
    assert wide == []


@each_notebook
def test_page_fits(path):
    "Text outputs are no wider than the page, 84 characters, and every picture says what it shows."
    wide, silent = [], []
    for c in cells(path):
        for o in c.get('outputs', []):
            data = o.get('data', {})
            text = o.get('text') or data.get('text/plain') or ''
            text = text if isinstance(text, str) else ''.join(text)
            rich = any(k.startswith(('text/html', 'text/markdown', 'application/', 'image/')) for k in data)
            if not rich: wide += [l for l in text.splitlines() if len(l) > limits['characters of a page']]
            if 'image/png' in data and 'fig-alt' not in source(c): silent.append(c['id'])
    assert (wide, silent) == ([], [])


@each_notebook
def test_opening_is_apart(path):
    "nbdev drops the cell with the title: it holds title and blurb alone."
    first = next(source(c) for c in cells(path) if c['cell_type'] == 'markdown')
    assert [l for l in first.splitlines() if l.strip() and not l.startswith(('# ', '> '))] == []


@each_notebook
def test_no_raw_markup(path):
    "Backticks in comments become raw links in signatures, and pandoc prints these brackets raw."
    for code, _ in exported(path):
        assert not re.search(r'^\s+\w+.*#[^#\n]*`', code, re.M), code
    assert not re.search(r'\\\\[Bb]igg?[lr]?\\\\[lr]?Vert', path.read_text(encoding='utf-8'))


def public(module):
    for n in tree(module).body:
        if isinstance(n, ast.Assign) and getattr(n.targets[0], 'id', '') == '__all__':
            return ast.literal_eval(n.value)
    return []


def test_public_names_have_one_home():
    "Verbs that are called by their module's name (vae.load, encoders.load) mean the same in each."
    homes = {}
    for m in modules:
        for name in public(m): homes.setdefault(name, []).append(m)
    twice = {n: h for n, h in homes.items() if len(h) > 1}
    assert twice.keys() <= {'load', 'register', 'table'}, twice
    assert len(homes) <= limits['public names']


def test_dense_lines_are_rare():
    "Lines on which two comprehensions, ternaries, lambdas or boolean chains start."
    thoughts, count = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda,
        ast.IfExp, ast.BoolOp), 0
    for m in modules:
        starts = [n.lineno for n in ast.walk(tree(m)) if isinstance(n, thoughts)]
        count += sum(starts.count(l) > 1 for l in set(starts))
    assert count <= limits['lines with two thoughts, all modules together']


def test_import_costs_little_more_than_torch():
    "The heavy libraries are imported where they are used, and no import speaks."
    heavy = ['timm', 'diffusers', 'transformers', 'accelerate', 'torchmetrics', 'sklearn',
        'matplotlib', 'plotly', 'webdataset', 'av', 'huggingface_hub']
    code = ('import sys, importlib\nfor m in sys.argv[2:]: importlib.import_module(m)\n'
        'print([h for h in sys.argv[1].split() if h in sys.modules])')
    own = [m for m in modules if '.labs' not in m]
    done = run(sys.executable, '-W', 'error', '-c', code, ' '.join(heavy), *own, cwd=root)
    assert (done.stdout.strip(), done.stderr) == ('[]', ''), done.stdout + done.stderr


def test_patch_is_rare():
    "A method stands in its class, unless it has prose of its own; none is overridden from afar."
    count = 0
    for m in modules:
        for n in tree(m).body:
            if isinstance(n, ast.FunctionDef):
                count += any('patch' in ast.unparse(d) for d in n.decorator_list)
    assert count <= limits['methods added by @patch']


def chapters():
    pages, = (e['contents'] for e in sidebar()[1] if e.get('section') == 'The idea')
    return [nbs/p for p in hrefs(pages)]


@pytest.mark.parametrize('path', chapters(), ids=lambda p: p.stem)
def test_chapters_are_short(path):
    "A chapter of The idea is read in one go."
    assert len(cells(path)) <= limits['cells of a chapter of The idea']


@pytest.mark.parametrize('name', ['train', 'evaluate'])
def test_large_modules_are_small(name):
    "Lines of code, without blank ones and comments."
    text = (root/f'align4gen/{name}.py').read_text(encoding='utf-8')
    lines = [l for l in text.splitlines() if l.strip() and not l.strip().startswith('#')]
    assert len(lines) <= limits['lines of train and of evaluate']


def test_lines_of_modules_fit():
    "Also in what nbdev makes of them; its list of names is one line."
    wide = [(m, l[:60]) for m in modules for l in (root/(m.replace('.', '/') + '.py')).read_text(
        encoding='utf-8').splitlines() if len(l) > limits['characters in a line']
        and not l.startswith('__all__') and '_modidx' not in m]
    assert wide == []


def unsaid(code):
    "Functions and classes without a docstring, parameters without a type."
    for n in definitions(code):
        if n.name.startswith('_'): continue
        patched = any('patch' in ast.unparse(d) for d in n.decorator_list)
        if not ast.get_docstring(n) and not patched: yield n.name
        if not isinstance(n, ast.FunctionDef): continue
        bare = [a.arg for a in n.args.args + n.args.kwonlyargs
            if a.annotation is None and a.arg not in ('self', 'cls')]
        yield from (f'{n.name}: {a}' for a in bare)


def test_public_names_say_what_they_are():
    "A docstring for every function and class, a type for every parameter."
    found = [(path.stem, u) for path in notebooks for code, _ in exported(path) for u in unsaid(code)]
    assert len(found) <= limits['docstrings and types that are missing'], found


@each_notebook
def test_links_say_where_they_lead(path):
    "A link that looks like a chapter's file name names the file it leads to."
    text = '\n'.join(source(c) for c in cells(path) if c['cell_type'] == 'markdown')
    found = [(said, to) for said, to in re.findall(r'\[(\d\d_\w+)\]\(([^)#]+)', text)
        if Path(to).stem != said]
    assert found == []


def test_colab_installs_the_package():
    "A page that opens in Colab has a first cell that brings align4gen there: python .ci/colab.py."
    done = run(sys.executable, root/'.ci/colab.py', '--check', cwd=root)
    assert done.returncode == 0, done.stderr
    ours = (root/'.ci/colab.py').read_text(encoding='utf-8')
    assert f"git+{cfg['git_url']}" in ours
