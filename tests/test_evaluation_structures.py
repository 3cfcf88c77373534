"""Evaluation of structures: metrics by hand, and toys that follow poses or carry a performance over to a face."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from refusals import refuses
from stillmotion.animate import Animator
from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo
from stillmotion.data.pose import JOINTS
from stillmotion.data.shards import write_dataset
from stillmotion.errors import StillmotionError
from stillmotion.evaluation.extractors.faces import About, FaceExpressions, FaceNetwork
from stillmotion.evaluation.metrics.structures import (
    ContentConsistency,
    ContentDistance,
    JointError,
    TemporalError,
)
from stillmotion.evaluation.protocols import PROTOCOLS
from stillmotion.evaluation.protocols.columns import Case, FeatureCache, Prediction
from stillmotion.evaluation.protocols.retargeting import RetargetCase, apex_of, retarget_cases, retarget_control
from stillmotion.evaluation.protocols.structure_columns import refinement_columns
from stillmotion.evaluation.protocols.structures import StructureCase, joint_boxes, structure_cases, structure_control
from stillmotion.evaluation.report import evaluate_models
from stillmotion.options import Control
from stillmotion.systems.base import Output, Rollout, Step
from stillmotion.systems.structures import Observe, Poses, Retarget
from stillmotion.worlds import sample_clip
from stillmotion.worlds.faces import Face, render, retarget, sample_description
from toy_tools import Toy, ToyConfig, ToyRollout

SIDE, BOX = 32, 5
OFF_BY = 6
"""Grey levels by which the toy's frames are too bright; before its refinement they are twice as wrong, in turns."""


# --- metrics by hand -----------------------------------------------------------------------------------------------
def test_content_distances_of_three_vectors() -> None:
    """Facts sheet, section 12, line 20."""
    features = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 8.0]])
    to_input, within = ContentDistance(), ContentConsistency()
    to_input.update(features, torch.tensor([[0.0, 0.0]]))
    within.update(features)
    assert to_input.compute() == pytest.approx((0 + 5 + 8) / 3)
    assert within.compute() == pytest.approx((5 + 8 + 5) / 3)
    # Means over videos, not over frames: a static video of its input halves both.
    to_input.update(torch.ones(7, 2), torch.ones(1, 2))
    within.update(torch.ones(7, 2))
    assert (to_input.compute(), within.compute()) == (pytest.approx(13 / 6), pytest.approx(3))
    within.update(torch.ones(1, 2))  # one frame has no pair
    assert within.compute() == pytest.approx(3)
    refuses("T x D and 1 x D", to_input.update, features, features, error=ValueError)
    refuses("T x D", within.update, features[0], error=ValueError)


def test_temporal_error_is_that_of_changes() -> None:
    target = torch.tensor([0.0, 0.1, 0.3, 0.2])[:, None, None, None].expand(4, 3, 2, 2)
    metric = TemporalError()
    metric.update(target + 0.5, target)  # too bright, but it changes rightly
    assert metric.compute() == pytest.approx(0, abs=1e-6)
    still = TemporalError()
    still.update(target[:1].expand(4, 3, 2, 2), target)
    assert still.compute() == pytest.approx((0.1 + 0.2 + 0.1) / 3)


def test_joint_error_is_a_share_of_the_side() -> None:
    true = torch.tensor([[[10.0, 10.0, 1.0], [20.0, 20.0, 1.0], [0.0, 0.0, 0.0]]])
    found = torch.tensor([[[13.0, 14.0, 1.0], [99.0, 99.0, 0.0], [5.0, 5.0, 1.0]]])
    metric = JointError()
    metric.update(found, true, 50)
    assert metric.compute() == pytest.approx(10)  # 5 of 50 pixels; one is not found, of one nothing is known
    assert joint_boxes(true).tolist() == [[10, 10, 20, 20]]
    assert joint_boxes(true * torch.tensor([1.0, 1.0, 0.0])).isnan().all()
    refuses("T x K x 3", metric.update, found, true[:, :2], 50, error=ValueError)


# --- poses, with a toy ---------------------------------------------------------------------------------------------
def square_clip(name: str, action: str, frames: int = 44, **meta: Any) -> Clip:
    """A white square that goes right (action `right`) or down a pixel in two frames; joints lie around its middle."""
    video, joints = np.full((frames, SIDE, SIDE, 3), 40, np.uint8), np.ones((frames, 13, 3), np.float32)
    for t in range(frames):
        x, y = (2 + t // 2, 10) if action == "right" else (10, 2 + t // 2)
        video[t, y : y + BOX, x : x + BOX] = 240
        joints[t, :, :2] = np.array([x, y]) + (BOX - 1) / 2 + np.linspace(-2, 2, 13)[:, None]
    facts = {"action": action, "split": "test", "joints": list(JOINTS), **meta}
    return Clip(name, video, 25.0, {"joints": joints}, facts)


CLIPS = [square_clip("a", "right"), square_clip("b", "down", 40)]


def painted(joints: np.ndarray, background: np.ndarray) -> np.ndarray:
    x, y = np.rint(joints[:, :2].mean(0) - (BOX - 1) / 2).astype(int)
    frame = background.copy()
    frame[y : y + BOX, x : x + BOX] = 240
    return frame


class Follower(Toy):
    """Paints the square where the poses are; predicted poses go on to the right. All too bright, see `OFF_BY`."""

    controls: ClassVar[tuple[type[Control], ...]] = (Poses, Observe)
    protocol = "structures"
    predicts, refines = True, True

    def control_of(self, clip: Clip) -> Control:
        return Poses(np.asarray(clip.tracks["joints"]), fps=clip.fps)

    def check_control(self, control: Control) -> None:
        if isinstance(control, Observe) and not self.predicts:
            raise StillmotionError("no predictor")

    def rollout(self, still: np.ndarray, control: Control | None, output: Output) -> Rollout:
        assert isinstance(control, Poses | Observe)
        if isinstance(control, Poses):
            return Following(self, np.asarray(control.poses), output)
        assert len(np.asarray(control.video)) == 10
        last = np.asarray(control.video)[-1]
        steps = np.arange(output.frames or 33)[:, None, None] * np.array([0.5, 0, 0])
        return Following(self, np.floor(last + steps + 1e-3), output)


class Following(ToyRollout):
    def __init__(self, system: Follower, poses: np.ndarray, output: Output):
        self.poses, self.now, self.left, self.refines = poses, 0, output.frames or len(poses), system.refines

    def __next__(self) -> Step:
        true = painted(self.poses[self.now], np.full((SIDE, SIDE, 3), 40, np.uint8))
        coarse = true + np.uint8(2 * OFF_BY * (self.now % 2))
        self.now, self.left = self.now + 1, self.left - 1
        return Step(
            true + np.uint8(OFF_BY),
            {},
            {"coarse": coarse, "refined": true + np.uint8(OFF_BY)} if self.refines else {},
        )


class Centre:
    """Finds the joints around the middle of what is bright."""

    description, dimension, per_video = "a toy detector", 13, False

    def __call__(self, frames: np.ndarray) -> Tensor:
        y, x = np.mgrid[:SIDE, :SIDE]
        middles = np.stack([[x[seen].mean(), y[seen].mean()] for seen in frames[..., 0] > 200])
        joints = middles[:, None] + np.linspace(-2, 2, 13)[:, None]
        return torch.from_numpy(np.concatenate([joints, np.ones((len(frames), 13, 1))], -1))


def report_of(
    toy: Toy, clips: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str | None = None,
    extractors: Any = None,
) -> tuple[dict[str, Any], str]:  # fmt: skip
    data = tmp_path / "data"
    if not data.is_dir():
        write_dataset(data, clips, info=DatasetInfo(title="toys"))
    monkeypatch.setattr("stillmotion.evaluation.report.load", lambda *_, **__: Animator(toy))
    text = evaluate_models(["toy"], data, protocol, tmp_path / "out", extractors=extractors, overwrite=True)
    found: dict[str, Any] = json.loads((tmp_path / "out" / "report.json").read_text())
    return found, text


def test_cases_are_the_first_frames_and_those_after_ten_poses() -> None:
    first, predicted, second = structure_cases(CLIPS)
    assert [case.name for case in (first, predicted, second)] == ["a", "a--predicted", "b"]  # b is too short
    assert np.array_equal(first.target, CLIPS[0].frames[:32])
    assert np.array_equal(predicted.still, CLIPS[0].frames[9])
    assert np.array_equal(predicted.target, CLIPS[0].frames[9:42])


def test_who_follows_poses_and_predicts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Follower.build(ToyConfig())
    found, text = report_of(toy, CLIPS, tmp_path, monkeypatch, extractors={"keypoints": Centre()})
    assert (found["protocol"], found["cases"]) == ("structures", 3)
    own, still, true = (
        found["means"][name] for name in ("toy", "baseline: copy the still", "baseline: the true clip")
    )
    off = OFF_BY / 255
    assert own["MSE"] == pytest.approx(off**2, rel=1e-4)
    assert own["L1"] == pytest.approx(off, rel=1e-4)
    assert own["PSNR"] == pytest.approx(-20 * np.log10(off), rel=1e-4)
    assert own["temporal error"] == pytest.approx(0, abs=1e-6)
    assert own["joint error (% of side)"] == true["joint error (% of side)"] == pytest.approx(0, abs=1e-4)
    assert (own["PCK@0.1"], own["MKR"]) == (100, 0)
    moved = np.mean(np.arange(32) // 2)
    assert still["joint error (% of side)"] == pytest.approx(100 * moved / SIDE, rel=1e-3)
    assert still["PCK@0.1"] == pytest.approx(100 * 2 / 32)  # the box around the joints is 4 pixels wide
    assert 0 < own["predicted MSE"] < still["predicted MSE"]
    # Before refinement every other frame is too bright.
    assert own["MSE before refinement"] == pytest.approx((2 * off) ** 2 / 2, rel=1e-4)
    assert own["MSE after refinement"] == pytest.approx(off**2, rel=1e-4)
    assert own["temporal error before refinement"] == pytest.approx(2 * off, rel=1e-4)
    assert own["temporal error after refinement"] == pytest.approx(0, abs=1e-6)
    assert still["MSE before refinement"] is None
    # A table by action: the mean of its clips.
    table = found["groups"]["MSE"]["baseline: copy the still"]
    assert set(table) == {"down", "right"}
    assert table["right"] == pytest.approx(found["per_clip"]["baseline: copy the still"]["a"]["MSE"])
    assert set(found["groups"]["predicted PSNR"]["toy"]) == {"right"}
    assert "| MSE | down | right |" in text

    toy.predicts, toy.refines = False, False
    without = report_of(toy, CLIPS, tmp_path, monkeypatch)[0]["means"]
    assert without["toy"]["predicted MSE"] is without["toy"]["MSE after refinement"] is None
    assert without["baseline: copy the still"]["predicted MSE"] == pytest.approx(still["predicted MSE"])


def test_what_is_observed_is_taken_as_it_is() -> None:
    case = structure_cases(CLIPS)[1]
    assert isinstance(case, StructureCase)
    toy = Follower.build(ToyConfig())
    control = structure_control(toy, case)
    assert isinstance(control, Observe)
    assert np.array_equal(np.asarray(control.video), CLIPS[0].tracks["joints"][:10])
    switches = (control.keep_proportions, control.align_first, control.smooth, control.fill_gaps)
    assert switches == (False, False, False, False)
    other: Any = SimpleNamespace(controls=(Poses,))
    assert structure_control(other, case) is None


def test_frames_are_compared_at_the_size_of_the_networks() -> None:
    """The still has twice the side of the networks' frames."""
    large = CLIPS[0].frames.repeat(2, 1).repeat(2, 2)
    case = Case("a", large[0], large[:4], CLIPS[0])
    columns = {column.name: column for column in refinement_columns(lambda case: True)}
    facts = {"coarse": np.asarray(CLIPS[0].frames[:4]) // 2, "refined": np.asarray(CLIPS[0].frames[:4])}
    prediction = Prediction(case, large[:4], FeatureCache({}), facts)
    before, after = (columns[f"MSE {when} refinement"].arguments(prediction) for when in ("before", "after"))
    assert before is not None
    assert after is not None
    assert before[0].shape == before[1].shape == (4, 3, SIDE, SIDE)
    torch.testing.assert_close(after[0], after[1], atol=0.1, rtol=0)  # the target was enlarged and shrunk
    assert before[0].amax() < 0.5 < before[1].amax()
    wide = Case("wide", large[0][:8], large[:4, :8], CLIPS[0])
    assert columns["MSE after refinement"].arguments(replace(prediction, case=wide, frames=large[:4, :8])) is None


# --- faces, with a toy ---------------------------------------------------------------------------------------------
FACES = [
    replace(clip, meta={**clip.meta, "split": "test"})
    for clip in (
        sample_clip("faces", 3, i, size=SIDE, frames=12, action=action)
        for i, action in enumerate(("anger", "surprise", "happiness"))
    )
]
EMOTIONS = ("anger", "happiness", "surprise")


class Colour:
    """Features of identity: the mean colour."""

    description, dimension, per_video = "the mean colour", 3, False

    def __call__(self, frames: np.ndarray) -> Tensor:
        return torch.from_numpy(frames.astype(np.float32).mean(axis=(1, 2)))


class Mask(Toy):
    """Shows what it is made to: the true outcome, or the still."""

    controls: ClassVar[tuple[type[Control], ...]] = (Retarget,)
    outcomes: ClassVar[dict[bytes, np.ndarray]] = {}

    def rollout(self, still: np.ndarray, control: Control | None, output: Output) -> Rollout:
        assert isinstance(control, Retarget)
        return Masked(self.outcomes[still.tobytes()])


class Masked(ToyRollout):
    def __init__(self, frames: np.ndarray):
        self.frames, self.now, self.left = frames, 0, len(frames)

    def __next__(self) -> Step:
        self.now, self.left = self.now + 1, self.left - 1
        return Step(self.frames[self.now - 1])


def known(case: Case) -> RetargetCase:
    assert isinstance(case, RetargetCase)
    return case


def test_the_outcome_in_faces_is_the_performance_of_another_person() -> None:
    people = {clip.name: sample_description(np.random.default_rng([3, i]), clip.meta["action"])
              for i, clip in enumerate(FACES)}  # fmt: skip
    cases = list(map(known, retarget_cases(FACES)))
    assert len(cases) == 3
    for case, clip in zip(cases, FACES, strict=True):
        performer = people[case.clip.name]
        assert case.clip.name != clip.name
        made = retarget(performer, people[clip.name])
        assert isinstance(made, Face)
        frames, tracks = render(made, SIDE, 12)
        assert np.array_equal(case.target, frames)
        assert np.array_equal(case.still, frames[0])
        assert case.marks is not None
        assert np.array_equal(case.marks, tracks["landmarks"][0, :, :2])
        assert case.true
        assert np.array_equal(case.gallery[case.person], clip.frames[0])
        control = retarget_control(Mask.build(ToyConfig()), case)
        assert isinstance(control, Retarget)
        assert np.array_equal(np.asarray(control.video), case.clip.frames)
        assert np.array_equal(np.asarray(control.video_landmarks), case.clip.tracks["landmarks"][..., :2])
        assert (control.head, control.own_neutral, control.smooth, control.crop) == ("video", True, False, "none")
    assert {case.person for case in cases} == {0, 1, 2}


def test_clips_without_a_description_have_no_outcome() -> None:
    bare = [replace(clip, meta={"subject": who}, tracks={}) for clip, who in zip(FACES, "aab", strict=True)]
    cases = list(map(known, retarget_cases(bare)))
    for case, clip in zip(cases, bare, strict=True):
        assert case.clip.meta["subject"] != clip.meta["subject"]
        assert np.array_equal(case.still, clip.frames[0])
        assert (case.true, case.apex, case.marks) == (False, None, None)
        assert len(case.gallery) == 2
    assert retarget_control(Mask.build(ToyConfig()), cases[0]).__class__ is Retarget
    refuses("two persons or more", retarget_cases, bare[:2])


def test_the_apex_is_where_the_expression_is_strongest() -> None:
    expression = np.zeros((6, 3), np.float32)
    expression[:, 1] = [0, 0.2, 0.5, 0.9, 0.9, 1.0]
    expression[1, 0], expression[:, 2] = 5, 0.1
    clip = Clip("a", FACES[0].frames[:6], 25.0, {"expression": expression}, {"actions": ["blink", "smile", "brow"]})
    assert apex_of(clip, 6) == 5
    assert apex_of(clip, 5) == 3
    assert apex_of(replace(clip, meta={}), 6) == 1  # nothing says that it is a blink


def test_who_carries_a_performance_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = list(map(known, retarget_cases(FACES)))
    toy = Mask.build(ToyConfig())
    monkeypatch.setattr(toy, "outcomes", {case.still.tobytes(): case.target for case in cases}, raising=False)
    expressions = FaceExpressions(FaceNetwork(3), About(EMOTIONS))
    asked = [case.clip.meta["action"] for case in cases]
    apexes = expressions(np.stack([case.target[case.apex or 0] for case in cases]))

    def recognise(features: Tensor) -> Tensor:
        """The right expression of a true apex, else the one after it."""
        ((distance, at),) = zip(*(each.tolist() for each in torch.cdist(features, apexes).min(1)), strict=True)
        return torch.eye(3)[[(EMOTIONS.index(asked[at]) + (distance > 1e-3)) % 3]]

    monkeypatch.setattr(expressions, "scores", recognise)
    extractors = {"identity": Colour(), "expressions": expressions}
    found, text = report_of(toy, FACES, tmp_path, monkeypatch, "retargeting", extractors)
    names = ("toy", "baseline: copy the still", "baseline: the performer", "baseline: the true clip")
    mask, still, performer, true = (found["means"][name] for name in names)
    assert (mask["MSE"], mask["temporal error"], true["MSE"]) == (0, 0, 0)
    assert 0 < still["MSE"] < performer["MSE"]
    assert (still["ACD-I"], still["ACD-C"]) == (0, 0)
    assert mask["ACD-I"] == true["ACD-I"] > 0
    assert mask["ACD-I"] < performer["ACD-I"]
    assert (mask["identity right"], performer["identity right"]) == (100, 0)
    assert (mask["expression recognised"], still["expression recognised"]) == (100, 0)
    assert found["tables"]["toy"]["expression recognised"]["anger"] == {
        name: asked.count("anger") * (name == "anger") for name in EMOTIONS
    }
    assert "expression recognised, toy" in text


def test_the_protocols_say_whom_they_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"structures", "retargeting"} <= set(PROTOCOLS)
    toy = Follower.build(ToyConfig())
    write_dataset(tmp_path / "data", FACES, info=DatasetInfo(title="faces"))
    monkeypatch.setattr("stillmotion.evaluation.report.load", lambda *_, **__: Animator(toy))
    refuses("feeds Retarget", evaluate_models, ["toy"], tmp_path / "data", "retargeting", tmp_path / "out")
