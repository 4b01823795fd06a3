"Moving Digits: the quick start's clips are what they were, and objects do not disturb each other."
import numpy as np, pytest, torch
from align4gen.data import (MovingDigits, _digit_path, _photo_backdrop, bright_colour,
    clip_numbers, digit_images, place_digits, render_clips, worlds)


def first_recipe(index, split, size, frames, seed, dim):
    "One digit over a photograph, as the first version spelled it."
    images, _ = digit_images(split)
    box, r = round(size * 11/16), clip_numbers(index, split, seed)
    position = _digit_path(r[:, 1:5], size, frames, size - box)
    shown = images[(r[:, 0] * len(images)).long()].repeat_interleave(frames, 0)
    opacity = place_digits(shown, position.flatten(0, 1), size, box)
    opacity = opacity.unflatten(0, (-1, frames))
    colour = bright_colour(r[:, 5], .3 + .7*r[:, 6])[:, None, :, None, None]
    back = _photo_backdrop(r[:, 7:12], size, frames)
    video = back * dim * (1 - opacity) + colour * opacity
    return (video * 255).round().clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize('split,size,frames,seed', [('train', 16, 6, 0), ('test', 32, 4, 3)])
def test_one_digit_is_drawn_as_ever(split, size, frames, seed):
    index = np.arange(100)
    new = render_clips(index, split, size, frames, seed)['video']
    assert torch.equal(new, first_recipe(index, split, size, frames, seed, .4))


def test_objects_do_not_disturb_each_other():
    made = {k: render_clips(np.arange(60), size=24, density=k) for k in range(5)}
    for k in (2, 3, 4):
        for what in ('label', 'image_id', 'position'):
            assert torch.equal(made[k][what], made[1][what])
        # each further object changes a part of the picture, and not all of it
        changed = (made[k]['video'] != made[k-1]['video']).any(2).float().mean()
        assert .02 < changed < .5, (k, changed)
    assert made[0]['label'].eq(-1).all() and made[0]['position'].numel() == 0


def test_worlds_can_be_drawn_and_split():
    for name, look in worlds.items():
        train, test = MovingDigits(n=8, **look), MovingDigits('test', n=8, **look)
        assert train.videos.shape[-1] == look['size'], name
        assert not torch.equal(train.videos, test.videos)


def test_a_cache_of_the_first_version_is_read(tmp_path):
    import json
    from safetensors.torch import save_file
    path, made = tmp_path/'clips.safetensors', MovingDigits(n=4)
    old = {k: v for k, v in made.config.items() if k not in ('box', 'density')}
    save_file(dict(video=made.videos, label=made.labels, image_id=made.image_id,
        position=made.position), path, metadata=dict(config=json.dumps(old)))
    assert torch.equal(MovingDigits(n=4, cache=path).videos, made.videos)
    with pytest.raises(ValueError, match='holds other clips'):
        MovingDigits(n=4, density=2, cache=path)
