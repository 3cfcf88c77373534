"""Draw the contact sheet of the puppets: a row per action, seven frames, and the flow and the joints of one of them.

python recipes/make_world_puppets.py docs/worlds-puppets.png
"""

from __future__ import annotations

import sys
from dataclasses import replace

import cv2
import numpy as np
from PIL import Image

from stillmotion.worlds.puppets import ACTIONS, render, sample_description

SEED, SIZE, MOMENTS = 3, 80, 7
STEPS = {"walk": 4, "jog": 3, "run": 3, "throw": 4, "swing": 5}  # frames between those shown; 4 for the rest
PEOPLE = {
    "wave1": 0,
    "wave2": 5,
    "jack": 2,
    "bend": 4,
    "walk": 14,
    "jog": 6,
    "run": 10,
    "squat": 12,
    "swing": 8,
    "throw": 1,
}


def coloured(flow: np.ndarray) -> np.ndarray:
    """H x W x 3 uint8: the hue is the flow's direction, the brightness its length, white from 6 pixels on."""
    angle = np.degrees(np.arctan2(flow[..., 1], flow[..., 0])) % 360
    length = np.clip(np.linalg.norm(flow, axis=-1) / 6, 0, 1)
    hsv = np.stack([angle / 2, np.full_like(angle, 200), 255 * length], axis=-1)
    return cv2.cvtColor(np.round(hsv).astype(np.uint8), cv2.COLOR_HSV2RGB)


def row(action: str) -> np.ndarray:
    """The frames of one person's action, then the flow at the fifth with the visible joints."""
    puppet = sample_description(np.random.default_rng([SEED, PEOPLE[action]]), action)
    puppet = replace(puppet, scene=replace(puppet.scene, noise=0.0))
    step = STEPS.get(action, 4)
    video, tracks = render(puppet, SIZE, (MOMENTS - 1) * step + 1)
    fifth = 4 * step
    picture = coloured(tracks["flow_forward"][fifth].astype(np.float32))
    for x, y, visible in tracks["joints"][fifth]:
        if visible:
            cv2.circle(picture, (round(float(x)), round(float(y))), 1, (255, 255, 255), -1)
    return np.concatenate([*video[::step], picture], axis=1)


if __name__ == "__main__":
    sheet = Image.fromarray(np.concatenate([row(action) for action in ACTIONS], axis=0))
    # A palette keeps the file below 250 kB.
    sheet.quantize(256, dither=Image.Dither.NONE).save(sys.argv[1], optimize=True)
