"""An optional first stage that is ours, not the paper's: made clips with known joints guide the detector.

A small network on a slow processor needs thousands of steps before unsupervised keypoints leave the torso
(docs/log.md, 2026-11-21). Puppets know where their joints are, and a pose network finds those of real people
(`prepare --tracks joints`), so the detector can first learn from clips with that track; afterwards it learns on
without labels. Presets `paper` and `release` do without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset

from stillmotion import geometry
from stillmotion.data.augment import (
    AUGMENTATIONS,
    Augmentation,
    AugmentParams,
    augment_frames,
    move_points,
    sample_params,
)
from stillmotion.data.sampling import clip_index, sample_rng, to_tensor
from stillmotion.errors import StillmotionError
from stillmotion.systems.driving.config import DrivingConfig
from stillmotion.systems.driving.drawing import keypoint_sheet
from stillmotion.systems.driving.networks import DrivingNetworks, Keypoints

SIDES = ("left", "right")
JOINTS = (
    *(f"{side}_{part}" for part in ("wrist", "elbow") for side in SIDES),
    "head",
    "neck",
    *(f"{side}_{part}" for part in ("hip", "knee", "ankle") for side in SIDES),
)
"""What keypoint k is guided to; the first `config.keypoints` of them. The neck is the middle of the shoulders."""
LEAST_WEIGHT = 0.2
"""What a hidden joint counts beside a visible one: a pose network's guess of it is often wrong."""


class GuideStage:
    """The detector alone learns to place its keypoints on a figure's joints."""

    name = "guide"

    def __init__(self, model: DrivingNetworks, config: DrivingConfig, clips: Sequence[Any]):
        self.model, self.config = model, config
        self.steps, self.batch = config.guide_steps, 2 * config.batch
        self.dataset = GuideDataset(clips, config.keypoints, config.seed, AUGMENTATIONS[config.augmentation])
        self.clips = clips
        self.networks: Mapping[str, nn.Module] = {"detector": model.detector}
        self.ema: Mapping[str, nn.Module] = {"detector": model.detector}
        self.optimizers = {"detector": Adam(model.detector.parameters(), 1e-3, (0.9, 0.999))}
        self.schedulers = {
            "detector": LambdaLR(self.optimizers["detector"], lambda step: max(0.02, 1 - step / self.steps))
        }

    def step(self, batch: Mapping[str, Any], update: Callable[[str, Tensor], None]) -> dict[str, Tensor]:
        """One step towards the joints.

        Args:
            batch: `frame`, B x 3 x S x S, `points`, B x K x 2, normalised, and `weights`, B x K.
            update: called as `update("detector", loss)`.
        """
        found = self.model.detector(batch["frame"])
        away = distance(found.mean, batch["points"], batch["weights"])
        terms = {"distance": away, "spread": 10 * too_sharp(found)}
        update("detector", terms["distance"] + terms["spread"])
        return {name: value.detach() for name, value in terms.items()}

    def preview(self) -> dict[str, np.ndarray]:
        """Keypoints on training clips."""
        return {"keypoints": keypoint_sheet(self.model, self.clips)}


class GuideDataset(Dataset[dict[str, Any]]):
    """Single frames with their joints; item n is a pure function of n.

    Raises:
        StillmotionError: no clip knows its joints, or more keypoints are asked for than there are joints.
    """

    def __init__(self, clips: Sequence[Any], keypoints: int, seed: int, augmentation: Augmentation):
        self.clips = [clip for clip in clips if "joints" in clip.tracks]
        if not self.clips:
            raise StillmotionError("guide_steps needs clips with a track `joints`; add some or set guide_steps=0.")
        if keypoints > len(JOINTS):
            raise StillmotionError(f"guide_steps works with at most {len(JOINTS)} keypoints, not {keypoints}.")
        self.keypoints, self.seed, self.augmentation = keypoints, seed, augmentation

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = self.clips[clip_index(len(self.clips), index, self.seed)]
        rng = sample_rng(self.seed, index)
        chosen = rng.integers(len(clip), size=1)
        frames = clip.frames[chosen]
        drawn = sample_params(frames.shape[1:3], rng, self.augmentation)
        aims = joint_aims(clip, chosen, drawn, self.keypoints)
        return {
            "frame": to_tensor(augment_frames(frames, drawn))[0],
            "name": clip.name,
            **{k: v[0] for k, v in aims.items()},
        }


def joint_aims(clip: Any, chosen: np.ndarray, drawn: AugmentParams, keypoints: int) -> dict[str, Tensor]:
    """Where keypoints belong in T frames of a clip after an augmentation, and how much each counts.

    Returns:
        `points`, T x K x 2, normalised, and `weights`, T x K, all zero for a clip that does not know its joints.
    """
    if "joints" not in clip.tracks:
        count = len(chosen)
        return {"points": torch.zeros(count, keypoints, 2), "weights": torch.zeros(count, keypoints)}
    places = np.stack([joint_points(clip, int(at)) for at in chosen])  # T x 12 x 3
    points = move_points(places[..., :2], drawn)
    visible = np.ascontiguousarray(places[::-1, :, 2] if drawn.reverse else places[..., 2])
    names = [mirrored(name) if drawn.mirror else name for name in JOINTS]
    order = [JOINTS.index(name) for name in names][:keypoints]
    # A knee below the picture's rim is aimed at the rim: a steady place is worth more than a free one.
    aim = geometry.to_normalised(torch.from_numpy(points[:, order]), drawn.out).clamp(-1, 1)
    return {"points": aim, "weights": torch.from_numpy(LEAST_WEIGHT + (1 - LEAST_WEIGHT) * visible[:, order])}


def distance(found: Tensor, points: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean distance (L1 per axis) of N x K x 2 keypoints from their aims; zero where no weight is."""
    away = (found - points).abs().mean(2)
    return (weights * away).sum() / weights.sum().clamp_min(1e-6)


def joint_points(clip: Any, at: int) -> np.ndarray:
    """The places of `JOINTS` in frame `at` and how visible they are; 12 x 3: (x, y) pixels, [0, 1]."""
    joints = np.asarray(clip.tracks["joints"][at])
    place = {name: joints[i] for i, name in enumerate(clip.meta["joints"])}
    place["neck"] = (place["left_shoulder"] + place["right_shoulder"]) / 2
    return np.stack([place[name] for name in JOINTS])


def mirrored(name: str) -> str:
    """The joint that looks like `name` in a mirror."""
    if name.startswith("left_"):
        return name.replace("left_", "right_")
    return name.replace("right_", "left_")


def too_sharp(keypoints: Keypoints, least: float = 0.005) -> Tensor:
    """How far the maps' variance (mean of both axes) falls below `least`, in squared normalised units; a scalar.

    Without it the maps shrink to single pixels, whose gaussians tell the motion network nothing. The square root
    of 0.005 is 2.2 of 64 pixels, about the width of an arm. Too wide a map is left to the distance: a pull from both
    sides froze the keypoints where they were.
    """
    return (least - keypoints.covariance.diagonal(dim1=-2, dim2=-1).mean(-1)).clamp_min(0).mean()
