"""Rendering: from a description to frames and tracks, at any size.

Every frame begins as a map of the front-most segment at each of 3 x 3 points per pixel. Each point looks up its
colour in its segment's own texture. So textures stick to what they cover, and the flow of a pixel is exactly the
rigid motion of the segment seen at its centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stillmotion.worlds.flow import flow_tracks
from stillmotion.worlds.plants.looks import paint_tiles
from stillmotion.worlds.plants.painting import POINTS, Cutout, colour, cut_out, lookups, moves, rigid, stamp
from stillmotion.worlds.plants.physics import Motion, dynamics, node_paths
from stillmotion.worlds.plants.plant import FPS, Plant, counterfactual, move
from stillmotion.worlds.plants.scene import paint_scene
from stillmotion.worlds.plants.tree import place

_SMALLEST_TILE = 40


@dataclass(frozen=True)
class Paints:
    """What all frames of a plant at one size share.

    Attributes:
        cut: outlines of the segments.
        tile: side of a look's picture, in points.
        tiles: the looks' pictures side by side.
        light: (N + 1) x 3, a factor on the segments' colours.
        still: side x side x 3, all that does not move.
    """

    cut: Cutout
    tile: int
    tiles: np.ndarray
    light: np.ndarray
    still: np.ndarray


def prepare(plant: Plant, size: int) -> Paints:
    """Paint what all frames share."""
    side = size * POINTS
    tile = max(_SMALLEST_TILE, side // 4)
    light = np.concatenate([np.ones((1, 3)), plant.tree.light]).astype(np.float32)
    still = cv2.resize(paint_scene(plant.scene, 2 * size), (side, side), interpolation=cv2.INTER_LINEAR)
    return Paints(cut_out(plant.tree, plant.looks), tile, paint_tiles(plant.looks, tile), light, still)


def render(plant: Plant, size: int, frames: int, fps: float = FPS) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Paint the plant's answer to its poke.

    Args:
        plant: what to paint.
        size: height and width in pixels.
        frames: T; the first frames of a longer clip are those of a shorter one.
        fps: frames per second; changes when frames are taken, not how the plant moves.

    Returns:
        Frames (uint8, T x H x W x 3) and tracks: `flow_forward`, `flow_backward`, `mask`, `path`, `parts` and `moves`
        (see docs/worlds.md).

    Raises:
        StillmotionError: the plant has no such node, or the node cannot be brought where the poke wants it.
    """
    return _with_tracks(plant, prepare(plant, size), move(plant, frames, fps), size)


def render_pair(plant: Plant, size: int, frames: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Paint the answers to both pokes: `render`, with the tracks `other_frames` and `other_path`."""
    paints, second = prepare(plant, size), counterfactual(plant)
    dyn = dynamics(plant.tree, plant.springs)
    video, tracks = _with_tracks(plant, paints, move(plant, frames, FPS, dyn), size)
    motion = move(second, frames, FPS, dyn)
    other = paint(second, paints, motion, size)[0]
    return video, {**tracks, "other_frames": other, "other_path": node_path(second, motion, size)}


def _with_tracks(plant: Plant, paints: Paints, motion: Motion, size: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    video, parts, mask = paint(plant, paints, motion, size)
    moved = moves(plant.tree, motion.bends, size)
    return video, {
        **flow_tracks(parts, moved), "mask": mask, "path": node_path(plant, motion, size), "parts": parts,
        "moves": moved.astype(np.float32),
    }  # fmt: skip


def node_path(plant: Plant, motion: Motion, size: int) -> np.ndarray:
    """Return where the poked node is at each frame, T x 2 in pixels, float32."""
    return (node_paths(plant.tree, motion)[:, plant.poke.node] * size - 0.5).astype(np.float32)


def paint(plant: Plant, paints: Paints, motion: Motion, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paint a motion.

    Args:
        plant: what to paint.
        paints: from `prepare`, of the same size.
        motion: the bends of the plant's joints.
        size: height and width in pixels.

    Returns:
        Frames (T x H x W x 3), the segment seen at each pixel's centre (T x H x W, index + 1, 0 for none) and the
        mask (T x H x W, 255 where at least half of the pixel is plant), all uint8.
    """
    side, count = size * POINTS, len(motion.bends)
    placed = rigid(*place(plant.tree, motion.bends), side)
    table, canvas = lookups(plant.tree, plant.looks, placed, paints.tile), np.empty((side, side, 3), np.float32)
    video = np.empty((count, size, size, 3), np.uint8)
    parts, mask = np.empty((2, count, size, size), np.uint8)
    for t in range(count):
        ids = stamp(paints.cut, placed[t], side)
        np.copyto(canvas, paints.still)
        colour(ids, table[t], paints.tiles, paints.light, canvas)
        video[t] = _film(cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA), plant)
        covered = cv2.threshold(ids, 0, 255, cv2.THRESH_BINARY)[1]
        mask[t] = cv2.threshold(
            cv2.resize(covered, (size, size), interpolation=cv2.INTER_AREA), 127, 255, cv2.THRESH_BINARY
        )[1]
        parts[t] = ids[POINTS // 2 :: POINTS, POINTS // 2 :: POINTS]
    return video, parts, mask


def _film(picture: np.ndarray, plant: Plant) -> np.ndarray:
    blur = plant.scene.softness * picture.shape[0]
    if blur > 0.1:
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    return np.clip(picture * (np.asarray(plant.scene.tint, np.float32) * 255) + 0.5, 0, 255).astype(np.uint8)
