"""Body parts: the sprites of a person, their motion with the skeleton, and their drawing order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stillmotion.data.pose import JOINTS
from stillmotion.worlds.colours import mix
from stillmotion.worlds.puppets.appearance import Person
from stillmotion.worlds.puppets.head import paint_head
from stillmotion.worlds.puppets.held_objects import HeldObject, paint_ball, paint_club
from stillmotion.worlds.puppets.limbs import paint_hand, paint_limb, paint_shoe
from stillmotion.worlds.puppets.skeleton import Figure, side_signs, spine_point
from stillmotion.worlds.puppets.torso import paint_skirt, paint_torso
from stillmotion.worlds.sprites import Sprite


@dataclass(frozen=True)
class Part:
    """A sprite and its motion over T frames."""

    sprite: Sprite
    point: np.ndarray  # T x 2, the sprite's (0, 0) in body coordinates
    angle: np.ndarray  # T, direction of its y axis, as a limb's angle
    joints: tuple[int, ...] = ()  # joints (indices into `JOINTS`) that this part never hides
    mirror: float = 1.0  # +1 or -1, direction of its x axis
    shear: np.ndarray | float = 0.0  # T, change of x along y
    width: np.ndarray | None = None  # T, factor on the width, or None for 1
    length: np.ndarray | None = None  # T, factor along y, or None for 1
    shown: np.ndarray | None = None  # T, whether it is drawn, or None for always
    held: bool = False  # whether it is an object that the person holds or throws


def _joint(name: str, side: int) -> int:
    return JOINTS.index(f"{('left', 'right')[side]}_{name}")


def _seen(figure: Figure, bone: str, side: int) -> np.ndarray | None:
    """How long a bone is seen to be, over its own length; None where nothing is foreshortened."""
    return figure.lengths[bone][:, side] if bone in figure.lengths else None


def build_parts(
    person: Person, figure: Figure, near: int, arms_over_head: bool, held: HeldObject | None = None, slices: int = 1
) -> list[Part]:
    """Return all parts of a person in drawing order, the farthest first.

    Args:
        person: body shape, appearance, view, scale and light.
        figure: the skeleton.
        near: side view: the side (0 left, 1 right) towards the camera.
        arms_over_head: front view: whether arms pass in front of the head.
        held: what the person holds or throws.
        slices: number of slices of the torso, for a bent back.
    """
    front = person.view == "front"
    sides = (1 - near, near)
    dims = [1.0 if front or side == near else 0.8 for side in sides]
    legs, arms = ([limb(person, figure, *each) for each in zip(sides, dims, strict=True)] for limb in (_leg, _arm))
    own = [JOINTS.index("head")]
    for side in sides if front else (near,):
        own += [_joint("shoulder", side), _joint("hip", side)]
    torso = _torso_parts(person, figure, slices, tuple(own))
    if person.appearance.skirt > 0:
        torso[:0] = _skirt_parts(person, figure, tuple(own))
    neck = _neck_part(person, figure)
    head = Part(paint_head(person), figure.head, figure.head_angle, (0,))
    behind: list[Part] = []
    before: list[Part] = []
    if held is not None and held.kind == "club":
        club = paint_club(held.length, held.colour, person.scale)
        behind = [Part(club, held.point, held.angle, shown=~held.front, held=True)]
        before = [Part(club, held.point, held.angle, shown=held.front, held=True)]
    elif held is not None:
        # The fingers close over the ball: it is drawn just before the hand.
        ball = paint_ball(held.length, held.colour, person.scale, person.light_side)
        arms[sides.index(held.side)].insert(0, Part(ball, held.point, held.angle, shown=held.shown, held=True))
    if not front:
        return [*arms[0], *legs[0], *legs[1], neck, *torso, head, *arms[1]]
    body_parts = [*behind, *legs[0], *legs[1], neck, *torso]
    if arms_over_head:
        return [*body_parts, head, *before, *arms[0], *arms[1]]
    return [*body_parts, *before, *arms[0], *arms[1], head]


def _leg(person: Person, figure: Figure, side: int, dim: float) -> list[Part]:
    """Return shoe, shin and thigh of one leg."""
    body, a, g = person.body, person.appearance, person.body.girth
    sign = float(side_signs(person.view)[side])
    upper = min(0.5 * body.seat + 0.004, 0.062 * g) if person.view == "front" else 0.056 * g
    knee, calf, ankle = 0.034 * (0.4 + 0.6 * g), 0.037 * (0.3 + 0.7 * g), body.ankle_radius
    light = (person.scale, person.light_side * sign, dim)
    fabric = a.bottom if a.skirt == 0 else None
    thigh = paint_limb(
        body.thigh, [(0, upper), (0.4, 0.86 * upper), (1, knee)], a.skin, *light, fabric=fabric, cover=a.leg,
        looseness=a.looseness, shift=0.1,
    )  # fmt: skip
    shin = paint_limb(
        body.shin, [(0, knee), (0.3, calf), (0.7, 0.5 * (calf + ankle)), (1, ankle)], a.skin, *light, fabric=fabric,
        cover=a.leg - 1, looseness=a.looseness, shift=0.3,
    )  # fmt: skip
    hip, bend = figure.pose.hip[:, side], figure.pose.knee[:, side]
    own = (_joint("hip", side), _joint("knee", side), _joint("ankle", side))
    return [
        Part(paint_shoe(person, dim), figure.ankle[:, side], figure.pose.foot[:, side], own, sign),
        Part(shin, figure.knee[:, side], hip + bend, own, sign, length=_seen(figure, "shin", side)),
        Part(thigh, figure.hip[:, side], hip, own, sign, length=_seen(figure, "thigh", side)),
    ]


def _arm(person: Person, figure: Figure, side: int, dim: float) -> list[Part]:
    """Return hand, forearm and upper arm of one arm: cuffs cover hands and sleeves cover forearms."""
    body, a, g = person.body, person.appearance, 0.35 + 0.65 * person.body.girth
    sign = float(side_signs(person.view)[side])
    shoulder, elbow, wrist = 0.032 * g, 0.025 * g, 0.017 + 0.002 * g
    light = (person.scale, person.light_side * sign, dim)
    upper = paint_limb(
        body.upper_arm, [(0, shoulder), (0.5, 0.9 * shoulder), (1, elbow)], a.skin, *light,
        fabric=a.top if a.sleeve > 0 else None, cover=a.sleeve, looseness=a.looseness, shift=0.2,
    )  # fmt: skip
    lower = paint_limb(
        body.forearm, [(0, elbow), (0.25, 1.08 * elbow), (1, wrist)], a.skin, *light,
        fabric=a.top if a.sleeve > 1 else None, cover=a.sleeve - 1, looseness=a.looseness, shift=0.4,
    )  # fmt: skip
    raised, bend = figure.pose.shoulder[:, side], figure.pose.elbow[:, side]
    own = (_joint("shoulder", side), _joint("elbow", side), _joint("wrist", side))
    arm = [
        Part(paint_hand(person, dim), figure.wrist[:, side], raised + 0.9 * bend, own, sign),
        Part(lower, figure.elbow[:, side], raised + bend, own, sign, length=_seen(figure, "forearm", side)),
        Part(upper, figure.shoulder[:, side], raised, own, sign, length=_seen(figure, "upper_arm", side)),
    ]
    return arm[::-1] if figure.lengths else arm  # foreshortened arms reach towards the camera


def _neck_part(person: Person, figure: Figure) -> Part:
    body = person.body
    radius = 0.5 * body.head * body.head_width * 0.52
    knots = [(0.0, radius), (0.6, radius), (1.0, radius * 1.3)]
    skin = mix(person.appearance.skin, (0, 0, 0), 0.1)
    sprite = paint_limb(body.neck + 0.4 * body.head, knots, skin, person.scale, person.light_side, 0.95)
    offset = figure.chest - figure.head
    return Part(sprite, figure.head, np.arctan2(offset[:, 0], offset[:, 1]), (0,))


def _torso_parts(person: Person, figure: Figure, count: int, own: tuple[int, ...]) -> list[Part]:
    """Return slices of the torso along the bent spine; they overlap, so that no gaps open on the back."""
    sprite, t, turn = paint_torso(person), person.body.torso, figure.pose.turn
    # The trunk's depth is `body.depth` of its width, which limits how much narrower it gets when it turns.
    width = None if turn is None else np.sqrt(np.cos(turn) ** 2 + (person.body.depth * np.sin(turn)) ** 2)
    parts = []
    for k in reversed(range(count)):  # from the seat up, so that the shirt covers the trousers
        start, end = k / count * t, (k + 1) / count * t
        first = 0 if k == 0 else int((start - 0.035) * sprite.scale + sprite.origin[1])
        last = sprite.image.shape[0] if k == count - 1 else int((end + 0.035) * sprite.scale + sprite.origin[1])
        middle = 0.5 * (start + end)
        origin = (sprite.origin[0], sprite.origin[1] - first + middle * sprite.scale)
        point, angle = spine_point(person.body, figure.pelvis, figure.pose, 1 - middle / t)
        slice_ = Sprite(sprite.image[first:last], origin, sprite.scale)
        parts.append(Part(slice_, point, angle, own, width=width, length=figure.pose.trunk))
    return parts


def _skirt_parts(person: Person, figure: Figure, own: tuple[int, ...]) -> list[Part]:
    """Return the skirt twice, sheared along each thigh, so that it widens when the knees part."""
    body, sprite = person.body, paint_skirt(person)
    point, angle = spine_point(body, figure.pelvis, figure.pose, 0.3)
    limit = 0.9 * body.seat / (0.3 * body.torso + person.appearance.skirt)
    parts = []
    for side, sign in enumerate(side_signs(person.view)):
        slope = 0.8 * sign * np.tan(np.clip(figure.pose.hip[:, side], -1.5, 1.5))
        length = _seen(figure, "thigh", side)
        parts.append(Part(sprite, point, 0.4 * angle, own, shear=np.clip(slope, -limit, limit), length=length))
    return parts
