"""Stateless sampling: sample number n of a training is a function of the seed and n, and of nothing else.

A run that stops at any step and starts again at that step sees exactly the samples that it would have seen,
without a stored state; N processes that each take their part of every batch see together what one process
with the whole batch sees. Sample numbers count 0, 1, 2, ... over the whole training, not over an epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from stillmotion.data.augment import Augmentation, AugmentParams, augment_frames, sample_params
from stillmotion.data.clip import Clip
from stillmotion.data.track_augment import augment_tracks, track_kind
from stillmotion.errors import StillmotionError

# Families of random numbers that come from one seed: samples, orders of epochs, and orders of balanced sampling.
_SAMPLES, _ORDERS, _CLASS_ORDERS, _ORDERS_IN_CLASS = range(4)

Choose = Callable[[int, np.random.Generator], tuple[int, int]]
Extra = Callable[[Clip, np.ndarray, AugmentParams], dict[str, Any]]
Usable = Callable[[Clip], np.ndarray]


def sample_rng(seed: int, index: int) -> np.random.Generator:
    """The random numbers of sample `index`, independent between samples and between seeds (neither is negative)."""
    # A spawn key and not `SeedSequence([seed, index])`: short lists are padded with zeros there, so that
    # [s, i] and [s, i, 0] would be the same numbers.
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_SAMPLES, index)))


@lru_cache(maxsize=64)
def _order(count: int, seed: int, *key: int) -> np.ndarray:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key)).permutation(count)


def samples_per_epoch(n_clips: int, drop_batch: int | None = None) -> int:
    """Count the samples of one epoch: one per clip, or as many whole batches of `drop_batch` as there are.

    Raises:
        StillmotionError: there are no clips, or not enough for one batch.
    """
    if n_clips < 1:
        raise StillmotionError("There are no clips to sample from.")
    if drop_batch is None:
        return n_clips
    if not 1 <= drop_batch <= n_clips:
        raise StillmotionError(
            f"A batch of {drop_batch} cannot be filled from {n_clips} clips: take a smaller batch or let "
            "batches run over the end of an epoch."
        )
    return n_clips // drop_batch * drop_batch


def clip_index(n_clips: int, index: int, seed: int, *, drop_batch: int | None = None) -> int:
    """Tell which clip (0 to `n_clips` - 1) sample `index` is from: an epoch visits every clip once, in its own order.

    With `drop_batch` an epoch ends after its last whole batch of this size (over all processes) and the clips left
    over are not seen in that epoch; else batches run on into the next epoch.
    """
    epoch, position = divmod(index, samples_per_epoch(n_clips, drop_batch))
    return int(_order(n_clips, seed, _ORDERS, epoch)[position])


def balanced_index(classes: Sequence[Sequence[int]], index: int, seed: int) -> int:
    """Tell which clip sample `index` is from if classes are to come equally often; `classes` number their clips.

    Every round of len(`classes`) samples takes one clip of each class, in an order of its own; within a class, every
    clip comes once before any comes again.
    """
    turn, position = divmod(index, len(classes))
    label = int(_order(len(classes), seed, _CLASS_ORDERS, turn)[position])
    members = classes[label]
    epoch, place = divmod(turn, len(members))
    return members[int(_order(len(members), seed, _ORDERS_IN_CLASS, label, epoch)[place])]


def _classes(clips: Sequence[Clip], key: str) -> list[list[int]]:
    """The numbers of the clips with each value of `meta[key]`, in the order of the values' texts."""
    members: dict[str, list[int]] = {}
    for number, clip in enumerate(clips):
        if key not in clip.meta:
            raise StillmotionError(
                f"The clip {clip.name!r} has no {key!r} in its meta to balance by: leave the clip out or add it."
            )
        members.setdefault(str(clip.meta[key]), []).append(number)
    return [members[value] for value in sorted(members)]


def pair(length: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draw two frames uniformly with replacement and put them in order of time (both may be the same)."""
    first, second = sorted(rng.integers(0, length, size=2).tolist())
    return first, second


def window(
    length: int, size: int, rng: np.random.Generator, step: int = 1, usable: np.ndarray | None = None
) -> np.ndarray:
    """Draw the ascending indices of `size` frames, `step` apart, at a uniform place of a clip of `length` frames.

    With `usable`, a bool per frame, only windows of frames that all are usable are drawn.

    Raises:
        StillmotionError: the clip is too short, or has no such window.
    """
    if usable is not None:
        starts = window_starts(usable, size, step)
        if len(starts) == 0:
            raise StillmotionError(
                f"The clip has no {size} usable frames at a step of {step} in a row; leave it out."
            )
        return int(starts[rng.integers(0, len(starts))]) + step * np.arange(size)
    span = (size - 1) * step + 1
    if size < 1 or step < 1 or length < span:
        raise StillmotionError(
            f"{size} frames at a step of {step} cannot be taken from a clip of {length} frames: use longer "
            "clips or a shorter window."
        )
    return int(rng.integers(0, length - span + 1)) + step * np.arange(size)


def window_starts(usable: np.ndarray, size: int, step: int = 1) -> np.ndarray:
    """Where windows of `size` frames, `step` apart, can start so that all their frames are usable (bool each)."""
    places = len(usable) - (size - 1) * step
    good = [usable[k * step : k * step + places] for k in range(size)] if places > 0 else [np.zeros(0, bool)]
    return np.flatnonzero(np.logical_and.reduce(good))


def to_tensor(frames: np.ndarray) -> torch.Tensor:
    """Turn float frames T x H x W x C into a contiguous tensor T x C x H x W."""
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2), dtype=np.float32))


def track_to_tensor(values: np.ndarray, kind: str) -> torch.Tensor:
    """Turn a track of a kind (see `track_augment.KINDS`), from `augment_tracks`, into a tensor.

    `rgb`, `map` and `normals` become T x C x H x W, with C = 1 for a map without channels; everything else stays as
    it is, flow with (x, y) last. Integers other than `uint8` become `int64`.
    """
    if kind in ("rgb", "map", "normals"):
        return to_tensor(values if values.ndim == 4 else values[..., None])
    if values.dtype.kind in "iu" and values.dtype != np.uint8:
        values = values.astype(np.int64)
    return torch.from_numpy(np.ascontiguousarray(values))


class ClipDataset(Dataset[dict[str, Any]]):
    """Frames of one clip with its tracks, augmented alike; the base of the three samplers below.

    Item n is sample number n of the training, for any n >= 0, and a function of the seed and n alone: a dict of the
    frames, `name`, one entry per track (see `track_to_tensor`), and what `extra` adds. Another sampler overrides
    `choose_frames`, and `arrange` if its frames are not a run called `frames`.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        seed: int,
        augmentation: Augmentation | None = None,
        *,
        tracks: Sequence[str] = (),
        drop_batch: int | None = None,
        balance: str | None = None,
        usable: Usable | None = None,
        extra: Extra | None = None,
    ):
        """Sample from clips.

        Args:
            clips: what to sample from.
            seed: of the training, not negative.
            augmentation: what may happen to a sample; nothing if None.
            tracks: names of tracks to add, moved as the frames are (see `track_augment.augment_tracks`).
            drop_batch: see `clip_index`.
            balance: a key of the clips' meta, such as `action`: clips are drawn so that each of its values comes
                equally often (see `balanced_index`) and not each clip.
            usable: `usable(clip)` tells which frames may be taken, one bool per frame; None for all.
            extra: `extra(clip, indices, params)` returns a dict of more values for this sample. `indices` are the
                chosen frames before a flip in time, and `params` is what the augmentation did to them.

        With worker processes `usable` and `extra` must be module-level functions, or `functools.partial` of such.

        Raises:
            StillmotionError: there are no clips, `drop_batch` cannot be filled or is combined with `balance`, or a
                clip's meta lacks the key `balance`.
        """
        samples_per_epoch(len(clips), drop_batch)
        if balance is not None and drop_batch is not None:
            raise StillmotionError("Balanced sampling has no epochs of clips: leave drop_batch or balance out.")
        self.clips, self.seed = clips, seed
        self.augmentation = augmentation or Augmentation()
        self.tracks, self.drop_batch, self.usable, self.extra = tuple(tracks), drop_batch, usable, extra
        self.classes = None if balance is None else _classes(clips, balance)

    def __len__(self) -> int:
        """Samples per epoch; larger numbers are valid too and belong to later epochs."""
        return samples_per_epoch(len(self.clips), self.drop_batch)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.classes is None:
            clip = self.clips[clip_index(len(self.clips), index, self.seed, drop_batch=self.drop_batch)]
        else:
            clip = self.clips[balanced_index(self.classes, index, self.seed)]
        rng = sample_rng(self.seed, index)
        chosen = self.choose_frames(clip, rng)
        frames = clip.frames[chosen]
        params = sample_params(frames.shape[1:3], rng, self.augmentation)
        moved = augment_tracks(clip, self.tracks, chosen, params)
        tracks = {name: track_to_tensor(values, track_kind(name, clip.meta)) for name, values in moved.items()}
        more = self.extra(clip, chosen, params) if self.extra else {}
        return {**self.arrange(to_tensor(augment_frames(frames, params)), tracks), "name": clip.name, **more}

    def choose_frames(self, clip: Clip, rng: np.random.Generator) -> np.ndarray:
        """Draw the indices of a sample's frames."""
        raise NotImplementedError

    def arrange(self, frames: torch.Tensor, tracks: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Name the frames (T x 3 x H x W in [0, 1]) and tracks of a sample; T entries each, T - 1 of flow."""
        return {"frames": frames, **tracks}

    def usable_frames(self, clip: Clip) -> np.ndarray:
        """Indices of the frames that may be taken.

        Raises:
            StillmotionError: there is none.
        """
        places = np.arange(len(clip)) if self.usable is None else np.flatnonzero(self.usable(clip))
        if len(places) == 0:
            raise StillmotionError(f"The clip {clip.name!r} has no usable frame: leave it out.")
        return places


class FrameDataset(ClipDataset):
    """Single frames: items hold `frame` (float32, 3 x H x W, [0, 1]) and tracks without the axis of time."""

    def choose_frames(self, clip: Clip, rng: np.random.Generator) -> np.ndarray:
        """Draw one usable frame uniformly."""
        places = self.usable_frames(clip)
        return np.asarray(places[rng.integers(len(places), size=1)])

    def arrange(self, frames: torch.Tensor, tracks: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Take the one entry of each."""
        return {"frame": frames[0], **{name: values[0] for name, values in tracks.items()}}


class PairDataset(ClipDataset):
    """Pairs of frames of one clip, as the motion-transfer papers train on.

    Items hold `source` and `driving` (float32, 3 x H x W, [0, 1]; source is the earlier frame unless time is flipped)
    and tracks of both, 2 x ....
    """

    def __init__(self, *args: Any, choose: Choose = pair, **settings: Any):
        """Args: as `ClipDataset`; `choose(length, rng)` picks the places of two frames among the usable ones."""
        super().__init__(*args, **settings)
        self.choose = choose

    def choose_frames(self, clip: Clip, rng: np.random.Generator) -> np.ndarray:
        """Draw two usable frames."""
        places = self.usable_frames(clip)
        return np.asarray(places[np.asarray(self.choose(len(places), rng))])

    def arrange(self, frames: torch.Tensor, tracks: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Name the two frames."""
        return {"source": frames[0], "driving": frames[1], **tracks}


class WindowDataset(ClipDataset):
    """Runs of `size` frames of one clip: items hold `frames` (float32, T x 3 x H x W, [0, 1]) and tracks, T x ...."""

    def __init__(self, clips: Sequence[Clip], seed: int, size: int, *args: Any, step: int = 1, **settings: Any):
        """Args: as `ClipDataset`; `size` and `step` as in `window`."""
        super().__init__(clips, seed, *args, **settings)
        self.size, self.step = size, step

    def choose_frames(self, clip: Clip, rng: np.random.Generator) -> np.ndarray:
        """Draw a window of usable frames."""
        return window(len(clip), self.size, rng, self.step, self.usable(clip) if self.usable else None)


class StepSampler(Sampler[int]):
    """Sample numbers of one process: its part of every global batch.

    The global batch of step s is the numbers [s * batch * world, (s + 1) * batch * world); process `rank`
    takes the `batch` numbers from `rank * batch` on.
    """

    def __init__(self, start_step: int, steps: int, batch: int, rank: int = 0, world: int = 1):
        """Args: the first step, how many steps from there on, batch per process, this process, processes."""
        if start_step < 0 or steps < 0 or batch < 1 or not 0 <= rank < world:
            raise StillmotionError(
                f"Steps from {start_step}, {steps} of them, in batches of {batch} for process {rank} of "
                f"{world} cannot be sampled: numbers must not be negative and the rank must be below "
                "the world size."
            )
        self.start_step, self.steps, self.batch, self.rank, self.world = start_step, steps, batch, rank, world

    def __len__(self) -> int:
        return self.steps * self.batch

    def __iter__(self) -> Iterator[int]:
        for step in range(self.start_step, self.start_step + self.steps):
            first = (step * self.world + self.rank) * self.batch
            yield from range(first, first + self.batch)


def loader(
    dataset: Dataset[dict[str, Any]],
    *,
    start_step: int,
    steps: int,
    batch: int,
    rank: int = 0,
    world: int = 1,
    workers: int = 0,
) -> DataLoader[dict[str, Any]]:
    """Make the loader of one process: `steps` batches from `start_step` on, see `StepSampler`.

    Tensors are stacked, names become lists. Item n of the data set must depend on n only, as in a `ClipDataset`; a
    resumed training gives the step it stopped at. `workers` processes prepare the batches, which are the same for any
    number of them; with 0 this one does.
    """
    return DataLoader(
        dataset,
        batch_size=batch,
        sampler=StepSampler(start_step, steps, batch, rank, world),
        num_workers=workers,
        # Decoders and thread pools do not survive a fork.
        multiprocessing_context="spawn" if workers else None,
        # Without a generator of its own a loader draws from torch's global one each time it is iterated, and
        # a resumed training would then differ from one that ran through.
        generator=torch.Generator(),
    )
