"""Where the object is in a still: what `attach` lets a stroke start at.

A person's own detector may take the place of `find_object`; see `Finder`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stillmotion import media

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1: the centres of the outermost pixels."""


class Finder(Protocol):
    """Finds the one object of a still that a stroke moves; `Strokes.finder` is one."""

    def __call__(self, still: np.ndarray) -> Box | None:
        """Box the object in H x W x 3 `uint8`; None if there is none to be seen."""


_SIDE = 64
"""Objects are looked for in a picture whose longer side has so many pixels: enough for a centre, and quick."""

_RING = 2
"""Pixels from the border that count as background."""

_ALIKE = 0.1
"""Share of the border that must have a colour for it to be background; an object may hide less of the border."""

_LEAST_DIFFERENCE = 12.0
"""In grey levels: compression and camera noise differ by less."""

_LEAST_AREA, _MOST_AREA = 0.002, 0.7
"""Shares of the picture: what is smaller is a speck, what is larger is the background."""


def find_object(still: np.ndarray) -> Box | None:
    """Box the largest connected thing whose colours are not those of the still's border.

    A pixel differs by the distance of its colour (largest channel) from the border's nearest tenth. Most of the border
    is taken to be background, of one colour or of several (a wall and a floor, say). An object larger than most of
    the picture, one in the border's colours or one among others as large is not found, or is the wrong one.

    Args:
        still: H x W x 3, `uint8`.

    Returns:
        The box in pixels of the still, or None.
    """
    height, width = still.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    difference, noise = _difference(media.resize(still, size))
    mask = difference > max(_LEAST_DIFFERENCE, 1.5 * noise)
    blob = _largest(_opened(mask[None, None]))[0, 0]
    if not _LEAST_AREA <= float(blob.float().mean()) <= _MOST_AREA:
        return None
    y, x = torch.nonzero(blob, as_tuple=True)
    across, down = width / size[1], height / size[0]

    def edge(pixel: int, step: float, last: int) -> float:
        return min(max(pixel * step - 0.5, 0.0), last)

    left, right = edge(int(x.min()), across, width - 1) + 0.5, edge(int(x.max()) + 1, across, width - 1) - 0.5
    top, bottom = edge(int(y.min()), down, height - 1) + 0.5, edge(int(y.max()) + 1, down, height - 1) - 0.5
    return left, top, right, bottom


def _difference(picture: np.ndarray) -> tuple[Tensor, float]:
    """How far each pixel is from the border's colours, H x W grey levels, and how far most of the border is itself."""
    height, width = picture.shape[:2]
    pixels = torch.from_numpy(picture.astype(np.float32)).flatten(0, 1)  # HW x 3
    ring = torch.ones(height, width, dtype=torch.bool)
    ring[_RING:-_RING, _RING:-_RING] = False
    border = pixels[ring.flatten()]
    nearest = max(1, round(_ALIKE * len(border)))
    far = torch.stack([(pixels - colour).abs().amax(1) for colour in border], 1)  # HW x border
    values = far.kthvalue(nearest, dim=1).values.view(height, width)
    return values, float(values[ring].quantile(0.9))


def _opened(mask: Tensor) -> Tensor:
    """Without specks: only what lies in 2 x 2 pixels that are all set; 1 x 1 x H x W truth values."""
    whole = F.max_pool2d(-mask.float(), 2, stride=1) > -0.5  # the minimum of each 2 x 2
    return F.max_pool2d(F.pad(whole.float(), (1, 1, 1, 1)), 2, stride=1) > 0.5


def _largest(mask: Tensor) -> Tensor:
    """The connected part (over corners too) with most pixels; none if the mask is empty. 1 x 1 x H x W."""
    numbers = torch.arange(1, mask.numel() + 1, dtype=torch.float32).view_as(mask) * mask
    while True:
        # Every pixel takes the largest number in its neighbourhood, until a part has one number.
        spread = F.max_pool2d(numbers, 3, stride=1, padding=1) * mask
        if torch.equal(spread, numbers):
            break
        numbers = spread
    counts = torch.bincount(numbers[mask].long().flatten(), minlength=1)
    return mask & (numbers == counts.argmax()) if len(counts) > 1 else mask


def reached(mask: Tensor, seed: Tensor) -> Tensor:
    """The connected parts of a mask that touch a seed; both 1 x 1 x H x W truth values."""
    seen = mask & seed
    while True:
        more = (F.max_pool2d(seen.float(), 3, stride=1, padding=1) > 0.5) & mask
        if torch.equal(more, seen):
            return seen
        seen = more
