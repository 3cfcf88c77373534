"""The head: skull, hair, face and hats, from the front and from the side."""

from __future__ import annotations

import numpy as np

from stillmotion.worlds.colours import mix
from stillmotion.worlds.puppets.body import Body
from stillmotion.worlds.puppets.clothes import Clothes
from stillmotion.worlds.sprites import Canvas, Sprite, ellipse, rectangle
from stillmotion.worlds.textures import value_noise

_DARK = (0.06, 0.05, 0.05)


def _skull(height: float, width: float) -> np.ndarray:
    """Return the outline of a head from the front, centred, y down."""
    turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    x, y = np.cos(turn), np.sin(turn)
    # The jaw is narrower than the skull.
    jaw = 1 - 0.2 * np.clip(y, 0, 1) ** 1.5
    return np.stack([0.5 * width * x * jaw, 0.5 * height * y], -1)


def paint_head_front(body: Body, clothes: Clothes, scale: float, light_side: float) -> Sprite:
    """Paint the head as seen from the front; (0, 0) is its middle, y runs from crown to chin."""
    h, w = body.head, body.head * body.head_width
    canvas = Canvas((-0.9 * h, -0.85 * h, 0.9 * h, 1.35 * h), scale)
    c, skin = clothes, clothes.skin
    long = c.hair_style in ("long", "bob")
    _hair_behind(canvas, c, h, w)
    if c.hair_style != "hood" and not long:
        for side in (-1, 1):
            canvas.fill(ellipse(side * 0.5 * w, 0.04 * h, 0.07 * w, 0.1 * h), mix(skin, _DARK, 0.12))
    face = _skull(h, w)
    canvas.fill(face, skin)
    left, right = np.full_like(canvas.x, -0.55 * w), np.full_like(canvas.x, 0.55 * w)
    across = np.clip((canvas.x - 0.5 * (left + right)) / (0.55 * w), -1.3, 1.3)
    canvas.shade((1.03 - 0.3 * np.abs(across - 0.3 * light_side) ** 2.2).astype(np.float32))
    if c.beard > 0:
        beard = ellipse(0, 0.3 * h, 0.42 * w, 0.22 * h)
        canvas.fill(beard, mix(skin, c.hair, c.beard), clip=canvas.coverage(face))
    _features_front(canvas, c, h, w)
    _hair_front(canvas, c, h, w)
    return canvas.sprite()


def _hair_behind(canvas: Canvas, c: Clothes, h: float, w: float) -> None:
    if c.hair_style in ("long", "bob"):
        bottom = 1.15 * h if c.hair_style == "long" else 0.42 * h
        canvas.fill(ellipse(0, -0.08 * h, 0.66 * w, 0.5 * h), c.hair)
        canvas.fill(
            np.array(
                [
                    [-0.66 * w, -0.1 * h],
                    [0.66 * w, -0.1 * h],
                    [0.7 * w, 0.8 * bottom],
                    [0.5 * w, bottom],
                    [-0.5 * w, bottom],
                    [-0.7 * w, 0.8 * bottom],
                ]
            ),
            c.hair,
        )
    elif c.hair_style == "afro":
        canvas.fill(ellipse(0, -0.12 * h, 0.74 * w, 0.6 * h), c.hair)
    elif c.hair_style == "bun":
        canvas.fill(ellipse(0, -0.56 * h, 0.26 * w, 0.17 * h), c.hair)
    elif c.hair_style == "hood":
        canvas.fill(ellipse(0, 0.02 * h, 0.72 * w, 0.63 * h), mix(c.top.first, (0, 0, 0), 0.15))


def _features_front(canvas: Canvas, c: Clothes, h: float, w: float) -> None:
    skin = c.skin
    for side in (-1, 1):
        canvas.fill(ellipse(side * 0.2 * w, -0.02 * h, 0.13 * w, 0.045 * h), mix(skin, _DARK, 0.45), 0.8)
        canvas.fill(ellipse(side * 0.2 * w, -0.02 * h, 0.055 * w, 0.038 * h), _DARK)
        canvas.fill(
            rectangle(side * 0.2 * w - 0.13 * w, -0.115 * h, side * 0.2 * w + 0.13 * w, -0.08 * h),
            mix(c.hair, skin, 0.25),
        )
    canvas.fill(ellipse(0.015 * w, 0.12 * h, 0.085 * w, 0.035 * h), mix(skin, _DARK, 0.35), 0.8)
    canvas.fill(ellipse(0, 0.27 * h, 0.17 * w, 0.035 * h), mix(skin, (0.45, 0.1, 0.1), 0.55))
    if c.glasses:
        for side in (-1, 1):
            canvas.fill(ellipse(side * 0.21 * w, -0.01 * h, 0.18 * w, 0.085 * h), _DARK, 0.9)
        canvas.fill(rectangle(-0.48 * w, -0.03 * h, 0.48 * w, 0.0), _DARK)


def _hair_front(canvas: Canvas, c: Clothes, h: float, w: float) -> None:
    if c.hair_style == "bald":
        return
    # The hairline is an arc: low at the temples, high over the brow.
    crown = canvas.coverage(ellipse(0, -0.1 * h, 0.555 * w, 0.435 * h))
    line = -0.2 * h + (1.3 if c.hair_style in ("long", "bob") else 0.9) * h * (canvas.x / w) ** 2
    above = np.clip((line - canvas.y) * canvas.scale + 0.5, 0, 1).astype(np.float32)
    whole = rectangle(-w, -h, w, 0.2 * h)
    if c.hair_style == "cap":
        colour = c.print_colour
        canvas.fill(whole, colour, clip=crown * np.clip((-0.17 * h - canvas.y) * canvas.scale + 0.5, 0, 1))
        canvas.fill(ellipse(0, -0.17 * h, 0.5 * w, 0.06 * h), mix(colour, (0, 0, 0), 0.35))
    elif c.hair_style == "hood":
        hood = mix(c.top.first, (0, 0, 0), 0.15)
        inside = canvas.coverage(ellipse(0, 0.05 * h, 0.42 * w, 0.44 * h))
        canvas.fill(_rim(h, w), hood, clip=1 - inside)
    else:
        canvas.fill(whole, _strands(c, canvas.x / w * 14, canvas.y / h * 3), clip=crown * above)


def _rim(h: float, w: float) -> np.ndarray:
    return ellipse(0, 0.02 * h, 0.7 * w, 0.62 * h)


def paint_head_side(body: Body, clothes: Clothes, scale: float, light_side: float) -> Sprite:
    """Paint the head as seen from the side, looking towards +x; (0, 0) is its middle."""
    h, w = body.head, body.head * 0.86
    canvas = Canvas((-1.0 * h, -0.85 * h, 0.9 * h, 1.35 * h), scale)
    c, skin = clothes, clothes.skin
    if c.hair_style in ("long", "bob"):
        bottom = 1.05 * h if c.hair_style == "long" else 0.4 * h
        canvas.fill(
            np.array(
                [
                    [-0.56 * w, -0.2 * h],
                    [0.02 * w, -0.2 * h],
                    [-0.05 * w, bottom],
                    [-0.5 * w, bottom],
                    [-0.62 * w, 0.5 * bottom],
                ]
            ),
            c.hair,
        )
    elif c.hair_style == "bun":
        canvas.fill(ellipse(-0.56 * w, -0.22 * h, 0.2 * w, 0.17 * h), c.hair)
    elif c.hair_style == "afro":
        canvas.fill(ellipse(-0.1 * w, -0.12 * h, 0.66 * w, 0.58 * h), c.hair)
    # Profile, from the crown over brow, nose, lips and chin to the nape.
    profile = np.array(
        [[-0.5, -0.1], [-0.46, -0.28], [-0.3, -0.44], [-0.05, -0.5], [0.2, -0.46], [0.38, -0.33],
         [0.43, -0.18], [0.42, -0.06], [0.47, 0.02], [0.54, 0.11], [0.45, 0.15], [0.43, 0.2],
         [0.46, 0.25], [0.42, 0.3], [0.42, 0.38], [0.36, 0.47], [0.22, 0.5], [0.02, 0.42],
         [-0.1, 0.32], [-0.3, 0.3], [-0.44, 0.16]]
    )  # fmt: skip
    face = profile * np.array([w, h])
    canvas.fill(face, skin)
    canvas.shade(
        np.clip(1.0 + 0.1 * canvas.x / w * np.sign(light_side) - 0.12 * canvas.y / h, 0.8, 1.1).astype(np.float32)
    )
    if c.beard > 0:
        canvas.fill(
            ellipse(0.25 * w, 0.36 * h, 0.3 * w, 0.2 * h), mix(skin, c.hair, c.beard), clip=canvas.coverage(face)
        )
    canvas.fill(ellipse(0.33 * w, -0.04 * h, 0.07 * w, 0.04 * h), _DARK)
    canvas.fill(rectangle(0.24 * w, -0.13 * h, 0.42 * w, -0.095 * h), mix(c.hair, skin, 0.25))
    canvas.fill(ellipse(0.38 * w, 0.27 * h, 0.09 * w, 0.022 * h), mix(skin, (0.45, 0.1, 0.1), 0.55))
    canvas.fill(ellipse(-0.06 * w, 0.04 * h, 0.085 * w, 0.11 * h), mix(skin, _DARK, 0.22))
    canvas.fill(ellipse(-0.05 * w, 0.04 * h, 0.05 * w, 0.07 * h), mix(skin, _DARK, 0.08))
    if c.glasses:
        canvas.fill(ellipse(0.37 * w, -0.03 * h, 0.08 * w, 0.07 * h), _DARK, 0.9)
        canvas.fill(rectangle(-0.05 * w, -0.045 * h, 0.36 * w, -0.025 * h), _DARK)
    _hair_side(canvas, c, h, w)
    return canvas.sprite()


def _hair_side(canvas: Canvas, c: Clothes, h: float, w: float) -> None:
    skull = ellipse(-0.05 * w, -0.08 * h, 0.5 * w, 0.45 * h)
    if c.hair_style == "bald":
        return
    if c.hair_style == "cap":
        inside = np.clip((-0.16 * h - canvas.y) * canvas.scale + 0.5, 0, 1)
        canvas.fill(skull, c.print_colour, clip=inside)
        canvas.fill(ellipse(0.5 * w, -0.17 * h, 0.26 * w, 0.045 * h), mix(c.print_colour, (0, 0, 0), 0.35))
        return
    if c.hair_style == "hood":
        hood = mix(c.top.first, (0, 0, 0), 0.15)
        inside = canvas.coverage(ellipse(0.42 * w, 0.04 * h, 0.36 * w, 0.44 * h))
        canvas.fill(ellipse(-0.06 * w, 0.02 * h, 0.6 * w, 0.6 * h), hood, clip=1 - inside)
        return
    # Hair covers the top and the back, in front of the ear it stays above the temple.
    low = 0.28 * h if c.hair_style != "short" else 0.2 * h
    line = np.where(canvas.x < -0.16 * w, low, -0.2 * h + 0.6 * h * np.clip(-canvas.x / w + 0.06, 0, 1))
    above = np.clip((line - canvas.y) * canvas.scale + 0.5, 0, 1)
    front = np.clip((0.36 * w - canvas.x) * canvas.scale + 0.5, 0, 1)
    strands = _strands(c, canvas.x / w * 5, canvas.y / h * 12)
    canvas.fill(skull, strands, clip=(above * front).astype(np.float32))


def _strands(c: Clothes, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return hair's colours (H x W x 3): its own, with soft lighter and darker strands."""
    light = 1.02 + 0.16 * value_noise(c.top.seed + 5, x, y, 2)
    return np.clip(np.asarray(c.hair, np.float32) * light[..., None], 0, 1)
