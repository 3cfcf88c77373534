"""Small strokes systems and made stills for the tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from stillmotion.systems.strokes.animating import Strokes
from stillmotion.systems.strokes.config import PRESETS, StrokesConfig

TINY_STROKES = replace(
    PRESETS["small"],
    size=32,
    carry=False,  # has its own tests
    frames=5,
    stroke_window=4,
    encoder_widths=(4, 4),
    state=8,
    blocks=2,
    units=2,
    growth=4,
    bottleneck=4,
    generator_widths=(8, 4, 4),
    batch=2,
    steps=2,
    warmup=0,
)
"""Untrained, but whole: what a still does under it is noise that depends on everything it is given."""


def tiny_strokes(seed: int = 0, card: dict[str, Any] | None = None, **changes: Any) -> Strokes:
    """A tiny system with weights that are large enough for a stroke to change the frames."""
    torch.manual_seed(seed)
    config: StrokesConfig = replace(TINY_STROKES, **changes)
    system = Strokes.build(config, card)
    with torch.no_grad():
        for value in system.networks.parameters():
            value.add_(0.2 * torch.randn(value.shape))
    return system


def spot(size: tuple[int, int] = (32, 32), x: int = 8, y: int = 10, side: int = 6) -> np.ndarray:
    """A bright square on a dark ground, its first pixel at (x, y); H x W x 3 `uint8`."""
    picture = np.full((*size, 3), 30, np.uint8)
    picture[y : y + side, x : x + side] = (240, 200, 60)
    return picture
