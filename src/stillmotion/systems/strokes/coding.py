"""Strokes as pictures that a network can read."""

from __future__ import annotations

from torch import Tensor

from stillmotion.systems.strokes.config import StrokesConfig


def whole(points: Tensor, config: StrokesConfig, t: int = 0) -> Tensor:
    """S, the stroke as one picture, as it is at step `t` (with a moving window it changes, otherwise not).

    Args:
        points: N x T x 2, (x, y) in pixels of the networks' picture.
        config: says how and how large.
        t: the step from frame t to frame t + 1.

    Returns:
        N x `config.channels` x size x size.

    Raises:
        StillmotionError: grey coding and more than 32 points, or a point outside the picture.
    """
    raise NotImplementedError


def step(points: Tensor, t: int, config: StrokesConfig) -> Tensor:
    """S_t, the points t and t + 1 alone, coded as in S; arguments, result and errors as for `whole`."""
    raise NotImplementedError
