"""Digits without a file: glyphs of Pillow's and OpenCV's own scalable fonts, warped as a hand would write them.

Pillow brings one outline font, OpenCV the Hershey pen fonts. A glyph is drawn large, bent by a smooth random
displacement, turned, sheared and stretched, its stroke thickened or thinned, and then fitted as MNIST's digits are:
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
_DRAWN = 160  # pixels a side while drawing
_PEN = {
    "simplex": cv2.FONT_HERSHEY_SIMPLEX,
    "duplex": cv2.FONT_HERSHEY_DUPLEX,
    "complex": cv2.FONT_HERSHEY_COMPLEX,
    "triplex": cv2.FONT_HERSHEY_TRIPLEX,
    "italic": cv2.FONT_HERSHEY_COMPLEX | cv2.FONT_ITALIC,
    "script": cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
}
FONTS = ("outline", *_PEN)


@dataclass(frozen=True)
class Hand:
    """How one digit is written.

    Attributes:
        label: 0 to 9.
        font: one of `FONTS`.
        pen: width of the stroke of pen fonts, in pixels of the drawing.
        thicken: by how many pixels the outline is moved outwards (inwards if negative).
        turn: rotation in radians, positive turns x towards y.
        shear: how far the top leans to the right, as a share of the height.
        stretch: width over height, 1 = as in the font.
        bend: strength of the elastic displacement, as a share of the height.
        soft: blur of the ink, in pixels of the drawing.
        ink: brightness of the ink, up to 1.
        seed: names the elastic displacement.
    """

    label: int
    font: str
    pen: int
    thicken: int
    turn: float
    shear: float
    stretch: float
    bend: float
    soft: float
    ink: float
    seed: int


def sample_hand(rng: np.random.Generator) -> Hand:
    """Draw how a digit is written; labels and fonts are equally likely."""
    font = FONTS[int(rng.integers(len(FONTS)))]
    return Hand(
        label=int(rng.integers(10)),
        font=font,
        pen=int(rng.integers(7, 15)) if font in ("simplex", "duplex") else int(rng.integers(5, 10)),
        thicken=int(rng.integers(-1, 6)) if font == "outline" else int(rng.integers(1, 5)),
        turn=float(np.clip(rng.normal(0, 0.12), -0.25, 0.25)),
        shear=float(np.clip(rng.normal(0.08, 0.18), -0.3, 0.4)),
        stretch=rng.uniform(0.72, 1.15),
        bend=rng.uniform(0.015, 0.055),
        soft=rng.uniform(1.0, 3.0),
        ink=rng.uniform(0.85, 1.0),
        seed=int(rng.integers(2**31)),
    )


@lru_cache(maxsize=128)
def _drawn(label: int, font: str, pen: int) -> np.ndarray:
    """Return the glyph before any warp, `uint8`, `_DRAWN` a side."""
    if font == "outline":
        page = Image.new("L", (_DRAWN, _DRAWN))
        ImageDraw.Draw(page).text(
            (_DRAWN / 2, _DRAWN / 2), str(label), 255, ImageFont.load_default(0.72 * _DRAWN), anchor="mm"
        )
        return np.asarray(page)
    canvas = np.zeros((_DRAWN, _DRAWN), np.uint8)
    scale = 0.55 * _DRAWN / cv2.getTextSize("8", _PEN[font], 1.0, 1)[0][1]
    (wide, tall), _ = cv2.getTextSize(str(label), _PEN[font], scale, 1)
    corner = ((_DRAWN - wide) // 2, (_DRAWN + tall) // 2)
    cv2.putText(canvas, str(label), corner, _PEN[font], scale, 255, pen, cv2.LINE_AA)
    return canvas


def _warped(glyph: np.ndarray, hand: Hand) -> np.ndarray:
    """Return the glyph bent, turned, sheared and stretched about its middle."""
    middle = 0.5 * (_DRAWN - 1)
    sin, cos = np.sin(hand.turn), np.cos(hand.turn)
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.array([[hand.stretch, -hand.shear], [0.0, 1.0]])
    back = np.linalg.inv(linear)
    y, x = np.mgrid[:_DRAWN, :_DRAWN].astype(np.float32)
    # A coarse lattice of random shifts, made smooth: neighbouring parts of a stroke move together.
    lattice = np.random.default_rng(hand.seed).standard_normal((5, 5, 2)).astype(np.float32)
    elastic = cv2.resize(lattice, (_DRAWN, _DRAWN), interpolation=cv2.INTER_CUBIC) * (hand.bend * _DRAWN * 0.7)
    dx, dy = x - middle, y - middle
    from_x = (back[0, 0] * dx + back[0, 1] * dy + middle + elastic[..., 0]).astype(np.float32)
    from_y = (back[1, 0] * dx + back[1, 1] * dy + middle + elastic[..., 1]).astype(np.float32)
    return cv2.remap(glyph, from_x, from_y, cv2.INTER_LINEAR)


def _thickened(glyph: np.ndarray, by: int) -> np.ndarray:
    if by == 0:
        return glyph
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * abs(by) + 1, 2 * abs(by) + 1))
    return cv2.dilate(glyph, kernel) if by > 0 else cv2.erode(glyph, kernel)


def fit(ink: np.ndarray) -> np.ndarray:
    """Return the picture with its ink inside 20 of 28 units and the centre of mass in the middle.

    Args:
        ink: float32, H x W, in [0, 1], not empty.

    Returns:
        float32, `SIDE` x `SIDE`.
    """
    rows, columns = np.flatnonzero(ink.max(1) > 0.2), np.flatnonzero(ink.max(0) > 0.2)
    scale = _INK / (max(np.ptp(rows), np.ptp(columns)) + 1)
    total = ink.sum()
    x = float((ink.sum(0) * np.arange(ink.shape[1])).sum() / total)
    y = float((ink.sum(1) * np.arange(ink.shape[0])).sum() / total)
    middle = 0.5 * (SIDE - 1)
    moved = np.array([[scale, 0, middle - scale * x], [0, scale, middle - scale * y]])
    return cv2.warpAffine(ink, moved, (SIDE, SIDE), flags=cv2.INTER_LINEAR)


def write(hand: Hand) -> np.ndarray:
    """Return the digit's ink, float32, `SIDE` x `SIDE`, in [0, 1]."""
    glyph = _thickened(_warped(_drawn(hand.label, hand.font, hand.pen), hand), hand.thicken)
    ink = cv2.GaussianBlur(glyph.astype(np.float32) / 255, (0, 0), hand.soft)
    return fit(ink) * np.float32(hand.ink)
