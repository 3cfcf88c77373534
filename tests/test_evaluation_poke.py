"""Metrics and protocol of pokes: values by hand, and a square that is poked two ways."""

import json
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from refusals import refuses
from stillmotion.animate import Animator
from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from stillmotion.evaluation.metrics.control import BackgroundChange
from stillmotion.evaluation.metrics.poke import BackgroundDisplacement, ChangedPixels, FlowEPE, PokeError
from stillmotion.evaluation.protocols import PROTOCOLS
from stillmotion.evaluation.protocols.base import Predictor
from stillmotion.evaluation.protocols.columns import FeatureCache, Prediction, Sample, add_case
from stillmotion.evaluation.protocols.poke_cases import (
    CLEARANCE,
    LENGTH,
    PokeCase,
    poke_cases,
)
from stillmotion.evaluation.protocols.poke_columns import COLUMNS, DRAGS, field_of, true_field
from stillmotion.evaluation.protocols.pokes import PROTOCOL, moved_patch, still_picture, true_clip
from stillmotion.evaluation.report import evaluate_models
from stillmotion.options import Control, option
from stillmotion.systems.base import Output, Rollout, Step
from toy_tools import Toy, ToyConfig, ToyRollout

SIZE, SIDE = 64, 16


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# --- metrics of fields ---------------------------------------------------------------------------------------------
def test_poke_error_by_hand() -> None:
    start, target = vector(2, 2), vector(5, 6)
    found = []
    for value in ((-3, -4), (0, 0), (-3, 0), (3, 4)):  # right, still, half of it, forward instead of backward
        metric = PokeError()
        metric.update(torch.tensor(value).expand(8, 12, 2), start, target)
        found.append(metric.compute().item())
    assert found == pytest.approx([0, 1, 4 / 5, 2])


def test_poke_error_reads_the_field_between_pixels_and_where_the_point_is_to_be() -> None:
    field = torch.zeros(8, 12, 2)
    field[..., 0] = -torch.arange(12.0)  # -x, in every row
    metric = PokeError()
    metric.update(field, vector(2, 2), vector(5.5, 6))
    assert metric.compute().item() == pytest.approx(math.hypot(-5.5 + 3.5, 4) / math.hypot(3.5, 4))
    metric.update(field, vector(3, 3), vector(3, 3))  # no length
    assert metric.update_count == 2
    assert metric.count == 1
    refuses("H x W x 2", metric.update, field[..., 0], vector(0, 0), vector(1, 1), error=ValueError)


def test_flow_error_is_a_ratio_of_sums() -> None:
    """Two pixels that move by 10 and one that moves by 1, each wrong by 1; a fourth does not count."""
    pixels, ratio = FlowEPE(), FlowEPE(relative=True)
    far, near = vector(10, 0).expand(1, 3, 2), vector(0, 1).expand(1, 3, 2)
    for metric in (pixels, ratio):
        preds = far + vector(0, 1)
        preds[:, 2] += 50
        metric.update(preds, far, torch.tensor([[True, True, False]]))
        assert metric.compute().item() == pytest.approx(1 if metric is pixels else 0.1)
        metric.update(near * 2, near, torch.tensor([[False, True, False]]))
    assert pixels.compute().item() == pytest.approx(1)
    assert ratio.compute().item() == pytest.approx(3 / 21)  # the mean of the ratios would be 0.55
    assert "no mean of ratios" in ratio.definition
    assert math.isnan(FlowEPE(relative=True)(far, far, torch.zeros(1, 3, dtype=torch.bool)))
    refuses("... x 2", pixels.update, far, far, torch.ones(3, dtype=torch.bool), error=ValueError)


def test_background_by_hand() -> None:
    field, static = torch.full((2, 4, 4, 2), 100.0), torch.zeros(4, 4, dtype=torch.bool)
    static[0] = True
    field[0, 0], field[1, 0] = torch.tensor([3.0, 4.0]), torch.zeros(2)
    moved, changed = BackgroundDisplacement(), BackgroundChange(grey_levels=True)
    moved.update(field, static)
    assert moved.compute().item() == pytest.approx(2.5)
    preds = torch.full((2, 3, 4, 4), 0.9)
    preds[:, :, 0] = torch.tensor([0.0, 0.2]).view(2, 1, 1)
    changed.update(preds, torch.zeros(3, 4, 4), static)
    assert changed.compute().item() == pytest.approx(25.5)  # 0 and 51 of 255
    assert "grey levels" in changed.definition
    refuses("T x H x W x 2", moved.update, field[0], static, error=ValueError)


def test_changed_pixels_by_hand() -> None:
    """In the region copying is wrong by 0.5 in one case and by 0.1 in the other; outside nothing counts."""
    region = torch.zeros(1, 4, 4, dtype=torch.bool)
    region[0, :2] = True
    metric = ChangedPixels()
    for true, made in ((0.5, 0.4), (0.1, 0.2)):
        preds = torch.full((1, 3, 4, 4), made)
        preds[..., 2:, :] = 1
        metric.update(preds, torch.full((1, 3, 4, 4), true), torch.zeros(3, 4, 4), region)
    assert metric.compute().item() == pytest.approx((0.1 + 0.1) / (0.5 + 0.1))
    refuses("T x H x W", metric.update, preds, preds, preds[0], region[:, 1:], error=ValueError)


# --- cases ---------------------------------------------------------------------------------------------------------
def square_video(step: tuple[int, int], count: int = LENGTH + 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A bright square at (8, 20) that moves by a step per frame: frames, parts, corners."""
    corners = np.array([8, 20]) + np.arange(count)[:, None] * np.array(step)
    parts = np.zeros((count, SIZE, SIZE), np.uint8)
    for t, (x, y) in enumerate(corners):
        parts[t, y : y + SIDE, x : x + SIDE] = 1
    return np.repeat(np.where(parts[..., None] > 0, 220, 40).astype(np.uint8), 3, axis=-1), parts, corners


def square_clip(other: tuple[int, int] = (0, 2), name: str = "square") -> Clip:
    """It goes right by 20 pixels; under the other poke it goes down."""
    frames, parts, corners = square_video((2, 0))
    moves = np.zeros((len(frames), 2, 2, 3), np.float32)
    moves[:, :, 0, 0] = moves[:, :, 1, 1] = 1
    moves[:, 1, :, 2] = corners
    other_frames, _, other_corners = square_video(other)
    tracks = {"parts": parts, "moves": moves, "mask": parts * 255, "path": corners + 5.0}
    return Clip(name, frames, 25.0, {**tracks, "other_frames": other_frames, "other_path": other_corners + 5.0})


def by_kind(*clips: Clip) -> dict[str, PokeCase]:
    return {case.kind: case for case in poke_cases(clips) if isinstance(case, PokeCase)}


def test_three_cases_of_a_clip_with_two_outcomes() -> None:
    clip = square_clip()
    cases = by_kind(clip)
    own, other, background = cases["own"], cases["other"], cases["background"]
    assert [case.name for case in cases.values()] == ["square", "square--other", "square--background"]
    assert (own.start.tolist(), own.end.tolist()) == ([13, 25], [33, 25])
    assert (other.start.tolist(), other.end.tolist()) == ([13, 25], [13, 45])
    assert np.array_equal(other.target, clip.tracks["other_frames"])
    assert own.other_last is not None
    assert other.other_last is not None
    assert np.array_equal(own.other_last, other.target[-1])
    assert np.array_equal(other.other_last, own.target[-1])
    assert (background.target == clip.frames[0]).all()
    assert len(background.target) == LENGTH + 1
    assert background.other_last is None


def test_background_pokes_keep_clear_of_what_moves() -> None:
    places = []
    for case in poke_cases([square_clip(name=f"c{i}") for i in range(20)]):
        assert isinstance(case, PokeCase)
        if case.kind == "background":
            y, x = np.nonzero((case.clip.tracks["mask"] > 0).any(0))
            assert np.hypot(x - case.start[0], y - case.start[1]).min() >= CLEARANCE
            assert (case.end - case.start).tolist() == [20, 0]
            assert 0 <= case.start[0] <= case.end[0] <= SIZE - 1
            places.append(tuple(case.start))
    assert len(set(places)) > 10  # a place of its own for each clip
    assert (by_kind(square_clip())["background"].start == places[0]).all()  # and the same place each time


def test_short_pokes_are_left_out() -> None:
    clip = square_clip(other=(0, 0))
    cases = by_kind(clip)
    assert list(cases) == ["own", "background"]
    assert cases["own"].other_last is None
    short = Clip("short", clip.frames[:LENGTH], 25.0)
    refuses("'short' has 10 frames; the protocol pokes needs 11", poke_cases, [short])
    refuses("Nothing moves", poke_cases, [Clip("rest", np.repeat(clip.frames[:1], 11, axis=0), 25.0)])


# --- columns -------------------------------------------------------------------------------------------------------
def perfect(case: PokeCase, sample: int = 0) -> Sample:
    fields = np.full((*case.target.shape[:3], 2), np.nan)  # the still's own is not known and not asked for
    true = true_field(case) if case.kind == "own" else None
    fields[1:] = 0 if true is None else true[0]
    if case.kind == "other":
        fields[-1] = case.start - case.end
    return Sample(case.target, {"displacement": fields})


def measured(predictor: Predictor, *clips: Clip) -> dict[str, float | None]:
    columns = [column for column in COLUMNS if column.extractor == "pixels"]
    metrics, cache = {column.name: column.build(None) for column in columns}, FeatureCache({})
    for case in poke_cases(clips):
        frames = predictor(case, 0)
        assert frames is not None
        add_case(metrics, columns, cache, case, [frames])
    return {name: float(metric.compute()) if metric.update_called else None for name, metric in metrics.items()}


def test_a_perfect_prediction_and_the_still() -> None:
    right, still = measured(perfect, square_clip()), measured(still_picture, square_clip())  # type: ignore[arg-type]
    assert (right["poke error"], still["poke error"]) == pytest.approx((0, 1))
    assert (right["flow EPE"], still["flow EPE"]) == pytest.approx((0, 11))  # the mean of 2, 4, ..., 20
    assert (right["flow EPE (relative)"], still["flow EPE (relative)"]) == pytest.approx((0, 1))
    assert (right["counterfactual accuracy"], still["counterfactual accuracy"]) == (100, 50)
    ratio = "L1 of changed pixels / copy the still"
    assert (right[ratio], still[ratio]) == pytest.approx((0, 1))
    for name in ("background displacement", "background change (grey levels)", "change (background poke)"):
        assert (right[name], still[name]) == (0, 0)
    assert right["PSNR (paper)"] == right["PSNR (release)"] == 60
    assert (still["targeted end-point error"] or 0) == pytest.approx(1)


def test_only_the_last_frame_of_drags_counts_in_their_block() -> None:
    """Two pokes that hold: one prediction goes nowhere until the last frame, where it is right."""
    drag, push = (replace(square_clip(), meta={"poke": {"kind": kind}}) for kind in ("drag", "push"))

    def late(case: PokeCase, sample: int = 0) -> Sample:
        right, still = perfect(case), still_picture(case)
        frames, field = still.frames.copy(), still.facts["displacement"].copy()
        frames[-1], field[-1] = right.frames[-1], right.facts["displacement"][-1]
        return Sample(frames, {"displacement": field})

    found, still = measured(late, drag), measured(still_picture, drag)  # type: ignore[arg-type]
    names = [name for name in found if name.endswith(f" ({DRAGS})")]
    assert [found[name] for name in names] == pytest.approx([0, 0, 0, 100])
    assert [still[name] for name in names] == pytest.approx([1, 1, 1, 50])
    for name in ("flow EPE (relative)", "L1 of changed pixels / copy the still"):  # all ten frames
        assert (found[name] or 0) > 0.5
    pushed = measured(late, push)  # type: ignore[arg-type]
    assert [pushed[name] for name in names] == [None] * 4
    both = measured(lambda case, sample: late(case) if case.clip is drag else still_picture(case), drag, push)
    assert [both[name] for name in names] == [found[name] for name in names]
    background = [case for case in poke_cases([drag]) if case.name.endswith("--background")]
    assert [column.applies(case) for column in COLUMNS if column.name in names for case in background] == [False] * 4


def test_noise_does_not_decide_between_the_outcomes_of_drags() -> None:
    """Right where the two clearly differ, and wrong by 20 grey levels all over the background."""
    clip = replace(square_clip(), meta={"poke": {"kind": "drag"}})
    own = by_kind(clip)["own"]
    assert own.other_last is not None
    same = own.target[-1] == own.other_last
    noisy = replace(own, other_last=own.other_last + np.where(same, 20, 0).astype(np.uint8))
    made = noisy.target.copy()
    made[-1] = np.where(same, noisy.other_last, made[-1])
    column = next(column for column in COLUMNS if column.name == f"counterfactual accuracy ({DRAGS})")
    prediction = Prediction(noisy, made, FeatureCache({}))
    arguments = column.arguments(prediction)
    assert arguments is not None
    assert [len(frame) for frame in arguments] == [2 * SIDE * SIDE] * 3  # the squares of both outcomes alone
    assert column.build(None)(*arguments) == 100


def test_the_outcome_of_the_other_poke_is_wrong() -> None:
    pairs = by_kind(square_clip())
    swapped = {"own": pairs["other"].target, "other": pairs["own"].target, "background": pairs["own"].target}
    found = measured(lambda case, sample: swapped[case.kind], square_clip())  # type: ignore[attr-defined]
    assert found["counterfactual accuracy"] == 0
    assert found["poke error"] is None  # frames alone have no field
    assert found["flow EPE"] is None
    # The square leaves 2t columns and enters 2t (at most 16 high and wide), 180 grey levels; frame 0 is the still.
    pixels = sum(2 * min(2 * t, SIDE) * SIDE for t in range(1, 11))
    assert found["change (background poke)"] == pytest.approx(180 * pixels / SIZE**2 / 11)


def test_a_background_that_moves_is_measured() -> None:
    def drifting(case: PokeCase, sample: int = 0) -> Sample:
        return Sample(case.target, {"displacement": np.full((*case.target.shape[:3], 2), (0.3, 0.4))})

    found = measured(drifting, square_clip())  # type: ignore[arg-type]
    assert found["background displacement"] == pytest.approx(0.5)
    assert found["displacement (background poke)"] == pytest.approx(0.5)


def test_the_moved_patch() -> None:
    case = by_kind(square_clip())["own"]
    made = moved_patch(case)
    field = made.facts["displacement"]
    assert np.array_equal(made.frames[0], case.still)
    assert field[-1, 25, 33].tolist() == pytest.approx([-20, 0])
    assert field[5, 25, 23].tolist() == pytest.approx([-10, 0])  # half of the way at half time
    one, two = field[5, 25 + 6, 23, 0], field[5, 25, 23 + 13, 0]
    assert (one, two) == pytest.approx([-10 * math.exp(-((d / 6.4) ** 2) / 2) for d in (6, 13)], rel=1e-4)
    assert (made.frames[-1, 25, 33] == 220).all()  # which the still shows at (13, 25)
    found = measured(moved_patch, square_clip())
    assert found["poke error"] == pytest.approx(0, abs=1e-6)
    assert found["counterfactual accuracy"] == 100


def test_a_clip_without_known_motion_is_followed_by_its_flow() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    texture, frames = (
        cv2.resize(noise, (32, 32), interpolation=cv2.INTER_CUBIC),
        np.full((11, 64, 64, 3), 120, np.uint8),
    )
    for t in range(11):
        frames[t, 16:48, 10 + t // 2 : 42 + t // 2] = texture
    clip = Clip("real", frames, 25.0)
    cases = by_kind(clip)
    assert list(cases) == ["own"]
    assert (cases["own"].end - cases["own"].start).tolist() == pytest.approx([5, 0], abs=1)
    truth, still = measured(true_clip, clip), measured(still_picture, clip)
    assert truth["targeted end-point error"] == pytest.approx(0, abs=1e-3)  # the flow that made the poke
    assert (still["targeted end-point error"] or 0) == pytest.approx(1, abs=0.05)
    assert still["poke error"] == pytest.approx(1)
    for name in ("flow EPE", "background change (grey levels)", "counterfactual accuracy", "L1 (disoccluded)"):
        assert still[name] is None


# --- facts and the control -----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Poke(Control):
    """A stand-in for the control of the system `pokes`."""

    given_by: ClassVar[str] = "--poke"
    moves: list[tuple[tuple[float, float], tuple[float, float]]] = option("--poke", metavar="MOVES", help="pokes")


class Poked(Toy):
    """The still at every step, with the poke's shift as the displacement of every pixel, but for the first step."""

    controls = (Poke,)

    def rollout(self, still: np.ndarray, control: Control | None, output: Output) -> Rollout:
        assert isinstance(control, Poke)
        return PokedRollout(self, still, control, output)


class PokedRollout(ToyRollout):
    def __init__(self, system: Toy, still: np.ndarray, control: Poke, output: Output):
        self.frame, self.left = still, output.frames or 0
        ((start, end),) = control.moves
        self.shift, self.first = np.subtract(start, end), True

    def __next__(self) -> Step:
        facts = {} if self.first else {"displacement": np.tile(self.shift, (*self.frame.shape[:2], 1)), "odd": 1}
        self.left, self.first = self.left - 1, False
        return Step(self.frame, {}, facts)


@pytest.fixture
def poke_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("stillmotion.systems.pokes")
    module.Poke = Poke  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stillmotion.systems.pokes", module)


@pytest.mark.usefixtures("poke_module")
def test_a_prediction_carries_the_facts_of_its_steps() -> None:
    case = by_kind(square_clip())["own"]
    made = PROTOCOL.predictor(Animator(Poked.build(ToyConfig())))(case, 0)
    assert isinstance(made, Sample)
    assert made.frames.shape == case.target.shape
    assert set(made.facts) == {"displacement"}  # no more than was asked for
    field = made.facts["displacement"]
    assert np.isnan(field[0]).all()
    assert (field[1:] == (-20, 0)).all()
    found = measured(PROTOCOL.predictor(Animator(Poked.build(ToyConfig()))), square_clip())
    assert found["poke error"] == 0
    assert found["background displacement"] == pytest.approx(20)


def test_a_field_of_another_size_is_refused() -> None:
    case = by_kind(square_clip())["own"]
    small = {"displacement": np.zeros((11, 32, 32, 2))}
    prediction = Prediction(case, case.target, FeatureCache({}), small)
    refuses("has 32 x 32 pixels .* 64 x 64; prepare the data with --size 32", field_of, prediction)
    assert field_of(replace(prediction, facts={})) is None


def test_a_report_of_pokes(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", [square_clip()], info=DatasetInfo(title="square"))
    text = evaluate_models([], tmp_path / "set", "pokes", tmp_path / "out", split="all")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["cases"] == 3
    assert report["means"]["baseline: copy the still"]["flow EPE"] == pytest.approx(11)
    assert report["means"]["baseline: the true clip"]["flow EPE"] is None
    assert report["per_clip"]["baseline: moved patch"]["square--background"]["poke error"] is None
    assert "followed by 10 frames" in text
    (first,) = (line for line in text.splitlines() if line.startswith("|") and " flow EPE (relative) |" in line)
    assert first.startswith("|  | L1 |")
    assert "last frame" not in first
    assert f"| {DRAGS} |" not in text  # no block without a value
    assert report["means"]["baseline: copy the still"][f"poke error ({DRAGS})"] is None  # the square is not dragged
    assert "FVD (needs an I3D trained on Kinetics-400" in text
    assert "Frechet video distance (world network) (needs the network trained on the worlds' clips" in text
    assert PROTOCOLS["pokes"] is PROTOCOL
