"""Pillow's filters, and the augmentation `penn` that uses them (facts/class-conditional-keypoints.md section 6.1)."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from stillmotion.data.augment import (
    AUGMENTATIONS,
    AugmentParams,
    affine_matrix,
    augment_frames,
    centre_params,
    sample_params,
)
from stillmotion.data.filters import ENHANCEMENTS, FILTERS, PictureFilter, filter_frames, sample_filter

SIZE = 16
PENN = AUGMENTATIONS["penn"]


def noise(length: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (length, SIZE, SIZE, 3), dtype=np.uint8)


def test_penn_rotates_by_whole_degrees_and_what_it_uncovers_is_black() -> None:
    settings = replace(PENN, horizontal_flip=0.0, filters=False)
    degrees = set()
    for seed in range(300):
        params = sample_params((SIZE, SIZE), np.random.default_rng(seed), settings)
        assert params.affine is not None
        degrees.add(round(float(np.degrees(np.arctan2(params.affine[1, 0], params.affine[0, 0]))), 6))
    assert degrees == set(map(float, range(-10, 11)))
    white = np.full((1, SIZE, SIZE, 3), 255, np.uint8)
    turned = augment_frames(white, replace(params, affine=affine_matrix((SIZE, SIZE), rotation=45)))
    assert turned[0, 0, 0].max() == 0
    assert turned[0, SIZE // 2, SIZE // 2].min() == 1


@pytest.mark.parametrize(("size", "long"), [((20, 32), 1), ((32, 20), 0)])
def test_penn_takes_the_short_side_whole_and_crops_the_long_one(size: tuple[int, int], long: int) -> None:
    """Row and column as colours tell where a crop is from; nearest neighbour takes every other pixel."""
    settings = replace(PENN, crop=(10, 10), rotation=None, horizontal_flip=0.0, filters=False)
    places = np.stack([*np.mgrid[: size[0], : size[1]], np.zeros(size)], -1).astype(np.uint8)[None]

    def source(params: AugmentParams) -> tuple[list[int], list[int]]:
        made = np.rint(255 * augment_frames(places, params))[0].astype(int)
        along = (made[:, 0, 0].tolist(), made[0, :, 1].tolist())
        return along[long], along[1 - long]

    starts = set()
    for seed in range(100):
        cropped, whole = source(sample_params(size, np.random.default_rng(seed), settings))
        assert whole == list(range(1, 20, 2))
        assert cropped == [cropped[0] + step for step in range(0, 20, 2)]
        starts.add(cropped[0])
    assert starts == {1, 3, 5, 7, 9, 11, 13}
    assert source(centre_params(size, (10, 10))) == ([7 + step for step in range(0, 20, 2)], list(range(1, 20, 2)))


def test_ten_filters_come_equally_often_with_factors_in_their_ranges() -> None:
    drawn = [sample_filter(np.random.default_rng(seed)) for seed in range(2000)]
    counts = Counter(chosen.name for chosen in drawn)
    assert set(counts) == {*FILTERS, *ENHANCEMENTS}
    assert len(counts) == 10
    assert min(counts.values()) > 150
    assert max(counts.values()) < 250
    for name, (_, (low, high)) in ENHANCEMENTS.items():
        factors = [chosen.factor for chosen in drawn if chosen.name == name]
        assert low <= min(factors) < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < max(factors) <= high


def test_filters_are_pillows_and_a_factor_of_one_changes_nothing() -> None:
    frames = noise(2) / np.float32(255)
    for name in ENHANCEMENTS:
        assert np.allclose(filter_frames(frames, PictureFilter(name)), frames, atol=1e-6)
        assert not np.allclose(filter_frames(frames, PictureFilter(name, 0.7)), frames)
    for name in FILTERS:
        assert not np.allclose(filter_frames(frames, PictureFilter(name)), frames)
    bright = filter_frames(frames, PictureFilter("brightness", 2.0))
    assert np.allclose(bright, np.minimum(2 * frames, 1), atol=1e-6)
    grey = filter_frames(frames, PictureFilter("colour", 0.0))
    assert np.ptp(grey, axis=-1).max() == 0
    assert filter_frames(frames, PictureFilter("smooth")).std() < frames.std()
    assert filter_frames(frames, PictureFilter("sharpness", 5.0)).std() > frames.std()
    through = augment_frames(noise(2), AugmentParams((SIZE, SIZE), (SIZE, SIZE), filter=PictureFilter("blur")))
    assert np.array_equal(through, filter_frames(frames, PictureFilter("blur")))
