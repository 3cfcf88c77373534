"""Draw the contact sheet of a world in docs/worlds.md.

python recipes/make_world_sheets.py arm docs/worlds-arm.png  # likewise digits, faces, plants, puppets
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from PIL import Image

from stillmotion import media
from stillmotion.worlds import faces, puppets, sample_clip


def clips_sheet(world: str, moments: tuple[int, ...], size: int = 80, rows: int = 4, seed: int = 7) -> np.ndarray:
    """Two columns of clips, each a strip of some frames."""
    strips = []
    for index in range(2 * rows):
        video = sample_clip(world, seed, index, size, moments[-1] + 1).frames
        strips.append(np.concatenate([video[t] for t in moments], axis=1))
    gap = np.full((size, 6, 3), 255, np.uint8)
    return np.concatenate([np.concatenate([strips[k], gap, strips[k + rows]], axis=1) for k in range(rows)], axis=0)


def with_step_onset(face: faces.Face, emotion: str) -> faces.Face:
    """The same person at the apex of an emotion from the second frame on, without blinks."""
    made = faces.sample_description(np.random.default_rng([0, 100]), emotion).performance
    made = replace(made, start=0.0, onset=1.0, apex=10.0, blinks=(100.0, 100.0), place=(0.5, 0.5, 0.36))
    return replace(face, performance=replace(made, rest=face.performance.rest))


def faces_sheet(people: tuple[int, ...] = (5, 1, 7, 19), size: int = 84) -> np.ndarray:
    """A row per person: neutral, the six emotions, and the normal map of happiness."""
    rows = []
    for person in people:
        face = faces.sample_description(np.random.default_rng([0, person]))
        clips = {emotion: faces.render(with_step_onset(face, emotion), size, 2) for emotion in faces.EMOTIONS}
        video, tracks = clips["happiness"]
        normals = tracks["normals"][1].astype(np.float32)
        shown = np.where((normals != 0).any(-1, keepdims=True), 127.5 * (normals + 1), 0).astype(np.uint8)
        rows.append(np.concatenate([video[0], *(frames[1] for frames, _ in clips.values()), shown], axis=1))
    return np.concatenate(rows, axis=0)


def draw_poke(picture: np.ndarray, poke: dict[str, Any], colour: tuple[int, int, int]) -> None:
    """Draw a poke as an arrow."""
    start = np.array(poke["place"])
    first, last = (tuple(np.round(16 * p).astype(int).tolist()) for p in (start, start + poke["displacement"]))
    cv2.arrowedLine(picture, first, last, colour, 1, cv2.LINE_AA, 4, 0.35)


def plants_flow(flow: np.ndarray) -> np.ndarray:
    """H x W x 3 uint8: the hue is the flow's direction, the brightness its relative length."""
    size, angle = np.hypot(flow[..., 0], flow[..., 1]), np.arctan2(flow[..., 1], flow[..., 0])
    hue = (angle / (2 * np.pi) % 1 * 180).astype(np.uint8)
    value = (255 * np.clip(size / max(float(np.percentile(size, 99.5)), 0.5), 0, 1) ** 0.6).astype(np.uint8)
    return cv2.cvtColor(np.stack([hue, np.full_like(hue, 230), value], -1), cv2.COLOR_HSV2RGB)


def plants_sheet(plants: tuple[int, ...] = (14, 17, 32, 19, 33, 26), size: int = 96) -> np.ndarray:
    """Two plants per row: the still with its pokes (red, blue), two frames, the counterfactual, the flow."""
    strips = []
    for plant in plants:
        clip = sample_clip("plants", 0, plant, size, 13)
        still = clip.frames[0].copy()
        draw_poke(still, clip.meta["other_poke"], (70, 110, 255))
        draw_poke(still, clip.meta["poke"], (255, 50, 50))
        flow = plants_flow(clip.tracks["flow_forward"][4].astype(np.float32))
        cells = [still, clip.frames[6], clip.frames[12], clip.tracks["other_frames"][12], flow]
        strips.append(np.concatenate(cells, axis=1))
    return np.concatenate([np.concatenate(strips[k : k + 2], axis=1) for k in range(0, len(strips), 2)], axis=0)


def puppets_flow(flow: np.ndarray) -> np.ndarray:
    """H x W x 3 uint8: the hue is the flow's direction, the brightness its length, full from 6 pixels on."""
    angle = np.degrees(np.arctan2(flow[..., 1], flow[..., 0])) % 360
    length = np.clip(np.linalg.norm(flow, axis=-1) / 6, 0, 1)
    hsv = np.stack([angle / 2, np.full_like(angle, 200), 255 * length], axis=-1)
    return cv2.cvtColor(np.round(hsv).astype(np.uint8), cv2.COLOR_HSV2RGB)


# action: the index of the person, and the frames from moment to moment
PEOPLE = {
    "wave1": (0, 4), "wave2": (5, 4), "jack": (2, 4), "bend": (4, 4), "walk": (14, 4), "jog": (6, 3), "run": (10, 3),
    "squat": (12, 4), "swing": (8, 5), "throw": (1, 4),
}  # fmt: skip


def puppets_sheet(size: int = 80, moments: int = 7) -> np.ndarray:
    """A row per action: seven moments, and the flow at the fifth with the visible joints."""
    rows = []
    for action, (person, step) in PEOPLE.items():
        puppet = puppets.sample_description(np.random.default_rng([3, person]), action)
        puppet = replace(puppet, scene=replace(puppet.scene, noise=0.0))
        video, tracks = puppets.render(puppet, size, (moments - 1) * step + 1)
        picture = puppets_flow(tracks["flow_forward"][4 * step].astype(np.float32))
        for x, y, visible in tracks["joints"][4 * step]:
            if visible:
                cv2.circle(picture, (round(float(x)), round(float(y))), 1, (255, 255, 255), -1)
        rows.append(np.concatenate([*video[::step], picture], axis=1))
    return np.concatenate(rows, axis=0)


SHEETS: dict[str, Callable[[], np.ndarray]] = {
    "arm": lambda: clips_sheet("arm", (0, 10, 20)),
    "digits": lambda: clips_sheet("digits", (0, 3, 6, 9, 12, 15)),
    "faces": faces_sheet,
    "plants": plants_sheet,
    "puppets": puppets_sheet,
}

if __name__ == "__main__":
    world, out = sys.argv[1:]
    if world == "puppets":  # a palette keeps the file below 250 kB
        image = Image.fromarray(puppets_sheet())
        image.quantize(256, dither=Image.Dither.NONE).save(out, optimize=True)
    else:
        media.write_picture(out, SHEETS[world](), overwrite=True)
