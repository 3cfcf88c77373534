"""The identity basis: how a person's face differs from the mean, one displacement field per trait."""

from __future__ import annotations

import numpy as np

from stillmotion.worlds.easing import smoothstep
from stillmotion.worlds.faces.fields import displacement, gaussian, lid_rise, merge_poles, mirrored_gaussian
from stillmotion.worlds.faces.grid import EYE_X, MOUTH, MOUTH_HALF, MOUTH_T, S, T
from stillmotion.worlds.faces.mean_face import EARS, MEAN

_X = MEAN[..., 0]
EAR_SIZE = 0.22  # share of the mean ears per standard deviation


def _traits() -> dict[str, np.ndarray]:
    """Return the fields, each for +1 standard deviation."""
    eyes, eyes_side = mirrored_gaussian(EYE_X, 0.03, 0.22, 0.2)
    brow, _ = mirrored_gaussian(0.28, 0.2, 0.24, 0.08)
    cheek, cheek_side = mirrored_gaussian(0.45, -0.2, 0.2, 0.18)
    full, full_side = mirrored_gaussian(0.48, -0.5, 0.26, 0.22)
    wings, wings_side = mirrored_gaussian(0.09, -0.37, 0.09, 0.09)
    _, corners_side = mirrored_gaussian(MOUTH_HALF, MOUTH_T, 0.19, 0.14)
    low = smoothstep(T, -0.1, -0.9)
    jaw = np.exp(-(((T + 0.66) / 0.26) ** 2))
    chin = gaussian(0, -0.93, 0.3, 0.16)
    nose = np.exp(-((S / 0.13) ** 2))
    tip = gaussian(0, -0.36, 0.12, 0.1)
    outer = np.sign(S) * np.exp(-(((np.abs(S) - EYE_X) / 0.2) ** 2)) * np.exp(-((T / 0.14) ** 2))
    over = np.exp(-(((T - MOUTH_T - 0.03) / 0.07) ** 2)) * MOUTH.profile
    under = np.exp(-(((T - MOUTH_T + 0.04) / 0.08) ** 2)) * MOUTH.profile
    return {
        "face_width": displacement(x=0.055 * _X / 0.7),
        "face_length": displacement(y=-0.055 * low + 0.03 * smoothstep(T, 0.1, 0.9)),
        "jaw_width": displacement(x=0.055 * jaw * _X / 0.6),
        "chin_length": displacement(y=-0.05 * smoothstep(T, -0.66, -0.98)),
        "chin_forward": displacement(z=0.06 * chin + 0.02 * jaw * np.exp(-((S / 0.5) ** 2))),
        "chin_width": displacement(
            x=0.05 * np.exp(-(((T + 0.9) / 0.12) ** 2)) * np.sin(np.clip(S / 0.35, -1.57, 1.57))
        ),
        "cheekbones": displacement(x=0.03 * cheek_side, z=0.03 * cheek),
        "cheek_fullness": displacement(x=0.04 * full_side, z=0.03 * full),
        "forehead_slope": displacement(z=0.05 * smoothstep(T, 0.2, 0.8) * np.exp(-((S / 0.9) ** 2))),
        "brow_depth": displacement(z=0.03 * brow),
        "brow_height": displacement(y=0.03 * np.exp(-(((T - 0.2) / 0.1) ** 2)) * np.exp(-((S / 0.6) ** 4))),
        "eye_distance": displacement(x=0.025 * eyes_side),
        "eye_size": displacement(y=lid_rise(0.016, -0.011)),
        "eye_tilt": displacement(y=0.022 * outer * np.sign(S) * (np.abs(S) - EYE_X) / 0.15),
        "eye_depth": displacement(z=-0.03 * eyes),
        "nose_length": displacement(y=-0.03 * nose * np.exp(-(((T + 0.36) / 0.14) ** 2))),
        "nose_width": displacement(x=0.028 * wings_side, z=0.012 * wings),
        "nose_bridge": displacement(z=0.035 * nose * np.exp(-(((T + 0.12) / 0.16) ** 2))),
        "nose_tip": displacement(y=0.02 * tip, z=0.04 * tip),
        "mouth_width": displacement(x=0.024 * corners_side),
        "mouth_height": displacement(y=0.02 * np.exp(-((S / 0.4) ** 4)) * np.exp(-(((T - MOUTH_T) / 0.13) ** 2))),
        "upper_lip": displacement(
            y=0.014 * MOUTH.upper * over * smoothstep(T, MOUTH_T, MOUTH_T + 0.05), z=0.022 * MOUTH.upper * over
        ),
        "lower_lip": displacement(
            y=-0.014 * MOUTH.lower * under * smoothstep(T, MOUTH_T, MOUTH_T - 0.05), z=0.022 * MOUTH.lower * under
        ),
        "ears": EAR_SIZE * EARS,
    }


_FIELDS = _traits()
TRAITS: tuple[str, ...] = tuple(_FIELDS)  # the names of the identity coefficients, in order
BASIS = merge_poles(np.stack(list(_FIELDS.values())))  # the identity basis, K x R x C x 3, per standard deviation


def sample_identity(rng: np.random.Generator) -> np.ndarray:
    """Draw identity coefficients: K independent normal numbers, clipped to 2 standard deviations."""
    return np.clip(rng.normal(0, 1, len(TRAITS)), -2, 2)
