"""facts/class-conditional-keypoints.md section 12, items 11, 12, 13 and 18; actions and sides."""

import pickle
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from refusals import refused, refuses
from stillmotion.data.augment import AugmentParams, affine_matrix, augment_frames
from stillmotion.data.clip import Clip
from stillmotion.data.sampling import loader
from stillmotion.errors import StillmotionWarning
from stillmotion.geometry import to_normalised
from stillmotion.systems.actions.config import PairConfig, SequenceConfig
from stillmotion.systems.actions.data import (
    TRACK,
    KeypointSequences,
    action_names,
    check_action_count,
    choose_pair,
    come_from,
    evaluation_pair,
    interpolate,
    label,
    pairs,
    sequence_times,
    side_names,
    transform_keypoints,
)

SIZE = 16
STILL = SequenceConfig(rotation=0, flip=0, scale=(1, 1))


def counting(length: int = 40, name: str = "counting", size: tuple[int, int] = (SIZE, SIZE), **meta: Any) -> Clip:
    """Frame t has the value t."""
    frames = np.broadcast_to(np.arange(length, dtype=np.uint8)[:, None, None, None], (length, *size, 3))
    return Clip(name, frames, 25.0, meta=meta)


def labelled(length: int = 40, name: str = "a", **meta: Any) -> Clip:
    """Keypoint k of frame t is at (t / 100, k / 10)."""
    keypoints = np.stack(np.meshgrid(np.arange(length) / 100, np.arange(3) / 10, indexing="ij"), -1)
    return replace(counting(length, name, **meta), tracks={TRACK: keypoints.astype(np.float32)})


def noise(length: int = 1, size: tuple[int, int] = (SIZE, SIZE), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (length, *size, 3), dtype=np.uint8)


class Centroid(nn.Module):
    """Finds bright spots, after a batch norm whose running statistics are not those of any batch."""

    def __init__(self, points: int = 2):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.norm.running_mean.fill_(-0.5)  # type: ignore[operator, union-attr]
        self.head = nn.Linear(6, 2 * points)
        self.sizes: list[int] = []

    def forward(self, frames: Tensor) -> Tensor:
        self.sizes.append(len(frames))
        assert frames.min() >= 0
        assert frames.max() <= 1
        features = self.norm(frames)
        pooled = torch.cat([features.mean((2, 3)), features[:, :, :4].mean((2, 3))], 1)
        return torch.tanh(self.head(pooled)).reshape(len(frames), -1, 2)


# --- 11: pairs -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("length", [1, 5, 9, 30])
def test_the_second_frame_is_8_to_11_later_and_wraps_around(length: int) -> None:
    drawn = [choose_pair(length, np.random.default_rng(n), (8, 11)) for n in range(600)]
    assert {first for first, _ in drawn} == set(range(length))
    assert {(second - first) % length for first, second in drawn} == {gap % length for gap in (8, 9, 10, 11)}


def test_pairs_hold_the_frames_that_were_chosen() -> None:
    dataset = pairs([counting(30)], 0, PairConfig(augmentation="none"), SIZE)
    gaps = Counter()
    for n in range(200):
        item = dataset[n]
        source, driving = (round(item[key].mean().item() * 255) for key in ("source", "driving"))
        gaps[(driving - source) % 30] += 1
    assert set(gaps) == {8, 9, 10, 11}
    assert min(gaps.values()) > 25  # uniform: 50 each


def test_both_frames_of_a_pair_are_augmented_alike() -> None:
    """Every frame of this clip is the same, so a pair's frames are equal; and they do change."""
    still = Clip("still", np.repeat(noise(1, (24, 40)), 30, axis=0), 25.0)
    dataset = pairs([still], 0, PairConfig(), SIZE)
    found = [dataset[n] for n in range(40)]
    assert all(torch.equal(item["source"], item["driving"]) for item in found)
    assert len({item["source"].numpy().tobytes() for item in found}) == 40
    assert found[0]["source"].shape == (3, SIZE, SIZE)
    assert torch.equal(pairs([still], 0, PairConfig(), SIZE)[7]["source"], found[7]["source"])


def test_the_short_side_is_whole_under_any_augmentation() -> None:
    """A pixel's value is its row; half of the rows remain."""
    rows = np.broadcast_to(np.arange(SIZE, dtype=np.uint8)[:, None, None], (30, SIZE, 2 * SIZE, 3))
    source = pairs([Clip("rows", rows, 25.0)], 0, PairConfig(augmentation="none"), SIZE // 2)[0]["source"]
    assert source.shape == (3, SIZE // 2, SIZE // 2)
    assert (255 * source[0, :, 0]).round().tolist() == list(range(1, SIZE, 2))


def test_pairs_are_balanced_over_actions_if_asked() -> None:
    clips = [counting(12, f"w{i}", action="walk") for i in range(5)] + [counting(12, "jump", action="jump")]
    names = Counter(pairs(clips, 0, PairConfig(balance=True), SIZE)[n]["name"] for n in range(20))
    assert names["jump"] == 10


def test_the_evaluation_pair_is_frames_0_and_10_and_the_last_of_a_short_clip() -> None:
    for length, last in ((30, 10), (11, 10), (6, 5)):
        item = evaluation_pair(counting(length, size=(24, 32)), SIZE)
        assert item["source"].shape == (3, SIZE, SIZE)
        assert [round(item[key].max().item() * 255) for key in ("source", "driving")] == [0, last]


# --- 18: labels ----------------------------------------------------------------------------------------------------
def named(lengths: Sequence[int]) -> list[Clip]:
    return [Clip(f"c{i}", noise(length, seed=i), 25.0) for i, length in enumerate(lengths)]


def test_labels_are_an_array_of_n_x_k_x_2_per_clip_from_a_detector_in_evaluation_mode(tmp_path: Path) -> None:
    clips, detector = named([3, 70, 5]), Centroid().train()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    found = label(detector, clips, size=SIZE, folder=tmp_path)
    assert detector.training
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())
    detector.eval()
    for clip, plain in zip(found, clips, strict=True):
        keypoints = clip.tracks[TRACK]
        assert keypoints.shape == (len(plain), 2, 2)
        assert keypoints.dtype == np.float32
        with torch.no_grad():
            alone = detector(torch.from_numpy(plain.frames[-1:].copy()).permute(0, 3, 1, 2).float() / 255)
        assert np.allclose(keypoints[-1], alone[0].numpy(), atol=1e-6)


def test_chunked_is_unchunked(tmp_path: Path) -> None:
    clips, detector = named([10, 4]), Centroid()
    whole = label(detector, clips, size=SIZE, folder=tmp_path / "whole")
    assert detector.sizes == [10, 4]
    detector.sizes.clear()
    parts = label(detector, clips, size=SIZE, folder=tmp_path / "parts", chunk=4)
    assert detector.sizes == [4, 4, 2, 4]
    for one, other in zip(whole, parts, strict=True):
        assert np.allclose(one.tracks[TRACK], other.tracks[TRACK], atol=1e-6)


def test_labels_are_computed_once_per_detector_and_clip(tmp_path: Path) -> None:
    clips, detector = named([3, 4]), Centroid()

    def run(clips: Sequence[Clip], **settings: Any) -> int:
        detector.sizes.clear()
        label(detector, clips, **{"size": SIZE, "folder": tmp_path, **settings})
        return len(detector.sizes)

    assert run(clips) == 2
    assert run(clips) == 0
    assert run([*clips, replace(clips[0], name="new")]) == 1
    with torch.no_grad():
        detector.norm.running_mean += 0.1  # type: ignore[operator, assignment]
    assert run(clips) == 2  # moving averages are weights
    assert run(clips, settings="2-D") == 2
    assert run(clips, settings="2-D", size=8) == 2
    assert run([clips[1], replace(clips[0], frames=255 - clips[0].frames)], settings="2-D", size=8) == 1


def test_clips_of_other_shapes_are_labelled_from_their_centre(tmp_path: Path) -> None:
    wide = Clip("wide", noise(2, (SIZE, SIZE + 10)), 25.0)
    inside = Clip("inside", wide.frames[:, :, 5 : SIZE + 5], 25.0)
    found = label(Centroid(), [wide, inside], size=SIZE, folder=tmp_path)
    assert np.array_equal(found[0].tracks[TRACK], found[1].tracks[TRACK])


# --- 12: sequences -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("length", [33, 40, 65, 66, 70, 98, 99, 131, 663])
def test_long_clips_give_33_frames_at_a_gap_of_their_length_over_33(length: int) -> None:
    gap, starts = length // 33, set()
    for seed in range(400):
        times, valid = sequence_times(length, SequenceConfig(), 33, np.random.default_rng(seed))
        assert len(times) == 33
        assert valid.all()
        assert (np.diff(times) == gap).all()
        starts.add(int(times[0]))
        assert times[-1] <= length - 1
    assert starts == set(range(length - 33 * gap + 1))
    assert sequence_times(length, SequenceConfig(), 33)[0].tolist() == [gap * t for t in range(33)]


@pytest.mark.parametrize("length", [17, 18, 32])
def test_shorter_clips_give_17_frames_and_their_midpoints(length: int) -> None:
    values = np.random.default_rng(0).normal(size=(length, 2, 2))
    starts = set()
    for seed in range(300):
        times, valid = sequence_times(length, SequenceConfig(), 33, np.random.default_rng(seed))
        start = int(times[0])
        starts.add(start)
        assert valid.all()
        found = interpolate(values, times)
        assert np.array_equal(found[::2], values[start : start + 17])
        assert np.allclose(found[1::2], (values[start : start + 16] + values[start + 1 : start + 17]) / 2)
    assert starts == set(range(length - 16))
    assert sequence_times(length, SequenceConfig(), 33)[0][0] == 0


@pytest.mark.parametrize("length", [2, 9, 16])
def test_clips_under_17_frames_are_stretched_whole(length: int) -> None:
    times, valid = sequence_times(length, SequenceConfig(), 33, np.random.default_rng(0))
    assert np.allclose(times, np.linspace(0, length - 1, 33))
    assert valid.all()


def test_at_a_fixed_step_speed_is_real_and_what_a_clip_lacks_is_not_valid() -> None:
    config = SequenceConfig(step=3)
    drawn = [sequence_times(20, config, 5, np.random.default_rng(seed)) for seed in range(200)]
    assert all((np.diff(times) == 3).all() and valid.all() for times, valid in drawn)
    assert {int(times[0]) for times, _ in drawn} == set(range(8))
    times, valid = sequence_times(8, config, 5, np.random.default_rng(0))
    assert times.tolist() == [0, 3, 6, 7, 7]
    assert valid.tolist() == [True, True, True, False, False]


def test_items_hold_the_still_and_the_32_that_follow() -> None:
    item = KeypointSequences([labelled(70)], STILL, 33, 0, augment=False)[0]
    assert item.keys() == {"first", "points", "valid", "action", "name"}
    assert item["first"].shape == (3, 2)
    assert item["points"].shape == (32, 3, 2)
    assert item["points"].dtype == item["valid"].dtype == torch.float32
    assert torch.allclose(item["first"][:, 0], torch.zeros(3))
    assert torch.allclose(item["points"][:, 1, 0], 2 * torch.arange(1, 33) / 100)
    assert torch.allclose(item["points"][:, 2, 1], torch.tensor(0.2))
    assert item["action"] == -1
    short = KeypointSequences([labelled(6)], replace(STILL, step=1), 33, 0)[0]
    assert short["valid"].tolist() == [1.0] * 5 + [0.0] * 27
    assert torch.equal(short["points"][5:], short["points"][4:5].expand(27, -1, -1))


def test_changes_are_the_same_over_time_within_their_ranges_and_a_function_of_the_number() -> None:
    """The keypoint (0.5, 0) at all times: its length is the scale, its direction the rotation and the flip."""
    keypoints = np.tile(np.float32([0.5, 0.0]), (40, 1, 1))
    clips = [replace(labelled(40, name), tracks={TRACK: keypoints}) for name in "ab"]
    dataset, scales, degrees, flips = KeypointSequences(clips, SequenceConfig(), 33, 3), set(), set(), 0
    for n in range(1500):
        item = dataset[n]
        assert torch.allclose(item["points"], item["first"].expand(32, -1, -1))
        x, y = item["first"][0].double().tolist()
        flips += x < 0
        scales.add(round(float(np.hypot(x, y)) / 0.5, 4))
        degrees.add(round(float(np.degrees(np.arctan2(y if x > 0 else -y, abs(x)))), 3))
    assert scales == {round(0.7 + 0.01 * k, 2) for k in range(51)}
    assert degrees == set(range(-15, 16))
    assert 680 < flips < 820
    again = KeypointSequences(clips, SequenceConfig(), 33, 3)
    assert all(torch.equal(again[n]["points"], dataset[n]["points"]) for n in (0, 5, 77))
    assert not torch.equal(KeypointSequences(clips, SequenceConfig(), 33, 4)[5]["points"], dataset[5]["points"])
    assert len(dataset) == 2
    assert {dataset[0]["name"], dataset[1]["name"]} == {"a", "b"}


def test_without_augmentation_sequences_start_at_0_and_are_unchanged() -> None:
    dataset = KeypointSequences([labelled(60)], SequenceConfig(), 33, 0, augment=False)
    for n in range(10):
        assert torch.allclose(dataset[n]["first"], torch.tensor([[0, 0], [0, 0.1], [0, 0.2]]))


def test_batches_and_workers_get_the_same_items() -> None:
    clips = [labelled(20 + n, f"c{n}", action="walk") for n in range(4)]
    dataset = KeypointSequences(clips, SequenceConfig(), 33, 0, actions=("run", "walk"))
    batch = next(iter(loader(dataset, start_step=1, steps=1, batch=4)))
    assert batch["points"].shape == (4, 32, 3, 2)
    assert batch["action"].dtype == torch.int64
    assert batch["action"].tolist() == [1, 1, 1, 1]
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[5]["points"], batch["points"][1])


def test_short_clips_are_counted_once_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    clips = [labelled(n, f"c{n}") for n in (16, 9, 17, 40)]
    dataset = KeypointSequences(clips, STILL, 33, 0)
    assert [dataset[n]["points"].shape[0] for n in range(4)] == [32] * 4
    assert capsys.readouterr().err == "2 of 4 clips have fewer than 17 frames; they are played slower.\n"
    KeypointSequences(clips, replace(STILL, step=1), 33, 0)
    assert capsys.readouterr().err.startswith("3 of 4 clips have fewer than 33 frames; the frames they lack")
    KeypointSequences(clips[2:], STILL, 33, 0)
    assert capsys.readouterr().err == ""


def test_clips_that_cannot_be_used_are_named_in_one_sentence() -> None:
    assert "'c' has no track 'keypoints'" in refused(KeypointSequences, [counting(name="c")], STILL, 33, 0)
    assert "'c' has one frame" in refused(KeypointSequences, [labelled(1, "c")], STILL, 33, 0)
    assert "no clips" in refused(KeypointSequences, [], STILL, 33, 0)
    refuses("sequences.scale must", SequenceConfig, scale=(1.2, 0.7), error=ValueError)
    refuses("pairs.gap must", PairConfig, gap=(9, 3), error=ValueError)


# --- 13: rotation --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("degrees", "mirror"), [(0, True), (15, False), (-11, True), (40, False)])
def test_points_turn_and_flip_as_the_picture_does(degrees: int, mirror: bool) -> None:
    """A dot is drawn, its picture turned, and its centre found again."""
    size = (65, 65)
    dot = np.array([44.0, 22.0])
    y, x = np.mgrid[:65, :65]
    picture = np.exp(-((x - dot[0]) ** 2 + (y - dot[1]) ** 2) / 8).astype(np.float32)
    frames = np.repeat(picture[None, :, :, None], 3, axis=3)
    matrix = affine_matrix(size, rotation=degrees)
    turned = augment_frames(frames, AugmentParams(size, size, mirror=mirror, affine=matrix))[0, :, :, 0]
    centre = np.array([(turned * x).sum(), (turned * y).sum()]) / turned.sum()
    detected = to_normalised(torch.from_numpy(centre), size).numpy()
    given = to_normalised(torch.from_numpy(dot), size).numpy()
    assert np.allclose(transform_keypoints(given, degrees, mirror, 1.0), detected, atol=2e-3)
    assert np.allclose(transform_keypoints(given, degrees, mirror, 0.8), 0.8 * detected, atol=2e-3)


# --- actions and sides ---------------------------------------------------------------------------------------------
def test_actions_are_sorted_and_a_single_clip_is_warned_of() -> None:
    clips = [counting(name=f"c{i}", action=action) for i, action in enumerate(("run", "jump", "run", "jump", "bow"))]
    with pytest.warns(StillmotionWarning, match=r"single clip.*: bow\.$"):
        assert action_names(clips) == ("bow", "jump", "run")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert action_names(clips[:4]) == ("jump", "run")
    assert "'bare' has no 'action'" in refused(action_names, [*clips, counting(name="bare")])


def test_items_hold_the_index_of_the_action_and_unknown_ones_are_named() -> None:
    clips = [labelled(name="a", action="run"), labelled(name="b", action="jump")]
    dataset = KeypointSequences(clips, STILL, 33, 0, actions=("bow", "jump", "run"))
    assert {dataset[n]["name"]: dataset[n]["action"] for n in range(2)} == {"a": 2, "b": 1}
    message = refused(KeypointSequences, clips, STILL, 33, 0, actions=("bow", "run"))
    assert "'b' shows 'jump'" in message
    assert "bow, run" in message
    assert "'c' has no 'action'" in refused(KeypointSequences, [labelled(name="c")], STILL, 33, 0, actions=("run",))


def test_a_list_of_other_length_than_the_models_is_refused() -> None:
    check_action_count(("a", "b"), 2)
    assert "has 3 actions, but its list names 2: a, b" in refused(check_action_count, ("a", "b"), 3)
    refuses("names 1: a, a", check_action_count, ("a", "a"), 2)


def test_sequences_are_balanced_over_actions_if_asked() -> None:
    clips = [labelled(name=f"w{i}", action="walk") for i in range(5)] + [labelled(name="jump", action="jump")]
    settings = {"actions": ("jump", "nap", "walk")}
    balanced = KeypointSequences(clips, replace(STILL, balance=True), 33, 0, **settings)
    assert Counter(balanced[n]["action"] for n in range(20)) == {0: 10, 2: 10}
    plain = KeypointSequences(clips, STILL, 33, 0, **settings)
    assert Counter(plain[n]["action"] for n in range(24)) == {0: 4, 2: 20}


def test_the_side_is_exchanged_by_a_flip() -> None:
    clips = [labelled(name=name, side=side) for name, side in (("a", "left"), ("b", "back"))]
    sides = side_names(clips)
    assert sides == ("back", "left", "right")
    for flip, expected in ((0.0, "left"), (1.0, "right")):
        dataset = KeypointSequences(clips, replace(STILL, flip=flip), 33, 0, sides=sides)
        found = {dataset[n]["name"]: sides[dataset[n]["side"]] for n in range(2)}
        assert found == {"a": expected, "b": "back"}
    assert "'a' is seen from 'left'" in refused(KeypointSequences, clips, STILL, 33, 0, sides=("back", "left"))


def test_without_sides_in_meta_the_side_is_the_flip() -> None:
    clips = [labelled()]
    assert side_names(clips) == ("filmed", "mirrored")
    dataset = KeypointSequences(clips, replace(STILL, flip=0.5), 33, 0, sides=side_names(clips))
    found = [dataset[n] for n in range(40)]
    assert {item["side"] for item in found} == {0, 1}
    assert all((item["points"][-1, 0, 0] < 0) == bool(item["side"]) for item in found)


def test_a_transition_by_hand() -> None:
    """A pose of half the size, upright, before a sequence that lies: placed there, doubled, left in four frames."""
    pose = np.array([[0.0, -1, 1], [0, 1, 1]])  # x, y, a variance
    lying = np.repeat(np.array([[[10.0, 0, 8], [14, 0, 8]]]), 5, axis=0)
    found = come_from(pose, lying, 4, np.array([[0, 1]]))
    assert found[0].tolist() == [[12, -2, 4], [12, 2, 4]]
    assert found[2].tolist() == [[11, -1, 6], [13, 1, 6]]
    assert found[1, 0].tolist() == pytest.approx([12 - 2 * 5 / 32, -2 + 2 * 5 / 32, 4 + 4 * 5 / 32])
    assert found[4].tolist() == lying[4].tolist()
