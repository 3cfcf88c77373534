"""Where the object is in a still: what `attach` lets a stroke start at.

A person's own detector may take the place of `find_object`; see `Finder`.
"""

from __future__ import annotations

import math
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

    def __call__(self, still: np.ndarray, near: tuple[float, float]) -> Box | None:
        """Box the object of H x W x 3 `uint8` that a stroke from (x, y) means; None if there is none to be seen."""
        ...


_SIDE = 64
"""Objects are looked for in a picture whose longer side has so many pixels: enough for a centre, and quick."""

_RING = 2
"""Pixels from the border that count as background."""

_ALIKE = 0.1
"""Share of the border that must have a colour for it to be background; an object may hide less of the border."""

_LEAST_DIFFERENCE = 12.0
"""In grey levels: compression and camera noise differ by less."""

_COMPARABLE = 0.2
"""Share of the largest thing's pixels that makes another one worth looking at."""

_LEAST_AREA, _MOST_AREA = 0.002, 0.7
"""Shares of the picture: what is smaller is a speck, what is larger is the background."""


def find_object(still: np.ndarray, near: tuple[float, float]) -> Box | None:
    """Box the connected thing whose colours are not those of the still's border.

    A pixel differs by the distance of its colour (largest channel) from the border's nearest tenth. Most of the
    border is taken to be background, of one colour or of several (a wall and a floor, say). Of several things that
    stand out the one nearest to where the person began is meant, if it has a fifth of the largest one's pixels. An
    object larger than most of the picture or in the border's colours is not found.

    Args:
        still: H x W x 3, `uint8`.
        near: (x, y) in pixels, where the stroke starts.

    Returns:
        The box in pixels of the still, or None.
    """
    height, width = still.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    difference, noise = _difference(media.resize(still, size))
    mask = difference > max(_LEAST_DIFFERENCE, 1.5 * noise)
    boxes = []
    for blob in _blobs(_opened(mask[None, None])):
        if _LEAST_AREA <= len(blob) / mask.numel() <= _MOST_AREA:
            (top, left), (bottom, right) = blob.amin(0).tolist(), blob.amax(0).tolist()
            across, down = width / size[1], height / size[0]
            boxes.append((left * across, top * down, (right + 1) * across - 1, (bottom + 1) * down - 1))
    return min(boxes, key=lambda box: _distance(box, near), default=None)


def _distance(box: Box, point: tuple[float, float]) -> float:
    """How far a point lies outside a box; the distance to its centre decides between boxes that hold it."""
    outside = [max(low - at, 0.0, at - high) for low, high, at in zip(box[:2], box[2:], point, strict=True)]
    centre = [(low + high) / 2 - at for low, high, at in zip(box[:2], box[2:], point, strict=True)]
    return math.hypot(*outside) + 1e-3 * math.hypot(*centre)


def _difference(picture: np.ndarray) -> tuple[Tensor, float]:
    """How far each pixel is from the border's colours, H x W grey levels, and how far the border is itself."""
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
    whole = -F.max_pool2d(-mask.float(), 2, stride=1) > 0.5  # the least of each 2 x 2
    return F.max_pool2d(F.pad(whole.float(), (1, 1, 1, 1)), 2, stride=1) > 0.5


def _blobs(mask: Tensor) -> list[Tensor]:
    """The connected parts (over corners too) of 1 x 1 x H x W truth values, as n x 2 (y, x) pixels each.

    Parts with less than a fifth of the largest one's pixels are left out.
    """
    numbers = torch.arange(1, mask.numel() + 1, dtype=torch.float32).view_as(mask) * mask
    while True:
        # Every pixel takes the largest number in its neighbourhood, until a part has one number.
        spread = F.max_pool2d(numbers, 3, stride=1, padding=1) * mask
        if torch.equal(spread, numbers):
            break
        numbers = spread
    parts = [torch.nonzero(numbers[0, 0] == number) for number in numbers.unique().tolist() if number]
    largest = max(map(len, parts), default=0)
    return [part for part in parts if len(part) >= _COMPARABLE * largest]


def reached(mask: Tensor, seed: Tensor) -> Tensor:
    """The connected parts of a mask that touch a seed; both 1 x 1 x H x W truth values."""
    seen = mask & seed
    while True:
        more = (F.max_pool2d(seen.float(), 3, stride=1, padding=1) > 0.5) & mask
        # Whole runs at once: the usual blob is done in two or three rounds, where single pixels would take dozens.
        more = _along_rows(mask, more)
        more = _along_rows(mask.mT, more.mT).mT
        if torch.equal(more, seen):
            return seen
        seen = more


def _along_rows(mask: Tensor, seen: Tensor) -> Tensor:
    """All of each run of a row's set pixels, where any of it is seen; both 1 x 1 x H x W."""
    apart = F.pad(mask, (0, 1))  # a run does not go on in the next row
    run = (~apart).flatten().cumsum(0)
    hit = torch.bincount(run, F.pad(seen, (0, 1)).flatten().float()) > 0
    return hit[run].view_as(apart)[..., :-1] & mask
