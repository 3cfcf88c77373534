"""Every number of the system, nested by what it belongs to, and the presets `paper`, `release` and `small`.

"Paper" is Blattmann, Milbich, Dorkenwald and Ommer, "Understanding Object Dynamics for Interactive Image-to-Video
Synthesis" (CVPR 2021); "release" is the code that its authors published. The paper states no layer widths, so `paper`
takes them from there. "Ours" marks what neither has.
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
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, config=STRICT)
class ClipConfig:
    """Training clips."""

    frames: Count = 10  # frames to predict; the still comes before them
    frame_step: Count = 1  # frames of a clip per time step
    augmentation: str = "none"


@dataclass(frozen=True, config=STRICT)
class PokeConfig:
    """Pokes, simulated from the flow between a clip's first and last frame (Sec. 3.2, B.1)."""

    interpretation: Literal["shift", "impulse"] = "shift"  # a target location, or an initial force (appendix B)
    largest: Positive = 16.0  # impulses, `lengths`: pixels of the networks' frames that a length of 1 stands for
    patch: Count = 3  # side in pixels of the square that carries the vector; odd
    rule: Literal["paper", "release"] = "paper"  # which pixels are foreground; see poking.py
    mask: Literal["none", "grabcut"] = "none"  # foreground pixels also lie in the mask (iPER and Tai-Chi)
    background: Share = 0.1  # of the pokes are on the background, and their answer is a still video
    most: Count = 1  # pokes per clip are drawn from one to so many
    # Release, variable length: clips have so many lengths, up to `clip.frames`. The longer the poke the longer the
    # clip, evenly up to `cutoff` times `largest`. 0: all have `clip.frames`.
    lengths: Steps = 0
    cutoff: Positive = 0.4  # release: PokingPlants 0.4, iPER 0.6, Human3.6M 0.3, Tai-Chi 0.1
    # Factor of phi at each step (appendix B): all ones, one at the first step alone, falling evenly to zero, or ones;
    # the last two are zero for the last `rest` steps.
    schedule: Literal["constant", "first", "decay", "pause"] = "constant"
    rest: Steps = 0

    def __post_init__(self) -> None:
        if self.patch % 2 == 0:
            raise StillmotionError(f"poke.patch must be odd, so that it has a middle, not {self.patch}.")


@dataclass(frozen=True, config=STRICT)
class EncoderConfig:
    """Object encoder and poke encoder."""

    width: Count = 512  # of the deepest states; each larger map has half as many channels, down to 32
    bottleneck: Annotated[int, Field(ge=4)] = 16  # side of the smallest maps
    poke_width: Count = 32  # of the poke encoder's first layer
    poke_blocks: Annotated[int, Field(ge=1, le=2)] = 1  # residual blocks at its end (release: 2)
    # `normalised`: instance norm in every layer, which all but erases a poke's length; `kept` (ours): a third channel
    # holds the logarithm of the length, and the first layer has no norm.
    magnitude: Literal["normalised", "kept"] = "normalised"


@dataclass(frozen=True, config=STRICT)
class DynamicsConfig:
    """F: the chain of ConvGRU cells, coarse to fine (Eq. 3 to 5)."""

    order: Steps = 0  # N, how many of the coarsest levels have a cell and a skip connection; 0: all
    hierarchy: bool = True  # ablation "RNN": False, a stack of cells at the bottleneck and no skip connections
    layers: Count = 3  # of that stack (release: 2)


@dataclass(frozen=True, config=STRICT)
class GeneratorConfig:
    """Decoder G, and what takes its place in ours."""

    activation: Literal["elu", "relu"] = "elu"  # of its transposed convolutions (release: relu)
    fields: bool = False  # ours: handles and fields in place of states and G; see field_network.py
    width: Count = 24  # ours: of maps at the full size; it doubles with each halving, up to `max_width`
    max_width: Count = 128
    blocks: Count = 4  # ours: halvings
    # Ours: width of a further level at the full size, which corrects the fields that the others find at half of it;
    # 0: there is none.
    detail: Steps = 0

    @property
    def halvings(self) -> int:
        """Ours: how often the side is halved."""
        return self.blocks + bool(self.detail)


@dataclass(frozen=True, config=STRICT)
class DiscriminatorConfig:
    """Discriminators of frames (patches) and of clips; built by the stage that trains them."""

    start: Steps = 4000  # step of the stage from which on they are trained and used
    frame_examples: Count = 16  # true and generated frames per step that the patch discriminator sees
    frame_penalty: Weight = 0.0  # of the gradient, on real samples (release: 1e-4)
    clip_penalty: Weight = 0.1


@dataclass(frozen=True, config=STRICT)
class PerceptualConfig:
    """Perceptual distance (Eq. 6): L1 of normalised pictures and of five layers of a VGG."""

    network: Literal["vgg19", "vgg16", "random-vgg16", "none"] = "vgg19"  # `none`: pictures alone (ours)
    file: str = ""  # of vgg19 and vgg16: FILE.safetensors@SHA256, or DIR of `stillmotion weights`


@dataclass(frozen=True, config=STRICT)
class LossConfig:
    """Losses and their weights."""

    perceptual: PerceptualConfig = PerceptualConfig()
    static: Weight = 1.0  # reconstruction of single frames, which shapes the state space
    video: Weight = 5.0  # reconstruction of predicted frames (Eq. 6)
    latent: Weight = 0.1  # predicted states against encoded ones (Eq. 7)
    frame_gan: Weight = 1.0
    frame_features: Weight = 0.0  # feature matching
    clip_gan: Weight = 5.0
    clip_features: Weight = 10.0


@dataclass(frozen=True, config=STRICT)
class FieldLossConfig:
    """Losses of ours."""

    displacement: Weight = 15.0  # end-point error in clips that know their motion, normalised
    visibility: Weight = 0.5  # cross-entropy of the shares in clips that know what is hidden
    figure: Weight = 1.0  # cross-entropy of the still's figure in clips that know it
    photometric: Weight = 5.0  # L1 of frames, weighted by motion
    stillness: Weight = 5.0  # displacement where nothing moves
    handle: Weight = 3.0  # end-point error where the handles are
    filled: Weight = 0.4  # share of plate and paint where a clip does not know what is hidden: they hide faults
    path: Weight = 5.0  # of handles that are let go or pushed


@dataclass(frozen=True, config=STRICT)
class StageConfig:
    """A stage of training."""

    steps: Steps = 0
    batch: Count = 10
    learning_rate: Positive = 1e-4
    # Release: after 10, 25 and 50 of 1000 epochs, long before the last of which it is stopped. On PokingPlants an
    # epoch has about 3440 steps: four fifths of 43,000 frames in batches of ten.
    schedule: Schedule = Schedule(kind="milestone", milestones=(0.01, 0.025, 0.05), decay=0.3, total=3_440_000)
    clip_grad: Weight = 0.0  # largest norm of the gradient; 0: no limit


@dataclass(frozen=True, config=STRICT)
class FieldStageConfig(StageConfig):
    """Stage `fields` (ours)."""

    batch: Count = 12
    learning_rate: Positive = 1.5e-3
    muon: Weight = 0.0  # learning rate of Muon, which takes the convolutions; 0: AdamW has everything
    schedule: Schedule = Schedule(kind="linear", warmup=50)
    clip_grad: Weight = 1.5
    moments: Count = 2  # frames that are decoded per still
    span: Count = 24  # they are drawn from so many frames after the still


@dataclass(frozen=True, config=STRICT)
class PokesConfig:
    """The system. Defaults: the paper's, at 64 pixels."""

    size: Annotated[int, Field(ge=16)] = 64  # side of the networks' frames; 64 and 128 in the paper
    clip: ClipConfig = ClipConfig()
    poke: PokeConfig = PokeConfig()
    encoder: EncoderConfig = EncoderConfig()
    dynamics: DynamicsConfig = DynamicsConfig()
    generator: GeneratorConfig = GeneratorConfig()
    discriminators: DiscriminatorConfig = DiscriminatorConfig()
    losses: LossConfig = LossConfig()
    field_losses: FieldLossConfig = FieldLossConfig()
    pretraining: StageConfig = StageConfig()  # E and G on single frames
    dynamics_training: StageConfig = StageConfig()  # poke encoder, F and G; the state space is fixed
    interleaved: StageConfig = StageConfig()  # both in every step (release)
    single_stage: bool = False  # ablation: dynamics_training trains E as well, and nothing is reconstructed alone
    fields: FieldStageConfig = FieldStageConfig()

    @property
    def halvings(self) -> int:
        """S: how often the encoders halve the side."""
        return (self.size // self.encoder.bottleneck).bit_length() - 1

    @property
    def levels(self) -> int:
        """N: levels of the hierarchy of states that have a cell."""
        return self.dynamics.order or self.halvings + 1

    def __post_init__(self) -> None:
        side, width = self.encoder.bottleneck << max(self.halvings, 0), self.encoder.width
        for wrong, sentence in (
            (
                not self.generator.fields and (self.halvings < 1 or side != self.size),
                f"size must be encoder.bottleneck times 2, 4, 8, ..., not {self.size} of {self.encoder.bottleneck}.",
            ),
            (
                not self.generator.fields and width < 32 << max(self.halvings, 0),
                f"encoder.width must be at least {32 << max(self.halvings, 0)} at size {self.size}: widths double "
                "from 32 on.",
            ),
            (
                self.dynamics.order > self.halvings + 1,
                f"dynamics.order must be at most {self.halvings + 1} at size {self.size}: there are no more levels.",
            ),
            (
                self.generator.fields and self.size % (1 << self.generator.halvings) != 0,
                f"size must be divisible by {1 << self.generator.halvings} for so many generator.blocks and detail.",
            ),
            (
                self.poke.lengths > self.clip.frames or (self.generator.fields and self.poke.lengths > 0),
                "poke.lengths must be at most clip.frames, and needs generator.fields=false.",
            ),
            (
                self.generator.fields and any(s.steps for s in self.state_stages),
                "pretraining, dynamics_training and interleaved need generator.fields=false: there are no states.",
            ),
            (
                not self.generator.fields and self.fields.steps > 0,
                "the stage fields needs generator.fields=true: there are no fields.",
            ),
        ):
            if wrong:
                raise StillmotionError(sentence)

    @property
    def state_stages(self) -> tuple[StageConfig, ...]:
        """The stages of the paper and of the release."""
        return self.pretraining, self.dynamics_training, self.interleaved


_STATED = StageConfig(steps=100_000)

PRESETS: dict[str, PokesConfig] = {
    # Sec. 3.2: the state space first, then the dynamics. The numbers of the schedule are those of the release.
    "paper": PokesConfig(pretraining=_STATED, dynamics_training=replace(_STATED, steps=147_000)),
    # What the published checkpoints were trained with: both in every iteration, no pokes on the background.
    "release": PokesConfig(
        poke=PokeConfig(rule="release", background=0.0),
        encoder=EncoderConfig(poke_blocks=2),
        dynamics=DynamicsConfig(layers=2),
        generator=GeneratorConfig(activation="relu"),
        discriminators=DiscriminatorConfig(frame_penalty=1e-4),
        interleaved=replace(_STATED, steps=147_000),
    ),
    # What pokes-plants was trained with: fields, supervised by the world's exact motion, on two CPU cores.
    "small": PokesConfig(
        clip=ClipConfig(augmentation="varied"),
        losses=LossConfig(perceptual=PerceptualConfig(network="none")),
        generator=GeneratorConfig(fields=True),
        fields=FieldStageConfig(steps=11_500),
    ),
}
# Ours, what pokes-plants-128 was trained with, from pokes-plants: the same networks, with one level more.
PRESETS["small-128"] = replace(
    PRESETS["small"],
    size=128,
    generator=replace(PRESETS["small"].generator, detail=16),
    fields=replace(PRESETS["small"].fields, steps=800, batch=8, learning_rate=5e-4),
)
