"Captions take the memory of captions, whatever lies around them in a user's file."
import io, json, sys, tarfile, tracemalloc

import pytest, torch

from align4gen import prompts
from align4gen.prompts import read_captions


def peak(read):
    "(what it gives, bytes at the highest)"
    tracemalloc.start()
    try: return read(), tracemalloc.get_traced_memory()[1]
    finally: tracemalloc.stop()


def test_a_long_table_with_wide_rows(tmp_path):
    "20,000 rows with a column of a kilobyte that nobody reads."
    with (tmp_path/'long.csv').open('w') as f:
        f.write('file,caption,notes\n')
        for i in range(20_000): f.write(f'clips/{i:06d}.mp4,a moving digit {i},{"x"*1000}\n')
    found, most = peak(lambda: read_captions(tmp_path/'long.csv'))
    kept = sys.getsizeof(found) + sum(sys.getsizeof(x) for pair in found.items() for x in pair)
    assert len(found) == 20_000 and most < 2*kept + 2**20


def test_a_long_archive(tmp_path):
    "Thousands of members: only captions are kept, no headers."
    with tarfile.open(tmp_path/'long.tar', 'w') as tar:
        for i in range(2_000):
            for name, data in ((f'{i:06d}.mp4', b'no film'), (f'{i:06d}.txt', b'a caption')):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    found, most = peak(lambda: read_captions(tmp_path/'long.tar'))
    assert len(found) == 2_000 and found['000007.mp4'] == 'a caption' and most < 3*2**20


@pytest.mark.parametrize('name', ['film.txt', 'film.json'])
def test_a_film_called_text(tmp_path, name):
    "A gigabyte beside a clip is refused before it is read."
    with (tmp_path/name).open('wb') as f: f.truncate(2**30)
    def read():
        with pytest.raises(ValueError, match='is no caption: it has more than'):
            prompts._caption_file(tmp_path/'film.mp4')
    assert peak(read)[1] < 8*2**20
    (tmp_path/name).write_text('[' * 100_000 if name.endswith('json') else 'a film')
    if name.endswith('txt'): assert prompts._caption_file(tmp_path/'film.mp4') == 'a film'
    else:
        with pytest.raises(ValueError, match='not JSON with a field caption'):
            prompts._caption_file(tmp_path/'film.mp4')


def test_a_shard_is_held_once(tmp_path, monkeypatch):
    "Embeddings go where the shard's tensors are: no list of parts is joined in the end."
    class Pipe: pass
    def read_text(pipe, captions, words):
        return prompts.Prompt(torch.ones(len(captions), 4, 8), torch.ones(len(captions), 2))
    monkeypatch.setattr(prompts, 'read_text', read_text)
    bar = type('Bar', (), dict(update=lambda self, n: None))()
    made = prompts._read_many(Pipe(), ['a']*5, 77, 2, bar)
    assert made.tokens.shape == (5, 4, 8) and made.tokens.dtype == torch.bfloat16 and (made.tokens == 1).all()
    assert made.pooled.shape == (5, 2) and (made.pooled == 1).all()
