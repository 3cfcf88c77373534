"""Cases of the protocol `pokes`: a still, one poke and its true outcome.

Of a clip of the world `plants` there are three: its own poke and the other poke, both with their true outcome, and a
poke of the background, whose true outcome is a still video. Any other clip is cut into windows, each with a poke
simulated from the optical flow between its first and its last frame (Blattmann et al., CVPR 2021, Sec. 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from stillmotion.data.clip import Clip, evenly
from stillmotion.data.flow import find_flow
from stillmotion.errors import StillmotionError
from stillmotion.evaluation.protocols.columns import Case

LENGTH = 10  # frames after the still
WINDOWS = 8  # of a clip without known motion, at most
SEED = 0  # of the places of background pokes, and of the poked pixels of clips that know no motion
SHORTEST = 1 / 32  # of the width: a shorter poke asks for no motion that could be measured
CLEARANCE = 6  # pixels between a background poke and what moves
BORDER = 3  # pixels along the sides where the flow is not taken for a poke

Kind = Literal["own", "other", "background"]


@dataclass(frozen=True, eq=False)
class PokeCase(Case):
    """A still and a poke; `target` is its true outcome, `LENGTH` frames after the still."""

    kind: Kind
    start: np.ndarray  # (x, y) of the poked point in the still, pixels
    end: np.ndarray  # where it is to be in the last frame
    other_last: np.ndarray | None = None  # the last frame of another poke on this still, H x W x 3, if there is one


def as_poke(case: Case) -> PokeCase:
    """The same case, known to be of a poke."""
    assert isinstance(case, PokeCase)
    return case


def poke_cases(clips: Sequence[Clip]) -> list[Case]:
    """All cases of the clips.

    Raises:
        StillmotionError: a clip is too short, or no clip has a poke.
    """
    cases: list[Case] = []
    for i, clip in enumerate(clips):
        if len(clip) <= LENGTH:
            raise StillmotionError(
                f"Clip {clip.name!r} has {len(clip)} frames; the protocol pokes needs {LENGTH + 1}: prepare longer "
                "clips."
            )
        rng = np.random.default_rng([SEED, i])
        cases += world_cases(clip, rng) if "other_frames" in clip.tracks else simulated_cases(clip, rng)
    if not cases:
        raise StillmotionError("Nothing moves in these clips; take others.")
    return cases


def world_cases(clip: Clip, rng: np.random.Generator) -> list[Case]:
    """The cases `own`, `other` and `background` of a clip that knows both outcomes; pokes under `SHORTEST` have none.

    The poke goes to where the poked point is in the last frame, as pokes that are simulated from flow do.
    """
    videos = [np.asarray(video)[: LENGTH + 1] for video in (clip.frames, clip.tracks["other_frames"])]
    ends = [np.asarray(clip.tracks[name], np.float64)[[0, LENGTH]] for name in ("path", "other_path")]
    lasting = [is_long(start, end, clip) for start, end in ends]
    others = [videos[1][-1], videos[0][-1]] if all(lasting) else [None, None]
    still, (start, end), (other_start, other_end) = videos[0][0], *ends
    cases: list[Case] = []
    if lasting[0]:
        cases.append(PokeCase(clip.name, still, videos[0], clip, "own", start, end, others[0]))
    if lasting[1]:
        name = f"{clip.name}--other"
        cases.append(PokeCase(name, still, videos[1], clip, "other", other_start, other_end, others[1]))
    place = background_place(clip, end - start, rng) if lasting[0] else None
    if place is not None:
        rest = np.repeat(still[None], LENGTH + 1, axis=0)
        name = f"{clip.name}--background"
        cases.append(PokeCase(name, still, rest, clip, "background", place, place + end - start))
    return cases


def is_long(start: np.ndarray, end: np.ndarray, clip: Clip) -> bool:
    """Whether a poke is long enough to be measured."""
    return bool(np.linalg.norm(end - start) >= SHORTEST * clip.frames.shape[2])


def background_place(clip: Clip, vector: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """A random pixel (x, y) far from what moves, from which the vector stays inside the picture; None without one."""
    moving = (np.asarray(clip.tracks["mask"])[: LENGTH + 1] > 0).any(axis=0)
    away = cv2.distanceTransform(np.where(moving, 0, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    y, x = np.nonzero(away >= CLEARANCE)
    ends, (height, width) = np.stack([x, y], axis=1) + vector, moving.shape
    inside = ((ends >= 0) & (ends <= (width - 1, height - 1))).all(axis=1)
    found = np.flatnonzero(inside)
    if len(found) == 0:
        return None
    at = found[rng.integers(len(found))]
    return np.array([x[at], y[at]], np.float64)


def simulated_cases(clip: Clip, rng: np.random.Generator) -> list[Case]:
    """The cases of a clip without known motion: windows, evenly chosen, in which something moves.

    The first begins with the clip; real things often rest before they are poked.
    """
    cases: list[Case] = []
    whole = (len(clip) - 1) // LENGTH
    for start in (evenly(whole, WINDOWS) * LENGTH).tolist():
        frames = np.asarray(clip.frames[start : start + LENGTH + 1])
        name = f"{clip.name}--{start}" if start else clip.name
        place, end = simulated_poke(flow_from_first_to_last(frames), rng)
        if is_long(place, end, clip):
            window = Clip(name, frames, clip.fps, meta=clip.meta)
            cases.append(PokeCase(name, frames[0], frames, window, "own", place, end))
    return cases


def simulated_poke(motion: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random pixel that moves clearly more than the mean, and where the flow takes it; (x, y) each.

    Args:
        motion: forward flow, H x W x 2 pixels.
        rng: chooses among the pixels above mean + 2 deviations; without one, above mean + 1, above the mean, all.
    """
    amplitude = np.linalg.norm(motion, axis=-1)
    inside = np.zeros(amplitude.shape, bool)
    inside[BORDER:-BORDER, BORDER:-BORDER] = True
    mean, deviation = amplitude[inside].mean(), amplitude[inside].std()
    levels = (mean + 2 * deviation, mean + deviation, mean, -1.0)
    y, x = next(found for level in levels if len((found := np.nonzero(inside & (amplitude > level)))[0]))
    at = rng.integers(len(x))
    start = np.array([x[at], y[at]], np.float64)
    return start, start + motion[y[at], x[at]]


def flow_from_first_to_last(frames: np.ndarray) -> np.ndarray:
    """Forward optical flow (DIS) from the first to the last of T frames; H x W x 2 pixels, float32."""
    return find_flow()(frames[0], frames[-1])
