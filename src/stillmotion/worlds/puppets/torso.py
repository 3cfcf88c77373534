"""The torso: shirts, jackets, the seat of the trousers, skirts."""

from __future__ import annotations

import numpy as np

from stillmotion.worlds.colours import mix
from stillmotion.worlds.puppets.body import Body
from stillmotion.worlds.puppets.clothes import Clothes
from stillmotion.worlds.sprites import Canvas, Sprite, cylinder_shading, ellipse, hermite, rectangle, tube
from stillmotion.worlds.textures import paint_fabric

_DARK = (0.03, 0.03, 0.03)


def paint_torso(body: Body, clothes: Clothes, view: str, scale: float, light_side: float) -> Sprite:
    """Paint the torso and the trousers' seat; (0, 0) is between the shoulders, y runs down the spine."""
    c, t, loose = clothes, body.torso, clothes.loose
    seat = 0.055
    if view == "front":
        neck, slope = 0.5 * body.head * body.head_width * 0.62 + 0.006, -0.05
        places = np.array([slope, -0.032, 0.005, 0.3 * t, 0.62 * t, 0.97 * t, t + seat])
        right = np.array(
            [neck, 0.72 * body.shoulder, body.shoulder + 0.014, body.chest, body.waist, body.seat, 0.86 * body.seat]
        )
        left = -right
    else:
        d, belly = body.depth, max(body.girth - 1.0, 0.0) * 0.07
        places = np.array([-0.03, 0.0, 0.06, 0.3 * t, 0.65 * t, 0.97 * t, t + seat])
        front = np.array(
            [0.022, 0.042, 0.062, body.chest * d, body.waist * d + belly, body.seat * d * 0.85, body.seat * d * 0.7]
        )
        back = np.array(
            [0.036, 0.055, 0.066, body.chest * d, body.waist * d * 0.85, body.seat * d * 1.08, body.seat * d * 0.8]
        )
        right, left = front, -back
    widest = float(max(right.max(), -left.min())) + loose + 0.01
    canvas = Canvas((-widest, -0.07, widest, t + 0.11), scale)

    def hull(start: float, end: float, extra: float) -> np.ndarray:
        along = np.linspace(start, end, 40)
        flare = extra * np.clip(along / (0.2 * t), 0, 1)
        return tube(
            along,
            hermite(places, left, along) - flare,
            hermite(places, right, along) + flare,
            round_start=False,
            round_end=False,
        )

    at_left, at_right = hermite(places, left, canvas.y) - loose, hermite(places, right, canvas.y) + loose
    trousers = paint_fabric(c.bottom, canvas.x, canvas.y - t)
    canvas.fill(hull(0.6 * t, t + seat, 0.4 * loose), trousers)
    if c.belt is not None:
        canvas.fill(
            rectangle(-1, 0.86 * t, 1, 0.93 * t), c.belt, clip=canvas.coverage(hull(0.6 * t, t + seat, 0.4 * loose))
        )
    hem = t + c.hem
    top = hull(places[0], hem, loose)
    canvas.fill(top, paint_fabric(c.top, canvas.x, canvas.y))
    if view == "front":
        _chest_details(canvas, body, clothes, top, hem)
    canvas.fill(rectangle(-1, hem - 0.008, 1, hem), _DARK, 0.3, clip=canvas.coverage(top))
    depth = 0.3 * np.clip(canvas.y / (0.3 * t), 0.1, 1)  # no dark edge where the sleeves join
    canvas.shade(cylinder_shading(canvas.x, at_left, at_right, light_side, depth))
    return canvas.sprite()


def _chest_details(canvas: Canvas, body: Body, c: Clothes, top: np.ndarray, hem: float) -> None:
    inside = canvas.coverage(top)
    if c.open_front > 0:
        inner = paint_fabric(c.inner, canvas.x, canvas.y)
        wide = c.open_front
        canvas.fill(
            np.array(
                [[-wide * 1.3, -0.05], [wide * 1.3, -0.05], [wide, 0.1], [wide, hem], [-wide, hem], [-wide, 0.1]]
            ),
            inner,
            clip=inside,
        )
        for side in (-1, 1):
            canvas.fill(rectangle(side * wide - 0.003, 0, side * wide + 0.003, hem), _DARK, 0.5, clip=inside)
    if c.print == "disc":
        canvas.fill(ellipse(0, 0.3 * body.torso, 0.045, 0.045), c.print_colour, clip=inside)
    elif c.print == "bar":
        canvas.fill(rectangle(-1, 0.26 * body.torso, 1, 0.42 * body.torso), c.print_colour, clip=inside)
    elif c.print == "bolt":
        shape = np.array(
            [[0.01, -0.05], [-0.035, 0.01], [-0.003, 0.01], [-0.015, 0.055], [0.035, -0.012], [0.003, -0.012]]
        )
        canvas.fill(shape + np.array([0, 0.32 * body.torso]), c.print_colour, clip=inside)
    wide = 0.5 * body.head * body.head_width * 0.62 + 0.004
    neckline = ellipse(0, -0.04, wide, 0.03 + c.neckline)
    canvas.fill(neckline, mix(c.skin, _DARK, 0.06), clip=inside)


def paint_skirt(body: Body, clothes: Clothes, scale: float, light_side: float, view: str) -> Sprite:
    """Paint a skirt; (0, 0) is the waist, y points down to the hem."""
    depth = 1.0 if view == "front" else 0.85
    top, wide = body.waist * depth + 0.004, body.seat * depth + 0.008
    length = 0.3 * body.torso + clothes.skirt
    along = np.linspace(0, length, 24)
    half = hermite(np.array([0, 0.3 * body.torso, length]), np.array([top, wide, wide * 1.2]), along)
    canvas = Canvas((-0.2, -0.01, 0.2, length + 0.01), scale)
    canvas.fill(tube(along, -half, half, False, False), paint_fabric(clothes.bottom, canvas.x, canvas.y))
    radius = hermite(np.array([0, 0.3 * body.torso, length]), np.array([top, wide, wide * 1.2]), canvas.y)
    pleats = 1 + 0.07 * np.sin(canvas.x / radius * 14)
    canvas.shade((cylinder_shading(canvas.x, -radius, radius, light_side) * pleats).astype(np.float32))
    return canvas.sprite()
