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
RELEASE: dict[str, Any] = {
    "size": 64,
    "keypoints.count": 10,
    "keypoints.temperature": 0.1,
    "keypoints.covariance": "full",
    "keypoints.fixed_variance": 0.01,
    "keypoints.covariance_floor": 0.001,
    "keypoints.heatmap_exponent": 0.5,
    "keypoints.heatmap_scale": 100.0,
    "keypoints.heatmap_sum": False,
    **{f"{network}.width": 32 for network in ("detector", "motion", "generator")},
    **{f"{network}.max_width": 1024 for network in ("detector", "motion", "generator")},
    **{f"{network}.blocks": 5 for network in ("detector", "motion", "generator")},
    "detector.pixel_unshuffle": False,
    "motion.scale": 1.0,
    "motion.shrink": "nearest",
    "motion.flow": "full",
    "motion.image": True,
    "motion.displacement": False,
    "motion.group_convs": 2,
    "motion.background_bias": 2.0,
    "generator.refine_blocks": 4,
    "generator.flow_resize": "nearest",
    "generator.norm": "batch",
    "generator.fields": False,
    "discriminator.width": 64,
    "discriminator.max_width": 256,
    "discriminator.blocks": 4,
    "predictor": None,
    "transfer": "relative",
    "keypoint_supervision.steps": 0,
    "motion_stages.motion.name": "motion",
    "motion_stages.motion.steps": 76_000,
    "motion_stages.motion.batch": 32,
    "motion_stages.motion.learning_rate": 2e-4,
    "motion_stages.motion.schedule.kind": "milestone",
    "motion_stages.motion.schedule.milestones": (2 / 3,),
    "motion_stages.motion.clip_grad": 0.0,
    "motion_stages.motion.augmentation": "taichi",
    "motion_stages.motion.freeze_detector": False,
    "motion_stages.motion.freeze_detector_bn": False,
    "motion_stages.motion.losses.feature_matching": (10, 10, 10, 10, 1),
    "motion_stages.motion.losses.gan": 1.0,
    "motion_stages.motion.losses.detach_heatmaps": False,
    "keypoint_prediction.batch": 256,
    "keypoint_prediction.learning_rate": 1e-3,
    "keypoint_prediction.window": 32,
    "keypoint_prediction.patience": 50,
}
"""facts/monkey-net.md, `taichi`: every field. What is not here is ours and switched off."""

NARROW = {f"{network}.max_width": 512 for network in ("detector", "motion", "generator")}
SHAPES = {
    **{f"{network}.width": 16 for network in ("detector", "motion", "generator")},
    **{f"{network}.max_width": 128 for network in ("detector", "motion", "generator")},
}
CHANGES: dict[str, dict[str, Any]] = {
    "release": {},
    "release-taichi": {},
    "release-nemo": {**NARROW, f"{STAGE}.steps": 26_000, f"{STAGE}.augmentation": "nemo"},
    "release-bair": {
        **NARROW,
        "keypoints.heatmap_sum": True,
        **at(STAGE, steps=19_000, augmentation="bair"),
        f"{LOSSES}.warp": 10.0,
    },
    "release-actions": {
        **NARROW,
        "keypoints.covariance_floor": 0.0,
        **at(STAGE, steps=4_500, augmentation="actions"),
    },
    "release-moving-gif": {
        "size": 128,
        **at("motion", scale=0.5, displacement=True),
        "generator.blocks": 6,
        "transfer": "absolute",
        **at(STAGE, steps=10_000, batch=64, augmentation="moving-gif"),
    },
    "release-vox": {
        "size": 256,
        "motion.scale": 0.25,
        **at("generator", blocks=7, flow_resize="unaligned"),
        **at(STAGE, batch=20, augmentation="nemo"),
        f"{STAGE}.schedule.kind": "constant",
    },
    "release-shapes": {
        **SHAPES,
        **at("keypoints", count=4, heatmap_scale=10.0, covariance_floor=0.0),
        "motion.group_convs": 0,
        **at(STAGE, steps=3_200, batch=16),
        f"{STAGE}.schedule.milestones": (0.5,),
    },
    # Plain softmax (without a temperature), plain covariances and gaussians; the same weight for all maps of D, which
    # passes no gradient to the detector.
    "paper": {
        **at("keypoints", temperature=1.0, heatmap_exponent=1.0, covariance_floor=0.0),
        **at(LOSSES, feature_matching=(10,) * 5, detach_heatmaps=True),
    },
}


def settings(config: DrivingConfig) -> dict[str, Any]:
    """Every field of a configuration by its dotted name."""

    def flat(values: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in values.items():
            if isinstance(value, tuple) and value and isinstance(value[0], dict):
                value = {entry["name"]: entry for entry in value}
            if isinstance(value, dict):
                yield from flat(value, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", value

    return dict(flat(asdict(config), ""))


def test_every_field_of_the_release_is_the_sheets() -> None:
    found = settings(PRESETS["release"])
    assert {name: found[name] for name in RELEASE} == RELEASE
    ours = {name: value for name, value in found.items() if name not in RELEASE and name.startswith(LOSSES)}
    assert set(ours.values()) == {0.0}


@pytest.mark.parametrize("name", CHANGES)
def test_every_field_of_a_preset_is_the_releases_or_the_sheets_difference(name: str) -> None:
    """facts/monkey-net.md sections 2, 4 to 7 and 10; a field that is not named here must not differ."""
    release, found = settings(PRESETS["release"]), settings(PRESETS[name])
    assert {key: value for key, value in found.items() if value != release[key]} == CHANGES[name]


def test_the_differences_cover_all_presets_that_are_not_ours() -> None:
    assert set(PRESETS) - {"small", "people"} == set(CHANGES)


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
