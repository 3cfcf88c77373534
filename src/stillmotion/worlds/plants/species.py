"""Species: one function per species from random numbers to a `GrownPlant` about 1 unit tall, and their builder."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from stillmotion.worlds.colours import Colour, mix, sample_hsv
from stillmotion.worlds.plants.physics import SpringParameters
from stillmotion.worlds.plants.styles import Style
from stillmotion.worlds.plants.tree import Tree, forward_kinematics

UP = -0.5 * np.pi


class TreeBuilder:
    """Collects the segments of a plant in any unit of length; the soil is at (0, 0), y points down."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def segment(
        self, parent: int, angle: float, length: float, start: float, end: float, style: int, *,
        attach: float = 1.0, span: tuple[float, float] = (0.0, 1.0), light: float = 1.0, layer: float = 0.0,
        weight: float = 1.0, leaf: bool = False, grip: float = 0.5, base: float = 0.0,
    ) -> int:  # fmt: skip
        """Add a segment and return its index; `base` is the x of a root, other names as in `Tree`."""
        self.rows.append(
            {
                "parent": parent, "base": (base, 0.0), "attach": attach, "angle": angle, "length": length,
                "start": start, "end": end, "style": style, "span": span, "light": light, "layer": layer,
                "mass": weight * length * max(start, end), "leaf": leaf, "grip": grip,
            }
        )  # fmt: skip
        return len(self.rows) - 1

    def chain(
        self, parent: int, angle: float, length: float, widths: np.ndarray, turns: np.ndarray, style: int, *,
        attach: float = 1.0, light: float = 1.0, layer: float = 0.0, weight: float = 1.0, base: float = 0.0,
    ) -> list[int]:  # fmt: skip
        """Add a chain of K segments, each of `length`, and return their indices.

        The chain starts at `angle` and turns by `turns` (K); `widths` (K + 1) are half widths.
        """
        indices: list[int] = []
        lengths = np.full(len(turns), length)
        ends = np.concatenate([[0.0], np.cumsum(lengths)]) / float(np.sum(lengths))
        for k, turn in enumerate(turns.tolist()):
            first = k == 0
            indices.append(
                self.segment(
                    parent if first else indices[-1], turn + (angle if first else 0.0), length, float(widths[k]),
                    float(widths[k + 1]), style, attach=attach if first else 1.0,
                    span=(float(ends[k]), float(ends[k + 1])), light=light, layer=layer + 1e-4 * k, weight=weight,
                    base=base,
                )
            )  # fmt: skip
        return indices

    def leaf(
        self, rng: np.random.Generator, parent: int, angle: float, length: float, width: float, style: int, *,
        attach: float = 1.0, layer: float | None = None,
    ) -> None:  # fmt: skip
        """Add a leaf of random size, direction and shade; a leaf seen obliquely is narrower."""
        near = rng.uniform(-1, 1) if layer is None else layer
        size, facing = rng.uniform(0.8, 1.15), rng.uniform(0.55, 1.0)
        self.segment(
            parent, angle + rng.normal(0, 0.15), length * size, 0.05 * width * length, width * size * length * facing,
            style, attach=attach, light=rng.uniform(0.88, 1.08) * (1 + 0.1 * near), layer=near, weight=0.25,
            leaf=True, grip=0.6,
        )  # fmt: skip

    def direction(self, index: int) -> float:
        """Return a segment's direction at rest (radians)."""
        total = 0.0
        while index >= 0:
            total += self.rows[index]["angle"]
            index = self.rows[index]["parent"]
        return total

    def build(self, scale: float, foot: tuple[float, float]) -> Tree:
        """Return the plant, `scale` times as large, with its soil at `foot` (x, y)."""
        columns = {name: np.array([row[name] for row in self.rows]) for name in self.rows[0]}
        for name in ("length", "start", "end"):
            columns[name] = columns[name] * scale
        columns["base"] = columns["base"] * scale + np.array(foot)
        columns["mass"] = columns["mass"] * scale**2
        return Tree(**columns)

    def bounds(self) -> tuple[float, float, float, float]:
        """Return x0, y0, x1, y1 of hinges and far ends at rest."""
        tree = self.build(1.0, (0.0, 0.0))
        hinges, directions = (values[0] for values in forward_kinematics(tree, np.zeros((1, len(tree)))))
        reach = (tree.length + tree.end * (tree.grip == 1))[:, None]
        points = np.concatenate([hinges, hinges + reach * np.stack([np.cos(directions), np.sin(directions)], -1)])
        (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
        return x0, y0, x1, y1


@dataclass(frozen=True)
class GrownPlant:
    """A plant before it is placed in a picture."""

    species: str
    tree: TreeBuilder
    styles: tuple[Style, ...]
    springs: SpringParameters


def _sample_green(rng: np.random.Generator) -> Colour:
    """Draw a leaf's green: mostly fresh, some bluish, yellowish, dark, or reddish purple."""
    hues = [rng.uniform(0.2, 0.28), rng.uniform(0.27, 0.36), rng.uniform(0.36, 0.42)]
    hue = float(rng.choice(hues, p=[0.4, 0.45, 0.15]))
    saturation, value = rng.uniform(0.4, 0.85), rng.uniform(0.3, 0.68)
    if rng.random() < 0.06:
        return sample_hsv(rng, (0.86, 0.97), (0.35, 0.6), (0.3, 0.5))
    return colorsys.hsv_to_rgb(hue, saturation, value)


def _sample_bark(rng: np.random.Generator) -> Colour:
    return sample_hsv(rng, (0.05, 0.11), (0.2, 0.55), (0.3, 0.6))


def _style(rng: np.random.Generator, kind: str, first: Colour, second: Colour, **more: object) -> Style:
    given = {"third": (0.93, 0.92, 0.72), "waist": 0.7, "tip": 1.0, "petiole": 0.0, "veins": 6, "pattern": 0.0} | more
    return Style(kind, first, second, seed=int(rng.integers(2**31)), **given)  # type: ignore[arg-type]


def _leaf_styles(rng: np.random.Generator, **shape: object) -> tuple[Style, Style]:
    """Draw two leaves of one plant: an older and a younger one, both variegated or neither."""
    green = _sample_green(rng)
    veins = mix(green, (0.85, 0.95, 0.6), rng.uniform(0.15, 0.5))
    pattern = rng.uniform(0.15, 0.4) if rng.random() < 0.22 else 0.0
    young = mix(green, (0.75, 0.85, 0.3), rng.uniform(0.1, 0.35))
    older = _style(rng, "leaf", green, veins, pattern=pattern, **shape)
    return older, _style(rng, "leaf", young, mix(veins, young, 0.3), pattern=pattern, **shape)


def _sample_springs(
    rng: np.random.Generator, frequency: tuple[float, float], leaf_frequency: tuple[float, float]
) -> SpringParameters:
    return SpringParameters(
        frequency=rng.uniform(*frequency),
        leaf_frequency=rng.uniform(*leaf_frequency),
        air_damping=rng.uniform(0.03, 0.09),
        joint_damping=rng.uniform(0.05, 0.11),
        stiffness_exponent=rng.uniform(0.42, 0.55),
    )


def _taper(first: float, last: float, count: int) -> np.ndarray:
    return np.linspace(first, last, count + 1)


def _spread(k: int, count: int, noise: float) -> float:
    """Return the horizontal place of stalk k of `count`: from -1 (left) to 1, with noise."""
    return (k + 0.5) / count * 2 - 1 + noise


def _add_crown(tree: TreeBuilder) -> int:
    """Add the short stump that all stalks of a tuft grow from: a pull at one of them tilts the others a little."""
    return tree.segment(-1, UP, 0.05, 0.02, 0.012, 0, layer=-2.0, weight=3.0)


def grow_ficus(rng: np.random.Generator) -> GrownPlant:
    """A small tree: one or two woody stems, branches left and right, pointed or oval leaves along them."""
    bark = _sample_bark(rng)
    older, younger = _leaf_styles(
        rng, waist=rng.uniform(0.5, 0.9), tip=rng.uniform(0.7, 1.3), petiole=0.14, veins=int(rng.integers(5, 9))
    )
    styles = (_style(rng, "stem", bark, mix(bark, (0.1, 0.08, 0.05), 0.5), pattern=0.3), older, younger)
    tree = TreeBuilder()
    size, width = rng.uniform(0.17, 0.24), rng.uniform(0.2, 0.36)
    stems = 1 if rng.random() < 0.7 else 2
    for stem in range(stems):
        lean = rng.normal(0, 0.07) + (0.0 if stems == 1 else 0.2 * (2 * stem - 1))
        base = 0.04 * (stem - 0.5 * (stems - 1))
        trunk = tree.chain(
            -1, UP + lean, 0.115, _taper(0.02, 0.009, 6), rng.normal(0, 0.1, 6), 0, base=base, weight=2.0
        )
        side = float(rng.choice([-1, 1]))
        for k in range(1 + (stem % 2), 6):
            side = -side
            count = 3 if k < 5 else 2
            branch = tree.chain(
                trunk[k], side * rng.uniform(0.5, 1.0), rng.uniform(0.075, 0.115), _taper(0.009, 0.005, count),
                -side * rng.uniform(0.0, 0.25, count), 0, attach=rng.uniform(0.4, 1), weight=1.5, layer=-0.1,
            )  # fmt: skip
            for n, twig in enumerate(branch):
                turn = float(rng.choice([-1, 1])) * rng.uniform(0.5, 1.1)
                tree.leaf(rng, twig, turn, size, width, 1)
                if n == count - 1:
                    tree.leaf(rng, twig, -turn, size, width, 1 + int(rng.random() < 0.5))
                    tree.leaf(rng, twig, 0.0, size, width, 2)
        for turn in (0.5, -0.5):
            tree.leaf(rng, trunk[-1], turn, 0.9 * size, width, 2)
    return GrownPlant("ficus", tree, styles, _sample_springs(rng, (1.3, 2.4), (3.0, 6.0)))


def grow_grass(rng: np.random.Generator) -> GrownPlant:
    """A tuft of blades that lean outwards and bow; broad and striped (spider plant) or thin (sedge)."""
    green = _sample_green(rng)
    broad = bool(rng.random() < 0.5)
    striped = rng.uniform(0.3, 0.6) if broad and rng.random() < 0.6 else 0.0
    blade = _style(rng, "blade", green, mix(green, (0.8, 0.9, 0.5), 0.4), pattern=striped)
    tree = TreeBuilder()
    count = int(rng.integers(9, 13)) if broad else int(rng.integers(14, 19))
    half = rng.uniform(0.022, 0.034) if broad else rng.uniform(0.012, 0.018)
    bow = rng.uniform(0.6, 2.2) if broad else rng.uniform(0.2, 1.2)
    crown = _add_crown(tree)
    for k in rng.permutation(count):
        spread = _spread(k, count, rng.normal(0, 0.06))
        length, joints = rng.uniform(0.75, 1.1), 6 if broad else 5
        turns = np.linspace(0.4, 1.6, joints) * bow * spread / joints + rng.normal(0, 0.03, joints)
        near = rng.uniform(-1, 1)
        widths = half * np.array([0.6, 0.9, 1.0, 0.95, 0.8, 0.55, 0.12])[-(joints + 1) :]
        tree.chain(
            crown, 0.62 * spread, length / joints, widths, turns, 0, attach=rng.random(), layer=near,
            light=rng.uniform(0.9, 1.08) * (1 + 0.14 * near),
        )  # fmt: skip
    return GrownPlant("grass", tree, (blade,), _sample_springs(rng, (1.2, 2.6), (3, 5)))


def grow_fern(rng: np.random.Generator) -> GrownPlant:
    """Fronds that arch out of one place, with leaflets that shorten towards the tip."""
    green = _sample_green(rng)
    frond = _style(rng, "frond", green, mix(green, (0.35, 0.25, 0.1), 0.6), veins=3)
    tree = TreeBuilder()
    count, half, joints = int(rng.integers(8, 12)), rng.uniform(0.08, 0.13), 7
    bow = rng.uniform(1.0, 2.0)
    crown = _add_crown(tree)
    for k in rng.permutation(count):
        spread = _spread(k, count, rng.normal(0, 0.06))
        length = rng.uniform(0.75, 1.0)
        turns = np.linspace(0.3, 1.7, joints) * bow * spread / joints + rng.normal(0, 0.03, joints)
        near = rng.uniform(-1, 1)
        widths = half * rng.uniform(0.7, 1.1) * np.array([0.3, 0.85, 1.0, 0.95, 0.8, 0.6, 0.35, 0.08])
        tree.chain(
            crown, 0.75 * spread, length / joints, widths, turns, 0, weight=0.5, attach=rng.random(), layer=near,
            light=rng.uniform(0.9, 1.05) * (1 + 0.18 * near),
        )  # fmt: skip
    return GrownPlant("fern", tree, (frond,), _sample_springs(rng, (1.0, 2.0), (3, 5)))


def grow_flowers(rng: np.random.Generator) -> GrownPlant:
    """Thin stems with a few leaves and a flower each: daisies, or cups seen from the side (tulips)."""
    green = _sample_green(rng)
    hue = float(np.mod(rng.uniform(0.48, 1.18), 1.0))  # any but green
    petal = colorsys.hsv_to_rgb(hue, rng.uniform(0.0, 0.9), rng.uniform(0.8, 1.0))
    stalk = mix(green, (0.45, 0.6, 0.3), 0.4)
    daisy = bool(rng.random() < 0.7)
    older, younger = _leaf_styles(rng, waist=0.7, tip=rng.uniform(0.9, 1.5), petiole=0.06, veins=5)
    tips = mix(petal, (1, 1, 1) if rng.random() < 0.5 else (0.5, 0.1, 0.2), rng.uniform(0.1, 0.5))
    middle = (0.9, 0.7, 0.12) if rng.random() < 0.6 else (0.32, 0.2, 0.1)
    if daisy:
        petals, centre = int(rng.integers(5, 14)), rng.uniform(0.22, 0.45)
        head = _style(rng, "flower", petal, tips, third=middle, veins=petals, pattern=centre)
    else:
        head = _style(rng, "leaf", petal, tips, waist=0.45, tip=0.4, petiole=0.02, veins=3)
    styles = (_style(rng, "stem", stalk, mix(stalk, (0.1, 0.15, 0.05), 0.3)), older, younger, head)
    tree = TreeBuilder()
    count, radius, joints = int(rng.integers(3, 7)), rng.uniform(0.085, 0.13), 6
    crown = _add_crown(tree)
    for k in rng.permutation(count):
        spread = _spread(k, count, 0.0)
        length = rng.uniform(0.62, 0.95)
        turns = spread * rng.uniform(-0.02, 0.12, joints) + rng.normal(0, 0.04, joints)
        near = rng.uniform(-0.3, 0.3)
        stem = tree.chain(
            crown, 0.4 * spread, length / joints, _taper(0.01, 0.0065, joints), turns, 0, attach=rng.random(),
            layer=near - 0.5,
        )  # fmt: skip
        for n in (1, 2, 3):
            side = -1 if (n + int(k)) % 2 else 1
            tree.leaf(rng, stem[n], side * rng.uniform(0.5, 0.9), 0.22, 0.2, 1 + n % 2, layer=near - 0.4)
        shade, turn = rng.uniform(0.95, 1.05), rng.normal(0, 0.2)
        if daisy:
            tree.segment(
                stem[-1], turn, 0.04, 0.006, radius * rng.uniform(0.85, 1.1), 3, layer=near + 0.6, weight=4.0,
                leaf=True, grip=1.0, light=shade,
            )  # fmt: skip
        else:
            tree.segment(
                stem[-1], turn, 2.2 * radius, 0.006, 0.75 * radius, 3, layer=near + 0.6, leaf=True, light=shade
            )
    for k in range(6):
        side = 1 if k % 2 else -1
        angle = side * rng.uniform(0.3, 1.0)
        low = tree.chain(crown, angle, 0.04, _taper(0.006, 0.005, 2), np.zeros(2), 0, layer=-0.6)
        tree.leaf(rng, low[-1], 0.25 * side, 0.3, 0.2, 1, layer=rng.uniform(-0.6, 0.9))
    return GrownPlant("flowers", tree, styles, _sample_springs(rng, (1.3, 2.6), (3.5, 7.0)))


def grow_dracaena(rng: np.random.Generator) -> GrownPlant:
    """A bare ringed trunk, sometimes forked, with a crown of long strap leaves."""
    bark = mix(_sample_bark(rng), (0.6, 0.55, 0.45), 0.3)
    green = _sample_green(rng)
    striped = rng.uniform(0.2, 0.5) if rng.random() < 0.5 else 0.0
    edge = (0.9, 0.88, 0.6) if rng.random() < 0.6 else (0.6, 0.15, 0.2)
    strap = _style(rng, "blade", green, mix(green, (0.8, 0.9, 0.5), 0.35), third=edge, pattern=striped)
    styles = (_style(rng, "stem", bark, mix(bark, (0.1, 0.08, 0.05), 0.4), pattern=1.0), strap)
    tree = TreeBuilder()
    heads = 1 if rng.random() < 0.6 else 2
    half, bow = rng.uniform(0.016, 0.03), rng.uniform(0.5, 1.7)
    trunk = tree.chain(
        -1, UP + rng.normal(0, 0.06), rng.uniform(0.08, 0.15) / heads, _taper(0.026, 0.02, 4), rng.normal(0, 0.08, 4),
        0, weight=2.0, layer=-0.3,
    )  # fmt: skip
    for crown in range(heads):
        side = 0.0 if heads == 1 else 2.0 * crown - 1
        top = trunk
        if heads == 2:
            count = 3 + crown
            widths, turns = _taper(0.018, 0.013, count), np.full(count, -0.12 * side)
            top = tree.chain(trunk[-1], 0.5 * side, 0.08, widths, turns, 0, weight=2.0, layer=-0.3)
        straps = int(rng.integers(12, 17)) // (1 if heads == 1 else 2) + 2
        back = tree.direction(top[-1]) - UP
        for k in rng.permutation(straps):
            spread = _spread(k, straps, rng.normal(0, 0.05))
            turns = np.linspace(0.4, 1.6, 4) * bow * spread / 4 + rng.normal(0, 0.04, 4)
            near = rng.uniform(-0.9, 1)
            length = rng.uniform(0.4, 0.55) / (1 if heads == 1 else 1.25)
            tree.chain(
                top[-1], 1.25 * spread - back, length / 4, half * np.array([0.6, 1.0, 0.95, 0.7, 0.1]), turns, 1,
                attach=rng.uniform(0.5, 1.0), layer=near, weight=0.6,
                light=rng.uniform(0.9, 1.06) * (1 + 0.16 * near),
            )  # fmt: skip
    return GrownPlant("dracaena", tree, styles, _sample_springs(rng, (1.1, 2.0), (3, 5)))


def grow_heartleaf(rng: np.random.Generator) -> GrownPlant:
    """Broad leaves, heart-shaped or round, each on its own long stalk out of the soil."""
    green = _sample_green(rng)
    hearts = bool(rng.random() < 0.65)
    waist, tip = (0.3, rng.uniform(0.75, 1.0)) if hearts else (0.5, 0.5)
    older, younger = _leaf_styles(rng, waist=waist, tip=tip, petiole=0.08, veins=int(rng.integers(4, 7)))
    stalk = mix(green, (0.5, 0.65, 0.3) if rng.random() < 0.7 else (0.5, 0.15, 0.15), 0.5)
    styles = (_style(rng, "stem", stalk, mix(stalk, (0.1, 0.1, 0.05), 0.3)), older, younger)
    tree = TreeBuilder()
    count, size, joints = int(rng.integers(8, 14)), rng.uniform(0.26, 0.36), 5
    crown = _add_crown(tree)
    for n, k in enumerate(rng.permutation(count)):
        spread = _spread(k, count, rng.normal(0, 0.08))
        length = rng.uniform(0.4, 0.75) * (1 - 0.25 * spread**2)
        turns = spread * rng.uniform(0.0, 0.22, joints) + rng.normal(0, 0.03, joints)
        near = rng.uniform(-1, 1)
        stem = tree.chain(
            crown, 0.7 * spread, length / joints, _taper(0.011, 0.007, joints), turns, 0, attach=rng.random(),
            layer=near - 1e-2, light=1 + 0.1 * near,
        )  # fmt: skip
        angle, width = (1.0 if spread > 0 else -1.0) * rng.uniform(0.1, 0.9), 0.42 if hearts else 0.45
        tree.leaf(rng, stem[-1], angle, size, width, 2 if n % 4 == 0 else 1, layer=near)
    return GrownPlant("heartleaf", tree, styles, _sample_springs(rng, (1.1, 2.2), (2.5, 4.5)))


SPECIES: dict[str, Callable[[np.random.Generator], GrownPlant]] = {
    "ficus": grow_ficus, "grass": grow_grass, "fern": grow_fern, "flowers": grow_flowers,
    "dracaena": grow_dracaena, "heartleaf": grow_heartleaf,
}  # fmt: skip
