"""Small driving systems, made clips and training steps for the tests.

Settings are changed by dotted name: `tiny(**at("motion", flow="none"))`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stillmotion import geometry
from stillmotion.data.clip import Clip
from stillmotion.files import change_settings
from stillmotion.keypoints.config import DetectorConfig, GeneratorConfig, KeypointConfig, MotionConfig
from stillmotion.keypoints.networks import FieldGenerator, GeneratorOutput, Keypoints, Motion
from stillmotion.rendering.canvas import Canvas
from stillmotion.rendering.fields import STATIC, Fields, blend, restrict
from stillmotion.systems.driving.animating import Driving
from stillmotion.systems.driving.config import DiscriminatorConfig, DrivingConfig, MotionStage
from stillmotion.systems.driving.networks import DrivingNetworks
from stillmotion.systems.driving.training import MotionTraining

STAGE = "motion_stages.motion"
LOSSES = f"{STAGE}.losses"


def at(place: str, **changes: Any) -> dict[str, Any]:
    """Changes of the settings below a dotted name."""
    return {f"{place}.{name}": value for name, value in changes.items()}


NOT_ADVERSARIAL = at(LOSSES, gan=0.0, feature_matching=(0.0,) * 5)

TINY = DrivingConfig(
    size=64,
    keypoints=KeypointConfig(count=3),
    detector=DetectorConfig(width=4, max_width=8, blocks=3),
    motion=MotionConfig(width=4, max_width=8, blocks=3),
    generator=GeneratorConfig(width=4, max_width=8, blocks=3, refine_blocks=1),
    discriminator=DiscriminatorConfig(width=4, max_width=8),
    motion_stages=(MotionStage(steps=10, batch=2, augmentation="none"),),
)

TINY_32 = change_settings(
    TINY,
    {
        "size": 32,
        **at("motion", blocks=2, group_convs=1),
        **at("generator", blocks=2, fields=True),
        "discriminator.blocks": 2,
        f"{LOSSES}.feature_matching": (1.0, 1.0, 1.0),
    },
    "tests",
)
"""Half as large, and with the fields of the preset `small`: for tests that animate and measure."""

VARIANTS: dict[str, dict[str, Any]] = {
    "no F": {"motion.flow": "none"},
    "no F_coarse": {"motion.flow": "residual"},
    "no F_residual": {"motion.flow": "coarse"},
    "no Sigma_k": {"keypoints.covariance": "fixed"},
    "no x": {"motion.image": False},
    "full": {},
}
"""The rows of the paper's Table 2."""


def changed_config(base: DrivingConfig = TINY, **changes: Any) -> DrivingConfig:
    return change_settings(base, changes, "tests")


def tiny(**changes: Any) -> tuple[DrivingConfig, DrivingNetworks]:
    """Networks as a training starts with them."""
    torch.manual_seed(0)
    config = changed_config(**changes)
    return config, DrivingNetworks(config)


def tiny_driving(seed: int = 0, card: dict[str, Any] | None = None, **changes: Any) -> Driving:
    """A tiny system whose weights, norms included, are all different from what `build` starts with."""
    torch.manual_seed(seed)
    system = Driving.build(changed_config(TINY_32, **changes), card)
    with torch.no_grad():
        for name, value in system.networks.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif value.is_floating_point():
                value.add_(0.05 * torch.randn(value.shape))
    return system


def system(**changes: Any) -> Driving:
    """A tiny system with trained-looking statistics and a flow that is not zero, so that frames differ."""
    config, networks = tiny(**changes)
    with torch.no_grad():
        networks.train()
        for _ in range(3):
            found = networks.detector(torch.rand(4, 3, 64, 64))
            networks.generator(networks.generator.encode(torch.rand(4, 3, 64, 64)), found, found)
        if networks.generator.dense_motion is not None:
            networks.generator.dense_motion.head.weight.normal_(0, 0.05)
    return Driving(config, networks)


class BrightSpot(nn.Module):
    """Finds the bright thing in a dark picture: three keypoints at its centre, its width and its height away."""

    def forward(self, frames: Tensor) -> Keypoints:
        heat = (frames.mean(1, keepdim=True) - 0.3).clamp_min(0) + 1e-9
        mean, covariance = geometry.soft_argmax(heat / heat.sum((2, 3), keepdim=True))
        spread = covariance[:, 0].diagonal(dim1=1, dim2=2).sqrt()
        centre = mean[:, 0]
        points = torch.stack(
            [centre, centre + spread * torch.tensor([2, 0]), centre - spread * torch.tensor([0, 2])], 1
        )
        return Keypoints(points, (0.01 * torch.eye(2)).expand(len(points), 3, 2, 2))


def seeing(**changes: Any) -> Driving:
    """`system` with keypoints that follow the bright thing."""
    driving = system(**changes)
    driving.networks.detector = BrightSpot()
    return driving


class HandmadeFields(FieldGenerator):
    """A figure in rows and columns 16 to 31 of 64, which is not at its place in any frame: the plate shows there.

    With `widens` it is wider than the mask head says, and frame by frame more of it leaves: as many columns as the
    first keypoint has gone to the right, eight at a time.
    """

    figure_at = (slice(16, 32), slice(16, 32))
    widens = False

    def figure(self, features: Sequence[Tensor]) -> Tensor:
        logits = torch.full_like(features[0][:, :1], -12.0)
        logits[(..., *self.figure_at)] = 12.0
        return logits

    def forward(
        self, features: Sequence[Tensor], source: Keypoints, target: Keypoints, plate: Tensor | None = None
    ) -> GeneratorOutput:
        still, count = features[0], len(target.mean)
        shares = torch.zeros(count, 4, 64, 64)
        shares[:, STATIC] = 1
        shares[:, :, 16:32, 16:32] = torch.tensor([0.0, 0.0, 1.0, 0.0]).view(4, 1, 1)
        for t, steps in enumerate((target.mean - source.mean)[:, 0, 0] * 31.5 if self.widens else ()):
            shares[t, :, 16:32, 32 : 32 + 4 * round(float(steps))] = torch.tensor([0.0, 0.0, 1.0, 0.0]).view(4, 1, 1)
        fields = Fields(torch.zeros(count, 64, 64, 2), shares, torch.zeros(count, 3, 64, 64))
        fields = restrict(fields, plate)
        frame = blend(fields, still.expand(count, -1, -1, -1), still, plate)
        return GeneratorOutput(frame, Motion(fields.displacement, None), still.expand(count, -1, -1, -1), fields)


def handmade(widens: bool = False) -> Driving:
    """A system whose generator is `HandmadeFields`."""
    driving = seeing(**at("generator", fields=True))
    driving.networks.generator = HandmadeFields(driving.config).eval()
    driving.networks.generator.widens = widens
    return driving


# --- pictures ------------------------------------------------------------------------------------------------------
def moving_square(name: str, frames: int = 8, size: int = 64, seed: int = 0) -> Clip:
    """A bright square that walks over a dark ground."""
    rng = np.random.default_rng(seed)
    start, step = rng.integers(4, 30, 2), rng.integers(-3, 4, 2)
    video = np.full((frames, size, size, 3), 30, np.uint8)
    colour = rng.integers(120, 255, 3)
    for t in range(frames):
        x, y = np.clip(start + t * step, 0, size - 16)
        video[t, y : y + 16, x : x + 16] = colour
    return Clip(name, video, fps=25.0)


def still_picture(size: tuple[int, int] = (32, 32)) -> np.ndarray:
    """A soft ramp with a bright square left of the middle; H x W x 3 `uint8`."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width]
    picture = np.stack([x * 150 / width, y * 150 / height, 60 + 0 * x], -1)
    picture[height // 3 : height // 2, width // 4 : width // 2] = (250, 240, 40)
    return picture.astype(np.uint8)


def driving_frames(count: int, size: tuple[int, int] = (32, 32)) -> np.ndarray:
    """The same picture, its content rolling to the right by one pixel per frame; T x H x W x 3 `uint8`."""
    picture = still_picture(size)
    return np.stack([np.roll(picture, t, axis=1) for t in range(count)])


def spot(size: tuple[int, int], x: int, y: int, side: int) -> np.ndarray:
    """A bright square with its corner at x, y in a dark picture, `size` being (height, width)."""
    picture = np.full((*size, 3), 20, np.uint8)
    picture[y : y + side, x : x + side] = 250
    return picture


VIDEO = moving_square("drive", frames=5).frames
STILL = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
DRIVER = np.stack([spot((64, 64), 20, 16, 24), spot((64, 64), 24, 16, 24)])
"""Two frames: the square goes four pixels to the right."""


# --- what networks make --------------------------------------------------------------------------------------------
def keypoints(points: Sequence[Sequence[float]], variance: float = 0.01) -> Keypoints:
    """One frame's keypoints at normalised (x, y), all with the same round covariance."""
    mean = torch.tensor([points])
    return Keypoints(mean, (variance * torch.eye(2)).expand(1, len(points), 2, 2))


def prepare(driving: Driving, picture: np.ndarray) -> Canvas:
    """A still made ready for a system."""
    return Canvas.prepare(picture, driving.config.size, None, torch.device("cpu"))


def own_keypoints(driving: Driving, picture: np.ndarray) -> Keypoints:
    """The keypoints of a picture, 1 x K."""
    with torch.no_grad():
        found: Keypoints = driving.networks.detector(prepare(driving, picture).small)
    return found


def own_means(driving: Driving, picture: np.ndarray) -> np.ndarray:
    """Their means, K x 2, normalised."""
    means: np.ndarray = own_keypoints(driving, picture).mean[0].numpy()
    return means


def output(
    frame: Tensor,
    displacement: Tensor,
    masks: Tensor | None = None,
    shares: Tensor | Sequence[float] | None = None,
    paint: Tensor | float = 0.0,
) -> GeneratorOutput:
    """Generator output by hand.

    Args:
        frame: N x 3 x S x S; the warped still too.
        displacement: N x s x s x 2.
        masks: N x (K+1) x s x s.
        shares: of moved still, unmoved still, plate and paint, four numbers or N x 4 x S x S. None: no fields.
        paint: N x 3 x S x S, or one number.
    """
    motion = Motion(displacement, masks)
    if shares is None:
        return GeneratorOutput(frame, motion, frame)
    count, _, height, width = frame.shape
    if not isinstance(shares, Tensor):
        shares = torch.tensor(shares).view(1, 4, 1, 1).expand(count, 4, height, width)
    paint = paint if isinstance(paint, Tensor) else torch.full_like(frame, paint)
    large = geometry.resize_grid(displacement, (height, width))
    return GeneratorOutput(frame, motion, frame, Fields(large, shares, paint))


# --- training ------------------------------------------------------------------------------------------------------
def training_of(clips: Sequence[Any] | None = None, seed: int = 0, **changes: Any) -> MotionTraining:
    """The motion stage of tiny networks, on four moving squares unless other clips are given."""
    config, networks = tiny(**changes)
    clips = clips or [moving_square(f"clip-{i}", seed=i) for i in range(4)]
    return MotionTraining(networks, config, config.motion_stages[0], clips, clips, seed)


def batch_of(stage: Any, indices: Sequence[int] | None = None) -> dict[str, Tensor]:
    """Samples of a stage's data, by default its first batch."""
    samples = [stage.dataset[i] for i in indices or range(stage.batch)]
    return {key: torch.stack([sample[key] for sample in samples]) for key in samples[0] if key != "name"}


def stepper(stage: Any) -> Callable[..., None]:
    """What the loop passes as `update`: one optimiser step on a loss."""

    def update(names: str | tuple[str, ...], loss: Tensor, clip_grad: float | None = None) -> None:
        for network in stage.networks.values():
            network.zero_grad()
        loss.backward()
        for name in [names] if isinstance(names, str) else names:
            stage.optimizers[name].step()

    return update


def weights(module: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def changed(before: list[Tensor], module: nn.Module) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


def same_pose(count: int, points: int = 3) -> Keypoints:
    """Some keypoints in each of `count` frames, of the same narrow shape."""
    return Keypoints(torch.rand(count, points, 2) - 0.5, (0.01 * torch.eye(2)).expand(count, points, 2, 2))
