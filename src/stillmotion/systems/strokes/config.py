"""Every number of the system, nested by what it belongs to, and its presets.

"Paper" is Hu et al., "Learning to Take Directions One Step at a Time" (ICPR 2020); "release" is the demo code that
its authors published for Push. Only the release states layer widths, so `paper` takes them from there. "Ours" marks
what neither has.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from stillmotion.errors import StillmotionError
from stillmotion.files import STRICT
from stillmotion.training.schedules import Schedule

Count = Annotated[int, Field(ge=1)]
Steps = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]

GREY_LEVELS = 32  # points that the grey encoding tells apart; the next one would be brighter than the background


@dataclass(frozen=True, config=STRICT)
class ClipConfig:
    """Training clips."""

    frames: Annotated[int, Field(ge=2)] = 17  # the still and the frames to predict
    frame_step: Count = 1  # frames of a clip per time step
    augmentation: str = "none"
    mask_background: bool = False  # ours: targets of E1 show the moving object alone, on grey; not the last stage


@dataclass(frozen=True, config=STRICT)
class StrokeConfig:
    """Strokes as maps, the inputs S and S_t of E2 (Sec. III-A a, IV-A)."""

    encoding: Literal["grey", "gaussian"] = "grey"  # "gaussian" (ours): see stroke_encoding.py
    input: Literal["both", "whole", "step"] = "both"  # ablation: "whole" is S alone, "step" is S_t alone
    lookahead: Steps = 0  # ours, gaussian only: S shows this many points ahead; 0: the whole stroke
    smoothing_radius: Steps = 0  # ours: parabolas are fitted to this many points on both sides

    @property
    def channels(self) -> int:
        """Channels of S and of S_t."""
        return 1 if self.encoding == "grey" else 5

    @property
    def codes(self) -> int:
        """How many codes of E2 make up x_t."""
        return 2 if self.input == "both" else 1


@dataclass(frozen=True, config=STRICT)
class EncoderConfig:
    """Encoders E1 and E2: three convolutions, each halves the resolution."""

    widths: tuple[Count, Count, Count] = (64, 128, 256)  # the last one is that of states and codes
    norm: Literal["instance"] | None = "instance"  # the paper has none


@dataclass(frozen=True, config=STRICT)
class PredictorConfig:
    """Predictor P: dense blocks (Sec. III-E)."""

    blocks: Count = 6
    units: Count = 5  # per block
    growth: Count = 256  # channels that each unit adds
    bottleneck: Count = 128
    residual: bool = False  # ours: P predicts the change of the state


@dataclass(frozen=True, config=STRICT)
class GeneratorConfig:
    """Generator G: three transposed convolutions, each doubles the resolution, and one to RGB."""

    widths: tuple[Count, Count, Count] = (256, 128, 64)
    norm: Literal["spectral"] | None = "spectral"  # the paper has none
    output: Literal["tanh", "linear"] = "tanh"  # "linear" (ours): clamped to [-1, 1] in eval mode
    fields: bool = False  # ours: frames are blended of the moved still, the still, its background and paint
    object_frame: bool = False  # ours, with fields: the networks work where the object is; see object_frame.py
    crop_zoom: Annotated[float, Field(ge=1)] = 1.0  # ours, with object_frame: they see 1 / crop_zoom of the side
    moved_skips: bool = False  # ours, with fields: G also sees E1's maps of the still, as they are and moved along

    def __post_init__(self) -> None:
        if self.fields and self.norm is not None:
            raise StillmotionError("fields need norm=none: their layers have no norm of their own.")
        if self.object_frame and not self.fields:
            raise StillmotionError("object_frame needs fields=true: the object's pixels move with its frame.")
        if self.moved_skips and (self.object_frame or not self.fields):
            raise StillmotionError("moved_skips needs fields=true and object_frame=false, which has its own.")
        if self.crop_zoom > 1 and not self.object_frame:
            raise StillmotionError("crop_zoom above 1 needs object_frame=true: the crop follows the object.")


@dataclass(frozen=True, config=STRICT)
class DiscriminatorConfig:
    """Discriminators D1 (frames) and D2 (pairs of frames); built by the stage that trains them."""

    width: Count = 64
    crop_branch: bool = True  # D1 also sees a crop of half the side around the point (release)
    motion_condition: bool = False  # D1 is conditioned on x_t (paper)
    pair_sees_step: bool = True  # D2 also sees S_t (release)


@dataclass(frozen=True, config=STRICT)
class PerceptualConfig:
    """Perceptual loss L_VGG (Eq. 7)."""

    weight: Weight = 10.0
    network: Literal["vgg16", "random-vgg16"] = "vgg16"  # "random-vgg16" (ours): fixed random weights
    file: str = ""  # of vgg16: FILE.safetensors@SHA256, or DIR of `stillmotion weights`
    layers: tuple[Weight, Weight, Weight, Weight, Weight] = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
    distance: Literal["square", "absolute"] = "absolute"
    region: Literal["frame", "crop"] = "crop"
    range: Literal["unit", "release"] = "release"  # "release": values in [-1, 1] where VGG expects 0 to 255


@dataclass(frozen=True, config=STRICT)
class LossConfig:
    """Losses of a time step (Eq. 3 to 8) and their weights."""

    reconstruction: Weight = 30.0  # Eq. 3
    autoencoding: Weight = 20.0  # Eq. 4
    autoencoding_target: Literal["true", "predicted"] = "true"  # Eq. 4 compares with the predicted frame
    gan: Weight = 1.0  # Eq. 5; 0: no D1
    pair_gan: Weight = 1.0  # Eq. 6; 0: no D2
    perceptual: PerceptualConfig = PerceptualConfig()
    crop: Weight = 50.0  # reconstruction of the crop (release)
    unblended: Weight = 0.0  # ours, with fields: reconstruction with paint in place of the still's moved pixels
    distance: Literal["square", "absolute"] = "square"  # of the reconstruction losses
    motion_weighting: Weight = 0.0  # ours: additional weight of pixels that differ from the still
    displacement: Weight = 0.0  # ours, with fields: end-point error in clips that know their motion, normalised
    visibility: Weight = 0.0  # ours, with fields: cross-entropy of the shares in clips that know what is hidden
    figure: Weight = 0.0  # ours, with fields: cross-entropy of the still's figure in clips that know it
    disocclusion_weighting: Weight = 0.0  # ours, with fields: of those that differ from the moved still as well

    @property
    def truth(self) -> bool:
        """Whether clips that know their motion supervise the fields."""
        return max(self.displacement, self.visibility, self.figure) > 0


@dataclass(frozen=True, config=STRICT)
class StageConfig:
    """A stage of training; these are the numbers of ours, before the paper's. See training.py."""

    steps: Steps = 0
    batch: Count = 8
    learning_rate: Positive = 1.5e-3
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9  # of Adam; beta2 is 0.999
    schedule: Schedule = Schedule(kind="linear", warmup=50, floor=0.02)
    clip_grad: Weight = 1.0  # largest norm of the gradient; 0: no limit


@dataclass(frozen=True, config=STRICT)
class AutoencoderConfig(StageConfig):
    """Stage `autoencoder`: E1 and G on single frames."""

    batch: Count = 16
    latent_noise_std: Weight = 0.0  # of Gaussian noise added to the codes
    latent_l2_weight: Weight = 0.0  # of the codes' mean square, which bounds their size against the noise


@dataclass(frozen=True, config=STRICT)
class SingleStepConfig(StageConfig):
    """Single time step training (Sec. III-C): one update per time step, `clip.frames` - 1 per batch of clips."""

    steps: Steps = 200_000  # batches of clips
    batch: Count = 4
    learning_rate: Positive = 2e-4
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.5
    schedule: Schedule = Schedule(kind="staircase", decay=0.9, decay_every=20_000)  # counts updates
    clip_grad: Weight = 0.0  # of the generator side
    teacher_forcing: bool = False  # ablation: the state is the code of the true frame (Fig. 3)


@dataclass(frozen=True, config=STRICT)
class StrokesConfig:
    """The system. Defaults: the release, at the paper's 128 pixels."""

    size: Annotated[int, Field(ge=16)] = 128  # side of the networks' frames; 64, 112, 128 (paper), 256 (release)
    initialisation: Literal["release", "scaled"] = "release"  # of E1, E2, P and G; "scaled" (ours): He et al.
    clip: ClipConfig = ClipConfig()
    stroke: StrokeConfig = StrokeConfig()
    encoder: EncoderConfig = EncoderConfig()
    predictor: PredictorConfig = PredictorConfig()
    generator: GeneratorConfig = GeneratorConfig()
    discriminators: DiscriminatorConfig = DiscriminatorConfig()
    losses: LossConfig = LossConfig()
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    latent_prediction: StageConfig = StageConfig()
    generator_finetuning: StageConfig = StageConfig()
    single_step: SingleStepConfig = SingleStepConfig()
    annealing: SingleStepConfig = SingleStepConfig(steps=0)  # single-step training again, from its result

    def __post_init__(self) -> None:
        grey, generator, losses = self.stroke.encoding == "grey", self.generator, self.losses
        for wrong, sentence in (
            (self.size % 8, f"size must be divisible by 8, not {self.size}."),
            (
                grey and self.clip.frames > GREY_LEVELS,
                f"clip.frames must be at most {GREY_LEVELS} with stroke.encoding=grey, which has no level for more "
                "points; use stroke.encoding=gaussian.",
            ),
            (
                grey and self.stroke.lookahead,
                "stroke.lookahead needs stroke.encoding=gaussian: a grey stroke is drawn as a whole.",
            ),
            (
                generator.object_frame and not self.stroke.lookahead,
                "generator.object_frame needs stroke.lookahead: points behind the object are not shown in its frame.",
            ),
            (
                not generator.fields and (losses.unblended or losses.disocclusion_weighting or losses.truth),
                "losses.unblended, disocclusion_weighting, displacement, visibility and figure need "
                "generator.fields=true: without it all of a frame is generated.",
            ),
        ):
            if wrong:
                raise StillmotionError(sentence)


_release = StrokesConfig(size=256)

PRESETS: dict[str, StrokesConfig] = {
    # Sec. III-E: no norm outside of the discriminators, no crop, l2 everywhere, a constant learning rate.
    "paper": replace(
        _release,
        size=128,
        encoder=EncoderConfig(norm=None),
        generator=GeneratorConfig(norm=None),
        discriminators=DiscriminatorConfig(crop_branch=False, motion_condition=True, pair_sees_step=False),
        losses=LossConfig(
            reconstruction=20.0,
            autoencoding_target="predicted",
            crop=0.0,
            perceptual=PerceptualConfig(distance="square", region="frame", range="unit"),
        ),
        single_step=SingleStepConfig(schedule=Schedule()),
    ),
    "release": _release,
    # What strokes-digits was trained with: two CPU cores, no discriminators and no VGG.
    "small": StrokesConfig(
        size=64,
        initialisation="scaled",
        clip=ClipConfig(frames=16),
        stroke=StrokeConfig(encoding="gaussian", lookahead=8),
        encoder=EncoderConfig(widths=(32, 64, 96), norm=None),
        predictor=PredictorConfig(blocks=4, units=4, growth=64, bottleneck=64),
        generator=GeneratorConfig(widths=(96, 64, 32), norm=None, fields=True),
        discriminators=DiscriminatorConfig(width=16, crop_branch=False),
        losses=LossConfig(
            reconstruction=10.0,
            autoencoding=5.0,
            unblended=5.0,
            crop=0.0,
            gan=0.0,
            pair_gan=0.0,
            motion_weighting=10.0,
            perceptual=PerceptualConfig(weight=0.0),
        ),
        single_step=SingleStepConfig(
            steps=118,
            batch=8,
            learning_rate=1e-3,
            beta1=0.9,
            schedule=Schedule(kind="cosine", warmup=200, floor=0.02, total=700 * 15),  # stopped early
            clip_grad=1.0,
        ),
        annealing=SingleStepConfig(
            steps=160,
            batch=8,
            learning_rate=6e-4,
            beta1=0.9,
            schedule=Schedule(kind="cosine", warmup=30, floor=0.02),
            clip_grad=1.0,
        ),
    ),
}
# What strokes-puppets was trained with: the object also moves by itself (it walks), and is small in the picture.
PRESETS["people"] = replace(
    PRESETS["small"],
    clip=ClipConfig(frames=16, mask_background=True),
    stroke=StrokeConfig(encoding="gaussian", lookahead=8, smoothing_radius=7),
    predictor=PredictorConfig(blocks=2, units=4, growth=64, bottleneck=64, residual=True),
    generator=replace(PRESETS["small"].generator, object_frame=True, crop_zoom=1.8),
    losses=replace(
        PRESETS["small"].losses,
        autoencoding=0.0,
        distance="absolute",
        motion_weighting=3.0,
        disocclusion_weighting=10.0,
        displacement=15.0,
        visibility=1.0,
        figure=1.0,
    ),
    autoencoder=AutoencoderConfig(steps=4000, latent_noise_std=1.0, latent_l2_weight=0.3),
    latent_prediction=StageConfig(steps=6000),
    generator_finetuning=StageConfig(steps=900, learning_rate=8e-4),
    single_step=replace(PRESETS["small"].single_step, steps=0),
    annealing=SingleStepConfig(steps=0),
)
# For an arm that reaches over the border, and moves what it touches; no model of it is shipped yet. In the object's
# frame the border would cut it off, so G sees the still as it is and moved. Many real clips have ten frames.
PRESETS["robot"] = replace(
    PRESETS["people"],
    clip=ClipConfig(frames=10, augmentation="bair"),
    stroke=StrokeConfig(encoding="gaussian", lookahead=8, smoothing_radius=2),
    predictor=replace(PRESETS["people"].predictor, residual=False),  # a sum of states drifts beyond the clips' length
    generator=replace(PRESETS["small"].generator, moved_skips=True),
    losses=replace(PRESETS["people"].losses, motion_weighting=1.0, disocclusion_weighting=2.0),
    autoencoder=AutoencoderConfig(),
    latent_prediction=StageConfig(),
    generator_finetuning=StageConfig(),
    single_step=SingleStepConfig(
        steps=1500,
        batch=8,
        learning_rate=1e-3,
        beta1=0.9,
        schedule=Schedule(kind="linear", warmup=100, floor=0.02),
        clip_grad=1.0,
    ),
)
