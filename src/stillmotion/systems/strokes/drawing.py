"""Pictures that explain an animation: the stroke on the still, its coding, where the frame changed."""

from __future__ import annotations

import colorsys

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from stillmotion import media

SHOWN = 256
"""Layers are enlarged to about this side."""


def to_frames(pictures: np.ndarray) -> Tensor:
    """N x H x W x 3 `uint8` to N x 3 x H x W in [-1, 1]."""
    return torch.from_numpy(media.to_float(pictures)) * 2 - 1


def to_picture(frame: Tensor) -> np.ndarray:
    """1 x 3 x H x W in [-1, 1] to H x W x 3 `uint8`."""
    return media.to_uint8((frame[0].float().permute(1, 2, 0).cpu().numpy() + 1) / 2)


def time_colour(share: float) -> tuple[int, int, int]:
    """The colour of a moment: from blue at the start (0) over green to red at the end (1)."""
    red, green, blue = colorsys.hsv_to_rgb((1 - share) * 2 / 3, 0.9, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_stroke(picture: np.ndarray, points: np.ndarray, now: int | None = None) -> np.ndarray:
    """A stroke over a picture: a line whose colour is time, a dot per frame, a ring where it starts.

    Dots lie dense where the object is to be slow.

    Args:
        picture: H x W x 3, `uint8`.
        points: T x 2, (x, y) in its pixels.
        now: mark this point with a filled disc.
    """
    height, width = picture.shape[:2]
    thick = max(1, round(min(height, width) / 120))
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    places = [(float(x), float(y)) for x, y in points]
    last = max(len(places) - 1, 1)

    def disc(place: tuple[float, float], radius: float, **options: object) -> None:
        x, y = place
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], **options)  # type: ignore[arg-type]

    for t in range(len(places) - 1):
        draw.line([places[t], places[t + 1]], fill=time_colour(t / last), width=thick)
    for t, place in enumerate(places):
        disc(place, 1.5 * thick, fill=time_colour(t / last))
    disc(places[0], 4 * thick, outline=time_colour(0), width=thick)
    if now is not None:
        disc(places[now], 3 * thick, fill=(255, 255, 255), outline=time_colour(now / last), width=thick)
    return np.asarray(image)


def draw_coding(whole: Tensor, step: Tensor) -> np.ndarray:
    """What the networks are told: S above, S_t below, their channels side by side.

    Args:
        whole: 1 x C x S x S; each channel is drawn from its least value (black) to its largest.
        step: the same shape, drawn with the same greys.
    """
    both = torch.stack([whole[0], step[0]]).float()  # 2 x C x S x S
    low, high = both.amin((0, 2, 3), keepdim=True), both.amax((0, 2, 3), keepdim=True)
    grey = F.pad((both - low) / (high - low).clamp_min(1e-9), (1, 1, 1, 1), value=0.5)  # a line around each
    sheet = grey.permute(0, 2, 1, 3).flatten(2).flatten(0, 1).cpu().numpy()  # 2 (S + 2) x C (S + 2)
    return enlarged(np.repeat(media.to_uint8(sheet)[..., None], 3, 2), max(sheet.shape) // 2)


def draw_change(picture: np.ndarray, weight: Tensor) -> np.ndarray:
    """Where a frame shows: what keeps the still's pixels is darkened.

    Args:
        picture: S x S x 3, `uint8`, the network's frame.
        weight: 1 x 1 x S x S in [0, 1].
    """
    share = 0.25 + 0.75 * weight[0, 0].float().cpu().numpy()[..., None]
    return enlarged(np.rint(picture * share).astype(np.uint8), len(picture))


def enlarged(picture: np.ndarray, side: int) -> np.ndarray:
    """Every pixel of a picture whose side is `side` repeated, so that it can be looked at."""
    factor = max(1, round(SHOWN / side))
    return np.repeat(np.repeat(picture, factor, 0), factor, 1)
