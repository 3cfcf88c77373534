"""What the shipped models are made with: networks narrowed until a laptop trains them, and their stages."""

from __future__ import annotations

from dataclasses import replace

from stillmotion.keypoints.config import (
    DetectorConfig,
    GeneratorConfig,
    KeypointConfig,
    MotionConfig,
    NetworkConfig,
    PairLossConfig,
    PairStage,
)
from stillmotion.training.schedules import Schedule

SMALL = NetworkConfig(
    keypoints=KeypointConfig(heatmap_scale=0.5),
    detector=DetectorConfig(width=20, max_width=160, blocks=4, pixel_unshuffle=True),
    motion=MotionConfig(
        scale=0.5, shrink="area", width=20, max_width=160, blocks=4, group_convs=1, background_bias=1.0
    ),
    generator=GeneratorConfig(width=24, max_width=128, blocks=4, refine_blocks=1, norm="affine", fields=True),
)
"""Narrowed until a laptop trains it; the README of `driving` says what that costs."""

FROZEN_LOSSES = PairLossConfig(
    warp=2.0,
    mask_mixture=5.0,
    paint=5.0,
    pyramid=10.0,
    motion_weighting=3.0,
    equivariance=1.0,
    keypoint_supervision=0.5,
    separation=0.5,
)
JOINT_LOSSES = replace(FROZEN_LOSSES, mask_mixture=3.0, motion_weighting=1.0, separation=0.2)
TRUTH_LOSSES = replace(JOINT_LOSSES, mask_mixture=0.0, displacement=15.0, visibility=1.0, figure=1.0)

FROZEN = PairStage(
    name="frozen_detector",
    steps=8_000,
    batch=8,
    learning_rate=1e-3,
    schedule=Schedule(kind="constant", warmup=100),
    augmentation="varied",
    freeze_detector=True,
    losses=FROZEN_LOSSES,
)
"""First the masks, the flow and the generator, with the detector as the joints have taught it."""


def joint(name: str, steps: int, learning_rate: float, augmentation: str = "varied", **changes: object) -> PairStage:
    """Everything trains, with a cosine schedule."""
    stage = PairStage(
        name=name,
        steps=steps,
        batch=8,
        learning_rate=learning_rate,
        schedule=Schedule(kind="cosine", floor=0.02, warmup=200),
        augmentation=augmentation,
        freeze_detector_bn=True,
        losses=JOINT_LOSSES,
    )
    return replace(stage, **changes)  # type: ignore[arg-type]


def truth(steps: int, **changes: object) -> PairStage:
    """The fields learn from the exact motion of made clips, beside the photometric losses; the rate falls to zero."""
    schedule = Schedule(kind="linear", warmup=200)
    stage = joint("truth", steps, 6e-4, "strong", schedule=schedule, losses=TRUTH_LOSSES, clip_grad=1.5)
    return replace(stage, **changes)  # type: ignore[arg-type]


SMALL_STAGES = (FROZEN, joint("joint", 5_000, 6e-4), joint("joint2", 4_500, 7e-4), truth(18_000))
"""Of made people that know their joints and their motion."""
