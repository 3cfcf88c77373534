"""Sampling is a function of (seed, sample number): nothing else may matter."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refusals import refuses
from stillmotion.data.augment import AUGMENTATIONS, Augmentation, AugmentParams, move_points
from stillmotion.data.clip import Clip
from stillmotion.data.sampling import (
    PairDataset,
    StepSampler,
    WindowDataset,
    clip_index,
    loader,
    pair,
    sample_rng,
    samples_per_epoch,
    window,
)


def counting_clips(count: int = 5, length: int = 7) -> list[Clip]:
    """Every pixel of frame t of clip i is 10 i + t."""
    return [
        Clip(
            f"c{i}",
            np.broadcast_to(np.uint8(10 * i + np.arange(length))[:, None, None, None], (length, 4, 6, 3)),
            25.0,
            tracks={"points": np.stack([np.arange(length), np.full(length, 2)], axis=1)},
        )
        for i in range(count)
    ]


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_sample_rng_depends_on_both_numbers_and_repeats(seed: int, index: int) -> None:
    first = sample_rng(seed, index).integers(0, 2**60, 4).tolist()
    assert first == sample_rng(seed, index).integers(0, 2**60, 4).tolist()
    assert first != sample_rng(seed, index + 1).integers(0, 2**60, 4).tolist()
    assert first != sample_rng(seed + 1, index).integers(0, 2**60, 4).tolist()


@settings(max_examples=50)
@given(st.integers(1, 40), st.integers(0, 1000), st.integers(0, 50))
def test_an_epoch_visits_every_clip_once(n: int, seed: int, epoch: int) -> None:
    visited = [clip_index(n, epoch * n + k, seed) for k in range(n)]
    assert sorted(visited) == list(range(n))


@settings(max_examples=50)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 20))
def test_whole_batches_only(n: int, batch: int, epoch: int) -> None:
    if batch > n:
        refuses("smaller batch", clip_index, n, 0, 0, drop_batch=batch)
        return
    per_epoch = n // batch * batch
    assert samples_per_epoch(n, batch) == per_epoch
    visited = [clip_index(n, epoch * per_epoch + k, 3, drop_batch=batch) for k in range(per_epoch)]
    assert len(set(visited)) == per_epoch


def test_epochs_and_seeds_have_their_own_order() -> None:
    orders = {tuple(clip_index(20, e * 20 + k, seed) for k in range(20)) for e in range(3) for seed in range(3)}
    assert len(orders) == 9


def test_without_clips_there_is_nothing_to_sample() -> None:
    refuses("no clips", PairDataset, [], 0)


@given(st.integers(1, 200), st.integers(0, 10**6))
def test_pair_is_sorted_and_inside(length: int, index: int) -> None:
    i, j = pair(length, sample_rng(0, index))
    assert 0 <= i <= j < length


def test_pair_is_uniform_with_replacement() -> None:
    # Of 16 ordered draws from 4 frames, each frame comes twice with 1/16 and each sorted pair i < j with
    # 2/16.
    counts: dict[tuple[int, int], int] = {}
    total = 4000
    for index in range(total):
        drawn = pair(4, sample_rng(1, index))
        counts[drawn] = counts.get(drawn, 0) + 1
    assert len(counts) == 10
    for (i, j), count in counts.items():
        assert count / total == pytest.approx((1 if i == j else 2) / 16, abs=0.02)


@given(st.integers(1, 12), st.integers(1, 4), st.integers(0, 30), st.integers(0, 1000))
def test_window_is_even_and_inside(size: int, step: int, spare: int, index: int) -> None:
    length = (size - 1) * step + 1 + spare
    indices = window(length, size, sample_rng(0, index), step)
    assert len(indices) == size
    assert indices[0] >= 0
    assert indices[-1] < length
    assert (np.diff(indices) == step).all()


def test_window_reaches_both_ends_and_refuses_short_clips() -> None:
    starts = {int(window(8, 3, sample_rng(0, i), 2)[0]) for i in range(200)}
    assert starts == {0, 1, 2, 3}
    refuses("3 frames at a step of 2 cannot be taken from a clip of 4", window, 4, 3, sample_rng(0, 0), 2)


def test_pairs_hold_two_frames_of_the_named_clip() -> None:
    clips = counting_clips()
    dataset = PairDataset(clips, seed=4)
    assert len(dataset) == 5
    for index in range(20):
        sample = dataset[index]
        i, j = (round(float(sample[key].mean()) * 255) for key in ("source", "driving"))
        number = clip_index(5, index, 4)
        assert sample["name"] == f"c{number}"
        assert (i, j) == tuple(10 * number + t for t in pair(7, sample_rng(4, index)))
        assert sample["source"].shape == sample["driving"].shape == (3, 4, 6)
        assert sample["source"].dtype == torch.float32


def last_and_first(length: int, rng: np.random.Generator) -> tuple[int, int]:
    return length - 1, 0


def test_the_choice_of_the_pair_can_be_replaced() -> None:
    sample = PairDataset(counting_clips(1), 0, choose=last_and_first)[0]
    assert round(float(sample["source"].mean()) * 255) == 6
    assert float(sample["driving"].mean()) == 0


def moved_points(clip: Clip, indices: np.ndarray, params: AugmentParams) -> dict[str, Any]:
    return {"points": move_points(clip.tracks["points"][indices], params), "first": int(indices[0])}


def test_windows_carry_extras_that_follow_the_augmentation() -> None:
    dataset = WindowDataset(counting_clips(), 0, 3, Augmentation(horizontal_flip=1.0), step=2, extra=moved_points)
    sample = dataset[3]
    number = int(sample["name"][1])
    values = (sample["frames"].mean((1, 2, 3)) * 255).round().tolist()
    first = sample["first"]
    assert sample["frames"].shape == (3, 3, 4, 6)
    assert values == [10 * number + first + k for k in (0, 2, 4)]
    # x becomes width - 1 - x, with a width of 6.
    assert sample["points"].tolist() == [[5.0 - first - k, 2.0] for k in (0, 2, 4)]


@settings(max_examples=40)
@given(st.integers(0, 9), st.integers(0, 4), st.integers(1, 5), st.integers(1, 4))
def test_processes_together_see_what_one_sees(start: int, steps: int, batch: int, world: int) -> None:
    whole = list(StepSampler(start, steps, batch * world))
    parts = [list(StepSampler(start, steps, batch, rank, world)) for rank in range(world)]
    joined = [n for step in range(steps) for part in parts for n in part[step * batch : (step + 1) * batch]]
    assert joined == whole == list(range(start * batch * world, (start + steps) * batch * world))
    assert all(len(StepSampler(start, steps, batch, rank, world)) == len(parts[rank]) for rank in range(world))


def test_impossible_steps_are_refused() -> None:
    for arguments in ((-1, 1, 1, 0, 1), (0, 1, 0, 0, 1), (0, 1, 1, 1, 1), (0, -1, 1, 0, 1)):
        refuses("cannot be sampled", StepSampler, *arguments)


def batches(start: int, steps: int, batch: int, rank: int = 0, world: int = 1) -> list[dict[str, Any]]:
    dataset = PairDataset(counting_clips(), 9, AUGMENTATIONS["strong"], drop_batch=4)
    return list(loader(dataset, start_step=start, steps=steps, batch=batch, rank=rank, world=world))


def test_a_resumed_run_and_a_split_run_see_the_same_batches() -> None:
    through = batches(0, 6, 4)
    resumed = batches(4, 2, 4)
    assert len(through) == 6
    for a, b in zip(through[4:], resumed, strict=True):
        assert torch.equal(a["source"], b["source"])
        assert a["name"] == b["name"]
    left, right = batches(0, 6, 2, 0, 2), batches(0, 6, 2, 1, 2)
    for whole, a, b in zip(through, left, right, strict=True):
        assert torch.equal(whole["driving"], torch.cat([a["driving"], b["driving"]]))
        assert whole["name"] == a["name"] + b["name"]


def test_loading_leaves_torchs_global_random_numbers_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    batches(0, 2, 4)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_workers_give_the_same_batches() -> None:
    dataset = PairDataset(counting_clips(), 9, AUGMENTATIONS["actions"])
    alone = list(loader(dataset, start_step=1, steps=3, batch=2))
    helped = list(loader(dataset, start_step=1, steps=3, batch=2, workers=1))
    assert all(torch.equal(a["source"], b["source"]) for a, b in zip(alone, helped, strict=True))


def wave(number: int) -> Clip:
    """Nine frames of a wave that differs between clips, frames, pixels and channels."""
    t, y, x, c = np.mgrid[:9, :12, :16, :3]
    return Clip(
        f"w{number}", np.uint8(127.5 + 127 * np.sin(0.5 * x + 0.3 * (number + 1) * y + 0.7 * t + 2 * c)), 25.0
    )


def not_every_fourth(clip: Clip) -> np.ndarray:
    return np.arange(len(clip)) % 4 != 0


def two_pixels(frame: torch.Tensor) -> list[int]:
    return [round(255 * float(frame[channel, y, x])) for channel, y, x in ((0, 3, 4), (1, 8, 11))]


@pytest.mark.parametrize(
    ("preset", "index", "clip", "pixels"),
    # Two pixels each of source and driving frame, of a window's second frame, and of a usable window's first one.
    [
        ("none", 0, "w3", [252, 171, 236, 237, 168, 252, 168, 252]),
        ("none", 6, "w3", [80, 208, 15, 126, 15, 126, 80, 208]),
        ("none", 29, "w2", [246, 3, 30, 253, 228, 153, 220, 254]),
        ("pokes", 0, "w3", [212, 222, 201, 213, 118, 115, 118, 115]),
        ("pokes", 6, "w3", [39, 227, 42, 126, 42, 127, 39, 227]),
        ("pokes", 29, "w2", [158, 50, 81, 173, 149, 62, 163, 183]),
        ("actions", 0, "w3", [218, 119, 215, 228, 215, 228, 35, 54]),
        ("actions", 6, "w3", [236, 181, 242, 229, 96, 232, 236, 181]),
        ("actions", 29, "w2", [246, 139, 19, 41, 3, 18, 41, 162]),
        ("bold", 0, "w3", [255, 86, 184, 115, 238, 171, 224, 175]),
        ("bold", 6, "w3", [87, 29, 204, 147, 227, 244, 87, 116]),
        ("bold", 29, "w2", [211, 161, 68, 85, 255, 255, 255, 108]),
    ],
)
def test_the_random_streams_are_pinned(preset: str, index: int, clip: str, pixels: list[int]) -> None:
    """Computed once with the first version: a change of these numbers changes what a resumed training sees."""
    clips, settings = [wave(i) for i in range(4)], AUGMENTATIONS[preset]
    pairs = PairDataset(clips, 3, settings, drop_batch=3)[index]
    windows = WindowDataset(clips, 3, 2, settings, step=2)[index]
    usable = WindowDataset(clips, 3, 2, settings, usable=not_every_fourth)[index]
    frames = (pairs["source"], pairs["driving"], windows["frames"][1], usable["frames"][0])
    found = [value for frame in frames for value in two_pixels(frame)]
    assert pairs["name"] == clip
    assert found == pytest.approx(pixels, abs=1)
