"""What the networks learn from: pairs of frames, and single frames with joints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stillmotion import geometry, media
from stillmotion.data.augment import AugmentParams, find_augmentation
from stillmotion.data.motion_truth import motion_truth
from stillmotion.data.plates import Plates
from stillmotion.data.sampling import FrameDataset, PairDataset
from stillmotion.data.track_augment import augment_tracks, mirrored_name
from stillmotion.errors import StillmotionError
from stillmotion.keypoints.networks import KeypointDetector, Keypoints
from stillmotion.nn.modes import eval_mode

SIDES = ("left", "right")


JOINTS = (
    *(f"{side}_{part}" for part in ("wrist", "elbow") for side in SIDES),
    "head",
    "neck",
    *(f"{side}_{part}" for part in ("hip", "knee", "ankle") for side in SIDES),
)
"""The joint that keypoint k is supervised with; the first K of them. The neck is the middle of the shoulders."""


def partners(count: int) -> tuple[int, ...]:
    """Which of the first `count` of `JOINTS` each one is in a mirror; itself if its partner is not among them."""
    found = [JOINTS.index(mirrored_name(name)) for name in JOINTS[:count]]
    return tuple(other if other < count else k for k, other in enumerate(found))


LEAST_WEIGHT = 0.2
"""Weight of a hidden joint beside a visible one: a pose network's estimate of it is often wrong."""


DETECT_BATCH = 64
"""Frames that go through the detector together."""


def pairs(
    clips: Sequence[Any], seed: int, augmentation: str, batch: int, joints: int = 0, motion: bool = False
) -> PairDataset:
    """Pairs of frames of one clip, with the `joint_targets` of so many joints, their `motion_truth` and the plate."""
    return PairDataset(
        clips,
        seed,
        find_augmentation(augmentation),
        # One pair per clip and epoch, the partial batch dropped (release); a handful of clips would leave none.
        drop_batch=batch if len(clips) >= batch else None,
        extra=partial(known_targets, joints=joints, plates=Plates() if motion else None),
    )


def known_targets(
    clip: Any, indices: np.ndarray, params: AugmentParams, joints: int, plates: Plates | None
) -> dict[str, Tensor]:
    """What a pair knows besides its frames: `joint_targets`, and with `plates` its `motion_truth` and `plate`."""
    targets = joint_targets(clip, indices, params, joints) if joints else {}
    if plates is None:
        return targets
    return targets | motion_truth(clip, indices, params) | {"plate": plates(clip, indices, params)}


def halved(batch: Mapping[str, Any]) -> dict[str, Any]:
    """A batch of `pairs` with pictures of half the size, and what is known of them.

    Pixels are means of four, so points about the middle of a picture move outwards where its corners are -1 and 1.
    """
    stretch = (batch["source"].shape[3] - 1) / (batch["source"].shape[3] - 2)
    smaller = dict(batch)
    for name in {"source", "driving", "plate"} & batch.keys():
        smaller[name] = F.avg_pool2d(batch[name], 2)
    if "points" in batch:
        smaller["points"] = batch["points"] * stretch
    if "displacement" in batch:
        smaller["displacement"] = stretch * F.avg_pool2d(batch["displacement"].permute(0, 3, 1, 2), 2).permute(
            0, 2, 3, 1
        )
        smaller["moving"] = F.avg_pool2d(batch["moving"][:, None], 2)[:, 0]
    for name in {"visibility", "figure"} & batch.keys():
        smaller[name] = batch[name][..., ::2, ::2]
    return smaller


def frames_with_joints(clips: Sequence[Any], keypoints: int, seed: int, augmentation: str) -> FrameDataset:
    """Single frames of the clips that know their joints, with the targets of `joint_targets`.

    Raises:
        StillmotionError: no clip knows its joints, or more keypoints are asked for than there are joints.
    """
    known = [clip for clip in clips if "joints" in clip.tracks]
    if not known:
        raise StillmotionError(
            "Keypoint supervision needs clips with a track `joints`; add some or set keypoint_supervision.steps=0."
        )
    if keypoints > len(JOINTS):
        raise StillmotionError(f"Keypoint supervision has {len(JOINTS)} joints for at most as many keypoints.")
    extra = partial(joint_targets, keypoints=keypoints)
    return FrameDataset(known, seed, find_augmentation(augmentation), extra=extra)


def joint_targets(clip: Any, indices: np.ndarray, params: AugmentParams, keypoints: int) -> dict[str, Tensor]:
    """Where keypoints belong in T frames of a clip after an augmentation, and how much each counts.

    Returns:
        `points`, T x K x 2, normalised, and `weights`, T x K, all zero for a clip that does not know its joints.
    """
    if "joints" not in clip.tracks:
        count = len(indices)
        return {"points": torch.zeros(count, keypoints, 2), "weights": torch.zeros(count, keypoints)}
    joints = augment_tracks(clip, ("joints",), indices, params)["joints"]  # T x J x 3: pixels, visibility
    places = np.stack([joint_places(frame, clip.meta["joints"]) for frame in joints])[:, :keypoints]
    # A knee below the picture's border is placed on the border: a steady target is better than none.
    points = geometry.to_normalised(torch.from_numpy(places[..., :2].copy()), params.out).clamp(-1, 1)
    visible = torch.from_numpy(places[..., 2].copy())
    return {"points": points, "weights": LEAST_WEIGHT + (1 - LEAST_WEIGHT) * visible}


def joint_places(joints: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The places of `JOINTS` and how visible they are, out of a frame's named joints; J x 3 to 12 x 3."""
    place = {name: joints[i] for i, name in enumerate(names)}
    place["neck"] = (place["left_shoulder"] + place["right_shoulder"]) / 2
    return np.stack([place[name] for name in JOINTS])


@torch.no_grad()
def detect(detector: KeypointDetector, frames: np.ndarray) -> Keypoints:
    """Keypoints of a whole clip, T x S x S x 3 `uint8`, as they are found when animating; on the CPU, time first."""
    device = next(detector.parameters()).device
    with eval_mode(detector):
        found = [
            detector(media.to_tensor(frames[start : start + DETECT_BATCH]).to(device))
            for start in range(0, len(frames), DETECT_BATCH)
        ]
    mean, covariance = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
    return Keypoints(mean, covariance)
