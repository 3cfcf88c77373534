"""The head: skull, hair, face and hats, from the front and from the side."""

from __future__ import annotations

import numpy as np

from stillmotion.worlds.colours import Colour, mix
from stillmotion.worlds.puppets.appearance import Appearance
from stillmotion.worlds.puppets.person import Person
from stillmotion.worlds.sprites import Canvas, Sprite, ellipse, rectangle, symmetric
from stillmotion.worlds.textures import value_noise

_DARK = (0.06, 0.05, 0.05)
_BLACK = (0.0, 0.0, 0.0)
_LONG = ("long", "bob")


def paint_head(person: Person) -> Sprite:
    """Paint the head; (0, 0) is its middle, y runs from crown to chin, x to the right or (side view) forward."""
    if person.view == "front":
        return _paint_front(person)
    return _paint_side(person)


def _skull(height: float, width: float) -> np.ndarray:
    """Return the outline of a head from the front, centred, y down."""
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    x, y = np.cos(angle), np.sin(angle)
    # The jaw is narrower than the skull.
    jaw = 1 - 0.2 * np.clip(y, 0, 1) ** 1.5
    return np.stack([0.5 * width * x * jaw, 0.5 * height * y], -1)


def _paint_front(person: Person) -> Sprite:
    a, h, w = person.appearance, person.body.head, person.body.head * person.body.head_width
    canvas = Canvas((-0.9 * h, -0.85 * h, 0.9 * h, 1.35 * h), person.scale)
    _fill_hair_behind(canvas, a, h, w)
    if a.hair_style != "hood" and a.hair_style not in _LONG:
        for side in (-1, 1):
            canvas.fill(ellipse(side * 0.5 * w, 0.04 * h, 0.07 * w, 0.1 * h), mix(a.skin, _DARK, 0.12))
    face = _skull(h, w)
    canvas.fill(face, a.skin)
    across = np.clip(canvas.x / (0.55 * w), -1.3, 1.3)
    canvas.shade((1.03 - 0.3 * np.abs(across - 0.3 * person.light_side) ** 2.2).astype(np.float32))
    if a.beard > 0:
        beard = ellipse(0, 0.3 * h, 0.42 * w, 0.22 * h)
        canvas.fill(beard, mix(a.skin, a.hair, a.beard), clip=canvas.coverage(face))
    _fill_features_front(canvas, a, h, w)
    _fill_hair_front(canvas, a, h, w)
    return canvas.sprite()


def _fill_hair_behind(canvas: Canvas, a: Appearance, h: float, w: float) -> None:
    if a.hair_style in _LONG:
        bottom = 1.15 * h if a.hair_style == "long" else 0.42 * h
        canvas.fill(ellipse(0, -0.08 * h, 0.66 * w, 0.5 * h), a.hair)
        right = np.array([[0.66 * w, -0.1 * h], [0.7 * w, 0.8 * bottom], [0.5 * w, bottom]])
        canvas.fill(symmetric(right), a.hair)
    elif a.hair_style == "afro":
        canvas.fill(ellipse(0, -0.12 * h, 0.74 * w, 0.6 * h), a.hair)
    elif a.hair_style == "bun":
        canvas.fill(ellipse(0, -0.56 * h, 0.26 * w, 0.17 * h), a.hair)
    elif a.hair_style == "hood":
        canvas.fill(ellipse(0, 0.02 * h, 0.72 * w, 0.63 * h), _hood(a))


def _fill_features_front(canvas: Canvas, a: Appearance, h: float, w: float) -> None:
    for side in (-1, 1):
        x = side * 0.2 * w
        canvas.fill(ellipse(x, -0.02 * h, 0.13 * w, 0.045 * h), mix(a.skin, _DARK, 0.45), 0.8)
        canvas.fill(ellipse(x, -0.02 * h, 0.055 * w, 0.038 * h), _DARK)
        canvas.fill(rectangle(x - 0.13 * w, -0.115 * h, x + 0.13 * w, -0.08 * h), mix(a.hair, a.skin, 0.25))
    canvas.fill(ellipse(0.015 * w, 0.12 * h, 0.085 * w, 0.035 * h), mix(a.skin, _DARK, 0.35), 0.8)
    canvas.fill(ellipse(0, 0.27 * h, 0.17 * w, 0.035 * h), mix(a.skin, (0.45, 0.1, 0.1), 0.55))
    if a.glasses:
        for side in (-1, 1):
            canvas.fill(ellipse(side * 0.21 * w, -0.01 * h, 0.18 * w, 0.085 * h), _DARK, 0.9)
        canvas.fill(rectangle(-0.48 * w, -0.03 * h, 0.48 * w, 0.0), _DARK)


def _fill_hair_front(canvas: Canvas, a: Appearance, h: float, w: float) -> None:
    if a.hair_style == "bald":
        return
    # The hairline is an arc: low at the temples, high over the brow.
    crown = canvas.coverage(ellipse(0, -0.1 * h, 0.555 * w, 0.435 * h))
    whole = rectangle(-w, -h, w, 0.2 * h)
    if a.hair_style == "cap":
        canvas.fill(whole, a.print_colour, clip=crown * canvas.above(-0.17 * h))
        canvas.fill(ellipse(0, -0.17 * h, 0.5 * w, 0.06 * h), mix(a.print_colour, _BLACK, 0.35))
    elif a.hair_style == "hood":
        opening = canvas.coverage(ellipse(0, 0.05 * h, 0.42 * w, 0.44 * h))
        canvas.fill(ellipse(0, 0.02 * h, 0.7 * w, 0.62 * h), _hood(a), clip=1 - opening)
    else:
        line = -0.2 * h + (1.3 if a.hair_style in _LONG else 0.9) * h * (canvas.x / w) ** 2
        strands = _strands(a, canvas.x / w * 14, canvas.y / h * 3)
        canvas.fill(whole, strands, clip=crown * canvas.above(line))


def _paint_side(person: Person) -> Sprite:
    a, h, w = person.appearance, person.body.head, person.body.head * 0.86
    canvas = Canvas((-1.0 * h, -0.85 * h, 0.9 * h, 1.35 * h), person.scale)
    if a.hair_style in _LONG:
        bottom = 1.05 * h if a.hair_style == "long" else 0.4 * h
        x, y = [-0.56, 0.02, -0.05, -0.5, -0.62], [-0.2 * h, -0.2 * h, bottom, bottom, 0.5 * bottom]
        canvas.fill(np.stack([np.array(x) * w, np.array(y)], -1), a.hair)
    elif a.hair_style == "bun":
        canvas.fill(ellipse(-0.56 * w, -0.22 * h, 0.2 * w, 0.17 * h), a.hair)
    elif a.hair_style == "afro":
        canvas.fill(ellipse(-0.1 * w, -0.12 * h, 0.66 * w, 0.58 * h), a.hair)
    # Profile, from the crown over brow, nose, lips and chin to the nape.
    profile = np.array(
        [[-0.5, -0.1], [-0.46, -0.28], [-0.3, -0.44], [-0.05, -0.5], [0.2, -0.46], [0.38, -0.33],
         [0.43, -0.18], [0.42, -0.06], [0.47, 0.02], [0.54, 0.11], [0.45, 0.15], [0.43, 0.2],
         [0.46, 0.25], [0.42, 0.3], [0.42, 0.38], [0.36, 0.47], [0.22, 0.5], [0.02, 0.42],
         [-0.1, 0.32], [-0.3, 0.3], [-0.44, 0.16]]
    )  # fmt: skip
    face = profile * np.array([w, h])
    canvas.fill(face, a.skin)
    light = 1.0 + 0.1 * canvas.x / w * np.sign(person.light_side) - 0.12 * canvas.y / h
    canvas.shade(np.clip(light, 0.8, 1.1).astype(np.float32))
    if a.beard > 0:
        beard = ellipse(0.25 * w, 0.36 * h, 0.3 * w, 0.2 * h)
        canvas.fill(beard, mix(a.skin, a.hair, a.beard), clip=canvas.coverage(face))
    canvas.fill(ellipse(0.33 * w, -0.04 * h, 0.07 * w, 0.04 * h), _DARK)
    canvas.fill(rectangle(0.24 * w, -0.13 * h, 0.42 * w, -0.095 * h), mix(a.hair, a.skin, 0.25))
    canvas.fill(ellipse(0.38 * w, 0.27 * h, 0.09 * w, 0.022 * h), mix(a.skin, (0.45, 0.1, 0.1), 0.55))
    canvas.fill(ellipse(-0.06 * w, 0.04 * h, 0.085 * w, 0.11 * h), mix(a.skin, _DARK, 0.22))
    canvas.fill(ellipse(-0.05 * w, 0.04 * h, 0.05 * w, 0.07 * h), mix(a.skin, _DARK, 0.08))
    if a.glasses:
        canvas.fill(ellipse(0.37 * w, -0.03 * h, 0.08 * w, 0.07 * h), _DARK, 0.9)
        canvas.fill(rectangle(-0.05 * w, -0.045 * h, 0.36 * w, -0.025 * h), _DARK)
    _fill_hair_side(canvas, a, h, w)
    return canvas.sprite()


def _fill_hair_side(canvas: Canvas, a: Appearance, h: float, w: float) -> None:
    skull = ellipse(-0.05 * w, -0.08 * h, 0.5 * w, 0.45 * h)
    if a.hair_style == "bald":
        return
    if a.hair_style == "cap":
        canvas.fill(skull, a.print_colour, clip=canvas.above(-0.16 * h))
        canvas.fill(ellipse(0.5 * w, -0.17 * h, 0.26 * w, 0.045 * h), mix(a.print_colour, _BLACK, 0.35))
    elif a.hair_style == "hood":
        opening = canvas.coverage(ellipse(0.42 * w, 0.04 * h, 0.36 * w, 0.44 * h))
        canvas.fill(ellipse(-0.06 * w, 0.02 * h, 0.6 * w, 0.6 * h), _hood(a), clip=1 - opening)
    else:
        # Hair covers the top and the back; in front of the ear it stays above the temple.
        low = 0.28 * h if a.hair_style != "short" else 0.2 * h
        line = np.where(canvas.x < -0.16 * w, low, -0.2 * h + 0.6 * h * np.clip(-canvas.x / w + 0.06, 0, 1))
        front = np.clip((0.36 * w - canvas.x) * canvas.scale + 0.5, 0, 1)
        strands = _strands(a, canvas.x / w * 5, canvas.y / h * 12)
        canvas.fill(skull, strands, clip=(canvas.above(line) * front).astype(np.float32))


def _hood(a: Appearance) -> Colour:
    return mix(a.top.first, _BLACK, 0.15)


def _strands(a: Appearance, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the hair's colours (H x W x 3), with soft lighter and darker strands."""
    light = 1.02 + 0.16 * value_noise(a.top.seed + 5, x, y, 2)
    return np.clip(np.asarray(a.hair, np.float32) * light[..., None], 0, 1)
