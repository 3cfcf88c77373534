"""Digits without a file: glyphs of Pillow's and OpenCV's own scalable fonts, warped like handwriting.

Pillow brings one outline font, OpenCV the Hershey pen fonts. A glyph is drawn large, warped by a smooth random
displacement, rotated, sheared and stretched, its stroke dilated or eroded, and then fitted as MNIST's digits are:
the ink within 20 of 28 units, its centre of mass in the middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Pixels a side of the finished picture: four per unit of the 28-unit digit, so that it is crisp at 448 pixels too.
SIDE = 112
_INK = 80  # 20 of the 28 units
_PAGE = 160  # pixels a side while drawing
_PEN_FONTS = {
    "simplex": cv2.FONT_HERSHEY_SIMPLEX,
    "duplex": cv2.FONT_HERSHEY_DUPLEX,
    "complex": cv2.FONT_HERSHEY_COMPLEX,
    "triplex": cv2.FONT_HERSHEY_TRIPLEX,
    "italic": cv2.FONT_HERSHEY_COMPLEX | cv2.FONT_ITALIC,
    "script": cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
}
FONTS = ("outline", *_PEN_FONTS)


@dataclass(frozen=True)
class GlyphStyle:
    """How one digit is drawn; pixels are those of the page of 160."""

    label: int  # 0 to 9
    font: str  # one of `FONTS`
    pen: int  # width of the stroke of pen fonts, pixels
    dilation: int  # pixels by which the outline is moved outwards (inwards if negative)
    rotation: float  # radians, positive from x towards y
    shear: float  # how far the top leans to the right, as a share of the height
    stretch: float  # width over height, 1 = as in the font
    warp: float  # strength of the elastic displacement, as a share of the height
    blur: float  # of the ink, pixels
    ink: float  # brightness, up to 1
    seed: int  # of the elastic displacement


def sample_glyph_style(rng: np.random.Generator) -> GlyphStyle:
    """Draw how a digit is drawn; labels and fonts are equally likely."""
    font = FONTS[int(rng.integers(len(FONTS)))]
    return GlyphStyle(
        label=int(rng.integers(10)),
        font=font,
        pen=int(rng.integers(7, 15)) if font in ("simplex", "duplex") else int(rng.integers(5, 10)),
        dilation=int(rng.integers(-1, 6)) if font == "outline" else int(rng.integers(1, 5)),
        rotation=float(np.clip(rng.normal(0, 0.12), -0.25, 0.25)),
        shear=float(np.clip(rng.normal(0.08, 0.18), -0.3, 0.4)),
        stretch=rng.uniform(0.72, 1.15),
        warp=rng.uniform(0.015, 0.055),
        blur=rng.uniform(1.0, 3.0),
        ink=rng.uniform(0.85, 1.0),
        seed=int(rng.integers(2**31)),
    )


@lru_cache(maxsize=128)
def _font_glyph(label: int, font: str, pen: int) -> np.ndarray:
    """Return the glyph before any warp, `uint8`, `_PAGE` a side."""
    if font == "outline":
        page = Image.new("L", (_PAGE, _PAGE))
        outline_font = ImageFont.load_default(0.72 * _PAGE)
        ImageDraw.Draw(page).text((_PAGE / 2, _PAGE / 2), str(label), 255, outline_font, anchor="mm")
        return np.asarray(page)
    canvas = np.zeros((_PAGE, _PAGE), np.uint8)
    scale = 0.55 * _PAGE / cv2.getTextSize("8", _PEN_FONTS[font], 1.0, 1)[0][1]
    (wide, tall), _ = cv2.getTextSize(str(label), _PEN_FONTS[font], scale, 1)
    corner = ((_PAGE - wide) // 2, (_PAGE + tall) // 2)
    cv2.putText(canvas, str(label), corner, _PEN_FONTS[font], scale, 255, pen, cv2.LINE_AA)
    return canvas


def _warp(glyph: np.ndarray, style: GlyphStyle) -> np.ndarray:
    """Return the glyph warped, rotated, sheared and stretched about its middle."""
    middle = 0.5 * (_PAGE - 1)
    sin, cos = np.sin(style.rotation), np.cos(style.rotation)
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.array([[style.stretch, -style.shear], [0.0, 1.0]])
    inverse = np.linalg.inv(linear)
    y, x = np.mgrid[:_PAGE, :_PAGE].astype(np.float32)
    # A coarse lattice of random shifts, upsampled: neighbouring parts of a stroke move together.
    lattice = np.random.default_rng(style.seed).standard_normal((5, 5, 2)).astype(np.float32)
    elastic = cv2.resize(lattice, (_PAGE, _PAGE), interpolation=cv2.INTER_CUBIC) * (style.warp * _PAGE * 0.7)
    dx, dy = x - middle, y - middle
    source = [inverse[i, 0] * dx + inverse[i, 1] * dy + middle + elastic[..., i] for i in range(2)]
    return cv2.remap(glyph, source[0].astype(np.float32), source[1].astype(np.float32), cv2.INTER_LINEAR)


def _dilate(glyph: np.ndarray, by: int) -> np.ndarray:
    if by == 0:
        return glyph
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(by) + 1, 2 * abs(by) + 1))
    return cv2.dilate(glyph, kernel) if by > 0 else cv2.erode(glyph, kernel)


def _fit(ink: np.ndarray) -> np.ndarray:
    """Return the ink (float32) within 20 of 28 units of a square of `SIDE`, its centre of mass in the middle."""
    rows, columns = np.flatnonzero(ink.max(1) > 0.2), np.flatnonzero(ink.max(0) > 0.2)
    scale = _INK / (max(np.ptp(rows), np.ptp(columns)) + 1)
    total = ink.sum()
    x = float((ink.sum(0) * np.arange(ink.shape[1])).sum() / total)
    y = float((ink.sum(1) * np.arange(ink.shape[0])).sum() / total)
    middle = 0.5 * (SIDE - 1)
    transform = np.array([[scale, 0, middle - scale * x], [0, scale, middle - scale * y]])
    return cv2.warpAffine(ink, transform, (SIDE, SIDE), flags=cv2.INTER_LINEAR)


def draw_glyph(style: GlyphStyle) -> np.ndarray:
    """Return the digit's ink, float32, `SIDE` x `SIDE`, in [0, 1]."""
    glyph = _dilate(_warp(_font_glyph(style.label, style.font, style.pen), style), style.dilation)
    ink = cv2.GaussianBlur(glyph.astype(np.float32) / 255, (0, 0), style.blur)
    return _fit(ink) * np.float32(style.ink)
