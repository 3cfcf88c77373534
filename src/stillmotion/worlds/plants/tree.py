"""The kinematics of a plant: rigid segments, each hinged on its parent.

Lengths are in picture heights, x to the right and y down. A direction is (cos, sin) of an angle, so an upright stem
has the angle -pi / 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Tree:
    """N segments, parents before their children."""

    parent: np.ndarray  # N, index of the parent segment; -1 for roots
    base: np.ndarray  # N x 2, where the segment's root is in the soil
    attach: np.ndarray  # N, place of the hinge along the parent, as a share of the parent's length
    angle: np.ndarray  # N, direction at rest relative to the parent's; to the x axis for roots
    length: np.ndarray  # N
    start: np.ndarray  # N, half the width at the hinge
    end: np.ndarray  # N, half the width at the far end; for leaves and flowers half of the greatest width
    style: np.ndarray  # N, index into the plant's styles
    span: np.ndarray  # N x 2, the part (0 to 1) of its style's length that the segment shows
    light: np.ndarray  # N, a factor on its colour
    layer: np.ndarray  # N, the higher, the nearer to the camera
    mass: np.ndarray  # N, in arbitrary units
    leaf: np.ndarray  # N, true where the hinge is a leaf's or a flower's own
    grip: np.ndarray  # N, place of the segment's node, as a share of its length

    def __len__(self) -> int:
        return len(self.parent)


def ancestors(tree: Tree) -> np.ndarray:
    """Return N x N, true at [i, j] where i is j or between j and the soil."""
    above = np.zeros((len(tree), len(tree)), bool)
    for j, parent in enumerate(tree.parent):
        if parent >= 0:
            above[:, j] = above[:, parent]
        above[j, j] = True
    return above


def _lever_arms(tree: Tree) -> np.ndarray:
    """Return N x N: the distance along segment i on the way from the soil to the hinge of j."""
    arms = np.zeros((len(tree), len(tree)))
    for j, parent in enumerate(tree.parent):
        if parent >= 0:
            arms[:, j] = arms[:, parent]
            arms[parent, j] = tree.attach[j] * tree.length[parent]
    return arms


def forward_kinematics(tree: Tree, deflections: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of all segments: hinges (T x N x 2, picture heights) and directions (T x N, radians).

    Deflections (T x N) are the radians by which every joint is turned from rest.
    """
    # einsum and not a matrix product: BLAS may sum in an order that depends on the number of threads.
    directions = np.einsum("ti,ij->tj", deflections + tree.angle, ancestors(tree).astype(float))
    arms = _lever_arms(tree)
    x, y = (np.einsum("ti,ij->tj", part, arms) for part in (np.cos(directions), np.sin(directions)))
    return tree.base + np.stack([x, y], -1), directions


def node_positions(tree: Tree, hinges: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Return T x N x 2, the segments' nodes: the points that pokes move."""
    reach = (tree.grip * tree.length)[..., None]
    return hinges + reach * np.stack([np.cos(directions), np.sin(directions)], -1)


@dataclass(frozen=True)
class KinematicChain:
    """The chain of joints from the soil to one node."""

    joints: np.ndarray  # K, the joints that move the node, from the soil on
    base: np.ndarray  # 2, where the chain begins
    reach: np.ndarray  # K, the distance that it follows each segment
    rest: np.ndarray  # K, directions at rest

    def node(self, deflections: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the node's position (2) and its Jacobian (2 x K) for the deflections (K) of the chain's joints."""
        angles = self.rest + deflections.cumsum()
        # A joint rotates all that is beyond it: the vector from the joint to the node, by a right angle.
        beyond_x = (np.cos(angles) * self.reach)[::-1].cumsum()[::-1]
        beyond_y = (np.sin(angles) * self.reach)[::-1].cumsum()[::-1]
        jacobian = np.empty((2, len(angles)))
        jacobian[0], jacobian[1] = -beyond_y, beyond_x
        return self.base + np.array([beyond_x[0], beyond_y[0]]), jacobian


def chain_to(tree: Tree, node: int) -> KinematicChain:
    """Return the chain from the soil to a node."""
    joints = [node]
    while tree.parent[joints[0]] >= 0:
        joints.insert(0, int(tree.parent[joints[0]]))
    reach = [tree.attach[child] * tree.length[joint] for joint, child in pairwise(joints)]
    reach.append(tree.grip[node] * tree.length[node])
    return KinematicChain(np.array(joints), tree.base[node], np.array(reach), np.cumsum(tree.angle[joints]))
