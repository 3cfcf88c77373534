"""Rendering: from a description to frames and tracks, at any size."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stillmotion.data.part_flow import flow_tracks
from stillmotion.worlds.compositing import blur
from stillmotion.worlds.plants.physics import Motion, build_dynamics, node_paths
from stillmotion.worlds.plants.plant import FPS, Plant, counterfactual, simulate_poke
from stillmotion.worlds.plants.rasterization import (
    POINTS,
    Outlines,
    atlas_transforms,
    build_outlines,
    rasterise_ids,
    segment_transforms,
    shade,
    transforms_from_rest,
)
from stillmotion.worlds.plants.scene import paint_scene
from stillmotion.worlds.plants.styles import paint_atlas
from stillmotion.worlds.plants.tree import forward_kinematics

_SMALLEST_TILE = 40


@dataclass(frozen=True)
class Assets:
    """What all frames of a plant at one size share."""

    outlines: Outlines
    tile: int  # side of a style's tile in the atlas
    atlas: np.ndarray
    light: np.ndarray  # (N + 1) x 3, a factor on the segments' colours
    background: np.ndarray  # side x side x 3


def prepare_assets(plant: Plant, size: int) -> Assets:
    """Paint what all frames share."""
    side = size * POINTS
    tile = max(_SMALLEST_TILE, side // 4)
    light = np.repeat(np.concatenate([[1.0], plant.tree.light])[:, None], 3, axis=1).astype(np.float32)
    background = cv2.resize(paint_scene(plant.scene, 2 * size), (side, side), interpolation=cv2.INTER_LINEAR)
    return Assets(build_outlines(plant.tree, plant.styles), tile, paint_atlas(plant.styles, tile), light, background)


def render(plant: Plant, size: int, frames: int, fps: float = FPS) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Render the plant under its poke at `size` pixels a side; a longer clip begins as a shorter one.

    The frame rate is the sampling of the motion, not its speed.

    Returns:
        Frames (uint8, T x H x W x 3) and tracks: `flow_forward`, `flow_backward`, `mask`, `path`, `parts` and `moves`
        (see docs/worlds.md).

    Raises:
        StillmotionError: the plant has no such node, or the node cannot be moved to the poke's target.
    """
    return _render_tracks(plant, prepare_assets(plant, size), simulate_poke(plant, frames, fps), size)


def render_pair(plant: Plant, size: int, frames: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Render the plant under both pokes: `render`, with the tracks `other_frames` and `other_path`."""
    assets, second = prepare_assets(plant, size), counterfactual(plant)
    dynamics = build_dynamics(plant.tree, plant.springs)
    video, tracks = _render_tracks(plant, assets, simulate_poke(plant, frames, FPS, dynamics), size)
    motion = simulate_poke(second, frames, FPS, dynamics)
    other = render_motion(second, assets, motion, size)[0]
    return video, {**tracks, "other_frames": other, "other_path": _poked_path(second, motion, size)}


def _render_tracks(
    plant: Plant, assets: Assets, motion: Motion, size: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    video, parts, mask = render_motion(plant, assets, motion, size)
    transforms = transforms_from_rest(plant.tree, motion.deflections, size)
    return video, {
        **flow_tracks(parts, transforms), "mask": mask, "path": _poked_path(plant, motion, size), "parts": parts,
        "moves": transforms.astype(np.float32),
    }  # fmt: skip


def _poked_path(plant: Plant, motion: Motion, size: int) -> np.ndarray:
    """Return the poked node's position at each frame, T x 2 in pixels, float32."""
    return (node_paths(plant.tree, motion)[:, plant.poke.node] * size - 0.5).astype(np.float32)


def render_motion(
    plant: Plant, assets: Assets, motion: Motion, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Render a motion at `size` pixels a side, with the assets of that size.

    Returns:
        Frames (T x H x W x 3), the segment seen at each pixel's centre (T x H x W, index + 1, 0 = none) and the mask
        (T x H x W, 255 where at least half of the pixel is plant), all uint8.
    """
    side, count = size * POINTS, len(motion.deflections)
    placed = segment_transforms(*forward_kinematics(plant.tree, motion.deflections), side)
    table = atlas_transforms(plant.tree, plant.styles, placed, assets.tile)
    gain, canvas = np.asarray(plant.scene.tint, np.float32) * 255, np.empty((side, side, 3), np.float32)
    video = np.empty((count, size, size, 3), np.uint8)
    parts, mask = np.empty((2, count, size, size), np.uint8)
    for t in range(count):
        ids = rasterise_ids(assets.outlines, placed[t], side)
        np.copyto(canvas, assets.background)
        shade(ids, table[t], assets.atlas, assets.light, canvas)
        picture = blur(cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA), plant.scene.softness)
        video[t] = np.clip(picture * gain + 0.5, 0, 255).astype(np.uint8)
        covered = cv2.threshold(ids, 0, 255, cv2.THRESH_BINARY)[1]
        share = cv2.resize(covered, (size, size), interpolation=cv2.INTER_AREA)
        mask[t] = cv2.threshold(share, 127, 255, cv2.THRESH_BINARY)[1]
        parts[t] = ids[POINTS // 2 :: POINTS, POINTS // 2 :: POINTS]
    return video, parts, mask
