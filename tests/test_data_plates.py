"""The background behind the object of a training clip."""

import numpy as np
import pytest
import torch

from stillmotion.data import plates
from stillmotion.data.augment import AUGMENTATIONS, AugmentParams, augment_frames, sample_params
from stillmotion.data.clip import Clip
from stillmotion.data.plates import Figures, Plates
from stillmotion.rendering.plate import widened

SIZE = 32
PLAIN = AugmentParams((SIZE, SIZE), (SIZE, SIZE))
WALL, SQUARE = (60, 130, 200), (220, 40, 90)


def square_clip(*tracks: str, name: str = "square", left: tuple[int, ...] = (6, 10, 14)) -> Clip:
    """A square of 8 pixels before a wall, its left side at some places; its masks under the names of tracks."""
    masks = np.zeros((len(left), SIZE, SIZE), np.uint8)
    for t, x in enumerate(left):
        masks[t, 12:20, x : x + 8] = 3
    frames = np.where(masks[..., None] > 0, SQUARE, WALL).astype(np.uint8)
    return Clip(name, frames, 25.0, dict.fromkeys(tracks, masks))


@pytest.mark.parametrize("track", ["mask", "parts"])
def test_figures_are_those_of_the_tracks(track: str) -> None:
    clip = square_clip(track)
    found = Figures()(clip)
    assert found.dtype == bool
    assert np.array_equal(found, (clip.frames == SQUARE).all(-1))


def test_a_mask_comes_before_the_parts_and_may_have_a_channel() -> None:
    clip = square_clip("mask", "parts")
    masks = np.zeros((3, SIZE, SIZE, 1), np.uint8)
    masks[:, :2] = 255
    found = Figures()(Clip("held", clip.frames, 25.0, {**clip.tracks, "mask": masks}))
    assert found.shape == (3, SIZE, SIZE)
    assert found.sum() == 3 * 2 * SIZE


def test_figures_of_a_clip_without_masks_are_what_moves_and_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def moving_masks(frames: np.ndarray) -> np.ndarray:
        asked.append(len(frames))
        return (frames == SQUARE).all(-1).astype(np.uint8)

    monkeypatch.setattr(plates, "moving_masks", moving_masks)
    figures, clip = Figures(), square_clip()
    for _ in range(2):
        assert np.array_equal(figures(clip), (clip.frames == SQUARE).all(-1))
    assert asked == [3]
    other = square_clip(name="other", left=(2, 20))
    assert np.array_equal(figures(other), (other.frames == SQUARE).all(-1))
    assert asked == [3, 2]


def test_what_moves_is_found() -> None:
    clip = square_clip(left=tuple(range(2, 22, 2)))
    found = Figures()(clip)
    square = (clip.frames == SQUARE).all(-1)
    assert (found & square).sum() / (found | square).sum() > 0.8


def test_a_plate_is_the_wall_and_is_known() -> None:
    made = Plates()(square_clip("parts"), 1, PLAIN)
    assert (made.shape, made.dtype) == ((4, SIZE, SIZE), torch.float32)
    wall = torch.tensor(WALL).view(3, 1, 1) / 255
    torch.testing.assert_close(made[:3], wall.expand(3, SIZE, SIZE))
    assert (made[3] == 1).all()


def test_what_is_near_the_figure_is_hidden_too() -> None:
    """A pixel of the wall beside the square, as bright as a mask's error would leave it; a far one stays."""
    clip = square_clip("parts")
    clip.frames[1, 15, 9] = 255
    clip.frames[1, 3, 3] = 255
    made = Plates()(clip, 1, PLAIN)
    torch.testing.assert_close(made[:3, 15, 9], torch.tensor(WALL) / 255)
    assert (made[:3, 3, 3] == 1).all()


def test_the_plate_is_that_of_the_still() -> None:
    """The figure is where the still has it: at other times the wall there is not hidden."""
    clip = square_clip("parts", left=(2, 20))
    clip.frames[:, 15, 24] = 255  # a bright spot of the wall, behind the square of the second frame
    assert (Plates()(clip, 0, PLAIN)[:3, 15, 24] == 1).all()
    torch.testing.assert_close(Plates()(clip, 1, PLAIN)[:3, 15, 24], torch.tensor(WALL) / 255)


def test_a_frame_without_a_figure_has_no_known_plate() -> None:
    clip = square_clip("parts")
    clip.tracks["parts"][1] = 0
    made = Plates()(clip, 1, PLAIN)
    assert (made[3] == 0).all()
    np.testing.assert_allclose(made[:3].numpy(), clip.frames[1].transpose(2, 0, 1) / 255, atol=1e-6)


def test_a_plate_is_augmented() -> None:
    clip = square_clip("parts")
    clip.frames[:, :, :4] = 0  # a dark strip on the left
    made = Plates()(clip, 1, AugmentParams((SIZE, SIZE), (20, 24), mirror=True, corner=(8, 2)))
    assert made.shape == (4, 20, 24)
    assert (made[:3, :, 20:] == 0).all()
    torch.testing.assert_close(made[:3, 5, 5], torch.tensor(WALL) / 255)
    assert (made[3] == 1).all()


@pytest.mark.parametrize("seed", range(12))
def test_far_from_the_figure_the_plate_is_the_augmented_still(seed: int) -> None:
    """In colours too, which change with those of the figure and with the mean of a frame."""
    clip, rng = square_clip("parts"), np.random.default_rng(seed)
    clip.frames[:] = np.where(
        clip.tracks["parts"][..., None] > 0, clip.frames, rng.integers(0, 256, clip.frames.shape)
    )
    params = sample_params((SIZE, SIZE), rng, AUGMENTATIONS["bold"])
    made = Plates()(clip, 1, params)
    still = augment_frames(clip.frames[[1, 1]], params)[0].transpose(2, 0, 1)
    # What is hidden, moved as the frames are, and a margin for the interpolation.
    hidden = np.repeat(255 * widened(widened(clip.tracks["parts"][1] > 0))[None, ..., None], 3, -1)
    shape = AugmentParams(
        params.size, params.out, params.reverse, params.mirror, params.affine, elastic=params.elastic
    )
    far = augment_frames(hidden, shape)[0, ..., 0] == 0
    assert far.mean() > 0.3
    np.testing.assert_allclose(made[:3].numpy()[:, far], still[:, far], atol=1e-5)
