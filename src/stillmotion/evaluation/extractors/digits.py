"""A classifier of handwritten digits, trained by `recipes/digit_classifier.py`: which digit a frame shows."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from stillmotion.files import load_tensors

SIDE = 28  # side of the network's input in pixels; ink is bright

WEIGHTS = Path(str(files("stillmotion"))) / "evaluation" / "extractors" / "digit_classifier.safetensors"

_SHARE = 1 / 4  # a digit is 28 of the frame's 112 units wide


class DigitClassifier(nn.Module):
    """Four convolutions and two linear layers; N x 1 x 28 x 28 in [0, 1] to N x 10 scores."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_block(1, 16),
            *_block(16, 24),
            nn.MaxPool2d(2),  # 24 x 14 x 14
            *_block(24, 32),
            nn.MaxPool2d(2),  # 32 x 7 x 7
            *_block(32, 32),
            nn.MaxPool2d(2),  # 32 x 3 x 3
            nn.Flatten(),
            nn.Linear(288, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """Scores of the ten classes."""
        scores: Tensor = self.layers(pictures)
        return scores


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]


def load_classifier(path: Path = WEIGHTS) -> DigitClassifier:
    """Load the shipped network in eval mode.

    Raises:
        StillmotionError: the file is missing or damaged.
    """
    network = DigitClassifier()
    network.load_state_dict(load_tensors(path))
    return network.eval().requires_grad_(False)


@torch.inference_mode()
def read_digits(frames: np.ndarray, network: DigitClassifier) -> Tensor:
    """Classify the digit in each frame of the world `digits`, wherever it is.

    Args:
        frames: `uint8`, T x H x W x 3.
        network: the classifier.

    Returns:
        T whole numbers, 0 to 9; arbitrary for a frame without ink.
    """
    pictures = np.stack([_brightest_window(frame) for frame in frames])
    return network(torch.from_numpy(pictures)[:, None]).argmax(dim=1)


def _brightest_window(frame: np.ndarray) -> np.ndarray:
    """The brightest window of a quarter of the frame's side, centred on its centre of mass; 28 x 28."""
    ink = frame.astype(np.float32).mean(axis=2) / 255
    side = max(2, round(min(ink.shape) * _SHARE))
    # The window with the most ink, then centred on its centre of mass, as MNIST's digits are.
    sums = cv2.boxFilter(ink, -1, (side, side), normalize=False, borderType=cv2.BORDER_CONSTANT)
    row, column = np.unravel_index(sums.argmax(), sums.shape)
    centre = np.array([column, row], np.float64)
    for _ in range(3):
        part = _window(ink, centre, side + 4, side + 4)
        total = float(part.sum())
        if total > 0:
            middle = (side + 3) / 2
            places = np.arange(side + 4)
            centre += [float(part.sum(0) @ places) / total - middle, float(part.sum(1) @ places) / total - middle]
    return _window(ink, centre, side, SIDE)


def _window(ink: np.ndarray, centre: np.ndarray, side: int, pixels: int) -> np.ndarray:
    """A square `side` wide around a centre, black outside the picture, at `pixels` a side."""
    scale = pixels / side
    # The outer edges of the window are those of the result.
    matrix = np.array(
        [[scale, 0, pixels / 2 - 0.5 - centre[0] * scale], [0, scale, pixels / 2 - 0.5 - centre[1] * scale]]
    )
    return cv2.warpAffine(ink, matrix, (pixels, pixels), flags=cv2.INTER_CUBIC).clip(0, 1)
