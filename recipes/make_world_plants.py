"""Draw the contact sheet of the plants, two per row: still, two frames after a poke, one after another, and flow.

The still shows the poke (red) and the other poke (blue). In the flow, hue is direction and brightness is speed.

python recipes/make_world_plants.py docs/worlds-plants.png
"""

from __future__ import annotations

import sys
from typing import Any

import cv2
import numpy as np

from stillmotion import media
from stillmotion.worlds import sample_clip

SEED, PLANTS, SIZE = 0, (14, 17, 32, 19, 33, 26), 96
SHOWN, OTHER, FLOW = (6, 12), 12, 4


def arrow(picture: np.ndarray, poke: dict[str, Any], colour: tuple[int, int, int]) -> None:
    """Draw a poke into the picture."""
    start = np.array(poke["place"])
    first, last = (tuple(np.round(16 * p).astype(int).tolist()) for p in (start, start + poke["displacement"]))
    cv2.arrowedLine(picture, first, last, colour, 1, cv2.LINE_AA, 4, 0.35)


def wheel(flow: np.ndarray) -> np.ndarray:
    """A flow as colours on black: hue is direction, brightness is length."""
    size, angle = np.hypot(flow[..., 0], flow[..., 1]), np.arctan2(flow[..., 1], flow[..., 0])
    hue = (angle / (2 * np.pi) % 1 * 180).astype(np.uint8)
    value = (255 * np.clip(size / max(float(np.percentile(size, 99.5)), 0.5), 0, 1) ** 0.6).astype(np.uint8)
    return cv2.cvtColor(np.stack([hue, np.full_like(hue, 230), value], -1), cv2.COLOR_HSV2RGB)


def sheet() -> np.ndarray:
    """Two plants per row."""
    rows = []
    for plant in PLANTS:
        clip = sample_clip("plants", SEED, plant, SIZE, max(*SHOWN, OTHER) + 1)
        still = clip.frames[0].copy()
        arrow(still, clip.meta["other_poke"], (70, 110, 255))
        arrow(still, clip.meta["poke"], (255, 50, 50))
        flow = wheel(clip.tracks["flow_forward"][FLOW].astype(np.float32))
        cells = [still, *(clip.frames[t] for t in SHOWN), clip.tracks["other_frames"][OTHER], flow]
        rows.append(np.concatenate(cells, axis=1))
    return np.concatenate([np.concatenate(rows[k : k + 2], axis=1) for k in range(0, len(rows), 2)], axis=0)


if __name__ == "__main__":
    media.write_picture(sys.argv[1], sheet(), overwrite=True)
