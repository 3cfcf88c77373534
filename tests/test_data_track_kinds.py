"""Kinds of tracks: pictures, maps and values under an augmentation, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from refusals import refuses
from stillmotion.data.augment import (
    AUGMENTATIONS,
    AugmentParams,
    affine_matrix,
    augment_frames,
    sample_params,
    transform_points,
)
from stillmotion.data.clip import Clip
from stillmotion.data.colour import ColourParams, ColourShift
from stillmotion.data.track_augment import KINDS, augment_tracks, source_places, track_kind
from stillmotion.errors import StillmotionError
from test_data_track_augment import PLAIN, SIZE, geometry_of, square


# --- pictures, maps, values ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_a_track_of_pictures_changes_as_the_frames_do(name: str) -> None:
    clip = square()
    other = np.roll(clip.frames, 9, axis=2)
    tracks = {"same": clip.frames, "float": clip.frames / np.float32(255), "other": other}
    clip = replace(clip, tracks=tracks, meta={"track_kinds": dict.fromkeys(tracks, "rgb")})
    for seed in range(4):
        params = sample_params(SIZE, np.random.default_rng(seed), AUGMENTATIONS[name])
        indices = np.array([1, 3])
        moved = augment_tracks(clip, ("same", "float", "other"), indices, params)
        frames = augment_frames(clip.frames[indices], params)
        assert np.allclose(moved["same"], frames, atol=1e-6)
        assert np.allclose(moved["float"], frames, atol=1e-5)
        assert moved["other"].shape == frames.shape
        assert not np.allclose(moved["other"], frames, atol=0.1)


def test_contrast_of_a_picture_track_is_around_the_frames_mean() -> None:
    frames = np.full((1, 4, 4, 3), 102, np.uint8)  # grey 0.4
    clip = Clip("a", frames, 25.0, {"other_frames": frames + 51})  # grey 0.6
    params = AugmentParams((4, 4), (4, 4), colour=ColourParams(contrast=1.5))
    assert augment_tracks(clip, ("other_frames",), np.arange(1), params)["other_frames"] == pytest.approx(0.7)


def test_local_colours_of_a_picture_track_are_looked_up_in_the_first_frame_of_the_result() -> None:
    frames = np.zeros((2, 1, 1, 3), np.uint8)
    frames[1] = 204  # 0.8, the first frame once time is reversed
    clip = Clip("a", frames, 25.0, {"other_frames": np.full_like(frames, 204)})
    shift = ColourShift((0.5, 0.5), np.array([-0.5, 0.0, 0.1]), 0.05)
    params = AugmentParams((1, 1), (1, 1), reverse=True, colour=ColourParams((shift,)))
    moved = augment_tracks(clip, ("other_frames",), np.arange(2), params)["other_frames"]
    assert np.allclose(moved, [0.3, 0.8, 0.9])


def test_maps_are_interpolated_and_values_only_reordered() -> None:
    heat = np.zeros((2, 3, 3), np.uint8)
    heat[:, 1, 1] = 4
    clip = Clip(
        "a",
        np.zeros((2, 3, 3, 3), np.uint8),
        25.0,
        {"heat": heat, "five": np.stack([heat] * 5, -1), "codes": np.array([[1], [2]], np.int16)},
        {"track_kinds": {"heat": "map", "five": "map", "codes": "values"}},
    )
    shift = affine_matrix((3, 3), shift=(0.5, 0))
    moved = augment_tracks(
        clip, ("heat", "five", "codes"), np.arange(2), AugmentParams((3, 3), (3, 3), True, affine=shift)
    )
    assert moved["heat"][0].tolist() == [[0, 0, 0], [0, 2, 2], [0, 0, 0]]
    assert moved["heat"].dtype == np.float32
    assert np.array_equal(moved["five"][..., 4], moved["heat"])
    assert moved["codes"].tolist() == [[2], [1]]
    assert moved["codes"].dtype == np.int16


def folds(field: np.ndarray) -> bool:
    """Whether two pixels of the result may show the same place."""
    (xy, xx), (yy, yx) = np.gradient(field[..., 0]), np.gradient(field[..., 1])
    return bool(((1 + xx) * (1 + yy) - xy * yx).min() < 0.1)


@pytest.mark.parametrize("name", ["pokes", "actions", "strong", "bold"])
def test_pixels_and_points_and_sources_agree(name: str) -> None:
    """A picture and a track that hold each pixel's own place say where the pixels went."""
    y, x = np.mgrid[:48, :48]
    own = np.stack([x, y, 0 * x], -1)[None] / np.float32(47)
    clip = replace(square(1), tracks={"place": own}, meta={"track_kinds": {"place": "map"}})
    for seed in range(5):
        params = geometry_of(name, seed)
        if params.elastic is not None and folds(params.elastic):
            assert seed == 3
            continue
        sources = source_places(params)
        inside = ((sources > 2) & (sources < 45)).all(-1)  # without what was replicated beyond the border
        grid = np.stack([x, y], -1)
        reached = grid if params.elastic is None else grid + params.elastic
        inside &= ((np.minimum(grid, reached) > 3) & (np.maximum(grid, reached) < 44)).all(-1)
        assert inside.mean() > 0.4
        pixels = 47 * augment_frames(own, params)[0, ..., :2]
        assert np.abs(pixels - sources)[inside].max() < 0.1  # OpenCV rounds places to 1/32 pixel
        assert np.allclose(
            47 * augment_tracks(clip, ("place",), np.arange(1), params)["place"][0, ..., :2], sources, atol=1e-3
        )
        away = np.abs(transform_points(sources, params) - grid)[inside]
        assert away.max() < (0.6 if params.resize != 1 else 0.1)


# --- what cannot be moved ------------------------------------------------------------------------------------------
def test_every_kind_is_explained_and_unknown_tracks_are_refused() -> None:
    assert track_kind("parts", {}) == "labels"
    assert track_kind("parts", {"track_kinds": {"parts": "map"}}) == "map"
    for meta in ({}, {"track_kinds": {"codes": "vectors"}}):
        refuses(r"track 'codes' .* meta\['track_kinds'\], one of points", track_kind, "codes", meta)
    clip = square()
    refuses(r"has no track 'path' .it has box, flow_backward", augment_tracks, clip, ("path",), np.arange(2), PLAIN)
    assert "values" in KINDS


def test_flow_that_is_not_there_is_refused() -> None:
    clip = square()
    one_way = replace(clip, tracks={"flow": clip.tracks["flow_forward"]})
    assert augment_tracks(one_way, ("flow",), np.arange(3), PLAIN)["flow"].shape == (2, 48, 48, 2)
    refuses("one direction only", augment_tracks, one_way, ("flow",), np.arange(3), replace(PLAIN, reverse=True))
    for indices in ([0, 2, 4], [3], [2, 1], [1, 1]):
        refuses("hold no such pair", augment_tracks, clip, ("flow_forward",), np.array(indices), PLAIN)


def test_flow_over_more_than_one_frame() -> None:
    clip = square(7)
    far = np.arange(4, dtype=np.float32)[:, None, None, None] + np.zeros((4, *SIZE, 2), np.float32)
    clip = replace(clip, tracks={"flow_3": far}, meta={"track_kinds": {"flow_3": "flow_forward"}})
    moved = augment_tracks(clip, ("flow_3",), np.arange(2, 7), PLAIN)["flow_3"]
    assert moved[:, 0, 0, 0].tolist() == [2, 3]  # from 2 to 5 and from 3 to 6


def test_tracks_of_other_sizes_and_lengths_and_joints_without_names_are_refused() -> None:
    clip = square()
    small = replace(clip, tracks={"mask": np.zeros((5, 24, 24), np.uint8)})
    refuses(r"24, 24.* pixels where the frames have", augment_tracks, small, ("mask",), np.arange(2), PLAIN)
    with pytest.raises(StillmotionError, match="has 3 entries for 5 frames"):
        augment_tracks(replace(clip, tracks={"points": np.zeros((3, 2))}), ("points",), np.arange(2), PLAIN)
    for names in ([], ["left_knee", *clip.meta["joints"][1:]]):
        nameless = replace(clip, meta={"joints": names})
        augment_tracks(nameless, ("joints",), np.arange(2), PLAIN)
        with pytest.raises(StillmotionError, match="cannot be mirrored"):
            augment_tracks(nameless, ("joints",), np.arange(2), replace(PLAIN, mirror=True))
