"""Feature extractors: third-party networks applied to frames, opened by name from files the user gives.

Their weights are not shipped. To add one, write a module that opens it and an entry of `EXTRACTORS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from stillmotion.errors import StillmotionError, check_known
from stillmotion.evaluation.extractors.actions import open_classifier
from stillmotion.evaluation.extractors.base import FeatureExtractor, path_and_digest
from stillmotion.evaluation.extractors.faces import open_expressions, open_identity
from stillmotion.evaluation.extractors.i3d import open_i3d
from stillmotion.evaluation.extractors.inception import open_inception
from stillmotion.evaluation.extractors.keypoints import open_keypoints
from stillmotion.evaluation.extractors.lpips import open_lpips
from stillmotion.evaluation.extractors.vgg import open_vgg16
from stillmotion.evaluation.extractors.video import open_video_network
from stillmotion.nn.device import choose_device


@dataclass(frozen=True)
class Entry:
    """How an extractor is given."""

    needs: str  # what the user gives, for messages
    # makes the extractor of the option's value and a device
    open: Callable[[str, str | torch.device], FeatureExtractor]


EXTRACTORS: Mapping[str, Entry] = {
    "keypoints": Entry("a keypoint detector: --network keypoints=blazepose", open_keypoints),
    "identity": Entry(
        "a ResNet-50, or the network of recipes/face_networks.py or people_network.py: --network "
        "identity=FILE.safetensors@SHA256",
        open_identity,
    ),
    "expressions": Entry(
        "a classifier of facial expressions (recipes/face_networks.py): --network "
        "expressions=FILE.safetensors@SHA256",
        open_expressions,
    ),
    "inception": Entry(
        "Inception v3: --network inception=FILE.safetensors@SHA256",
        lambda value, device: open_inception(*path_and_digest(value), device=device),
    ),
    "lpips": Entry(
        "VGG-16 or AlexNet with LPIPS's linear layers: --network "
        "lpips=TRUNK.safetensors@SHA256+LINEAR.safetensors@SHA256, or lpips=DIR of `stillmotion weights`",
        open_lpips,
    ),
    "vgg16": Entry(
        "VGG-16: --network vgg16=FILE.safetensors@SHA256, or vgg16=DIR of `stillmotion weights vgg16`", open_vgg16
    ),
    "i3d": Entry(
        "an I3D trained on Kinetics-400: --network i3d=FILE.safetensors@SHA256",
        lambda value, device: open_i3d(*path_and_digest(value), device=device),
    ),
    "video": Entry(
        "the network trained on the worlds' clips: --network video=worlds, or video=FILE.safetensors@SHA256",
        open_video_network,
    ),
    "actions": Entry(
        "a classifier of the data set's actions (recipes/action_network.py): --network "
        "actions=FILE.safetensors@SHA256",
        open_classifier,
    ),
}


def open_extractors(given: Sequence[tuple[str, str]], device: str = "cpu") -> dict[str, FeatureExtractor]:
    """Open extractors as named on the command line.

    Args:
        given: pairs of a key of `EXTRACTORS` and a detector's name or FILE@SHA256.
        device: where their networks run: `cpu`, `cuda` or `auto`.

    Raises:
        StillmotionError: an unknown name or device, a missing or damaged file, or another file than the digest says.
    """
    where = choose_device(device)
    opened: dict[str, FeatureExtractor] = {}
    for name, value in given:
        check_known("network", name, EXTRACTORS)
        if name in opened:
            raise StillmotionError(f"The network {name!r} is given twice; leave one out.")
        opened[name] = EXTRACTORS[name].open(value, where)
    return opened


def needs(name: str) -> str:
    """What an extractor needs, in words; one that is not in `EXTRACTORS` can only be given from Python."""
    return EXTRACTORS[name].needs if name in EXTRACTORS else f"extractors={{{name!r}: ...}} from Python"
