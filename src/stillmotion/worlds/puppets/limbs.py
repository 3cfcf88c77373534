"""Limbs: arms, legs, hands and shoes, painted with what they wear."""

from __future__ import annotations

import numpy as np

from stillmotion.worlds.colours import Colour, mix
from stillmotion.worlds.puppets.person import Person
from stillmotion.worlds.sprites import Canvas, Sprite, cylinder_shading, hermite, rectangle, tube
from stillmotion.worlds.textures import Fabric, paint_fabric

_DARK = (0.03, 0.03, 0.03)


def paint_limb(
    length: float, knots: list[tuple[float, float]], skin: Colour, scale: float, light_side: float, dim: float, *,
    fabric: Fabric | None = None, cover: float = 0.0, looseness: float = 0.0, shift: float = 0.0,
) -> Sprite:  # fmt: skip
    """Paint a limb with round ends; (0, 0) is its upper joint, y runs down the bone.

    Args:
        length: of the bone, in statures.
        knots: (share of the length, half the width) pairs.
        skin: colour where it is bare.
        scale: pixels per stature.
        light_side: side of the light, -1 to +1 along x.
        dim: factor on the light, below 1 for the far side.
        fabric: what it wears, or None.
        cover: end of the cloth, as a share of the length; above 1 the next limb wears it too.
        looseness: distance of the cloth from the skin.
        shift: offset of the cloth's pattern, so that no two limbs have the same.
    """
    places = np.array([k[0] for k in knots]) * length
    radii = np.array([k[1] for k in knots])
    widest = float(radii.max()) + looseness + 0.01
    canvas = Canvas((-widest, -widest, widest, length + widest), scale)
    along = np.linspace(0, length, 24)
    radius = hermite(places, radii, along)
    canvas.fill(tube(along, -radius, radius), skin)
    edge = hermite(places, radii, canvas.y)
    if fabric is not None and cover > 0:
        end = min(cover, 1.0) * length
        along = np.linspace(0, end, 24)
        # Cloth is looser towards its open end.
        wide = hermite(places, radii, along) + looseness * (0.3 + 0.9 * along / length)
        cloth = paint_fabric(fabric, canvas.x + shift, canvas.y + shift)
        canvas.fill(tube(along, -wide, wide, round_end=cover > 1.0), cloth)
        if cover <= 1.0:
            cuff = rectangle(-widest, end - 0.006, widest, end)
            canvas.fill(cuff, _DARK, 0.25, clip=canvas.coverage(tube(along, -wide, wide, round_end=False)))
        edge = np.where(canvas.y <= end, edge + looseness, edge)
    # The edges darken only below the joint: above it the limb merges with its parent.
    depth = 0.34 * np.clip(0.15 + canvas.y / (0.35 * length), 0.15, 1)
    canvas.shade(dim * cylinder_shading(canvas.x, -edge, edge, light_side, depth))
    return canvas.sprite()


def paint_hand(person: Person, dim: float) -> Sprite:
    """Paint a hand; (0, 0) is the wrist, y runs to the finger tips, the thumb is on the -x side."""
    n, g = person.body.hand, 0.8 + 0.2 * person.body.girth
    skin = person.appearance.gloves or person.appearance.skin
    canvas = Canvas((-0.5 * n, -0.2 * n, 0.5 * n, 1.1 * n), person.scale)
    along = np.array([0.0, 0.18, 0.42, 0.6, 0.85, 1.0]) * n
    half = np.array([0.17, 0.22, 0.25, 0.23, 0.18, 0.08]) * n * g
    canvas.fill(tube(along, -half, half), skin)
    thumb = np.array([[-0.18, 0.12], [-0.36, 0.36], [-0.38, 0.52], [-0.3, 0.56], [-0.2, 0.44]]) * n * np.array([g, 1])
    canvas.fill(thumb, skin)
    for gap in (-0.1, 0.0, 0.1):
        canvas.fill(rectangle((gap - 0.012) * n, 0.55 * n, (gap + 0.012) * n, n), mix(skin, _DARK, 0.5), 0.7)
    radius = np.full_like(canvas.x, 0.28 * n)
    canvas.shade(dim * cylinder_shading(canvas.x, -radius, radius, person.light_side, 0.22))
    return canvas.sprite()


_SHOE_SIDE = np.array(
    [[-0.27, 0.75], [-0.28, 0.2], [-0.2, -0.25], [0.17, -0.3], [0.3, 0.1], [0.5, 0.32], [0.68, 0.5], [0.74, 0.75]]
)
_SOLE_SIDE = np.array([[-0.28, 0.72], [0.74, 0.72], [0.75, 0.9], [0.7, 1.0], [-0.27, 1.0]])
_SHOE_FRONT = np.array(
    [[-0.2, 0.9], [-0.22, 0.4], [-0.18, -0.1], [0.18, -0.1], [0.26, 0.3], [0.36, 0.7], [0.36, 0.95]]
)
_SOLE_FRONT = np.array([[-0.21, 0.85], [0.36, 0.85], [0.36, 1.05], [-0.19, 1.05]])


def paint_shoe(person: Person, dim: float) -> Sprite:
    """Paint a shoe; (0, 0) is the ankle, y points down, x to the toes (side) or outward (front)."""
    a, f, clothes = person.body.ankle, person.body.foot, person.appearance
    canvas = Canvas((-0.5 * f, -1.2 * a, f, 1.2 * a), person.scale)
    neck = person.body.ankle_radius
    canvas.fill(rectangle(-neck, -0.8 * a, neck, 0.4 * a), clothes.socks or clothes.skin)
    if person.view == "side":
        outline, sole, size = _SHOE_SIDE, _SOLE_SIDE, np.array([f, a])
    else:
        outline, sole, size = _SHOE_FRONT, _SOLE_FRONT, np.array([0.85 * f, a])
    canvas.fill(outline * size, clothes.shoes)
    canvas.fill(sole * size, clothes.soles)
    canvas.shade(np.full_like(canvas.x, dim))
    return canvas.sprite()
