"""Exact optical flow: the motion of the rigid or affine part seen at a pixel's centre. All worlds share it.

Products and inverses are written out: a linear-algebra library sums in an order that depends on the processor, and
the same seed is to give the same bytes on any machine.
"""

from __future__ import annotations

import numpy as np


def flow_between(labels: np.ndarray, maps: np.ndarray, first: int, last: int) -> np.ndarray:
    """Return the flow from one frame to another.

    Args:
        labels: T x H x W, the part seen at each pixel; 0 is the background.
        maps: T x P x 2 x 3, from each part's own coordinates to pixels; the background (part 0) is only translated.
        first: index of the frame whose pixels are followed.
        last: index of the other frame, later or earlier.

    Returns:
        H x W x 2, float32: the pixel (x, y) of frame `first` is at (x, y) + flow in frame `last`, visible or hidden.
    """
    flow = np.empty((*labels.shape[1:], 2), np.float32)
    _fill_flow(flow, labels[first], *_flow_maps(maps[first].astype(float), maps[last].astype(float)))
    return flow


def flow_tracks(labels: np.ndarray, maps: np.ndarray) -> dict[str, np.ndarray]:
    """Return the tracks `flow_forward` and `flow_backward`, to the next and to the previous frame.

    Args:
        labels: see `flow_between`.
        maps: see `flow_between`; float64.

    Returns:
        Two arrays, float16, T-1 x H x W x 2, pixels: what is at (x, y) in one frame is at (x, y) + flow in the other,
        visible or hidden.
    """
    return {
        "flow_forward": _flows(labels[:-1], maps[:-1], maps[1:]),
        "flow_backward": _flows(labels[1:], maps[1:], maps[:-1]),
    }


def _flows(labels: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    flow = np.empty((*labels.shape, 2), np.float16)
    linear, shift = _flow_maps(source, target)
    for t in range(len(labels)):
        _fill_flow(flow[t], labels[t], linear[t], shift[t])
    return flow


def _flow_maps(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the affine maps from a pixel to its flow, ... x 2 x 2 and ... x 2: target source^-1 - identity."""
    (a, b, x), (c, d, y) = (np.moveaxis(source[..., row, :], -1, 0) for row in (0, 1))
    area = a * d - b * c
    linear, shift = np.empty((*source.shape[:-1], 2)), np.empty(source.shape[:-1])
    for row in (0, 1):
        p, q, end = np.moveaxis(target[..., row, :], -1, 0)
        across, down = (p * d - q * c) / area, (q * a - p * b) / area
        shift[..., row] = end - (across * x + down * y)
        linear[..., row, 0], linear[..., row, 1] = across - (row == 0), down - (row == 1)
    return linear, shift


def _fill_flow(flow: np.ndarray, labels: np.ndarray, linear: np.ndarray, shift: np.ndarray) -> None:
    """Fill a frame's flow (H x W x 2) from its labels (H x W) and the parts' `_flow_maps`."""
    pixels = flow.reshape(-1, 2)
    pixels[:] = shift[0]
    labelled = np.flatnonzero(labels)
    part = labels.ravel().take(labelled).astype(np.intp)
    y, x = np.divmod(labelled, labels.shape[1])
    for axis in (0, 1):
        per_x, per_y = linear[:, axis, 0].take(part), linear[:, axis, 1].take(part)
        pixels[labelled, axis] = per_x * x + per_y * y + shift[:, axis].take(part)
