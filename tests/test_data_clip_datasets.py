"""Single frames, pairs and windows over one base: which frames, with which tracks, from which clips."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refusals import refuses
from stillmotion.data.augment import AUGMENTATIONS, Augmentation, AugmentParams
from stillmotion.data.clip import Clip
from stillmotion.data.examples import MIN_SIZE, moving_square
from stillmotion.data.sampling import (
    ClipDataset,
    FrameDataset,
    PairDataset,
    WindowDataset,
    balanced_index,
    loader,
    track_to_tensor,
)
from stillmotion.errors import StillmotionError

TRACKS = ("points", "joints", "box", "mask")
FLOWS = ("flow_forward", "flow_backward")


def clips(count: int = 4, frames: int = 8) -> list[Clip]:
    """Squares whose points say which clip and frame they are."""
    made = []
    for i in range(count):
        clip = moving_square(20, frames)
        points = np.stack([np.full(frames, i), np.arange(frames)], -1).astype(np.float32)
        made.append(replace(clip, name=f"c{i}", tracks={**clip.tracks, "points": points}))
    return made


def even(clip: Clip) -> np.ndarray:
    return np.arange(len(clip)) % 2 == 0


def none(clip: Clip) -> np.ndarray:
    return np.zeros(len(clip), bool)


def number(clip: Clip, indices: np.ndarray, params: AugmentParams) -> dict[str, Any]:
    return {"clip": int(clip.name[1]), "at": indices.tolist(), "reversed": params.reverse}


# --- items ---------------------------------------------------------------------------------------------------------
def test_single_frames_have_no_axis_of_time() -> None:
    made = clips()
    dataset = FrameDataset(made, 3, tracks=TRACKS, extra=number)
    assert len(dataset) == 4
    seen = set()
    for i in range(40):
        sample = dataset[i]
        clip, (t,) = made[sample["clip"]], sample["at"]
        assert sample["name"] == clip.name
        assert np.array_equal((sample["frame"] * 255).round().byte().permute(1, 2, 0).numpy(), clip.frames[t])
        assert sample["points"].tolist() == [sample["clip"], t]
        assert torch.equal(sample["joints"], torch.from_numpy(clip.tracks["joints"][t]))
        assert np.array_equal(sample["mask"].numpy(), clip.tracks["mask"][t])
        seen.add((sample["clip"], t))
    assert len({clip for clip, _ in seen}) == 4
    assert len({t for _, t in seen}) == 8


def test_pairs_and_frames_of_usable_frames_only() -> None:
    pairs = PairDataset(clips(), 1, usable=even, tracks=("points", "mask"))
    frames = FrameDataset(clips(), 1, usable=even, tracks=("points",))
    times = [pairs[i]["points"][:, 1].tolist() for i in range(60)]
    assert {t for pair in times for t in pair} == {0, 2, 4, 6}
    assert all(first <= second for first, second in times)
    assert {float(frames[i]["points"][1]) for i in range(60)} == {0, 2, 4, 6}
    assert pairs[0]["mask"].shape == (2, 20, 20)
    for dataset in (PairDataset(clips(), 0, usable=none), FrameDataset(clips(), 0, usable=none)):
        with pytest.raises(StillmotionError, match="no usable frame: leave it out"):
            dataset[0]


def test_all_usable_is_the_same_as_no_restriction() -> None:
    def every(clip: Clip) -> np.ndarray:
        return np.ones(len(clip), bool)

    for kind in (FrameDataset, PairDataset):
        free, restricted = (kind(clips(), 5, usable=usable, tracks=("points",)) for usable in (None, every))
        assert all(torch.equal(free[i]["points"], restricted[i]["points"]) for i in range(20))


def test_windows_with_flow_and_labels_stack_into_batches() -> None:
    dataset = WindowDataset(
        clips(), 0, 5, AUGMENTATIONS["strong"], tracks=(*TRACKS, *FLOWS), extra=number, balance="action"
    )
    batch = next(iter(loader(dataset, start_step=0, steps=1, batch=4)))
    assert {key: tuple(value.shape) for key, value in batch.items() if torch.is_tensor(value)} == {
        "frames": (4, 5, 3, 20, 20),
        "points": (4, 5, 2),
        "joints": (4, 5, 13, 3),
        "box": (4, 5, 4),
        "mask": (4, 5, 20, 20),
        "flow_forward": (4, 4, 20, 20, 2),
        "flow_backward": (4, 4, 20, 20, 2),
        "clip": (4,),
        "reversed": (4,),
    }
    # Reversed or not, the points of time run with the frames, mirrored in x alone.
    backwards = [bool(flag) for flag in batch["reversed"]]
    assert len(set(backwards)) == 2
    params = Augmentation(time_flip=1.0)
    sample = WindowDataset(clips(), 0, 4, params, tracks=("points",), extra=number)[0]
    assert sample["points"][:, 1].tolist() == sample["at"][::-1]


def test_extra_may_replace_a_track_and_a_sampler_of_ones_own_is_a_function() -> None:
    class First(ClipDataset):
        def choose_frames(self, clip: Clip, rng: np.random.Generator) -> np.ndarray:
            return np.array([0, 7])

    def doubled(clip: Clip, indices: np.ndarray, params: AugmentParams) -> dict[str, Any]:
        return {"points": 2 * clip.tracks["points"][indices]}

    sample = First(clips(), 0, tracks=("points",), extra=doubled)[0]
    assert sample["points"][:, 1].tolist() == [0, 14]
    assert sample["frames"].shape == (2, 3, 20, 20)
    with pytest.raises(NotImplementedError):
        ClipDataset(clips(), 0)[0]


def test_a_missing_track_is_told() -> None:
    with pytest.raises(StillmotionError, match="has no track 'path'"):
        FrameDataset(clips(), 0, tracks=("path",))[0]


@pytest.mark.parametrize(
    ("shape", "dtype", "kind", "wanted", "wanted_dtype"),
    [
        ((2, 4, 5), np.float32, "map", (2, 1, 4, 5), torch.float32),
        ((2, 4, 5, 6), np.float32, "map", (2, 6, 4, 5), torch.float32),
        ((2, 4, 5, 3), np.float32, "normals", (2, 3, 4, 5), torch.float32),
        ((2, 4, 5), np.uint8, "labels", (2, 4, 5), torch.uint8),
        ((2, 4, 5), np.uint16, "labels", (2, 4, 5), torch.int64),
        ((1, 4, 5, 2), np.float32, "flow_forward", (1, 4, 5, 2), torch.float32),
        ((2, 7), bool, "values", (2, 7), torch.bool),
    ],
)
def test_layouts(shape: Any, dtype: Any, kind: str, wanted: Any, wanted_dtype: torch.dtype) -> None:
    tensor = track_to_tensor(np.zeros(shape, dtype), kind)
    assert tuple(tensor.shape) == wanted
    assert tensor.dtype == wanted_dtype
    assert tensor.is_contiguous()


# --- balance -------------------------------------------------------------------------------------------------------
@settings(max_examples=30)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(0, 1000), st.integers(0, 40))
def test_every_round_has_each_class_and_every_clip_of_a_class_comes_before_one_comes_again(
    sizes: list[int], seed: int, turn: int
) -> None:
    starts = np.cumsum([0, *sizes])
    classes = [list(range(a, b)) for a, b in itertools.pairwise(starts)]
    count = len(classes)
    label = {clip: k for k, members in enumerate(classes) for clip in members}
    drawn = [balanced_index(classes, turn * count + i, seed) for i in range(count)]
    assert sorted(label[clip] for clip in drawn) == list(range(count))
    largest = max(classes, key=len)
    epoch = [balanced_index(classes, i, seed) for i in range(len(largest) * count)]
    assert sorted(clip for clip in epoch if clip in largest) == largest


def test_balanced_datasets_draw_rare_classes_as_often() -> None:
    made = [
        replace(clip, meta={**clip.meta, "action": "jump" if i == 0 else "run"}) for i, clip in enumerate(clips())
    ]
    even_classes = FrameDataset(made, 0, balance="action")
    names = [even_classes[i]["name"] for i in range(60)]
    assert names.count("c0") == 30
    assert {names.count(f"c{i}") for i in (1, 2, 3)} == {10}
    assert len({tuple(names[i : i + 2]) for i in range(0, 60, 2)}) > 4  # in ever other orders
    assert names != [FrameDataset(made, 1, balance="action")[i]["name"] for i in range(60)]
    plain = FrameDataset(made, 0)
    assert [plain[i]["name"] for i in range(60)].count("c0") == 15


def test_what_cannot_be_balanced_is_told() -> None:
    refuses("'c0' has no 'person' in its meta", FrameDataset, clips(), 0, balance="person")
    refuses("leave drop_batch or balance out", FrameDataset, clips(), 0, balance="action", drop_batch=2)


# --- the example ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [16, 17, 64])
def test_the_moving_square_and_its_tracks(size: int) -> None:
    clip = moving_square(size, 50, fps=12.0)
    again = moving_square(size, 50, fps=12.0)
    assert clip.frames.tobytes() == again.frames.tobytes()
    assert (clip.fps, clip.meta["action"], len(clip.meta["joints"])) == (12.0, "move", 13)
    assert np.array_equal(clip.frames[0], clip.frames[48])  # once around
    mask = clip.tracks["mask"] > 0
    for t, (x0, y0, x1, y1) in enumerate(clip.tracks["box"].astype(int)):
        assert 0 <= x0 <= x1 < size
        assert 0 <= y0 <= y1 < size
        assert mask[t, y0 : y1 + 1, x0 : x1 + 1].all()
        assert mask[t].sum() == (x1 + 1 - x0) * (y1 + 1 - y0)
    centre = (clip.tracks["box"][:, :2] + clip.tracks["box"][:, 2:]) / 2
    assert np.abs(centre - clip.tracks["points"]).max() <= 0.5 + 1e-5
    steps = np.diff(clip.tracks["points"], axis=0)
    for t in (0, 20):
        assert np.allclose(clip.tracks["flow_forward"][t][mask[t]], steps[t], atol=1e-5)
        assert not clip.tracks["flow_forward"][t][~mask[t]].any()
        assert np.allclose(clip.tracks["flow_backward"][t][mask[t + 1]], -steps[t], atol=1e-5)
    joints = clip.tracks["joints"]
    assert 0.3 < np.abs(joints[..., :2] - clip.tracks["points"][:, None]).max() / (0.34 * size) < 0.5
    names = list(clip.meta["joints"])
    assert (joints[:, names.index("left_wrist"), 0] > joints[:, names.index("right_wrist"), 0]).all()
    assert np.ptp(joints[0, :, 0]) > 2


def test_one_frame_is_enough_and_small_pictures_are_refused() -> None:
    clip = moving_square(MIN_SIZE, 1)
    assert clip.tracks["flow_forward"].shape == (0, 16, 16, 2)
    for arguments in ((15, 4), (16, 0)):
        refuses("at least 16 pixels and 1 frame", moving_square, *arguments)
