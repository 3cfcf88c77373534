"""Every number of the system, nested by what it belongs to, and the presets.

"Paper" is Kim, Nam, Cho and Kim, "Unsupervised Keypoint Learning for Guiding Class-Conditional Video Prediction"
(NeurIPS 2019); "release" is the code that its authors published, for Penn Action alone. The paper states no layer
widths and no ranges of augmentation, so `paper` takes them from there. "Ours" marks what neither has.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from stillmotion.errors import StillmotionError
from stillmotion.files import STRICT
from stillmotion.keypoints.config import NetworkConfig, PairStage, SupervisionStage
from stillmotion.keypoints.presets import JOINT_LOSSES, SMALL, SMALL_STAGES, TRUTH_LOSSES, joint, truth
from stillmotion.training.schedules import Schedule

Count = Annotated[int, Field(ge=1)]
Steps = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Degrees = Annotated[int, Field(ge=0, le=180)]
Name = Annotated[str, Field(min_length=1)]

STAGES = ("keypoint_supervision", "keypoints", "motion")
"""Names of the stages; `pair_stages` have their own and come after the first."""

PENN_ACTIONS = (
    "tennis_serve",
    "pull_ups",
    "clean_and_jerk",
    "tennis_forehand",
    "baseball_pitch",
    "jumping_jacks",
    "golf_swing",
    "squats",
    "baseball_swing",
)
"""The nine of Penn Action's fifteen classes (Sec. 3.1), in the order of the release's class indices."""


def _check_range(name: str, values: tuple[float, float]) -> None:
    if values[0] > values[1]:
        raise StillmotionError(f"{name} must be a range, the smaller number first, not {values[0]} to {values[1]}.")


@dataclass(frozen=True, config=STRICT)
class KeypointConfig:
    """Keypoints and their gaussian maps (Eq. 1, 2)."""

    count: Count = 40  # K
    # `full`: the expectation under a softmax over all pixels (Eq. 1); `separable`: under two softmaxes, over the
    # columns and over the rows, of logits averaged along the other axis (release).
    readout: Literal["full", "separable"] = "full"
    sharpness: Positive = 14.3  # 1 / (sigma sqrt 2), sigma in normalised units (release)
    map_peak: Literal["density", "one"] = "density"  # maps are divided by sigma sqrt(2 pi) (Eq. 2), or not (release)


@dataclass(frozen=True, config=STRICT)
class EncoderConfig:
    """Trunk of the image encoder and of the keypoint detector; what follows in the detector has half its widths."""

    width: Annotated[int, Field(ge=2)] = 32  # at full size; it doubles with each of three halvings


@dataclass(frozen=True, config=STRICT)
class TranslatorConfig:
    """Translator T (Eq. 3, 4)."""

    width: Count = 64  # at full size; 2 and 4 times that at a half and a quarter
    reference_maps: bool = True  # ablation: False, it sees the maps of the target keypoints alone
    mask: bool = True  # ablation: False, the synthesised image is the result


@dataclass(frozen=True, config=STRICT)
class DiscriminatorConfig:
    """Image discriminator; built by the stage that trains it."""

    width: Count = 64  # of the first layer; it doubles with each
    layers: Count = 6  # that halve


@dataclass(frozen=True, config=STRICT)
class MotionConfig:
    """Motion generator M, a conditional VAE over keypoint sequences, and the sequence discriminator."""

    frames: Count = 32  # to predict; the still comes before them
    latent: Count = 64  # numbers in z
    hidden: Count = 1024  # of the LSTMs
    layers: Count = 2  # of the LSTMs
    input_width: Count = 32  # of the decoder's input
    # `released`: the release's fully connected layers end in a ReLU where nothing else is said, so mean, deviation,
    # decoder input and sequence logits are not negative. `linear`: they do not; the deviation is a softplus.
    mode: Literal["linear", "released"] = "linear"
    input_every_step: bool = False  # ours: the decoder has its input, which holds z, at every step, not at the first
    sequence_discriminator: bool = True  # ablation: False


@dataclass(frozen=True, config=STRICT)
class PerceptualConfig:
    """Perceptual loss: five layers of a VGG."""

    weight: Weight = 1.0  # lambda 1
    network: Literal["vgg19", "vgg16", "random-vgg16"] = "vgg19"
    file: str = ""  # of vgg19 and vgg16: FILE.safetensors@SHA256, or DIR of `stillmotion weights`
    # What the weights expect: RGB normalised by ImageNet's mean and deviation, or BGR of 0 to 255 minus its mean
    # (release). The second makes the loss far larger.
    inputs: Literal["torchvision", "caffe"] = "torchvision"


@dataclass(frozen=True, config=STRICT)
class LossConfig:
    """Losses of the stage `keypoints`."""

    perceptual: PerceptualConfig = PerceptualConfig()
    gan: Weight = 1.0


@dataclass(frozen=True, config=STRICT)
class MotionLossConfig:
    """Losses of the stage `motion` (Eq. 5)."""

    kl: Weight = 1.0  # of the sum over the numbers of z, in nats
    reconstruction: Weight = 1000.0  # lambda 2, of the mean over frames and coordinates
    gan: Weight = 2.0  # lambda 3 (release: 1)
    kl_ramp: Share = 0.0  # ours: share of the stage over which the weight of `kl` rises evenly from 0
    free_bits: Weight = 0.0  # ours: nats per number of z that cost nothing


@dataclass(frozen=True, config=STRICT)
class TrackConfig:
    """Ours: motion as a rectified flow over keypoint tracks, in place of M."""

    width: Annotated[int, Field(ge=8)] = 128
    blocks: Count = 4
    heads: Count = 4
    dropout: Share = 0.0
    known: Count = 8  # at most so many first frames of a window may be given, when it continues another
    unconditional: Share = 0.1  # of the training samples, which are given no action
    guidance: Positive = 2.5  # how far the velocity goes beyond that without an action; 1: not
    steps: Count = 16  # from noise to a track
    smoothing: Weight = 1.3  # deviation of a gaussian over the frames of what is sampled, in frames; 0: none

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise StillmotionError(f"tracks.width must be divisible by twice tracks.heads, not {self.width}.")


@dataclass(frozen=True, config=STRICT)
class PairConfig:
    """Pairs of frames of the stage `keypoints` (Sec. 3.1; numbers of the release)."""

    gap: tuple[Count, Count] = (8, 11)  # frames from the first to the second, both included; wraps at the clip's end
    augmentation: str = "penn"
    balance: bool = False  # actions come equally often, and not clips (ours)

    def __post_init__(self) -> None:
        _check_range("pairs.gap", self.gap)


@dataclass(frozen=True, config=STRICT)
class SequenceConfig:
    """Keypoint sequences of the stage `motion` (numbers of the release)."""

    step: Steps = 0  # frames between two of them, so that speed is real (ours); 0: span the clip
    rotation: Degrees = 15  # at most, either way, about the origin
    flip: Share = 0.5  # of the sequences, left to right
    scale: tuple[Positive, Positive] = (0.7, 1.2)  # factor of the points, about the origin
    speed: tuple[Positive, Positive] = (1.0, 1.0)  # ours, with `step`: factor of it
    balance: bool = False  # actions come equally often, and not clips (ours)
    # Ours: frames in which half of the sequences come from the pose of another clip; 0: all start with their own.
    # Without it a still's pose decides the action, where all clips of an action start alike.
    transition: Steps = 0

    def __post_init__(self) -> None:
        _check_range("sequences.scale", self.scale)
        _check_range("sequences.speed", self.speed)


@dataclass(frozen=True, config=STRICT)
class StageConfig:
    """A stage of training, with Adam on both sides."""

    steps: Steps = 0
    batch: Count = 32  # (release: 16)
    learning_rate: Positive = 1e-4
    momenta: tuple[Share, Share] = (0.5, 0.999)
    # Every 20,000 iterations (Sec. 3.2); the release decays smoothly (`exponential`).
    schedule: Schedule = Schedule(kind="staircase", decay=0.95, decay_every=20_000)


@dataclass(frozen=True, config=STRICT)
class ActionsConfig:
    """The system. Defaults: the paper's, for Penn Action."""

    size: Annotated[int, Field(ge=16)] = 128  # side of the networks' frames
    # Names of the classes, in the order of their indices. None: those of the training clips; empty: no classes.
    actions: tuple[Name, ...] | None = PENN_ACTIONS
    sides: tuple[Name, ...] | None = ()  # ours: from which the figure is seen, in the same way
    norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.001  # share of each batch in the moving averages (release)
    keypoints: KeypointConfig = KeypointConfig()
    encoder: EncoderConfig = EncoderConfig()
    translator: TranslatorConfig = TranslatorConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    motion: MotionConfig = MotionConfig()
    losses: LossConfig = LossConfig()
    motion_losses: MotionLossConfig = MotionLossConfig()
    pairs: PairConfig = PairConfig()
    sequences: SequenceConfig = SequenceConfig()
    keypoints_training: StageConfig = StageConfig()  # 1: detector, image encoder and translator
    motion_training: StageConfig = StageConfig()  # 2: motion generator, on the keypoints that the first stage finds
    # Ours: a detector and a generator that ends in fields, in place of Q, E and T, and what trains them.
    fields: NetworkConfig | None = None
    keypoint_supervision: SupervisionStage = SupervisionStage()
    pair_stages: tuple[PairStage, ...] = ()
    tracks: TrackConfig | None = None

    def __post_init__(self) -> None:
        if self.size % 8:
            raise StillmotionError(f"size must be divisible by 8, for three halvings, not {self.size}.")
        for field in ("actions", "sides"):
            names = getattr(self, field) or ()
            if len(set(names)) < len(names) or {"all", "any"} & set(names):
                raise StillmotionError(f"{field} must have different names, not all or any: {', '.join(names)}.")
        if self.sides != () and self.tracks is None:
            raise StillmotionError("sides need tracks: the paper's motion generator knows none.")
        if self.fields is not None and self.fields.size != self.size:
            raise StillmotionError(f"fields.size must be size, {self.size}, not {self.fields.size}.")
        if self.tracks is not None and self.fields is None:
            raise StillmotionError("tracks need fields, whose keypoints have covariances.")
        names = [stage.name for stage in self.pair_stages]
        if len({*names, *STAGES}) < len(names) + len(STAGES) or not all(name.isidentifier() for name in names):
            raise StillmotionError(f"pair_stages need different names of letters, digits and '_', not {names}.")

    @property
    def classes(self) -> int:
        """How many actions there are."""
        return len(self.actions or ())

    @property
    def points(self) -> int:
        """K."""
        return self.fields.keypoints.count if self.fields else self.keypoints.count

    @property
    def map_size(self) -> int:
        """Side of the image encoder's features and of the gaussian maps that the translator sees."""
        return self.size // 4


# Stage 1 until the perceptual loss, stage 2 until the divergence has converged (Sec. 3.2). The release names this
# number and is stopped by hand.
_PAPER = ActionsConfig(
    keypoints_training=StageConfig(steps=30_000_000), motion_training=StageConfig(steps=30_000_000)
)
_SMOOTH = replace(_PAPER.keypoints_training, batch=16, schedule=Schedule(kind="exponential", decay=0.95))

_SMALL = ActionsConfig(
    size=64,
    actions=None,
    fields=SMALL,
    tracks=TrackConfig(),
    sequences=SequenceConfig(step=1, rotation=0, scale=(0.8, 1.15), speed=(0.85, 1.2), balance=True, transition=10),
    keypoint_supervision=SupervisionStage(steps=5_000),
    # Hands that the detector loses for a frame are motion to stage 2: joints count six times more than in `driving`.
    pair_stages=(*SMALL_STAGES[:-1], truth(18_000, losses=replace(TRUTH_LOSSES, keypoint_supervision=3.0))),
    motion_training=StageConfig(
        steps=8_000, batch=64, learning_rate=1e-3, momenta=(0.9, 0.99), schedule=Schedule(kind="linear", warmup=100)
    ),
)

PRESETS: dict[str, ActionsConfig] = {
    "paper": _PAPER,
    "paper-nemo": replace(_PAPER, actions=(), keypoints=KeypointConfig(count=15)),
    "paper-mgif": replace(_PAPER, actions=(), keypoints=KeypointConfig(count=60)),
    "release": replace(
        _PAPER,
        keypoints=KeypointConfig(readout="separable", map_peak="one"),
        motion=MotionConfig(mode="released"),
        losses=LossConfig(perceptual=PerceptualConfig(inputs="caffe")),
        motion_losses=MotionLossConfig(gan=1.0),
        keypoints_training=_SMOOTH,
        motion_training=_SMOOTH,
    ),
    # Ours: fields for the renderer and a rectified flow over tracks; the actions are those of the training clips.
    "small": _SMALL,
    # actions-weizmann and actions-penn: real people, whose actions take two or three seconds.
    "people": replace(
        _SMALL,
        sequences=replace(_SMALL.sequences, step=2, transition=6),
        tracks=TrackConfig(smoothing=0.8),
        motion_training=replace(_SMALL.motion_training, steps=3_000),
    ),
    # actions-sprites: game characters, whose keypoints nobody knows; clips are short, and seen from four sides.
    "sprites": replace(
        _SMALL,
        sides=None,
        tracks=TrackConfig(guidance=1.5, smoothing=0.0),
        motion=MotionConfig(frames=8),
        sequences=SequenceConfig(step=1, rotation=0, scale=(1.0, 1.0), balance=True),
        keypoint_supervision=SupervisionStage(),
        pair_stages=(
            joint(
                "unlabelled",
                6_000,
                6e-4,
                "pixel-art",
                schedule=Schedule(kind="linear", warmup=200),
                freeze_detector_bn=False,
                clip_grad=1.5,
                losses=replace(
                    JOINT_LOSSES, keypoint_supervision=0.0, motion_weighting=3.0, visibility=0.5, figure=1.0
                ),
            ),
        ),
    ),
    # The paper's motion generator on the same keypoints, kept awake: what the rectified flow is compared with.
    "small-vae": replace(
        _SMALL,
        tracks=None,
        motion=MotionConfig(latent=16, hidden=192, input_every_step=True),
        motion_losses=MotionLossConfig(kl=0.05, kl_ramp=0.3, free_bits=0.05, gan=0.0),
    ),
}
