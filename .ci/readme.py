"""Make README.md from nbs/index.ipynb with its stored outputs: `python .ci/readme.py`; with `--check`, compare and change nothing."""
import re, sys
from pathlib import Path

import nbformat
from nbconvert import MarkdownExporter

root = Path(__file__).resolve().parent.parent
index, readme = root/'nbs'/'index.ipynb', root/'README.md'
note = '<!-- Made from nbs/index.ipynb by .ci/readme.py: edit the notebook, not this file. -->\n\n'


def directives(source):
    "The `#| name: value` lines of a code cell, as a set of strings without spaces."
    return {line[2:].replace(' ', '') for line in source.splitlines() if line.startswith('#|')}


def visible(cell):
    "The cell as a reader of README.md sees it, or None if it is hidden."
    if cell.cell_type != 'code': return cell
    flags = directives(cell.source)
    if flags & {'hide', 'include:false'}: return None
    cell.source = '\n'.join(line for line in cell.source.splitlines()
        if not line.startswith('#|')).strip()
    if 'echo:false' in flags: cell.metadata['transient'] = {'remove_source': True}
    return cell


def from_root(markdown):
    "Links and pictures relative to nbs/ (the notebook's place), seen from the root (README.md's)."
    return re.sub(r'(\]\()(?![a-z]+:|#|/)(?:\./)?([^)\s]+)', lambda m: m[1] + (m[2][3:]
        if m[2].startswith('../') else f'nbs/{m[2]}'), markdown)


def render(path=index):
    "The text of README.md."
    nb = nbformat.read(path, as_version=4)
    nb.cells = [cell for cell in map(visible, nb.cells) if cell is not None]
    for cell in nb.cells:
        if cell.cell_type == 'markdown': cell.source = from_root(cell.source)
        for out in cell.get('outputs', []):
            if 'text/markdown' in out.get('data', {}):
                out.data = {'text/markdown': from_root(out.data['text/markdown'])}
    nb.metadata.language_info = {'name': 'python'}
    text, _ = MarkdownExporter().from_notebook_node(nb)
    return note + re.sub(r'\n{3,}', '\n\n', text).strip() + '\n'


if __name__ == '__main__':
    if '--check' not in sys.argv: readme.write_text(render(), encoding='utf-8')
    elif not readme.exists() or readme.read_text(encoding='utf-8') != render():
        sys.exit('README.md does not agree with nbs/index.ipynb: run `python .ci/readme.py`')
