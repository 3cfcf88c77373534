"""Structure maps, which condition frames (Sec. 3.1): heat maps of joints and of points on limbs, normals of faces.

Poses are in the order of Penn Action: head, then left and right shoulders, elbows, wrists, hips, knees and ankles,
each (x, y, visibility) in pixels, pixel centres at integers. A joint with visibility 0 is not there.

Normals follow the release. They are those of the model's own frame, so a head that turns moves them on the picture
and does not change them; they point into the head, and are exactly (0, 0, 0) where there is no face.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stillmotion import media
from stillmotion.data import pose_tracks
from stillmotion.data.pose import find_joints
from stillmotion.errors import StillmotionError
from stillmotion.geometry import Size
from stillmotion.options import Box
from stillmotion.rendering.canvas import Canvas, square_box
from stillmotion.systems.structures import POSE_FILES, Observe, Poses, PosesFrom
from stillmotion.systems.structures.config import StructureConfig

JOINTS = 13
HEAD, LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP = 0, 1, 2, 7, 8
_SHOULDERS, _HIPS = 13, 14  # the middles of both, behind the joints

LIMBS = (
    (HEAD, _SHOULDERS),
    (LEFT_SHOULDER, RIGHT_SHOULDER),
    (1, 3), (2, 4), (3, 5), (4, 6),
    (_SHOULDERS, _HIPS),
    (LEFT_HIP, RIGHT_HIP),
    (7, 9), (8, 10), (9, 11), (10, 12),
)  # fmt: skip
"""Ends of the limbs: neck, shoulders, upper arms, forearms, trunk, hips, thighs, shins (Villegas et al.)."""

LIMB_POINTS = 4
"""Per limb, its ends included."""


_AROUND = 0.15
"""Free space around poses in a crop, as a share of their box."""


# --- poses ----------------------------------------------------------------------------------------------------------


def pose_vectors(poses: Tensor, side: float) -> Tensor:
    """Poses as the pose predictor reads them (Villegas et al.).

    Args:
        poses: ... x J x 3, (x, y, visibility) in pixels of a square picture.
        side: of the picture.

    Returns:
        ... x 2J: all x, then all y, each 2 x / side - 1; zero where a joint is not visible.
    """
    places = (2 / side * poses[..., :2] - 1) * (poses[..., 2:] > 0)
    return places.transpose(-1, -2).flatten(-2)


def vector_poses(vectors: Tensor, side: float) -> Tensor:
    """The inverse of `pose_vectors`: ... x 2J to poses ... x J x 3, all of them visible."""
    places = (vectors.unflatten(-1, (2, -1)).transpose(-1, -2) + 1) * (side / 2)
    return torch.cat([places, torch.ones_like(places[..., :1])], dim=-1)


def limb_points(poses: Tensor) -> Tensor:
    """Four evenly spaced points on each of twelve limbs.

    Args:
        poses: ... x 13 x 3, (x, y, visibility).

    Returns:
        ... x 48 x 3, limb by limb. Of a limb with one visible end there is that end alone.
    """
    shoulders, hips = (
        torch.cat([pair[..., :2].mean(-2, keepdim=True), pair[..., 2:].amin(-2, keepdim=True)], dim=-1)
        for pair in (poses[..., [LEFT_SHOULDER, RIGHT_SHOULDER], :], poses[..., [LEFT_HIP, RIGHT_HIP], :])
    )
    ends = torch.cat([poses, shoulders, hips], dim=-2)[..., torch.tensor(LIMBS, device=poses.device), :]
    start, end = ends[..., :1, :], ends[..., 1:, :]  # ... x 12 x 1 x 3
    share = torch.linspace(0, 1, LIMB_POINTS, dtype=poses.dtype, device=poses.device)[:, None]
    places = torch.lerp(start[..., :2], end[..., :2], share)  # ... x 12 x 4 x 2
    both = torch.minimum(start[..., 2:], end[..., 2:]).expand_as(places[..., :1])
    visible = torch.cat([start[..., 2:], both[..., 1:-1, :], end[..., 2:]], dim=-2)
    return torch.cat([places, visible], dim=-1).flatten(-3, -2)


def heat_maps(points: Tensor, size: Size, sigma: float) -> Tensor:
    """A map per point, a Gaussian with the value 1 at its place.

    Args:
        points: ... x K x 3, (x, y, visibility) in pixels of a picture of `size`.
        size: (height, width) of the maps.
        sigma: in pixels.

    Returns:
        ... x K x H x W in [0, 1]; all zeros where a point is not visible.
    """
    height, width = size
    x, y = (torch.arange(n, dtype=points.dtype, device=points.device) for n in (width, height))
    across = torch.exp(-((x - points[..., :1]) ** 2) / (2 * sigma**2))  # ... x K x W
    down = torch.exp(-((y - points[..., 1:2]) ** 2) / (2 * sigma**2)) * (points[..., 2:] > 0)
    # A place that is not known may be NaN, and NaN times zero is NaN.
    return (down[..., :, None] * across[..., None, :]).nan_to_num(0.0)


def pose_maps(poses: Tensor, kind: str, size: Size, sigma: float) -> Tensor:
    """Heat maps of poses.

    Args:
        poses: ... x 13 x 3, (x, y, visibility) in pixels of a picture of `size`.
        kind: `joints` or `limbs`.
        size: (height, width) of the maps.
        sigma: as a share of the width, see `StructureConfig`.

    Returns:
        ... x 13 x H x W of joints, or ... x 48 x H x W of points on limbs, in [0, 1].
    """
    return heat_maps(limb_points(poses) if kind == "limbs" else poses, size, sigma * size[1])


# --- what poses are to be taken -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PosePlan:
    """The poses of T frames of a still.

    Attributes:
        still: 13 x 3, the still's own pose, (x, y, visibility) in its pixels.
        poses: T x 13 x 3.
        fps: frames per second.
        config: of the structure maps.
    """

    still: np.ndarray
    poses: np.ndarray
    fps: float
    config: StructureConfig

    def __len__(self) -> int:
        return len(self.poses)

    def own(self, canvas: Canvas) -> Tensor:
        """The structure map of the still, 1 x C x S x S."""
        return self._maps(canvas, self.still[None])

    def maps(self, canvas: Canvas, start: int, stop: int) -> Tensor:
        """Structure maps of some frames, N x C x S x S."""
        return self._maps(canvas, self.poses[start:stop])

    def facts(self, t: int) -> dict[str, np.ndarray]:
        """The numbers of a frame: `pose`, 13 x 3, in pixels of the still."""
        return {"pose": self.poses[t]}

    def _maps(self, canvas: Canvas, poses: np.ndarray) -> Tensor:
        small = to_small(poses, canvas).to(canvas.small)
        return pose_maps(small, self.config.kind, (canvas.size, canvas.size), self.config.sigma)


def to_small(poses: np.ndarray, canvas: Canvas) -> Tensor:
    """Poses, ... x 13 x 3, in pixels of the networks' frames."""
    return torch.from_numpy(np.concatenate([canvas.to_small(poses[..., :2]), poses[..., 2:]], axis=-1))


def read_poses(control: Poses | PosesFrom | Observe, size: Size, most: int | None) -> tuple[np.ndarray, float | None]:
    """The poses that a control gives or that are detected in its video.

    Args:
        control: what gives them.
        size: (height, width) of the still.
        most: at most so many frames.

    Returns:
        T x 13 x 3 in pixels of the still or of the video, and frames per second, if they are known.

    Raises:
        StillmotionError: a file cannot be read, has other joints, or nobody is found in the video.
    """
    given: Any = control.poses if isinstance(control, Poses) else control.video
    is_file = isinstance(given, str | Path) and str(given).endswith(POSE_FILES)
    if isinstance(control, Poses) or is_file or getattr(given, "ndim", 0) == 3:
        name = control.joints if isinstance(control, Poses) else None
        return _given_poses(given, name, size, most, control.align_first)
    with media.video_batches(given, most) as (batches, fps):
        found = [(find_joints(batch), batch.shape[1:3]) for batch in batches]
    track, (height, width) = pose_tracks.joined(joints for joints, _ in found), found[0][1]
    return track if control.align_first else pose_tracks.scaled(track, (width, height), size), fps


def _given_poses(
    given: Any, joints: str | None, size: Size, most: int | None, aligned: bool
) -> tuple[np.ndarray, float | None]:
    if isinstance(given, str | Path):
        stored = pose_tracks.read_poses(Path(given))
    else:
        stored = pose_tracks.PoseFile(np.asarray(given), None, None, None)
    track = pose_tracks.to_track(stored.poses, joints or stored.joints)
    track = track if aligned else pose_tracks.scaled(track, stored.size, size)
    return track[:most], stored.fps


def still_pose(control: Poses | PosesFrom | Observe, still: np.ndarray) -> np.ndarray | None:
    """The still's own pose, 13 x 3: given, or detected where a switch needs it; else None.

    Raises:
        StillmotionError: nobody is found in the still, or the file does not hold one pose.
    """
    if control.still_pose is not None:
        given: Any = control.still_pose
        given = given[None] if getattr(given, "ndim", 0) == 2 else given
        own = _given_poses(given, None, (still.shape[0], still.shape[1]), None, False)[0]
        if len(own) != 1:
            raise StillmotionError(f"The still has one pose, and {len(own)} are given.")
        return np.asarray(own[0])
    if not (control.keep_proportions or control.align_first):
        return None
    found = find_joints(still[None], tracking=False)
    if np.isnan(found).all():
        raise StillmotionError(
            "No person is found in the still: give its pose with --still-pose, or leave proportions and place to the "
            "poses (--no-keep-proportions --no-align-first)."
        )
    return np.asarray(pose_tracks.to_track(found, "penn")[0])


def plan_poses(
    control: Poses | PosesFrom, still: np.ndarray, config: StructureConfig, fps: float, most: int | None
) -> PosePlan:
    """The poses of a control on the still's body.

    Args:
        control: see `read_poses`.
        still: H x W x 3, `uint8`.
        config: of the structure maps.
        fps: where neither control nor file say it.
        most: at most so many frames.

    Raises:
        StillmotionError: as `read_poses` and `still_pose`; or the poses do not lie in the still.
    """
    track, known = read_poses(control, (still.shape[0], still.shape[1]), most)
    own = still_pose(control, still)
    track = on_still(control, track, own)
    pose_tracks.check_inside(track, (still.shape[0], still.shape[1]))
    return PosePlan(track[0] if own is None else own, track, control.fps or known or fps, config)


def on_still(control: Poses | PosesFrom | Observe, track: np.ndarray, own: np.ndarray | None) -> np.ndarray:
    """A track with what the switches of the control ask for; see `pose_tracks.prepare`."""
    return pose_tracks.prepare(
        track,
        own,
        keep_proportions=control.keep_proportions,
        align=control.align_first,
        smoothed=control.smooth,
        filled=control.fill_gaps,
    )


def observed_poses(control: Observe, still: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, float | None]:
    """The poses that are observed, as if the still were the last of them.

    Args:
        control: see `read_poses`.
        still: H x W x 3, `uint8`.
        count: how many are observed.

    Returns:
        The still's pose, 13 x 3; T x 13 x 3 up to `count` poses; frames per second, if known.

    Raises:
        StillmotionError: as `plan_poses`.
    """
    track, fps = read_poses(control, (still.shape[0], still.shape[1]), count)
    own = still_pose(control, still)
    # Backwards, so that the last pose is the one that is aligned.
    track = on_still(control, track[::-1], own)[::-1]
    pose_tracks.check_inside(track, (still.shape[0], still.shape[1]))
    return (track[-1] if own is None else own), track, control.fps or fps


def pose_box(plan: PosePlan, size: Size) -> Box | None:
    """The square of the still in which all poses lie; None where that is about all of it.

    Args: a plan; (height, width) of the still.
    """
    poses = np.concatenate([plan.still[None], plan.poses])
    places = poses[..., :2][poses[..., 2] > 0]
    low, high = places.min(0), places.max(0)
    return square_box((low + high) / 2, (1 + 2 * _AROUND) * float((high - low).max()), size)


# --- normals --------------------------------------------------------------------------------------------------------


def triangle_normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Unit normals of triangles (a, b, c): the direction of (a - b) x (a - c).

    Args:
        vertices: 3 x V in the model's own frame, before the pose.
        triangles: T x 3, `int64`, from 0 on.

    Returns:
        3 x T; zero for a triangle without an area.
    """
    a, b, c = vertices[:, triangles].unbind(-1)  # 3 x T each
    normals = torch.linalg.cross(a - b, a - c, dim=0)
    return normals / normals.norm(dim=0).clamp_min(torch.finfo(torch.float32).eps)


def centre_distances(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Squared distance of the triangles' centres from the model's origin: the release's stand-in for depth.

    Args: as for `triangle_normals`. Returns: T.
    """
    return vertices[:, triangles].mean(-1).square().sum(0)


def visible_triangles(
    projected: Tensor, triangles: Tensor, size: Size, nearness: Tensor | None = None, whole: bool = False
) -> Tensor:
    """Which triangle shows at each pixel of a picture.

    Args:
        projected: 3 x V, (x, y) in pixels, and z towards the viewer.
        triangles: T x 3, `int64`, from 0 on.
        size: (height, width) of the picture.
        nearness: T, one value per triangle in place of z (the release's: `centre_distances`).
        whole: leave out triangles that the border cuts (release).

    Returns:
        H x W, `int64`: the triangle of the largest z or `nearness`, the first of equals; -1 where there is none.
    """
    height, width = size
    corners = projected[:, triangles]  # 3 x T x 3
    lowest, highest = corners[:2].amin(-1).ceil(), corners[:2].amax(-1).floor()  # 2 x T, of pixel centres inside
    limits = lowest.new_tensor([[width - 1], [height - 1]])
    inside = ((lowest >= 0) & (highest <= limits)).all(0)
    lowest, highest = lowest.clamp_min(0), torch.minimum(highest, limits)
    sides = (highest - lowest + 1).clamp_min(0).long()
    counts = sides.prod(0) * (inside if whole else torch.ones_like(inside))
    # One candidate per pixel of each triangle's box.
    triangle = torch.repeat_interleave(counts)
    order = torch.arange(len(triangle), device=triangle.device) - (counts.cumsum(0) - counts)[triangle]
    x = lowest[0].long()[triangle] + order % sides[0].clamp_min(1)[triangle]
    y = lowest[1].long()[triangle] + order // sides[0].clamp_min(1)[triangle]
    covered, z = _covered(corners[:, triangle], x, y)
    keys = (z if nearness is None else nearness[triangle])[covered]
    triangle, pixel = triangle[covered], (y * width + x)[covered]
    best = keys.new_full((height * width,), -torch.inf).scatter_reduce(0, pixel, keys, "amax")
    wins = keys == best[pixel]
    first = triangle.new_full((height * width,), len(triangles)).scatter_reduce(
        0, pixel[wins], triangle[wins], "amin"
    )
    return torch.where(first == len(triangles), -1, first).view(size)


def normal_map(normals: Tensor, shown: Tensor) -> Tensor:
    """The normals 3 x T of the triangles that show (`visible_triangles`), each flat over its pixels.

    Returns:
        3 x H x W, `float32`; zero where no triangle shows.
    """
    return (normals[:, shown.clamp_min(0)] * (shown >= 0)).float()


def _covered(corners: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Whether triangles cover pixels, their borders included, and their z there.

    Args: corners 3 x N x 3; pixels, N each. Returns: N, `bool`, and N.
    """
    a, b, c = corners.unbind(-1)  # 3 x N each
    across, along, to = (b - a)[:2], (c - a)[:2], torch.stack([x - a[0], y - a[1]])
    area = across[0] * along[1] - across[1] * along[0]
    second = (to[0] * along[1] - to[1] * along[0]) / area
    third = (across[0] * to[1] - across[1] * to[0]) / area
    first = 1 - second - third
    covered = (first >= 0) & (second >= 0) & (third >= 0)  # NaN, of a triangle without an area, is not
    return covered, first * a[2] + second * b[2] + third * c[2]
