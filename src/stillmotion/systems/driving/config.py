"""Every number of the system: one dataclass, the paper's preset, the release's presets and the small one.

"Paper" is the text of Siarohin et al., "Animating Arbitrary Objects via Deep Motion Transfer" (CVPR 2019);
"release" is the code its authors published. Where both are silent the field says so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from stillmotion.errors import StillmotionError
from stillmotion.systems.base import check_signs

_ABOVE_ZERO = (
    *("size", "keypoints", "temperature", "motion_scale", "fixed_variance", "heatmap_exponent", "heatmap_scale"),
    *(f"{net}_{what}" for net in ("detector", "motion", "generator") for what in ("expansion", "max", "blocks")),
    *("discriminator_expansion", "discriminator_max", "discriminator_blocks"),
    *("batch", "steps", "learning_rate"),
    *(f"predict_{what}" for what in ("hidden", "layers", "batch", "learning_rate")),
)
_NOT_NEGATIVE = (
    *("covariance_floor", "motion_groups", "refine_blocks", "gan_weight", "gan_from", "warp_weight"),
    *("pyramid_weight", "equivariance_weight", "guide_weight", "separation_weight", "milestone", "warmup"),
    *("clip_grad", "predict_steps", "predict_patience"),
)


MOST_BLOCKS = 12
"""Each block halves the picture; so many are more than any picture here has room for."""


@dataclass(frozen=True)
class DrivingConfig:
    """Networks, losses and schedule of the driving system. Defaults: the release's `taichi` setting."""

    # The picture and its keypoints.
    size: int = 64  # height and width the networks work at
    keypoints: int = 10
    temperature: float = 0.1  # of the spatial softmax (release; the paper's is plain)
    motion_scale: float = 1.0  # the detector and the motion network see the picture at this scale
    shrink: Literal["nearest", "area"] = "nearest"  # how it is made smaller for them (release: nearest)
    covariance: Literal["full", "single", "fixed"] = "full"  # "fixed": Table 2's "No Sigma_k"
    fixed_variance: float = 0.01
    covariance_floor: float = 0.001  # smallest singular value; 0 switches the floor off
    heatmap_exponent: float = 0.5  # the paper writes the gaussian without the half
    heatmap_scale: float = 100.0  # heatmaps are divided by this ...
    heatmap_sum: bool = False  # ... or, if set, by their own sum over the picture (bair)

    # Keypoint detector: level i of a U-Net has min(max, expansion * 2^i) channels.
    detector_expansion: int = 32
    detector_max: int = 1024
    detector_blocks: int = 5
    detector_detail: bool = (
        False  # ours: with motion_scale 1/f the detector sees f x f pixels as channels, not shrunk
    )

    # Dense motion network.
    use_flow: bool = True  # False: Table 2's "No F", the identity map
    use_coarse: bool = True  # False: "No F_coarse", the residual alone
    use_residual: bool = True  # False: "No F_residual", the masks alone
    use_image: bool = True  # False: "No x", heatmaps without the shifted stills
    use_displacement: bool = False  # moving-gif also feeds each keypoint's displacement
    motion_expansion: int = 32
    motion_max: int = 1024
    motion_blocks: int = 5
    motion_groups: int = 2  # 1x1 group convolutions ahead of the U-Net
    background_bias: float = 2.0  # initial logit of the background mask

    # Generator.
    generator_expansion: int = 32
    generator_max: int = 1024
    generator_blocks: int = 5
    refine_blocks: int = 4
    flow_resize: Literal["bilinear", "nearest"] = "bilinear"  # the release uses nearest except for vox
    generator_norm: Literal["batch", "affine"] = "batch"  # "affine" (ours): scale and shift alone
    composite: bool = False  # ours: blend warped still, unmoved still and painted pixels by predicted shares
    fine_flow: bool = (
        False  # ours: the generator's last maps correct the flow at full size, before the still is warped
    )
    flip_test: bool = False  # ours: a frame is the mean of those made of the picture and of its mirror image
    retouch: bool = False  # ours, with composite: they also correct the blend's colours

    # Discriminator.
    discriminator_expansion: int = 64
    discriminator_max: int = 256
    discriminator_blocks: int = 4

    # Losses.
    feature_weights: tuple[float, ...] = (10.0, 10.0, 10.0, 10.0, 1.0)  # maps 0..4 of the discriminator
    gan_weight: float = 1.0
    gan_from: int = 0  # step from which the discriminator takes part (0: from the start)
    warp_weight: float = 0.0  # L1 between the warped still and the target (bair: 10)
    block_heatmap_gradient: bool = False  # paper: True, no gradient through the heatmaps D is given
    mix_weight: float = 0.0  # ours: L1 between the shifted stills mixed by the masks and the (shrunk) target
    paint_weight: float = 0.0  # ours, with composite: L1 between what is painted and the target
    pyramid_weight: float = 0.0  # ours: L1 at full, half, quarter and eighth size
    motion_focus: float = 0.0  # ours: pixels that change count this many times more in the L1 losses above
    equivariance_weight: float = 0.0  # ours: keypoints of a transformed frame are the transformed keypoints
    guide_weight: float = 0.0  # ours: keypoints stay near the joints of clips that know them, while everything learns
    separation_weight: float = 0.0  # ours: keypoints keep apart (Zhang et al. 2018, "separation loss")

    # Schedule and data.
    guide_steps: int = 0  # ours: steps of a first stage in which made clips with known joints guide the detector
    hold_detector: int = 0  # ours: steps for which the detector is then held, until the motion network can use it
    freeze_statistics: bool = False  # ours: the detector's batch norm keeps its running statistics while it learns on
    batch: int = 32
    steps: int = 76_000
    learning_rate: float = 2e-4
    milestone: float = 2 / 3  # share of the steps after which the rate falls to a tenth
    schedule: Literal["milestone", "cosine"] = "milestone"
    warmup: int = 0  # steps over which the rate rises linearly
    clip_grad: float = 0.0  # ours: largest norm of the gradient of generator and detector; 0: no limit
    augmentation: str = "taichi"
    seed: int = 0

    # Image-to-video: a GRU continues the keypoints of one frame (numbers: release; the paper says "a small one").
    predict_steps: int = 0  # steps of the last stage, which trains it; 0: there is no predictor
    predict_hidden: int = 1024
    predict_layers: int = 1
    predict_covariance: bool = True  # False keeps the first frame's; the release's `predict_variance` is inverted
    predict_window: int = 32  # consecutive frames it learns from
    predict_batch: int = 256
    predict_learning_rate: float = 1e-3
    predict_patience: int = 50  # epochs without a lower loss, after which the rate falls to a tenth

    def __post_init__(self) -> None:
        check_signs(self, _ABOVE_ZERO, _NOT_NEGATIVE)
        if self.predict_window < 2:
            raise StillmotionError(f"predict_window must be at least 2 frames, not {self.predict_window}.")
        self._check_sizes()
        self._check_switches()

    def _check_sizes(self) -> None:
        for name in ("detector_blocks", "motion_blocks", "generator_blocks", "discriminator_blocks"):
            if getattr(self, name) > MOST_BLOCKS:  # and never raise 2 to what a stranger's file says
                raise StillmotionError(f"{name} must be at most {MOST_BLOCKS}, not {getattr(self, name)}.")
        working = self.size * self.motion_scale
        if working != int(working) or int(working) % 2 ** max(self.detector_blocks, self.motion_blocks):
            raise StillmotionError(
                f"size {self.size} at motion_scale {self.motion_scale} must be a whole number divisible by "
                f"{2 ** max(self.detector_blocks, self.motion_blocks)}: every block halves it."
            )
        if self.size % 2**self.generator_blocks:
            raise StillmotionError(f"size {self.size} must be divisible by {2**self.generator_blocks}.")

    def _check_switches(self) -> None:
        if not (self.use_coarse or self.use_residual) and self.use_flow:
            raise StillmotionError("use_coarse and use_residual cannot both be off; use_flow=false removes the flow.")
        if self.detector_detail and 1 / self.motion_scale % 1:
            raise StillmotionError(
                f"detector_detail needs a motion_scale of 1, 1/2, 1/3 ..., not {self.motion_scale}."
            )
        if self.retouch and not self.composite:
            raise StillmotionError("retouch corrects the blend: it needs composite=true.")
        if len(self.feature_weights) != self.discriminator_blocks + 1:
            raise StillmotionError(
                f"feature_weights needs {self.discriminator_blocks + 1} numbers, one per discriminator map."
            )

    @property
    def motion_size(self) -> tuple[int, int]:
        """(height, width) at which keypoints and flow are found."""
        side = int(self.size * self.motion_scale)
        return side, side


_release = DrivingConfig(flow_resize="nearest")
_narrow = replace(_release, detector_max=512, motion_max=512, generator_max=512)

PRESETS: dict[str, DrivingConfig] = {
    # Feature matching 10 on every map, no half in the exponent, no gradient through the driving heatmap.
    "paper": DrivingConfig(
        heatmap_exponent=1.0, feature_weights=(10.0,) * 5, block_heatmap_gradient=True, covariance_floor=0.0
    ),
    "release": _release,
    "release-taichi": _release,
    "release-nemo": replace(_narrow, steps=26_000, augmentation="nemo"),
    "release-bair": replace(_narrow, heatmap_sum=True, warp_weight=10.0, steps=19_000, augmentation="bair"),
    "release-actions": replace(_narrow, covariance_floor=0.0, steps=4_500, augmentation="actions"),
    "release-moving-gif": replace(
        _release,
        size=128,
        motion_scale=0.5,
        use_displacement=True,
        generator_blocks=6,
        steps=10_000,
        batch=64,
        augmentation="moving-gif",
    ),
    "release-vox": replace(
        _release,
        size=256,
        motion_scale=0.25,
        generator_blocks=7,
        flow_resize="bilinear",
        milestone=1.0,
        batch=20,
        augmentation="nemo",
    ),
    "release-shapes": replace(
        _release,
        keypoints=4,
        heatmap_scale=10.0,
        covariance_floor=0.0,
        detector_expansion=16,
        detector_max=128,
        motion_expansion=16,
        motion_max=128,
        motion_groups=0,
        generator_expansion=16,
        generator_max=128,
        batch=16,
        steps=3_200,
        milestone=0.5,
        augmentation="none",
    ),
    # What the zoo ships: narrowed until a laptop trains it in an hour. systems/driving/README.md says what it cost.
    "small": DrivingConfig(
        motion_scale=0.5,
        shrink="area",
        heatmap_scale=0.5,
        detector_expansion=20,
        detector_max=160,
        detector_blocks=4,
        detector_detail=True,
        motion_expansion=20,
        motion_max=160,
        motion_blocks=4,
        motion_groups=1,
        background_bias=1.0,
        generator_expansion=24,
        generator_max=128,
        generator_blocks=4,
        refine_blocks=1,
        generator_norm="affine",
        composite=True,
        fine_flow=True,
        retouch=True,
        discriminator_expansion=32,
        discriminator_max=128,
        gan_weight=0.0,
        feature_weights=(0.0,) * 5,
        warp_weight=2.0,
        mix_weight=5.0,
        paint_weight=5.0,
        pyramid_weight=10.0,
        motion_focus=3.0,
        equivariance_weight=1.0,
        guide_weight=0.5,
        separation_weight=0.5,
        guide_steps=5_000,
        hold_detector=16_000,
        batch=8,
        steps=16_000,
        learning_rate=1e-3,
        schedule="cosine",
        warmup=100,
        augmentation="varied",
        predict_hidden=256,
        predict_batch=64,
    ),
}
