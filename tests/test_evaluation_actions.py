"""Evaluation of actions: a classifier of two motions, metrics by hand, and a toy that performs what it is told."""

import json
import runpy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from refusals import refuses
from stillmotion.animate import Animator
from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from stillmotion.evaluation.extractors import open_extractors
from stillmotion.evaluation.extractors.actions import (
    FRAMES,
    ActionClassifier,
    ActionNetwork,
    measure_accuracy,
    sample_times,
    save_classifier,
    train_classifier,
)
from stillmotion.evaluation.extractors.described import augmented
from stillmotion.evaluation.extractors.identity import figure_colours
from stillmotion.evaluation.protocols import PROTOCOLS
from stillmotion.evaluation.protocols.action_cases import ActionCase, action_cases, still_figure
from stillmotion.evaluation.protocols.columns import Case
from stillmotion.evaluation.report import evaluate_models
from stillmotion.options import Control, option
from stillmotion.systems.base import Output, Rollout, Step
from toy_tools import Toy, ToyConfig, ToyRollout

ROOT = Path(__file__).parents[1]
SIDE, BOX, LENGTH, GREY = 64, 14, 12, 90
CENTRE = (SIDE - BOX) // 2
COLOURS = {
    "red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 230), "white": (240, 240, 240),
    "black": (10, 10, 10), "yellow": (230, 220, 30),
}  # fmt: skip
ACTIONS = {"across": (1, 0), "along": (0, 1)}  # swings (x, y)


def places(action: str, amplitude: float, length: int = LENGTH) -> np.ndarray:
    """Corner of the box in every frame, T x 2 whole pixels: one swing that begins at the centre."""
    swing = amplitude * np.sin(2 * np.pi * np.arange(length) / length)
    return np.rint(CENTRE + swing[:, None] * np.array(ACTIONS[action])).astype(int)


def boxes(at: np.ndarray) -> np.ndarray:
    """Where the box is, T x H x W `bool`."""
    y, x = np.mgrid[:SIDE, :SIDE]
    inside = [(x >= cx) & (x < cx + BOX) & (y >= cy) & (y < cy + BOX) for cx, cy in at]
    return np.stack(inside)


def swinging(person: str, action: str, amplitude: float = 12, split: str = "train", **meta: Any) -> Clip:
    mask = boxes(places(action, amplitude))
    frames = np.where(mask[..., None], np.array(COLOURS[person], np.uint8), np.uint8(GREY))
    name = f"{person}-{action}-{amplitude:g}".replace(".", "_")
    facts = {"action": action, "subject": person, "split": split, **meta}
    return Clip(name, frames, 25.0, {"mask": mask.astype(np.uint8) * 255}, facts)


def real_clips(people: Sequence[str], amplitudes: Sequence[float], split: str = "train") -> list[Clip]:
    return [swinging(*each, split=split) for p in people for a in ACTIONS for s in amplitudes for each in [(p, a, s)]]


TRAINED, TESTED = (
    real_clips(["red", "white", "black", "yellow"], [9, 13, 17]),
    real_clips(["green", "blue"], [10, 15], "test"),
)


@pytest.fixture(scope="module")
def classifier() -> ActionClassifier:
    """Trained on boxes of other colours for a few seconds."""
    return train_classifier(TRAINED, torch.Generator().manual_seed(0), steps=30, batch=6)


# --- the classifier ------------------------------------------------------------------------------------------------
def test_two_motions_are_learned(classifier: ActionClassifier) -> None:
    measured = measure_accuracy(classifier, TESTED)
    assert (measured.about.accuracy, measured.about.clips) == (100, 8)
    assert "100.0 % of 8 real clips" in measured.description
    other = {"across": "along", "along": "across"}
    wrong = [replace(clip, meta={**clip.meta, "action": other[clip.meta["action"]]}) for clip in TESTED[:6]]
    assert measure_accuracy(classifier, [*wrong, *TESTED[6:]]).about.accuracy == 25
    assert sum(weight.numel() for weight in ActionNetwork(10).parameters()) == 571_266
    features = classifier(TESTED[0].frames)
    assert features.shape == (1, classifier.dimension)
    assert torch.equal(classifier.scores(features).argmax(1), torch.tensor([0]))


def test_a_training_depends_on_its_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    nets = [
        train_classifier(TRAINED, torch.Generator().manual_seed(seed), steps=2, batch=2).network for seed in (1, 1, 2)
    ]
    assert torch.equal(before, torch.get_rng_state())
    same, again, other = (net.head.weight for net in nets)
    assert torch.equal(same, again)
    assert not torch.equal(same, other)
    steps: list[int] = []
    generator = torch.Generator().manual_seed(1)
    train_classifier(
        TRAINED, generator, steps=50, minutes=1e-6, batch=2, progress=lambda step, loss: steps.append(step)
    )
    assert len(steps) <= 1


def test_a_video_of_any_length_and_size_is_sampled() -> None:
    assert sample_times(100)[[0, -1]].tolist() == [0, 99]
    assert sample_times(101, start=0.2, share=0.5)[[0, -1]].tolist() == [20, 70]
    assert len(sample_times(6)) == FRAMES
    refuses("A video has 3 frames; actions are recognised in 4 or more", sample_times, 3)
    fresh = train_classifier(TRAINED, torch.Generator().manual_seed(0), steps=1, batch=2)
    assert fresh(np.zeros((5, 40, 30, 3), np.uint8)).shape == (1, 224)


def test_only_what_may_be_mirrored_is_mirrored() -> None:
    videos = torch.zeros(24, 2, 3, 16, 16)
    videos[..., 8:] = 1  # bright on the right
    for flip in (False, True):
        made = augmented(videos, torch.Generator().manual_seed(0), flip)
        brighter = made[..., 12:].mean((1, 2, 3, 4)) > made[..., :4].mean((1, 2, 3, 4))
        assert made.shape == videos.shape
        assert (0 < brighter.sum() < 24) if flip else brighter.all()


def test_clips_are_mirrored_unless_their_side_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    flips: list[bool] = []

    def recorded(videos: Tensor, generator: torch.Generator, flip: bool) -> Tensor:
        flips.append(flip)
        return videos

    monkeypatch.setattr("stillmotion.evaluation.extractors.actions.augmented", recorded)
    sides = [replace(clip, meta={"action": side, "side": side}) for clip, side in zip(TRAINED, "lrlr", strict=False)]
    for label in ("action", "side"):
        train_classifier(sides, torch.Generator().manual_seed(0), label=label, steps=1, batch=1)
    assert flips[0]
    assert not flips[-1]


def test_labels_that_cannot_be_learned_are_refused() -> None:
    generator = torch.Generator()
    refuses("has no side in its meta", train_classifier, TRAINED, generator, label="side")
    refuses("All clips have the same action", train_classifier, TRAINED[:3], generator)


def test_a_saved_classifier_is_opened_by_its_digest(classifier: ActionClassifier, tmp_path: Path) -> None:
    value = save_classifier(tmp_path / "mine", classifier, data="boxes", shards=("a1",), accuracy=87.5, clips=8)
    opened = open_extractors([("actions", value)])["actions"]
    assert torch.equal(opened(TESTED[0].frames), classifier(TESTED[0].frames))
    assert isinstance(opened, ActionClassifier)
    assert opened.classes == ("across", "along")
    assert "trained on boxes, its own accuracy on clips it was not trained on: 87.5 % of 8" in opened.description
    path, _, digest = value.rpartition("@")
    refuses("has the SHA-256", open_extractors, [("actions", f"{path}@{'0' * 64}")])
    stored = json.loads((tmp_path / "mine.json").read_text())
    for words, changes in (("does not describe the weights", {"weights": "0"}), ("has unknown ones", {"more": 1})):
        (tmp_path / "mine.json").write_text(json.dumps({**stored, **changes}))
        refuses(words, open_extractors, [("actions", f"{path}@{digest}")])
    (tmp_path / "mine.json").write_text(json.dumps({**stored, "classes": ["a", "b", "c"]}))
    refuses("head", open_extractors, [("actions", f"{path}@{digest}")])


def test_the_recipe_trains_and_names_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    write_dataset(data, [*TRAINED[:6], *TESTED[:2]], info=DatasetInfo(title="boxes"))
    runpy.run_path(str(ROOT / "recipes" / "action_network.py"))["main"]([str(data), "--steps", "1"])
    said = capsys.readouterr().out
    assert "% of 2 held-out clips, 2 classes" in said
    opened = open_extractors([("actions", said.rpartition("--network actions=")[2].strip())])["actions"]
    assert isinstance(opened, ActionClassifier)
    assert len(opened.about.shards[0]) == 64  # of the data set, beside which the file lies
    assert (data / "action_classifier.safetensors").is_file()


# --- cases ---------------------------------------------------------------------------------------------------------
def own(case: Case) -> ActionCase:
    assert isinstance(case, ActionCase)
    return case


def test_cases_of_one_action_and_of_all() -> None:
    clips = [swinging("green", "across"), swinging("blue", "along")]
    first, second = map(own, action_cases(clips))
    assert (first.action, first.place, first.own, first.true, first.person) == ("across", 0, True, True, 0)
    assert (second.action, second.place, second.person) == ("along", 1, 1)
    assert np.array_equal(first.target, clips[0].frames)
    every = list(map(own, action_cases(clips, every=True)))
    assert [case.name for case in every] == [
        "green-across-12", "green-across-12--along", "blue-along-12--across", "blue-along-12"
    ]  # fmt: skip
    assert [case.true for case in every] == [True, False, False, True]
    assert np.array_equal(every[1].target, np.repeat(clips[0].frames[:1], LENGTH, axis=0))
    long = Clip("long", np.arange(100, dtype=np.uint8).repeat(12).reshape(100, 2, 2, 3), 25.0, meta={"action": "a"})
    (case,) = map(own, action_cases([long]))
    assert case.target[:, 0, 0, 0].tolist() == list(range(0, 96, 3))  # a gap of floor(100 / 32)
    assert case.gallery is None
    refuses("'bare' has no action in its meta", action_cases, [long, Clip("bare", long.frames, 25.0)])
    (bare,) = map(own, action_cases([Clip("bare", long.frames, 25.0)], every=True))
    assert (bare.action, bare.own) == (None, True)


def test_a_person_is_compared_with_its_own_still() -> None:
    """Two clips of one person, who has changed clothes."""
    clips = [swinging(name, "across", subject=who) for name, who in (("red", "a"), ("green", "a"), ("blue", "b"))]
    galleries = [own(case).gallery for case in action_cases(clips)]
    for clip, gallery, person in zip(clips, galleries, (0, 0, 1), strict=True):
        assert gallery is not None
        assert gallery.shape == (2, 64)
        assert torch.equal(gallery[person], figure_colours(clip.frames[:1], clip.tracks["mask"][:1] / 255)[0])
    assert galleries[0] is not None
    assert galleries[1] is not None
    assert torch.equal(galleries[0][1], galleries[1][1])


def test_a_drawn_character_has_the_true_outcome_of_its_other_actions() -> None:
    drawn = [
        swinging("red", "across", 12, character="knight", side="left"),
        swinging("red", "along", 15, character="knight", side="left"),
        swinging("red", "along", 9, character="knight", side="right"),
    ]
    every = {case.name: own(case) for case in action_cases(drawn, every=True)}
    asked = every["red-across-12--along"]
    assert asked.true
    assert not asked.own
    assert np.array_equal(asked.target, drawn[1].frames)
    assert np.array_equal(asked.still, drawn[0].frames[0])
    assert not every["red-along-9--across"].true
    assert {case.person for case in every.values()} == {0}


def test_a_figure_is_the_mask_or_the_hull_of_joints() -> None:
    clip = swinging("red", "across")
    figure = still_figure(clip)
    assert figure is not None
    assert figure.sum() == BOX**2
    joints = np.zeros((LENGTH, 3, 3), np.float32)
    joints[0, :, :2] = [[10, 10], [20, 10], [10, 20]]
    hull = still_figure(replace(clip, tracks={"joints": joints}))
    assert hull is not None
    assert (hull[12, 12], hull[19, 19], hull[40, 40]) == (1, 0, 0)
    assert still_figure(replace(clip, tracks={})) is None


# --- the protocol, with a toy --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Act(Control):
    """Perform an action."""

    given_by: ClassVar[str] = "--action"
    action: str | None = option("--action", default=None, help="its name")


class Actor(Toy):
    """Moves the still's box as the action says; the seed makes it swing farther. Keypoints are the box's centre."""

    controls: ClassVar[tuple[type[Control], ...]] = (Act,)
    protocol = "actions"
    disobeys, leaks = False, 0

    def rollout(self, still: np.ndarray, control: Control | None, output: Output) -> Rollout:
        assert isinstance(control, Act)
        action = str(control.action)
        if self.disobeys:
            action = {"across": "along", "along": "across"}[action]
        return Acting(self, still, action, output)

    def detect_keypoints(self, frames: np.ndarray) -> np.ndarray:
        seen = np.abs(frames.astype(int) - GREY).max(-1) > 20
        y, x = np.mgrid[:SIDE, :SIDE]
        return np.stack([[[x[s].mean(), y[s].mean()]] for s in seen]) * 2 / (SIDE - 1) - 1


class Acting(ToyRollout):
    def __init__(self, system: Actor, still: np.ndarray, action: str, output: Output):
        self.system, self.still = system, still
        self.at = places(action, 10 + 4 * (output.seed or 0), output.frames or LENGTH)
        self.old, self.now, self.left = boxes(self.at[:1])[0], 0, len(self.at)

    def __next__(self) -> Step:
        new = boxes(self.at[self.now : self.now + 1])[0]
        colour = self.still[self.old][0]
        frame = np.where((self.old & ~new)[..., None], np.uint8(GREY), self.still)
        frame = np.where(new[..., None], colour, frame)
        frame[0, 0] += np.uint8(self.system.leaks * (self.now > 0))
        shares = np.stack([new, ~(new | self.old), self.old & ~new, 0 * new]).astype(np.float32)
        if self.now == 0:
            shares[:] = np.array([0, 1, 0, 0])[:, None, None]
        mean = (self.at[self.now] + (BOX - 1) / 2) * 2 / (SIDE - 1) - 1
        self.now, self.left = self.now + 1, self.left - 1
        return Step(frame, {}, {"shares": shares, "mean": mean[None]})


def test_the_protocol_measures_who_obeys(
    classifier: ActionClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, model = tmp_path / "data", Actor.build(ToyConfig())
    write_dataset(data, TESTED, info=DatasetInfo(title="boxes"))
    monkeypatch.setattr("stillmotion.evaluation.report.load", lambda *_, **__: Animator(model))

    def report(protocol: str) -> dict[str, Any]:
        text = evaluate_models(
            ["actor"], data, protocol, tmp_path / "out", extractors={"actions": classifier}, overwrite=True
        )
        found: dict[str, Any] = json.loads((tmp_path / "out" / "report.json").read_text())
        assert "| recognised, actor | across | along |" in text
        return found

    found = report("actions-all")
    assert (found["cases"], found["samples"]) == (16, 2)
    actor, still, true = (found["means"][name] for name in (
        "actor", "baseline: copy the still", "baseline: the true clip"))  # fmt: skip
    assert actor["recognised"] == actor["recognised (real clips)"] == true["recognised"] == 100
    assert still["recognised"] <= 50
    assert found["tables"]["actor"]["recognised"] == {
        "across": {"across": 16, "along": 0}, "along": {"across": 0, "along": 16}
    }  # fmt: skip
    assert 0 < actor["recognised, 95 % +-"] < still["recognised, 95 % +-"] + 1e-6
    assert (still["diversity ratio (features)"], still["diversity ratio (pixels)"]) == (0, 0)
    # Amplitudes 10 and 14 against 10 and 15, which two people have, who are as near to their own.
    assert actor["diversity ratio (keypoints)"] == pytest.approx(4 / (5 * 4 / 6), rel=0.1)
    assert actor["diversity ratio (pixels)"] > 0
    assert actor["multimodality"] < actor["diversity"]
    assert actor["identity right"] == still["identity right"] == true["identity right"] == 100
    assert (actor["background exactness"], still["background exactness"]) == (0, None)
    swept = np.stack([boxes(places(a, s))[1:] | boxes(places(a, s)[:1]) for a in ACTIONS for s in (10, 14)])
    assert actor["mask coverage"] == pytest.approx(1 - swept.mean(), abs=1e-4)
    assert actor["keypoint consistency (% of width)"] == pytest.approx(0, abs=1e-4)
    assert 0 < actor["L1 of changed pixels / copy the still"] < 0.6
    assert (true["L1 of changed pixels / copy the still"], still["L1 of changed pixels / copy the still"]) == (0, 1)

    model.disobeys, model.leaks = True, 3
    wrong = report("actions")["means"]["actor"]
    assert (wrong["recognised"], wrong["background exactness"]) == (0, 3)
    assert wrong["recognised (real clips)"] == 100
    # Even so the old place is uncovered, where a still is wrong.
    assert wrong["L1 of changed pixels / copy the still"] > 2 * actor["L1 of changed pixels / copy the still"]
    assert wrong["keypoint consistency (% of width)"] == pytest.approx(0, abs=1e-4)


def test_a_control_without_an_action_and_a_foreign_class_are_refused(
    classifier: ActionClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {"actions", "actions-all"} <= set(PROTOCOLS)
    write_dataset(tmp_path / "data", TESTED, info=DatasetInfo(title="boxes"))
    monkeypatch.setattr("stillmotion.evaluation.report.load", lambda *_, **__: Animator(Toy.build(ToyConfig())))
    refuses("feeds Act", evaluate_models, ["toy"], tmp_path / "data", "actions", tmp_path / "out")
    jumps = [replace(clip, meta={**clip.meta, "action": "jump"}) for clip in TESTED[:2]]
    write_dataset(tmp_path / "jumps", jumps, info=DatasetInfo(title="jumps"))
    refuses("does not know the action 'jump'", evaluate_models, [], tmp_path / "jumps", "actions", tmp_path / "out",
            extractors={"actions": classifier})  # fmt: skip
