"""What is asked of a model on a clip, and the trivial answers it has to beat."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from stillmotion.animate import Animator
from stillmotion.controls import Drive
from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionError

Answer = Callable[[Clip], np.ndarray]
"""Takes a clip, gives frames T x H x W x 3 `uint8` to compare with the clip's own."""


@dataclass(frozen=True)
class Protocol:
    """A way to measure.

    Attributes:
        name: as on the command line.
        definition: what is done, in a sentence.
        answer: turns a model into something that answers clips.
        baselines: trivial answers by name.
    """

    name: str
    definition: str
    answer: Callable[[Animator], Answer]
    baselines: Mapping[str, Answer]


def copy_still(clip: Clip) -> np.ndarray:
    """Every frame is the first one."""
    return np.repeat(clip.frames[:1], len(clip), axis=0)


def mean_frame(clip: Clip) -> np.ndarray:
    """Every frame is the mean of all frames (it has seen the answer)."""
    mean = np.rint(np.asarray(clip.frames, dtype=np.float64).mean(axis=0)).astype(np.uint8)
    return np.repeat(mean[None], len(clip), axis=0)


def reconstruct(animator: Animator) -> Answer:
    """Frame 0 as the still, the clip itself as the driving video, absolute keypoints, the clip's own size."""

    def answer(clip: Clip) -> np.ndarray:
        frames = np.asarray(clip.frames)
        return animator(frames[0], Drive(frames, transfer="absolute")).frames()

    return answer


PROTOCOLS: Mapping[str, Protocol] = {
    "reconstruction": Protocol(
        "reconstruction",
        "frame 0 of each clip is the still and the whole clip its driving video, absolute keypoints, the clip's size",
        reconstruct,
        {"copy the still": copy_still, "mean frame": mean_frame},
    )
}


def find_protocol(name: str) -> Protocol:
    """Look a protocol up.

    Raises:
        StillmotionError: there is none of this name.
    """
    if name not in PROTOCOLS:
        raise StillmotionError(f"There is no protocol {name!r}; known are {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]
