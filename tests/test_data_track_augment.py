"""Tracks move as the pixels do: by hand where a change is exact, else by warping and against drawn markers."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillmotion.data.augment import (
    AUGMENTATIONS,
    Augmentation,
    AugmentParams,
    affine_matrix,
    augment_frames,
    sample_params,
)
from stillmotion.data.clip import Clip
from stillmotion.data.colour import ColourParams
from stillmotion.data.examples import moving_square
from stillmotion.data.track_augment import augment_tracks, mirrored_name
from stillmotion.worlds import sample_clip
from stillmotion.worlds.faces import normal_maps

SIZE = (48, 48)
FLOWS = ("flow_forward", "flow_backward")
ALL = ("points", "joints", "box", "mask", *FLOWS)
PLAIN = AugmentParams(SIZE, SIZE)


def square(frames: int = 5) -> Clip:
    return moving_square(SIZE[0], frames)


def both(clip: Clip, params: AugmentParams, names: tuple[str, ...] = ALL) -> Clip:
    """The clip as it is after the augmentation, all of its frames."""
    indices = np.arange(len(clip))
    frames = np.rint(255 * augment_frames(clip.frames, params)).astype(np.uint8)
    return replace(clip, frames=frames, tracks=augment_tracks(clip, names, indices, params))


def geometry_of(name: str, seed: int, size: tuple[int, int] = SIZE) -> AugmentParams:
    params = sample_params(size, np.random.default_rng(seed), AUGMENTATIONS[name])
    return replace(params, colour=ColourParams())


# --- exact changes -------------------------------------------------------------------------------------------------
def test_nothing_is_exactly_nothing() -> None:
    clip = square()
    for name, moved in both(clip, PLAIN).tracks.items():
        assert np.array_equal(moved, clip.tracks[name]), name
        assert moved.dtype == clip.tracks[name].dtype


@pytest.mark.parametrize("change", [{"mirror": True}, {"reverse": True}, {"mirror": True, "reverse": True}])
def test_flips_undo_themselves_and_change_something(change: dict[str, bool]) -> None:
    clip = square()
    params = replace(PLAIN, **change)
    once, twice = both(clip, params), both(both(clip, params), params)
    assert np.array_equal(twice.frames, clip.frames)
    for name in ALL:
        assert not np.array_equal(once.tracks[name], clip.tracks[name]), name
        assert np.allclose(twice.tracks[name], clip.tracks[name], atol=1e-4), name


def test_a_mirror_by_hand() -> None:
    mask = np.array([[[1, 2, 0]]], np.uint8)
    flow = np.array([[[[1, 2], [3, 4], [5, 6]]]], np.float16)
    clip = Clip(
        "a",
        np.zeros((2, 1, 3, 3), np.uint8),
        25.0,
        {
            "points": np.array([[0.5, 0], [2, 0]]),
            "boxes": np.array([[0, 0, 1, 0], [1, 0, 1, 0]]),
            "joints": np.array([[[0, 0, 1], [1, 0, 0], [2, 0, 0.5]]] * 2),
            "parts": np.repeat(mask, 2, 0),
            "flow": flow,
        },
        {"joints": ["right_knee", "head", "left_knee"]},
    )
    params = AugmentParams((1, 3), (1, 3), mirror=True)
    moved = augment_tracks(clip, tuple(clip.tracks), np.arange(2), params)
    assert moved["points"].tolist() == [[1.5, 0], [0, 0]]
    assert moved["boxes"].tolist() == [[1, 0, 2, 0], [1, 0, 1, 0]]
    # The left knee at x = 2 becomes the right knee at x = 0, and its visibility goes with it.
    assert moved["joints"][0].tolist() == [[0, 0, 0.5], [1, 0, 0], [2, 0, 1]]
    assert moved["parts"][0].tolist() == [[0, 2, 1]]
    assert moved["flow"][0, 0].tolist() == [[-5, 6], [-3, 4], [-1, 2]]


def test_time_reversal_exchanges_the_directions_of_flow() -> None:
    clip = square(4)
    moved = augment_tracks(clip, ALL, np.array([0, 1, 2]), replace(PLAIN, reverse=True))
    assert np.array_equal(moved["points"], clip.tracks["points"][[2, 1, 0]])
    assert np.array_equal(moved["flow_forward"], clip.tracks["flow_backward"][[1, 0]])
    assert np.array_equal(moved["flow_backward"], clip.tracks["flow_forward"][[1, 0]])


def test_a_quarter_turn_and_a_doubling_by_hand() -> None:
    flow = np.zeros((1, 5, 5, 2), np.float32)
    flow[0, 2, 4] = (1, 3)
    clip = Clip("a", np.zeros((2, 5, 5, 3), np.uint8), 25.0, {"flow": flow, "box": np.array([[3, 2, 4, 2]] * 2)})
    turn = AugmentParams((5, 5), (5, 5), affine=affine_matrix((5, 5), rotation=90))  # x towards y
    moved = augment_tracks(clip, ("flow", "box"), np.arange(2), turn)
    assert np.allclose(moved["flow"][0, 4, 2], (-3, 1), atol=1e-5)
    assert np.allclose(moved["box"][0], (2, 3, 2, 4), atol=1e-5)
    double = AugmentParams((5, 5), (10, 10), resize=2.0)
    moved = augment_tracks(clip, ("flow", "box"), np.arange(2), double)
    assert np.allclose(moved["flow"][0, 4:6, 8:10], (2, 6))
    assert np.allclose(moved["box"][0], (6, 4, 9, 5))  # four pixels by two


def test_a_constant_deformation_shifts_and_keeps_flow() -> None:
    clip = square()
    field = np.zeros((*SIZE, 2), np.float32)
    field[..., 1] = 2.0  # sampled two pixels further down: the picture moves up
    params = replace(PLAIN, elastic=field)
    moved = both(clip, params).tracks
    assert np.allclose(moved["points"], clip.tracks["points"] - [0, 2], atol=1e-5)
    assert np.array_equal(moved["mask"][:, :-2], clip.tracks["mask"][:, 2:])
    assert np.allclose(moved["flow_forward"][:, :-2], clip.tracks["flow_forward"][:, 2:], atol=1e-4)


# --- by warping ----------------------------------------------------------------------------------------------------
def warp_error(frames: np.ndarray, forward: np.ndarray, backward: np.ndarray) -> float:
    """Mean difference (grey levels) of frame t from frame t + 1 seen through the flow, where both flows agree."""
    height, width = frames.shape[1:3]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    errors = []
    for t, (ahead, back) in enumerate(zip(*(np.asarray(f, np.float32) for f in (forward, backward)), strict=True)):
        to_x, to_y = x + ahead[..., 0], y + ahead[..., 1]
        seen, returned = (
            cv2.remap(values, to_x, to_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            for values in (frames[t + 1].astype(np.float32), back)
        )
        valid = np.linalg.norm(ahead + returned, axis=-1) < 0.5
        valid &= (to_x >= 0) & (to_x <= width - 1) & (to_y >= 0) & (to_y <= height - 1)
        assert valid.mean() > 0.85
        errors.append(np.abs(seen - frames[t])[valid].mean())
    return float(np.mean(errors))


def flow_error(clip: Clip, params: AugmentParams) -> tuple[float, float]:
    """The error of the augmented clip, and that of one in which nothing moves."""
    moved = both(clip, params, FLOWS)
    still = np.zeros_like(moved.tracks["flow_forward"])
    return warp_error(moved.frames, *(moved.tracks[name] for name in FLOWS)), warp_error(moved.frames, still, still)


@settings(max_examples=25, deadline=None)
@given(
    rotation=st.floats(-180, 180),
    scale=st.tuples(st.floats(0.8, 1.4), st.floats(0.8, 1.4)),
    shear=st.floats(-20, 20),
    shift=st.tuples(st.floats(-6, 6), st.floats(-6, 6)),
    mirror=st.booleans(),
    reverse=st.booleans(),
)
def test_flow_warps_one_augmented_frame_onto_the_next(
    rotation: float, scale: tuple[float, float], shear: float, shift: tuple[float, float], mirror: bool, reverse: bool
) -> None:
    affine = affine_matrix(SIZE, rotation=rotation, scale=scale, shear=shear, shift=shift)
    error, still = flow_error(square(), replace(PLAIN, affine=affine, mirror=mirror, reverse=reverse))
    assert error < max(0.5, still / 4)  # grey levels; 0.35 before the augmentation


def test_flow_of_the_original_is_as_good() -> None:
    error, still = flow_error(square(), PLAIN)
    assert error < 0.5 < 2.5 < still


@pytest.mark.parametrize("name", ["pokes", "actions", "strong", "bold"])
@pytest.mark.parametrize("world", ["digits", "puppets", "arm"])
def test_exact_flow_of_worlds_stays_as_exact(world: str, name: str) -> None:
    """Half of the limit is what nearest-neighbour resizing of the frames costs."""
    clip = sample_clip(world, 1, 3, 48, 5)
    original = warp_error(clip.frames, *(clip.tracks[f] for f in FLOWS))
    for seed in range(2):
        assert flow_error(clip, geometry_of(name, seed))[0] < 2 * original + 0.5


def test_resize_and_crop_keep_flow() -> None:
    settings = Augmentation(resize=(0.8, 1.5), crop=(40, 44), horizontal_flip=0.5)
    for seed in range(4):
        error, still = flow_error(square(), sample_params(SIZE, np.random.default_rng(seed), settings))
        assert error < max(0.5, 0.6 * still)  # whole pixels are repeated or left out


# --- against drawn markers -----------------------------------------------------------------------------------------
def markers(places: np.ndarray) -> np.ndarray:
    """One soft bright spot per frame, centred on (x, y)."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    spots = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / 8.0) for px, py in places]
    return np.rint(255 * np.repeat(np.array(spots)[..., None], 3, axis=3)).astype(np.uint8)


def centres(frames: np.ndarray) -> np.ndarray:
    weight = frames[..., 0].astype(np.float64)
    y, x = np.mgrid[: frames.shape[1], : frames.shape[2]]
    return np.stack([(weight * x).sum((1, 2)), (weight * y).sum((1, 2))], 1) / weight.sum((1, 2))[:, None]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["strong", "actions"])
def test_points_and_joints_lie_on_their_markers(name: str, seed: int) -> None:
    """Frame k shows a marker at joint k; mirrored, that is the place of its counterpart."""
    clip = square(13)
    joints = clip.tracks["joints"][:1].repeat(13, 0)
    joints[..., :2] = 0.6 * joints[..., :2] + 9  # away from the border
    places = joints[np.arange(13), np.arange(13), :2]
    clip = replace(clip, frames=markers(places), tracks={"joints": joints, "points": places})
    params = geometry_of(name, seed)
    moved = both(clip, params, ("joints", "points"))
    found = centres(moved.frames)
    names = clip.meta["joints"]
    shown = [mirrored_name(joint) if params.mirror else joint for joint in names]
    shown = shown[::-1] if params.reverse else shown
    tolerance = 0.6 if params.resize != 1 else 0.06  # resized to the nearest pixel
    at = moved.tracks["joints"][np.arange(13), [names.index(joint) for joint in shown], :2]
    assert np.abs(at - found).max() < tolerance
    assert np.abs(moved.tracks["points"] - found).max() < tolerance
    assert sorted(map(mirrored_name, names)) == sorted(names) != list(map(mirrored_name, names))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["strong", "bold", "actions"])
def test_boxes_and_masks_surround_the_square(name: str, seed: int) -> None:
    clip = square(15)
    middle = {key: values[10:] for key, values in clip.tracks.items()}  # where it is far from the border
    moved = both(replace(clip, frames=clip.frames[10:], tracks=middle), geometry_of(name, seed), ("mask", "box"))
    assert set(np.unique(moved.tracks["mask"])) == {0, 255}
    for mask, box in zip(moved.tracks["mask"], moved.tracks["box"], strict=True):
        y, x = np.nonzero(mask)
        assert np.abs(box - (x.min(), y.min(), x.max(), y.max())).max() < 1.6


def test_masks_cut_out_the_pixels_they_mark() -> None:
    clip = square()
    frames = np.where(clip.tracks["mask"][..., None] > 0, 255, 0).astype(np.uint8).repeat(3, -1)
    clip = replace(clip, frames=frames)
    for seed in range(4):
        params = geometry_of("bold", seed)
        moved = augment_tracks(clip, ("mask",), np.arange(5), params)["mask"] / 255
        shown = augment_frames(frames, params)[..., 0]
        assert np.abs(moved - shown).max() < 0.9
        assert np.abs(moved - shown).mean() < 0.02  # half of the outline's pixels


# --- normals -------------------------------------------------------------------------------------------------------
def ball(jacobian: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """Normals of a ball stretched by the 2 x 2 matrix in the picture and by its determinant's root in depth."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    inverse, root = np.linalg.inv(jacobian), np.sqrt(abs(np.linalg.det(jacobian)))
    local = (np.stack([x, y], -1) - centre) @ inverse.T / radius
    depth = np.sqrt(np.maximum(1 - np.square(local).sum(-1), 0))
    gradient = local @ inverse * root
    vectors = np.stack([gradient[..., 0], -gradient[..., 1], depth], -1)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
    return np.where(np.square(local).sum(-1, keepdims=True) < 1, unit, 0)


@pytest.mark.parametrize("mirror", [False, True])
def test_camera_normals_of_a_ball_turn_and_stretch_with_it(mirror: bool) -> None:
    centre = np.array([25.0, 22.0])
    normals = ball(np.eye(2), centre, 14.0)[None]
    clip = Clip("ball", np.zeros((1, *SIZE, 3), np.uint8), 25.0, {"normals": normals}, {"normals": "camera"})
    affine = affine_matrix(SIZE, rotation=40, scale=(1.2, 0.8), shear=10, shift=(1, -2))
    moved = augment_tracks(clip, ("normals",), np.arange(1), replace(PLAIN, affine=affine, mirror=mirror))
    start = np.array([47 - centre[0], centre[1]]) if mirror else centre
    linear = affine[:, :2] @ np.diag([-1.0 if mirror else 1.0, 1.0])
    wanted = ball(linear, affine[:, :2] @ start + affine[:, 2], 14.0)
    inner = wanted[..., 2] > 0.4
    assert inner.sum() > 300
    assert np.abs(moved["normals"][0] - wanted)[inner].max() < 0.06
    assert np.allclose(np.linalg.norm(moved["normals"][0][inner], axis=-1), 1, atol=1e-5)


def test_object_normals_are_those_of_the_head_that_rolls_and_of_the_mirrored_head() -> None:
    """The world `faces` draws the truth: a head whose pose is rolled and shifted as the picture is."""
    clip = sample_clip("faces", 1, 0, 48, 2)
    identity, expression, pose = (np.asarray(clip.tracks[n], float) for n in ("identity", "expression", "pose"))
    params = replace(PLAIN, affine=affine_matrix(SIZE, rotation=20))
    moved = augment_tracks(clip, ("normals",), np.arange(2), params)["normals"]
    rolled = pose.copy()
    rolled[:, 2] += np.radians(20)
    # The neck turns about the picture's middle, the head about the neck: the shift takes back the difference.
    truth = normal_maps(identity[0], expression, rolled, 48).astype(np.float32)
    shown = [np.stack(np.nonzero((maps != 0).any(-1)[0])).mean(1)[::-1] for maps in (moved, truth)]
    rolled[:, 3:5] += (shown[0] - shown[1]) / 48
    truth = normal_maps(identity[0], expression, rolled, 48).astype(np.float32)
    covered = (moved != 0).any(-1) & (truth != 0).any(-1)
    assert covered.mean() > 0.1
    assert np.abs(moved - truth)[covered].mean() < 0.03
    mirrored = augment_tracks(clip, ("normals",), np.arange(2), replace(PLAIN, mirror=True))["normals"]
    assert np.allclose(mirrored, clip.tracks["normals"][:, :, ::-1] * np.float32([-1, 1, 1]), atol=2e-3)
