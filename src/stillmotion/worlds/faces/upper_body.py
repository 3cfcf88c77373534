"""Neck, shoulders and shirt: painted once per clip, static while the head moves."""

from __future__ import annotations

import numpy as np

from stillmotion.worlds.faces.appearance import Appearance
from stillmotion.worlds.sprites import Canvas, Sprite, ellipse
from stillmotion.worlds.textures import paint_fabric

_STATURES = 0.075  # per unit of the model: the unit of a fabric's period is a stature


def paint_upper_body(appearance: Appearance, neck: float, light_side: float, scale: float) -> Sprite:
    """Paint neck and shirt; (0, 0) is the model's origin, y down.

    Args:
        appearance: the person.
        neck: half the neck's width, in the model's units.
        light_side: side of the light, -1 left to +1 right.
        scale: pixels per unit of the model.
    """
    canvas = Canvas((-1.95, 0.25, 1.95, 1.95), scale)  # the largest part that a picture can show
    x, y = canvas.x, canvas.y
    # Neck: narrowest in its middle, widening into the shoulders.
    down = np.linspace(0.3, 1.75, 24)
    half = neck * (1.0 + 0.08 * ((down - 1.0) / 0.4) ** 2)
    outline = np.concatenate([np.stack([half, down], -1), np.stack([-half, down], -1)[::-1]])
    skin = np.array(appearance.skin, np.float32)
    light = 0.92 - 0.42 * np.abs(np.clip(x / neck, -1, 1) - 0.3 * light_side) ** 2.5
    light = light * (0.62 + 0.38 * np.clip((y - 0.95) / 0.45, 0, 1))  # the head's shadow
    canvas.fill(outline, skin * light[..., None])
    side = np.array(
        [[0, 1.22], [neck * 1.02, 1.24], [neck * 1.35, 1.42], [1.0, 1.58], [1.42, 1.72], [1.7, 2.0], [1.85, 2.7]]
    )
    shirt = np.concatenate([side, side[::-1] * np.array([-1, 1])])
    cloth = paint_fabric(appearance.top, x * _STATURES, y * _STATURES)
    folds = 1.0 - 0.18 * np.clip(np.abs(x) - 0.9, 0, 1) + 0.10 * light_side * np.clip(x, -1, 1)
    shirt_light = folds * (0.72 + 0.28 * np.clip((y - 1.2) / 0.4, 0, 1))
    canvas.fill(shirt, cloth * shirt_light[..., None])
    hem = ellipse(0, 1.235, neck * 1.16, 0.165 + 0.3 * appearance.collar)
    canvas.fill(hem, cloth * (0.72 * shirt_light)[..., None], clip=canvas.coverage(shirt))
    canvas.fill(ellipse(0, 1.24, neck * 1.06, 0.13 + 0.3 * appearance.collar), skin * light[..., None])
    return canvas.sprite()
