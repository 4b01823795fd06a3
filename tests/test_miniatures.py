"The miniatures: of every world, trained one by one, each with its card."
import json, re
from pathlib import Path
import pytest, torch
from align4gen import encoders
from align4gen.labs import miniatures
from align4gen.weights import shipped, weights_folder

root = Path(__file__).resolve().parents[1]
quick = dict(batch=8, progress=False, measured=False)


def test_a_world_is_trained_model_by_model(tmp_path):
    first = miniatures.make('judge', tmp_path, scale=.001, size=24, **quick)
    assert first['name'] == 'mini24_judge' and '--world digits24' in first['command']
    # what lies there is left out when a stopped lab goes on
    assert miniatures._todo('judge,mae', 24, str(tmp_path), True) == ['mae']
    assert miniatures._todo('judge,mae', 24, str(tmp_path), False) == ['judge', 'mae']
    entry = encoders.mini_entry('judge', 24)
    model = entry.convert(entry.build(), tmp_path/'mini24_judge.safetensors', entry.name)
    assert encoders.Judge(entry, model).classify(torch.rand(2, 3, 3, 24, 24)*2 - 1).shape == (2, 10)


@pytest.mark.parametrize('short', [*encoders._minis])
def test_every_teacher_has_a_larger_relative(short):
    entry = encoders.mini_entry(short, 24)
    kind = entry.wrap or encoders.Encoder
    assert kind(entry, entry.build())(torch.rand(1, 2, 3, 24, 24)*2 - 1).shape == (1, 2, 36, 96)


def test_the_judge_reads_better_than_what_it_judges():
    card = shipped('mini_judge')[1]
    assert card['measured']['clip_accuracy'] > .98
    assert encoders.load('mini_judge').entry.build is not encoders.load('mini_supervised').entry.build


def test_durations_are_the_cards(tmp_path):
    "No duration stands in the page's text, or in the command's: they are computed from the cards."
    page = json.loads((root/'nbs'/'labs'/'miniatures.ipynb').read_text())
    text = '\n'.join(''.join(c['source']) for c in page['cells'])
    assert not re.search(r'\b(an hour|\d+ minutes)\b', text)


def test_views_hold_as_many_digits_as_allowed():
    images = torch.ones(64, 8, 8)
    torch.manual_seed(0)
    one = miniatures.digit_views(images, 24)
    torch.manual_seed(0)
    four = miniatures.digit_views(images, 24, objects=4)
    changed = (one != four).any(1).flatten(1).float().mean(1)
    assert (changed == 0).any() and (changed > 0).float().mean() > .7
