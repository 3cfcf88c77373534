"""Growing: rows of segments, chains of them, leaves; and from rows to a `Tree`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stillmotion.worlds.plants.looks import Look
from stillmotion.worlds.plants.physics import Springs
from stillmotion.worlds.plants.tree import Tree, place

UP = -0.5 * np.pi
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Grown:
    """A plant as it grew: rows for `to_tree` (any unit, soil at (0, 0), y down), looks and springs."""

    species: str
    rows: Rows
    looks: tuple[Look, ...]
    springs: Springs


def segment(
    rows: Rows, parent: int, angle: float, length: float, start: float, end: float, kind: int, *,
    attach: float = 1.0, span: tuple[float, float] = (0.0, 1.0), light: float = 1.0, layer: float = 0.0,
    weight: float = 1.0, leaf: bool = False, grip: float = 0.5, base: float = 0.0,
) -> int:  # fmt: skip
    """Add a segment and return its index; `base` is where a root stands (x), other names as in `Tree`."""
    rows.append(
        {
            "parent": parent, "base": (base, 0.0), "attach": attach, "angle": angle, "length": length,
            "start": start, "end": end, "kind": kind, "span": span, "light": light, "layer": layer,
            "mass": weight * length * max(start, end), "leaf": leaf, "grip": grip,
        }
    )  # fmt: skip
    return len(rows) - 1


def chain(
    rows: Rows, parent: int, angle: float, lengths: np.ndarray, widths: np.ndarray, bends: np.ndarray, kind: int, *,
    attach: float = 1.0, light: float = 1.0, layer: float = 0.0, weight: float = 1.0, base: float = 0.0,
) -> list[int]:  # fmt: skip
    """Add a chain of K segments that starts at `angle` and turns by `bends` (K); `widths` (K + 1) are half widths."""
    made: list[int] = []
    ends = np.concatenate([[0.0], np.cumsum(lengths)]) / float(np.sum(lengths))
    for k, length in enumerate(lengths):
        made.append(
            segment(
                rows, made[-1] if made else parent, float(bends[k] + (angle if k == 0 else 0.0)), float(length),
                float(widths[k]), float(widths[k + 1]), kind, attach=attach if k == 0 else 1.0,
                span=(float(ends[k]), float(ends[k + 1])), light=light, layer=layer + 1e-4 * k, weight=weight,
                base=base,
            )
        )  # fmt: skip
    return made


def leaf(
    rows: Rows, rng: np.random.Generator, parent: int, angle: float, length: float, width: float, kind: int, *,
    attach: float = 1.0, layer: float | None = None,
) -> int:  # fmt: skip
    """Add a leaf of a little varied size, turn and shade; it may turn its face away, which narrows it."""
    near = rng.uniform(-1, 1) if layer is None else layer
    size, facing = rng.uniform(0.8, 1.15), rng.uniform(0.55, 1.0)
    return segment(
        rows, parent, angle + rng.normal(0, 0.15), length * size, 0.05 * width * length, width * size * length
        * facing, kind, attach=attach, light=rng.uniform(0.88, 1.08) * (1 + 0.1 * near), layer=near,
        weight=0.25, leaf=True, grip=0.6,
    )  # fmt: skip


def heading(rows: Rows, index: int) -> float:
    """Return a segment's direction at rest (radians)."""
    total = 0.0
    while index >= 0:
        total += rows[index]["angle"]
        index = rows[index]["parent"]
    return total


def to_tree(rows: Rows, scale: float, foot: tuple[float, float]) -> Tree:
    """Return the plant, `scale` times as large, standing at `foot` (x, y)."""
    column = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    light = np.repeat(column["light"][:, None], 3, axis=1)
    return Tree(
        parent=column["parent"], base=column["base"] * scale + np.array(foot), attach=column["attach"],
        angle=column["angle"], length=column["length"] * scale, start=column["start"] * scale,
        end=column["end"] * scale, kind=column["kind"], span=column["span"], light=light, layer=column["layer"],
        mass=column["mass"] * scale**2, leaf=column["leaf"], grip=column["grip"],
    )  # fmt: skip


def bounds(rows: Rows) -> tuple[float, float, float, float]:
    """Return x0, y0, x1, y1 of hinges and far ends at rest."""
    tree = to_tree(rows, 1.0, (0.0, 0.0))
    hinges, directions = (values[0] for values in place(tree, np.zeros((1, len(tree)))))
    ends = hinges + (tree.length + tree.end * (tree.grip == 1))[:, None] * np.stack(
        [np.cos(directions), np.sin(directions)], -1
    )
    points = np.concatenate([hinges, ends])
    return float(points[:, 0].min()), float(points[:, 1].min()), float(points[:, 0].max()), float(points[:, 1].max())
