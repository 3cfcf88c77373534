"""A still made ready once: the part that is animated, its square, and where points of one lie in the other.

Outer edges of pictures are aligned, as `media.resize` does: the pixel x of the networks covers the pixels from
x * scale to (x + 1) * scale of the square.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from stillmotion import geometry, media
from stillmotion.errors import StillmotionError
from stillmotion.options import Box

FEATHER = 2
"""Pixels of the networks over which an animated part fades into the rest of the still."""

Points = TypeVar("Points", np.ndarray, Tensor)


@dataclass(frozen=True)
class Canvas:
    """A still cropped, padded to a square with its border pixels, and shrunk.

    Attributes:
        picture: h x w x 3, `uint8`, the part that is animated.
        box: where it lies in the square, (x0, y0, x1, y1).
        small: 1 x 3 x S x S in [0, 1], the square at the networks' size.
        crop: the part of the picture given that is animated, (x, y, width, height).
        given: (height, width) of the picture given.
    """

    picture: np.ndarray
    box: Box
    small: Tensor
    crop: Box
    given: geometry.Size

    @classmethod
    def prepare(cls, still: np.ndarray, size: int, crop: Box | None, device: torch.device) -> "Canvas":
        """Prepare H x W x 3 `uint8` for networks that work at `size`.

        Raises:
            StillmotionError: the crop reaches out of the still.
        """
        height, width = still.shape[:2]
        x, y, w, h = crop = crop or (0, 0, width, height)
        if x + w > width or y + h > height:
            raise StillmotionError(
                f"The crop {x},{y},{w},{h} reaches out of the still, which is {width} x {height} pixels."
            )
        part = media.crop(still, (x, y, x + w, y + h))
        return cls(part, media.pad_square(part)[1], to_network(part, size, device), crop, (height, width))

    @property
    def side(self) -> int:
        """Height and width of the square."""
        return max(self.picture.shape[:2])

    @property
    def size(self) -> int:
        """Height and width of the networks' frames."""
        return self.small.shape[2]

    @property
    def scale(self) -> float:
        """Pixels of the square per pixel of the networks' frames."""
        return self.side / self.size

    def to_small(self, points: Points) -> Points:
        """(x, y) in pixels of the picture given, in pixels of the networks' frames; ... x 2."""
        return (points - self._offset(points) + 0.5) / self.scale - 0.5

    def to_given(self, points: Points) -> Points:
        """The inverse of `to_small`."""
        return (points + 0.5) * self.scale - 0.5 + self._offset(points)

    def _offset(self, like: Points) -> Points:
        offset = np.array([self.crop[axis] - self.box[axis] for axis in (0, 1)], np.float64)
        return torch.from_numpy(offset).to(like) if isinstance(like, Tensor) else offset

    def put_back(self, still: np.ndarray, part: np.ndarray) -> np.ndarray:
        """The picture given with another content of its animated part, h x w x 3."""
        x, y, width, height = self.crop
        whole = still.copy()
        whole[y : y + height, x : x + width] = part
        return whole

    def feather(self) -> Tensor:
        """How far an animated part shows, 1 x 1 x S x S: it fades at sides where the still goes on."""
        (left, top, width, height), (x0, y0, x1, y1) = self.crop, self.box
        cells = torch.arange(self.size, device=self.small.device)
        # Distances of the networks' pixels from the first ones along each side of the part, padded to a square.
        after_x, after_y = cells - x0 / self.scale, cells - y0 / self.scale
        before_x, before_y = x1 / self.scale - 1 - cells, y1 / self.scale - 1 - cells
        weight = torch.ones_like(self.small[:, :1])
        for distance, goes_on in (
            (after_x, left > 0),
            (before_x, left + width < self.given[1]),
            (after_y[:, None], top > 0),
            (before_y[:, None], top + height < self.given[0]),
        ):
            if goes_on:
                weight = weight * (distance / FEATHER).clamp(0, 1)
        return weight

    def enlarger(self) -> tuple[Tensor, Tensor]:
        """Matrices that enlarge maps of the networks' frames, bilinearly, to the picture: h x S and w x S."""
        height, width = self.picture.shape[:2]
        rows = self.to_small(np.stack([np.zeros(height), np.arange(height) + self.crop[1]], -1))[:, 1]
        columns = self.to_small(np.stack([np.arange(width) + self.crop[0], np.zeros(width)], -1))[:, 0]
        return tuple(_hats(places, self.size).to(self.small.device) for places in (rows, columns))  # type: ignore[return-value]


def _hats(places: np.ndarray, size: int) -> Tensor:
    """Weights of bilinear interpolation at places on a line of `size` pixels, ends replicated; n x size."""
    clipped = torch.from_numpy(places).clamp(0, size - 1)[:, None]
    return (1 - (clipped - torch.arange(size)).abs()).clamp_min(0).float()


def to_network(picture: np.ndarray, size: int, device: torch.device) -> Tensor:
    """A picture as the networks want it: H x W x 3 `uint8` to 1 x 3 x size x size in [0, 1]."""
    square = media.resize(media.pad_square(picture)[0], (size, size))
    return media.to_tensor(square[None]).to(device)


def square_box(middle: np.ndarray, side: float, size: geometry.Size) -> Box | None:
    """A square part of a picture around a place, moved so that it lies within.

    Args:
        middle: (x, y) in pixels.
        side: in pixels.
        size: (height, width) of the picture.

    Returns:
        (x, y, width, height); None for a square of nine tenths of the shorter side or more: all of it, then.
    """
    if side >= 0.9 * min(size):
        return None
    whole = max(1, round(side))
    x, y = (
        int(np.clip(round(float(place) + 0.5 - side / 2), 0, length - whole))
        for place, length in zip(middle, size[::-1], strict=True)
    )
    return x, y, whole, whole
