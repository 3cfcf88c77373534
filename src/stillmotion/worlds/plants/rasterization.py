"""Rasterization: the segment seen at each point, and its colours.

Every frame begins as a map of the front-most segment at each of 3 x 3 points per pixel. Each point then looks up its
colour in its segment's own texture, so that textures stick to what they cover and the flow of a pixel is exactly the
rigid motion of the segment seen at its centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stillmotion.worlds.affine import affine, rotations
from stillmotion.worlds.plants.styles import Style, outline, segment_uv, tile_uv
from stillmotion.worlds.plants.tree import Tree, forward_kinematics
from stillmotion.worlds.sprites import POLYGON_SHIFT

POINTS = 3  # points per pixel and axis; odd, so that one of them is the pixel's centre
_ROW = 1024  # cv2.remap refuses maps of more than 32767 columns


@dataclass(frozen=True)
class Outlines:
    """The size-independent outlines of all N segments of a plant in one array."""

    corners: np.ndarray  # V x 2 (along, across), in picture heights
    owner: np.ndarray  # V, the segment of each corner
    order: np.ndarray  # N, the segments from back to front
    first: np.ndarray  # N + 1, where each segment's corners begin


def build_outlines(tree: Tree, styles: tuple[Style, ...]) -> Outlines:
    """Return the outlines of all segments."""
    pieces = [
        outline(styles[style], length, start, end)
        for style, length, start, end in zip(tree.style, tree.length, tree.start, tree.end, strict=True)
    ]
    counts = np.array([len(piece) for piece in pieces])
    return Outlines(
        corners=np.concatenate(pieces),
        owner=np.repeat(np.arange(len(tree)), counts),
        order=np.argsort(tree.layer, kind="stable"),
        first=np.concatenate([[0], np.cumsum(counts)]),
    )


def segment_transforms(hinges: np.ndarray, directions: np.ndarray, side: int) -> np.ndarray:
    """Return T x N x 2 x 3: from a segment's own (along, across), in picture heights, to pixels."""
    return affine(rotations(directions) * side, hinges * side - 0.5)


def transforms_from_rest(tree: Tree, deflections: np.ndarray, size: int) -> np.ndarray:
    """Return T x (N + 1) x 2 x 3, float64: from pixels of the plant at rest to pixels at each frame.

    Entry 0 is the background, entry k + 1 is segment k.
    """
    hinges, directions = forward_kinematics(tree, np.concatenate([np.zeros((1, len(tree))), deflections]))
    linear = rotations(directions[1:] - directions[0])
    pixels = hinges * size - 0.5
    moved = affine(linear, pixels[1:] - np.einsum("tnij,nj->tni", linear, pixels[0]))
    still = np.broadcast_to(np.eye(2, 3), (len(deflections), 1, 2, 3))
    return np.concatenate([still, moved], axis=1)


def rasterise_ids(outlines: Outlines, transforms: np.ndarray, side: int) -> np.ndarray:
    """Return the front-most segment at each of `side` x `side` points (uint8: index + 1, 0 = none).

    The transforms are one frame of `segment_transforms`.
    """
    placed = transforms[outlines.owner]
    places = (placed[..., :2] * outlines.corners[:, None]).sum(-1) + placed[..., 2]
    corners = np.round(places * 2**POLYGON_SHIFT).astype(np.int32)
    ids = np.zeros((side, side), np.uint8)
    for segment in outlines.order:
        polygon = corners[outlines.first[segment] : outlines.first[segment + 1]]
        cv2.fillPoly(ids, [polygon], int(segment) + 1, lineType=cv2.LINE_8, shift=POLYGON_SHIFT)
    return ids


def atlas_transforms(tree: Tree, styles: tuple[Style, ...], transforms: np.ndarray, tile: int) -> np.ndarray:
    """Return T x (N + 1) x 2 x 3, float32: from points (pixels of `transforms`) to pixels of the texture atlas."""
    linear, shift = transforms[..., :2], transforms[..., 2]
    scale = np.linalg.det(linear)[..., None, None]
    inverse = np.swapaxes(linear, -1, -2) / scale  # a rotation times a scale: its transpose over the squared scale
    frames = []
    for style, length, start, end, span in zip(tree.style, tree.length, tree.start, tree.end, tree.span, strict=True):
        offset, along, across = segment_uv(styles[style], length, start, end, span)
        u0, per_u, v0, per_v = tile_uv(styles[style], tile)
        frames.append((style * tile + u0 + per_u * offset, per_u * along, v0, per_v * across))
    shape = np.array(frames)
    scaled = inverse * shape[:, [1, 3], None]
    table = affine(scaled, shape[:, [0, 2]] - (scaled * shift[..., None, :]).sum(-1))
    return np.concatenate([np.zeros_like(table[:, :1]), table], axis=1).astype(np.float32)


def shade(ids: np.ndarray, table: np.ndarray, atlas: np.ndarray, light: np.ndarray, canvas: np.ndarray) -> None:
    """Paint the segments over the canvas (`side` x `side` x 3, float32), in place, at every point that shows one.

    `ids` are those of `rasterise_ids`, `table` is one frame of `atlas_transforms`, `atlas` is made by `paint_atlas`;
    `light`, (N + 1) x 3, is a factor on the colours, entry 0 unused.
    """
    points = np.flatnonzero(ids)
    if len(points) == 0:
        return
    part = ids.ravel().take(points).astype(np.intp)
    row = points // ids.shape[1]
    x, y = (points - row * ids.shape[1]).astype(np.float32), row.astype(np.float32)
    maps = np.zeros((2, -(-len(points) // _ROW) * _ROW), np.float32)
    for axis in (0, 1):
        per_x, per_y, start = (np.ascontiguousarray(table[:, axis, k]).take(part) for k in range(3))
        maps[axis, : len(points)] = per_x * x + per_y * y + start
    u, v = maps.reshape(2, -1, _ROW)
    found = cv2.remap(atlas, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    canvas.reshape(-1, 3)[points] = found.reshape(-1, 3)[: len(points)] * light.take(part, axis=0)
