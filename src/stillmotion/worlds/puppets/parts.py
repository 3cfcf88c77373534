"""Body parts: which sprites make a person, how they hang on the skeleton, which lies in front of which."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillmotion.data.pose import JOINTS
from stillmotion.worlds.colours import mix
from stillmotion.worlds.puppets.body import Body
from stillmotion.worlds.puppets.clothes import Clothes
from stillmotion.worlds.puppets.head import paint_head_front, paint_head_side
from stillmotion.worlds.puppets.limbs import paint_hand, paint_limb, paint_shoe
from stillmotion.worlds.puppets.props import paint_ball, paint_club
from stillmotion.worlds.puppets.skeleton import Figure, side_signs, spine_point
from stillmotion.worlds.puppets.sports import Thing
from stillmotion.worlds.puppets.torso import paint_skirt, paint_torso
from stillmotion.worlds.sprites import Sprite


@dataclass(frozen=True)
class Part:
    """A sprite and its way through the clip.

    Attributes:
        sprite: what it looks like.
        point: T x 2, where the sprite's (0, 0) is, in body coordinates.
        angle: T, where its y axis points, as a limb's angle.
        mirror: +1 or -1, the direction of its x axis.
        shear: T, how far x moves along with y.
        joints: joints (indices into `JOINTS`) that this part never hides.
        narrow: T, factor on the width, or None for 1.
        shown: T, whether it is drawn, or None for always.
        thing: whether it is a thing that the person holds or throws.
    """

    sprite: Sprite
    point: np.ndarray
    angle: np.ndarray
    mirror: float
    shear: np.ndarray
    joints: tuple[int, ...]
    narrow: np.ndarray | None = None
    shown: np.ndarray | None = None
    thing: bool = False


def _index(name: str, side: int) -> int:
    return JOINTS.index(f"{('left', 'right')[side]}_{name}")


def build_parts(
    body: Body,
    clothes: Clothes,
    figure: Figure,
    view: str,
    near: int,
    arms_over_head: bool,
    scale: float,
    light_side: float,
    thing: Thing | None = None,
    slices: int = 1,
) -> list[Part]:
    """Return all parts of a person, the farthest first.

    Args:
        body: proportions.
        clothes: looks.
        figure: where the skeleton is.
        view: `front` or `side`.
        near: side view: which side (0 left, 1 right) is towards the camera.
        arms_over_head: front view: whether arms pass in front of the head.
        scale: pixels per stature.
        light_side: where the light comes from, -1 to +1.
        thing: what the person holds or throws.
        slices: how many slices of the torso draw the back.

    Returns:
        The parts in drawing order.
    """
    frames = len(figure.pelvis)
    plain = np.zeros(frames)
    sides = (1 - near, near)
    legs: list[list[Part]] = []
    arms: list[list[Part]] = []
    for side in sides:
        dim = 1.0 if view == "front" or side == near else 0.8
        legs.append(_leg(body, clothes, figure, view, side, scale, light_side, dim))
        arms.append(_arm(body, clothes, figure, view, side, scale, light_side, dim))
    own = [JOINTS.index("head")]
    for side in sides if view == "front" else (near,):
        own += [_index("shoulder", side), _index("hip", side)]
    # A trunk is two thirds as deep as it is wide: so much of its width stays when it turns.
    turn = figure.pose.turn
    narrow = None if turn is None else np.sqrt(np.cos(turn) ** 2 + (body.depth * np.sin(turn)) ** 2)
    torso = [
        Part(piece, point, angle, 1.0, plain, tuple(own), narrow)
        for piece, point, angle in _sliced(paint_torso(body, clothes, view, scale, light_side), body, figure, slices)
    ]
    if clothes.skirt > 0:
        torso[:0] = _skirt_parts(body, clothes, figure, view, scale, light_side, tuple(own))
    neck = _neck_part(body, clothes, figure, scale, light_side)
    paint = paint_head_front if view == "front" else paint_head_side
    head = Part(paint(body, clothes, scale, light_side), figure.head, figure.head_angle, 1.0, plain, (0,))
    behind: list[Part] = []
    before: list[Part] = []
    if thing is not None and thing.kind == "club":
        club = paint_club(thing.length, thing.colour, scale)
        behind = [Part(club, thing.point, thing.angle, 1.0, plain, (), None, ~thing.front, True)]
        before = [Part(club, thing.point, thing.angle, 1.0, plain, (), None, thing.front, True)]
    elif thing is not None:
        # The hand closes over the ball that it holds: in the last place before the hand.
        ball = paint_ball(thing.length, thing.colour, scale, light_side)
        arms[sides.index(thing.side)][:0] = [
            Part(ball, thing.point, thing.angle, 1.0, plain, (), None, thing.shown, True)
        ]
    if view == "side":
        return [*arms[0], *legs[0], *legs[1], neck, *torso, head, *arms[1]]
    body_parts = [*behind, *legs[0], *legs[1], neck, *torso]
    if arms_over_head:
        return [*body_parts, head, *before, *arms[0], *arms[1]]
    return [*body_parts, *before, *arms[0], *arms[1], head]


def _leg(
    body: Body, c: Clothes, figure: Figure, view: str, side: int, scale: float, light_side: float, dim: float
) -> list[Part]:
    """Return shoe, shin and thigh of one leg."""
    g, plain = body.girth, np.zeros(len(figure.pelvis))
    sign = float(side_signs(view)[side])
    thigh_radius = min(0.5 * body.seat + 0.004, 0.062 * g) if view == "front" else 0.056 * g
    knee, calf, ankle = 0.034 * (0.4 + 0.6 * g), 0.037 * (0.3 + 0.7 * g), 0.021 + 0.003 * g
    trousers = c.bottom if c.skirt == 0 else None
    thigh = paint_limb(
        body.thigh,
        [(0, thigh_radius), (0.4, 0.86 * thigh_radius), (1, knee)],
        c.skin,
        trousers,
        c.leg,
        c.loose,
        scale,
        light_side * sign,
        dim,
        0.1,
    )
    shin = paint_limb(
        body.shin,
        [(0, knee), (0.3, calf), (0.7, 0.5 * (calf + ankle)), (1, ankle)],
        c.skin,
        trousers,
        c.leg - 1,
        c.loose,
        scale,
        light_side * sign,
        dim,
        0.3,
    )
    shoe = paint_shoe(body, c, view, scale, dim)
    hip, bend = figure.pose.hip[:, side], figure.pose.knee[:, side]
    names = (_index("hip", side), _index("knee", side), _index("ankle", side))
    foot = figure.pose.foot[:, side]
    return [
        Part(shoe, figure.ankle[:, side], foot, sign, plain, names),
        Part(shin, figure.knee[:, side], hip + bend, sign, plain, names),
        Part(thigh, figure.hip[:, side], hip, sign, plain, names),
    ]


def _arm(
    body: Body, c: Clothes, figure: Figure, view: str, side: int, scale: float, light_side: float, dim: float
) -> list[Part]:
    """Return hand, forearm and upper arm of one arm."""
    g, plain = 0.35 + 0.65 * body.girth, np.zeros(len(figure.pelvis))
    sign = float(side_signs(view)[side])
    shoulder, elbow, wrist = 0.032 * g, 0.025 * g, 0.017 + 0.002 * g
    loose = c.loose
    upper = paint_limb(
        body.upper_arm,
        [(0, shoulder), (0.5, 0.9 * shoulder), (1, elbow)],
        c.skin,
        c.top if c.sleeve > 0 else None,
        c.sleeve,
        loose,
        scale,
        light_side * sign,
        dim,
        0.2,
    )
    lower = paint_limb(
        body.forearm,
        [(0, elbow), (0.25, 1.08 * elbow), (1, wrist)],
        c.skin,
        c.top if c.sleeve > 1 else None,
        c.sleeve - 1,
        loose,
        scale,
        light_side * sign,
        dim,
        0.4,
    )
    hand = paint_hand(body, c, scale, light_side, dim)
    raise_, bend = figure.pose.shoulder[:, side], figure.pose.elbow[:, side]
    names = (_index("shoulder", side), _index("elbow", side), _index("wrist", side))
    # From the hand up, so that cuffs lie over hands and sleeves over forearms.
    return [
        Part(hand, figure.wrist[:, side], raise_ + 0.9 * bend, sign, plain, names),
        Part(lower, figure.elbow[:, side], raise_ + bend, sign, plain, names),
        Part(upper, figure.shoulder[:, side], raise_, sign, plain, names),
    ]


def _neck_part(body: Body, c: Clothes, figure: Figure, scale: float, light_side: float) -> Part:
    length = body.neck + 0.4 * body.head
    radius = 0.5 * body.head * body.head_width * 0.52
    sprite = paint_limb(
        length,
        [(0, radius), (0.6, radius), (1, radius * 1.3)],
        mix(c.skin, (0, 0, 0), 0.1),
        None,
        0,
        0,
        scale,
        light_side,
        0.95,
        0,
    )
    offset = figure.chest - figure.head
    angle = np.arctan2(offset[:, 0], offset[:, 1])
    return Part(sprite, figure.head, angle, 1.0, np.zeros(len(angle)), (0,))


def _sliced(sprite: Sprite, body: Body, figure: Figure, count: int) -> list[tuple[Sprite, np.ndarray, np.ndarray]]:
    """Cut the torso into slices along the bent spine; they overlap, else gaps would open on the back."""
    t, scale = body.torso, sprite.scale
    pieces = []
    for k in reversed(range(count)):  # from the seat up, so that the shirt lies over the trousers
        start, end = k / count * t, (k + 1) / count * t
        first = 0 if k == 0 else int((start - 0.035) * scale + sprite.origin[1])
        last = sprite.image.shape[0] if k == count - 1 else int((end + 0.035) * scale + sprite.origin[1])
        middle = 0.5 * (start + end)
        piece = Sprite(sprite.image[first:last], (sprite.origin[0], sprite.origin[1] - first + middle * scale), scale)
        point, angle = spine_point(body, figure.pelvis, figure.pose, 1 - middle / t)
        pieces.append((piece, point, angle))
    return pieces


def _skirt_parts(
    body: Body, c: Clothes, figure: Figure, view: str, scale: float, light_side: float, own: tuple[int, ...]
) -> list[Part]:
    """Return the skirt, drawn once sheared along each thigh: so it widens when the knees part."""
    sprite = paint_skirt(body, c, scale, light_side, view)
    point, angle = spine_point(body, figure.pelvis, figure.pose, 0.3)
    signs = side_signs(view)
    limit = 0.9 * body.seat / (0.3 * body.torso + c.skirt)
    parts = []
    for side in (0, 1):
        shear = np.clip(0.8 * signs[side] * np.tan(np.clip(figure.pose.hip[:, side], -1.5, 1.5)), -limit, limit)
        parts.append(Part(sprite, point, 0.4 * angle, 1.0, shear, own))
    return parts
