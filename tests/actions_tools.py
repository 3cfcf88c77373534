"""Small networks of `actions`, and clips of a square that goes left or right."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from driving_tools import TINY_32
from stillmotion.data.clip import Clip
from stillmotion.files import change_settings
from stillmotion.keypoints.config import NetworkConfig, PairStage, SupervisionStage
from stillmotion.systems.actions.animating import Actions
from stillmotion.systems.actions.config import PRESETS, ActionsConfig, SequenceConfig, StageConfig, TrackConfig
from stillmotion.systems.actions.networks import ActionsNetworks
from stillmotion.training.update import Updater


def changed(config: ActionsConfig, **changes: Any) -> ActionsConfig:
    """The configuration with some fields changed; `motion__mode` is `motion.mode`."""
    return change_settings(config, {name.replace("__", "."): value for name, value in changes.items()}, "test")


TINY = changed(
    PRESETS["release"],
    size=16,
    norm_momentum=1.0,
    actions=("left", "right", "jump"),
    keypoints__count=3,
    encoder__width=4,
    translator__width=4,
    discriminator__width=2,
    motion__frames=5,
    motion__latent=6,
    motion__hidden=8,
    motion__input_width=4,
)

TINY_FIELDS = replace(
    TINY,
    size=32,
    actions=("left", "right"),
    fields=NetworkConfig(
        size=32,
        keypoints=TINY_32.keypoints,
        detector=TINY_32.detector,
        motion=TINY_32.motion,
        generator=TINY_32.generator,
    ),
    tracks=TrackConfig(width=16, blocks=1, heads=2, known=3, steps=2),
    sequences=SequenceConfig(step=1, rotation=0, scale=(0.8, 1.15), speed=(0.85, 1.2), balance=True),
    keypoint_supervision=SupervisionStage(),
    pair_stages=(PairStage(name="joint", steps=2, batch=2, augmentation="none"),),
    motion_training=StageConfig(steps=4, batch=4, learning_rate=1e-3),
)
"""As the preset `small`."""

TINY_FIELDS_VAE = replace(TINY_FIELDS, tracks=None)
"""As the preset `small-vae`."""


def networks_of(config: ActionsConfig = TINY, seed: int = 0, **changes: Any) -> ActionsNetworks:
    """Networks whose norms know their statistics, so that everything counts in eval mode too."""
    torch.manual_seed(seed)
    network = ActionsNetworks(changed(config, **changes))
    side, count = network.config.size, network.config.keypoints.count
    with torch.no_grad():
        network(network.encode(uniform(8, 3, side, side)), uniform(8, count, 2, seed=1))
    return network


def uniform(*shape: int, seed: int = 0) -> Tensor:
    """Numbers in [-1, 1]."""
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def trainable(network: nn.Module) -> int:
    return sum(value.numel() for value in network.parameters() if value.requires_grad)


def actions_of(config: ActionsConfig = TINY_FIELDS, seed: int = 0, **changes: Any) -> Actions:
    """A system whose weights, norms included, are all different from what `build` starts with."""
    torch.manual_seed(seed)
    system = Actions.build(changed(config, **changes))
    with torch.no_grad():
        for name, value in system.networks.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif value.is_floating_point():
                value.add_(0.05 * torch.randn(value.shape))
    return system


def action_clips(count: int = 4, frames: int = 12, size: int = 32, side: int = 8) -> list[Clip]:
    """A bright square on a dark ground that goes left or right, a pixel a frame, by turns."""
    clips = []
    for i in range(count):
        action, video = ("left", "right")[i % 2], np.full((frames, size, size, 3), 40, np.uint8)
        for t in range(frames):
            way = min(t, size - side)
            x, y = (size - side - way if action == "left" else way), (5 * i) % (size - side)
            video[t, y : y + side, x : x + side] = (250, 200, 60)
        clips.append(Clip(f"c{i}", video, 12.0, meta={"action": action}))
    return clips


class Update(Updater):
    """The loop's own, which notes what it was called with."""

    def __init__(self, stage: Any):
        super().__init__(stage, Accelerator(cpu=True))
        self.names: list[Any] = []

    def __call__(self, names: Any, loss: Tensor, **options: Any) -> None:
        self.names.append(names)
        super().__call__(names, loss, **options)


def batch_of(stage: Any, first: int = 0) -> dict[str, Any]:
    """Some samples of a stage's data, stacked as the loop stacks them."""
    samples = [stage.dataset[first + i] for i in range(stage.batch)]
    stacked = {key: torch.utils.data.default_collate([one[key] for one in samples]) for key in samples[0]}
    return {key: value for key, value in stacked.items() if isinstance(value, Tensor)}


def train(stage: Any, steps: int = 1, update: Update | None = None) -> list[dict[str, float]]:
    """The numbers of some steps."""
    found, update = [], update or Update(stage)
    for network in stage.networks.values():
        network.train()
    for step in range(steps):
        told = stage.step(batch_of(stage, step * stage.batch), update)
        found.append({name: float(value) for name, value in told.items()})
        for scheduler in stage.schedulers.values():
            scheduler.step()
    return found


def copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def changed_parts(network: nn.Module, before: dict[str, Tensor]) -> set[str]:
    """First words of the names of the weights and buffers that differ from an earlier state."""
    state = network.state_dict()
    return {name.partition(".")[0] for name, value in state.items() if not torch.equal(value, before[name])}


def picture(size: tuple[int, int] = (40, 48), seed: int = 0) -> np.ndarray:
    """Noise in squares of four pixels; H x W x 3 `uint8`."""
    height, width = size
    rough = np.random.default_rng(seed).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return np.repeat(np.repeat(rough, 4, 0), 4, 1)[:height, :width]


def square_places(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Columns and rows of the middle of what is brighter than the ground of `action_clips`; T x 2."""
    found = []
    for frame in frames:
        bright = np.clip(frame[..., 0].astype(float) - 80, 0, None)
        y, x = np.mgrid[: frame.shape[0], : frame.shape[1]]
        found.append([(bright * x).sum() / bright.sum(), (bright * y).sum() / bright.sum()])
    return np.array(found)
