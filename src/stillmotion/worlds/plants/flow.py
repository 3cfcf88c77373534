"""Flow: exact motion of pixels, from the segment seen at each pixel's centre and that segment's rigid motion."""

from __future__ import annotations

import numpy as np


def flow_between(parts: np.ndarray, moves: np.ndarray, first: int, last: int) -> np.ndarray:
    """Return where the pixels of one frame are in another.

    Args:
        parts: the track, T x H x W.
        moves: the track, T x P x 2 x 3.
        first: index of the frame whose pixels are followed.
        last: index of the other frame, later or earlier.

    Returns:
        H x W x 2, float32: the pixel (x, y) of frame `first` is at (x, y) + flow in frame `last`, whether it is
        seen there or hidden.
    """
    return _flow(parts[first], moves[first].astype(float), moves[last].astype(float))


def _flow(ids: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    turn, back = target[:, :, :2], np.swapaxes(source[:, :, :2], 1, 2)
    linear = np.einsum("pij,pjk->pik", turn, back)
    shift = target[:, :, 2] - np.einsum("pij,pj->pi", linear, source[:, :, 2])
    linear[:, [0, 1], [0, 1]] -= 1
    flow = np.zeros((ids.size, 2), np.float32)  # what stands still has exactly no flow
    spots = np.flatnonzero(ids)
    part = ids.ravel().take(spots).astype(np.intp)
    y, x = np.divmod(spots, ids.shape[1])
    for axis in (0, 1):
        per_x, per_y = linear[:, axis, 0].take(part), linear[:, axis, 1].take(part)
        flow[spots, axis] = per_x * x + per_y * y + shift[:, axis].take(part)
    return flow.reshape(*ids.shape, 2)


def flows(parts: np.ndarray, moves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the forward and the backward flow between all neighbouring frames, (T - 1) x H x W x 2, float16."""
    count, height, width = parts.shape
    forward = np.zeros((count - 1, height, width, 2), np.float16)
    backward = np.zeros_like(forward)
    for t in range(count - 1):
        forward[t] = _flow(parts[t], moves[t], moves[t + 1])
        backward[t] = _flow(parts[t + 1], moves[t + 1], moves[t])
    return forward, backward
