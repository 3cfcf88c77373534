"""The numbers of the networks that move a figure by its keypoints, and of the stages that train them.

"Paper" and "release" are those of Monkey-Net (Siarohin et al., CVPR 2019), which detector and dense motion are from.
"Ours" marks what it has not.
"""

from __future__ import annotations

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
Blocks = Annotated[int, Field(ge=1, le=12)]  # each halves the picture; 12 is more than any picture has room for
GroupConvs = Annotated[int, Field(ge=0, le=12)]
Flow = Literal["full", "coarse", "residual", "none"]


@dataclass(frozen=True, config=STRICT)
class KeypointConfig:
    """Keypoints and their gaussian heatmaps (Sec. 3.2)."""

    count: Count = 10
    temperature: Positive = 0.1  # of the spatial softmax (release; the paper's is plain)
    covariance: Literal["full", "fixed"] = "full"  # "fixed": Table 2's "No Sigma_k"
    fixed_variance: Positive = 0.01
    covariance_floor: Weight = 0.001  # smallest singular value; 0 switches the floor off
    heatmap_exponent: Positive = 0.5  # the paper writes the gaussian without the half
    heatmap_scale: Positive = 100.0  # alpha: heatmaps are divided by this ...
    heatmap_sum: bool = False  # ... or, if set, by their own sum over the picture (bair)


@dataclass(frozen=True, config=STRICT)
class DetectorConfig:
    """Keypoint detector: level i of a U-Net has min(max_width, width * 2^i) channels."""

    width: Count = 32
    max_width: Count = 1024
    blocks: Blocks = 5
    pixel_unshuffle: bool = False  # ours: at motion.scale 1/f, f x f pixels as channels instead of their mean


@dataclass(frozen=True, config=STRICT)
class MotionConfig:
    """Dense motion network M (Sec. 3.4)."""

    scale: Annotated[float, Field(gt=0, le=1)] = 1.0  # the detector and M see the picture at this scale
    shrink: Literal["nearest", "area"] = "nearest"  # how it is made smaller for them (release: nearest)
    flow: Flow = "full"  # F_coarse + F_residual, or Table 2's "No F_residual", "No F_coarse", "No F" (the identity)
    image: bool = True  # False: Table 2's "No x", heatmaps without the shifted stills
    displacement: bool = False  # moving-gif also gives M each keypoint's displacement
    width: Count = 32
    max_width: Count = 1024
    blocks: Blocks = 5
    group_convs: GroupConvs = 2  # 1x1 group convolutions ahead of the U-Net
    background_bias: float = 2.0  # initial logit of the background mask

    @property
    def coarse(self) -> bool:
        """Whether masks mix the keypoints' shifts."""
        return self.flow in ("full", "coarse")

    @property
    def residual(self) -> bool:
        """Whether a residual is predicted."""
        return self.flow in ("full", "residual")


@dataclass(frozen=True, config=STRICT)
class GeneratorConfig:
    """Generator G (Sec. 3.3)."""

    width: Count = 32
    max_width: Count = 1024
    blocks: Blocks = 5
    refine_blocks: GroupConvs = 4
    # Paper and release: nearest; the release's vox: unaligned, bilinear without aligned corners.
    flow_resize: Literal["bilinear", "nearest", "unaligned"] = "bilinear"
    norm: Literal["batch", "affine"] = "batch"  # "affine" (ours): scale and shift alone
    fields: bool = False  # ours: frames are blended of the moved still, the still, its background and paint


@dataclass(frozen=True, config=STRICT)
class NetworkConfig:
    """Detector, dense motion and generator."""

    size: Count = 64  # height and width the networks work at
    keypoints: KeypointConfig = KeypointConfig()
    detector: DetectorConfig = DetectorConfig()
    motion: MotionConfig = MotionConfig()
    generator: GeneratorConfig = GeneratorConfig()

    def __post_init__(self) -> None:
        working, least = self.size * self.motion.scale, 2 ** max(self.detector.blocks, self.motion.blocks)
        if working != int(working) or int(working) % least:
            raise StillmotionError(
                f"size {self.size} at motion.scale {self.motion.scale} must be a whole number divisible by {least}: "
                "every block halves it."
            )
        if self.size % 2**self.generator.blocks:
            raise StillmotionError(f"size {self.size} must be divisible by {2**self.generator.blocks}.")
        if self.detector.pixel_unshuffle and 1 / self.motion.scale % 1:
            raise StillmotionError(
                f"detector.pixel_unshuffle needs a motion.scale of 1, 1/2, 1/3 ..., not {self.motion.scale}."
            )

    @property
    def motion_size(self) -> tuple[int, int]:
        """(height, width) at which keypoints and flow are found."""
        side = int(self.size * self.motion.scale)
        return side, side


@dataclass(frozen=True, config=STRICT)
class PairLossConfig:
    """Ours: weights of the losses of pairs of frames."""

    warp: Weight = 0.0  # L1 between the warped still and the target (Monkey-Net's bair: 10)
    mask_mixture: Weight = 0.0  # L1 between the shifted stills mixed by the masks and the (shrunk) target
    paint: Weight = 0.0  # with fields: L1 between the painted colours and the target
    pyramid: Weight = 0.0  # L1 at full, half, quarter and eighth size
    motion_weighting: Weight = 0.0  # pixels that change count this many times more in the L1 losses above
    paint_weighting: Weight = 0.0  # and those known to need paint, again so many times more: mouths are small
    equivariance: Weight = 0.0  # keypoints of a transformed frame are the transformed keypoints
    keypoint_supervision: Weight = 0.0  # keypoints stay near the joints of clips that know them
    displacement: Weight = 0.0  # end-point error of the flow in clips that know it, normalised units
    visibility: Weight = 0.0  # cross-entropy of the shares in clips that know what is hidden
    figure: Weight = 0.0  # cross-entropy of the still's figure in clips that know it
    separation: Weight = 0.0  # keypoints keep apart (Zhang et al. 2018, "separation loss")

    @property
    def truth(self) -> bool:
        """Whether clips that know their motion supervise the fields."""
        return max(self.displacement, self.visibility, self.figure) > 0


@dataclass(frozen=True, config=STRICT)
class PairStage:
    """One stage of training on pairs of frames."""

    name: str = "motion"
    steps: Steps = 76_000
    batch: Count = 32
    learning_rate: Positive = 2e-4
    muon: Weight = 0.0  # ours: learning rate of Muon, which takes the convolutions; 0: Adam has everything
    schedule: Schedule = Schedule(kind="milestone", milestones=(2 / 3,))
    # Ours: share of the stage, from its start, in which the pictures have half the size.
    small_first: Annotated[float, Field(ge=0, le=1)] = 0.0
    clip_grad: Weight = 0.0  # ours: largest norm of the gradient of generator and detector; 0: no limit
    augmentation: str = "taichi"
    freeze_detector: bool = False  # ours: the detector stays as it is
    freeze_detector_bn: bool = False  # ours: its batch norm keeps its running statistics while it trains
    losses: PairLossConfig = PairLossConfig()


@dataclass(frozen=True, config=STRICT)
class SupervisionStage:
    """Ours, before the motion stages: the detector learns the joints of clips that know them."""

    steps: Steps = 0
    batch: Count = 16
    learning_rate: Positive = 1e-3
    schedule: Schedule = Schedule(kind="linear", floor=0.02)
    augmentation: str = "varied"
