"""The mean face, and the identity basis: how a person's face differs from it, a displacement field per trait."""

from __future__ import annotations

import numpy as np

from stillmotion.worlds.easing import smoothstep
from stillmotion.worlds.faces.fields import displacement, gaussian, lid_rise, merge_poles, mirrored_gaussian
from stillmotion.worlds.faces.grid import AZIMUTH, EYE_HALF, EYE_X, EYES, MOUTH, MOUTH_HALF, MOUTH_T, ROW_T, S, T


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
