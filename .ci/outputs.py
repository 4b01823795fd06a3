"""Run notebooks again and compare what they show with what is stored.

    python .ci/outputs.py guides                 every notebook of nbs/guides
    python .ci/outputs.py nbs/06_align.ipynb     one
    python .ci/outputs.py guides --write         and store the new outputs

Texts agree word for word. Their whole numbers agree, their decimal ones to 2 % (another
processor rounds otherwise), those below 1e-4 to their order. What differs from run to run is taken out on both sides: times
and rates, paths, dates, hashes of commits, addresses in memory. Pictures agree if they have
the same size and, made small, differ by less than 4 of 255 levels on average. Cells with
`#| slow`, `#| cuda` or `#| eval: false` are not run; of one with `#| varies: true` only the
kinds of its outputs are compared."""
import base64, copy, io, os, re, sys
from pathlib import Path

import nbformat
import numpy as np
from nbclient import NotebookClient
from PIL import Image

root = Path(__file__).resolve().parent.parent
skipped = re.compile(r'^#\|\s*(eval:\s*false|slow|cuda)|nbdev_export\(\)', re.M)
varies = re.compile(r'^#\|\s*varies:\s*true', re.M)
number = r'-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?'
volatile = [
    rf'{number} ?(?:ms|s|sec|seconds|minutes|hours|days)\b', r'\b\d+:\d\d(?::\d\d)?\b',
    rf'{number} ?(?:clips|steps|it|images|videos|frames|MB|GB)(?:/s| a second| per second)',
    rf'{number} (?:[GT]FLOP/s \(measured)', r'/(?:tmp|var|home|root|private)/[\w./-]*',
    r'0x[0-9a-f]{6,}', r'\b\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d)?)?\b', r'\b[0-9a-f]{7,40}\+?(?=\W|$)',
    r'\b(?:Intel|AMD|NVIDIA|Apple)[^,\n]*', r'torch \d[\w.+]*']


def steady(
    text:str, # An output
)->str: # With `…` for what differs from run to run
    "Leave out times, rates, paths, dates, hashes and machines."
    for pattern in volatile: text = re.sub(pattern, '…', text)
    return text.strip()


def same_number(x, y, tolerance):
    "Two numbers as text: whole ones are equal, rounding errors of the same order."
    u, v = (abs(float(t.replace(',', ''))) for t in (x, y))
    if x.startswith('-') != y.startswith('-') and max(u, v) > tolerance: return False
    if '.' not in x + y and 'e' not in x + y: return u == v
    if max(u, v) < 1e-4: return max(u, v) <= 10*min(u, v) or x == y
    digits = len(re.match(r'\d*', x.partition('.')[2])[0])
    return abs(u - v) <= max(tolerance*max(u, v), 1.01*10.**-digits if digits else 0)


def same_text(a, b, tolerance=.02):
    "Equal words and whole numbers; decimal numbers within the tolerance."
    a, b = steady(a), steady(b)
    words = [[' '.join(l.split()) for l in re.sub(number, '#', t).split('\n')] for t in (a, b)]
    if words[0] != words[1]: return False
    return all(same_number(x, y, tolerance)
        for x, y in zip(re.findall(number, a), re.findall(number, b)))


def same_picture(a, b, levels=4):
    "The same size, and nearly the same when made small."
    a, b = (Image.open(io.BytesIO(base64.b64decode(x))).convert('RGB') for x in (a, b))
    if max(abs(u - v) for u, v in zip(a.size, b.size)) > 8: return False
    small = [np.asarray(x.resize((64, 64), Image.BOX), float) for x in (a, b)]
    return np.abs(small[0] - small[1]).mean() < levels


def contents(cell):
    "Kind to content of a cell's outputs, in order; a stream's pieces are one."
    found = []
    for o in cell.get('outputs', []):
        if o['output_type'] == 'stream':
            if o['name'] == 'stderr': continue
            if found and found[-1][0] == 'stream': found[-1] = ('stream', found[-1][1] + o['text'])
            else: found.append(('stream', o['text']))
            continue
        data = o.get('data', {})
        rich = [k for k in data if not k.startswith(('text/plain', 'application/'))] or ['text/plain']
        found += [(k, data[k]) for k in rich if k in data]
    return found


def differences(
    stored, # Notebook as it lies there
    fresh, # The same, run again
)->list: # One line for every cell that shows something else
    "Compare what two runs of a notebook show."
    found = []
    for old, new in zip(stored.cells, fresh.cells):
        if old.cell_type != 'code' or skipped.search(old.source): continue
        a, b = contents(old), contents(new)
        first = next((l for l in old.source.splitlines() if l.strip() and l[:2] != '#|'), '')
        if [k for k, _ in a] != [k for k, _ in b]:
            found.append(f'{old.id} ({first}): {[k for k, _ in a]} is now {[k for k, _ in b]}')
            continue
        for (kind, x), (_, y) in zip(a, b):
            if varies.search(old.source): continue
            same = same_picture if kind == 'image/png' else same_text
            if kind.startswith('image/') and kind != 'image/png': continue
            if not same(x, y):
                shown = '' if kind == 'image/png' else f'\n{steady(x)}\n--- is now\n{steady(y)}'
                found.append(f'{old.id} ({first}): {kind}{shown}')
    return found


class Client(NotebookClient):
    "Leaves out what the notebook says is not to be run."
    async def async_execute_cell(self, cell, cell_index, **kw):
        if cell.cell_type == 'code' and skipped.search(cell.source): return cell
        return await super().async_execute_cell(cell, cell_index, **kw)


def run(path, timeout=300):
    "A notebook with the outputs it gives now."
    os.environ['PYTHONPATH'] = os.pathsep.join(
        [str(root), *filter(None, [os.environ.get('PYTHONPATH')])])
    os.environ.pop('MPLBACKEND', None)
    nb = copy.deepcopy(nbformat.read(path, as_version=4))
    Client(nb, timeout=timeout, kernel_name='python3', record_timing=False,
        resources={'metadata': {'path': str(path.parent)}}).execute()
    return nb


def compare(path, write=False):
    "Run a notebook; what it shows that is not what is stored, a list of texts."
    fresh = run(path)
    if write:
        nbformat.write(fresh, path)
        return []
    return differences(nbformat.read(path, as_version=4), fresh)


def chosen(word):
    "A folder of nbs/, or a notebook."
    path = root/'nbs'/word if (root/'nbs'/word).is_dir() else Path(word).resolve()
    return sorted(path.glob('*.ipynb')) if path.is_dir() else [path]


if __name__ == '__main__':
    words = [w for w in sys.argv[1:] if w != '--write'] or sys.exit(__doc__)
    bad = 0
    for path in (p for w in words for p in chosen(w)):
        found = compare(path, '--write' in sys.argv)
        bad += len(found)
        print(f'{path.relative_to(root)}: {"as stored" if not found else f"{len(found)} differ"}', *found, sep='\n')
    sys.exit(bad > 0)
