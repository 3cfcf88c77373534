"""Growth: a builder that collects segments, chains of them and leaves into a `Tree`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

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
        made: list[int] = []
        lengths = np.full(len(turns), length)
        ends = np.concatenate([[0.0], np.cumsum(lengths)]) / float(np.sum(lengths))
        for k, turn in enumerate(turns.tolist()):
            first = k == 0
            made.append(
                self.segment(
                    parent if first else made[-1], turn + (angle if first else 0.0), length, float(widths[k]),
                    float(widths[k + 1]), style, attach=attach if first else 1.0,
                    span=(float(ends[k]), float(ends[k + 1])), light=light, layer=layer + 1e-4 * k, weight=weight,
                    base=base,
                )
            )  # fmt: skip
        return made

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
