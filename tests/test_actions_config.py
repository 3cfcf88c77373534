"""Configurations of `actions`: what is refused, what text becomes, and what the presets hold."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest

from actions_tools import changed
from stillmotion.data.augment import find_augmentation
from stillmotion.errors import StillmotionError
from stillmotion.files import parse_settings
from stillmotion.systems.actions.config import PENN_ACTIONS, PRESETS, STAGES, ActionsConfig, TrackConfig
from stillmotion.train import stage_steps
from stillmotion.training.schedules import factor

PAPER, RELEASE = PRESETS["paper"], PRESETS["release"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": 60}, "divisible by 8"),
        ({"size": 8}, "size"),
        ({"actions": ("walk", "run", "walk")}, "different names, not all or any: walk, run, walk"),
        ({"actions": ("walk", "")}, "actions"),
        ({"keypoints__readout": "hard"}, "keypoints.readout"),
        ({"keypoints__sharpness": 0.0}, "keypoints.sharpness"),
        ({"keypoints__map_peak": "two"}, "keypoints.map_peak"),
        ({"motion__mode": "relu"}, "motion.mode"),
        ({"encoder__width": 1}, "encoder.width"),  # the detector's last maps have half of it
        ({"losses__perceptual__network": "resnet"}, "losses.perceptual.network"),
        ({"losses__perceptual__inputs": "raw"}, "losses.perceptual.inputs"),
        ({"pairs__gap": (11, 8)}, "pairs.gap must be a range"),
        ({"actions": ("walk", "all")}, "not all or any"),
        ({"actions": ("any", "walk")}, "not all or any"),
        ({"sides": ("left", "right")}, "sides need tracks"),
        ({"sides": None}, "sides need tracks"),
        ({"tracks": asdict(TrackConfig())}, "tracks need fields"),
        ({"sequences__rotation": 181}, "sequences.rotation"),
        ({"sequences__speed": (1.2, 0.7)}, "sequences.speed must be a range"),
        ({"sequences__scale": (1.2, 0.7)}, "sequences.scale must be a range"),
        ({"motion_losses__kl_ramp": 1.5}, "kl_ramp"),
    ],
    ids=str,
)
def test_impossible_configurations_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(StillmotionError, match=words):
        changed(PAPER, **changes)


def numbers(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}"


@pytest.mark.parametrize("name", [*numbers(asdict(PAPER))])
def test_no_number_may_be_negative(name: str) -> None:
    with pytest.raises(StillmotionError, match=name.rpartition(".")[2]):
        changed(PAPER, **{name: -5})


def test_settings_come_as_text() -> None:
    text = {"motion__input_every_step": "true", "motion__hidden": "32", "pairs__balance": "true"}
    config = changed(PAPER, **text)
    assert (config.motion.input_every_step, config.motion.hidden, config.pairs.balance) == (True, 32, True)
    config = changed(PAPER, actions="()", pairs__gap="3, 5")
    assert (config.actions, config.classes, config.pairs.gap) == ((), 0, (3, 5))
    assert changed(PAPER, actions="walk,jog").actions == ("walk", "jog")
    assert changed(PAPER, actions="none").actions is None


@pytest.mark.parametrize("preset", PRESETS.values(), ids=[*PRESETS])
def test_every_preset_survives_storing(preset: ActionsConfig) -> None:
    assert parse_settings(ActionsConfig, json.loads(json.dumps(asdict(preset))), "preset") == preset


def test_configurations_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PAPER.size = 64  # type: ignore[misc]


# --- presets --------------------------------------------------------------------------------------------------------
def test_paper_and_release_differ_as_the_sheet_says() -> None:
    """facts/class-conditional-keypoints.md, section 10; all else is equal."""
    expected = {
        "keypoints.readout": ("full", "separable"),
        "keypoints.map_peak": ("density", "one"),
        "motion.mode": ("linear", "released"),
        "motion_losses.gan": (2.0, 1.0),
        "losses.perceptual.inputs": ("torchvision", "caffe"),
        "keypoints_training.batch": (32, 16),
        "motion_training.batch": (32, 16),
        "keypoints_training.schedule.kind": ("staircase", "exponential"),
        "motion_training.schedule.kind": ("staircase", "exponential"),
    }
    assert dict(differences(asdict(PAPER), asdict(RELEASE))) == expected


def differences(a: dict[str, Any], b: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    for name, value in a.items():
        if isinstance(value, dict):
            yield from differences(value, b[name], f"{prefix}{name}.")
        elif value != b[name]:
            yield f"{prefix}{name}", (value, b[name])


def test_the_other_data_sets_differ_in_keypoints_and_have_no_classes() -> None:
    for name, count in (("paper-nemo", 15), ("paper-mgif", 60)):
        expected = {"actions": (PENN_ACTIONS, ()), "keypoints.count": (40, count)}
        assert dict(differences(asdict(PAPER), asdict(PRESETS[name]))) == expected


def test_the_papers_numbers() -> None:
    """Sec. 3.2, and the sheet's sections 4 to 6."""
    assert (PAPER.size, PAPER.map_size, PAPER.keypoints.sharpness, PAPER.motion.frames) == (128, 32, 14.3, 32)
    assert len(PAPER.actions) == 9
    assert (PAPER.actions[0], PAPER.actions[4], PAPER.actions[8]) == (
        "tennis_serve",
        "baseball_pitch",
        "baseball_swing",
    )
    assert (PAPER.losses.perceptual.weight, PAPER.losses.gan) == (1, 1)
    assert (PAPER.motion_losses.kl, PAPER.motion_losses.reconstruction) == (1, 1000)
    assert (PAPER.motion_losses.kl_ramp, PAPER.motion_losses.free_bits, PAPER.motion.input_every_step) == (
        0,
        0,
        False,
    )
    assert (PAPER.pairs.gap, PAPER.pairs.augmentation, PAPER.pairs.balance) == ((8, 11), "penn", False)
    penn = find_augmentation(PAPER.pairs.augmentation)
    assert (penn.rotation, penn.horizontal_flip, penn.filters) == ((-10, 10), 0.5, True)
    assert (PAPER.sequences.rotation, PAPER.sequences.flip, PAPER.sequences.scale) == (15, 0.5, (0.7, 1.2))
    for stage in (PAPER.keypoints_training, PAPER.motion_training):
        assert (stage.learning_rate, stage.momenta, stage.batch) == (1e-4, (0.5, 0.999), 32)


def test_the_learning_rate_falls_in_steps_or_smoothly() -> None:
    """Sheet section 12, line 17: times 0.95 in 20,000 steps."""
    stepped, smooth = PAPER.keypoints_training.schedule, RELEASE.keypoints_training.schedule
    at = (0, 10_000, 19_999, 20_000, 50_000)
    assert [factor(stepped, step, 10**6) for step in at] == pytest.approx([1, 1, 1, 0.95, 0.95**2])
    assert [factor(smooth, step, 10**6) for step in at] == pytest.approx([0.95 ** (step / 20_000) for step in at])


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_the_steps_of_every_stage_are_found_by_its_name(preset: ActionsConfig) -> None:
    """`train --stages NAME --steps N` sets these and no others."""
    assert stage_steps(asdict(preset), ["keypoints"]) == ["keypoints_training.steps"]
    assert stage_steps(asdict(preset), ["motion"]) == ["motion_training.steps"]
    assert stage_steps(asdict(preset), ["keypoint_supervision"]) == ["keypoint_supervision.steps"]
    for stage in preset.pair_stages:
        assert stage_steps(asdict(preset), [stage.name]) == [f"pair_stages.{stage.name}.steps"]
    assert {*STAGES} == {"keypoint_supervision", "keypoints", "motion"}
