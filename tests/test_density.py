"Objects in a clip are a field of the config: a run, its held-out clips and its measurements see the same world."
import pytest, torch
from align4gen import source
from align4gen.build import ready_config
from align4gen.data import MovingDigits


def test_a_run_without_objects_is_unconditional():
    config = ready_config('digits', density=0, judge='', clips=40, teachers='', gamma=0., resolution=24)
    assert config.classes == 0
    clips = source.open_clips(config)
    expected = MovingDigits(n=40, size=24, density=0, dim=1.)
    assert torch.equal(clips.videos, expected.videos) and set(clips.labels.tolist()) == {-1}
    assert clips[3]['label'] == -1


def test_a_judge_needs_digits():
    with pytest.raises(ValueError, match='leave it empty'): ready_config('digits', density=0)


def test_more_objects_are_drawn():
    config = ready_config('digits', density=4, clips=40)
    assert config.classes == 10
    assert torch.equal(source.open_clips(config).videos, MovingDigits(n=40, density=4).videos)
