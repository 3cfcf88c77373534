"""The configuration: what is refused and how it is said, and that the shipped models are the presets."""

import json
import math
from typing import Any

import pytest

from refusals import refuses
from stillmotion.animate import ZOO
from stillmotion.errors import StillmotionError
from stillmotion.files import change_settings, parse_settings
from stillmotion.systems.strokes.config import PRESETS, StrokesConfig
from stillmotion.systems.strokes.training import STAGES


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": 60}, "size must be divisible by 8"),
        ({"size": 8}, "size"),
        ({"clip.frames": 1}, "clip.frames"),
        (
            {"clip.frames": 33, "stroke.encoding": "grey", "stroke.lookahead": 0},
            "at most 32 with stroke.encoding=grey",
        ),
        ({"stroke.encoding": "grey"}, "stroke.lookahead needs stroke.encoding=gaussian"),
        ({"generator.warp_still": False}, "need generator.warp_still=true"),
        ({"generator.warp_still": False, "losses.unblended": 0, "losses.disocclusion_weighting": 1}, "warp_still"),
        ({"generator.output": "tanh"}, "warp_still needs norm=none and output=linear"),
        ({"generator.object_frame": True, "stroke.lookahead": 0}, "object_frame needs stroke.lookahead"),
        (
            {"generator.object_frame": True, "generator.warp_still": False, "losses.unblended": 0},
            "object_frame needs warp_still",
        ),
        ({"generator.crop_zoom": 2.0}, "crop_zoom above 1 needs object_frame"),
        ({"generator.crop_zoom": 0.5}, "generator.crop_zoom"),
        ({"single_step.beta1": 1.0}, "single_step.beta1"),
        ({"single_step.learning_rate": math.nan}, "single_step.learning_rate"),
        ({"losses.crop": -1.0}, "losses.crop"),
        ({"losses.disocclusion_weighting": -1.0}, "losses.disocclusion_weighting"),
        ({"stroke.smoothing_radius": -1}, "stroke.smoothing_radius"),
        ({"generator.widths": (4, 0, 4)}, "generator.widths.1"),
        ({"losses.perceptual.layers": (1.0, 0.0, 0.0, 0.0, -1.0)}, "losses.perceptual.layers.4"),
        ({"latent_prediction.steps": -1}, "latent_prediction.steps"),
        ({"generator_finetuning.steps": -1}, "generator_finetuning.steps"),
        ({"latent_prediction.batch": 0}, "latent_prediction.batch"),
        ({"autoencoder.latent_noise_std": -1.0}, "autoencoder.latent_noise_std"),
        ({"autoencoder.latent_l2_weight": -0.1}, "autoencoder.latent_l2_weight"),
    ],
    ids=str,
)
def test_impossible_configurations_are_refused_by_name(changes: dict[str, Any], words: str) -> None:
    refuses(words, change_settings, PRESETS["small"], changes, "--set")


def test_a_wrong_name_suggests_the_nearest_and_none_is_no_norm() -> None:
    with pytest.raises(StillmotionError, match=r"did you mean 'generator\.warp_still'"):
        change_settings(PRESETS["small"], {"generator.warp_stil": True}, "--set")
    changed = change_settings(PRESETS["release"], {"encoder.norm": "none", "generator.norm": "none"}, "--set")
    assert (changed.encoder, changed.generator) == (PRESETS["paper"].encoder, PRESETS["paper"].generator)


@pytest.mark.parametrize(("model", "preset"), [("strokes-digits", "small"), ("strokes-puppets", "people")])
def test_the_shipped_models_are_the_presets(model: str, preset: str) -> None:
    """So a recipe is one command, and loading them needs no field that the presets lack."""
    stored = json.loads((ZOO / model / "config.json").read_text())
    assert stored["format"] == 2
    assert stored["card"]["preset"] == preset
    assert parse_settings(StrokesConfig, stored["config"], model) == PRESETS[preset]


def test_presets_name_the_stages_that_they_train() -> None:
    trained = {name: [stage for stage in STAGES if getattr(config, stage).steps] for name, config in PRESETS.items()}
    assert trained == {
        "paper": ["single_step"],
        "release": ["single_step"],
        "small": ["single_step", "annealing"],
        "people": ["autoencoder", "latent_prediction", "generator_finetuning"],
    }
