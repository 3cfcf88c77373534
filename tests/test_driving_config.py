"""Configurations of driving: what is refused, what text becomes, and what the presets hold."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest

from driving_tools import LOSSES, STAGE, TINY_32, at, changed_config
from stillmotion.errors import StillmotionError
from stillmotion.files import parse_settings
from stillmotion.systems.driving.config import PRESETS, DrivingConfig, PredictorConfig
from stillmotion.training.schedules import Schedule


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": 60}, "divisible by 8"),
        ({"size": 0}, "size"),
        (at("motion", scale=0.3), "motion.scale 0.3 must be a whole number"),
        (at("motion", scale=1.5), "motion.scale"),
        (at("motion", flow="masks"), "motion.flow"),
        (at("keypoints", count=0), "keypoints.count"),
        (at("keypoints", count=2.5), "keypoints.count"),
        (at("keypoints", temperature=float("nan")), "keypoints.temperature"),
        (at("keypoints", covariance="single"), "keypoints.covariance"),
        (at("detector", pixel_unshuffle=True) | at("motion", scale=0.75, blocks=3), "1, 1/2, 1/3 ..., not 0.75"),
        (at("generator", blocks=7), "divisible by 128"),
        (at(STAGE, learning_rate=0.0), "learning_rate"),
        (at(STAGE, name="two words"), "motion_stages need different names"),
        (at(LOSSES, feature_matching=(1.0, 2.0)), "of the stage motion needs 5 numbers"),
        (at(LOSSES, feature_matching=(1.0, float("nan"), 1.0, 1.0, 1.0)), "feature_matching"),
        (at(LOSSES, displacement=1.0), "of the stage motion need generator.fields"),
        (at(LOSSES, visibility=1.0), "of the stage motion need generator.fields=true"),
        (at(LOSSES, figure=1.0), "of the stage motion need generator.fields=true"),
        (at("keypoint_prediction", window=1), "keypoint_prediction.window"),
        *(
            (at(network, blocks=10**12), f"{network}.blocks: .* less than or equal to 12")
            for network in ("detector", "motion", "generator", "discriminator")
        ),  # and nothing is ever raised to a stranger's number
    ],
    ids=str,
)
def test_impossible_configurations_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(StillmotionError, match=words):
        changed_config(**changes)


def test_stages_have_names_of_their_own() -> None:
    with pytest.raises(StillmotionError, match=r"different names .* not \['one', 'one'\]"):
        parse_settings(DrivingConfig, {"motion_stages": [{"name": "one"}, {"name": "one"}]}, "here")


def numbers(values: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of all numbers in a configuration."""
    entries = {entry["name"]: entry for entry in values} if isinstance(values, tuple) else values
    for name, value in entries.items():
        if isinstance(value, dict) or (isinstance(value, tuple) and value and isinstance(value[0], dict)):
            yield from numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}"


EVERYTHING = replace(DrivingConfig(), predictor=PredictorConfig())


@pytest.mark.parametrize("name", [*numbers(asdict(EVERYTHING))])
def test_no_number_but_a_logit_may_be_negative(name: str) -> None:
    changes = {name: -5}
    if name == "motion.background_bias":
        assert changed_config(EVERYTHING, **changes).motion.background_bias == -5
        return
    with pytest.raises(StillmotionError, match=name.rpartition(".")[2]):
        changed_config(EVERYTHING, **changes)


def test_settings_come_as_text_and_unknown_ones_name_the_nearest() -> None:
    text = {f"{STAGE}.learning_rate": "1e-3", "motion.image": "false", f"{STAGE}.steps": "7", "motion.flow": "none"}
    config = changed_config(**text)
    (stage,) = config.motion_stages
    assert (stage.learning_rate, stage.steps) == (1e-3, 7)
    assert (config.motion.image, config.motion.flow) == (False, "none")
    with pytest.raises(StillmotionError, match=f"did you mean '{STAGE}.learning_rate'"):
        changed_config(**{"motion_stages.learning_rate": "1e-3"})


@pytest.mark.parametrize("preset", [*PRESETS.values(), TINY_32], ids=[*PRESETS, "tiny"])
def test_every_preset_survives_storing(preset: DrivingConfig) -> None:
    assert parse_settings(DrivingConfig, json.loads(json.dumps(asdict(preset))), "preset") == preset


# --- presets -------------------------------------------------------------------------------------------------------
def test_paper_and_release_differ_as_the_sheet_says() -> None:
    """facts/monkey-net.md section 10."""
    paper, release = PRESETS["paper"], PRESETS["release"]
    of_paper, of_release = paper.motion_stages[0].losses, release.motion_stages[0].losses
    assert (of_paper.feature_matching, of_release.feature_matching) == ((10,) * 5, (10, 10, 10, 10, 1))
    assert (of_paper.detach_heatmaps, of_release.detach_heatmaps) == (True, False)
    assert (paper.keypoints.heatmap_exponent, release.keypoints.heatmap_exponent) == (1.0, 0.5)
    assert (paper.keypoints.covariance_floor, release.keypoints.covariance_floor) == (0.0, 0.001)
    assert paper.generator.flow_resize == release.generator.flow_resize == "nearest"  # the text, Sec. 3.3
    assert PRESETS["release-vox"].generator.flow_resize == "bilinear"
    assert [of.warp for of in (of_paper, of_release, PRESETS["release-bair"].motion_stages[0].losses)] == [0, 0, 10]


def test_the_releases_numbers() -> None:
    """Sheet sections 5, 6 and 7."""
    used = {}
    for name, preset in PRESETS.items():
        if name.startswith("release-"):
            (stage,) = preset.motion_stages
            used[name.removeprefix("release-")] = (stage.steps, stage.batch, stage.augmentation)
            assert stage.learning_rate == 2e-4
            milestone = {"release-vox": Schedule(), "release-shapes": Schedule("milestone", milestones=(0.5,))}
            assert stage.schedule == milestone.get(name, Schedule("milestone", milestones=(2 / 3,)))
    assert used == {
        "taichi": (76_000, 32, "taichi"),
        "nemo": (26_000, 32, "nemo"),
        "bair": (19_000, 32, "bair"),
        "actions": (4_500, 32, "actions"),
        "moving-gif": (10_000, 64, "moving-gif"),
        "vox": (76_000, 20, "nemo"),
        "shapes": (3_200, 16, "none"),
    }
    prediction = DrivingConfig().keypoint_prediction
    assert (prediction.window, prediction.batch, prediction.patience) == (32, 256, 50)


@pytest.mark.parametrize("name", ["small", "people"])
def test_our_presets_start_with_a_frozen_detector_and_use_no_discriminator(name: str) -> None:
    config = PRESETS[name]
    first, *others = config.motion_stages
    assert config.keypoint_supervision.steps == 5_000
    assert first.freeze_detector
    assert not any(stage.freeze_detector for stage in others)
    assert all(stage.freeze_detector_bn for stage in others)
    assert not any(stage.losses.adversarial for stage in config.motion_stages)


@pytest.mark.parametrize("name", ["small", "people"])
def test_our_presets_end_with_known_motion_at_a_rate_that_falls_to_nothing(name: str) -> None:
    config = PRESETS[name]
    *others, last = config.motion_stages
    assert config.generator.fields
    assert last.name == "truth"
    assert [stage.losses.truth for stage in (*others, last)] == [False] * len(others) + [True]
    assert min(last.losses.displacement, last.losses.visibility, last.losses.figure) > 0
    assert (last.schedule.kind, last.schedule.floor) == ("linear", 0)


def test_configurations_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DrivingConfig().size = 32  # type: ignore[misc]
