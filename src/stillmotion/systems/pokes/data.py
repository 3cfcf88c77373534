"""What the stage `fields` learns from: a still, later frames of its clip, and the handles that explain them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stillmotion import geometry
from stillmotion.data.augment import AugmentParams, find_augmentation, transform_points
from stillmotion.data.clip import Clip
from stillmotion.data.motion_truth import motion_truths
from stillmotion.data.part_flow import flow_between
from stillmotion.data.plates import Plates
from stillmotion.data.sampling import ClipDataset, to_tensor
from stillmotion.systems.pokes.config import PokesConfig

SLOTS = 3
"""Handles per sample, at most."""

MORE_HANDLES = 0.3
"""Share of the samples with further handles: points of the body whose motion is known."""

SWING = 20
"""Frames over which oscillators are compared with the path of a handle that is let go of."""

_CLEAR = 4.0  # pixels between a poke on the background and the body
_LENGTHS = (0.04, 0.25)  # of such pokes, in sides of the picture


class Moves(NamedTuple):
    """Handles of a clip at K frames, in pixels of its frames."""

    place: np.ndarray  # M x 2, in the still
    offset: np.ndarray  # K x M x 2
    velocity: np.ndarray  # K x M x 2, per frame
    held: np.ndarray  # K x M truth values


class MomentDataset(ClipDataset):
    """A still and `fields.moments` later frames of one clip, with their truth, handles and plate.

    Items hold `frames` (1 + K x 3 x H x W in [0, 1]), what `motion_truths` gives, `plate`, the fields of `Handles` of
    each frame (K x M ...) and what `swing_targets` gives. A share of the samples, `poke.background`, repeats the still
    and has a handle on the background.
    """

    def __init__(self, clips: Sequence[Clip], config: PokesConfig, seed: int):
        # A poke's answer cannot be played backwards.
        augmentation = replace(find_augmentation(config.clip.augmentation), time_flip=0.0)
        super().__init__(clips, seed, augmentation, extra=self.known_targets)
        self.config, self.plates = config, Plates()

    def choose_frames(self, clip: Clip, rng: np.random.Generator) -> np.ndarray:
        """The still, and frames after it in order of time; or the still alone, repeated."""
        stage = self.config.fields
        if rng.random() < self.config.poke.background:
            return np.zeros(1 + stage.moments, int)
        later = rng.integers(1, min(stage.span, len(clip) - 1) + 1, size=stage.moments)
        return np.concatenate([[0], np.sort(later)])

    def known_targets(self, clip: Clip, indices: np.ndarray, params: AugmentParams) -> dict[str, Any]:
        """Truth, plate and handles of a sample."""
        # Drawn from the sample itself, which is a function of its number.
        rng = np.random.default_rng([self.seed, zlib.crc32(clip.name.encode()), *map(int, indices)])
        moves = background_moves(clip, indices, rng) if indices[-1] == indices[0] else world_moves(clip, indices, rng)
        return {
            **motion_truths(clip, indices, params),
            "plate": self.plates(clip, indices, params),
            **handle_tensors(moves, params),
            **swing_targets(clip, params),
        }


def world_moves(clip: Clip, indices: np.ndarray, rng: np.random.Generator | None) -> Moves:
    """The poke of a made clip as handle, and at times other points of the body, whose motion is as well known.

    Without random numbers it is the poke alone.
    """
    path = np.asarray(clip.tracks["path"], np.float64)
    still, later = int(indices[0]), indices[1:]
    place, offset = [path[still]], [path[later] - path[still]]
    velocity = [path[later] - path[later - 1]]
    held = later <= release_frame(clip)
    if rng is not None and rng.random() < MORE_HANDLES:
        parts = np.asarray(clip.tracks["parts"])
        rows, columns = np.nonzero(parts[still])
        for at in rng.integers(0, len(rows), size=rng.integers(1, SLOTS)) if len(rows) else ():
            point = np.array([columns[at], rows[at]], np.float64)
            moved = [displacement_of(clip, point, still, int(t)) for t in later]
            place.append(point)
            offset.append(np.stack(moved))
            velocity.append(offset[-1] - np.stack([displacement_of(clip, point, still, int(t) - 1) for t in later]))
    count = len(place)
    return Moves(
        np.stack(place), np.stack(offset, 1), np.stack(velocity, 1), np.repeat(held[:, None], count, axis=1)
    )


def displacement_of(clip: Clip, point: np.ndarray, first: int, last: int) -> np.ndarray:
    """How far the part at a pixel (x, y) of one frame has moved in another, 2 pixels."""
    if first == last:
        return np.zeros(2)
    x, y = (round(value) for value in point.tolist())
    flow = flow_between(clip.tracks["parts"][:, y : y + 1, x : x + 1], _moved_origin(clip, point), first, last)
    return np.asarray(flow[0, 0], np.float64)


def _moved_origin(clip: Clip, point: np.ndarray) -> np.ndarray:
    """The clip's `moves`, with the point (x, y) as the origin of pixels."""
    moves = np.asarray(clip.tracks["moves"], np.float64).copy()
    moves[..., 2] -= point
    return moves


def background_moves(clip: Clip, indices: np.ndarray, rng: np.random.Generator) -> Moves:
    """A held handle on the background, at which nothing moves."""
    import cv2

    height, width = clip.frames.shape[1:3]
    body = np.asarray(clip.tracks["parts"][0]) > 0
    away = cv2.distanceTransform((~body).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    rows, columns = np.nonzero(away >= min(_CLEAR, float(away.max())))
    at = int(rng.integers(len(rows)))
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(*_LENGTHS) * width
    vector = length * np.array([np.cos(angle), np.sin(angle)])
    shares = rng.uniform(0, 1, len(indices) - 1)
    offset = shares[:, None, None] * vector
    velocity = rng.uniform(0, 0.2, len(shares))[:, None, None] * vector
    return Moves(np.array([[columns[at], rows[at]]], float), offset, velocity, np.ones((len(shares), 1), bool))


def release_frame(clip: Clip) -> float:
    """The frame from which on no hand holds the poked place of a made clip."""
    poke = clip.meta["poke"]
    return {"drag": np.inf, "pluck": poke["rise"] + poke["hold"], "push": -1.0}[poke["kind"]]


def handle_tensors(moves: Moves, params: AugmentParams) -> dict[str, Tensor]:
    """Handles of K frames after an augmentation, filled up to `SLOTS`; the fields of `Handles`, K x M ... each."""
    frames, count = moves.offset.shape[:2]
    start = transform_points(moves.place, params)
    end = transform_points(moves.place + moves.offset, params)
    before = transform_points(moves.place + moves.offset - moves.velocity, params)
    filled = {
        "place": np.broadcast_to(start, end.shape),
        "offset": end - start,
        "velocity": end - before,
        "held": moves.held.astype(float),
        "present": np.ones((frames, count)),
    }
    made = {}
    for name, values in filled.items():
        padded = np.zeros((frames, SLOTS, *values.shape[2:]), np.float32)
        padded[:, :count] = values
        tensor = torch.from_numpy(padded)
        if name == "place":
            tensor = geometry.to_normalised(tensor, params.out)
        elif name in ("offset", "velocity"):
            tensor = geometry.displacement_to_normalised(tensor, params.out)
        made[name] = tensor
    return made


def swing_targets(clip: Clip, params: AugmentParams) -> dict[str, Tensor]:
    """How the poked place of a made clip moves when it is free, after an augmentation; normalised.

    Returns:
        `swing_place`, 2; `swing_start`, 2 x 2, offset and velocity at the start; `swing_pull`, T x 2, the offset that
        the force of each frame would hold; `swing_path`, T x 2, the offsets; `swing_known`, T, 1 where they are known.
    """
    path = np.asarray(clip.tracks["path"], np.float64)
    poke, vector = clip.meta["poke"], np.array(clip.meta["poke"]["displacement"])
    first = 0 if poke["kind"] == "push" else int(np.ceil(min(release_frame(clip), len(path))))
    known = np.zeros(SWING, np.float32)
    count = max(0, min(SWING, len(path) - 1 - first))
    known[:count] = 1.0
    offsets, pull, start = np.zeros((SWING, 2)), np.zeros((SWING, 2)), np.zeros((2, 2))
    if count:
        offsets[:count] = path[first + 1 : first + 1 + count] - path[0]
        start[0] = path[first] - path[0]
        start[1] = path[first] - path[first - 1] if first else 0.0
    if poke["kind"] == "push":
        middle = np.arange(SWING) + 0.5
        pull = np.where(middle < poke["rise"], np.sin(np.pi * middle / poke["rise"]) ** 2, 0.0)[:, None] * vector

    def moved(vectors: np.ndarray) -> Tensor:
        ends = transform_points(path[0] + vectors, params) - transform_points(path[:1], params)
        return geometry.displacement_to_normalised(torch.from_numpy(ends).float(), params.out)

    place = torch.from_numpy(transform_points(path[:1], params)[0]).float()
    return {
        "swing_place": geometry.to_normalised(place, params.out),
        "swing_start": moved(start),
        "swing_pull": moved(pull),
        "swing_path": moved(offsets),
        "swing_known": torch.from_numpy(known),
    }


def moment_sample(clip: Clip, times: np.ndarray) -> dict[str, Tensor]:
    """A sample of given frames without augmentation or further handles; the first is the still."""
    size = (clip.frames.shape[1], clip.frames.shape[2])
    params = AugmentParams(size, size)
    moves = world_moves(clip, times, None)
    return {
        "frames": to_tensor(clip.frames[times].astype(np.float32) / 255),
        **motion_truths(clip, times, params),
        "plate": Plates()(clip, times, params),
        **handle_tensors(moves, params),
    }
