"""The skeleton of a plant: rigid segments, each hinged on its parent, and where they are for given joint angles.

Lengths are in picture heights, x to the right and y down. A direction is (cos, sin) of an angle, so a stem that
stands upright has the angle -pi / 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Tree:
    """N segments, parents before their children.

    Attributes:
        parent: N, index of the segment it hangs on; -1 for those that grow out of the soil.
        base: N x 2, where its root segment leaves the soil.
        attach: N, where the hinge is along the parent, as a share of the parent's length.
        angle: N, direction at rest relative to the parent's; to the x axis for roots.
        length: N.
        start: N, half the width at the hinge.
        end: N, half the width at the far end; for leaves and flowers half of the greatest width.
        kind: N, what it looks like, an index into the plant's looks.
        span: N x 2, which stretch (0 to 1) of its look's length it shows.
        light: N x 3, a factor on its colour.
        layer: N, the higher, the nearer to the camera.
        mass: N, in arbitrary units.
        leaf: N, true where the hinge is a leaf's or a flower's own.
        grip: N, where it is grabbed, as a share of its length.
    """

    parent: np.ndarray
    base: np.ndarray
    attach: np.ndarray
    angle: np.ndarray
    length: np.ndarray
    start: np.ndarray
    end: np.ndarray
    kind: np.ndarray
    span: np.ndarray
    light: np.ndarray
    layer: np.ndarray
    mass: np.ndarray
    leaf: np.ndarray
    grip: np.ndarray

    def __len__(self) -> int:
        return len(self.parent)


def ancestors(tree: Tree) -> np.ndarray:
    """Return N x N, true at [i, j] where i is j or lies between j and the soil."""
    above = np.zeros((len(tree), len(tree)), bool)
    for j, parent in enumerate(tree.parent):
        if parent >= 0:
            above[:, j] = above[:, parent]
        above[j, j] = True
    return above


def levers(tree: Tree) -> np.ndarray:
    """Return N x N: how far one walks along segment i on the way from the soil to the hinge of j."""
    lever = np.zeros((len(tree), len(tree)))
    for j, parent in enumerate(tree.parent):
        if parent >= 0:
            lever[:, j] = lever[:, parent]
            lever[parent, j] = tree.attach[j] * tree.length[parent]
    return lever


def place(tree: Tree, bends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where all segments are.

    Args:
        tree: the plant.
        bends: T x N, radians by which every joint is turned from its rest.

    Returns:
        Hinges (T x N x 2, picture heights) and directions (T x N, radians).
    """
    # einsum and not a matrix product: BLAS may sum in an order that depends on the number of threads.
    directions = np.einsum("ti,ij->tj", bends + tree.angle, ancestors(tree).astype(float))
    lever = levers(tree)
    x = np.einsum("ti,ij->tj", np.cos(directions), lever)
    y = np.einsum("ti,ij->tj", np.sin(directions), lever)
    return tree.base + np.stack([x, y], -1), directions


def grips(tree: Tree, hinges: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Return T x N x 2, the points where the segments are grabbed ("nodes")."""
    reach = (tree.grip * tree.length)[..., None]
    return hinges + reach * np.stack([np.cos(directions), np.sin(directions)], -1)


@dataclass(frozen=True)
class Way:
    """The way from the soil to one node: all that moves it.

    Attributes:
        joints: the K joints that move the node, from the soil on.
        base: 2, where the way begins.
        reach: K, how far it follows each segment.
        rest: K, directions at rest.
    """

    joints: np.ndarray
    base: np.ndarray
    reach: np.ndarray
    rest: np.ndarray

    def point(self, bends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the node's place (2) and its Jacobian (2 x K) for the bends (K) of the joints on the way."""
        angles = self.rest + bends.cumsum()
        # Turning a joint turns all that lies beyond it: the vector from the joint to the node, by a right angle.
        beyond_x = (np.cos(angles) * self.reach)[::-1].cumsum()[::-1]
        beyond_y = (np.sin(angles) * self.reach)[::-1].cumsum()[::-1]
        jacobian = np.empty((2, len(angles)))
        jacobian[0], jacobian[1] = -beyond_y, beyond_x
        return self.base + np.array([beyond_x[0], beyond_y[0]]), jacobian


def way_to(tree: Tree, node: int) -> Way:
    """Return the way from the soil to a node."""
    joints = [node]
    while tree.parent[joints[0]] >= 0:
        joints.insert(0, int(tree.parent[joints[0]]))
    reach = [tree.attach[child] * tree.length[joint] for joint, child in pairwise(joints)]
    reach.append(tree.grip[node] * tree.length[node])
    return Way(np.array(joints), tree.base[node], np.array(reach), np.cumsum(tree.angle[joints]))
