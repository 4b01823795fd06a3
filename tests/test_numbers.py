"""Numbers in prose: computed beside it, read from the record, or asserted here.

Times, shares, sizes and factors in markdown cells ("20 minutes", "40%", "1.6 GB") stand in
an output of the same page, in a row of `claims` below with the expression that gives the
number, or in `idioms`, which claim nothing. A lab's `about`, which its help prints, is
prose as well."""
import csv, json, re
from pathlib import Path

import pytest

root = Path(__file__).resolve().parent.parent
pages = {p.stem: p for p in sorted((root/'nbs').rglob('*.ipynb')) if p.parts[-2][0] not in '._'}
cells = {n: json.loads(p.read_text(encoding='utf-8'))['cells'] for n, p in pages.items()}

counts = 'an? half|half an?|one|two|three|four|five|six|seven|eight|nine|ten|twelve|twenty|thirty|forty|fifty|sixty|an'
words = r'(?:seconds?|minutes?|hours?|days?|per ?cent)\b'
signs = r'(?:s|ms|GB|MB|GiB|MiB|[TGP]FLOPs?|dB)\b|%|x\b(?! ?\d)'
amount = re.compile(rf'(?!\d{{4}}s)(?<![\w.^$-])\d[\d,.]*[ -]?(?:{words}|{signs})(?!\w)|\b(?:{counts})[ -]{words}')


def prose(cell):
    "Markdown without code, formulas and addresses of links."
    text = re.sub(r'```.*?```', '', ''.join(cell['source']), flags=re.S)
    text = re.sub(r'\$\$.*?\$\$', '', text, flags=re.S)
    return re.sub(r'\]\([^)]*\)', ']', re.sub(r'`[^`\n]*`|\$[^$]*\$', '', text))


def shown(name):
    "Everything that the cells of a page print."
    found = []
    for c in cells[name]:
        for o in c.get('outputs', []):
            data = o.get('data', {})
            said = o.get('text') or data.get('text/markdown') or data.get('text/plain') or ''
            found.append(''.join(said))
    return re.sub(r'\s+', ' ', ' '.join(found))


def everything(name):
    "All the words of a page: prose, code and outputs."
    return re.sub(r'\s+', ' ', ' '.join(''.join(c['source']) for c in cells[name]) + ' ' + shown(name))


def record(path):
    "A table of results/ as dicts."
    with open(root/'results'/path, newline='', encoding='utf-8') as f: return [*csv.DictReader(f)]


def cards_minutes():
    from align4gen.weights import shipped
    names = ['vae_mini', 'mini_infonce', 'mini_mae', 'mini_supervised', 'mini_videomae', 'mini_croco',
        'mini_dit', 'mini_image_dit']
    return sum(shipped(n)[1]['minutes'] for n in names)


def flops(size, batch, **more):
    from align4gen.cost import step_flops
    return {k: v/1e12 for k, v in step_flops(size, batch, num_classes=101, vae='sd14',
        teachers='dinov2_b,sam2_hiera_l', **more).items()}


def config(**more):
    from align4gen.config import TrainConfig
    return TrainConfig(**more)


def preset(name):
    from align4gen.config import preset as find
    return find(name)


def default_of(function, name):
    import inspect
    return inspect.signature(function).parameters[name].default


def prompts(name):
    from align4gen import prompts as module
    return getattr(module, name)


def mfu():
    from align4gen.cost import hours
    return default_of(hours, 'mfu')


def internvl():
    from align4gen.encoders import find, measure
    cost = {n: measure(find(n).build, find(n).size)[1] for n in ('internvit', 'dinov2_b')}
    return cost['internvit']/cost['dinov2_b']


# page, words on it, whether they are true
claims = [
    ('prompts', '256 MB', lambda: default_of(prompts('embed_captions'), 'shard_bytes') == 2**28),
    ('cost', '40%', lambda: mfu() == .4),
    ('frechet', '1.6 GB', lambda: 100_000*2048*8/1e9 == pytest.approx(1.6, abs=.05)),
    ('frechet', '0.05%', lambda: 2048/2047 - 1 == pytest.approx(5e-4, rel=.05)),
    ('frechet', '1.6%', lambda: 64/63 - 1 == pytest.approx(.016, rel=.02)),
    ('teachers', '3.5', lambda: internvl() == pytest.approx(3.5, abs=.05)),
    ('06_align', '2', lambda: config().gamma == 2.),
]

# These words claim nothing that could be measured
idioms = {
    'core': ['an hour'],                                 # "not after an hour"
    'index': ['ten minutes', 'Ten minutes'],             # a title
    'evidence': ['ten minutes', '12 hours'],             # the same; a budget
    'results': ['one day'],
    'teachers': ['5x'], 'paper_tables': ['5x', '12.3%', '18.7%'],      # quoted
    'commands': ['two seconds'],                         # the cell below measures it
    'run': ['half a minute'],                            # what clouds promise
    'containers': ['1 GB'],                              # of OpenDML's chunks
    'train_videodit': ['80 GB'],                         # a kind of GPU
    'faults': ['100 dB', 'an FVD'], 'reconstruction': ['100 dB'],     # a cap, tested in 09_metrics
}


@pytest.mark.parametrize('name', [*pages])
def test_amounts_are_known(name):
    "Every time, share, size or factor in prose has a source."
    known = [w for p, w, _ in claims if p == name] + idioms.get(name, [])
    outputs, found = shown(name), []
    for c in cells[name]:
        if c['cell_type'] != 'markdown': continue
        for m in amount.finditer(prose(c)):
            if m[0] in outputs or any(m[0] in w or w in m[0] for w in known): continue
            text = prose(c)
            found.append((c['id'], text[max(0, m.start() - 40):m.end() + 30]))
    assert found == [], 'compute the number beside it, or add it to `claims`'


@pytest.mark.parametrize('page, words, true', claims, ids=[f'{p}: {w}' for p, w, _ in claims])
def test_claims(page, words, true):
    assert words in everything(page), 'the sentence is gone: take its row out'
    assert true()


# Sentences that were wrong once: page, pattern that must not come back, why
wrong_once = [
    ('06_align', r'0\.5 is our default', 'gamma is 2 in TrainConfig'),
    ('06_align', r'Table 2 \| V-DiT-L \| depth 8, spatial', 'its caption says depth 8, and no more'),
    ('miniatures', r'20 minutes|about twenty minutes|\bseven models', 'the cards add up to 62'),
    ('autoencoders', r'50 minutes|an hour and a half', 'runs.csv adds up to more'),
    ('01_objectives', r'right moon', 'it is the moon asked for, and lies to the left'),
    ('04_encoders', r'never teaches|never for alignment', 'it teaches one arm of the evidence lab'),
    ('04_encoders', r'sec\. 3\.3', 'sections of the paper have no such numbers'),
    ('evaluate', r'Align4Gen[^.]*App\. C[^.]*(FVD|protocol)', 'the protocol is in App. A'),
    ('10_dpvae', r'second row', 'it is the third'),
    ('many_gpus', r'cost more than a V-DiT', 'VAE and teachers are 160, V-DiT-L 182 TFLOP a step'),
    ('config', r'three papers', 'there are two'),
    ('07_sample', r'all at \$?g ?= ?1|papers\' tables use', 'VideoDiT names no number of steps'),
    ('contribute', r'align_depth', 'the option is align_block'),
    ('core', r'about 50 minutes|about 40 minutes', 'no record says so'),
]


@pytest.mark.parametrize('page, pattern, why', wrong_once, ids=[f'{p}: {t}' for p, t, _ in wrong_once])
def test_mended(page, pattern, why):
    found = re.search(pattern, everything(page))
    assert not found, f'{found[0]!r}: {why}'


# Abouts of labs

def abouts():
    specs = json.loads((root/'align4gen/commands.json').read_text(encoding='utf-8'))
    return {n.split()[1]: s['about'] for n, s in specs.items() if n.startswith('align4gen_lab ')}


measured = {'miniatures': cards_minutes}


@pytest.mark.parametrize('name', [*abouts()])
def test_labs_say_what_the_record_says(name):
    "A lab's duration is that of its record, within a factor 1.5, or is not given."
    said = re.search(r'about (an|\d+|two|three|four|five) (hours?|minutes?)', abouts()[name])
    if not said: return
    if name not in measured: pytest.fail(f'{name}: {said[0]}: no record of it')
    number = dict(an=1, two=2, three=3, four=4, five=5).get(said[1]) or int(said[1])
    minutes = number*(60 if said[2].startswith('hour') else 1)
    assert minutes/1.5 < measured[name]() < minutes*1.5


# Statements about the papers, which no code can check: they must be on the page

stated = [
    ('teachers', r'approximately 5x slower[^.]*[^;]*3\.5 times', 'InternVL: 5x in the paper, 3.5x here'),
    ('teachers', r'22(nd)?[^.]*(index|counted)', 'how "block 22" is read'),
    ('paper_tables', r'12\.3 ?%[^.]*', 'figures of a summary that the paper does not have'),
    ('paper_tables', r'18\.7 ?%', 'the same'),
    ('paper_tables', r'Kinetics', 'the same'),
]


@pytest.mark.parametrize('page, pattern, what', stated, ids=[f'{p}: {w}' for p, _, w in stated])
def test_stated(page, pattern, what):
    assert re.search(pattern, everything(page)), what
