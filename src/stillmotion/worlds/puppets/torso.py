"""The torso: shirts, jackets, the seat of the trousers, skirts."""

from __future__ import annotations

import numpy as np

from stillmotion.worlds.colours import mix
from stillmotion.worlds.puppets.person import Person
from stillmotion.worlds.sprites import Canvas, Sprite, cylinder_shading, ellipse, hermite, rectangle, symmetric, tube
from stillmotion.worlds.textures import paint_fabric

_DARK = (0.03, 0.03, 0.03)
_SEAT = 0.055  # height of the trousers' seat below the hip joints, in statures


def _profile(person: Person) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return heights down the spine, and the left (or back) and right (or front) edges of the torso there."""
    body, t = person.body, person.body.torso
    if person.view == "front":
        neck = 0.5 * body.head * body.head_width * 0.62 + 0.006
        places = np.array([-0.05, -0.032, 0.005, 0.3 * t, 0.62 * t, 0.97 * t, t + _SEAT])
        shoulders = [neck, 0.72 * body.shoulder, body.shoulder + 0.014]
        right = np.array([*shoulders, body.chest, body.waist, body.seat, 0.86 * body.seat])
        return places, -right, right
    d, belly = body.depth, max(body.girth - 1.0, 0.0) * 0.07
    chest, waist, seat = body.chest * d, body.waist * d, body.seat * d
    places = np.array([-0.03, 0.0, 0.06, 0.3 * t, 0.65 * t, 0.97 * t, t + _SEAT])
    front = np.array([0.022, 0.042, 0.062, chest, waist + belly, seat * 0.85, seat * 0.7])
    back = np.array([0.036, 0.055, 0.066, chest, waist * 0.85, seat * 1.08, seat * 0.8])
    return places, -back, front


def paint_torso(person: Person) -> Sprite:
    """Paint the torso and the trousers' seat; (0, 0) is between the shoulders, y runs down the spine."""
    a, t, looseness = person.appearance, person.body.torso, person.appearance.looseness
    places, left, right = _profile(person)
    widest = float(max(right.max(), -left.min())) + looseness + 0.01
    canvas = Canvas((-widest, -0.07, widest, t + 0.11), person.scale)

    def hull(start: float, end: float, extra: float) -> np.ndarray:
        along = np.linspace(start, end, 40)
        flare = extra * np.clip(along / (0.2 * t), 0, 1)
        edges = hermite(places, left, along) - flare, hermite(places, right, along) + flare
        return tube(along, *edges, round_start=False, round_end=False)

    trousers = hull(0.6 * t, t + _SEAT, 0.4 * looseness)
    canvas.fill(trousers, paint_fabric(a.bottom, canvas.x, canvas.y - t))
    if a.belt is not None:
        canvas.fill(rectangle(-1, 0.86 * t, 1, 0.93 * t), a.belt, clip=canvas.coverage(trousers))
    hem = t + a.hem
    top = hull(places[0], hem, looseness)
    canvas.fill(top, paint_fabric(a.top, canvas.x, canvas.y))
    inside = canvas.coverage(top)
    if person.view == "front":
        _paint_chest(canvas, person, inside, hem)
    canvas.fill(rectangle(-1, hem - 0.008, 1, hem), _DARK, 0.3, clip=inside)
    left_edge, right_edge = hermite(places, left, canvas.y) - looseness, hermite(places, right, canvas.y) + looseness
    depth = 0.3 * np.clip(canvas.y / (0.3 * t), 0.1, 1)  # no dark edge where the sleeves join
    canvas.shade(cylinder_shading(canvas.x, left_edge, right_edge, person.light_side, depth))
    return canvas.sprite()


def _paint_chest(canvas: Canvas, person: Person, inside: np.ndarray, hem: float) -> None:
    """Paint an open front, a print and the neckline where the top is (`inside`)."""
    a, t = person.appearance, person.body.torso
    if a.open_front > 0:
        wide = a.open_front
        right = np.array([[wide * 1.3, -0.05], [wide, 0.1], [wide, hem]])
        canvas.fill(symmetric(right), paint_fabric(a.inner, canvas.x, canvas.y), clip=inside)
        for side in (-1, 1):
            canvas.fill(rectangle(side * wide - 0.003, 0, side * wide + 0.003, hem), _DARK, 0.5, clip=inside)
    if a.print == "disc":
        canvas.fill(ellipse(0, 0.3 * t, 0.045, 0.045), a.print_colour, clip=inside)
    elif a.print == "bar":
        canvas.fill(rectangle(-1, 0.26 * t, 1, 0.42 * t), a.print_colour, clip=inside)
    elif a.print == "bolt":
        bolt = np.array(
            [[0.01, -0.05], [-0.035, 0.01], [-0.003, 0.01], [-0.015, 0.055], [0.035, -0.012], [0.003, -0.012]]
        )
        canvas.fill(bolt + np.array([0, 0.32 * t]), a.print_colour, clip=inside)
    wide = 0.5 * person.body.head * person.body.head_width * 0.62 + 0.004
    canvas.fill(ellipse(0, -0.04, wide, 0.03 + a.neckline), mix(a.skin, _DARK, 0.06), clip=inside)


def paint_skirt(person: Person) -> Sprite:
    """Paint a skirt; (0, 0) is the waist, y points down to the hem."""
    body, depth = person.body, 1.0 if person.view == "front" else 0.85
    top, wide = body.waist * depth + 0.004, body.seat * depth + 0.008
    length = 0.3 * body.torso + person.appearance.skirt
    places, radii = np.array([0, 0.3 * body.torso, length]), np.array([top, wide, wide * 1.2])
    along = np.linspace(0, length, 24)
    half = hermite(places, radii, along)
    canvas = Canvas((-0.2, -0.01, 0.2, length + 0.01), person.scale)
    cloth = paint_fabric(person.appearance.bottom, canvas.x, canvas.y)
    canvas.fill(tube(along, -half, half, round_start=False, round_end=False), cloth)
    radius = hermite(places, radii, canvas.y)
    pleats = 1 + 0.07 * np.sin(canvas.x / radius * 14)
    canvas.shade((cylinder_shading(canvas.x, -radius, radius, person.light_side) * pleats).astype(np.float32))
    return canvas.sprite()
