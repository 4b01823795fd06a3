("Captions, what encoders say about them, and how both reach a model. The encoders are tiny and "
"random; the rules are the real ones.")
import json, time
from dataclasses import replace

import pytest, torch
from diffusers import StableDiffusion3Pipeline
from safetensors.torch import load_file

from align4gen import cache, commands, datasets, prompts as text
from align4gen.config import make_config
from align4gen.data import MovingDigits
from align4gen.video import write_video
from align4gen.source import count_classes, held_out, load_frozen, open_source
from align4gen.train_videodit import (_held_out_prompts as held_out_prompts,
    _is_video_step as sees_video, _JointDisk as JointDisk, _JointMemory as JointMemory,
    VideoDiTConfig, VideoDiTRecipe)
from align4gen.prompts import (PromptTable, align4gen_text, captions_of, digit_captions,
    embed_captions, load_text, random_encoders, read_captions, read_text, run_captions)
from align4gen.videodit import Prompt, inflate, sd3

small = dict(sample_size=4, num_layers=2, attention_head_dim=8, num_attention_heads=4,
    joint_attention_dim=96, caption_projection_dim=32, pooled_projection_dim=64,
    pos_embed_max_size=8)


@pytest.fixture(scope='module')
def tiny(tmp_path_factory): return random_encoders(tmp_path_factory.mktemp('tiny'))


@pytest.fixture(scope='module')
def pipe(tiny): return load_text(tiny)


@pytest.fixture(scope='module')
def table(tiny, tmp_path_factory):
    return embed_captions(digit_captions, tiny, tmp_path_factory.mktemp('table'), words=8,
        progress=False)


@pytest.fixture
def films(tmp_path):
    for i, v in enumerate(MovingDigits(n=6, frames=8, size=32).videos):
        write_video(tmp_path/'films'/f'{"ab"[i % 2]}'/f'{i}.mp4', v)
    return tmp_path/'films'


def csv_of(path, rows):
    path.write_text('file,caption\n' + ''.join(f'{f},{c}\n' for f, c in rows), encoding='utf-8')
    return path


# What the encoders say

@pytest.mark.parametrize('t5', [True, False], ids=['three', 'two'])
def test_equals_the_whole_pipeline(tiny, t5):
    "A pipeline that has its painter says the same."
    part = load_text(tiny, t5=t5)
    if not t5: part.transformer = None
    whole = StableDiffusion3Pipeline(transformer=sd3(**small), scheduler=None, vae=None,
        **{k: getattr(part, k) for k in text.text_files})
    want = whole.encode_prompt(['a cat', 'two dogs, running'], None, None, device='cpu',
        do_classifier_free_guidance=False, max_sequence_length=20 if t5 else 77)
    if not t5: part.transformer = whole.transformer
    got = read_text(part, ['a cat', 'two dogs, running'], words=20)
    assert (got.tokens.equal(want[0]) and got.pooled.equal(want[2]) and got.tokens.shape == (2, 97
        if t5 else 154, 96))


def test_without_t5_the_painter_says_how_wide(tiny, tmp_path):
    two = random_encoders(tmp_path, t5=None)
    assert read_text(load_text(two, t5=False), ['x']).tokens.shape == (1, 154, 4096)
    (two/'transformer').mkdir()
    (two/'transformer/config.json').write_text('{"joint_attention_dim": 80}')
    assert read_text(load_text(two, t5=False), ['x']).tokens.shape == (1, 154, 80)


def test_random_encoders_leave_chance_alone(tmp_path):
    torch.manual_seed(3)
    want = torch.rand(3)
    torch.manual_seed(3)
    random_encoders(tmp_path/'a')
    assert torch.rand(3).equal(want)
    random_encoders(tmp_path/'b')
    assert all(load_file(tmp_path/f'a/{p}/model.safetensors')[k].equal(v) for p in ('text_encoder',
        'text_encoder_3') for k, v in load_file(tmp_path/f'b/{p}/model.safetensors').items())


def test_any_missing_or_damaged_file_is_named(tmp_path):
    for part in text.text_files:
        folder = random_encoders(tmp_path/part)
        (folder/part/text.text_files[part][0]).unlink()
        with pytest.raises(FileNotFoundError,
                match=f'{part}/{text.text_files[part][0]} is missing'):
            load_text(folder)
    folder = random_encoders(tmp_path/'weights')
    (folder/'text_encoder_2/model.safetensors').unlink()
    with pytest.raises(FileNotFoundError, match='text_encoder_2/model.safetensors is missing'):
        load_text(folder)
    folder = random_encoders(tmp_path/'cut')
    file = folder/'text_encoder_3/model.safetensors'
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match='text_encoder_3 is damaged'): load_text(folder)
    folder = random_encoders(tmp_path/'pickle')
    (folder/'text_encoder/model.safetensors').rename(folder/'text_encoder/pytorch_model.bin')
    with pytest.raises(FileNotFoundError, match='text_encoder/model.safetensors is missing'):
        load_text(folder)


def test_hub_out_of_reach(monkeypatch, tmp_path):
    "No network: one message, soon."
    import huggingface_hub as hub
    monkeypatch.setattr(hub.constants, 'HF_HUB_OFFLINE', True)
    monkeypatch.setenv('HF_HUB_CACHE', str(tmp_path/'none'))
    monkeypatch.setattr(hub.constants, 'HF_HUB_CACHE', str(tmp_path/'none'))
    start = time.time()
    with pytest.raises(OSError,
            match='text_encoder/config.json.*stable-diffusion-3-medium-diffusers.*licence.*--weights'):
        text.text_folder('hub')
    assert time.time() - start < 5


def test_long_captions_are_counted(pipe):
    captions = ['a'*75, 'a'*76, 'a b', 'x'*300]
    assert text._count_long(pipe.tokenizer, captions, 77) == 2
    assert text._count_long(pipe.tokenizer_3, captions, 256) == 1
    with text._quiet(): assert read_text(pipe, ['a'*300], 30).tokens.shape == (1, 107, 96)


# Who says what

def test_spreadsheets(tmp_path):
    file = tmp_path/'c.csv'
    def read(data): file.write_bytes(data); return read_captions(file)
    assert (read(b'\xef\xbb\xbfcaption, file\r\n"a ""red"" dog,\r\nrunning", a\\1.mp4\r\n') == {
        'a/1.mp4': 'a "red" dog, running'})
    for data, said in ((b'file;caption\na;b\n',
            'needs the columns file and caption; it has file;caption'), (b'', 'no rows'),
            (b'file,caption\n', 'no rows'), (b'file,caption\na,\xff\xfe\n', 'UTF-8'),
                       (b'file,caption\na,b\n\na,c\n', 'row 3: a has another caption'),
                       (b'file,caption\n,b\n', 'row 2')):
        with pytest.raises(ValueError, match=said): read(data)
    with pytest.warns(UserWarning, match='2 of 3 rows have no caption, the first is row 2'):
        assert read(b'file,caption\na\nb,c\nd, \n') == {'a': '', 'b': 'c', 'd': ''}


def test_archives(films, tmp_path):
    import tarfile
    for i, p in enumerate(sorted(films.rglob('*.mp4'))):
        p.with_suffix('.json').write_text(json.dumps(dict(caption=f'film {p.stem}', width=32)))
    (films/'a/0.txt').write_text('a better\ncaption\n')
    with tarfile.open(tmp_path/'0.tar', 'w') as tar: tar.add(films, '.')
    said = read_captions(tmp_path/'0.tar')
    assert len(said) == 6 and said['a/0.mp4'] == 'a better caption' and said['b/1.mp4'] == 'film 1'
    ds = datasets.load('videos', films, resolution=32)
    assert (text._clip_captions(ds) == text._clip_captions(ds,
        tmp_path/'0.tar') == [said[p.relative_to(films).as_posix()] for p in ds.paths]
        and ds.left_out == [])
    (films/'a/2.json').write_text('[1, 2]')
    with pytest.raises(ValueError, match='2.json is not JSON with a field caption'):
        text._clip_captions(ds)
    (films/'a/2.json').unlink()
    (films/'stray.json').write_text('{}')
    with pytest.raises(ValueError,
            match='1 of 6 clips have no .txt or .json beside them, the first is .*2.mp4'):
        text._clip_captions(ds)
    assert ([r for p, r in datasets.load('videos', films).left_out] == [
        'not of a known kind, by its name'])


def test_folders_of_frames_have_captions(tmp_path):
    from PIL import Image
    for n in ('clip.a', 'clip.b'):
        (tmp_path/n).mkdir(); (tmp_path/f'{n}.txt').write_text(f'sky over {n}')
        for i in range(3): Image.new('RGB', (32, 32)).save(tmp_path/n/f'{i}.png')
    ds = datasets.load('sky', tmp_path, frames=2)
    assert captions_of(ds) == ['sky over clip.a', 'sky over clip.b'] and ds.left_out == []


def test_the_table_names_files_from_root_or_from_itself(films, tmp_path):
    ds = datasets.load('videos', films)
    rows = [(p, f'number {i}') for i, p in enumerate(ds.paths)]
    want = [c for _, c in rows]
    assert (text._clip_captions(ds, csv_of(tmp_path/'below.csv', [(p.relative_to(films).as_posix(),
        c) for p, c in rows])) == want)
    assert (text._clip_captions(ds, csv_of(tmp_path/'own.csv', [(p.relative_to(tmp_path).as_posix(),
        c) for p, c in rows])) == want)
    assert text._clip_captions(ds, csv_of(tmp_path/'full.csv', rows)) == want
    with pytest.raises(ValueError,
            match=r'no caption for 6 of 6 clips, the first is a/0.mp4 below .*films. What it has '
                r'begins with 0.mp4'):
        text._clip_captions(ds, csv_of(tmp_path/'bare.csv', [(p.name, c) for p, c in rows]))


def test_nothing_is_said(films):
    bare = datasets.ClipDataset(sorted(films.rglob('*.mp4')))
    with pytest.raises(ValueError, match='give captions'): captions_of(bare)


# On disk

def test_killed_and_continued(tiny, tmp_path, monkeypatch):
    "What was written is not read again, whenever the end came; the rest is added."
    captions, read = [f'caption {i}' for i in range(20)], []
    real = text.read_text
    monkeypatch.setattr(text, 'read_text', lambda pipe, c, words: read.append([*c])
        or (_ for _ in ()).throw(KeyboardInterrupt) if sum(map(len, read)) > 12
        else (read.append([*c]), real(pipe, c, words))[1])
    how = dict(words=8, batch=2, shard_bytes=4*text._caption_bytes(8, 96, 64), progress=False)
    with pytest.raises(KeyboardInterrupt): embed_captions(captions, tiny, tmp_path, **how)
    part = PromptTable(tmp_path)
    assert part.captions == ['', *captions[:11]] and len(part.shards) == 3
    # as after a kill -9
    (tmp_path/'index.json').unlink()
    read.clear()
    monkeypatch.setattr(text, 'read_text', lambda pipe, c, words: (read.append([*c]), real(pipe, c,
        words))[1])
    whole = embed_captions(captions, tiny, tmp_path, **how)
    assert whole.captions == ['', *captions] and [c for r in read[1:] for c in r] == captions[11:]
    # all there: no encoder is asked
    read.clear()
    embed_captions(captions[::-1], tiny, tmp_path, **how)
    assert read == []
    once = embed_captions(captions, tiny, tmp_path/'once', words=8, progress=False)
    assert (torch.allclose(whole(captions).tokens.float(), once(captions).tokens.float(), atol=.05)
        and whole.captions == once.captions)
    assert [p.name for p in tmp_path.iterdir() if 'part' in p.name] == []


def test_what_is_not_there(table, tiny):
    with pytest.raises(ValueError,
            match=r"no embedding of 'a .big. cat' and 1 others: add with align4gen_text --caption "
                r".* --out .*table.* --words 8") as e:
        table(['a "big" cat', digit_captions[0], 'two'])
    import shlex
    argv = shlex.split(str(e.value).split('add with align4gen_text ')[1].split(', or for many')[0])
    # the advice can be typed
    spec = align4gen_text.spec()
    assert commands._parse('align4gen_text', spec, argv)['caption'] == ['a "big" cat']
    with pytest.raises(ValueError, match='no captions'): table([])


def test_rows_are_read_lazily(table, monkeypatch):
    opened = []
    real = text.safe_open
    monkeypatch.setattr(text, 'safe_open', lambda *a: opened.append(a[0]) or real(*a))
    again = PromptTable(table.folder)
    assert opened == []
    p = again([digit_captions[2]]*5 + [''])
    assert (len(opened) == 2 and len(p) == 6 and p.tokens[0].equal(p.tokens[4])
        and p.tokens.dtype == torch.bfloat16 and p.tokens.shape == (6, 85, 96)
        and p.tokens[5:].equal(again.nothing.tokens))


def test_damage_is_named(tiny, tmp_path):
    made = embed_captions(['x'], tiny, tmp_path, words=8, progress=False)
    shard = made.shards[0]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match='text-000000.safetensors is damaged'):
        PromptTable(tmp_path)
    with pytest.raises(ValueError,
            match='text-000000.safetensors is damaged.*delete it and run align4gen_text again'):
        embed_captions(['x'], tiny, tmp_path, words=8, progress=False)
    shard.unlink()
    with pytest.raises(ValueError, match='is missing'): PromptTable(tmp_path)
    # as the message says
    assert embed_captions(['x'], tiny, tmp_path, words=8, progress=False).captions == ['', 'x']
    assert shard.read_bytes() == whole


def test_full_disk(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(text.shutil, 'disk_usage', lambda p: type('Usage', (), dict(free=1000)))
    with pytest.raises(OSError, match='GB are free at .*fewer --words'):
        embed_captions(['x'], tiny, tmp_path/'t', words=8)
    assert not (tmp_path/'t').exists()


# In training

# also where there are no embeddings yet
def speaking(config, folder, **how):
    return VideoDiTConfig(**vars(config) | dict(image='sd3-tiny', text=str(folder)) | how)

def batches(config, grid):
    return open_source(config, grid, progress=False, memory=JointMemory, disk=JointDisk)

def plain(**how):
    return make_config('digits-videodit', **dict(clips=32, batch=8, steps=4, teachers='', gamma=0., judge='',
        precision='fp32', frames=2, eval_clips=8) | how)


def test_batches_of_digits(table):
    kept = plain(video_share=.5)
    config = speaking(kept, table.folder)
    for spoken, labelled in zip(batches(config, (4, 4)).batches(0),
            batches(kept, (4, 4)).batches(0)):
        want = table([digit_captions[i] for i in labelled.labels])
        assert (isinstance(spoken.labels, Prompt) and spoken.labels.tokens.equal(want.tokens)
            and spoken.labels.pooled.equal(want.pooled) and spoken.mean.equal(labelled.mean))
    z, labels = held_out(kept, load_frozen(kept, (4, 4)))
    y = held_out_prompts(config)
    assert y.pooled.equal(table([digit_captions[i] for i in labels]).pooled) and len(z) == 8
    assert (VideoDiTRecipe(config).count_classes(), count_classes(kept)) == (0, 10)


@pytest.mark.parametrize('workers', [0, 1])
def test_batches_of_files(films, tiny, tmp_path, workers):
    "Each clip comes with its own caption, also when a damaged one is replaced."
    (films/'a/0.mp4').write_bytes(b'no video')
    names = sorted(films.rglob('*.mp4'))
    file = csv_of(tmp_path/'c.csv', [(p.relative_to(films).as_posix(), f'film {p.stem}')
        for p in names])
    config = make_config('digits', data='videos', root=str(films), resolution=32, frames=4,
        interval=1, clips=0, batch=3, steps=4, teachers='', gamma=0., judge='', precision='fp32',
        workers=workers, allow_bad=1.)
    config = speaking(config, tmp_path/'t', captions=str(file))
    table = embed_captions(captions_of(config), tiny, tmp_path/'t', words=8, progress=False)
    stored = batches(config, (8, 8))
    assert stored.prompts.by == 'index' and len(table) == 7
    for items in stored.loader([[(i, 0) for i in range(3)], [(i, 0) for i in range(3, 6)]]):
        y = stored.batch(items, 0).labels
        assert y.tokens.equal(table([f'film {stored.data.paths[i].stem}'
            for i in items['index']]).tokens)
        assert 'film 0' not in [f'film {stored.data.paths[i].stem}' for i in items['index']]
    with pytest.raises(FileNotFoundError, match='holds no embeddings'):
        batches(speaking(config, tmp_path/'none'), (8, 8))
    embed_captions(['film 1'], tiny, tmp_path/'one', words=8, progress=False)
    # at the start, not in step 1000
    with pytest.raises(ValueError, match="no embedding of 'film 0' and 4 others"):
        batches(speaking(config, tmp_path/'one'), (8, 8))


def test_batches_of_a_cache(films, tiny, tmp_path):
    "A cache has no files: class names, or the captions of the very clips that it was made of."
    ds = datasets.load('videos', films, frames=4, interval=1, resolution=32)
    made = cache.build(ds, tmp_path/'cache', vae='mini', data=dict(name='videos', split='train',
        interval=1), progress=False)
    config = make_config('digits', data='videos', cache=str(tmp_path/'cache'), resolution=32,
        frames=4, interval=1, clips=0, batch=3, steps=4, teachers='', gamma=0., judge='',
        precision='fp32', workers=0)
    config = speaking(config, tmp_path/'t')
    file = csv_of(tmp_path/'c.csv', [(p.relative_to(films).as_posix(), f'film {p.stem}')
        for p in ds.paths])
    table = embed_captions(['a', 'b', *read_captions(file).values()], tiny, tmp_path/'t', words=8,
        progress=False)
    first = next(batches(config, (8, 8)).batches(0)).labels
    files = replace(config, root=str(films), captions=str(file))
    stored = batches(files, (8, 8))
    items = next(iter(stored.loader([[(i, 0) for i in range(3)]])))
    assert stored.batch(items, 0).labels.pooled.equal(table([f'film {ds.paths[i].stem}'
        for i in items['index']]).pooled)
    assert (batches(config, (8, 8)).batch(items, 0).labels.pooled.equal(table([ds.classes[i]
        for i in items['label']]).pooled) and len(first) == 3)
    with pytest.raises(ValueError, match='give root too'):
        run_captions(replace(config, captions=str(file)))
    write_video(films/'a/9.mp4', MovingDigits(n=1, frames=8, size=32).videos[0])
    with pytest.raises(ValueError, match='other clips than'):
        batches(replace(files, captions=''), (8, 8))
    assert len(made) == 6


def test_into_the_model(table):
    """Captions, table, batch, dropping, a part of a batch, guidance, backward: the way of a
    training step."""
    torch.manual_seed(0)
    model = inflate(sd3(**small), frames=2, input_size=4).train()
    model.label_dropout = 0.
    with torch.no_grad(): model.image.proj_out.weight.normal_(0, .1)
    y = next(batches(speaking(plain(), table.folder), (2, 2)).batches(0)).labels
    x, t = torch.randn(8, 2, 16, 4, 4), torch.rand(8)
    dropped = torch.arange(8) % 4 == 1
    kept, part = model(x, t, y), y.drop(dropped)
    assert ((model(x, t, part) - kept).flatten(1).abs().amax(1) > 1e-6).equal(dropped)
    assert torch.allclose(model(x[2:5], t[2:5], y[2:5]), kept[2:5], atol=1e-5)
    both = model(torch.cat([x, x]), torch.cat([t, t]),
        y.join(y.drop(torch.ones(len(y), dtype=torch.bool))))
    assert (torch.allclose(both[:8], kept, atol=1e-5) and not torch.allclose(both[8:], kept,
        atol=1e-3))
    kept.square().mean().backward()
    assert model.image.context_embedder.weight.grad.abs().sum() > 0


# The command

def test_command(tmp_path, capsys):
    out = str(tmp_path/'e')
    assert (align4gen_text(['--data', 'digits', '--weights', 'random', '--out', out, '--words', '8',
        '--dry_run']) == 0)
    assert ('11 captions to embed, 0 are there' in capsys.readouterr().out
        and not (tmp_path/'e').exists())
    csv_of(tmp_path/'c.csv', [('a', 'a dog'), ('b', 'a dog'), ('c', 'a cat')])
    assert (align4gen_text(['--captions', str(tmp_path/'c.csv'), '--weights', 'random', '--out',
        out, '--words', '8']) == 0)
    assert (align4gen_text(['--caption', 'a  bird', '--weights', 'random', '--out', out, '--words',
        '8']) == 0)
    assert PromptTable(out).captions == ['', 'a dog', 'a cat', 'a bird']
    for argv, said in ((['--data', 'videos'], 'needs --root'), (['--caption', 'x', '--words',
            '600'], '1 to 512'), (['--caption', 'x', '--weights', 'random', '--out', out],
            'was made with words=8'), ([], 'which captions')):
        with pytest.raises(SystemExit): align4gen_text(argv)
        assert said in capsys.readouterr().err.splitlines()[-1]
