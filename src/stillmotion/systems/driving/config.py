"""Every number of the system, nested by the network, loss or stage it belongs to, and the presets.

"Paper" is the text of Siarohin et al. (CVPR 2019), "release" the code its authors published; where both are silent
the field says so. "Ours" marks what neither has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from stillmotion.errors import StillmotionError
from stillmotion.files import STRICT
from stillmotion.keypoints.config import (
    Blocks,
    Count,
    DetectorConfig,
    GeneratorConfig,
    KeypointConfig,
    MotionConfig,
    NetworkConfig,
    PairLossConfig,
    PairStage,
    Positive,
    Steps,
    SupervisionStage,
    Weight,
)
from stillmotion.keypoints.presets import FROZEN, SMALL, SMALL_STAGES, joint, truth
from stillmotion.training.schedules import Schedule


@dataclass(frozen=True, config=STRICT)
class DiscriminatorConfig:
    """Discriminator D (Sec. 3.5); built by trainings that use it."""

    width: Count = 64
    max_width: Count = 256
    blocks: Blocks = 4


@dataclass(frozen=True, config=STRICT)
class PredictorConfig:
    """Keypoint predictor of image-to-video translation (Sec. 4; numbers: release, the paper says "a small one")."""

    hidden: Count = 1024
    layers: Count = 1
    covariance: bool = True  # False keeps the first frame's; the release's `predict_variance` is inverted
    least_variance: Weight = 1e-5  # ours (release: 0): added to both variances, so that there is an inverse


@dataclass(frozen=True, config=STRICT)
class LossConfig(PairLossConfig):
    """Weights of the losses of a motion stage: the paper's, and those of pairs."""

    feature_matching: tuple[Weight, ...] = (10.0, 10.0, 10.0, 10.0, 1.0)  # Eq. 6, maps 0 to 4 of D; paper: all 10
    gan: Weight = 1.0  # Eq. 5
    detach_heatmaps: bool = False  # paper: True, no gradient through the heatmaps that D is given with either frame

    @property
    def adversarial(self) -> bool:
        """Whether the discriminator takes part."""
        return self.gan > 0 or any(self.feature_matching)


@dataclass(frozen=True, config=STRICT)
class MotionStage(PairStage):
    """One stage of training on pairs of frames; the paper has one, which trains all networks end to end."""

    losses: LossConfig = LossConfig()


@dataclass(frozen=True, config=STRICT)
class PredictionStage:
    """After the motion stages: the keypoint predictor learns from the keypoints of the finished detector."""

    steps: Steps = 0
    batch: Count = 256
    learning_rate: Positive = 1e-3
    window: Annotated[int, Field(ge=2)] = 32  # consecutive frames
    patience: Steps = 50  # epochs without a lower loss, after which the rate falls to a tenth


@dataclass(frozen=True, config=STRICT)
class DrivingConfig(NetworkConfig):
    """Networks and stages of the driving system. Defaults: the release's `taichi` setting but for `flow_resize`."""

    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    predictor: PredictorConfig | None = None
    transfer: Literal["relative", "absolute"] = "relative"  # of a driving video that does not say (Sec. 3.6)
    keypoint_supervision: SupervisionStage = SupervisionStage()
    motion_stages: tuple[MotionStage, ...] = (MotionStage(),)
    keypoint_prediction: PredictionStage = PredictionStage()

    def __post_init__(self) -> None:
        super().__post_init__()
        maps = self.discriminator.blocks + 1
        for stage in self.motion_stages:
            if len(stage.losses.feature_matching) != maps:
                raise StillmotionError(
                    f"losses.feature_matching of the stage {stage.name} needs {maps} numbers, one per map of the "
                    "discriminator."
                )
            if stage.losses.truth and not self.generator.fields:
                raise StillmotionError(
                    f"losses.displacement, visibility and figure of the stage {stage.name} need "
                    "generator.fields=true, which has what they compare."
                )
            if stage.losses.adversarial and stage.small_first:
                raise StillmotionError(
                    f"The discriminator of the stage {stage.name} knows one size: set its small_first to 0."
                )
        names = [stage.name for stage in self.motion_stages]
        if len(set(names)) < len(names) or not all(name.isidentifier() for name in names):
            raise StillmotionError(f"motion_stages need different names of letters, digits and '_', not {names}.")


def _release(config: DrivingConfig, max_width: int = 1024, **changes: object) -> DrivingConfig:
    """A configuration with the widths of the release, which resizes the flow by nearest neighbour but for vox."""
    networks = {
        name: replace(getattr(config, name), max_width=max_width) for name in ("detector", "motion", "generator")
    }
    return replace(config, **{**networks, **changes})


_RELEASE = DrivingConfig(generator=GeneratorConfig(flow_resize="nearest"))
_STAGE = MotionStage()


def _stage(**changes: object) -> tuple[MotionStage, ...]:
    return (replace(_STAGE, **changes),)  # type: ignore[arg-type]


_PAPER_AND_RELEASE = {
    # Plain softmax and gaussian, feature matching 10 on every map, no gradient through the driving heatmaps.
    "paper": DrivingConfig(
        keypoints=KeypointConfig(temperature=1.0, heatmap_exponent=1.0, covariance_floor=0.0),
        generator=GeneratorConfig(flow_resize="nearest"),
        motion_stages=_stage(losses=LossConfig(feature_matching=(10.0,) * 5, detach_heatmaps=True)),
    ),
    "release": _RELEASE,
    "release-taichi": _RELEASE,
    "release-nemo": _release(_RELEASE, 512, motion_stages=_stage(steps=26_000, augmentation="nemo")),
    "release-bair": _release(
        _RELEASE,
        512,
        keypoints=KeypointConfig(heatmap_sum=True),
        motion_stages=_stage(steps=19_000, augmentation="bair", losses=LossConfig(warp=10.0)),
    ),
    "release-actions": _release(
        _RELEASE,
        512,
        keypoints=KeypointConfig(covariance_floor=0.0),
        motion_stages=_stage(steps=4_500, augmentation="actions"),
    ),
    "release-moving-gif": replace(
        _RELEASE,
        size=128,
        motion=MotionConfig(scale=0.5, displacement=True),
        generator=GeneratorConfig(blocks=6, flow_resize="nearest"),
        transfer="absolute",
        motion_stages=_stage(steps=10_000, batch=64, augmentation="moving-gif"),
    ),
    "release-vox": replace(
        _RELEASE,
        size=256,
        motion=MotionConfig(scale=0.25),
        generator=GeneratorConfig(blocks=7, flow_resize="unaligned"),
        motion_stages=_stage(batch=20, schedule=Schedule(kind="constant"), augmentation="nemo"),
    ),
    "release-shapes": replace(
        _RELEASE,
        keypoints=KeypointConfig(count=4, heatmap_scale=10.0, covariance_floor=0.0),
        detector=DetectorConfig(width=16, max_width=128),
        motion=MotionConfig(width=16, max_width=128, group_convs=0),
        generator=GeneratorConfig(width=16, max_width=128, flow_resize="nearest"),
        motion_stages=_stage(
            steps=3_200, batch=16, schedule=Schedule(kind="milestone", milestones=(0.5,)), augmentation="taichi"
        ),
    ),
}

# --- ours: what the zoo ships --------------------------------------------------------------------------------------


def _stages(stages: Sequence[PairStage]) -> tuple[MotionStage, ...]:
    """Stages of pairs without a discriminator."""
    alone = {"feature_matching": (0.0,) * 5, "gan": 0.0}
    return tuple(
        MotionStage(**{**vars(stage), "losses": LossConfig(**{**vars(stage.losses), **alone})}) for stage in stages
    )


_SMALL = DrivingConfig(
    **vars(SMALL),
    discriminator=DiscriminatorConfig(width=32, max_width=128),
    keypoint_supervision=SupervisionStage(steps=5_000),
)

PRESETS: dict[str, DrivingConfig] = {
    **_PAPER_AND_RELEASE,
    # driving-puppets; the last motion stage and the predictor on puppets alone.
    "small": replace(
        _SMALL,
        predictor=PredictorConfig(hidden=128),
        motion_stages=_stages(SMALL_STAGES),
        keypoint_prediction=PredictionStage(steps=1_500, batch=64, learning_rate=2e-3, patience=30),
    ),
    # driving-weizmann: stronger and weaker augmentation in turns, for a handful of people.
    "people": replace(
        _SMALL,
        predictor=PredictorConfig(hidden=256),
        motion_stages=_stages(
            [
                FROZEN,
                joint("joint", 5_000, 6e-4),
                joint("joint2", 4_500, 7e-4),
                joint("bold", 8_500, 6e-4, "bold", clip_grad=1.5),
                joint("varied", 5_500, 5e-4, clip_grad=1.5),
                joint("bold2", 8_500, 6e-4, "bold", clip_grad=1.5),
                joint("varied2", 6_000, 5e-4, clip_grad=1.5),
                joint("bold3", 4_200, 6e-4, "bold", clip_grad=1.5),
                joint(
                    "varied3", 2_800, 5e-4, clip_grad=1.5, schedule=Schedule(kind="cosine", floor=0.02, warmup=100)
                ),
                truth(15_000, augmentation="varied"),
            ]
        ),
        # Patience counts epochs, and 24 clips are less than a batch: the rate is to stay.
        keypoint_prediction=PredictionStage(steps=4_000, batch=64, patience=100_000),
    ),
}
