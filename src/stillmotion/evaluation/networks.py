"""The networks of others that some metrics need: a keypoint detector, an identity network, Inception.

None is shipped. Each is a `Source`: a function from frames to points or features that can describe itself, so
that a report says what its numbers rest on. Weights come from a safetensors file with a digest that the user gives
and that is checked before the file is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion import media
from stillmotion.errors import StillmotionError
from stillmotion.evaluation import inception, resnet
from stillmotion.files import read_weights

BATCH = 16
"""Frames that go through a network together."""


class Source(Protocol):
    """Where a metric gets points or features from.

    Attributes:
        description: which network, what it is given and in which form, and the digest of its weights.
        dimension: how many points (K) or features (D) a frame gives.
    """

    description: str
    dimension: int

    def __call__(self, frames: np.ndarray) -> Tensor:
        """Points T x K x 3 (see `keypoint_metrics`) or features T x D of T x H x W x 3 `uint8`."""
        ...


class BlazePose:
    """13 joints of one person, by the network in mediapipe's wheel; every frame is searched by itself.

    Args:
        visibility: a joint counts as found from this visibility on, if it also lies inside the frame.

    Raises:
        StillmotionError: mediapipe is not installed.
    """

    dimension = 13

    def __init__(self, visibility: float = 0.5):
        from stillmotion.data.pose import find_joints

        self.visibility = visibility
        self._find = find_joints
        find_joints(np.zeros((0, 1, 1, 3), np.uint8))  # a missing mediapipe is told now, not after an hour
        self.description = (
            "BlazePose full of mediapipe 0.10.21, 13 joints, each frame by itself, padded by 3/8 of its longer side "
            f"and scaled to 448 pixels; found means inside the frame with visibility of at least {visibility:g}"
        )

    def __call__(self, frames: np.ndarray) -> Tensor:
        """T x 13 x 3; a frame with nobody has no joint that is found."""
        height, width = frames.shape[1:3]
        joints = torch.from_numpy(self._find(frames, tracking=False))
        x, y, visibility = joints.unbind(-1)
        # Outer edges, half a pixel beyond the centres of the border pixels; NaN compares as not found.
        inside = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
        found = inside & (visibility >= self.visibility)
        return torch.cat([joints[..., :2], found[..., None].float()], dim=-1)


class Features:
    """Features of a network that takes pictures of one size.

    Args:
        network: N x 3 x `size` to N x `dimension`.
        dimension: how many features.
        size: (height, width) that frames are scaled to, bilinearly.
        prepare: from [0, 1] to the network's own range.
        description: see `Source`.
    """

    def __init__(
        self,
        network: nn.Module,
        dimension: int,
        size: tuple[int, int],
        prepare: Callable[[Tensor], Tensor],
        description: str,
    ):
        self.network = network.eval().requires_grad_(False)
        self.dimension, self.size, self.prepare, self.description = dimension, size, prepare, description

    @torch.inference_mode()
    def __call__(self, frames: np.ndarray) -> Tensor:
        """T x D."""
        parts = []
        for start in range(0, len(frames), BATCH):
            pictures = torch.from_numpy(media.to_float(frames[start : start + BATCH]))
            # Not antialiased: this is what pytorch-fid does, and made frames are smaller than the input anyway.
            scaled = F.interpolate(pictures, self.size, mode="bilinear", align_corners=False)
            parts.append(self.network(self.prepare(scaled)))
        return torch.cat(parts).clone()


def open_inception(path: Path, sha256: str) -> Features:
    """Inception v3 with weights of torchvision (1000 classes) or of pytorch-fid (1008 classes).

    The classifier is not used, but its size tells which of the two poolings belongs to the weights.

    Raises:
        StillmotionError: the file is not the one that was named, or holds other weights.
    """
    tensors = read_weights(path, sha256)
    classes = len(tensors["fc.bias"]) if "fc.bias" in tensors else 0
    if classes not in (1000, 1008):
        raise StillmotionError(
            f"{path} holds no Inception v3 with its classifier (fc.bias of 1000 or 1008 classes); convert the whole "
            "file of torchvision or pytorch-fid."
        )
    tensorflow = classes == 1008
    network = inception.InceptionV3(tensorflow)
    fill(network, tensors, path, ignored=("fc.", "AuxLogits."))
    origin = "pytorch-fid's port of TensorFlow's" if tensorflow else "torchvision's"
    return Features(
        network,
        inception.FEATURES,
        (299, 299),
        lambda pictures: 2 * pictures - 1,
        f"Inception v3, {origin} weights (SHA-256 {sha256}), features before the classifier; frames scaled "
        "bilinearly to 299 x 299, values in [-1, 1]",
    )


IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def open_resnet50(path: Path, sha256: str, size: tuple[int, int] = (288, 144)) -> Features:
    """ResNet-50 with re-identification or ImageNet weights in torchvision's format, as identity network.

    Args:
        path: the weights; a classifier in them is not used.
        sha256: their digest.
        size: (height, width) of the input; 288 x 144 is that of the re-identification network in Monkey-Net.

    Raises:
        StillmotionError: the file is not the one that was named, or holds other weights.
    """
    network = resnet.ResNet50()
    fill(network, read_weights(path, sha256), path, ignored=("fc.", "classifier."))
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_DEVIATION))
    return Features(
        network,
        resnet.FEATURES,
        size,
        lambda pictures: (pictures - mean) / deviation,
        f"ResNet-50, 2048 pooled features, not normalised (SHA-256 {sha256}); frames scaled bilinearly to "
        f"{size[0]} x {size[1]} with ImageNet's mean and deviation",
    )


DETECTORS: Mapping[str, Callable[[], Source]] = {"blazepose": BlazePose}
NEEDS: Mapping[str, str] = {
    "keypoints": "a keypoint detector: --network keypoints=blazepose",
    "identity": "a ResNet-50: --network identity=FILE.safetensors@SHA256",
    "inception": "Inception v3: --network inception=FILE.safetensors@SHA256",
    "lpips": "VGG-16 or AlexNet with LPIPS's linear layers: --network "
    "lpips=TRUNK.safetensors@SHA256+LINEAR.safetensors@SHA256",
}
"""What each network is for, and how it is given."""

_FROM_FILE: Mapping[str, Callable[[Path, str], Source]] = {"identity": open_resnet50, "inception": open_inception}


def open_networks(given: Sequence[tuple[str, str]]) -> dict[str, Source]:
    """Open networks as named on the command line.

    Args:
        given: pairs of a key of `NEEDS` and a detector's name or FILE@SHA256.

    Raises:
        StillmotionError: an unknown name, a missing or damaged file, or another file than the digest says.
    """
    opened: dict[str, Source] = {}
    for name, value in given:
        if name not in NEEDS:
            raise StillmotionError(f"There is no network {name!r}; known are {', '.join(NEEDS)}.")
        if name in opened:
            raise StillmotionError(f"The network {name!r} is given twice; leave one out.")
        if name == "lpips":
            from stillmotion.evaluation.lpips import open_lpips  # which reads its files with the functions below

            opened[name] = open_lpips(value)
        elif name in _FROM_FILE:
            file, _, digest = value.rpartition("@") if "@" in value else (value, "", "")
            opened[name] = _FROM_FILE[name](Path(file), digest.lower())
        elif value in DETECTORS:
            opened[name] = DETECTORS[value]()
        else:
            raise StillmotionError(f"There is no keypoint detector {value!r}; known are {', '.join(DETECTORS)}.")
    return opened


def fill(network: nn.Module, tensors: Mapping[str, Tensor], path: Path, ignored: tuple[str, ...]) -> None:
    """Load tensors into a network; every part must be there in its shape and none may be left over.

    Args:
        network: takes the weights.
        tensors: names as in torchvision.
        path: for messages.
        ignored: beginnings of names that the network has no use for.

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
