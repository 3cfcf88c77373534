"""Pose tracks: joint sets by name, bones, one body's motion on another body, smoothing, gaps.

A track is T x 13 x 3, `float64`: (x, y) in pixels and visibility, in the order of `pose.JOINTS`. A joint with
visibility 0 is not there, and its place means nothing. Functions return new arrays.

What users of pose-driven animators ask for most is here: the driver's bone lengths are not imposed on the still
(`retarget`), the first pose lies where the still's body is (`align_first`), and jitter and gaps of detectors do not
reach the frames (`smooth`, `fill_gaps`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stillmotion.data.pose import JOINTS
from stillmotion.errors import StillmotionError, check_known
from stillmotion.files import load_array, read_json

_HEAD = ("nose", "left_ear", "right_ear")
"""A head is their middle (as in `pose`), where a joint set has none."""

JOINT_SETS: dict[str, tuple[str, ...]] = {
    "penn": JOINTS,  # this house's own order is Penn Action's
    "coco": (
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
        "right_ankle",
    ),
    "openpose": (
        "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
        "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye",
        "right_ear", "left_ear",
    ),
}  # fmt: skip
"""Names of joints in their order: 13 (Penn Action), 17 (COCO) and 18 (OpenPose's COCO model)."""

PELVIS, NECK = len(JOINTS), len(JOINTS) + 1
"""The middles of hips and of shoulders, behind the joints."""

BONES: tuple[tuple[int, int], ...] = (
    (PELVIS, NECK), (NECK, 0),
    (NECK, 1), (NECK, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    (PELVIS, 7), (PELVIS, 8), (7, 9), (8, 10), (9, 11), (10, 12),
)  # fmt: skip
"""A tree from the pelvis: trunk, head; then left and right of shoulders, arms, hips, legs."""

_MIRRORED = (0, 1, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12)
"""The bone of the body's other side."""

_FULL = 95
"""Percentile of a bone's lengths over time that counts as its whole length; a detector's outliers lie above."""


class PoseFile(NamedTuple):
    """Poses as a person gives them, and what the file says of them."""

    poses: np.ndarray  # T x J x 2 or 3, NaN where a joint is missing
    joints: str | None  # name of the joint set
    size: tuple[int, int] | None  # (width, height) of the picture that they are in
    fps: float | None


def read_poses(path: Path) -> PoseFile:
    """Read a .npy file, T x J x 2 or 3; or JSON: such lists, or an object with them as `poses`.

    The object may also have `joints` (a name of `JOINT_SETS`), `size` ([width, height]) and `fps`. In JSON `null`
    stands for a coordinate that is not known.

    Raises:
        StillmotionError: the file cannot be read or holds something else.
    """
    if path.suffix.lower() == ".npy":
        return PoseFile(load_array(path, "The file of poses"), None, None, None)
    stored = read_json(path)
    told = stored if isinstance(stored, dict) else {"poses": stored}
    if "poses" not in told or set(told) - {"poses", "joints", "size", "fps"}:
        raise StillmotionError(f"The file {path} must hold poses, and may hold joints, size and fps, nothing else.")
    size, fps, joints = told.get("size"), told.get("fps"), told.get("joints")
    if size is not None and not (isinstance(size, list) and len(size) == 2 and all(_positive(n) for n in size)):
        raise StillmotionError(f"The size in {path} must be [width, height] in pixels, not {size!r}.")
    if not (fps is None or _positive(fps)) or not isinstance(joints, str | None):
        raise StillmotionError(f"In {path} fps must be a number above 0, and joints a name.")
    try:
        poses = np.array(told["poses"], float)  # None becomes NaN
    except (TypeError, ValueError, OverflowError) as error:
        raise StillmotionError(f"The poses in {path} are not numbers in even rows ({error}).") from error
    return PoseFile(poses, joints, None if size is None else (size[0], size[1]), fps)


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def to_track(poses: np.ndarray, joints: str | None = None) -> np.ndarray:
    """Poses of a named joint set as a track.

    Args:
        poses: T x J x 2 or 3, (x, y) and visibility; NaN where a joint is missing.
        joints: a name of `JOINT_SETS`; None: the only one with so many joints.

    Raises:
        StillmotionError: another shape, an unknown set, or another number of joints than it has.
    """
    poses = np.asarray(poses)
    if poses.ndim != 3 or not len(poses) or poses.shape[2] not in (2, 3) or poses.dtype.kind not in "fiu":
        raise StillmotionError(
            f"Poses are T x J x 2 or T x J x 3, (x, y, visibility) of each joint, not {poses.dtype} {poses.shape}."
        )
    if joints is None:
        fitting = [name for name, names in JOINT_SETS.items() if len(names) == poses.shape[1]]
        if not fitting:
            sets = ", ".join(f"{name} ({len(names)})" for name, names in JOINT_SETS.items())
            raise StillmotionError(f"Poses of {poses.shape[1]} joints are of no known set; known are {sets}.")
        joints = fitting[0]
    check_known("joint set", joints, JOINT_SETS)
    names = JOINT_SETS[joints]
    if len(names) != poses.shape[1]:
        raise StillmotionError(f"The joint set {joints} has {len(names)} joints, and the poses {poses.shape[1]}.")
    places = poses[..., :2].astype(float)
    seen = poses[..., 2].astype(float) if poses.shape[2] == 3 else np.ones(places.shape[:2])
    seen = np.where(np.isfinite(places).all(-1) & np.isfinite(seen), seen, 0).clip(0)
    track = np.concatenate([np.where(seen[..., None] > 0, places, 0), seen[..., None]], -1)
    if "head" in names:
        return track[:, [names.index(name) for name in JOINTS]]
    others = track[:, [names.index(name) for name in JOINTS[1:]]]
    return np.concatenate([_middle(track[:, [names.index(name) for name in _HEAD]]), others], axis=1)


def _middle(joints: np.ndarray) -> np.ndarray:
    """The middle of those of the joints that are visible, T x 1 x 3."""
    seen: np.ndarray = joints[..., 2:] > 0
    count = seen.sum(1, keepdims=True)
    mean = np.where(seen, joints, 0).sum(1, keepdims=True) / np.maximum(count, 1)
    return np.asarray(mean)


# --- bones ----------------------------------------------------------------------------------------------------------


def with_middles(track: np.ndarray) -> np.ndarray:
    """The track with pelvis and neck behind its joints, ... x 15 x 3; seen where both sides are."""
    pairs = [(JOINTS.index(f"left_{part}"), JOINTS.index(f"right_{part}")) for part in ("hip", "shoulder")]
    middles = [
        np.concatenate([track[..., pair, :2].mean(-2), track[..., pair, 2:].min(-2)], -1)[..., None, :]
        for pair in map(list, pairs)
    ]
    return np.concatenate([track, *middles], axis=-2)


def bone_vectors(track: np.ndarray) -> np.ndarray:
    """From start to end of each of `BONES`, ... x 14 x 2; NaN where an end is not visible."""
    points, ends = with_middles(track), np.array(BONES)
    seen = points[..., ends, 2].min(-1) > 0
    vectors = points[..., ends[:, 1], :2] - points[..., ends[:, 0], :2]
    return np.where(np.asarray(seen)[..., None], vectors, np.nan)


def bone_lengths(track: np.ndarray) -> np.ndarray:
    """In pixels, ... x 14; NaN where an end is not visible."""
    return np.asarray(np.linalg.norm(bone_vectors(track), axis=-1))


def bone_angles(track: np.ndarray) -> np.ndarray:
    """Directions in the picture, ... x 14, radians from x towards y; NaN where an end is not visible."""
    vectors = bone_vectors(track)
    return np.asarray(np.arctan2(vectors[..., 1], vectors[..., 0]))


def size_ratio(track: np.ndarray, still: np.ndarray) -> float:
    """How large the still's body, 13 x 3, is over the track's: the median over the bones of both.

    Raises:
        StillmotionError: they have no bone in common.
    """
    ratios = bone_lengths(still) / _full_lengths(track)
    ratios = ratios[np.isfinite(ratios) & (ratios > 0)]
    if not len(ratios):
        raise StillmotionError("The still's pose and the poses have no visible bone in common to compare.")
    return float(np.median(ratios))


def _full_lengths(track: np.ndarray) -> np.ndarray:
    """The whole length of each bone, 14: what it has where it is not foreshortened; NaN where it is never seen."""
    lengths = bone_lengths(track)
    return np.array([np.percentile(own[np.isfinite(own)], _FULL) if np.isfinite(own).any() else np.nan
                     for own in lengths.T])  # fmt: skip


# --- from one body to another ---------------------------------------------------------------------------------------


def retarget(track: np.ndarray, still: np.ndarray) -> np.ndarray:
    """The driver's motion with the still's proportions: bones keep the driver's directions and the still's lengths.

    A bone that the driver turns towards the camera is shorter in the picture; the still's bone shortens by the same
    share. The root (the pelvis, or the neck where that is seen more often) moves by the driver's steps in units of
    the body's size, from where the driver has it first; `align_first` puts it where the still has it. A bone that
    the still does not show has the length of the other side's, or of the driver's at the still's size.

    Args:
        track: T x 13 x 3, the driver's.
        still: 13 x 3, the still's pose, of which only lengths count.

    Returns:
        T x 13 x 3; joints behind a joint that the driver does not show are missing as well.

    Raises:
        StillmotionError: there is no bone in common, or no frame shows both hips or both shoulders.
    """
    scale, full = size_ratio(track, still), _full_lengths(track)
    own = bone_lengths(still)
    own = np.where(np.isfinite(own), own, own[list(_MIRRORED)])
    factors = np.where(np.isfinite(own), own, scale * full) / np.where(full > 0, full, 1)
    vectors = bone_vectors(track) * factors[:, None]
    points = with_middles(track)
    root = PELVIS if (points[:, PELVIS, 2] > 0).sum() >= (points[:, NECK, 2] > 0).sum() else NECK
    seen = np.flatnonzero(points[:, root, 2] > 0)
    if not len(seen):
        raise StillmotionError("No frame shows both hips or both shoulders, by which a body is placed.")
    first = points[seen[0], root, :2]
    made = np.full((*points.shape[:2], 2), np.nan)
    made[seen, root] = first + scale * (points[seen, root, :2] - first)
    for (start, end), vector in zip(BONES, vectors.transpose(1, 0, 2), strict=True):
        if end == root:
            made[:, start] = made[:, end] - vector
        else:
            made[:, end] = made[:, start] + vector
    known = np.isfinite(made[:, : len(JOINTS)].sum(-1))
    return np.concatenate(
        [np.where(known[..., None], made[:, : len(JOINTS)], 0), (track[..., 2] * known)[..., None]], axis=-1
    )


def align_first(track: np.ndarray, still: np.ndarray) -> np.ndarray:
    """The whole track shifted and scaled so that its body has the still's size, and its first pose the still's place.

    Args:
        track: T x 13 x 3.
        still: 13 x 3.

    Raises:
        StillmotionError: there is no bone in common, or no pose shares a joint with the still's.
    """
    scale = size_ratio(track, still)
    one, other = with_middles(track), with_middles(still)
    # Trunks are compared where they can be: arms and legs may be anywhere.
    for anchors in ([PELVIS], [NECK], range(len(JOINTS))):
        common: np.ndarray = (one[:, anchors, 2] > 0) & (other[anchors, 2] > 0)
        if common.any():
            t = int(common.any(1).argmax())
            here = np.asarray(anchors)[common[t]]
            offset = other[here, :2].mean(0) - scale * one[t, here, :2].mean(0)
            return np.concatenate([scale * track[..., :2] + offset, track[..., 2:]], axis=-1)
    raise StillmotionError("The still's pose and the poses have no visible joint in common.")


# --- over time ------------------------------------------------------------------------------------------------------


def smooth(track: np.ndarray, std: float = 1.5) -> np.ndarray:
    """Visible joints on parabolas fitted around each frame, under a gaussian of `std` frames.

    This is a Savitzky-Golay filter whose weights skip joints that are not visible. Even motion and even acceleration
    stay exactly as they are; jitter is lowered. A joint with fewer than four visible frames nearby stays.
    """
    times, made = np.arange(len(track)), track.astype(float)
    reach = int(np.ceil(3 * std))
    for t in times:
        window = slice(max(t - reach, 0), t + reach + 1)
        offset = (times[window] - t) / max(reach, 1)
        terms = np.stack([np.ones_like(offset), offset, offset**2], -1)  # n x 3
        weights = np.exp(-0.5 * ((times[window] - t) / std) ** 2)[:, None] * (track[window, :, 2] > 0)  # n x 13
        enough = ((weights > 0).sum(0) >= 4) & (track[t, :, 2] > 0)
        # Per joint: (terms' W terms)^-1 terms' W places; at offset 0 the parabola is its first coefficient.
        left = np.einsum("ni,nk,nj->kij", terms, weights, terms)[enough]
        right = np.einsum("ni,nk,nkd->kid", terms, weights, np.nan_to_num(track[window, :, :2]))[enough]
        made[t, enough, :2] = np.linalg.solve(left, right)[:, 0]
    return made


def fill_gaps(track: np.ndarray, longest: int = 25) -> np.ndarray:
    """Joints that are missing for up to `longest` frames, interpolated linearly in time; at the ends they are held.

    Filled joints have the visibility 1. Longer gaps, and joints that are never seen, stay missing.
    """
    made, times = track.astype(float), np.arange(len(track))
    for joint in range(track.shape[1]):
        seen = np.flatnonzero(track[:, joint, 2] > 0)
        if not len(seen):
            continue
        after = np.searchsorted(seen, times)
        before = np.where(after > 0, seen[np.maximum(after - 1, 0)], -1)
        gap = np.where(after < len(seen), seen[np.minimum(after, len(seen) - 1)], len(track)) - before - 1
        filled = (track[:, joint, 2] <= 0) & (gap <= longest)
        for axis in range(2):
            made[filled, joint, axis] = np.interp(times[filled], seen, track[seen, joint, axis])
        made[filled, joint, 2] = 1
    return made


def prepare(
    track: np.ndarray,
    still: np.ndarray | None,
    *,
    keep_proportions: bool,
    align: bool,
    smoothed: bool,
    filled: bool,
) -> np.ndarray:
    """A driver's track made ready for a still, T x 13 x 3: gaps, jitter, proportions, place, in this order.

    Args:
        track: T x 13 x 3.
        still: 13 x 3, the still's pose; only needed for `keep_proportions` and `align`.
        keep_proportions: see `retarget`.
        align: see `align_first`.
        smoothed: see `smooth`.
        filled: see `fill_gaps`.
    """
    track = fill_gaps(track) if filled else track
    track = smooth(track) if smoothed else track
    if keep_proportions and still is not None:
        track = retarget(track, still)
    return align_first(track, still) if align and still is not None else track


def check_inside(track: np.ndarray, size: tuple[int, int]) -> None:
    """Refuse poses most of whose joints lie outside of the still: they are those of another picture.

    Args:
        track: T x 13 x 3.
        size: (height, width) of the still.

    Raises:
        StillmotionError: so they do, or no joint is visible at all.
    """
    seen = track[..., 2] > 0
    if not seen.any():
        raise StillmotionError("The poses have no visible joint.")
    places = track[..., :2][seen]
    outside = ((places < -0.5) | (places > np.array([size[1], size[0]]) - 0.5)).any(-1)
    if outside.mean() > 0.5:
        x, y = places.mean(0)
        raise StillmotionError(
            f"Most joints lie outside of the still, which is {size[1]} x {size[0]} pixels (their middle is at "
            f"{x:.0f},{y:.0f}): give poses in its pixels, or align them with it (--align-first)."
        )


def scaled(poses: np.ndarray, given: tuple[int, int] | None, size: tuple[int, int]) -> np.ndarray:
    """Poses of a file in pixels of the still; outer edges of the two pictures are aligned.

    Args:
        poses: T x J x 2 or 3.
        given: (width, height) that the file says; None: they are in the still's pixels.
        size: (height, width) of the still.

    Raises:
        StillmotionError: the two pictures have different shapes.
    """
    if given is None:
        return poses
    factors = size[1] / given[0], size[0] / given[1]
    if abs(factors[0] / factors[1] - 1) > 0.02:
        raise StillmotionError(
            f"The poses are of a picture of {given[0]} x {given[1]} pixels, whose shape is not that of the still "
            f"({size[1]} x {size[0]}): crop one of them, or leave the size out and align them (--align-first)."
        )
    places = (poses[..., :2] + 0.5) * np.array(factors) - 0.5
    return np.concatenate([places, poses[..., 2:]], axis=-1)


def joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Detections in parts, N x 13 x 3 each with NaN where nobody is found, as one track.

    Raises:
        StillmotionError: there are no frames, or nobody is found in any.
    """
    found: Sequence[np.ndarray] = list(parts)
    if not found or np.isnan(whole := np.concatenate(found)).all():
        raise StillmotionError("No person is found in any frame of the video.")
    return to_track(whole, "penn")
