"""The mean face."""

from __future__ import annotations

import numpy as np

from stillmotion.worlds.easing import smoothstep
from stillmotion.worlds.faces.fields import displacement, gaussian, lid_rise, merge_poles, mirrored_gaussian
from stillmotion.worlds.faces.grid import AZIMUTH, EYE_HALF, EYE_X, EYES, MOUTH, MOUTH_T, ROW_T, S, T


def _base_head() -> np.ndarray:
    """Return the head without features: cross-sections of a width and a depth that depend on the height."""
    t = ROW_T
    width = np.interp(
        _latitude(t),
        _latitude(np.array([-1, -0.98, -0.93, -0.85, -0.72, -0.5, -0.25, 0, 0.25, 0.5, 0.7, 0.85, 0.94, 0.985, 1])),
        [0, 0.19, 0.335, 0.44, 0.53, 0.615, 0.67, 0.70, 0.705, 0.67, 0.58, 0.445, 0.30, 0.155, 0],
    )
    front = np.interp(
        _latitude(t),
        _latitude(np.array([-1, -0.98, -0.93, -0.85, -0.7, -0.45, -0.2, 0, 0.2, 0.4, 0.6, 0.8, 0.93, 1])),
        [0.28, 0.48, 0.57, 0.60, 0.61, 0.63, 0.65, 0.66, 0.69, 0.68, 0.60, 0.42, 0.2, -0.05],
    )
    middle = np.interp(t, [-1, -0.7, -0.3, 0.3, 1], [0.28, 0.2, 0.02, -0.02, -0.05])
    back = np.interp(t, [-1, -0.8, -0.4, 0, 0.4, 0.8, 1], [0.2, -0.1, -0.5, -0.85, -0.9, -0.55, -0.05])
    sin, cos = np.sin(AZIMUTH), np.cos(AZIMUTH)
    # A face is flatter in front than an ellipse.
    flattened = np.sign(cos) * np.abs(cos) ** 0.8
    depth = np.where(cos > 0, (front - middle)[:, None], (middle - back)[:, None])
    y = np.broadcast_to(t[:, None], S.shape)
    return np.stack([width[:, None] * sin, y, middle[:, None] + depth * flattened], -1)


def _latitude(t: np.ndarray) -> np.ndarray:
    """Return angles for heights, so that interpolating between knots keeps crown and chin round."""
    return np.arcsin(np.clip(t, -1, 1))


def _ears() -> np.ndarray:
    # Exactly zero on the face itself, so that hair which hides the ears cannot change a normal map.
    across = smoothstep(np.abs(S), 1.02, 1.09) * np.exp(-(((np.abs(S) - 1.13) / 0.065) ** 2))
    across = across * np.exp(-((np.abs(T + 0.1) / 0.19) ** 3))
    return displacement(x=0.12 * np.sign(S) * across * (1 + 0.5 * (T + 0.1)), z=-0.05 * across)


EARS = _ears()  # what the ears add to the mean face; some hair styles flatten them


def _mean_face() -> np.ndarray:
    shape = _base_head()
    # Nose: a ridge that grows and widens from the root to the tip, wings beside it.
    ridge = np.interp(T, [-0.47, -0.43, -0.385, -0.33, -0.15, 0.02, 0.14], [0, 0.09, 0.22, 0.235, 0.13, 0.055, 0.0])
    spread = np.interp(T, [-0.45, -0.36, -0.2, 0.05], [0.10, 0.095, 0.066, 0.07])
    wings, _ = mirrored_gaussian(0.115, -0.385, 0.05, 0.05)
    sockets, _ = mirrored_gaussian(EYE_X - 0.03, 0.05, 0.15, 0.11)
    brows, _ = mirrored_gaussian(0.27, 0.2, 0.2, 0.07)
    cheeks, _ = mirrored_gaussian(0.43, -0.2, 0.18, 0.16)
    jaw, _ = mirrored_gaussian(0.66, -0.6, 0.25, 0.18)
    # Zero at the corners and beyond, where the two sides of the mouth's line are one.
    upper = MOUTH.upper * np.exp(-(((T - MOUTH_T - 0.035) / 0.05) ** 2)) * MOUTH.profile
    lower = MOUTH.lower * np.exp(-(((T - MOUTH_T + 0.045) / 0.055) ** 2)) * MOUTH.profile
    ball = EYES.profile * (1 - 0.35 * ((np.abs(S) - EYE_X) / EYE_HALF) ** 2)
    bulge = (
        ridge * np.exp(-((S / spread) ** 2)) + 0.055 * wings - 0.085 * sockets + 0.04 * brows + 0.04 * cheeks
        + 0.06 * upper + 0.065 * lower - 0.03 * gaussian(0, -0.77, 0.2, 0.05) + 0.055 * gaussian(0, -0.9, 0.2, 0.1)
        + 0.025 * ball * np.exp(-((T / 0.09) ** 2)) - 0.03 * EYES.inside * EYES.profile
        - 0.16 * MOUTH.inside * MOUTH.profile - 0.012 * gaussian(0, -0.52, 0.03, 0.04)
    )  # fmt: skip
    shape += displacement(x=0.03 * np.sign(S) * jaw, z=bulge) + EARS
    return shape + displacement(y=lid_rise(0.075, -0.05))


MEAN = merge_poles(_mean_face())  # the mean face with a neutral expression, R x C x 3, eyes open and lips closed
