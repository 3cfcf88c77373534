"""The object in one still, without learned weights: the connected region whose colours are not the border's.

A detector of the user's own may take the place of `find_object`; see `ObjectDetector`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stillmotion import media

Box = tuple[float, float, float, float]  # x0, y0, x1, y1: the centres of the outermost pixels
ObjectDetector = Callable[[np.ndarray, tuple[float, float]], Box | None]
"""From a still (H x W x 3, `uint8`) and a point (x, y) to the box of the object that is meant, or None."""

_SIDE = 64  # the longer side of the still in which objects are sought, in pixels: enough for a centre, and fast
_BORDER = 2  # width in pixels of the border that counts as background
_MIN_SHARE = 0.1  # share of the border that must have a colour for it to be a colour of the background
_MIN_DIFFERENCE = 12.0  # in grey levels: compression and camera noise differ by less
_COMPARABLE = 0.2  # components with a smaller share of the largest one's pixels are no candidates
_MIN_AREA, _MAX_AREA = 0.002, 0.7  # shares of the picture: what is smaller is noise, what is larger is background


def find_object(still: np.ndarray, near: tuple[float, float]) -> Box | None:
    """Detect the connected region whose colours are not those of the still's border.

    A pixel's difference is the distance of its colour (largest channel) to the nearest tenth of the border's pixels.
    So most of the border is assumed to be background, of one colour or of several (a wall and a floor, say). Of
    several regions the one nearest to `near` is returned, among those with a fifth of the largest one's pixels. An
    object larger than most of the picture or in the border's colours is not detected.

    Args:
        still: H x W x 3, `uint8`.
        near: (x, y) in pixels.

    Returns:
        The box in pixels of the still, or None.
    """
    height, width = still.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    difference, noise = _border_difference(media.resize(still, size))
    mask = _opening((difference > max(_MIN_DIFFERENCE, 1.5 * noise))[None, None])
    components = connected_components(mask)
    largest = max(map(len, components), default=0)
    boxes = []
    for component in components:
        if len(component) >= _COMPARABLE * largest and _MIN_AREA <= len(component) / mask.numel() <= _MAX_AREA:
            (top, left), (bottom, right) = component.amin(0).tolist(), component.amax(0).tolist()
            across, down = width / size[1], height / size[0]
            boxes.append((left * across, top * down, (right + 1) * across - 1, (bottom + 1) * down - 1))
    return min(boxes, key=lambda box: _distance(box, near), default=None)


def connected_components(mask: Tensor) -> list[Tensor]:
    """The 8-connected components of a mask (1 x 1 x H x W, `bool`), as n x 2 (y, x) pixels each."""
    labels = torch.arange(1, mask.numel() + 1, dtype=torch.float32).view_as(mask) * mask
    while True:
        # Every pixel takes the largest label in its neighbourhood, until each component has one label.
        spread = F.max_pool2d(labels, 3, stride=1, padding=1) * mask
        if torch.equal(spread, labels):
            return [torch.nonzero(labels[0, 0] == label) for label in labels.unique().tolist() if label]
        labels = spread


def _distance(box: Box, point: tuple[float, float]) -> float:
    """Distance from a point to a box; between boxes that contain it, the distance to the centre decides."""
    outside = [max(low - at, 0.0, at - high) for low, high, at in zip(box[:2], box[2:], point, strict=True)]
    centre = [(low + high) / 2 - at for low, high, at in zip(box[:2], box[2:], point, strict=True)]
    return math.hypot(*outside) + 1e-3 * math.hypot(*centre)


def _border_difference(picture: np.ndarray) -> tuple[Tensor, float]:
    """Difference of each pixel from the border's colours, H x W grey levels, and that of the border itself."""
    height, width = picture.shape[:2]
    pixels = torch.from_numpy(picture.astype(np.float32)).flatten(0, 1)  # HW x 3
    ring = torch.ones(height, width, dtype=torch.bool)
    ring[_BORDER:-_BORDER, _BORDER:-_BORDER] = False
    border = pixels[ring.flatten()]
    nearest = max(1, round(_MIN_SHARE * len(border)))
    distances = torch.stack([(pixels - colour).abs().amax(1) for colour in border], 1)  # HW x border
    values = distances.kthvalue(nearest, dim=1).values.view(height, width)
    return values, float(values[ring].quantile(0.9))


def _opening(mask: Tensor) -> Tensor:
    """Morphological opening by 2 x 2 pixels, which removes specks; 1 x 1 x H x W, `bool`."""
    eroded = -F.max_pool2d(-mask.float(), 2, stride=1) > 0.5
    return F.max_pool2d(F.pad(eroded.float(), (1, 1, 1, 1)), 2, stride=1) > 0.5
