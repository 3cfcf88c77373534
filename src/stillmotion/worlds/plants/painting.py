"""Painting: which segment is seen where, and its colours.

Every frame begins as a map of the front-most segment of each of 3 x 3 points per pixel. Each point then looks up its
colour in its segment's own texture, so that textures stick to what they cover and the flow of a pixel is exactly the
rigid motion of the segment seen at its centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stillmotion.worlds.plants.looks import Look, outline, texture_frame, tile_frame
from stillmotion.worlds.plants.tree import Tree, place

# Points per pixel and axis; odd, so that one of them is the pixel's centre.
POINTS = 3
_SHIFT = 5  # sub-pixel bits of OpenCV's polygon corners
_ROW = 1024  # cv2.remap refuses maps of more than 32767 columns


@dataclass(frozen=True)
class Cutout:
    """The size-independent shapes of a plant: all outlines in one array.

    Attributes:
        corners: V x 2 (along, across), in picture heights.
        owner: V, the segment each corner belongs to.
        order: N, the segments from back to front.
        first: N + 1, where each segment's corners begin.
    """

    corners: np.ndarray
    owner: np.ndarray
    order: np.ndarray
    first: np.ndarray


def cut_out(tree: Tree, looks: tuple[Look, ...]) -> Cutout:
    """Return the outlines of all segments."""
    pieces = [
        outline(looks[kind], length, start, end)
        for kind, length, start, end in zip(tree.kind, tree.length, tree.start, tree.end, strict=True)
    ]
    counts = np.array([len(piece) for piece in pieces])
    return Cutout(
        np.concatenate(pieces), np.repeat(np.arange(len(tree)), counts), np.argsort(tree.layer, kind="stable"),
        np.concatenate([[0], np.cumsum(counts)]),
    )  # fmt: skip


def rigid(hinges: np.ndarray, directions: np.ndarray, side: int) -> np.ndarray:
    """Return T x N x 2 x 3: from a segment's own (along, across), in picture heights, to pixels."""
    cos, sin = np.cos(directions) * side, np.sin(directions) * side
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    return np.concatenate([turn, (hinges * side - 0.5)[..., None]], -1)


def moves(tree: Tree, bends: np.ndarray, size: int) -> np.ndarray:
    """Return T x (N + 1) x 2 x 3, float64: from pixels of the plant at rest to pixels at each frame.

    Entry 0 is what stands still, entry k + 1 is segment k.
    """
    hinges, directions = place(tree, np.concatenate([np.zeros((1, len(tree))), bends]))
    turned = directions[1:] - directions[0]
    cos, sin = np.cos(turned), np.sin(turned)
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    pixels = hinges * size - 0.5
    shift = pixels[1:] - np.einsum("tnij,nj->tni", turn, pixels[0])
    made = np.concatenate([turn, shift[..., None]], -1)
    still = np.broadcast_to(np.eye(2, 3), (len(bends), 1, 2, 3))
    return np.concatenate([still, made], axis=1)


def stamp(cut: Cutout, placed: np.ndarray, side: int) -> np.ndarray:
    """Return which segment is in front at each point (`side` x `side`, uint8: index + 1, 0 where there is none).

    Args:
        cut: the outlines.
        placed: N x 2 x 3, from `rigid`.
        side: width and height in points.
    """
    turned = placed[cut.owner]
    places = (turned[..., :2] * cut.corners[:, None]).sum(-1) + turned[..., 2]
    corners = np.round(places * 2**_SHIFT).astype(np.int32)
    ids = np.zeros((side, side), np.uint8)
    for segment in cut.order:
        shape = corners[cut.first[segment] : cut.first[segment + 1]]
        cv2.fillPoly(ids, [shape], int(segment) + 1, lineType=cv2.LINE_8, shift=_SHIFT)
    return ids


def lookups(tree: Tree, looks: tuple[Look, ...], placed: np.ndarray, tile: int) -> np.ndarray:
    """Return T x (N + 1) x 2 x 3, float32: from points (pixels of `placed`) to pixels of the row of tiles."""
    linear, shift = placed[..., :2], placed[..., 2]
    scale = np.linalg.det(linear)[..., None, None]
    back = np.swapaxes(linear, -1, -2) / scale  # a turn times a scale: its transpose over the squared scale
    frames = []
    for kind, length, start, end, span in zip(tree.kind, tree.length, tree.start, tree.end, tree.span, strict=True):
        offset, along, across = texture_frame(looks[kind], length, start, end, span)
        u0, per_u, v0, per_v = tile_frame(looks[kind], tile)
        frames.append((kind * tile + u0 + per_u * offset, per_u * along, v0, per_v * across))
    shape = np.array(frames)
    scaled = back * shape[:, [1, 3], None]
    moved = shape[:, [0, 2]] - (scaled * shift[..., None, :]).sum(-1)
    table = np.concatenate([scaled, moved[..., None]], -1)
    return np.concatenate([np.zeros_like(table[:, :1]), table], axis=1).astype(np.float32)


def colour(ids: np.ndarray, table: np.ndarray, tiles: np.ndarray, light: np.ndarray, canvas: np.ndarray) -> None:
    """Paint the segments over the canvas, at every point where one is seen.

    Args:
        ids: `side` x `side`, from `stamp`.
        table: (N + 1) x 2 x 3, one frame of `lookups`.
        tiles: from `paint_tiles`.
        light: (N + 1) x 3, a factor on the colours, entry 0 unused.
        canvas: `side` x `side` x 3, float32.
    """
    spots = np.flatnonzero(ids)
    if len(spots) == 0:
        return
    part = ids.ravel().take(spots).astype(np.intp)
    row = spots // ids.shape[1]
    x, y = (spots - row * ids.shape[1]).astype(np.float32), row.astype(np.float32)
    maps = np.zeros((2, -(-len(spots) // _ROW) * _ROW), np.float32)
    for axis in (0, 1):
        per_x, per_y, start = (np.ascontiguousarray(table[:, axis, k]).take(part) for k in range(3))
        maps[axis, : len(spots)] = per_x * x + per_y * y + start
    found = cv2.remap(
        tiles, maps[0].reshape(-1, _ROW), maps[1].reshape(-1, _ROW), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    canvas.reshape(-1, 3)[spots] = found.reshape(-1, 3)[: len(spots)] * light.take(part, axis=0)
