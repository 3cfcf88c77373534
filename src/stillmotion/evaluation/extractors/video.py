"""A small network for whole videos, trained by `recipes/video_network.py` to name the world and action of a clip.

It takes the place of I3D in a Frechet distance where no weights of I3D are at hand. That distance is not FVD and
carries another name: its values compare only with each other, and only for the worlds' clips.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor, nn

from stillmotion.errors import StillmotionError
from stillmotion.evaluation.extractors.base import VideoFeatures, load_weights, path_and_digest
from stillmotion.files import load_tensors, read_weights

SIDE = 64  # side of the network's input in pixels
FEATURES = 96
LEAST_FRAMES = 2
SHIPPED = "worlds"  # the value that names the shipped weights

WEIGHTS = Path(str(files("stillmotion"))) / "evaluation" / "extractors" / "video_network.safetensors"


class VideoNetwork(nn.Module):
    """Four three-dimensional convolutions with batch norm; N x 3 x T x 64 x 64 in [-1, 1] to N x 96."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_block(3, 16, (1, 2, 2)),  # 16 x T x 32 x 32
            *_block(16, 32, (2, 2, 2)),  # 32 x T/2 x 16 x 16
            *_block(32, 64, (2, 2, 2)),  # 64 x T/4 x 8 x 8
            *_block(64, FEATURES, (1, 2, 2)),  # 96 x T/4 x 4 x 4
        )

    def forward(self, videos: Tensor) -> Tensor:
        """The features, averaged over time and place."""
        features: Tensor = self.layers(videos).mean(dim=(2, 3, 4))
        return features


def _block(inputs: int, outputs: int, stride: tuple[int, int, int]) -> list[nn.Module]:
    return [nn.Conv3d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm3d(outputs), nn.ReLU()]


def open_video_network(value: str, device: str | torch.device = "cpu") -> VideoFeatures:
    """Open the shipped weights (`worlds`) or those of a file (FILE@SHA256).

    Raises:
        StillmotionError: no weights are shipped, or the file is not the one that was named or holds other weights.
    """
    network = VideoNetwork()
    if value == SHIPPED:
        if not WEIGHTS.is_file():
            raise StillmotionError(
                "This version ships no weights of the video network; train it by recipes/video_network.py and give "
                "--network video=FILE.safetensors@SHA256."
            )
        path, tensors, origin = WEIGHTS, load_tensors(WEIGHTS), "shipped weights"
    else:
        path, digest = path_and_digest(value)
        tensors, origin = read_weights(path, digest), f"SHA-256 {digest}"
    load_weights(network, {name: tensor.float() for name, tensor in tensors.items()}, path, ignored=())
    description = f"{FEATURES} features of a video network trained on the worlds' clips ({origin})"
    return VideoFeatures(network, FEATURES, (SIDE, SIDE), LEAST_FRAMES, description, device)
