"A run that reads prompts is measured with prompts, or not at all."
import json, os

import numpy as np, pytest

from align4gen import evaluate as ev
from align4gen.data import MovingDigits
from align4gen.prompts import digit_captions, embed_captions, random_encoders
from align4gen.sample_folder import sample_to
from align4gen.train import train


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    "Two steps of a run that reads prompts, eight real clips, and a caption for each."
    home = tmp_path_factory.mktemp('talks')
    embed_captions([*digit_captions, 'a dog'], random_encoders(home/'encoders'), home/'text',
        words=16, progress=False)
    train('digits-videodit', image='sd3-tiny', text=str(home/'text'), clips=16, batch=8, frames=6,
        steps=2, compile='no', precision='fp32', sample_every=0, judge='', sample_steps=2,
        progress=False, out=str(home), name='talks')
    data, lines = MovingDigits('test', n=8), ['file,caption']
    (home/'real').mkdir()
    for i, video in enumerate(data.videos):
        np.save(home/f'real/{i}.npy', video.numpy())
        lines.append(f'{i}.npy,{digit_captions[data.labels[i]]}')
    (home/'real.csv').write_text('\n'.join(lines))
    (home/'list.txt').write_text('a dog\na moving digit two\n')
    return home


def ask(home, *more):
    try:
        return ev.align4gen_eval(['--run', str(home/'talks'), '--real', str(home/'real'), '--n', '8',
            '--metrics', 'fvd-mini', '--steps', '2', '--cache', str(home/'cache'), '--quiet',
            '--out', str(home/'out.json'), *map(str, more)])
    except SystemExit as e: return e.code


def told(home):
    said = json.loads((home/'out.json').read_text())
    folder = said['generated']['where']
    return said, [*json.loads(open(f'{folder}/manifest.json').read())['files'].values()]


def test_without_prompts_it_refuses(home, capsys):
    assert ask(home) == 2
    said = capsys.readouterr().err
    assert '--prompts FILE' in said and '--captions CSV' in said and said.count('\n') == 1
    assert not [*(home/'talks/samples').glob('evaluate-*')]
    assert ask(home, '--prompts', home/'list.txt', '--captions', home/'real.csv') == 2


def test_prompts_take_turns_with_guidance(home):
    assert ask(home, '--prompts', home/'list.txt', '--guidance', 7) == 0
    said, captions = told(home)
    assert captions == ['a dog', 'a moving digit two']*4
    protocol = said['results']['fvd-mini']['protocol']
    assert 'guidance 7' in protocol['generated'] and protocol['prompts'].startswith('2 captions, ')


def test_captions_are_those_of_the_real_clips(home):
    assert ask(home, '--captions', home/'real.csv') == 0
    labels = MovingDigits('test', n=8).labels
    said, captions = told(home)
    # in the order in which the real clips were chosen
    assert sorted(captions) == sorted(digit_captions[c] for c in labels)
    first = said['results']['fvd-mini']['protocol']['prompts']
    assert ask(home, '--prompts', home/'list.txt') == 0
    assert told(home)[0]['results']['fvd-mini']['protocol']['prompts'] != first


def test_captions_need_files_and_unknown_ones_are_named(home, capsys):
    assert ask(home, '--real', 'digits', '--captions', home/'real.csv') == 2
    assert 'no files' in capsys.readouterr().err
    assert ask(home, '--prompts', 'a purple cat') == 2
    assert 'a purple cat' in capsys.readouterr().err


def test_no_manifest_holds_a_none(home):
    folder = sample_to(home/'empty', ev.Run(home/'talks'), 2, steps=2, format='npy', progress=False)
    assert json.loads((folder/'manifest.json').read_text())['files'] == {'00000.npy': '',
        '00001.npy': ''}


def test_prompts_are_looked_up_batch_by_batch(home, monkeypatch):
    "Not all at once: with SD3's encoders two thousand captions are six gigabytes."
    from align4gen.prompts import PromptTable
    asked, look = [], PromptTable.__call__
    monkeypatch.setattr(PromptTable, '__call__', lambda self, captions: (asked.append(len(captions)),
        look(self, captions))[1])
    sample_to(home/'many', ev.Run(home/'talks'), 7, ['a dog']*7, steps=1, format='npy', batch=3,
        progress=False)
    assert max(asked) == 3 and sum(asked) == 7
