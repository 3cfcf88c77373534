"""Image-to-video translation: how the predictor learns to continue keypoints (sheet section 7).

The detector is finished. It finds the keypoints of all training clips once; the predictor then learns from windows of
them and never sees a picture. The network itself is in `networks.py`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import Dataset

from stillmotion.data.sampling import clip_index, sample_rng, window
from stillmotion.errors import StillmotionError
from stillmotion.systems.driving.config import DrivingConfig
from stillmotion.systems.driving.drawing import draw_paths, evenly, to_frames
from stillmotion.systems.driving.networks import DrivingNetworks, KeypointDetector, Keypoints

DETECT_BATCH = 64
"""Frames in which the detector looks for keypoints together."""


class PredictStage:
    """The last stage: the predictor alone learns, from the keypoints that the detector finds.

    Attributes as `stillmotion.training.Stage` asks; one Adam and a rate that falls on a plateau, as in the release.
    """

    name = "predict"
    dataset: KeypointWindows  # known when the detector is: see `begin`

    def __init__(
        self,
        model: DrivingNetworks,
        config: DrivingConfig,
        clips: Sequence[Any],
        preview_clips: Sequence[Any] = (),
    ):
        assert model.predictor is not None
        self.model, self.config, self.predictor = model, config, model.predictor
        self.steps, self.batch = config.predict_steps, config.predict_batch
        self.clips, self.preview_clips = clips, preview_clips or clips
        self.window = window_length(clips, config.predict_window)
        self.networks: Mapping[str, nn.Module] = {"predictor": self.predictor}
        self.optimizers = {"predictor": Adam(self.predictor.parameters(), config.predict_learning_rate)}
        self.plateau = EpochPlateau(
            self.optimizers["predictor"], math.ceil(len(clips) / self.batch), config.predict_patience
        )
        self.schedulers = {"predictor": self.plateau}

    def begin(self) -> None:
        """Find the keypoints of all clips, now that the detector has its final weights."""
        found = [(clip.name, detect(self.model.detector, clip.frames)) for clip in self.clips]
        self.dataset = KeypointWindows(found, self.window, self.config.seed)

    def step(self, batch: Mapping[str, Any], update: Callable[[str, Tensor], None]) -> dict[str, Tensor]:
        """One step: L1 of means plus L1 of covariances over all frames but the first.

        Args:
            batch: `mean`, B x T x K x 2, and `covariance`, B x T x K x 2 x 2, of windows of clips.
            update: called as `update("predictor", loss)`.

        Returns:
            Both losses, and as `standing` what the first would be if nothing moved.
        """
        mean, covariance = batch["mean"], batch["covariance"]
        made = self.predictor(Keypoints(mean[:, 0], covariance[:, 0]), mean.shape[1])
        terms = {"mean": (made.mean - mean)[:, 1:].abs().mean()}
        if self.predictor.learns_covariance:
            terms["covariance"] = (made.covariance - covariance)[:, 1:].abs().mean()
        loss = sum(terms.values(), torch.zeros((), device=mean.device))
        update("predictor", loss)
        self.plateau.observe(loss)
        terms["standing"] = (mean[:, 1:] - mean[:, :1]).abs().mean()
        return {name: value.detach() for name, value in terms.items()}

    def preview(self) -> dict[str, np.ndarray]:
        """The ways of the keypoints over first frames: as detected, and as predicted."""
        return {"paths": path_sheet(self.model, self.preview_clips, self.window)}


class KeypointWindows(Dataset[dict[str, Any]]):
    """Runs of `size` consecutive frames' keypoints of one clip; item n is a pure function of n.

    Items are dicts of `mean`, T x K x 2, `covariance`, T x K x 2 x 2, and `name`.
    """

    def __init__(self, clips: Sequence[tuple[str, Keypoints]], size: int, seed: int):
        """Args: every clip's name and keypoints (time first), the window's length, the seed of the training."""
        self.clips, self.size, self.seed = clips, size, seed

    def __len__(self) -> int:
        """Samples per epoch, one per clip."""
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name, keypoints = self.clips[clip_index(len(self.clips), index, self.seed)]
        start = int(window(len(keypoints.mean), self.size, sample_rng(self.seed, index))[0])
        mean, covariance = (part[start : start + self.size] for part in keypoints)
        return {"mean": mean, "covariance": covariance, "name": name}


class EpochPlateau:
    """Lets a learning rate fall to a tenth when the mean loss of an epoch has not fallen for `patience` epochs.

    `ReduceLROnPlateau` wants to be told a loss, and the loop steps schedulers without a word. So the stage tells this
    one every step's loss, and at the end of each epoch it passes their mean on. To the loop it is a scheduler.
    """

    def __init__(self, optimizer: Optimizer, steps_per_epoch: int, patience: int):
        self.plateau = ReduceLROnPlateau(optimizer, factor=0.1, patience=patience)
        self.steps_per_epoch = steps_per_epoch
        self.total, self.count = 0.0, 0

    def observe(self, loss: Tensor) -> None:
        """Take in the loss of one step; the mean over all processes, or their rates would part."""
        loss = loss.detach().float().clone()
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(loss)
            loss /= torch.distributed.get_world_size()
        self.total, self.count = self.total + loss.item(), self.count + 1

    def step(self) -> None:
        """After a step of the optimiser; does something at the end of an epoch only."""
        if self.count < self.steps_per_epoch:
            return
        self.plateau.step(self.total / self.count)
        self.total, self.count = 0.0, 0

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs; plain numbers."""
        return {"plateau": self.plateau.state_dict(), "total": self.total, "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Undo `state_dict`."""
        self.plateau.load_state_dict(dict(state["plateau"]))
        self.total, self.count = state["total"], state["count"]


def window_length(clips: Sequence[Any], wanted: int) -> int:
    """The window's length: `wanted`, or the shortest clip's, for all windows of a batch must be equally long.

    Raises:
        StillmotionError: a clip has a single frame, which has no motion to learn.
    """
    shortest = min(clips, key=lambda clip: len(clip.frames))
    length = len(shortest.frames)
    if length < 2:
        raise StillmotionError(
            f"The clip {shortest.name} has one frame: a predictor needs at least two, leave it out."
        )
    if length < wanted:
        print(
            f"The predictor learns from windows of {length} frames, not {wanted}: {shortest.name} has no more.",
            file=sys.stderr,
        )
    return min(length, wanted)


@torch.no_grad()
def detect(detector: KeypointDetector, frames: np.ndarray) -> Keypoints:
    """Keypoints of a whole clip, T x S x S x 3 `uint8`, as they are found when animating; on the CPU, time first."""
    was_training = detector.training
    detector.eval()
    device = next(detector.parameters()).device
    found = [
        detector(to_frames(frames[start : start + DETECT_BATCH]).to(device))
        for start in range(0, len(frames), DETECT_BATCH)
    ]
    detector.train(was_training)
    mean, covariance = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
    return Keypoints(mean, covariance)


@torch.no_grad()
def path_sheet(
    model: DrivingNetworks, clips: Sequence[Any], length: int, rows: int = 8, scale: int = 4
) -> np.ndarray:
    """A contact sheet, one row per clip: the keypoints' ways over its first frame, as detected and as predicted."""
    assert model.predictor is not None
    device = next(model.predictor.parameters()).device
    strips = []
    for clip in evenly(clips, rows):
        truth = detect(model.detector, clip.frames[:length])
        first = Keypoints(*(part[:1].to(device) for part in truth))
        made = model.predictor(first, len(truth.mean)).mean[0].cpu()
        frame = np.repeat(np.repeat(clip.frames[0], scale, 0), scale, 1)
        cells = [draw_paths(frame, paths.numpy()) for paths in (truth.mean, made)]
        strips.append(np.concatenate(cells, axis=1))
    return np.concatenate(strips, axis=0)
