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

from stillmotion.data.augment import Augmentation, Draw, apply, draw
from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionError

# Two families of random numbers come from one seed: those of the samples and those of the epochs' orders.
_SAMPLES, _ORDERS = 0, 1

Choose = Callable[[int, np.random.Generator], tuple[int, int]]
Extra = Callable[[Clip, np.ndarray, Draw], dict[str, Any]]
Usable = Callable[[Clip], np.ndarray]


def sample_rng(seed: int, index: int) -> np.random.Generator:
    """Return the random numbers of sample `index`: independent between samples and between seeds.

    Args:
        seed: of the training, not negative.
        index: the sample's number, not negative.
    """
    # A spawn key and not `SeedSequence([seed, index])`: short lists are padded with zeros there, so that
    # [s, i] and [s, i, 0] would be the same numbers.
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_SAMPLES, index)))


@lru_cache(maxsize=8)
def _order(n_clips: int, seed: int, epoch: int) -> np.ndarray:
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_ORDERS, epoch)))
    return rng.permutation(n_clips)


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
    """Tell which clip sample `index` is from: each epoch visits every clip once, in an order of its own.

    Args:
        n_clips: how many there are.
        index: the sample's number over the whole training.
        seed: of the training.
        drop_batch: if given, an epoch ends after its last whole batch of this size (over all processes) and
            the clips left over are not seen in that epoch; else batches run on into the next epoch.

    Returns:
        A number in [0, n_clips).
    """
    epoch, position = divmod(index, samples_per_epoch(n_clips, drop_batch))
    return int(_order(n_clips, seed, epoch)[position])


def pair(length: int, rng: np.random.Generator) -> tuple[int, int]:
    """Draw two frames uniformly with replacement and put them in order of time (both may be the same)."""
    first, second = sorted(rng.integers(0, length, size=2).tolist())
    return first, second


def window(
    length: int, size: int, rng: np.random.Generator, step: int = 1, usable: np.ndarray | None = None
) -> np.ndarray:
    """Draw `size` frames, `step` apart, at a uniform place.

    Args:
        length: frames of the clip.
        size: frames wanted.
        rng: the source of randomness.
        step: distance of the frames.
        usable: bool, one per frame; only windows of frames that all are usable are drawn. None for all.

    Returns:
        The frames' indices, ascending, `size` integers.

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
    """Turn float frames T x H x W x 3 into a contiguous tensor T x 3 x H x W."""
    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2), dtype=np.float32))


class PairDataset(Dataset[dict[str, Any]]):
    """Pairs of frames of one clip, as the motion-transfer papers train on.

    Item n is sample number n of the training, for any n >= 0: a dict of `source` and `driving` (float32,
    3 x H x W, [0, 1]; source is the earlier frame unless time is flipped) and `name`.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        seed: int,
        augmentation: Augmentation | None = None,
        *,
        choose: Choose = pair,
        drop_batch: int | None = None,
        extra: Extra | None = None,
    ):
        """Args: see `clip_index` for `seed` and `drop_batch`; `choose(length, rng)` picks the two frames.

        `extra(clip, indices, drawn)` returns a dict of more values for this sample, as in `WindowDataset`.
        """
        samples_per_epoch(len(clips), drop_batch)
        self.clips = clips
        self.seed = seed
        self.augmentation = augmentation or Augmentation()
        self.choose = choose
        self.drop_batch = drop_batch
        self.extra = extra

    def __len__(self) -> int:
        """Samples per epoch; larger numbers are valid too and belong to later epochs."""
        return samples_per_epoch(len(self.clips), self.drop_batch)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = self.clips[clip_index(len(self.clips), index, self.seed, drop_batch=self.drop_batch)]
        rng = sample_rng(self.seed, index)
        chosen = np.asarray(self.choose(len(clip), rng))
        frames = clip.frames[chosen]
        drawn = draw(frames.shape[1:3], rng, self.augmentation)
        made = to_tensor(apply(frames, drawn))
        more = self.extra(clip, chosen, drawn) if self.extra else {}
        return {"source": made[0], "driving": made[1], "name": clip.name, **more}


class WindowDataset(Dataset[dict[str, Any]]):
    """Runs of `size` frames of one clip.

    Item n is sample number n of the training, for any n >= 0: a dict of `frames` (float32, T x 3 x H x W,
    [0, 1]), `name`, and whatever `extra` adds.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        seed: int,
        size: int,
        augmentation: Augmentation | None = None,
        *,
        step: int = 1,
        drop_batch: int | None = None,
        extra: Extra | None = None,
        usable: Usable | None = None,
    ):
        """Args: see `window` and `clip_index`.

        `usable(clip)` tells which frames windows may hold, one bool per frame; None for all.

        `extra(clip, indices, drawn)` returns a dict of more values for this sample (tracks, labels).
        `drawn` is what the augmentation did to the frames, so that tracks can follow (`augment.move_points`).
        With worker processes both must be module-level functions.
        """
        samples_per_epoch(len(clips), drop_batch)
        self.clips = clips
        self.seed = seed
        self.size = size
        self.step = step
        self.augmentation = augmentation or Augmentation()
        self.drop_batch = drop_batch
        self.extra = extra
        self.usable = usable

    def __len__(self) -> int:
        """Samples per epoch; larger numbers are valid too and belong to later epochs."""
        return samples_per_epoch(len(self.clips), self.drop_batch)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = self.clips[clip_index(len(self.clips), index, self.seed, drop_batch=self.drop_batch)]
        rng = sample_rng(self.seed, index)
        chosen = window(len(clip), self.size, rng, self.step, self.usable(clip) if self.usable else None)
        drawn = draw(clip.frames.shape[1:3], rng, self.augmentation)
        sample = {"frames": to_tensor(apply(clip.frames[chosen], drawn)), "name": clip.name}
        if self.extra is not None:
            sample.update(self.extra(clip, chosen, drawn))
        return sample


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
        self.start_step = start_step
        self.steps = steps
        self.batch = batch
        self.rank = rank
        self.world = world

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
    """Make the loader of `steps` batches from `start_step` on, for one process.

    Tensors are stacked, names become lists. The batches are the same for any number of workers.

    Args:
        dataset: `PairDataset`, `WindowDataset`, or anything else whose item n depends on n only.
        start_step: first step; a resumed training gives the step it stopped at.
        steps: number of batches to give.
        batch: samples per batch and process.
        rank: this process.
        world: number of processes.
        workers: processes that prepare batches; 0 prepares them in this one.
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
