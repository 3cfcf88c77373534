"""Every number of the system: one dataclass and the presets `paper`, `release`, `small` and `people`.

"Paper" is Hu et al., "Learning to Take Directions One Step at a Time" (ICPR 2020); "release" is the demo code that
its authors published for Push. Layer widths are in the release alone, so `paper` takes them from there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from stillmotion.errors import StillmotionError
from stillmotion.systems.base import check_signs

_ABOVE_ZERO = (
    *("size", "frame_step", "dot_sigma", "state", "blocks", "units", "growth", "bottleneck"),
    *("discriminator_width", "foresee_batch", "batch", "steps", "learning_rate", "decay", "decay_every"),
)
_NOT_NEGATIVE = (
    *("stroke_window", "reconstruction_weight", "autoencode_weight", "painted_weight", "crop_weight", "gan_weight"),
    *("pair_gan_weight", "feature_weight", "perceptual_weight", "state_weight", "moving_focus", "painting_focus"),
    *("smooth_points", "paint_steps", "foresee_steps", "repaint_steps", "code_noise", "code_weight", "early_rate"),
    *("warmup", "clip_grad", "seed"),
)

GREY_POINTS = 32
"""So many points have a grey level of their own; the next would be brighter than the background."""


@dataclass(frozen=True)
class StrokesConfig:
    """Networks, losses and schedule. Defaults: the release, at the paper's 128 pixels."""

    # The picture and its stroke.
    size: int = 128  # height and width the networks work at; 64, 112, 128 and 256 are the paper's and the release's
    frames: int = 17  # of a training clip: the still and those to predict
    frame_step: int = 1  # every so many frames of a clip are one step
    coding: Literal["grey", "gaussian"] = "grey"  # "gaussian" (ours): soft dots, any length; see coding.py
    dot_sigma: float = 2.0  # of a soft dot, pixels at size 64; it grows with the size
    smooth_points: int = 0  # ours: strokes are parabolas fitted to so many points on both sides; see windows.py
    stroke_window: int = 0  # ours, gaussian only: S holds so many points from now on; 0: the whole stroke
    motion_input: Literal["both", "whole", "step"] = "both"  # "whole": S alone; "step": S_t alone

    # Encoders E1 and E2: three convolutions that halve the picture.
    encoder_widths: tuple[int, int] = (64, 128)  # of the first two; the third gives `state` channels
    encoder_norm: Literal["instance", "none"] = "instance"  # the paper has none

    # Predictor P: dense blocks on the state.
    initialisation: Literal["release", "scaled"] = "release"  # of all but the discriminators; "scaled" (ours)
    state: int = 256
    blocks: int = 6
    units: int = 5  # per block
    growth: int = 256  # channels each unit adds
    bottleneck: int = 128
    residual: bool = False  # ours: P adds to the current state, so that what it has not learned to change stays

    # Generator G.
    generator_widths: tuple[int, int, int] = (256, 128, 64)
    generator_norm: Literal["spectral", "none"] = "spectral"  # the paper has none
    colours: Literal["tanh", "linear"] = "tanh"  # "linear" (ours): clamped to [-1, 1] outside of training only
    composite: bool = False  # ours: G also says which pixels keep the still's
    carry: bool = False  # ours, with composite: and where it takes the still moved by the stroke instead of painting
    stabilise: bool = False  # ours, with carry: the networks see and paint the object held still; see carrying.py
    zoom: float = 1.0  # ours, with stabilise: the camera sees 1 / zoom of the side, from where the stroke begins
    skips: bool = False  # ours, with stabilise: G also sees E1's maps of the still, which lie where it paints

    # Discriminators D1 (frames) and D2 (pairs of frames).
    discriminator_width: int = 64
    crop_branch: bool = True  # D1 also sees a crop of half the side around the point (release)
    crop_place: Literal["point", "release"] = "release"  # "release": its rows and columns are swapped, and shifted
    motion_condition: bool = False  # D1 is told x_t (paper)
    use_pair_discriminator: bool = True
    pair_sees_step: bool = True  # D2 also sees S_t (release)

    # Losses.
    reconstruction_weight: float = 30.0
    distance: Literal["square", "absolute"] = "square"  # of the reconstruction losses
    autoencode_weight: float = 20.0
    autoencode_target: Literal["true", "made"] = "true"  # the paper's equation has the frame that P made
    state_weight: float = 0.0  # ours: P's state against E1's code of the true frame, over the code's mean size
    painted_weight: float = 0.0  # ours, with composite: reconstruction of what is painted, before the blend
    crop_weight: float = 50.0  # reconstruction of the crop (release)
    moving_focus: float = 0.0  # ours: pixels that differ from the still count this many times more
    painting_focus: float = 0.0  # ours, with carry: as do those that differ from the still both as it is and moved
    gan_weight: float = 1.0
    pair_gan_weight: float = 1.0
    feature_weight: float = 0.0  # ours: match D1's maps, a perceptual loss without a foreign network
    perceptual_weight: float = 10.0
    perceptual_network: Literal["vgg16", "vgg19", "random-vgg16"] = "vgg16"  # the last: fixed random weights (ours)
    perceptual_weights: str = ""  # FILE.safetensors@SHA256 with torchvision's names, for vgg16 and vgg19
    perceptual_layers: tuple[float, float, float, float, float] = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
    perceptual_distance: Literal["square", "absolute"] = "absolute"
    perceptual_region: Literal["frame", "crop"] = "crop"
    perceptual_input: Literal["scaled", "release"] = "release"  # "release": values of [-1, 1] taken for 0 to 255

    # Schedule and data.
    paint_steps: int = 0  # ours: so many steps in which E1 and G alone learn to paint; see painting.py
    code_noise: float = 0.0  # ours, stage paint: deviation of what is added to E1's codes before G sees them ...
    code_weight: float = 0.0  # ... and the cost of their mean square, so that they cannot outgrow it
    plain_wall: bool = False  # ours, stages paint and foresee: E1 is shown what moves in a frame, before grey
    foresee_steps: int = 0  # ours: so many steps in which P learns E1's codes of coming frames; foreseeing.py
    foresee_batch: int = 8  # windows of so many clips in each
    repaint_steps: int = 0  # ours: so many steps in which G alone learns to paint P's states; see repainting.py
    early_rate: float = 0.0  # ours: learning rate of the stages paint and foresee; 0: that of the last stage
    hold_painter: bool = False  # ours: E1 and G stay as they are; only E2 and P learn
    teacher_forcing: bool = False  # the state is that of the true frame (the paper's Fig. 3 failure)
    batch: int = 4
    steps: int = 200_000  # batches of clips; each is frames - 1 updates
    learning_rate: float = 2e-4
    beta1: float = 0.5
    schedule: Literal["staircase", "cosine"] = "staircase"
    decay: float = 0.9  # staircase: factor after each ...
    decay_every: int = 20_000  # ... so many updates
    warmup: int = 0  # updates over which the rate rises linearly
    clip_grad: float = 0.0  # largest norm of the generator side's gradient; 0: no limit
    augmentation: str = "none"
    seed: int = 0

    def __post_init__(self) -> None:
        check_signs(self, _ABOVE_ZERO, _NOT_NEGATIVE)
        for name in ("encoder_widths", "generator_widths"):
            if min(getattr(self, name)) < 1:
                raise StillmotionError(f"{name} must be above zero, not {getattr(self, name)}.")
        for wrong, sentence in (
            (self.size % 8 or self.size < 16, f"size must be divisible by 8 and at least 16, not {self.size}."),
            (self.frames < 2, f"frames must be at least 2, the still and one to predict, not {self.frames}."),
            (not 0 <= self.beta1 < 1, f"beta1 must be at least 0 and below 1, not {self.beta1}."),
            (min(self.perceptual_layers) < 0, f"perceptual_layers must not be negative: {self.perceptual_layers}."),
            (
                self.coding == "grey" and self.frames > GREY_POINTS,
                f"frames must be at most {GREY_POINTS} with coding=grey, which has no grey for more points; "
                "use coding=gaussian.",
            ),
            (
                self.coding == "grey" and self.stroke_window,
                "stroke_window needs coding=gaussian: a grey stroke is drawn as a whole.",
            ),
            (
                self.painted_weight and not self.composite,
                "painted_weight needs composite=true: without it all of a frame is painted.",
            ),
            (
                self.carry and not self.composite,
                "carry needs composite=true: the moved still covers what it moves over.",
            ),
            (
                self.painting_focus and not self.carry,
                "painting_focus needs carry=true: it counts what the moved still does not show.",
            ),
            (
                self.zoom < 1 or (self.zoom > 1 and not self.stabilise),
                f"zoom must be 1, or above it with stabilise=true, not {self.zoom}.",
            ),
            (
                self.skips and not self.stabilise,
                "skips needs stabilise=true: without it the still's maps do not lie where the object is.",
            ),
            (
                self.stabilise and not (self.carry and self.moving_window),
                "stabilise needs carry=true and a stroke_window: what is carried has no past.",
            ),
            (
                self.feature_weight and not self.gan_weight,
                "feature_weight needs gan_weight above zero: it matches the discriminator's maps.",
            ),
        ):
            if wrong:
                raise StillmotionError(sentence)

    @property
    def channels(self) -> int:
        """Channels of a stroke picture: the same for S and S_t, which one encoder reads."""
        return 1 if self.coding == "grey" else 5

    @property
    def predictor_inputs(self) -> int:
        """How many codes of `state` channels the predictor gets: current, initial, and E2 of S and S_t."""
        return 4 if self.motion_input == "both" else 3

    @property
    def motion_channels(self) -> int:
        """Channels of x_t."""
        return (self.predictor_inputs - 2) * self.state

    @property
    def moving_window(self) -> bool:
        """Whether S changes from step to step."""
        return self.stroke_window > 0

    @property
    def judges_frames(self) -> bool:
        """Whether there is a frame discriminator."""
        return self.gan_weight > 0

    @property
    def judges_pairs(self) -> bool:
        """Whether there is a pair discriminator."""
        return self.use_pair_discriminator and self.pair_gan_weight > 0


_release = StrokesConfig(size=256)

PRESETS: dict[str, StrokesConfig] = {
    # The text: norms in the discriminators alone, no crop, l2 everywhere, no decay; its layer widths are not known.
    "paper": replace(
        _release,
        size=128,
        encoder_norm="none",
        generator_norm="none",
        crop_branch=False,
        motion_condition=True,
        pair_sees_step=False,
        reconstruction_weight=20.0,
        autoencode_weight=20.0,
        autoencode_target="made",
        crop_weight=0.0,
        perceptual_weight=10.0,
        perceptual_distance="square",
        perceptual_region="frame",
        perceptual_input="scaled",
        decay=1.0,
    ),
    "release": _release,
    # What the zoo ships: narrow enough for two CPU cores, no discriminators and no foreign network.
    "small": StrokesConfig(
        size=64,
        frames=16,
        coding="gaussian",
        stroke_window=8,
        encoder_widths=(32, 64),
        encoder_norm="none",
        initialisation="scaled",
        state=96,
        blocks=4,
        units=4,
        growth=64,
        bottleneck=64,
        generator_widths=(96, 64, 32),
        generator_norm="none",
        colours="linear",
        composite=True,
        carry=True,
        discriminator_width=16,
        crop_branch=False,
        use_pair_discriminator=False,
        reconstruction_weight=10.0,
        autoencode_weight=5.0,
        painted_weight=5.0,
        crop_weight=0.0,
        moving_focus=10.0,
        gan_weight=0.0,
        perceptual_weight=0.0,
        batch=8,
        steps=300,
        learning_rate=1e-3,
        beta1=0.9,
        schedule="cosine",
        warmup=200,
        clip_grad=1.0,
    ),
}
# Somebody who walks: what moves along the stroke also moves by itself, and is small in the picture.
PRESETS["people"] = replace(
    PRESETS["small"],
    stabilise=True,
    zoom=1.8,
    skips=True,
    residual=True,
    blocks=2,
    smooth_points=7,
    distance="absolute",
    autoencode_weight=0.0,
    moving_focus=3.0,
    painting_focus=10.0,
    plain_wall=True,
    paint_steps=4000,
    code_noise=1.0,
    code_weight=0.3,
    foresee_steps=6000,
    repaint_steps=1000,
    early_rate=1.5e-3,
    steps=400,
    learning_rate=8e-4,
)
