"""Settings: parsing, changes by dotted name, and the configuration of strokes."""

import json
import math
from dataclasses import asdict
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field
from pydantic.dataclasses import dataclass

from refusals import refuses
from stillmotion.animate import ZOO
from stillmotion.errors import StillmotionError
from stillmotion.files import STRICT, change_settings, parse_settings, setting_names
from stillmotion.systems.strokes.config import PRESETS, StrokesConfig
from stillmotion.systems.strokes.training import STAGES


@dataclass(frozen=True, config=STRICT)
class Network:
    width: Annotated[int, Field(ge=1)] = 8
    norm: Literal["batch"] | None = "batch"
    flow: Literal["full", "none"] = "full"


@dataclass(frozen=True, config=STRICT)
class Losses:
    gan: Annotated[float, Field(ge=0)] = 1.0
    maps: tuple[float, ...] = (10.0, 1.0)


@dataclass(frozen=True, config=STRICT)
class Stage:
    name: str = "motion"
    steps: int = 10
    losses: Losses = Losses()


@dataclass(frozen=True, config=STRICT)
class Whole:
    size: int = 64
    limit: int | None = 3
    generator: Network = Network()
    predictor: Network | None = None
    stages: tuple[Stage, ...] = (Stage("frozen"), Stage("joint"))

    def __post_init__(self) -> None:
        if self.size % 2:
            raise StillmotionError(f"size {self.size} must be even.")


def change(**changes: Any) -> Whole:
    return change_settings(Whole(), {name.replace("__", "."): value for name, value in changes.items()}, "--set")


def refused(**changes: Any) -> str:
    with pytest.raises(StillmotionError) as caught:
        change(**changes)
    message = str(caught.value)
    assert message.startswith("--set: ")
    assert "\n" not in message
    return message


def test_text_becomes_what_belongs_there() -> None:
    made = change(size="32", generator__width="4", stages__joint__losses__gan="1e-3", generator__norm="none")
    assert (made.size, made.generator) == (32, Network(4, None))
    assert made.stages == (Stage("frozen"), Stage("joint", losses=Losses(gan=1e-3)))
    assert change(generator={"width": 2}).generator == Network(2)
    assert change(stages__frozen__losses__maps=(1.0,)).stages[0].losses.maps == (1.0,)


def test_the_settings_given_stay_as_they_are() -> None:
    whole = Whole()
    before = asdict(whole)
    assert change_settings(whole, {"stages.joint.steps": 1, "generator.width": 2}, "") != whole
    assert asdict(whole) == before
    assert change_settings(whole, {}, "") == whole


def test_none_is_none_only_where_a_field_may_be_none() -> None:
    assert change(limit="none").limit is None
    assert change(limit="None").limit is None
    assert change(generator__flow="none").generator.flow == "none"
    assert change(generator__norm="none").generator.norm is None
    assert change(stages__joint__name="none").stages[1].name == "none"
    assert "size: Input should be a valid integer" in refused(size="none")


def test_a_part_that_is_none_is_made_by_a_name_below_it() -> None:
    assert change(predictor__width="5", predictor__norm="none").predictor == Network(5, None)
    assert change(predictor="none").predictor is None


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("generator.widht", "generator.width"),
        ("widht", "generator.width"),
        ("generatr.width", "generator.width"),
        ("joint.steps", "stages.joint.steps"),
        ("stages.joint.los.gan", "stages.joint.losses.gan"),
        ("stages.jiont.losses.gan", "stages.joint.losses.gan"),
        ("sizes", "size"),
        ("size.x", "size"),
        ("stages.joint", "stages.joint.name"),  # an entry is no setting
        ("predictor.widht", "predictor"),
    ],
)
def test_a_wrong_name_suggests_the_nearest(name: str, nearest: str) -> None:
    assert refused(**{name: 1}) == f"--set: {name!r} is not a setting; did you mean {nearest!r}?"


def test_a_name_like_none_lists_the_parts() -> None:
    known = "known are size, limit, generator, predictor, stages."
    assert refused(colour=1) == f"--set: 'colour' is not a setting; {known}"
    assert refused(**{"": 1}).endswith(known)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"generator__width": 0}, "generator.width: Input should be greater than or equal to 1."),
        ({"generator__width": "many"}, "generator.width: "),
        ({"generator__width": 2.5}, "generator.width: "),
        ({"generator__flow": "half"}, "generator.flow: Input should be 'full' or 'none'."),
        ({"stages__joint__losses__gan": -1}, "losses.gan: Input should be greater than or equal to 0."),
        ({"stages__joint__losses__gan": "nan"}, "losses.gan: Input should be a finite number."),
        ({"stages__joint__losses__gan": float("inf")}, "losses.gan: Input should be a finite number."),
        ({"stages__joint__losses__maps": [1.0, float("nan")]}, "losses.maps.1: Input should be a finite number."),
        ({"generator": 3}, "generator: "),
        ({"size": 33}, "--set: size 33 must be even."),
    ],
)
def test_a_wrong_value_names_its_field(changes: dict[str, Any], words: str) -> None:
    assert words in refused(**changes)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"colour": 1}, "'colour' is not a setting; known are size, limit, generator, predictor, stages."),
        ({"generator": {"widht": 1}}, "'generator.widht' is not a setting; did you mean 'generator.width'?"),
        ({"predictor": {"norms": 1}}, "'predictor.norms' is not a setting; did you mean 'predictor.norm'?"),
        ({"stages": [{"step": 1}]}, "'stages.0.step' is not a setting; did you mean 'stages.steps'?"),
        ({"generator": {"width": None}}, "generator.width: Input should be a valid integer."),
        ({"stages": [{"losses": {"gan": float("nan")}}]}, "stages.0.losses.gan: Input should be a finite number."),
        ({"stages": 3}, "stages: "),
        ({"size": 3}, "x.json: size 3 must be even."),
    ],
)
def test_stored_settings_are_checked(values: dict[str, Any], words: str) -> None:
    with pytest.raises(StillmotionError) as caught:
        parse_settings(Whole, values, "x.json")
    assert str(caught.value).startswith("x.json: ")
    assert words in str(caught.value)


def test_stored_settings_come_back() -> None:
    whole = change(predictor__width=3, stages__joint__steps=99)
    assert parse_settings(Whole, asdict(whole), "") == whole
    assert parse_settings(Whole, {}, "") == Whole()
    assert setting_names(Whole) == [
        *("size", "limit", "generator.width", "generator.norm", "generator.flow"),
        *("predictor.width", "predictor.norm", "predictor.flow"),
        *("stages.name", "stages.steps", "stages.losses.gan", "stages.losses.maps"),
    ]


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
        ({"generator.fields": False}, "need generator.fields=true"),
        ({"generator.fields": False, "losses.unblended": 0, "losses.disocclusion_weighting": 1}, "fields=true"),
        *(
            ({"generator.fields": False, "losses.unblended": 0, f"losses.{name}": 1}, "fields=true")
            for name in ("displacement", "visibility", "figure")
        ),
        ({"generator.norm": "spectral"}, "fields need norm=none"),
        ({"generator.object_frame": True, "stroke.lookahead": 0}, "object_frame needs stroke.lookahead"),
        (
            {"generator.object_frame": True, "generator.fields": False, "losses.unblended": 0},
            "object_frame needs fields=true",
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
    with pytest.raises(StillmotionError, match=r"did you mean 'generator\.fields'"):
        change_settings(PRESETS["small"], {"generator.feilds": True}, "--set")
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
        "robot": ["single_step"],
    }
