"""Every number of the system, nested by what it belongs to, and the presets `paper`, `paper-poses` and `release`.

"Paper" is Zhao, Peng, Tian, Kapadia and Metaxas, "Learning to Forecast and Refine Residual Motion for Image-to-Video
Generation" (ECCV 2018); "release" is the code that its authors published, which has the forecasting of faces alone.
Neither states the layers of the refinement network, which the paper builds after Vondrick et al. (2016), nor the pose
predictor, which it takes from Villegas et al. (2017). "Ours" marks what none of these has.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from stillmotion.errors import StillmotionError
from stillmotion.files import STRICT
from stillmotion.keypoints.config import PairLossConfig
from stillmotion.training.schedules import Schedule

Count = Annotated[int, Field(ge=1)]
Steps = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]

SMALLEST = 8
"""Encoders halve the side of their maps until it is below this (release)."""

CHANNELS = {"normals": 3, "joints": 13, "limbs": 48}
"""Of each kind of structure map."""


@dataclass(frozen=True, config=STRICT)
class ClipConfig:
    """Training samples."""

    frame_step: Count = 1  # frames of a clip per time step
    augmentation: str = "none"
    # `jump`: a random frame and another one a random jump away (paper, Sec. 3.2); `first`: from the first frame to
    # any frame of the clip, itself included (release).
    pairs: Literal["jump", "first"] = "jump"
    largest_jump: Steps = 0  # frames; 0: as far as the clip goes (Villegas et al.: 29)


@dataclass(frozen=True, config=STRICT)
class StructureConfig:
    """Structure maps, which condition every frame (Sec. 3.1); see structure_maps.py."""

    # `normals`: of a face's surface; `joints`: a heat map per joint; `limbs`: one per point on a limb. The paper does
    # not say which of the last two it has; Villegas et al. have `limbs`.
    kind: Literal["normals", "joints", "limbs"] = "normals"
    sigma: Positive = 1 / 32  # of heat maps, as a share of their side: 8 pixels of a crop of 256 (Villegas et al.)
    depth: Literal["depth", "radius"] = "depth"  # which triangle shows: the nearest (ours), or the release's rule
    # The face model that normals are of: `ict`, `faces`, or a Basel Face Model's file; see expressions.py.
    face_model: str = "ict"
    # Side of the crop of a face over that of its landmarks' box; 0: whole pictures, as they are. 1.34: the release.
    face_crop: Weight = 1.34
    openings: bool = False  # ours, for fields: also where eyes and mouth of faces are open; see morphable.openings

    @property
    def channels(self) -> int:
        """Of a map."""
        return CHANNELS[self.kind]


@dataclass(frozen=True, config=STRICT)
class ForecastConfig:
    """G_M: a still and two structure maps to a frame (Sec. 3.2)."""

    # Ours: the still is moved, and painted where that fails (fields.py); of what follows it has the widths alone.
    fields: bool = False
    figure: bool = True  # ours: find the still's figure, and inpaint the background behind it
    width: Count = 64  # channels at full size; they double with each halving, up to `max_width`
    max_width: Count = 512
    code: Count = 128  # length of the latent code
    dense: bool = True  # ablation of Table 4: False, blocks of the decoder read only the block before
    # `mask`: a mask blends content into the still (Eq. 2). Ablations: `difference`: one map is added to the still
    # (Eq. 1); `none`: the content is the frame, which makes it the network of Villegas et al. (Sec. 4.4).
    residual: Literal["mask", "difference", "none"] = "mask"


@dataclass(frozen=True, config=STRICT)
class CriticConfig:
    """D_I: critic of a frame and its structure map; and the gradient penalty of all critics (Eq. 8, 9, 13, 14)."""

    width: Count = 64
    max_width: Count = 512
    penalty: Weight = 10.0  # lambda


@dataclass(frozen=True, config=STRICT)
class RefinementConfig:
    """G_R and D_V: clips of forecasts to clips that agree in time (Sec. 3.3). Widths: Vondrick et al."""

    enabled: bool = True  # ablation of Table 4: False, forecasts are the result
    frames: Count = 32  # K, of a clip (16 for poses)
    overlap: Steps = 8  # frames of neighbouring clips over which longer videos are blended (ours)
    width: Count = 64  # of the first level; it doubles with each level
    levels: Count = 4  # each halves time and space
    critic_width: Count = 64
    # `frame`: the content replaces the forecast under the mask (Eq. 10). Ours, `difference`: it is added to it, so
    # that refinement starts from the forecast, and at the still's own size what it does not change stays sharp.
    content: Literal["frame", "difference"] = "frame"
    # Ours: it also reads the still and where each pixel comes from, has a level at full size and no batch norm, and
    # leaves the still's own pixels alone; see refinement.py.
    context: bool = False
    # Ours: so many clips are forecast once, when the stage begins, and steps learn from squares of this side, cut
    # where much changes; 0: whole clips, forecast in every step.
    windows: Steps = 0
    crop: Steps = 0

    def __post_init__(self) -> None:
        if (self.windows > 0) != (self.crop > 0) or self.crop % (1 << self.levels) != 0:
            raise StillmotionError(
                f"refinement.windows and refinement.crop go together, and the crop must be divisible by "
                f"{1 << self.levels} for refinement.levels={self.levels}, not {self.crop}."
            )
        if self.frames % (1 << self.levels) != 0:
            raise StillmotionError(
                f"refinement.frames must be divisible by {1 << self.levels} for refinement.levels={self.levels}, not "
                f"{self.frames}."
            )
        if self.overlap >= self.frames:
            raise StillmotionError(
                f"refinement.overlap must be below refinement.frames={self.frames}, not {self.overlap}."
            )


@dataclass(frozen=True, config=STRICT)
class PoseConfig:
    """The pose predictor, an LSTM (Sec. 3.1; numbers of Villegas et al.)."""

    observed: Count = 10  # poses that it reads
    predicted: Count = 32  # poses that it is trained to predict
    embedding: Count = 32
    width: Count = 1024  # of the LSTM's state


@dataclass(frozen=True, config=STRICT)
class FeatureConfig:
    """Feature similarity (Eq. 15), which the paper has for poses; off where `weight` is 0.

    Ours, `maps="all"`: of five blocks, channels of unit length (LPIPS without its weights; Zhang et al. 2018).
    """

    weight: Weight = 0.0  # not stated; Villegas et al.: 1
    network: Literal["vgg16", "random-vgg16"] = "vgg16"
    file: str = ""  # of vgg16: FILE.safetensors@SHA256, or DIR of `stillmotion weights`
    side: Annotated[int, Field(ge=16)] = 224  # persons are cropped and scaled to so many pixels
    maps: Literal["last", "all"] = "last"


@dataclass(frozen=True, config=STRICT)
class LossConfig:
    """Weights of the losses of a generator. The paper writes norms without weights; here all are means."""

    reconstruction: Weight = 1.0  # L1 (Eq. 5)
    mask: Weight = 1.0  # L1 of the mask (Eq. 6)
    gan: Weight = 1.0  # minus the critic's score (Eq. 7, 12); of the refinement 0: no critics
    temporal: Weight = 0.0  # ours, of the refinement: L1 of what changes from frame to frame
    squared: Weight = 0.0  # ours, of the refinement: mean squared error


RELEASE_LOSSES = LossConfig(reconstruction=3.0, mask=0.05)


@dataclass(frozen=True, config=STRICT)
class StageConfig:
    """A stage of adversarial training: one step of the critics, then one of the generator."""

    steps: Steps = 0
    batch: Count = 32
    learning_rate: Positive = 1e-4
    betas: tuple[Share, Share] = (0.0, 0.9)  # of Adam
    schedule: Schedule = Schedule()
    clip_grad: Weight = 0.0  # ours: largest norm of the generator's gradient; 0: no limit


@dataclass(frozen=True, config=STRICT)
class PoseStageConfig:
    """Stage `pose_prediction`: RMSProp (Villegas et al.)."""

    steps: Steps = 0
    batch: Count = 256
    learning_rate: Positive = 1e-3
    clip_grad: Weight = 25.0  # largest norm of the gradient; 0: no limit
    schedule: Schedule = Schedule()


@dataclass(frozen=True, config=STRICT)
class StructuresConfig:
    """The system. Defaults: the paper's, for faces."""

    size: Annotated[int, Field(ge=16)] = 96  # side of the networks' frames: 96 (faces), 64 (poses), 128
    clip: ClipConfig = ClipConfig()
    structure: StructureConfig = StructureConfig()
    forecast: ForecastConfig = ForecastConfig()
    critic: CriticConfig = CriticConfig()
    refinement: RefinementConfig = RefinementConfig()
    pose: PoseConfig = PoseConfig()
    features: FeatureConfig = FeatureConfig()
    losses: LossConfig = LossConfig()
    field_losses: PairLossConfig = PairLossConfig()  # ours: in place of `losses` where forecast.fields is set
    refinement_losses: LossConfig = LossConfig()
    forecast_training: StageConfig = StageConfig()  # G_M and D_I
    refinement_training: StageConfig = StageConfig()  # G_R, D_I and D_V, on forecasts of a fixed G_M
    pose_prediction: PoseStageConfig = PoseStageConfig()

    @property
    def halvings(self) -> int:
        """How often encoders halve the side: 4 at 64 and 96, 5 at 128."""
        return (self.size // SMALLEST).bit_length()

    def __post_init__(self) -> None:
        refined = self.refinement.enabled
        for wrong, sentence in (
            (
                self.size % (1 << self.halvings) != 0,
                f"size must be divisible by {1 << self.halvings}, for it is halved until it is below {SMALLEST}, not "
                f"{self.size}.",
            ),
            (
                refined and self.size % (1 << self.refinement.levels) != 0,
                f"size must be divisible by {1 << self.refinement.levels} for so many refinement.levels, not "
                f"{self.size}.",
            ),
            (
                self.refinement.crop > self.size,
                f"refinement.crop={self.refinement.crop} must not be above size={self.size}.",
            ),
            (
                self.refinement.crop > 0 and self.refinement_losses.gan > 0,
                "refinement.crop needs refinement_losses.gan=0: critics score whole frames.",
            ),
            (
                not refined and self.refinement_training.steps > 0,
                "refinement_training.steps needs refinement.enabled=true: there is nothing to train.",
            ),
            (
                self.refinement.context and not (self.forecast.fields and self.refinement.content == "difference"),
                "refinement.context needs forecast.fields=true and refinement.content=difference: it adds to "
                "forecasts by where each pixel comes from.",
            ),
            (
                self.structure.openings and not (self.forecast.fields and self.structure.kind == "normals"),
                "structure.openings needs forecast.fields=true and structure.kind=normals: they are of faces.",
            ),
            (
                self.pose_prediction.steps > 0 and self.structure.kind == "normals",
                "pose_prediction.steps needs structure.kind=joints or limbs: normals are not made of poses.",
            ),
        ):
            if wrong:
                raise StillmotionError(sentence)


# The paper states no lengths. The release's default is 20 epochs; one of the 27,786 frames of its list in batches of
# 32 has 868 steps.
_STATED = StageConfig(steps=17_360)

_SMALL = StructuresConfig(
    size=64,
    clip=ClipConfig(augmentation="strong"),
    structure=StructureConfig(kind="joints", sigma=0.04),
    forecast=ForecastConfig(fields=True, width=24, max_width=128),
    refinement=RefinementConfig(
        frames=16, overlap=4, width=16, levels=3, content="difference", context=True, windows=150, crop=32
    ),
    pose=PoseConfig(width=256),
    field_losses=PairLossConfig(
        warp=2.0, paint=5.0, pyramid=10.0, motion_weighting=1.0, displacement=15.0, visibility=1.0, figure=1.0
    ),
    refinement_losses=LossConfig(reconstruction=3.0, mask=0.0, gan=0.0, temporal=6.0, squared=2.0),
    forecast_training=StageConfig(
        steps=15_000,
        batch=8,
        learning_rate=1e-3,
        betas=(0.5, 0.999),
        schedule=Schedule(kind="linear", warmup=200),
        clip_grad=1.5,
    ),
    refinement_training=StageConfig(
        steps=1_500, batch=4, learning_rate=3e-3, betas=(0.5, 0.999), schedule=Schedule(kind="linear", warmup=50)
    ),
    pose_prediction=PoseStageConfig(steps=2_000),
)

_SMALL_FACES = replace(
    _SMALL,
    clip=ClipConfig(augmentation="varied"),
    structure=StructureConfig(face_model="faces", face_crop=2.1, openings=True),
    field_losses=replace(_SMALL.field_losses, paint_weighting=20.0),
    pose_prediction=PoseStageConfig(),
)
# Real people, from a model of made ones: of their figures no mask is known.
_SMALL_PEOPLE = replace(
    _SMALL,
    forecast=replace(_SMALL.forecast, figure=False),
    forecast_training=replace(_SMALL.forecast_training, learning_rate=5e-4),
)
# Ours, for trained weights: what L1 leaves soft (teeth, hands) counts. A step takes five times as long.
_PERCEPTUAL = FeatureConfig(weight=0.3, side=64, maps="all")

PRESETS: dict[str, StructuresConfig] = {
    # Sec. 4.1 and 4.2: facial expressions, losses as they are written.
    "paper": StructuresConfig(forecast_training=_STATED, refinement_training=_STATED),
    # Sec. 4.1 and 4.3: poses. The weight of feature similarity and all of the pose predictor: Villegas et al.
    "paper-poses": StructuresConfig(
        size=64,
        clip=ClipConfig(largest_jump=29),
        structure=StructureConfig(kind="limbs"),
        refinement=RefinementConfig(frames=16, overlap=4),
        features=FeatureConfig(weight=1.0),
        forecast_training=_STATED,
        refinement_training=_STATED,
        pose_prediction=PoseStageConfig(steps=37_500),
    ),
    # Ours, see fields.py: what is shipped is made with it.
    "small": _SMALL,
    "small-faces": _SMALL_FACES,
    "small-people": _SMALL_PEOPLE,
    "perceptual-faces": replace(
        _SMALL_FACES,
        features=_PERCEPTUAL,
        forecast_training=replace(_SMALL.forecast_training, steps=3_700, learning_rate=6e-4),
    ),
    "perceptual-people": replace(
        _SMALL_PEOPLE,
        features=_PERCEPTUAL,
        forecast_training=replace(_SMALL.forecast_training, steps=1_700, learning_rate=4e-4),
    ),
    # The paper's networks for poses, narrowed until a laptop trains them.
    "narrow": StructuresConfig(
        size=64,
        clip=ClipConfig(augmentation="strong", largest_jump=29),
        structure=StructureConfig(kind="limbs"),
        forecast=ForecastConfig(width=24, max_width=128),
        critic=CriticConfig(width=24, max_width=128),
        refinement=RefinementConfig(frames=16, overlap=4, width=16, critic_width=16),
        pose=PoseConfig(width=256),
        losses=RELEASE_LOSSES,
        refinement_losses=RELEASE_LOSSES,
        forecast_training=StageConfig(steps=8_000, batch=8),
        refinement_training=StageConfig(steps=2_000, batch=4),
        pose_prediction=PoseStageConfig(steps=2_000),
    ),
    # What was published: faces at 64 pixels, no refinement.
    "release": StructuresConfig(
        size=64,
        clip=ClipConfig(pairs="first"),
        structure=StructureConfig(depth="radius"),
        refinement=RefinementConfig(enabled=False),
        losses=RELEASE_LOSSES,
        refinement_losses=RELEASE_LOSSES,
        forecast_training=_STATED,
    ),
}
