"""Exact flow: where the rigid (or affine) part seen at a pixel's centre takes that pixel. All worlds share it.

Products and inverses are written out: a library of linear algebra adds in the order that suits the processor, and
the same seed is to give the same bytes on any machine.
"""

from __future__ import annotations

import numpy as np


def flow_between(labels: np.ndarray, maps: np.ndarray, first: int, last: int) -> np.ndarray:
    """Return where the pixels of one frame are in another.

    Args:
        labels: T x H x W, which part is seen at each pixel; 0 is the background.
        maps: T x P x 2 x 3, from each part's own coordinates to pixels; the background (the first) is only ever
            shifted.
        first: index of the frame whose pixels are followed.
        last: index of the other frame, later or earlier.

    Returns:
        H x W x 2, float32: the pixel (x, y) of frame `first` is at (x, y) + flow in frame `last`, whether it is
        seen there or hidden.
    """
    flow = np.empty((*labels.shape[1:], 2), np.float32)
    _write(flow, labels[first], *_moves(maps[first].astype(float), maps[last].astype(float)))
    return flow


def flows(labels: np.ndarray, maps: np.ndarray) -> dict[str, np.ndarray]:
    """Return the tracks `flow_forward` and `flow_backward`: where the surface seen at each pixel goes or was.

    Args:
        labels: T x H x W, which part is seen at each pixel; 0 is the background.
        maps: float64, T x P x 2 x 3, from each part's own coordinates to pixels; the background (the first) is only
            ever shifted.

    Returns:
        Two arrays, float16, T-1 x H x W x 2, pixels: what is at (x, y) in one frame is at (x, y) + flow in the other,
        seen or hidden.
    """
    return {
        "flow_forward": _all(labels[:-1], maps[:-1], maps[1:]),
        "flow_backward": _all(labels[1:], maps[1:], maps[:-1]),
    }


def _all(labels: np.ndarray, here: np.ndarray, there: np.ndarray) -> np.ndarray:
    flow = np.empty((*labels.shape, 2), np.float16)
    linear, shift = _moves(here, there)
    for t in range(len(labels)):
        _write(flow[t], labels[t], linear[t], shift[t])
    return flow


def _moves(here: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what a place in pixels is multiplied with and shifted by to give its flow: ... x 2 x 2 and ... x 2."""
    (a, b, x), (c, d, y) = (np.moveaxis(here[..., row, :], -1, 0) for row in (0, 1))
    area = a * d - b * c
    linear, shift = np.empty((*here.shape[:-1], 2)), np.empty(here.shape[:-1])
    for row in (0, 1):
        p, q, end = np.moveaxis(there[..., row, :], -1, 0)
        across, down = (p * d - q * c) / area, (q * a - p * b) / area
        shift[..., row] = end - (across * x + down * y)
        linear[..., row, 0], linear[..., row, 1] = across - (row == 0), down - (row == 1)
    return linear, shift


def _write(flow: np.ndarray, labels: np.ndarray, linear: np.ndarray, shift: np.ndarray) -> None:
    """Fill a frame's flow, H x W x 2, from its labels, H x W, and the parts' moves, P x 2 x 2 and P x 2."""
    pixels = flow.reshape(-1, 2)
    pixels[:] = shift[0]
    spots = np.flatnonzero(labels)
    part = labels.ravel().take(spots).astype(np.intp)
    y, x = np.divmod(spots, labels.shape[1])
    for axis in (0, 1):
        per_x, per_y = linear[:, axis, 0].take(part), linear[:, axis, 1].take(part)
        pixels[spots, axis] = per_x * x + per_y * y + shift[:, axis].take(part)
