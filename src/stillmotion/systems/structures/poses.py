"""What poses a control asks for, on the still's body.

Poses are as structure_maps.py has them, in pixels of the still.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

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
from stillmotion.systems.structures.displacements import limb_displacement
from stillmotion.systems.structures.structure_maps import pose_maps

_AROUND = 0.15
"""Free space around poses in a crop, as a share of their box."""


@dataclass(frozen=True, eq=False)
class PosePlan:
    """The poses of T frames of a still.

    Attributes:
        still: 13 x 3, the still's own pose, (x, y, visibility) in its pixels.
        poses: T x 13 x 3.
        fps: frames per second.
        config: of the structure maps.
        sound: of the video whose poses they are, from the first of them on.
    """

    still: np.ndarray
    poses: np.ndarray
    fps: float
    config: StructureConfig
    sound: media.Sound | None = None

    def __len__(self) -> int:
        return len(self.poses)

    def own(self, canvas: Canvas) -> Tensor:
        """The structure map of the still, 1 x C x S x S."""
        return self._maps(canvas, self.still[None])

    def maps(self, canvas: Canvas, start: int, stop: int) -> Tensor:
        """Structure maps of some frames, N x C x S x S."""
        return self._maps(canvas, self.poses[start:stop])

    def coarse(self, canvas: Canvas, start: int, stop: int) -> Tensor:
        """Where the body of some frames was in the still, N x S x S x 3; see displacements.py."""
        own, poses = (to_small(each, canvas).to(canvas.small) for each in (self.still[None], self.poses[start:stop]))
        return limb_displacement(own, poses, canvas.size)

    def facts(self, t: int) -> dict[str, np.ndarray]:
        """The numbers of a frame: `pose`, 13 x 3, in pixels of the still."""
        return {"pose": self.poses[t]}

    def _maps(self, canvas: Canvas, poses: np.ndarray) -> Tensor:
        small = to_small(poses, canvas).to(canvas.small)
        return pose_maps(small, self.config.kind, (canvas.size, canvas.size), self.config.sigma)


def to_small(poses: np.ndarray, canvas: Canvas) -> Tensor:
    """Poses, ... x 13 x 3, in pixels of the networks' frames."""
    return torch.from_numpy(np.concatenate([canvas.to_small(poses[..., :2]), poses[..., 2:]], axis=-1))


class FoundPoses(NamedTuple):
    """The poses of a control.

    Attributes:
        track: T x 13 x 3 in pixels of the still or of the video.
        fps: frames per second, if they are known.
        sound: of the video, from its first pose on.
    """

    track: np.ndarray
    fps: float | None
    sound: media.Sound | None = None


def read_poses(control: Poses | PosesFrom | Observe, size: Size, most: int | None) -> FoundPoses:
    """The poses that a control gives or that are detected in its video.

    Args:
        control: what gives them.
        size: (height, width) of the still.
        most: at most so many frames.

    Raises:
        StillmotionError: a file cannot be read, has other joints, or nobody is found in the video.
    """
    given: Any = control.poses if isinstance(control, Poses) else control.video
    is_file = isinstance(given, str | Path) and str(given).lower().endswith(POSE_FILES)
    if isinstance(control, Poses) or is_file or getattr(given, "ndim", 0) == 3:
        name = control.joints if isinstance(control, Poses) else None
        return _given_poses(given, name, size, most, control.align_first)
    with media.open_driver(given, control.fps, control.start) as video:
        track = pose_tracks.joined(map(find_joints, video.batches(most)))
    if not control.align_first:
        track = pose_tracks.scaled(track, video.size[::-1], size)
    return FoundPoses(track, video.fps, video.sound)


def _given_poses(given: Any, joints: str | None, size: Size, most: int | None, aligned: bool) -> FoundPoses:
    if isinstance(given, str | Path):
        stored = pose_tracks.read_poses(Path(given))
    else:
        stored = pose_tracks.PoseFile(np.asarray(given), None, None, None)
    track = pose_tracks.to_track(stored.poses, joints or stored.joints)
    track = track if aligned else pose_tracks.scaled(track, stored.size, size)
    return FoundPoses(track[:most], stored.fps)


def still_pose(control: Poses | PosesFrom | Observe, still: np.ndarray) -> np.ndarray | None:
    """The still's own pose, 13 x 3: given, or detected where a switch needs it; else None.

    Raises:
        StillmotionError: nobody is found in the still, or the file does not hold one pose.
    """
    if control.still_pose is not None:
        given: Any = control.still_pose
        given = given[None] if getattr(given, "ndim", 0) == 2 else given
        own = _given_poses(given, None, (still.shape[0], still.shape[1]), None, False).track
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
    found = read_poses(control, (still.shape[0], still.shape[1]), most)
    own = still_pose(control, still)
    track = on_still(control, found.track, own)
    pose_tracks.check_inside(track, (still.shape[0], still.shape[1]))
    return PosePlan(track[0] if own is None else own, track, control.fps or found.fps or fps, config, found.sound)


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


def observed_poses(control: Observe, still: np.ndarray, count: int) -> tuple[np.ndarray, FoundPoses]:
    """The poses that are observed, as if the still were the last of them.

    Args:
        control: see `read_poses`.
        still: H x W x 3, `uint8`.
        count: how many are observed.

    Returns:
        The still's pose, 13 x 3; up to `count` poses, with the sound from the last of them on.

    Raises:
        StillmotionError: as `plan_poses`.
    """
    track, known, sound = read_poses(control, (still.shape[0], still.shape[1]), count)
    own, fps = still_pose(control, still), control.fps or known
    # Backwards, so that the last pose is the one that is aligned.
    track = on_still(control, track[::-1], own)[::-1]
    pose_tracks.check_inside(track, (still.shape[0], still.shape[1]))
    sound = sound.later((len(track) - 1) / fps) if sound and fps else None
    return (track[-1] if own is None else own), FoundPoses(track, fps, sound)


def pose_box(plan: PosePlan, size: Size) -> Box | None:
    """The square of the still in which all poses lie; None where that is about all of it.

    Args: a plan; (height, width) of the still.
    """
    poses = np.concatenate([plan.still[None], plan.poses])
    places = poses[..., :2][poses[..., 2] > 0]
    low, high = places.min(0), places.max(0)
    return square_box((low + high) / 2, (1 + 2 * _AROUND) * float((high - low).max()), size)
