"""The interface of feature extractors, and loading of third-party weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion import media
from stillmotion.errors import StillmotionError

BATCH = 16  # frames that go through a network together

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FeatureExtractor(Protocol):
    """A function from frames to points or features that describes itself in the report."""

    description: str  # which network, its input, and the digest of its weights
    dimension: int  # how many points (K) or features (D) come out
    per_video: bool  # whether the features are those of the whole video (as FVD takes them); else of each frame

    def __call__(self, frames: np.ndarray) -> Tensor:
        """T x H x W x 3 `uint8` to points T x K x 3 (see `metrics.keypoint`), features T x D, or 1 x D per video."""
        ...


class NetworkFeatures:
    """Features per frame of a network that takes pictures of one size.

    Args:
        network: N x 3 x `size` to N x `dimension`.
        dimension: how many features.
        size: (height, width) that frames are scaled to, bilinearly; None for their own.
        normalize: from [0, 1] to the network's own range.
        description: see `FeatureExtractor`.
        device: where the network runs; features come back on the CPU.
    """

    per_video = False

    def __init__(
        self,
        network: nn.Module,
        dimension: int,
        size: tuple[int, int] | None,
        normalize: Callable[[Tensor], Tensor],
        description: str,
        device: str | torch.device = "cpu",
    ):
        self.network = network.eval().requires_grad_(False).to(device)
        self.dimension, self.size, self.normalize, self.description = dimension, size, normalize, description
        self.device = device

    @torch.inference_mode()
    def __call__(self, frames: np.ndarray) -> Tensor:
        """T x H x W x 3 `uint8` to T x D."""
        starts = range(0, len(frames), BATCH)
        parts = [self.network(self.pictures(frames[start : start + BATCH])).cpu() for start in starts]
        return torch.cat(parts).clone()

    def pictures(self, frames: np.ndarray) -> Tensor:
        """T x H x W x 3 `uint8` as the network takes them, T x 3 x `size`, on its device."""
        pictures = torch.from_numpy(media.to_float(frames)).to(self.device)
        if self.size is not None:
            # Not antialiased: this is what pytorch-fid does, and frames are smaller than the input anyway.
            pictures = F.interpolate(pictures, self.size, mode="bilinear", align_corners=False)
        return self.normalize(pictures)


class VideoFeatures(NetworkFeatures):
    """Features of a whole video without its first frame, the still, which a prediction only repeats.

    Args:
        network: 1 x 3 x T x `size` in [-1, 1] to 1 x `dimension`.
        dimension: how many features.
        size: (height, width) that frames are scaled to, bilinearly.
        least: frames that the network needs at least.
        description: see `FeatureExtractor`; what is said of every such network is added.
        device: where the network runs; features come back on the CPU.
    """

    per_video = True

    def __init__(
        self,
        network: nn.Module,
        dimension: int,
        size: tuple[int, int],
        least: int,
        description: str,
        device: str | torch.device = "cpu",
    ):
        text = (
            f"{description}; the first frame of each video (the still) left out, frames scaled bilinearly to "
            f"{size[0]} x {size[1]}, values in [-1, 1]"
        )
        super().__init__(network, dimension, size, lambda x: 2 * x - 1, text, device)
        self.least = least

    @torch.inference_mode()
    def __call__(self, frames: np.ndarray) -> Tensor:
        """T x H x W x 3 `uint8` to 1 x D.

        Raises:
            StillmotionError: too few frames.
        """
        if len(frames) - 1 < self.least:
            raise StillmotionError(
                f"Features of a video need {self.least} frames after the still, not {len(frames) - 1}; take longer "
                "clips."
            )
        return self.network(self.pictures(frames[1:]).transpose(0, 1)[None]).cpu().clone()


def imagenet_normalize(pictures: Tensor) -> Tensor:
    """From [0, 1] to ImageNet's mean 0 and standard deviation 1; N x 3 x H x W."""
    mean, deviation = (pictures.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return (pictures - mean) / deviation


def path_and_digest(value: str) -> tuple[Path, str]:
    """Split FILE@SHA256; the digest is empty if there is none."""
    file, _, digest = value.rpartition("@") if "@" in value else (value, "", "")
    return Path(file), digest.lower()


def load_weights(network: nn.Module, tensors: Mapping[str, Tensor], path: Path, ignored: tuple[str, ...]) -> None:
    """Load tensors into a network; every parameter must be there in its shape and no tensor may be left over.

    Args:
        network: takes the weights.
        tensors: names as in torchvision.
        path: for messages.
        ignored: prefixes of names that the network does not use.

    Raises:
        StillmotionError: names the first tensor that is missing, foreign or of another shape.
    """
    # Old files do not count batches, and nothing here does.
    expected = {
        name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")
    }
    usable = {
        name: value
        for name, value in tensors.items()
        if not name.startswith(ignored) and not name.endswith("num_batches_tracked")
    }
    for name in sorted(expected.keys() | usable.keys()):
        if name not in usable or name not in expected:
            what = "lacks" if name not in usable else "holds the foreign"
            raise StillmotionError(f"{path} {what} tensor {name!r}; it is not a {type(network).__name__}.")
        if usable[name].shape != expected[name].shape:
            raise StillmotionError(
                f"The tensor {name!r} in {path} is {tuple(usable[name].shape)}, not {tuple(expected[name].shape)}; "
                f"it is not a {type(network).__name__}."
            )
    network.load_state_dict(usable, strict=False)
