"""The identity basis: what makes one person's face another than the mean, one field of displacements per trait."""

from __future__ import annotations

import numpy as np

from stillmotion.worlds.faces.mesh import (
    EARS,
    EYE_X,
    LIP,
    LOWER_LIP,
    MEAN,
    MOUTH_HALF,
    MOUTH_T,
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

_X = MEAN[..., 0]
EAR_SIZE = 0.22  # share of the mean ears per standard deviation


def _traits() -> dict[str, np.ndarray]:
    """Return the fields, each for +1 standard deviation."""
    eyes, eyes_side = pair(EYE_X, 0.03, 0.22, 0.2)
    brow, _ = pair(0.28, 0.2, 0.24, 0.08)
    cheek, cheek_side = pair(0.45, -0.2, 0.2, 0.18)
    full, full_side = pair(0.48, -0.5, 0.26, 0.22)
    wings, wings_side = pair(0.09, -0.37, 0.09, 0.09)
    _, corners_side = pair(MOUTH_HALF, MOUTH_T, 0.19, 0.14)
    low = step(T, -0.1, -0.9)
    jaw = np.exp(-(((T + 0.66) / 0.26) ** 2))
    chin = bump(0, -0.93, 0.3, 0.16)
    nose = np.exp(-((S / 0.13) ** 2))
    tip = bump(0, -0.36, 0.12, 0.1)
    outer = np.sign(S) * np.exp(-(((np.abs(S) - EYE_X) / 0.2) ** 2)) * np.exp(-((T / 0.14) ** 2))
    over = np.exp(-(((T - MOUTH_T - 0.03) / 0.07) ** 2)) * LIP
    under = np.exp(-(((T - MOUTH_T + 0.04) / 0.08) ** 2)) * LIP
    return {
        "face_width": field(x=0.055 * _X / 0.7),
        "face_length": field(y=-0.055 * low + 0.03 * step(T, 0.1, 0.9)),
        "jaw_width": field(x=0.055 * jaw * _X / 0.6),
        "chin_length": field(y=-0.05 * step(T, -0.66, -0.98)),
        "chin_forward": field(z=0.06 * chin + 0.02 * jaw * np.exp(-((S / 0.5) ** 2))),
        "chin_width": field(x=0.05 * np.exp(-(((T + 0.9) / 0.12) ** 2)) * np.sin(np.clip(S / 0.35, -1.57, 1.57))),
        "cheekbones": field(x=0.03 * cheek_side, z=0.03 * cheek),
        "cheek_fullness": field(x=0.04 * full_side, z=0.03 * full),
        "forehead_slope": field(z=0.05 * step(T, 0.2, 0.8) * np.exp(-((S / 0.9) ** 2))),
        "brow_depth": field(z=0.03 * brow),
        "brow_height": field(y=0.03 * np.exp(-(((T - 0.2) / 0.1) ** 2)) * np.exp(-((S / 0.6) ** 4))),
        "eye_distance": field(x=0.025 * eyes_side),
        "eye_size": field(y=lids(0.016, -0.011)),
        "eye_tilt": field(y=0.022 * outer * np.sign(S) * (np.abs(S) - EYE_X) / 0.15),
        "eye_depth": field(z=-0.03 * eyes),
        "nose_length": field(y=-0.03 * nose * np.exp(-(((T + 0.36) / 0.14) ** 2))),
        "nose_width": field(x=0.028 * wings_side, z=0.012 * wings),
        "nose_bridge": field(z=0.035 * nose * np.exp(-(((T + 0.12) / 0.16) ** 2))),
        "nose_tip": field(y=0.02 * tip, z=0.04 * tip),
        "mouth_width": field(x=0.024 * corners_side),
        "mouth_height": field(y=0.02 * np.exp(-((S / 0.4) ** 4)) * np.exp(-(((T - MOUTH_T) / 0.13) ** 2))),
        "upper_lip": field(y=0.014 * UPPER_LIP * over * step(T, MOUTH_T, MOUTH_T + 0.05), z=0.022 * UPPER_LIP * over),
        "lower_lip": field(
            y=-0.014 * LOWER_LIP * under * step(T, MOUTH_T, MOUTH_T - 0.05), z=0.022 * LOWER_LIP * under
        ),
        "ears": EAR_SIZE * EARS,
    }


_FIELDS = _traits()
TRAITS: tuple[str, ...] = tuple(_FIELDS)
"""The names of the identity coefficients, in order."""
BASIS = close_poles(np.stack(list(_FIELDS.values())))
"""The identity basis, K x R x C x 3, per standard deviation."""


def sample_identity(rng: np.random.Generator) -> np.ndarray:
    """Draw identity coefficients: K independent normal numbers, cut off at 2 standard deviations."""
    return np.clip(rng.normal(0, 1, len(TRAITS)), -2, 2)
