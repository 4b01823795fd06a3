"""Give every page with a Colab badge the cell that installs the package there: `python .ci/colab.py`; `--check` lists pages without it."""
import json, sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent
cell = '#| hide\n#| eval: false\n%pip install -q git+https://github.com/align4gen/align4gen'


def source(c): return ''.join(c['source'])


def without_it(path):
    "Does the page have a badge, and no such cell?"
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    badge = any(c['cell_type'] == 'markdown' and 'colab-badge' in source(c) for c in cells)
    return badge and not any(source(c) == cell for c in cells)


def give(path):
    "Put the cell behind the badge."
    nb = json.loads(path.read_text(encoding='utf-8'))
    at = next(i for i, c in enumerate(nb['cells']) if 'colab-badge' in source(c))
    nb['cells'].insert(at + 1, dict(cell_type='code', execution_count=None, id='c01ab000', metadata={},
        outputs=[], source=cell.splitlines(keepends=True)))
    path.write_text(json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True) + '\n', encoding='utf-8')


if __name__ == '__main__':
    missing = [p for p in sorted((root/'nbs').rglob('*.ipynb')) if p.parts[-2][0] not in '._' and without_it(p)]
    if '--check' in sys.argv: sys.exit('\n'.join(map(str, missing)) or 0)
    for path in missing: give(path)
