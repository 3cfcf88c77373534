"""What the stages learn from: windows with a poke, or a still, later frames and the handles that explain them."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from stillmotion import geometry
from stillmotion.data.augment import AugmentParams, find_augmentation, transform_points
from stillmotion.data.clip import Clip, evenly
from stillmotion.data.flow import Flows, consistent, displacement_of, find_flow, flow_of, flows_of
from stillmotion.data.motion_estimate import MOVES, motion_of
from stillmotion.data.motion_truth import knows_motion
from stillmotion.data.plates import Plates
from stillmotion.data.sampling import ClipDataset, WindowDataset, to_tensor
from stillmotion.data.track_augment import augment_flow, source_places
from stillmotion.errors import StillmotionError
from stillmotion.systems.pokes.config import PokesConfig
from stillmotion.systems.pokes.poking import (
    foreground_candidates,
    motion_amount,
    motion_quantiles,
    normalise_flow,
    poke_map,
    simulate_pokes,
)

SLOTS = 3
"""Handles per sample, at most."""

MORE_HANDLES = 0.3
"""Share of the samples with further handles: points of the body whose motion is known."""

SWING = 20
"""Frames over which oscillators are compared with the path of a handle that is let go of."""

_CLEAR = 4.0  # pixels between a poke on the background and the body
_LENGTHS = (0.04, 0.25)  # of such pokes, in sides of the picture

TRIES = 50
"""Clips that are drawn for one sample, if flow leaves nothing to poke (release)."""

MOTION_FRAMES = 8
"""Frames of a clip whose motion is measured, for impulses."""


def moving_clips(clips: Sequence[Clip], config: PokesConfig) -> list[Clip]:
    """The clips that are long enough and in which something moves; says how many are left out.

    Raises:
        StillmotionError: there is none.
    """
    least = 2 if config.generator.fields else config.clip.frames * config.clip.frame_step + 1
    long = [clip for clip in clips if len(clip) >= least]
    moving = {clip.name: knows_motion(clip) or _moves(clip) for clip in {clip.name: clip for clip in long}.values()}
    kept = [clip for clip in long if moving[clip.name]]
    for count, reason in ((len(clips) - len(long), f"shorter than {least} frames"), (len(long) - len(kept), "still")):
        if count:
            print(f"Left out {count} of {len(clips)} clips, which are {reason}.", file=sys.stderr)
    if not kept:
        raise StillmotionError("No clip is long enough and moves: there is nothing to learn a poke's answer from.")
    return kept


def _moves(clip: Clip) -> bool:
    """Whether one pixel in a hundred moves between any of four frames and the first."""
    estimate = find_flow("dis:fast")
    flows = (estimate(clip.frames[0], clip.frames[int(t)]) for t in evenly(len(clip), 5)[1:])
    return any(np.percentile(np.linalg.norm(flow, axis=-1), 99) > MOVES for flow in flows)


# --- the paper's networks -------------------------------------------------------------------------------------------


class PokeDataset(WindowDataset):
    """Windows of `clip.frames` + 1 frames with a simulated poke (Sec. 3.2): `frames`, and `poke`, 2 x H x W pixels.

    A poke on the background has the still repeated as its video. Impulses have lengths of 0 to 1, small ones in clips
    that move little and large ones in those that move much (appendix B.1). With `poke.lengths` windows are as long as
    their poke asks for, and all of a batch equally long (release).
    """

    def __init__(self, clips: Sequence[Clip], config: PokesConfig, seed: int, batch: int = 1):
        augment, step = replace(find_augmentation(config.clip.augmentation), time_flip=0.0), config.clip.frame_step
        super().__init__(clips, seed, config.clip.frames + 1, augment, step=step, extra=self.simulate)
        self.config, self.estimate, self.batch = config, find_flow(), batch
        self.length: int | None = None  # the class of the sample that is made
        self.quantiles: dict[str, float] = {}
        if config.poke.interpretation == "impulse":
            amounts = {clip.name: self.motion_of(clip) for clip in clips}
            self.quantiles = dict(zip(amounts, motion_quantiles(list(amounts.values())).tolist(), strict=True))

    def motion_of(self, clip: Clip) -> float:
        """How much a clip moves from frame to frame, at some of its frames."""
        times = evenly(len(clip) - 1, MOTION_FRAMES)
        return motion_amount([flow_of(clip, int(t), int(t) + 1, self.estimate) for t in times])

    def __getitem__(self, index: int) -> dict[str, Any]:
        if lengths := self.config.poke.lengths:
            self.length = int(np.random.default_rng([self.seed, index // self.batch]).integers(lengths))
            self.size = self.config.clip.frames - lengths + 2 + self.length
        for attempt in range(TRIES):
            sample = super().__getitem__(index + attempt * len(self))
            if sample["poke"] is None:
                continue
            if sample.pop("background"):
                sample["frames"] = sample["frames"][:1].expand_as(sample["frames"]).clone()
            return sample
        way = "change poke.cutoff" if lengths else "use clips that move"
        raise StillmotionError(f"{TRIES} clips in a row have no pixel to poke: {way}.")

    def simulate(self, clip: Clip, indices: np.ndarray, params: AugmentParams) -> dict[str, Any]:
        """The poke of a window, whose flow is that between its first and last frame; None if there is none."""
        first, last = int(indices[0]), int(indices[-1])
        flow = augment_flow(flow_of(clip, first, last, self.estimate), params, source_places(params))
        rng, poke = _sample_rng(self.seed, clip, indices), self.config.poke
        if poke.interpretation == "impulse":
            flow = normalise_flow(flow, poke.largest)
        still, quantile = np.asarray(clip.frames[first]), self.quantiles.get(clip.name)
        found = simulate_pokes(flow, still, poke, rng, quantile, self.length)
        if found is None:
            return {"poke": None, "background": False}
        drawn = poke_map(found.pokes, params.out, poke.patch)
        return {"poke": torch.from_numpy(drawn), "background": found.background}


def _sample_rng(seed: int, clip: Clip, indices: np.ndarray) -> np.random.Generator:
    """Random numbers of a sample, which is itself a function of its number."""
    return np.random.default_rng([seed, zlib.crc32(clip.name.encode()), *map(int, indices)])


# --- fields ---------------------------------------------------------------------------------------------------------
class Moves(NamedTuple):
    """Handles of a clip at K frames, in pixels of its frames."""

    place: np.ndarray  # M x 2, in the still
    offset: np.ndarray  # K x M x 2
    velocity: np.ndarray  # K x M x 2, per frame
    held: np.ndarray  # K x M truth values


class MomentDataset(ClipDataset):
    """A still and `fields.moments` later frames of one clip, with what is known of their motion, handles and plate.

    Items hold `frames` (1 + K x 3 x H x W in [0, 1]), the truth as `motion_truths` gives it, `plate`, the fields of
    `Handles` of each frame (K x M ...) and what `swing_targets` gives. A share of the samples, `poke.background`,
    repeats the still and has a handle on the background. Motion that a clip does not know is estimated.
    """

    def __init__(self, clips: Sequence[Clip], config: PokesConfig, seed: int):
        # A poke's answer cannot be played backwards.
        augmentation = replace(find_augmentation(config.clip.augmentation), time_flip=0.0)
        super().__init__(clips, seed, augmentation, extra=self.known_targets)
        self.config, self.plates, self.estimate = config, Plates(), find_flow("dis:fast")

    def __getitem__(self, index: int) -> dict[str, Any]:
        for attempt in range(TRIES):
            sample = super().__getitem__(index + attempt * len(self))
            if sample["present"].any():  # else nothing moves in these frames
                break
        return sample

    def choose_frames(self, clip: Clip, rng: np.random.Generator) -> np.ndarray:
        """The still, and frames after it in order of time; or the still alone, repeated."""
        stage, still = self.config.fields, 0
        if not is_poked(clip):
            still = int(rng.integers(0, len(clip) - 1))
        if rng.random() < self.config.poke.background:
            return np.full(1 + stage.moments, still)
        later = rng.integers(1, min(stage.span, len(clip) - 1 - still) + 1, size=stage.moments)
        return np.concatenate([[still], still + np.sort(later)])

    def known_targets(self, clip: Clip, indices: np.ndarray, params: AugmentParams) -> dict[str, Any]:
        """Truth, plate and handles of a sample."""
        rng, flows = _sample_rng(self.seed, clip, indices), flows_of(clip, self.estimate)
        if indices[-1] == indices[0]:
            moves = background_moves(clip, indices, rng, flows)
        elif is_poked(clip):
            moves = world_moves(clip, indices, rng)
        else:
            moves = flow_moves(clip, indices, rng, flows, self.plates.figures(clip), self.config)
        return {
            **motion_of(clip, indices, params, flows, self.plates.figures),
            "plate": self.plates(clip, indices, params),
            **handle_tensors(moves, params),
            **swing_targets(clip, params),
        }


def is_poked(clip: Clip) -> bool:
    """Whether a clip begins at rest and knows how it is poked (the world `plants`)."""
    return "poke" in clip.meta and "path" in clip.tracks


def world_moves(clip: Clip, indices: np.ndarray, rng: np.random.Generator | None) -> Moves:
    """The poke of a made clip as handle, and at times other points of the body, whose motion is as well known.

    Without random numbers it is the poke alone.
    """
    path = np.asarray(clip.tracks["path"], np.float64)
    still, later = int(indices[0]), indices[1:]
    place, offset = [path[still]], [path[later] - path[still]]
    velocity = [path[later] - path[later - 1]]
    if rng is not None and rng.random() < MORE_HANDLES:
        rows, columns = np.nonzero(clip.tracks["parts"][still])
        for at in rng.integers(0, len(rows), size=rng.integers(1, SLOTS)) if len(rows) else ():
            point = np.array([columns[at], rows[at]], np.float64)
            ends, befores = (
                np.stack([displacement_of(clip, point, still, int(t)) for t in times]) for times in (later, later - 1)
            )
            place.append(point)
            offset.append(ends)
            velocity.append(ends - befores)
    held = np.repeat((later <= release_frame(clip))[:, None], len(place), axis=1)
    return Moves(np.stack(place), np.stack(offset, 1), np.stack(velocity, 1), held)


def flow_moves(
    clip: Clip,
    indices: np.ndarray,
    rng: np.random.Generator,
    flows: Flows,
    masks: np.ndarray,
    config: PokesConfig,
) -> Moves:
    """Handles where the flow to the last frame says that something moves, if possible on the still's figure.

    `masks` are those of the figure in all frames, T x H x W.
    """
    still, later = int(indices[0]), indices[1:]
    flow = flows(still, int(later[-1]))
    found = foreground_candidates(flow, config.poke) & (np.linalg.norm(flow, axis=-1) > 2 * MOVES)
    if not knows_motion(clip):
        figure = masks[still]
        found &= consistent(flow, flows(int(later[-1]), still))
        found &= figure if (found & figure).any() else True  # else what is uncovered seems to move as well
    rows, columns = np.nonzero(found)
    count = min(len(rows), 1 if rng.random() >= MORE_HANDLES else int(rng.integers(2, SLOTS + 1)))
    chosen = rng.choice(len(rows), size=count, replace=False) if count else np.zeros(0, int)
    rows, columns = rows[chosen], columns[chosen]

    def at(time: int) -> np.ndarray:
        return np.zeros((count, 2)) if time == still else flows(still, time)[rows, columns]

    offset = np.stack([at(int(t)) for t in later])
    velocity = offset - np.stack([at(int(t) - 1) for t in later])
    return Moves(np.stack([columns, rows], 1).astype(float), offset, velocity, np.ones((len(later), count), bool))


def farthest_move(clip: Clip, last: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """The pixel of a clip's first frame that surely moves farthest until another frame, and where it goes; (x, y).

    Raises:
        StillmotionError: none moves by a pixel.
    """
    flows = flows_of(clip, find_flow())
    flow = flows(0, last)
    sure = np.ones(flow.shape[:2], bool) if knows_motion(clip) else consistent(flow, flows(last, 0))
    length = np.linalg.norm(flow, axis=-1) * sure
    y, x = (int(place) for place in np.unravel_index(int(length.argmax()), length.shape))
    if length[y, x] < 1:
        raise StillmotionError(f"Nothing in the clip {clip.name!r} moves by a pixel, so no poke explains it.")
    return (float(x), float(y)), (float(x + flow[y, x, 0]), float(y + flow[y, x, 1]))


def background_moves(clip: Clip, indices: np.ndarray, rng: np.random.Generator, flows: Flows | None = None) -> Moves:
    """A held handle on the background, at which nothing moves."""
    still = int(indices[0])
    if "parts" in clip.tracks:
        body = np.asarray(clip.tracks["parts"][still]) > 0
    else:
        flow = (flows or flows_of(clip, find_flow()))(still, (still + len(clip) // 2) % len(clip))
        body = np.linalg.norm(flow, axis=-1) > MOVES
    away = cv2.distanceTransform((~body).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    rows, columns = np.nonzero(away >= min(_CLEAR, float(away.max())))
    at = int(rng.integers(len(rows)))
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(*_LENGTHS) * body.shape[1]
    vector = length * np.array([np.cos(angle), np.sin(angle)])
    count = len(indices) - 1
    offset, velocity = (rng.uniform(0, most, (count, 1, 1)) * vector for most in (1.0, 0.2))
    return Moves(np.array([[columns[at], rows[at]]], float), offset, velocity, np.ones((count, 1), bool))


def release_frame(clip: Clip) -> float:
    """The frame from which on no hand holds the poked place of a made clip."""
    poke = clip.meta["poke"]
    return {"drag": np.inf, "pluck": poke["rise"] + poke["hold"], "push": -1.0}[poke["kind"]]


def handle_tensors(moves: Moves, params: AugmentParams) -> dict[str, Tensor]:
    """Handles of K frames after an augmentation, filled up to `SLOTS`; the fields of `Handles`, K x M ... each."""
    frames, count = moves.offset.shape[:2]
    ends = moves.place + moves.offset
    # No handle: what is empty cannot be transformed.
    start, end, before = (
        transform_points(points, params) if count else ends for points in (moves.place, ends, ends - moves.velocity)
    )

    def filled(values: np.ndarray) -> Tensor:
        padded = np.zeros((frames, SLOTS, *values.shape[2:]), np.float32)
        padded[:, :count] = values
        return torch.from_numpy(padded)

    return {
        "place": geometry.to_normalised(filled(np.broadcast_to(start, end.shape)), params.out),
        "offset": geometry.displacement_to_normalised(filled(end - start), params.out),
        "velocity": geometry.displacement_to_normalised(filled(end - before), params.out),
        "held": filled(moves.held.astype(float)),
        "present": filled(np.ones((frames, count))),
    }


def swing_targets(clip: Clip, params: AugmentParams) -> dict[str, Tensor]:
    """How the poked place of a made clip moves when it is free, after an augmentation; normalised.

    Returns:
        `swing_place`, 2; `swing_start`, 2 x 2, offset and velocity at the start; `swing_pull`, T x 2, the offset that
        the force of each frame would hold; `swing_path`, T x 2, the offsets; `swing_known`, T, 1 where they are
        known, which is nowhere in a clip that does not know its poke.
    """
    known, offsets, pull, start, place = (np.zeros(s) for s in (SWING, (SWING, 2), (SWING, 2), (2, 2), 2))
    if is_poked(clip) and clip.meta["poke"]["kind"] != "drag":
        path, poke = np.asarray(clip.tracks["path"], np.float64), clip.meta["poke"]
        place, first = path[0], max(0, int(np.ceil(release_frame(clip))))
        count = max(0, min(SWING, len(path) - 1 - first))
        known[:count] = 1.0
        offsets[:count] = path[first + 1 : first + 1 + count] - place
        if 0 < first < len(path):
            start = np.stack([path[first] - place, path[first] - path[first - 1]])
        if poke["kind"] == "push":
            middle = np.arange(SWING) + 0.5
            force = np.where(middle < poke["rise"], np.sin(np.pi * middle / poke["rise"]) ** 2, 0.0)
            pull = force[:, None] * np.array(poke["displacement"])

    def moved(vectors: np.ndarray) -> Tensor:
        ends = transform_points(place + vectors, params) - transform_points(place[None], params)
        return geometry.displacement_to_normalised(torch.from_numpy(ends).float(), params.out)

    where = torch.from_numpy(transform_points(place[None], params)[0]).float()
    return {
        "swing_place": geometry.to_normalised(where, params.out),
        "swing_start": moved(start),
        "swing_pull": moved(pull),
        "swing_path": moved(offsets),
        "swing_known": torch.from_numpy(known).float(),
    }


def moment_sample(clip: Clip, times: np.ndarray) -> dict[str, Tensor]:
    """A sample of given frames without augmentation or further handles; the first is the still."""
    size = (clip.frames.shape[1], clip.frames.shape[2])
    params, plates, flows = AugmentParams(size, size), Plates(), flows_of(clip, find_flow("dis:fast"))
    if is_poked(clip):
        moves = world_moves(clip, times, None)
    else:
        moves = flow_moves(clip, times, np.random.default_rng(0), flows, plates.figures(clip), PokesConfig())
    return {
        "frames": to_tensor(clip.frames[times].astype(np.float32) / 255),
        **motion_of(clip, times, params, flows, plates.figures),
        "plate": plates(clip, times, params),
        **handle_tensors(moves, params),
    }
