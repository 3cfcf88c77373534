"""When frames are shown: is a video evenly timed, and how it becomes so.

The rule: frame k of an even video stands for the time k / fps; an unevenly timed video shows there the last
source frame that began before (k + 1/2) / fps, which repeats some frames and drops others.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from stillmotion.media.limits import MediaError

# (seconds since the first frame, uint8 H x W x 3) in the order shown; a generator, so that it can be closed.
Timed = Generator[tuple[float, np.ndarray], None, None]

MIN_FPS, MAX_FPS = 0.01, 1000.0


@dataclass(frozen=True)
class Survey:
    """What is known of a video before its frames are decoded.

    Attributes:
        rate: frames per second if the frames follow each other evenly, None if not.
        mean_rate: frames per second over the whole.
        frames: how many frames there are.
        end: when the last frame ends, in seconds since the first.
        complete: whether the file holds all that it says it holds.
    """

    rate: float | None
    mean_rate: float
    frames: int
    end: float
    complete: bool


class DamagedError(Exception):
    """No further frame can be read from a file that should hold more; caught where frames are counted."""


def check_fps(fps: float, what: str = "The frame rate") -> float:
    """Return `fps` as a float; raise `MediaError` unless it lies between 0.01 and 1000."""
    if not MIN_FPS <= fps <= MAX_FPS:  # False for NaN too.
        raise MediaError(f"{what} must be a number between {MIN_FPS:g} and {MAX_FPS:g}, not {fps}.")
    return float(fps)


def even_rate(times: Sequence[float], candidates: Iterable[float | None]) -> float | None:
    """Find the rate at which frames follow each other evenly.

    Args:
        times: when each frame begins, in seconds, rising.
        candidates: rates that the file's header names, best first; the frames' own mean rate is tried last.

    Returns:
        The first rate that puts every frame less than half a frame from its place, None if there is none.
    """
    since = np.asarray(times, dtype=np.float64)
    since = since - since[0]
    rates = [rate for rate in candidates if rate is not None]
    if len(since) > 1 and since[-1] > 0:
        rates.append((len(since) - 1) / since[-1])
    order = np.arange(len(since))
    for rate in rates:
        if MIN_FPS <= rate <= MAX_FPS and np.all(np.abs(since * rate - order) < 0.5):
            return float(rate)
    return None


def first_slot(time: float, fps: float) -> int:
    """Return the first k with `time` before (k + 1/2) / fps, the first that shows what begins at `time`."""
    return math.floor(time * fps + 0.5 + 1e-6)


def resample(timed: Iterable[tuple[float, np.ndarray]], end: float, fps: float) -> Iterator[np.ndarray]:
    """Repeat and drop frames to reach a constant rate, by the rule above; holds one frame at a time.

    Args:
        timed: (seconds since the first frame, frame), in order.
        end: when the last frame ends, in seconds since the first frame.
        fps: the rate wanted.
    """
    held: np.ndarray | None = None
    slot = 0
    try:
        for time, frame in timed:
            while held is not None and slot < first_slot(time, fps):
                yield held
                slot += 1
            held = frame
    except DamagedError:
        # How long the last good frame was shown is not known: once.
        if held is not None:
            yield held
        raise
    while held is not None and slot < resampled_length(end, fps):
        yield held
        slot += 1


def resampled_length(end: float, fps: float) -> int:
    """Return how many frames `resample` makes of a video that ends after `end` seconds."""
    return max(1, first_slot(end, fps))
