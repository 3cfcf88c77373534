"""What the stages learn from: pairs of frames, then sequences of the keypoints that stage 1 finds in the clips.

Order of the work: train the detector on `pairs`, run it over every clip with `label`, train the motion generator on
`KeypointSequences` of the labelled clips.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from stillmotion.data.augment import augment_frames, centre_params, find_augmentation
from stillmotion.data.clip import Clip
from stillmotion.data.derived import derived_track, weights_digest
from stillmotion.data.sampling import Extra, PairDataset, balanced_index, clip_index, sample_rng, to_tensor
from stillmotion.errors import StillmotionError, StillmotionWarning
from stillmotion.nn.modes import eval_mode
from stillmotion.systems.actions.config import PairConfig, SequenceConfig

TRACK = "keypoints"
"""The derived track of `label`: n x K x 2, `float32`, (x, y) in [-1, 1]; ours n x K x 6, the covariance behind it."""

RIGID = 5
"""Pairs of keypoints that tell the size of a body."""

LEAST_DISTANCE = 0.02
"""Of two keypoints, normalised; nearer ones say nothing of the size."""

_MIRRORED = {"left": "right", "right": "left", "filmed": "mirrored", "mirrored": "filmed"}
"""Sides in a mirror; all others stay. A clip that does not say its side is `filmed`."""


# --- stage 1 --------------------------------------------------------------------------------------------------------


def pairs(clips: Sequence[Clip], seed: int, config: PairConfig, size: int, extra: Extra | None = None) -> PairDataset:
    """Pairs of frames, `source` and `driving`, 3 x `size` x `size` in [0, 1], augmented alike.

    The short side of a frame becomes `size`, nearest neighbour, and the long one is cropped at random.
    """
    augmentation = replace(find_augmentation(config.augmentation), crop=(size, size), fit_crop=True)
    balance = "action" if config.balance else None
    choose = partial(choose_pair, gap=config.gap)
    return PairDataset(clips, seed, augmentation, balance=balance, extra=extra, choose=choose)


def choose_pair(length: int, rng: np.random.Generator, gap: tuple[int, int]) -> tuple[int, int]:
    """A uniform frame, and one so many frames later; what runs over the clip's end begins anew (release)."""
    first = int(rng.integers(length))
    return first, (first + int(rng.integers(*gap, endpoint=True))) % length


def evaluation_pair(clip: Clip, size: int) -> dict[str, Any]:
    """Frames 0 and 10 of a clip, or its last, without augmentation; items as those of `pairs`."""
    source, driving = to_tensor(centred(clip.frames[[0, min(10, len(clip) - 1)]], size))
    return {"source": source, "driving": driving, "name": clip.name}


def centred(frames: np.ndarray, size: int) -> np.ndarray:
    """Frames with a short side of `size`, nearest neighbour, and their centre; `uint8` to `float32` in [0, 1]."""
    return augment_frames(frames, centre_params((frames.shape[1], frames.shape[2]), (size, size)))


# --- pseudo-labels --------------------------------------------------------------------------------------------------


def label(
    detector: nn.Module, clips: Sequence[Clip], *, size: int, folder: Path | str, settings: str = "", chunk: int = 64
) -> Sequence[Clip]:
    """Add the keypoints of every frame to clips, as the derived track `TRACK`; computed once, read afterwards.

    Args:
        detector: from N x 3 x `size` x `size` in [0, 1] to what `TRACK` says; runs in eval mode.
        clips: any number and length.
        size: see `centred`.
        folder: where tracks are stored, see `derived_track`.
        settings: a text that tells detectors with the same weights apart, such as their configuration.
        chunk: frames that go through the detector together.

    Raises:
        StillmotionError: a clip has such a track already, or the disk cannot be written.
    """
    key = f"{weights_digest(detector)} {size} {settings}"
    make = partial(_detect, detector, size=size, chunk=chunk)
    with eval_mode(detector):
        return derived_track(clips, TRACK, make, kind="values", key=key, folder=folder)


@torch.no_grad()
def _detect(detector: nn.Module, clip: Clip, size: int, chunk: int) -> np.ndarray:
    device = next((weight.device for weight in detector.parameters()), torch.device("cpu"))
    found = [
        detector(to_tensor(centred(clip.frames[start : start + chunk], size)).to(device)).float().cpu()
        for start in range(0, len(clip), chunk)
    ]
    return torch.cat(found).numpy()


# --- stage 2 --------------------------------------------------------------------------------------------------------


def starts_of(wanted: tuple[int, Any], seen: Sequence[tuple[int, Any]]) -> list[int]:
    """The clips whose poses may lead to an action as it is seen in a clip.

    A figure cannot be turned: where an action was filmed from the front and from the side, poses seen from the front
    lead to it as it is seen from there. Where it was not filmed from a pose's side, there is nothing better.

    Args:
        wanted: index of the action, and the clip's view (meta `view`, or None).
        seen: those of all clips.
    """
    action, view = wanted
    known = {place for one, place in seen if one == action}
    return [i for i, (_, place) in enumerate(seen) if place == view or place not in known]


class KeypointSequences(Dataset[dict[str, Any]]):
    """Keypoints of one clip over time (release); item n is a pure function of the seed and n.

    Items are dicts of `first`, K x C, the keypoints of the still; `points`, T x K x C, the `frames` - 1 that follow
    (a scale may move them out of [-1, 1]); `valid`, T, 0 behind the clip's end, where its last frame is repeated,
    else 1; the index `action`, -1 without actions; with sides the index `side`; and `name`.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        config: SequenceConfig,
        frames: int,
        seed: int,
        *,
        actions: Sequence[str] = (),
        sides: Sequence[str] = (),
        partners: Sequence[int] = (),
        augment: bool = True,
    ):
        """Read the keypoints of all clips.

        Args:
            clips: from `label`.
            config: which frames, and what happens to them.
            frames: of a sequence, the first one among them.
            seed: of the training, not negative.
            actions: what the model knows, in its order; none for a model without actions.
            sides: the same of sides, see `side_names`.
            partners: which keypoint each one is in a mirror; empty for itself, as those found without labels.
            augment: False takes every clip from its start and unchanged.

        Raises:
            StillmotionError: there are no clips, or one has no keypoints, a single frame, or an action or a side
                that is not known.
        """
        if not clips:
            raise StillmotionError("There are no clips to sample from.")
        found = list(clips)
        self.config, self.frames, self.seed, self.augment = config, frames, seed, augment
        self.sides, self.partners = tuple(sides), list(partners)
        self.names = [clip.name for clip in found]
        self.keypoints = [_keypoints(clip) for clip in found]
        self.actions = [action_index(clip, actions) if actions else -1 for clip in found]
        self.filmed = [_side(clip, self.sides) if sides else "" for clip in found]
        self.seen = [(action, clip.meta.get("view")) for action, clip in zip(self.actions, found, strict=True)]
        self.rigid = rigid_pairs(self.keypoints) if config.transition else np.empty((0, 2), int)
        self.starts = {each: starts_of(each, self.seen) for each in set(self.seen)}
        balanced = sorted(set(self.actions)) if config.balance else []
        self.classes = [[i for i, action in enumerate(self.actions) if action == one] for one in balanced]
        _report_short([len(keypoints) for keypoints in self.keypoints], config, frames)

    def __len__(self) -> int:
        """Samples per epoch, one per clip."""
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Any]:
        draw = partial(balanced_index, self.classes) if self.classes else partial(clip_index, len(self))
        clip = draw(index, self.seed)
        rng = sample_rng(self.seed, index) if self.augment else None
        times, valid = sequence_times(len(self.keypoints[clip]), self.config, self.frames, rng)
        keypoints, mirror = interpolate(self.keypoints[clip], times), False
        if rng is not None:
            if self.config.transition and rng.random() < 0.5:
                starts = self.starts[self.seen[clip]]
                other = self.keypoints[starts[int(rng.integers(len(starts)))]]
                pose = other[int(rng.integers(len(other)))]
                keypoints = come_from(pose, keypoints, self.config.transition, self.rigid)
            degrees, mirror, scale = _sample_changes(self.config, rng)
            keypoints = transform_keypoints(keypoints, degrees, mirror, scale)
            if mirror and self.partners:
                keypoints = keypoints[:, self.partners]
        moving = torch.from_numpy(keypoints.astype(np.float32))
        item = {
            "first": moving[0],
            "points": moving[1:],
            "valid": torch.from_numpy(valid[1:].astype(np.float32)),
            "action": self.actions[clip],
            "name": self.names[clip],
        }
        if self.sides:
            side = self.filmed[clip]
            item["side"] = self.sides.index(_MIRRORED.get(side, side) if mirror else side)
        return item


def sequence_times(
    length: int, config: SequenceConfig, count: int, rng: np.random.Generator | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Which frames of a clip make a sequence of `count`: times in [0, `length` - 1], and whether it lasts so long.

    With `step` 0 a sequence spans the clip, whatever its length (release): 33 frames as far apart as they can be, or
    17 neighbours and the midpoints between them. A shorter clip is stretched to 33 (ours). Starts are uniform, or 0
    without random numbers.
    """
    few, room = unstretched(count), 0
    if config.step:
        speed = 1.0 if rng is None else rng.uniform(*config.speed)
        times = speed * config.step * np.arange(float(count))
        room = length - 1 - math.ceil(times[-1])
    elif length >= count:
        gap = length // count
        times, room = gap * np.arange(float(count)), length - gap * count
    elif length >= few:
        times, room = np.linspace(0, few - 1, count), length - few
    else:
        times = np.linspace(0, length - 1, count)
    if rng is not None and room > 0:
        times = times + rng.integers(room, endpoint=True)
    return np.minimum(times, length - 1), times <= length - 1


def interpolate(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Values at times between frames, linearly; n x K x C and T to T x K x C. Whole times are exact."""
    before = np.floor(times).astype(int)
    after = np.minimum(before + 1, len(values) - 1)
    share = (times - before)[:, None, None]
    return np.asarray((1 - share) * values[before] + share * values[after])


def rigid_pairs(keypoints: Sequence[np.ndarray]) -> np.ndarray:
    """The pairs of keypoints whose distances change least within clips, such as hips and neck; at most 5 x 2.

    Their distances tell the size of a body in any pose, where the spread of all keypoints grows with arms held out:
    over the true size of made people it has a deviation of 22 %, these of 9 %.

    Args:
        keypoints: of each clip, T x K x C.
    """
    first, second = np.triu_indices(keypoints[0].shape[1], 1)
    change = [np.log(_distances(clip, first, second)).std(0) for clip in keypoints]
    best = np.argsort(np.mean(change, axis=0), kind="stable")[:RIGID]
    return np.stack([first[best], second[best]], axis=1)


def _distances(keypoints: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Between keypoints, ... x K x C to ... x pairs; not 0."""
    apart = keypoints[..., first, :2] - keypoints[..., second, :2]
    return np.maximum(np.linalg.norm(apart, axis=-1), LEAST_DISTANCE)


def come_from(pose: np.ndarray, keypoints: np.ndarray, frames: int, pairs: np.ndarray) -> np.ndarray:
    """A sequence that starts in a pose and takes so many frames to get into its own; T x K x C.

    The pose, K x C, is brought to the place and size that the sequence has at first, those of `rigid_pairs`.
    """
    core = np.unique(pairs) if len(pairs) else np.arange(len(pose))
    centre, there = pose[core, :2].mean(0), keypoints[0, core, :2].mean(0)
    ratios = np.log(_distances(keypoints[0], *pairs.T) / _distances(pose, *pairs.T))
    factor = float(np.exp(ratios.mean())) if len(pairs) else 1.0
    placed = np.array(pose)
    placed[:, :2] = (pose[:, :2] - centre) * factor + there
    placed[:, 2:] *= factor**2
    share = np.clip(np.arange(len(keypoints)) / frames, 0, 1)[:, None, None]
    share = share**2 * (3 - 2 * share)
    return np.asarray((1 - share) * placed + share * keypoints)


def transform_keypoints(keypoints: np.ndarray, degrees: float, mirror: bool, scale: float) -> np.ndarray:
    """Mirror left and right, turn x towards y, then scale about the middle of a square picture; ... x C, normalised.

    As `augment` does it with pictures. Points of a mirrored person are not exchanged: those found without labels have
    no sides.
    """
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    change = scale * turn @ np.diag([-1.0 if mirror else 1.0, 1.0])
    places = keypoints[..., :2] @ change.T
    if keypoints.shape[-1] == 2:
        return np.asarray(places)
    covariance = change @ keypoints[..., 2:].reshape(*keypoints.shape[:-1], 2, 2) @ change.T
    return np.concatenate([places, covariance.reshape(*keypoints.shape[:-1], 4)], axis=-1)


def _sample_changes(config: SequenceConfig, rng: np.random.Generator) -> tuple[int, bool, float]:
    low, high = (round(100 * factor) for factor in config.scale)
    degrees = int(rng.integers(-config.rotation, config.rotation, endpoint=True))
    return degrees, bool(rng.random() < config.flip), int(rng.integers(low, high, endpoint=True)) / 100


def _keypoints(clip: Clip) -> np.ndarray:
    if TRACK not in clip.tracks:
        raise StillmotionError(
            f"The clip {clip.name!r} has no track {TRACK!r}: label the clips with a detector first."
        )
    if len(clip) < 2:
        raise StillmotionError(f"The clip {clip.name!r} has one frame, which does not move: leave it out.")
    return np.array(clip.tracks[TRACK])


def unstretched(count: int) -> int:
    """The frames that give `count` with the midpoints between them: 17 for 33."""
    return (count + 1) // 2


def _report_short(lengths: Sequence[int], config: SequenceConfig, frames: int) -> None:
    least = (frames - 1) * config.step + 1 if config.step else unstretched(frames)
    if short := sum(length < least for length in lengths):
        answer = "the frames they lack are left out of the loss" if config.step else "they are played slower"
        print(f"{short} of {len(lengths)} clips have fewer than {least} frames; {answer}.", file=sys.stderr)


# --- actions and sides ----------------------------------------------------------------------------------------------


def action_names(clips: Sequence[Clip]) -> tuple[str, ...]:
    """The actions of clips, sorted; warns of those that a single clip shows.

    Raises:
        StillmotionError: a clip does not name its action.
    """
    counts = Counter(_action(clip) for clip in clips)
    if single := sorted(name for name, count in counts.items() if count == 1):
        warnings.warn(
            f"Each of these actions has a single clip, which is too little to learn it from: {', '.join(single)}.",
            StillmotionWarning,
            stacklevel=2,
        )
    return tuple(sorted(counts))


def action_index(clip: Clip, actions: Sequence[str]) -> int:
    """The place of a clip's action in a model's list.

    Raises:
        StillmotionError: the clip does not name its action, or the model does not know it.
    """
    action = _action(clip)
    if action not in actions:
        raise StillmotionError(
            f"The clip {clip.name!r} shows {action!r}, which is not among the model's actions {', '.join(actions)}."
        )
    return list(actions).index(action)


def check_action_count(actions: Sequence[str], count: int) -> None:
    """Raise `StillmotionError` unless a list names as many different actions as a model has, `count`."""
    if len(set(actions)) != len(actions) or len(actions) != count:
        named = ", ".join(actions) or "none"
        raise StillmotionError(f"The model has {count} actions, but its list names {len(set(actions))}: {named}.")


def side_names(clips: Sequence[Clip]) -> tuple[str, ...]:
    """The sides from which clips are seen (`meta["side"]`) and their mirrored ones, sorted.

    Clips that do not say theirs are `filmed`, and `mirrored` after a flip.
    """
    found = {str(clip.meta.get("side", "filmed")) for clip in clips}
    return tuple(sorted(found | {_MIRRORED.get(side, side) for side in found}))


def _action(clip: Clip) -> str:
    if "action" not in clip.meta:
        raise StillmotionError(
            f"The clip {clip.name!r} has no 'action' in its meta: name it, or train a model without actions."
        )
    return str(clip.meta["action"])


def _side(clip: Clip, sides: Sequence[str]) -> str:
    side = str(clip.meta.get("side", "filmed"))
    if not {side, _MIRRORED.get(side, side)} <= set(sides):
        raise StillmotionError(
            f"The clip {clip.name!r} is seen from {side!r}; the model knows the sides {', '.join(sides)}."
        )
    return side
