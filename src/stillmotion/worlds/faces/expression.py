"""The expression basis: action units as displacement fields, and the six emotions as mixtures of them.

The action units follow the Facial Action Coding System (their numbers are in the comments), the mixtures its usual
prototypes of the emotions. Coefficients are near [0, 1]: 0 = at rest, 1 = full intensity.
"""

from __future__ import annotations

import numpy as np

from stillmotion.worlds.easing import smoothstep
from stillmotion.worlds.faces.fields import displacement, gaussian, lid_rise, merge_poles, mirrored_gaussian
from stillmotion.worlds.faces.grid import EYE_X, EYES, MOUTH, MOUTH_HALF, MOUTH_T, S, T
from stillmotion.worlds.faces.identity import MEAN


def _jaw_drop() -> np.ndarray:
    """Return the jaw's drop: between the mouth's corners the lower lip goes down, further below the whole chin."""
    whole = np.exp(-((S / 0.6) ** 4))
    whole = whole + (1 - whole) * smoothstep(T, -0.86, -0.99)
    share = smoothstep(T, MOUTH_T, -0.84)
    down = MOUTH.lower * ((1 - share) * MOUTH.profile + share * whole)
    cheeks = gaussian(0, MOUTH_T - 0.05, 0.5, 0.16) * (1 - MOUTH.lower * MOUTH.profile)
    _, narrower = mirrored_gaussian(MOUTH_HALF, MOUTH_T, 0.13, 0.12)
    return displacement(x=-0.035 * narrower, y=-0.29 * down - 0.10 * cheeks, z=-0.07 * down)


def _blink() -> np.ndarray:
    near_eye = np.exp(-(np.maximum((np.abs(np.abs(S) - EYE_X) - 0.14) / 0.03, 0) ** 2))
    lid_seam = np.exp(-((T / 0.06) ** 2)) * np.maximum(1 - ((np.abs(S) - EYE_X) / 0.16) ** 2, 0)
    closing = MEAN[..., 1] * np.exp(-((T / 0.2) ** 2))
    return displacement(
        y=-closing * np.where(T == 0, EYES.upper + EYES.lower, 1.0) * near_eye - 0.02 * near_eye * lid_seam
    )


def _action_units() -> dict[str, np.ndarray]:
    """Return the fields, each for a coefficient of 1."""
    lip = MOUTH.profile
    inner, inner_side = mirrored_gaussian(0.15, 0.24, 0.14, 0.22)
    outer, _ = mirrored_gaussian(0.4, 0.24, 0.16, 0.22)
    brow, _ = mirrored_gaussian(0.25, 0.2, 0.2, 0.1)
    apple, apple_side = mirrored_gaussian(0.38, -0.25, 0.17, 0.14)
    under, _ = mirrored_gaussian(EYE_X, -0.08, 0.16, 0.06)
    wings, wings_side = mirrored_gaussian(0.12, -0.36, 0.09, 0.1)
    furrow, _ = mirrored_gaussian(0.25, -0.42, 0.06, 0.12)
    corners, _ = mirrored_gaussian(MOUTH_HALF, MOUTH_T, 0.13, 0.12)
    # Sideways the corners move more of the cheek, or the skin beside them would fold over.
    _, corners_side = mirrored_gaussian(MOUTH_HALF, MOUTH_T, 0.19, 0.14)
    above = MOUTH.upper * np.exp(-(((T - MOUTH_T) / 0.12) ** 2))
    beneath = MOUTH.lower * np.exp(-(((T - MOUTH_T) / 0.12) ** 2))
    press = np.exp(-(((T - MOUTH_T) / 0.09) ** 2)) * np.tanh((T - MOUTH_T) / 0.06)
    frown, _ = mirrored_gaussian(0.15, 0.22, 0.14, 0.21)
    chin = gaussian(0, -0.84, 0.2, 0.13)
    glabella = gaussian(0, 0.14, 0.09, 0.1)
    cupid_bow = 1 - 0.25 * np.exp(-((S / 0.06) ** 2))
    return {
        "inner_brow_raise": displacement(y=0.12 * inner),  # 1
        "outer_brow_raise": displacement(y=0.11 * outer),  # 2
        "brow_lower": displacement(
            x=-0.045 * inner_side, y=-0.105 * frown - 0.035 * outer, z=0.03 * glabella + 0.02 * brow
        ),  # 4
        "upper_lid_raise": displacement(y=lid_rise(0.045, -0.008)),  # 5
        "cheek_raise": displacement(
            y=0.055 * apple + 0.03 * under + lid_rise(0.0, 0.022), z=0.055 * apple + 0.02 * under
        ),  # 6
        "lid_tighten": displacement(y=lid_rise(-0.022, 0.022)),  # 7
        "nose_wrinkle": displacement(
            x=0.02 * wings_side, y=0.05 * wings - 0.025 * frown, z=0.03 * wings + 0.03 * gaussian(0, 0.0, 0.08, 0.09)
        ),  # 9
        "upper_lip_raise": displacement(y=above * (0.085 * lip * cupid_bow) + 0.03 * furrow, z=0.02 * furrow),  # 10
        "corner_pull": displacement(
            x=0.088 * corners_side + 0.015 * apple_side,
            y=0.115 * corners + 0.03 * apple,
            z=-0.045 * corners + 0.03 * apple,
        ),  # 12
        "corner_depress": displacement(x=0.02 * corners_side, y=-0.10 * corners, z=-0.01 * corners),  # 15
        "chin_raise": displacement(
            y=0.05 * chin + 0.035 * gaussian(0, MOUTH_T, 0.16, 0.1), z=0.035 * chin + 0.03 * beneath * lip
        ),  # 17
        "lip_stretch": displacement(x=0.09 * corners_side, y=-0.03 * corners, z=-0.035 * corners),  # 20
        "lip_press": displacement(x=-0.02 * corners_side, y=-0.03 * press * lip, z=-0.03 * np.abs(press) * lip),  # 24
        "lips_part": displacement(y=lip * (0.028 * above - 0.055 * beneath)),  # 25
        "jaw_drop": _jaw_drop(),  # 26
        "blink": _blink(),  # 45
    }


_FIELDS = _action_units()
ACTION_UNITS: tuple[str, ...] = tuple(_FIELDS)  # the names of the expression coefficients, in order
BASIS = merge_poles(np.stack(list(_FIELDS.values())))  # the expression basis, E x R x C x 3

EMOTIONS: dict[str, dict[str, float]] = {
    "anger": {
        "brow_lower": 1.0, "upper_lid_raise": 0.35, "lid_tighten": 0.9, "nose_wrinkle": 0.35, "lip_press": 0.9,
        "chin_raise": 0.35, "corner_depress": 0.35,
    },
    "disgust": {
        "nose_wrinkle": 1.0, "upper_lip_raise": 0.95, "brow_lower": 0.65, "lid_tighten": 1.1, "cheek_raise": 0.7,
        "corner_depress": 0.55, "chin_raise": 0.3, "lips_part": 0.15,
    },
    "fear": {
        "inner_brow_raise": 1.0, "outer_brow_raise": 0.35, "brow_lower": 0.25, "upper_lid_raise": 1.0,
        "lip_stretch": 1.0, "lips_part": 0.8, "jaw_drop": 0.22, "corner_depress": 0.2,
    },
    "happiness": {"cheek_raise": 0.8, "corner_pull": 1.0, "lips_part": 0.75, "upper_lip_raise": 0.25},
    "sadness": {
        "inner_brow_raise": 0.9, "brow_lower": 0.2, "corner_depress": 0.95, "chin_raise": 0.7, "lid_tighten": 0.3,
        "blink": 0.22,
    },
    "surprise": {
        "inner_brow_raise": 0.95, "outer_brow_raise": 1.0, "upper_lid_raise": 0.8, "lips_part": 0.3, "jaw_drop": 0.95,
    },
}  # fmt: skip
"""The six emotions: coefficients at full intensity; action units that are not named are 0."""


def coefficients(weights: dict[str, float]) -> np.ndarray:
    """Return the E expression coefficients named in `weights`, the others 0."""
    return np.array([weights.get(name, 0.0) for name in ACTION_UNITS])
