"""One of ten picture filters per sample: Pillow's six fixed ones, and its four enhancements by a random factor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

FILTERS: Mapping[str, type[ImageFilter.BuiltinFilter]] = {
    "detail": ImageFilter.DETAIL,
    "edge_enhance": ImageFilter.EDGE_ENHANCE,
    "edge_enhance_more": ImageFilter.EDGE_ENHANCE_MORE,
    "smooth": ImageFilter.SMOOTH,
    "smooth_more": ImageFilter.SMOOTH_MORE,
    "blur": ImageFilter.BLUR,
}

ENHANCEMENTS: Mapping[str, tuple[Callable[[Image.Image], ImageEnhance._Enhance], tuple[float, float]]] = {
    "sharpness": (ImageEnhance.Sharpness, (0.0, 5.0)),
    "brightness": (ImageEnhance.Brightness, (0.7, 2.0)),
    "colour": (ImageEnhance.Color, (0.0, 5.0)),
    "contrast": (ImageEnhance.Contrast, (0.7, 3.0)),
}
"""With the range of the factor, of which 1 changes nothing; the class-conditional keypoint paper's, as released."""


@dataclass(frozen=True)
class PictureFilter:
    """One filter, the same for all frames of a sample."""

    name: str  # of `FILTERS` or `ENHANCEMENTS`
    factor: float = 1.0  # of an enhancement


def sample_filter(rng: np.random.Generator) -> PictureFilter:
    """Draw one of the ten, each as likely, and the factor of an enhancement."""
    name = [*FILTERS, *ENHANCEMENTS][rng.integers(len(FILTERS) + len(ENHANCEMENTS))]
    return PictureFilter(name, float(rng.uniform(*ENHANCEMENTS[name][1])) if name in ENHANCEMENTS else 1.0)


def filter_frames(frames: np.ndarray, chosen: PictureFilter) -> np.ndarray:
    """Filter every frame by itself, in eight bits as Pillow does; `float32`, T x H x W x 3 in [0, 1]."""
    # A resample has halves of a level; the small number rounds them alike whatever float arithmetic came before.
    levels = np.floor(255 * frames + np.float32(0.5 + 1 / 2048)).astype(np.uint8)
    filtered = [_filtered(Image.fromarray(frame), chosen) for frame in levels]
    return np.stack([np.asarray(picture) for picture in filtered]) * np.float32(1 / 255)


def _filtered(picture: Image.Image, chosen: PictureFilter) -> Image.Image:
    if chosen.name in FILTERS:
        return picture.filter(FILTERS[chosen.name])
    return ENHANCEMENTS[chosen.name][0](picture).enhance(chosen.factor)
