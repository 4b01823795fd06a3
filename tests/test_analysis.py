"align4gen_analyze on the folders that people really have."
import csv

import pytest, torch

from align4gen.clusters import kmeans_many
from align4gen.data import MovingDigits
from align4gen.report import align4gen_analyze
from align4gen.video import write_video

quick = ['--encoders', 'mini_infonce,mini_mae', '--frames', '4', '--size', '16', '--k', '2,3']


@pytest.fixture
def folder(tmp_path):
    "Two good videos, a truncated one, an empty file, a text."
    videos = MovingDigits('test', n=2).videos
    (tmp_path/'videos'/'more').mkdir(parents=True)
    for i, name in enumerate(('good.mp4', 'more/good.gif')):
        write_video(tmp_path/'videos'/name, videos[i], fps=6, scale=2)
    whole = (tmp_path/'videos'/'good.mp4').read_bytes()
    for name, content in {'cut.mp4': whole[:len(whole)//2], 'nothing.mp4': b'',
            'notes.txt': b'not a video'}.items():
        (tmp_path/'videos'/name).write_bytes(content)
    return tmp_path


def test_bad_files_are_named_and_the_rest_is_measured(folder, capsys):
    assert (align4gen_analyze(['--videos', str(folder/'videos'), '--out', str(folder/'report'),
        *quick]) == 0)
    said = capsys.readouterr().out
    assert (all(f'warning: left out {name}' in said for name in ('cut.mp4', 'nothing.mp4',
        'notes.txt')) and 'good' not in said.replace('good teacher', ''))
    with (folder/'report'/'ranking.csv').open() as f: rows = list(csv.DictReader(f))
    assert ({r['encoder'] for r in rows} == {'mini_infonce', 'mini_mae'}
        and all(float(r['iicr']) > 0 for r in rows))
    page = (folder/'report'/'report.html').read_text()
    assert ('Left out: cut.mp4' in page
        and page.count('src=') == page.count('src=\'data:image/png;base64,') == 3)


@pytest.mark.parametrize('options, message', [
    (['--videos', 'nowhere'], 'nowhere is not a folder'), (['--encoders', 'dinov9'],
    "'dinov9'"), (['--k', '1'], 'numbers from 2'),
    (['--run', 'nowhere'], 'nowhere is not a run'), (['--n', '0'], 'at least 1')])
def test_errors_name_the_fix(options, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped: align4gen_analyze(options)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert message in said and 'Traceback' not in said


def test_empty_folder_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit): align4gen_analyze(['--videos', str(tmp_path)])
    assert 'holds no files' in capsys.readouterr().err


@pytest.mark.parametrize('ks, shape', [([2, 3], (4, 1, 3, 8)), ([2], (4, 1, 3, 8)),
    ([3], (4, 3, 8)), ([3], (2, 1, 3, 8)), ([3], (4, 1, 3, 7))])
def test_start_belongs_to_one_k(ks, shape):
    "K-means begins at given centroids for a single k, and only if they have its shape."
    with pytest.raises(ValueError, match='pass one k'):
        kmeans_many(torch.zeros(4, 10, 8), ks, start=torch.zeros(shape))
