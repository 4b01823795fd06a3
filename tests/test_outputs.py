"""The guides run, and show what is stored: .ci/outputs.py, which anybody can run.

nbdev_test leaves nbs/guides out (its .notest says so), so that they run once, here."""
import base64, importlib.util, io
from pathlib import Path

import nbformat, numpy as np, pytest
from PIL import Image

root = Path(__file__).resolve().parent.parent
spec = importlib.util.spec_from_file_location('outputs', root/'.ci/outputs.py')
outputs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(outputs)
guides = sorted((root/'nbs/guides').glob('*.ipynb'))


@pytest.mark.parametrize('path', guides, ids=lambda p: p.stem)
def test_guide_shows_what_is_stored(path):
    found = outputs.compare(path)
    assert found == [], '\n'.join(found) + f'\nif it should: python .ci/outputs.py {path.relative_to(root)} --write'


def test_every_guide_is_run_here_alone():
    assert (root/'nbs/guides/.notest').exists() and len(guides) >= 8


@pytest.mark.parametrize('a, b, same', [
    ('loss 0.512', 'loss 0.515', True), ('loss 0.512', 'loss 0.612', False),
    ('12 clips', '13 clips', False), ('two words', 'other words', False),
    ('took 3.2 s', 'took 45 s', True), ('1,200 steps in 3 minutes', '1,200 steps in 4 minutes', True),
    ('1,200 steps in 3 minutes', '1,300 steps in 3 minutes', False),
    ('/tmp/abc/run: 4 files', '/tmp/xyz_1/run: 4 files', True),
    ('on 2026-11-29', 'on 2027-01-02', True), ('commit 0c3d5e1', 'commit ab12cd9+', True),
    ('--steps N   Steps', '--steps N   Optimiser steps', False), ('1e-07', '3e-07', True), ('1e-07', '3e-03', False)])
def test_rule_for_texts(a, b, same): assert outputs.same_text(a, b) == same


def png(pixels):
    Image.fromarray(pixels.astype(np.uint8)).save(file := io.BytesIO(), format='png')
    return base64.b64encode(file.getvalue()).decode()


def test_rule_for_pictures():
    "A little noise is the same picture; another curve is not."
    rng = np.random.default_rng(0)
    a = np.full((200, 300, 3), 255)
    a[80:120] = 60
    b = np.clip(a + rng.integers(-6, 7, a.shape), 0, 255)
    c = np.roll(a, 30, 0)
    assert outputs.same_picture(png(a), png(b)) and not outputs.same_picture(png(a), png(c))


def notebook(*texts, source='print(1)'):
    nb = nbformat.v4.new_notebook()
    for i, t in enumerate(texts):
        nb.cells.append(nbformat.v4.new_code_cell(source, id=f'c{i}',
            outputs=[nbformat.v4.new_output('stream', name='stdout', text=t)]))
    return nb


def test_differences_name_the_cell():
    found = outputs.differences(notebook('a', 'b'), notebook('a', 'c'))
    assert len(found) == 1 and found[0].startswith('c1 (print(1))')
    hidden = '#| varies: true\nprint(1)'
    assert outputs.differences(notebook('a', source=hidden), notebook('b', source=hidden)) == []
    slow = '#| slow\nprint(1)'
    assert outputs.differences(notebook('a', source=slow), notebook(source=slow)) == []
