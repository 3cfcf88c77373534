"""The plates of training samples: whose mask, inpainted behind it, and augmented exactly as the still is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stillmotion.data.augment import AUGMENTATIONS, AugmentParams, augment_frames, sample_params
from stillmotion.data.clip import Clip
from stillmotion.data.plates import Figures, Plates
from stillmotion.data.sampling import to_tensor
from stillmotion.rendering.plate import widened

SIZE = (32, 32)
PLAIN = AugmentParams(SIZE, SIZE)
WALL, BODY = (40, 90, 140), (230, 220, 210)


def clip_of(**tracks: np.ndarray) -> Clip:
    """A bright square that goes over a plain wall, four pixels a frame; at (4, 12) first."""
    frames = np.empty((4, *SIZE, 3), np.uint8)
    frames[:] = WALL
    for t in range(4):
        frames[t, 12:20, 4 + 4 * t : 12 + 4 * t] = BODY
    return Clip("square", frames, 25.0, tracks)


def square(t: int, value: int = 1) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[12:20, 4 + 4 * t : 12 + 4 * t] = value
    return mask


def test_a_figure_is_the_mask_else_the_parts_else_what_moves() -> None:
    mask, parts = (np.stack([square(t, value) for t in range(4)]) for value in (1, 3))
    other = np.zeros_like(mask)
    other[:, 0, 0] = 1
    for clip, expected in (
        (clip_of(mask=mask[..., None]), mask),
        (clip_of(parts=parts), mask),
        (clip_of(mask=other, parts=parts), other),
        (clip_of(), mask),
    ):
        found = Figures()(clip)
        assert found.dtype == bool
        assert np.array_equal(found, expected > 0)


def test_what_moves_is_found_once_per_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        "stillmotion.data.plates.moving_masks", lambda frames: asked.append(1) or np.zeros(frames.shape[:3])
    )
    figures = Figures()
    for name in ("a", "b", "a", "b"):
        figures(replace(clip_of(), name=name))
    assert len(asked) == 2


@pytest.mark.parametrize(("reverse", "still"), [(False, 1), (True, 3)])
def test_a_plate_is_the_still_with_the_wall_behind_its_figure(reverse: bool, still: int) -> None:
    """The mask misses a column of the square, as one found by a network may: it is widened."""
    parts = np.stack([square(t) for t in range(4)])
    parts[np.arange(4), :, 4 + 4 * np.arange(4)] = 0
    clip = clip_of(parts=parts)
    clip.frames[:, 31, 31] = np.arange(4, dtype=np.uint8)[:, None]  # the frame's number in its last pixel
    plate = Plates()(clip, np.array([1, 3]), replace(PLAIN, reverse=reverse))
    assert plate.shape == (4, *SIZE)
    assert torch.allclose(plate[:3, :31], torch.tensor(WALL).view(3, 1, 1) / 255)
    assert torch.allclose(plate[:3, 31, 31], torch.tensor(still / 255))
    assert (plate[3] == 1).all()


def test_of_a_frame_without_a_figure_the_plate_is_not_known() -> None:
    parts = np.stack([square(0), *np.zeros((3, *SIZE), np.uint8)])
    plates, clip = Plates(), clip_of(parts=parts)
    known = [plates(clip, np.array([t, 3]), PLAIN)[3].unique().tolist() for t in (0, 1)]
    assert known == [[1], [0]]


@pytest.mark.parametrize("name", ["taichi", "strong", "varied", "bold"])
def test_a_plate_changes_place_and_colour_as_the_frames_do(name: str) -> None:
    """Contrast counts from the frames' mean, clothes change by the colour at a place in them, not in the plate."""
    clip = clip_of(parts=np.stack([square(t) for t in range(4)]))
    indices, settings = np.array([0, 3]), replace(AUGMENTATIONS[name], colour_probability=1.0)
    for seed in range(20):
        params = sample_params(SIZE, np.random.default_rng(seed), settings)
        plate = Plates()(clip, indices, params)
        still = to_tensor(augment_frames(clip.frames[indices], params))[0]
        shown = 3 if params.reverse else 0
        hidden = np.repeat(widened(clip.tracks["parts"][shown])[None, :, :, None], 3, -1).astype(np.float32)
        away = to_tensor(augment_frames(hidden, replace(params, reverse=False, colour=PLAIN.colour)))[0, 0] == 0
        assert away.sum() > 200
        assert torch.allclose(plate[:3, away], still[:, away], atol=1e-5)
