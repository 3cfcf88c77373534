"""The expression basis: facial actions as fields of displacements, and the six emotions as mixtures of them.

The actions follow the Facial Action Coding System (their numbers are in the comments), the mixtures its usual
prototypes of the emotions. Coefficients are near [0, 1]: 0 = at rest, 1 = fully done.
"""

from __future__ import annotations

import numpy as np

from stillmotion.worlds.faces.mesh import (
    EYE_X,
    LIP,
    LOWER_EYE,
    LOWER_LIP,
    MEAN,
    MOUTH_HALF,
    MOUTH_T,
    UPPER_EYE,
    UPPER_LIP,
    S,
    T,
    bump,
    close_poles,
    field,
    lids,
    pair,
    step,
)


def _jaw() -> np.ndarray:
    """Return the jaw's drop: between the mouth's corners the lower lip goes down, further below the whole chin."""
    whole = np.exp(-((S / 0.6) ** 4))
    whole = whole + (1 - whole) * step(T, -0.86, -0.99)
    share = step(T, MOUTH_T, -0.84)
    down = LOWER_LIP * ((1 - share) * LIP + share * whole)
    cheeks = bump(0, MOUTH_T - 0.05, 0.5, 0.16) * (1 - LOWER_LIP * LIP)
    _, narrower = pair(MOUTH_HALF, MOUTH_T, 0.13, 0.12)
    return field(x=-0.035 * narrower, y=-0.29 * down - 0.10 * cheeks, z=-0.07 * down)


def _actions() -> dict[str, np.ndarray]:
    """Return the fields, each for a coefficient of 1."""
    inner, inner_side = pair(0.15, 0.24, 0.14, 0.22)
    outer, _ = pair(0.4, 0.24, 0.16, 0.22)
    brow, _ = pair(0.25, 0.2, 0.2, 0.1)
    apple, apple_side = pair(0.38, -0.25, 0.17, 0.14)
    under, _ = pair(EYE_X, -0.08, 0.16, 0.06)
    wings, wings_side = pair(0.12, -0.36, 0.09, 0.1)
    furrow, _ = pair(0.25, -0.42, 0.06, 0.12)
    corners, _ = pair(MOUTH_HALF, MOUTH_T, 0.13, 0.12)
    # Sideways the corners take more of the cheek along, or the skin beside them would fold over.
    _, corners_side = pair(MOUTH_HALF, MOUTH_T, 0.19, 0.14)
    above = UPPER_LIP * np.exp(-(((T - MOUTH_T) / 0.12) ** 2))
    beneath = LOWER_LIP * np.exp(-(((T - MOUTH_T) / 0.12) ** 2))
    press = np.exp(-(((T - MOUTH_T) / 0.09) ** 2)) * np.tanh((T - MOUTH_T) / 0.06)
    frown, _ = pair(0.15, 0.22, 0.14, 0.21)
    chin = bump(0, -0.84, 0.2, 0.13)
    glabella = bump(0, 0.14, 0.09, 0.1)
    closing = MEAN[..., 1] * np.exp(-((T / 0.2) ** 2))
    return {
        "inner_brow_raise": field(y=0.12 * inner),  # 1
        "outer_brow_raise": field(y=0.11 * outer),  # 2
        "brow_lower": field(x=-0.045 * inner_side, y=-0.105 * frown - 0.035 * outer, z=0.03 * glabella + 0.02 * brow),
        "upper_lid_raise": field(y=lids(0.045, -0.008)),  # 5
        "cheek_raise": field(y=0.055 * apple + 0.03 * under + lids(0.0, 0.022), z=0.055 * apple + 0.02 * under),  # 6
        "lid_tighten": field(y=lids(-0.022, 0.022)),  # 7
        "nose_wrinkle": field(
            x=0.02 * wings_side, y=0.05 * wings - 0.025 * frown, z=0.03 * wings + 0.03 * bump(0, 0.0, 0.08, 0.09)
        ),  # 9
        "upper_lip_raise": field(
            y=above * (0.085 * LIP * (1 - 0.25 * np.exp(-((S / 0.06) ** 2)))) + 0.03 * furrow, z=0.02 * furrow
        ),  # 10
        "corner_pull": field(
            x=0.088 * corners_side + 0.015 * apple_side,
            y=0.115 * corners + 0.03 * apple,
            z=-0.045 * corners + 0.03 * apple,
        ),  # 12
        "corner_depress": field(x=0.02 * corners_side, y=-0.10 * corners, z=-0.01 * corners),  # 15
        "chin_raise": field(
            y=0.05 * chin + 0.035 * bump(0, MOUTH_T, 0.16, 0.1), z=0.035 * chin + 0.03 * beneath * LIP
        ),  # 17
        "lip_stretch": field(x=0.09 * corners_side, y=-0.03 * corners, z=-0.035 * corners),  # 20
        "lip_press": field(x=-0.02 * corners_side, y=-0.03 * press * LIP, z=-0.03 * np.abs(press) * LIP),  # 24
        "lips_part": field(y=LIP * (0.028 * above - 0.055 * beneath)),  # 25
        "jaw_drop": _jaw(),  # 26
        "blink": field(
            y=-closing * np.where(T == 0, UPPER_EYE + LOWER_EYE, 1.0) * _near_eye() - 0.02 * _near_eye() * _lid_seam()
        ),  # 45
    }


def _near_eye() -> np.ndarray:
    return np.exp(-(np.maximum((np.abs(np.abs(S) - EYE_X) - 0.14) / 0.03, 0) ** 2))


def _lid_seam() -> np.ndarray:
    return np.exp(-((T / 0.06) ** 2)) * np.maximum(1 - ((np.abs(S) - EYE_X) / 0.16) ** 2, 0)


_FIELDS = _actions()
ACTIONS: tuple[str, ...] = tuple(_FIELDS)
"""The names of the expression coefficients, in order."""
BASIS = close_poles(np.stack(list(_FIELDS.values())))
"""The expression basis, E x R x C x 3."""

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
"""The six emotions: coefficients at full intensity; actions that are not named rest."""


def coefficients(weights: dict[str, float]) -> np.ndarray:
    """Return the E expression coefficients that are named in `weights`, the others 0."""
    return np.array([weights.get(name, 0.0) for name in ACTIONS])
