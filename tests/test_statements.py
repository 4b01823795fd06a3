"Numbers in the prose of chapters 06 and of the guide to many GPUs, against the code they speak of."
import json, re
from pathlib import Path

from align4gen.config import TrainConfig, make_config
from align4gen.cost import step_flops

nbs = Path(__file__).resolve().parent.parent/'nbs'


def text(name):
    "All that is read: prose and outputs."
    cells = json.loads((nbs/f'{name}.ipynb').read_text(encoding='utf-8'))['cells']
    shown = lambda o: ''.join(o.get('text', '') or o.get('data', {}).get('text/markdown', ''))
    return '\n'.join(''.join(c['source']) if c['cell_type'] == 'markdown'
        else '\n'.join(map(shown, c['outputs'])) for c in cells)


def test_gamma():
    said = re.search(r'the presets of its runs take ([\d.]+) as well .*? takes ([\d.]+)\. ', text('06_align'))
    assert float(said[1]) == make_config('ucf101-XL').gamma and float(said[2]) == TrainConfig().gamma


def test_the_paper_says_no_more_than_depth_8_of_table_2():
    assert '| Table 2 | V-DiT-L | depth 8 (no more is said) |' in text('06_align')


def test_what_the_frozen_networks_cost():
    parts = step_flops('L', 24, num_classes=101, teachers='dinov2_b,sam2_hiera_l', online=True, vae='sd14')
    frozen = parts['VAE'] + parts['teachers']
    learning = sum(parts.values()) - frozen - parts['mapper']
    assert f'frozen networks {frozen/1e12:.0f} TFLOP a step, V-DiT {learning/1e12:.0f}' in text('guides/many_gpus')
    assert .8 < frozen/learning < 1 and 'Nearly as much as a V-DiT-L itself.' in text('guides/many_gpus')


def test_demonstrations_say_how_they_end():
    "Level or worse, with the numbers beside it."
    for name in ('06_align', 'library/aligner', 'guides/align_your_model'):
        assert re.search(r'\b(level|worse)\b', text(name)), name
    assert re.search(r'aligned [\d.]+, control [\d.]+: the aligned run is (level|worse|better)', text('06_align'))
