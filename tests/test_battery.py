"""Wrong input, over the public names and all commands: it works, or one line names the argument and the mend.

Each row of the table is (what is wrong, a call, words of the line; none: it should work). With -s the table is
printed; $ALIGN4GEN_BATTERY names a CSV file to write it to."""
import json, os, re, shutil, signal, subprocess, warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np, pytest, torch
from safetensors.torch import load_file, save_file

from align4gen import (align, aligner, analysis, clips, clusters, config, cost, data, datasets, dpvae, encoders,
    evaluate, files, frechet, metrics, objectives, plugins, prompts, reconstruction, results, run, sample,
    sample_folder, shards, train, train_dpvae, vae, vdit, video, videodit, weights)
from align4gen.cache import CachedClips, CacheSpec, build
from align4gen.commands import main
from align4gen.labs import core, evidence, miniatures

nan = float('nan')
table = []
tiny = dict(clips=16, batch=4, steps=2, teachers='mini_random', mapper_hidden=8, log_every=1, sample_every=0,
    sample_steps=1, judge='', compile='no', progress=False)


class Line(Exception):
    "What a command says, and its exit status."


def command(line, *more):
    "Run a command in this process; Line holds what it printed on stderr if it did not end with 0."
    import contextlib, io
    words = [w for m in more for w in (m.split(' ') if str(m).startswith('--') else [str(m)])]
    name, *argv = [*line.split(), *words]
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try: status = main(argv, name)
        except SystemExit as e: status = e.code
    bar = re.compile(r'.*(\d+%\||Warning: |^  warn)|\s*$')
    lines = [l for l in said.getvalue().replace('\r', '\n').splitlines() if not bar.match(l)]
    if status: raise Line(f'exit {status}: ' + '\n'.join(lines))


def hangs(number, frame): raise SystemError('it hangs')


def attempt(call, world):
    "(what happened, message)."
    signal.signal(signal.SIGALRM, hangs)
    signal.alarm(30)
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter('always')
            call(world)
    except (Line, ValueError, TypeError, OSError, IndexError, RuntimeError) as e:
        return type(e).__name__, str(e)
    finally: signal.alarm(0)
    said = [str(w.message) for w in heard if issubclass(w.category, UserWarning)]
    return ('warned', said[0]) if said else ('worked', '')


# What the calls use

@pytest.fixture(scope='module')
def world(tmp_path_factory):
    "Small things that are sound: clips, films, a run, a cache, samples; and a fresh folder for each case."
    w, home = SimpleNamespace(), tmp_path_factory.mktemp('world')
    digits = data.MovingDigits('test', n=8)
    w.bytes, w.labels = digits.videos, digits.labels
    w.clips = video.to_float(w.bytes)
    w.home, w.films = home, home/'films'
    for i, v in enumerate(w.bytes): video.write_video(w.films/'ab'[i % 2]/f'{i}.mp4', v.repeat(3, 1, 1, 1), scale=2)
    w.film = w.films/'a'/'0.mp4'
    w.pictures = home/'pictures'; w.pictures.mkdir()
    w.run = shutil.copytree(run.example_run().path, home/'run')
    w.begun = train.train(**tiny | dict(out=str(home/'runs'), name='begun', checkpoint_every=1)).path
    w.cache = home/'cache'
    build(datasets.DigitClips('train', 16), w.cache, teachers=['mini_random'], grid=(4, 4), progress=False)
    w.samples = sample_folder.sample_to(home/'samples', run.Run(w.run), 2, format='npy', steps=1, progress=False)
    w.result = home/'result.json'
    metrics.Result('psnr', 1.).save(w.result)
    w.model = vdit.vdit('mini', input_size=4, frames=6, num_classes=10).eval()
    w.z, w.t, w.y = torch.randn(2, 6, 4, 4, 4), torch.rand(2), torch.tensor([1, 2])
    w.vae, w.teacher = vae.load('mini'), encoders.load('mini_random')
    w.torn = home/'torn.safetensors'; w.torn.write_bytes(b'\x10' * 40)
    w.other = home/'other.safetensors'; save_file(dict(w=torch.zeros(3)), w.other)
    w.other.with_suffix('.json').write_text('{}')
    w.table = home/'captions.csv'; w.table.write_text('file,caption\na/0.mp4,a film\n')
    w.digits = data.MovingDigits('train', n=4)
    return w


@pytest.fixture
def fresh(world, tmp_path):
    world.new = tmp_path
    return world


def copy(w, what): return Path(shutil.copytree(getattr(w, what), w.new/what))


def changed(w, what, file, text):
    "A copy of a folder in which one file holds something else."
    folder = copy(w, what)
    for path in folder.glob(file):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def without(w, what, file):
    folder = copy(w, what)
    for path in folder.glob(file): shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


def renamed_film(w, name):
    path = os.fsdecode(os.fsencode(str(w.new)) + b'/' + name)
    shutil.copy(w.film, path)
    return Path(path)


def config_of(w, **changes):
    "A copy of the run whose config says something else."
    folder = copy(w, 'run')
    said = json.loads((folder/'config.json').read_text()) | changes
    (folder/'config.json').write_text(json.dumps(said))
    return folder


def aligned(w, **how): return aligner.Aligner(w.model, block=2, hidden=8, **how)


def loss_of(w, clip, **how):
    "A forward pass, and the alignment loss of these clips."
    with aligned(w, **how) as a:
        w.model(w.z, w.t, w.y)
        return a(clip)


def metric_of(name, *updates, **options):
    m = metrics.load(name, **options)
    for u in updates: m.update(*u) if isinstance(u, tuple) else m.update(u)
    return m.compute()


def trained(w, **how): return train.train(**tiny | dict(out=str(w.new), name='run') | how)


# The cases: what is wrong, the call, words of the line that it gives ('': it works)

cases = []
def case(group): return lambda rows: cases.extend((f'{group}: {n}', call, words) for n, call, words in rows)


case('data')([
    ('no clips', lambda w: data.MovingDigits(n=0), 'n and frames.*0'),
    ('less than none', lambda w: data.MovingDigits(n=-3), 'n and frames.*-3'),
    ('half a clip', lambda w: data.MovingDigits(n=1.5), 'integer'),
    ('an unknown split', lambda w: data.MovingDigits(split='trian'), "split.*'trian'"),
    ('frames of 8 pixels', lambda w: data.MovingDigits(n=2, size=8), 'size.*8'),
    ('no frames', lambda w: data.MovingDigits(n=2, frames=0), 'frames'),
    ('an unknown background', lambda w: data.MovingDigits(n=2, background='foto'), "background.*'foto'"),
    ('a negative seed', lambda w: data.MovingDigits(n=2, seed=-1), 'seed'),
    ('a clip that is not there', lambda w: w.digits[9], 'clip 9 of 4|9'),
    ('an odd side', lambda w: data.MovingDigits(n=2, size=17), ''),
])

case('data sets')([
    ('a misspelled name', lambda w: datasets.load('ucf11', w.films), "did you mean 'ucf101'"),
    ('no folder', lambda w: datasets.load('ucf101'), "'ucf101' needs root"),
    ('a folder that is not there', lambda w: datasets.load('videos', w.new/'no'), 'there is no .*no'),
    ('an empty folder', lambda w: datasets.load('videos', w.new), 'no train clip below'),
    ('a file as folder', lambda w: datasets.load('videos', w.film), '0.mp4'),
    ('no lists of UCF-101', lambda w: datasets.load('ucf101', w.films), 'trainlist01.txt'),
    ('no frames', lambda w: datasets.load('videos', w.films, frames=0), 'frames'),
    ('no interval', lambda w: datasets.load('videos', w.films, interval=0), 'interval'),
    ('no resolution', lambda w: datasets.load('videos', w.films, resolution=0), 'resolution'),
    ('half a resolution', lambda w: datasets.load('videos', w.films, resolution=16.5), 'resolution.*16.5'),
    ('an unknown split', lambda w: datasets.load('videos', w.films, split='tset'), "split.*'tset'"),
    ('digits of 8 pixels', lambda w: datasets.load('digits', resolution=8), 'resolution.*8'),
    ('no digits', lambda w: datasets.load('digits', clips=0), 'clips|n '),
    ('a clip that is not there', lambda w: datasets.load('videos', w.films, frames=4)[99], '99 of 8'),
    ('files too short', lambda w: datasets.load('videos', w.films, frames=99)[0], 'too short|no .*clip'),
    ('an odd side', lambda w: datasets.load('videos', w.films, frames=4, interval=1, resolution=15)[0], ''),
    ('a name that is no UTF-8', lambda w: (renamed_film(w, b'\xff.mp4'),
        datasets.load('videos', w.new, frames=4, interval=1)[0]), ''),
    ('a CSV of other columns', lambda w: ((w.new/'a.csv').write_text('a,b\n1,2\n'),
        datasets.load('kinetics', w.new/'a.csv')), 'columns are'),
])

case('video')([
    ('no such file', lambda w: video.read_video(w.new/'no.mp4'), 'no.mp4'),
    ('a Windows path', lambda w: video.read_video('C:\\clips\\a.mp4'), r'a\.mp4'),
    ('a folder', lambda w: video.read_video(w.new), 'holds no frame'),
    ('an empty file', lambda w: (w.new/'a.mp4').write_bytes(b'') or video.read_video(w.new/'a.mp4'), 'a.mp4'),
    ('text', lambda w: (w.new/'a.mp4').write_text('film') and video.read_video(w.new/'a.mp4'), 'a.mp4'),
    ('a cut file', lambda w: (w.new/'a.mp4').write_bytes(w.film.read_bytes()[:900]) and
        video.read_video(w.new/'a.mp4'), 'a.mp4'),
    ('a name that is no UTF-8', lambda w: video.read_video(renamed_film(w, b'\xe4\xff.mp4')), ''),
    ('a name with %d', lambda w: video.read_video(renamed_film(w, b'a%d b.mp4')), ''),
    ('a clip of no frames', lambda w: video.read_clip(w.film, 0), 'frames'),
    ('no interval', lambda w: video.read_clip(w.film, 4, 0), 'interval'),
    ('a place outside', lambda w: video.read_clip(w.film, 4, 1, at=2.), 'at'),
    ('a place that is no number', lambda w: video.read_clip(w.film, 4, 1, at=nan), 'at'),
    ('too short', lambda w: video.read_clip(w.film, 99, 1), 'too short'),
    ('no frames to choose from', lambda w: video.frame_indices(0), 'too short|total'),
    ('a picture that is text', lambda w: (w.new/'a.png').write_text('x') and video.read_image(w.new/'a.png'), 'a.png'),
    ('no such picture', lambda w: video.read_image(w.new/'a.png'), 'a.png'),
    ('write four axes too few', lambda w: video.write_video(w.new/'a.mp4', w.clips[0, 0]), r't (c|3) h w'),
    ('write five axes', lambda w: video.write_video(w.new/'a.mp4', w.clips), r't (c|3) h w'),
    ('write two channels', lambda w: video.write_video(w.new/'a.mp4', w.clips[0, :, :2]), 'channel|3'),
    ('write nothing', lambda w: video.write_video(w.new/'a.mp4', w.clips[0, :0]), 'videos are'),
    ('write NaN', lambda w: video.write_video(w.new/'a.mp4', w.clips[0]*nan), 'NaN|finite|no number'),
    ('write an unknown suffix', lambda w: video.write_video(w.new/'a.xyz', w.clips[0]), 'xyz'),
    ('write at 0 fps', lambda w: video.write_video(w.new/'a.mp4', w.clips[0], fps=0), 'fps'),
    ('write at -1 fps', lambda w: video.write_video(w.new/'a.gif', w.clips[0], fps=-1), 'fps'),
    ('write at no scale', lambda w: video.write_video(w.new/'a.mp4', w.clips[0], scale=0), 'scale'),
    ('write an odd size', lambda w: video.write_video(w.new/'a.mp4', w.clips[0, :, :, :15, :13]), ''),
    ('write into a file', lambda w: (w.new/'f').write_text('') or video.write_video(w.new/'f'/'a.mp4', w.clips[0]), 'f'),
    ('bytes as floats', lambda w: video.to_float(w.clips), 'uint8'),
    ('floats as bytes', lambda w: video.to_uint8(w.bytes), 'float'),
    ('bytes of NaN', lambda w: video.to_uint8(w.clips*nan), 'NaN|finite|no number'),
    ('show one clip', lambda w: video.show_videos(w.clips[0]), ''),
    ('show NaN', lambda w: video.show_videos(w.clips*nan), 'NaN|finite|no number'),
    ('a row outside', lambda w: video.show_xt(w.clips[0], row=99), 'row'),
    ('a grid of three axes', lambda w: video.video_grid(w.clips[0, 0]), 'n t c h w'),
    ('move at 0 fps', lambda w: video.animate(w.clips, fps=0), 'fps'),
])

case('VAE')([
    ('a misspelled name', lambda w: vae.load('mni'), "did you mean 'mini'"),
    ('no weights', lambda w: vae.load('sd14'), '--weights sd14=PATH'),
    ('weights that are not there', lambda w: vae.load('sd14', w.new/'no'), 'sd14.*no'),
    ('torn weights', lambda w: vae.load('mini', w.torn), 'torn.safetensors'),
    ('weights of another model', lambda w: vae.load('mini', w.other), 'does not fit'),
    ('the shape of an unknown one', lambda w: vae.latent_shape('mni'), "did you mean 'mini'"),
    ('a clip without batch', lambda w: w.vae.encode(w.clips[0]), 'b t'),
    ('bytes', lambda w: w.vae.encode(w.bytes), 'uint8'),
    ('one channel', lambda w: w.vae.encode(w.clips[:, :, :1]), 'b t 3 h w|channel'),
    ('NaN', lambda w: w.vae.encode(w.clips*nan), 'NaN|finite|no number'),
    ('0 to 255', lambda w: w.vae.encode(w.bytes.float()), r'\[-1, 1\]'),
    ('an odd side', lambda w: w.vae.encode(w.clips[..., :15, :13]), 'multiple|15'),
    ('no frames', lambda w: w.vae.encode(w.clips[:, :0]), 'an empty batch'),
    ('latents of three channels', lambda w: w.vae.decode(w.z[:, :, :3]), 'channel'),
    ('latents without batch', lambda w: w.vae.decode(w.z[0]), 'b t'),
])

case('encoders')([
    ('a misspelled name', lambda w: encoders.load('mini_infonse'), "did you mean 'mini_infonce'"),
    ('a family', lambda w: encoders.load('dinov2'), 'dinov2_'),
    ('no weights', lambda w: encoders.load('dinov2_b'), '--weights dinov2_b=PATH'),
    ('weights that are not there', lambda w: encoders.load('dinov2_b', w.new/'no.safetensors'), 'no.safetensors'),
    ('torn weights', lambda w: encoders.load('mini_mae', w.torn), 'mini_mae.*torn.safetensors'),
    ('weights of another model', lambda w: encoders.load('mini_mae', w.other), 'mini_mae.*does not fit'),
    ('none', lambda w: encoders.load_all([]), ''),
    ('time of a frame encoder', lambda w: encoders.load('mini_mae', time='slide'), 'time'),
    ('a clip without batch', lambda w: w.teacher(w.clips[0]), 'b t'),
    ('bytes', lambda w: w.teacher(w.bytes), 'uint8'),
    ('one channel', lambda w: w.teacher(w.clips[:, :, :1]), 'b t 3 h w|channel'),
    ('NaN', lambda w: w.teacher(w.clips*nan), 'NaN|finite|no number'),
    ('0 to 255', lambda w: w.teacher(w.bytes.float()), r'\[-1, 1\]'),
    ('no frames', lambda w: w.teacher(w.clips[:, :0]), 'an empty batch'),
    ('an odd side', lambda w: w.teacher(w.clips[..., :15, :13]), ''),
    ('labels of other clips', lambda w: encoders.accuracy(w.clips, w.labels[:3]), '3|labels'),
    ('registered twice', lambda w: encoders.register(encoders.registry['mini_mae']), 'mini_mae'),
])

case('objectives')([
    ('a misspelled name', lambda w: objectives.objective('flo'), "did you mean 'flow'"),
    ('an unknown time', lambda w: objectives.Flow(time='logit'), "time.*'logit'"),
    ('no levels', lambda w: objectives.Diffusion(levels=0), 'levels'),
    ('no steps', lambda w: objectives.Flow().sample(w.model, w.z, 0, w.y), 'steps'),
    ('half a step', lambda w: objectives.Flow().sample(w.model, w.z, 1.5, w.y), 'steps'),
    ('a misspelled sampler', lambda w: objectives.Flow().sample(w.model, w.z, 2, w.y, sampler='eulr'), "did you mean 'euler'"),
    ('more steps than levels', lambda w: objectives.Diffusion(10).sample(w.model, w.z, 20, w.y), 'steps'),
    ('one step of Heun', lambda w: objectives.Flow().sample(w.model, w.z, 1, w.y, sampler='heun'), ''),
])

case('V-DiT')([
    ('a misspelled size', lambda w: vdit.vdit('M'), "'M'"),
    ('heads that do not divide', lambda w: vdit.vdit('mini', heads=5), 'heads'),
    ('an input that is no multiple', lambda w: vdit.vdit('mini', input_size=5, patch=2), 'input_size|patch'),
    ('no frames', lambda w: vdit.vdit('mini', frames=0), 'frames'),
    ('no channels', lambda w: vdit.vdit('mini', in_channels=0), 'in_channels'),
    ('a misspelled option', lambda w: vdit.vdit('mini', dpth=2), 'dpth'),
    ('four axes', lambda w: w.model(w.z[0], w.t, w.y), 'b t c h w'),
    ('three channels', lambda w: w.model(w.z[:, :, :3], w.t, w.y), 'channel|b t c h w'),
    ('another side', lambda w: w.model(w.z[..., :2, :2], w.t, w.y), 'input_size|b t c h w'),
    ('more frames', lambda w: w.model(w.z.repeat(1, 2, 1, 1, 1), w.t, w.y), 'b t c h w'),
    ('whole numbers', lambda w: w.model(w.z.long(), w.t, w.y), 'float'),
    ('times of other clips', lambda w: w.model(w.z, torch.rand(3), w.y), 't '),
    ('labels of other clips', lambda w: w.model(w.z, w.t, torch.tensor([1, 2, 3])), 'y|label'),
    ('a class too many', lambda w: w.model(w.z, w.t, torch.tensor([1, 11])), '11'),
    ('labels that are fractions', lambda w: w.model(w.z, w.t, torch.rand(2)), 'y|label'),
    ('no labels', lambda w: w.model(w.z, w.t), ''),
    ('a block that is not there', lambda w: w.model(w.z, w.t, w.y, return_tokens=(99,)), '99'),
    ('no Latte', lambda w: vdit.load_latte({}, 3), 'missing'),
    ('heads of another Latte', lambda w: vdit.load_latte(w.model.state_dict(), 5), 'heads|5'),
])

case('alignment')([
    ('nothing to fuse', lambda w: align.fuse([]), 'no |feature|at least'),
    ('a misspelled mode', lambda w: align.fuse([torch.rand(1, 2, 4, 3)], 'cat'), "'concat'"),
    ('features of two grids', lambda w: align.fuse([torch.rand(1, 2, 4, 3), torch.rand(1, 2, 9, 3)]), '4.*9'),
    ('features of two widths', lambda w: align.align_loss(torch.rand(1, 2, 4, 3), torch.rand(1, 2, 4, 5)), '3.*5'),
    ('a mapper of no layers', lambda w: align.Mapper(4, 4, layers=0), 'layer'),
    ('a grid of other tokens', lambda w: align.match_grid(torch.rand(1, 2, 9, 3), (2, 2), (4, 4)), '9'),
    ('a misspelled mode of mappers', lambda w: align.Alignment(8, [4], 0, 'cat'), "'concat'"),
])

case('Aligner')([
    ('a misspelled tap', lambda w: aligner.Aligner(w.model, 'blocks.99', hidden=8), 'blocks'),
    ('a wrong layout', lambda w: aligner.Aligner(w.model, 'blocks.1', 'b n d', hidden=8), 'layout'),
    ('a misspelled encoder', lambda w: aligned(w, encoders='mini_ma'), "did you mean 'mini_mae'"),
    ('a model it does not know', lambda w: aligner.Aligner(torch.nn.Linear(2, 2), block=1), 'Linear.*tap='),
    ('gamma below 0', lambda w: aligned(w, gamma=-1.), 'gamma'),
    ('gamma NaN', lambda w: aligned(w, gamma=nan), 'gamma'),
    ('a misspelled mode', lambda w: aligned(w, mode='cat'), "'concat'"),
    ('an unknown rule of time', lambda w: aligned(w, time='every 4'), "'every 4'"),
    ('no forward before', lambda w: aligned(w)(w.clips[:2]), 'run the model'),
    ('clips in [0, 1]', lambda w: loss_of(w, w.clips[:2]/2 + .5), r'\[0, 1\]'),
    ('clips in [0, 255]', lambda w: loss_of(w, w.bytes[:2].float()), r'\[-1, 1\]'),
    ('bytes', lambda w: loss_of(w, w.bytes[:2]), 'uint8'),
    ('NaN', lambda w: loss_of(w, w.clips[:2]*nan), 'NaN|finite|no number'),
    ('b c t h w', lambda w: loss_of(w, w.clips[:2].transpose(1, 2)), 'b t'),
    ('other clips', lambda w: loss_of(w, w.clips[:3]), 'batch|3'),
    ('longer clips', lambda w: loss_of(w, w.clips[:2].repeat(1, 3, 1, 1, 1)[:, :17]), 'time='),
    ('no encoders', lambda w: aligned(w, encoders=[]), 'encoders'),
    ('no folder', lambda w: aligner.Aligner.load(w.new/'no', w.model), 'no'),
    ('a torn aligner.json', lambda w: (aligned(w).save(w.new), (w.new/'aligner.json').write_text('{'),
        aligner.Aligner.load(w.new, w.model)), 'aligner.json'),
    ('torn mappers', lambda w: (aligned(w).save(w.new), (w.new/'mappers.safetensors').write_bytes(b'1'*20),
        aligner.Aligner.load(w.new, w.model)), 'mappers.safetensors'),
])

feats = torch.randn(2, 3, 16, 8)
case('analysis')([
    ('one cluster', lambda w: analysis.iicr(feats, 1), 'k'),
    ('more clusters than tokens', lambda w: analysis.iicr(feats, 99), '99'),
    ('two axes', lambda w: analysis.iicr(feats[0, 0]), 'b t n d'),
    ('NaN', lambda w: analysis.iicr(feats*nan, 2), 'NaN|finite|no number'),
    ('an unknown sigma', lambda w: analysis.iicr(feats, 2, sigma='std'), "sigma.*'std'"),
    ('no numbers of clusters', lambda w: analysis.iicr_curve(feats, []), r'k=\[\]'),
    ('a grid that is no square', lambda w: analysis.delta_freq(feats[:, :, :15]), 'grid'),
    ('a grid of other tokens', lambda w: analysis.delta_freq(feats, (3, 4)), 'grid|16'),
    ('frequencies of NaN', lambda w: analysis.delta_freq(feats*nan), 'NaN|finite|no number'),
    ('an unknown background', lambda w: analysis.pca_frames(feats, background='no'), "background.*'no'"),
    ('K-means of four axes', lambda w: clusters.kmeans(feats, 2), 'b n d'),
    ('K-means without a start', lambda w: clusters.kmeans(feats[0], 2, starts=0), 'starts'),
    ('one encoder is no pair', lambda w: analysis.complementary_pair([]), 'two|2'),
    ('videos of four axes', lambda w: analysis.measure(w.teacher, w.bytes[0]), 'b t|n t|5 axes'),
])

case('metrics')([
    ('a misspelled name', lambda w: metrics.load('fdv'), "'fvd'"),
    ('no weights', lambda w: metrics.load('fvd'), 'fvd.*--weights|weights.*fvd'),
    ('four axes', lambda w: metric_of('fvd-mini', w.clips[0]), '5 axes'),
    ('bytes', lambda w: metric_of('fvd-mini', w.bytes), 'uint8'),
    ('NaN', lambda w: metric_of('fvd-mini', w.clips*nan), 'NaN'),
    ('0 to 255', lambda w: metric_of('fvd-mini', w.bytes.float()), r'\[-1, 1\]'),
    ('0 to 1', lambda w: metric_of('is-mini', w.clips/2 + .5, splits=2), r'\[0, 1\]'),
    ('no videos', lambda w: metric_of('is-mini', w.clips[:0]), 'no videos'),
    ('nothing seen', lambda w: metric_of('is-mini'), 'no |update'),
    ('one video', lambda w: metric_of('fvd-mini', w.clips[:1]), 'real|two|2'),
    ('two sizes', lambda w: metric_of('is-mini', w.clips, w.clips[..., :8, :8]), '16.*8'),
    ('pairs of two sizes', lambda w: metrics.psnr(w.clips, w.clips[..., :8, :8]), '16.*8'),
    ('pairs of two ranges', lambda w: metrics.psnr(w.clips, w.bytes), 'uint8'),
    ('frames too small', lambda w: metrics.ssim(w.clips[..., :5, :5], w.clips[..., :5, :5]), '5x5'),
    ('an unknown option', lambda w: metrics.load('is-mini', splitts=3), 'splitts'),
    ('features of two widths', lambda w: frechet.frechet_distance(torch.rand(9, 3), torch.rand(9, 4)), '3.*4'),
    ('one feature', lambda w: frechet.frechet_distance(torch.rand(1, 3), torch.rand(9, 3)), '1|two'),
    ('features of NaN', lambda w: frechet.frechet_distance(torch.rand(9, 3)*nan, torch.rand(9, 3)), 'NaN|finite|no number'),
    ('an unknown divisor', lambda w: frechet.frechet_distance(torch.rand(9, 3), torch.rand(9, 3), 'n-2'), "'n-2'"),
])

small = dict(metrics='is-mini', options={'is-mini': dict(splits=2)}, progress=False, cache=False)
case('evaluate')([
    ('no metrics', lambda w: evaluate.evaluate(w.clips, metrics=''), 'metric'),
    ('nothing to compare with', lambda w: evaluate.evaluate(w.clips, metrics='fvd-mini'), 'real'),
    ('an empty folder', lambda w: evaluate.evaluate(w.new, **small), 'no video'),
    ('no folder', lambda w: evaluate.evaluate(w.new/'no', **small), 'no'),
    ('a Windows path', lambda w: evaluate.evaluate('C:\\samples', **small), 'samples'),
    ('more than there are', lambda w: evaluate.evaluate(w.films, n=99, **small), 'n=8'),
    ('no clips', lambda w: evaluate.evaluate(w.films, n=0, **small), 'n should be'),
    ('clips too long', lambda w: evaluate.evaluate(w.films, frames=99, **small), 'too short'),
    ('a torn manifest', lambda w: evaluate.evaluate(changed(w, 'samples', 'manifest.json', '{'), **small), 'manifest.json'),
    ('a manifest of somebody else', lambda w: evaluate.evaluate(changed(w, 'samples', 'manifest.json',
        '{"files": 3}'), **small), 'manifest.json'),
    ('a torn array', lambda w: evaluate.evaluate(changed(w, 'samples', '00000.npy', b'x'), **small), '00000.npy'),
    ('a video lost', lambda w: evaluate.evaluate(without(w, 'samples', '00000.npy'), **small), '00000.npy|1 of'),
    ('films of two sizes', lambda w: (copy(w, 'films'), video.write_video(w.new/'films'/'a'/'1.mp4',
        w.bytes[0].repeat(3, 1, 1, 1), scale=3), evaluate.evaluate(w.new/'films', **small)), '--resolution'),
    ('sampling of a folder', lambda w: evaluate.evaluate(w.films, sampling=dict(steps=2), **small), 'sampling'),
    ('weights of no metric', lambda w: evaluate.evaluate(w.films, weights='fvd=a', **small), 'fvd'),
    ('a torn result', lambda w: ((w.new/'a.json').write_text('{'), results.load_results(w.new/'a.json')), 'a.json'),
])

case('sampling')([
    ('none', lambda w: sample.sample(w.model, 0), 'n and batch'),
    ('no steps', lambda w: sample.sample(w.model, 1, steps=0), 'steps'),
    ('a misspelled sampler', lambda w: sample.sample(w.model, 1, sampler='eulr'), "did you mean 'euler'"),
    ('guidance NaN', lambda w: sample.sample(w.model, 1, guidance=nan), 'guidance'),
    
    ('a class too many', lambda w: sample.sample(w.model, 1, 10), 'classes.*0 to 9'),
    ('fractions', lambda w: sample.sample(w.model, 1, [1.5]), 'classes.*integers'),
    ('classes of other videos', lambda w: sample.sample(w.model, 3, [1, 2]), '2 classes for 3'),
    ('captions', lambda w: sample.sample(w.model, 1, ['a cat']), 'prompts'),
    ('a checkpoint that is not there', lambda w: sample.sample(run.Run(w.run), 1, checkpoint=7), 'step 7'),
    ('a folder', lambda w: sample.sample(str(w.run), 1), 'Run'),
    ('no such precision', lambda w: sample.sample(w.model, 1, precision='fp8'), "'fp8'"),
    ('no such compilation', lambda w: sample.sample(w.model, 1, steps=1, compile='all'), "'all'"),
    ('no such device', lambda w: sample.sample(run.Run(w.run), 1, device='cuda:9'), 'cuda:9'),
    ('a misspelled option', lambda w: sample.sample(w.model, 1, step=2), 'step'),
    ('an unknown format', lambda w: sample_folder.sample_to(w.new, w.model, 1, format='avi'), "'avi'"),
    ('a folder of strangers', lambda w: ((w.new/'a.mp4').write_bytes(b''),
        sample_folder.sample_to(w.new, w.model, 1, steps=1)), 'manifest.json'),
    ('a folder of other videos', lambda w: sample_folder.sample_to(copy(w, 'samples'), run.Run(w.run), 2,
        format='npy', steps=2), 'steps: 1 there, 2 asked'),
    ('a torn manifest', lambda w: sample_folder.sample_to(changed(w, 'samples', 'manifest.json', '{'),
        run.Run(w.run), 2, format='npy', steps=1), 'manifest.json'),
    ('a manifest of somebody else', lambda w: sample_folder.sample_to(changed(w, 'samples', 'manifest.json', '[]'),
        run.Run(w.run), 2, format='npy', steps=1), 'manifest.json'),
    ('a video lost', lambda w: sample_folder.read_samples(without(w, 'samples', '00000.npy')), '00000.npy'),
    ('a torn video', lambda w: sample_folder.read_samples(changed(w, 'samples', '00000.npy', b'x')), '00000.npy'),
    ('no samples', lambda w: sample_folder.read_samples(w.new), 'manifest.json'),
    ('a moved run', lambda w: sample.sample(run.Run(copy(w, 'run').rename(w.new/'another name')), 1, steps=1,
        progress=False), ''),
])

case('runs')([
    ('no run', lambda w: run.Run(w.new), 'not a run'),
    ('a Windows path', lambda w: run.Run('runs\\digits'), 'not a run'),
    ('a misspelled example', lambda w: run.example_run('digit'), "no example run 'digit'"),
    ('a torn config', lambda w: run.Run(changed(w, 'run', 'config.json', '{"steps":')).config, 'config.json'),
    ('a config that is a list', lambda w: run.Run(changed(w, 'run', 'config.json', '[1]')).config, 'config.json'),
    ('a config that is no UTF-8', lambda w: run.Run(changed(w, 'run', 'config.json', b'\xff\xfe')).config, 'config.json'),
    ('a field of tomorrow', lambda w: run.Run(config_of(w, colour='red')).config, 'colour'),
    ('a kind of tomorrow', lambda w: run.Run(config_of(w, kind='gan')).config, 'gan'),
    ('a field out of range', lambda w: run.Run(config_of(w, gamma=-1)).config, 'gamma'),
    ('a field of another type', lambda w: run.Run(config_of(w, steps='many')).config, 'steps'),
    ('a plugin that is gone', lambda w: run.Run(config_of(w, plugins=['no.py'])).config, 'no.py'),
    ('a torn checkpoint', lambda w: run.Run(changed(w, 'run', 'checkpoints/*/ema.safetensors', b'x')).model(), 'damaged'),
    ('a lost checkpoint', lambda w: run.Run(without(w, 'run', 'checkpoints/*')).model(), 'no checkpoint'),
    ('a step that is not there', lambda w: run.Run(w.run).model(step=7), 'step 7'),
    ('last weights of a trimmed run', lambda w: run.Run(w.run).model(ema=False), 'trimmed'),
    ('a torn log', lambda w: run.Run(changed(w, 'run', 'log.csv', 'step,loss\n1,2\n2,')).log, ''),
    ('a log that is no table', lambda w: run.Run(changed(w, 'run', 'log.csv', 'step,loss\n1,abc\n')).log, 'log.csv'),
    ('a folder that holds a run', lambda w: run.Run(w.run).trim(w.begun), 'holds a run'),
])

case('config')([
    ('a misspelled preset', lambda w: config.make_config('digit'), "did you mean 'digits'"),
    ('a misspelled field', lambda w: config.make_config(gama=1), "did you mean 'gamma'"),
    ('words for a number', lambda w: config.make_config(gamma='much'), "gamma='much'"),
    ('NaN', lambda w: config.make_config(gamma=nan), 'gamma.*finite'),
    ('infinity', lambda w: config.make_config(lr=float('inf')), 'lr.*finite'),
    ('no batch', lambda w: config.make_config(batch=0), 'batch=0'),
    ('half a step', lambda w: config.make_config(steps=1.5), 'steps=1.5'),
    ('a list of teachers', lambda w: config.make_config(teachers=['mini_mae']), 'teachers'),
    ('a path as name', lambda w: config.make_config(name='a/b'), "name='a/b'"),
    ('pieces that do not divide', lambda w: config.make_config(batch=6, accumulate=4), 'accumulate=4'),
    ('a size of none', lambda w: config.make_config(size='XXL'), "size='XXL'"),
])

case('training')([
    ('a batch of more than all', lambda w: trained(w, clips=2), 'batch=4'),
    ('a misspelled teacher', lambda w: trained(w, teachers='mini_randm'), "did you mean 'mini_random'"),
    ('one teacher twice', lambda w: trained(w, teachers='mini_mae,mini_mae'), 'twice'),
    ('a teacher without weights', lambda w: trained(w, teachers='dinov2_b'), '--weights dinov2_b=PATH'),
    ('a misspelled VAE', lambda w: trained(w, vae='mni'), "did you mean 'mini'"),
    ('a misspelled data set', lambda w: trained(w, data='vidoes', root=str(w.films)), "did you mean 'videos'"),
    ('no folder', lambda w: trained(w, data='videos'), 'root'),
    ('a folder that is not there', lambda w: trained(w, data='videos', root='C:\\clips'), 'clips'),
    ('a block that is not there', lambda w: trained(w, align_block=99), 'align_block=99'),
    ('a resolution the VAE cannot', lambda w: trained(w, resolution=17), '17'),
    ('fewer classes than the data', lambda w: trained(w, classes=3), 'classes=3|0..3'),
    ('a start that is not there', lambda w: trained(w, start=str(w.new/'no')), 'start='),
    ('a torn start', lambda w: trained(w, start=str(w.torn)), 'start=.*cannot be read'),
    ('a start of another model', lambda w: trained(w, start=str(w.other)), 'start=.*does not fit'),
    ('a judge that is none', lambda w: trained(w, judge='mini_supervise'), "did you mean 'mini_supervised'"),
    ('a judge that names no classes', lambda w: trained(w, judge='mini_mae'), 'judge'),
    ('no cache', lambda w: trained(w, cache=str(w.new)), 'cache|manifest'),
    ('a cache of other frames', lambda w: trained(w, cache=str(w.cache), frames=4), 'frames'),
    ('a cache of other teachers', lambda w: trained(w, cache=str(w.cache), teachers='mini_mae'), 'mini_mae'),
    ('a cache with a torn index', lambda w: trained(w, cache=str(changed(w, 'cache', 'index.json', '{'))), 'index.json'),
    ('no run to resume', lambda w: train.train(resume=w.new), 'not a run'),
    ('options with resume', lambda w: train.train(resume=w.begun, gamma=1.), 'gamma'),
    ('a trimmed run to resume', lambda w: train.train(resume=copy(w, 'run'), progress=False), 'trimmed'),
    ('a torn checkpoint', lambda w: train.train(resume=changed(w, 'begun', 'checkpoints/step-0000002/*.safetensors',
        b'x'), progress=False), 'damaged.*going back'),
    ('every checkpoint torn', lambda w: train.train(resume=changed(w, 'begun', 'checkpoints/*/model.safetensors',
        b'x'), progress=False), 'damaged'),
    ('the same name twice', lambda w: (trained(w, steps=1), trained(w, steps=1), (w.new/'run-2').stat()), ''),
    ('a moved run', lambda w: train.train(resume=without(w, 'begun', 'checkpoints/step-0000002'), progress=False), ''),
])

case('cache')([
    ('a misspelled VAE', lambda w: CacheSpec('mni').load(), "did you mean 'mini'"),
    ('a misspelled teacher', lambda w: CacheSpec(teachers=['mini_ma']), "did you mean 'mini_mae'"),
    ('a teacher twice', lambda w: CacheSpec(teachers=['mini_mae']*2), 'twice'),
    ('a grid of nothing', lambda w: CacheSpec(grid=(0, 4)), 'grid'),
    ('an unknown dtype', lambda w: CacheSpec(dtype='fp8'), 'dtype'),
    ('weights of nobody', lambda w: CacheSpec(weights='dinov2_b=a'), 'dinov2_b'),
    ('no jobs', lambda w: build(w.digits, w.new, jobs=0), 'jobs'),
    ('a rank outside', lambda w: build(w.digits, w.new, rank=3), 'rank'),
    ('a folder of another cache', lambda w: build(datasets.DigitClips('train', 16), copy(w, 'cache'),
        teachers=['mini_mae'], progress=False), 'holds another cache'),
    ('no cache', lambda w: CachedClips(w.new), 'manifest|cache'),
    ('a torn manifest', lambda w: CachedClips(changed(w, 'cache', 'manifest.json', '{')), 'manifest.json'),
    ('a torn index', lambda w: CachedClips(changed(w, 'cache', 'index.json', '{"a"')), 'index.json'),
    ('an index without samples', lambda w: CachedClips(changed(w, 'cache', 'index.json', '{}')), 'index.json'),
    ('a lost shard', lambda w: CachedClips(without(w, 'cache', 'shard-*.tar'))[0], 'shard-'),
    ('a torn shard', lambda w: CachedClips(changed(w, 'cache', 'shard-*.tar', b'x'))[0], 'shard-'),
    ('a teacher it does not have', lambda w: CachedClips(w.cache, ['mini_mae']), 'mini_mae'),
    ('a clip that is not there', lambda w: CachedClips(w.cache)[99], '99 of 16'),
    ('a moved cache', lambda w: CachedClips(copy(w, 'cache').rename(w.new/'else where'))[0], ''),
])

class Canary:
    def __init__(self, path): self.path = path
    def __reduce__(self): return Path.touch, (self.path,)

case('weights')([
    ('no file', lambda w: weights.read_state(w.new/'a.safetensors', 'mine'), 'mine.*a.safetensors'),
    ('a folder of two', lambda w: (shutil.copy(w.other, w.new/'a.safetensors'), shutil.copy(w.other,
        w.new/'b.safetensors'), weights.read_state(w.new, 'mine')), '2 .safetensors'),
    ('a pickle', lambda w: (torch.save(dict(a=torch.ones(1)), w.new/'a.pt'), weights.read_state(w.new/'a.pt', 'mine')),
        'to_safetensors'),
    ('a pickle that does things', lambda w: (torch.save(dict(a=Canary(w.new/'sung')), w.new/'a.pt'),
        weights.to_safetensors(w.new/'a.pt')), 'nothing in it was run'),
    ('a pickle of no tensors', lambda w: (torch.save(dict(a=1), w.new/'a.pt'), weights.to_safetensors(w.new/'a.pt')),
        'no tensors'),
    ('a torn pickle', lambda w: ((w.new/'a.pt').write_bytes(b'PK\3\4abc'), weights.to_safetensors(w.new/'a.pt')), 'a.pt'),
    ('no pickle', lambda w: weights.to_safetensors(w.new/'a.pt'), 'a.pt'),
    ('half precision overflows', lambda w: weights.ship('a', dict(w=torch.full((2,), 1e6)), {}, w.new), 'a: w'),
    ('no shipped weights', lambda w: weights.shipped('vae_mni'), 'vae_mni'),
    ('a misspelled plugin', lambda w: plugins.load_plugins([str(w.new/'no.py')]), 'no.py'),
])

case('prompts')([
    ('no file', lambda w: prompts.read_captions(w.new/'no.csv'), 'no.csv'),
    ('other columns', lambda w: ((w.new/'a.csv').write_text('a,b\n1,2\n'), prompts.read_captions(w.new/'a.csv')), 'file and caption'),
    ('no UTF-8', lambda w: ((w.new/'a.csv').write_bytes(b'file,caption\na,\xff\n'), prompts.read_captions(w.new/'a.csv')), 'UTF-8'),
    ('an empty folder', lambda w: prompts.read_captions(w.new), '.tar'),
    ('a torn archive', lambda w: ((w.new/'a.tar').write_bytes(b'x'*700), prompts.read_captions(w.new/'a.tar')), 'a.tar'),
    ('no table', lambda w: prompts.PromptTable(w.new), 'align4gen_text'),
    ('a torn table', lambda w: ((w.new/'manifest.json').write_text('{'), prompts.PromptTable(w.new)), 'manifest.json|align4gen_text'),
    ('no encoders', lambda w: prompts.embed_captions(['a'], w.new/'no', w.new/'out'), 'no'),
    ('no captions', lambda w: prompts.embed_captions([], w.new, w.new/'out'), 'caption|text_encoder'),
])

case('paper B')([
    ('a misspelled mode', lambda w: videodit.inflate(videodit.image_dit(), '2d->4d'), '2d->4d'),
    ('a misspelled patchify', lambda w: videodit.inflate(videodit.image_dit(), patchify='4d'), '4d'),
    ('no frames', lambda w: videodit.inflate(videodit.image_dit(), frames=0), 'frames'),
    ('no image model', lambda w: videodit.inflate(torch.nn.Linear(2, 2)), 'Linear'),
    ('no such folder', lambda w: videodit.sd3(w.new/'no'), 'no'),
    ('prompts of two lengths', lambda w: videodit.Prompt(torch.zeros(2, 3, 4), torch.zeros(3, 4)), '2.*3'),
    ('a misspelled preset', lambda w: train_dpvae.train_dpvae('digit'), "did you mean 'digits'"),
    ('a misspelled field', lambda w: train_dpvae.train_dpvae(colum=1), 'colum'),
    ('a teacher that is none', lambda w: train_dpvae.train_dpvae(out=str(w.new), perceptual='minni'), 'perceptual'),
    ('no such image VAE', lambda w: train_dpvae.train_dpvae(out=str(w.new), image_vae='mni'), "'mini'"),
    ('an odd number of frames', lambda w: vae.load('dpvae').encode(w.clips[:1, :5]), ''),
    ('NaN', lambda w: vae.load('dpvae').encode(w.clips[:1, :4]*nan), 'NaN|finite|no number'),
    ('a VAE that is none', lambda w: reconstruction.reconstruction('mni', w.clips), "did you mean 'mini'"),
    ('clips in [0, 255]', lambda w: reconstruction.reconstruction('mini', w.bytes.float(), progress=False), r'\[-1, 1\]'),
])

case('the rest')([
    ('a device of tomorrow', lambda w: cost.estimate('S', 1, 1, device='H900'), 'H900'),
    ('a price of an unknown teacher', lambda w: cost.parameters('S', teachers='dinov9'), 'dinov9'),
    ('no GPUs', lambda w: cost.estimate('S', 1, 1, device='H100', gpus=0), 'gpus'),
    ('a table that is not there', lambda w: files.read_table(w.new/'a.csv'), 'a.csv'),
    ('a miniature that is none', lambda w: miniatures.train_miniature('mni'), 'mni'),
    ('an arm that is none', lambda w: evidence.one_run('no', 0, w.new, steps=1), "'no'"),
    ('runs of other options', lambda w: (core.run_jobs(print, [], w.new, a=1), core.run_jobs(print, [], w.new, a=2)),
        'choose another --runs'),
    ('torn settings', lambda w: ((w.new/'settings.json').write_text('{'), core.run_jobs(print, [], w.new, a=2)), 'settings.json'),
])

go = 'align4gen_train --clips 8 --batch 4 --steps 1 --teachers mini_random --mapper_hidden 8 --judge= --compile no --sample_every 0 --sample_steps 1'
case('command')([
    ('train: a misspelled option', lambda w: command('align4gen_train --gama 1'), '--gamma'),
    ('train: words for a number', lambda w: command('align4gen_train --steps many'), '--steps is a whole number'),
    ('train: a misspelled preset', lambda w: command('align4gen_train --preset digit'), "'digits'"),
    ('train: NaN', lambda w: command(go, '--lr', 'nan', '--out', w.new), 'lr'),
    ('train: no folder', lambda w: command('align4gen_train --data videos --judge= --root', w.new/'no', '--out', w.new), 'no'),
    ('train: resume of nothing', lambda w: command('align4gen_train --resume', w.new), 'not a run'),
    ('train: resume with a torn config', lambda w: command('align4gen_train --resume',
        changed(w, 'begun', 'config.json', '{')), 'config.json'),
    ('train: resume of a finished run', lambda w: command('align4gen_train --resume', copy(w, 'begun')), ''),
    ('train: a plan of an unknown device', lambda w: command('align4gen_train --dry_run --device h900'), 'h900'),
    ('train: out is a file', lambda w: ((w.new/'f').write_text(''), command(go, '--out', w.new/'f')), 'f'),
    ('train: a name that is no UTF-8', lambda w: command(go, '--out', w.new, '--name', os.fsdecode(b'\xff')), ''),
    ('train: a name with spaces', lambda w: command(go, '--out', w.new, '--name', 'mon café'), ''),
    ('dpvae: a misspelled option', lambda w: command('align4gen_train_dpvae --recn 1'), '--recon'),
    ('dpvae: no root', lambda w: command('align4gen_train_dpvae --preset dpvae-sd3 --out', w.new), 'root|weights'),
    ('sample: no run', lambda w: command('align4gen_sample', w.new), 'not a run'),
    ('sample: nothing said', lambda w: command('align4gen_sample'), 'RUN is missing'),
    ('sample: classes in words', lambda w: command('align4gen_sample', w.run, '--classes', 'two'), '--classes'),
    ('sample: a class too many', lambda w: command('align4gen_sample', w.run, '--n 1 --classes 12'), 'n'),
    ('sample: none', lambda w: command('align4gen_sample', w.run, '--n', 0), 'n and steps'),
    ('sample: prompts', lambda w: command('align4gen_sample', w.run, '--prompts', 'a cat'), 'prompts'),
    ('sample: a row outside', lambda w: command('align4gen_sample', w.run, '--n', 1, '--steps', 1, '--xt_row', 99,
        '--pictures', w.new), 'row'),
    ('sample: a folder of other videos', lambda w: command('align4gen_sample', w.run, '--n', 2, '--steps', 2, '--format', 'npy', '--out',
        copy(w, 'samples')), 'other videos'),
    ('eval: nothing said', lambda w: command('align4gen_eval'), '--run or --generated'),
    ('eval: a misspelled metric', lambda w: command('align4gen_eval --metrics fvd-min --generated', w.films), "did you mean 'fvd-mini'"),
    ('eval: no weights', lambda w: command('align4gen_eval --metrics fvd --generated', w.films, '--real digits'), 'weights'),
    ('eval: an option of no metric', lambda w: command('align4gen_eval --metrics is-mini --options is-mini.a=1 --generated', w.films), 'has no option'),
    ('eval: no such device', lambda w: command('align4gen_eval --metrics is-mini --device cuda:9 --generated', w.films), '--device cuda:9'),
    ('eval: a result that is none', lambda w: command('align4gen_eval --compare', w.table, w.result), 'captions.csv'),
    ('eval: one result', lambda w: command('align4gen_eval --compare', w.result), 'two result files'),
    ('eval: a damaged film', lambda w: command('align4gen_eval --metrics is-mini --options is-mini.splits=2 --quiet --generated',
        changed(w, 'films', 'a/0.mp4', b'x'), '--out', w.new/'r.json'), '0.mp4|allow_bad'),
    ('cache: no folder', lambda w: command('align4gen_cache --data videos --root', w.new/'no', '--out', w.new/'c'), 'no'),
    ('cache: a misspelled teacher', lambda w: command('align4gen_cache --teachers mini_ma --out', w.new), "'mini_mae'"),
    ('cache: no such check', lambda w: command('align4gen_cache --check', w.new), 'manifest|cache'),
    ('cache: a torn shard', lambda w: command('align4gen_cache --check', changed(w, 'cache', 'shard-*.tar', b'x')), 'shard-'),
    ('text: nothing said', lambda w: command('align4gen_text'), 'captions|data'),
    ('text: no weights', lambda w: command('align4gen_text --captions', w.table, '--out', w.new), 'weights'),
    ('text: a table that is none', lambda w: command('align4gen_text --weights random --captions', w.film, '--out', w.new), '0.mp4'),
    ('analyze: a misspelled encoder', lambda w: command('align4gen_analyze --encoders mini_ma'), "'mini_mae'"),
    ('analyze: no clusters', lambda w: command('align4gen_analyze --k none --out', w.new), 'k='),
    ('analyze: an empty folder', lambda w: command('align4gen_analyze --encoders mini_mae --videos', w.new, '--out', w.new/'o'), 'no'),
    ('analyze: no clips', lambda w: command('align4gen_analyze --encoders mini_mae --n 0 --out', w.new), 'n'),
    ('analyze: no run', lambda w: command('align4gen_analyze --encoders mini_mae --run', w.new, '--out', w.new), 'not a run'),
    ('reconstruct: a misspelled VAE', lambda w: command('align4gen_reconstruct --vae mni --real digits'), "'mini'"),
    ('reconstruct: nothing said', lambda w: command('align4gen_reconstruct'), 'missing|real'),
    ('reconstruct: no folder', lambda w: command('align4gen_reconstruct --vae mini --real', w.new/'no', '--out', w.new/'r.json'), 'no'),
    ('lab: a misspelled name', lambda w: command('align4gen_lab falts'), "did you mean 'faults'"),
    ('lab: an arm that is none', lambda w: command('align4gen_lab conversion --arms non --runs', w.new), 'non'),
    ('lab: a metric that is none', lambda w: command('align4gen_lab faults --metrics fdv --runs', w.new, '--out', w.new), 'fdv'),
    ('a plugin that is not there', lambda w: command('align4gen_train --plugin', w.new/'no.py'), 'no.py'),
    ('a plugin that is broken', lambda w: ((w.new/'p.py').write_text('1/0'), command('align4gen_train --plugin', w.new/'p.py')), 'p.py'),
])


@pytest.mark.parametrize('name, call, words', cases, ids=[c[0] for c in cases])
def test_battery(fresh, name, call, words, monkeypatch):
    monkeypatch.chdir(fresh.new)
    happened, said = attempt(call, fresh)
    table.append(dict(case=name, happened=happened, said=said.replace(str(fresh.new), 'NEW').replace(
        str(fresh.home), 'HOME')))
    if not words: assert happened == 'worked', said
    else:
        assert happened != 'worked', 'it passes without a word'
        assert '\n' not in said.strip() and len(said) < 1200, said
        assert re.search(words, said), said
    assert not (fresh.new/'sung').exists()


# Disks

@pytest.fixture
def disk(tmp_path):
    "Mount a small file system; skipped where one may not."
    folder = tmp_path/'disk'; folder.mkdir()
    def mount(*options):
        done = subprocess.run(['mount', '-t', 'tmpfs', '-o', ','.join(options), 'none', str(folder)],
            capture_output=True)
        if done.returncode: pytest.skip('this user may not mount')
        return folder
    yield mount
    subprocess.run(['umount', str(folder)], capture_output=True)


writers = dict(
    train=lambda w, d: command(go, '--out', d),
    dpvae=lambda w, d: command('align4gen_train_dpvae --clips 8 --batch 4 --steps 1 --eval_every 0 --sample_every 0 --compile no --lpips 0 --disc 0 --eval_clips 4 --out', d),
    sample=lambda w, d: command('align4gen_sample', w.run, '--n 60 --steps 1 --format npy --out', d/'s'),
    pictures=lambda w, d: command('align4gen_sample', w.run, '--n 20 --steps 1 --pictures', d/'p'),
    eval=lambda w, d: command('align4gen_eval --metrics is-mini --options is-mini.splits=2 --quiet --generated', w.films, '--out', d/'r.json'),
    statistics=lambda w, d: command('align4gen_eval --metrics fvd-mini --quiet --generated', w.films, '--real',
        w.films, '--out', w.new/'r.json', '--cache', d/'c'),
    cache=lambda w, d: command('align4gen_cache --videos 64 --teachers mini_mae --out', d/'c'),
    analyze=lambda w, d: command('align4gen_analyze --encoders mini_mae --n 30 --k 2 --out', d/'a'),
    video=lambda w, d: video.write_video(d/'a.gif', torch.rand(60, 3, 64, 64)*2 - 1),
    weights=lambda w, d: weights.ship('a', dict(w=torch.rand(200_000)), {}, d),
)


@pytest.mark.parametrize('kind, options, words', [('full', ['size=64k'], 'No space|disk full|are free'),
    ('read-only', ['ro'], 'Read-only')], ids=['full', 'read-only'])
@pytest.mark.parametrize('name', writers)
def test_disks(fresh, disk, name, kind, options, words, monkeypatch):
    "A full or a read-only disk: the command says so in one line, and leaves no half file under its final name."
    monkeypatch.chdir(fresh.new)
    folder = disk(*options)
    happened, said = attempt(lambda w: writers[name](w, folder), fresh)
    table.append(dict(case=f'{kind} disk: {name}', happened=happened, said=said))
    fits = kind == "full" and not said           # what is small enough fits
    assert fits or (re.search(words, said) and '\n' not in said.strip()), said


def test_table():
    "At least 150 cases were tried; what they said is printed."
    if len(table) < 150: pytest.skip('only a part of the battery was run')
    for row in table: print(f"{row['case'][:44]:44} {row['happened']:18} {' '.join(row['said'].split())[:140]}")
    if path := os.environ.get('ALIGN4GEN_BATTERY'): files.write_table(path, table)
