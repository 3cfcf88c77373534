"""Expressions by name: coefficient vectors of the six emotions, and sequences of them over time.

What an emotion is, each model says itself (`MorphableModel.emotions`): action units of the Facial Action Coding
System on the model's own expression names. `recipes/morphable.py` holds the table of the ICT-FaceKit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stillmotion.errors import StillmotionError
from stillmotion.morphable.model import MorphableModel

NEUTRAL = "neutral"


def expression(model: MorphableModel, name: str, strength: float = 1.0) -> np.ndarray:
    """The expression coefficients of an emotion, E, `float32`.

    Args:
        model: a model with named expressions.
        name: happiness, sadness, anger, surprise, fear or disgust; `neutral`; or one of the model's own expressions.
        strength: 1 = full; the coefficients stay within the model's range.

    Raises:
        StillmotionError: the model knows no such name, or the strength is not a number from 0 to 2.
    """
    if not 0 <= strength <= 2:
        raise StillmotionError(f"The strength of an expression goes from 0 to 2, not {strength}.")
    if not model.expression_names:
        raise StillmotionError(
            "This face model's expressions have no names: take them from a video or give coefficients."
        )
    names = model.expression_names
    known = {NEUTRAL: {}, **{own: {own: 1.0} for own in names}, **model.emotions}
    if name not in known:
        emotions = ", ".join((NEUTRAL, *model.emotions))
        raise StillmotionError(
            f"{name!r} is not an expression; known are {emotions} and the model's {len(names)} own."
        )
    found = np.zeros(len(names), np.float32)
    for part, weight in known[name].items():
        found[names.index(part)] = weight * strength
    return found if model.expression_range is None else found.clip(*model.expression_range)


def expression_sequence(
    model: MorphableModel, steps: Sequence[tuple[float, str, float]], frames: int, fps: float
) -> np.ndarray:
    """Expression coefficients over time, T x E, `float32`: each change starts and ends gently.

    Args:
        model: as in `expression`.
        steps: (seconds, name, strength), in the order of time: at that time the expression is reached. Before the
            first one the face goes there from neutral, after the last one it stays.
        frames: T.
        fps: frames per second.

    Raises:
        StillmotionError: as `expression`; or there are no steps, or they are not in the order of time.
    """
    times = np.array([time for time, _, _ in steps], float)
    if len(times) == 0 or not (np.isfinite(times).all() and (times >= 0).all() and (np.diff(times) > 0).all()):
        raise StillmotionError("The times of expressions must be one or more numbers from 0 on, each after the last.")
    values = np.stack([expression(model, name, strength) for _, name, strength in steps])
    if times[0] > 0:
        times, values = np.insert(times, 0, 0.0), np.insert(values, 0, 0.0, axis=0)
    now = np.arange(frames) / fps
    after = np.searchsorted(times, now, side="right").clip(1, max(len(times) - 1, 1))
    if len(times) == 1:
        return np.repeat(values, frames, axis=0)
    share = ((now - times[after - 1]) / (times[after] - times[after - 1])).clip(0, 1)
    share = (share * share * (3 - 2 * share))[:, None]
    return ((1 - share) * values[after - 1] + share * values[after]).astype(np.float32)
