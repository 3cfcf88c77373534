"""Settings of `structures`: presets, what paper and release have, refusals."""

from typing import Any

import pytest

from refusals import refuses
from stillmotion.systems.structures.config import PRESETS, StructuresConfig
from structures_tools import changed

PAPER, POSES, RELEASE = (PRESETS[name] for name in ("paper", "paper-poses", "release"))


def test_sizes_and_maps_of_the_presets() -> None:
    assert [(p.size, p.structure.channels, p.refinement.frames) for p in (PAPER, POSES)] == [
        (96, 3, 32),
        (64, 48, 16),
    ]
    assert (RELEASE.size, RELEASE.structure.channels, RELEASE.structure.depth) == (64, 3, "radius")
    assert changed(POSES, structure__kind="joints").structure.channels == 13
    assert (POSES.pose.observed, POSES.pose.predicted) == (10, 32)
    assert POSES.structure.sigma * 256 == 8


def test_pairs_of_the_presets() -> None:
    """Line 12, the switch: the paper jumps at random, the release starts from the first frame."""
    assert [p.clip.pairs for p in (PAPER, POSES, RELEASE)] == ["jump", "jump", "first"]
    assert (PAPER.clip.largest_jump, POSES.clip.largest_jump) == (0, 29)


def test_weights_of_paper_and_release() -> None:
    """Line 10: (1, 1, 1) as the paper writes it, (3, 0.05, 1) in the release."""
    for preset in (PAPER, POSES):
        for weights in (preset.losses, preset.refinement_losses):
            assert (weights.reconstruction, weights.mask, weights.gan) == (1, 1, 1)
    for weights in (RELEASE.losses, RELEASE.refinement_losses):
        assert (weights.reconstruction, weights.mask, weights.gan) == (3, 0.05, 1)
    assert [p.features.weight for p in (PAPER, POSES, RELEASE)] == [0, 1, 0]
    assert [p.critic.penalty for p in PRESETS.values()] == [10] * len(PRESETS)


PUBLISHED = [name for name in PRESETS if not name.startswith(("small", "narrow", "perceptual"))]


@pytest.mark.parametrize("preset", PUBLISHED)
def test_adam_of_all_adversarial_stages(preset: str) -> None:
    """Line 11: learning rate 1e-4, betas (0.0, 0.9), batches of 32."""
    for stage in (PRESETS[preset].forecast_training, PRESETS[preset].refinement_training):
        assert (stage.learning_rate, stage.betas, stage.batch) == (1e-4, (0.0, 0.9), 32)


def test_stages_of_the_presets() -> None:
    steps = {
        n: (p.forecast_training.steps, p.refinement_training.steps) for n, p in PRESETS.items() if n in PUBLISHED
    }
    assert steps == {"paper": (17_360, 17_360), "paper-poses": (17_360, 17_360), "release": (17_360, 0)}
    stage = POSES.pose_prediction
    assert (stage.steps, stage.batch, stage.learning_rate, stage.clip_grad) == (37_500, 256, 1e-3, 25)
    assert PAPER.pose_prediction.steps == 0


def test_settings_of_table_4_are_switches() -> None:
    """Line 20, the switches: dense links and refinement, on in the paper's full model."""
    assert (PAPER.forecast.dense, PAPER.refinement.enabled, PAPER.forecast.residual) == (True, True, "mask")
    assert not RELEASE.refinement.enabled
    off = changed(PAPER, forecast__dense=False, refinement__enabled=False, refinement_training__steps=0)
    assert not off.forecast.dense
    assert not off.refinement.enabled


@pytest.mark.parametrize(("size", "halvings"), [(16, 2), (32, 3), (64, 4), (96, 4), (128, 5)])
def test_maps_are_halved_until_they_are_below_eight(size: int, halvings: int) -> None:
    config = changed(PAPER, size=size)
    assert config.halvings == halvings
    assert size >> halvings < 8 <= size >> (halvings - 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": 100}, "size must be divisible by 16"),
        ({"size": 24, "refinement__levels": 4}, "divisible by 16 for so many refinement.levels"),
        ({"refinement__frames": 24}, "refinement.frames must be divisible by 16"),
        ({"refinement__overlap": 32}, "overlap must be below"),
        ({"refinement__enabled": False}, "needs refinement.enabled=true"),
        ({"structure__openings": True}, "openings needs forecast.fields=true and structure.kind=normals"),
        (
            {"structure__openings": True, "forecast__fields": True, "structure__kind": "joints"},
            "structure.openings needs",
        ),
        ({"refinement__context": True}, "needs forecast.fields=true"),
        ({"refinement__crop": 32}, "windows and refinement.crop go together"),
        ({"refinement__windows": 9, "refinement__crop": 8}, "crop must be divisible by 16"),
        ({"refinement__windows": 9, "refinement__crop": 112}, "crop=112 must not be above size=96"),
        ({"refinement__windows": 9, "refinement__crop": 32}, "refinement.crop needs refinement_losses.gan=0"),
        ({"pose_prediction__steps": 5}, "needs structure.kind"),
        ({"structure__kind": "pixels"}, "joints"),
        ({"forecast__residual": "masks"}, "difference"),
        ({"losses__mask": -1.0}, "greater than or equal to 0"),
        ({"forecast_training__betas": (0.0, 1.5)}, "less than or equal to 1"),
        ({"forecast__densee": True}, "forecast.dense"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, Any], words: str) -> None:
    refuses(words, changed, PAPER, **changes)


def test_the_default_is_the_paper_without_training() -> None:
    assert changed(PAPER, forecast_training__steps=0, refinement_training__steps=0) == StructuresConfig()
