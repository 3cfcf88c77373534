"""Clips of a moving square and of faces, and networks, for the tests of what `structures` learns from and how."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.data import default_collate

from stillmotion.data.clip import Clip
from stillmotion.data.pose import JOINTS
from stillmotion.systems.structures.config import StructuresConfig
from stillmotion.systems.structures.fields import FieldForecast
from stillmotion.systems.structures.forecasting import ForecastNetwork, PosePredictor
from stillmotion.systems.structures.refinement import RefinementNetwork
from stillmotion.systems.structures.training import stages
from stillmotion.training.update import Updater
from stillmotion.worlds import faces
from structures_tools import TINY, changed

PLACES = np.array([(3 * (j % 4) - 4, 3 * (j // 4) - 4) for j in range(13)]) / 2
"""Of the joints, around the middle of the square."""

LEARNING = changed(
    TINY,
    features__weight=0.0,
    forecast_training__steps=3,
    forecast_training__batch=2,
    refinement_training__steps=3,
    refinement_training__batch=2,
    pose__observed=3,
    pose__predicted=4,
    pose__embedding=4,
    pose__width=8,
    pose_prediction__steps=3,
    pose_prediction__batch=2,
)


def square_clip(
    name: str = "square",
    frames: int = 12,
    by: tuple[int, int] = (1, 0),
    corner: tuple[int, int] = (1, 5),
    size: int = 16,
) -> Clip:
    """A white square of five pixels that moves `by` a step and turns around at the border, on dark noise."""
    video = np.random.default_rng(0).integers(20, 60, (1, size, size, 3), np.uint8).repeat(frames, 0)
    joints = np.ones((frames, 13, 3), np.float32)
    room = size - 5
    for t in range(frames):
        x, y = (room - abs((c + t * d) % (2 * room) - room) for c, d in zip(corner, by, strict=True))
        video[t, y : y + 5, x : x + 5] = 230
        joints[t, :, :2] = PLACES + np.array([x + 2, y + 2])
    return Clip(name, video, 25.0, {"joints": joints}, {"joints": list(JOINTS)})


def counting(frames: int = 40, name: str = "counting", size: int = 16, **meta: Any) -> Clip:
    """Frame t has the grey value t, and all its joints are at (t, 0)."""
    video = np.broadcast_to(np.arange(frames, dtype=np.uint8)[:, None, None, None], (frames, size, size, 3))
    joints = np.zeros((frames, 13, 3), np.float32)
    joints[..., 0], joints[..., 2] = np.arange(frames)[:, None], 1
    return Clip(name, video, 25.0, {"joints": joints}, {"joints": list(JOINTS), **meta})


def face_clip(seed: int = 0, frames: int = 4, size: int = 32) -> Clip:
    return faces.sample(np.random.default_rng(seed), size=size, frames=frames, action="surprise")


def system_of(config: StructuresConfig, seed: int = 0) -> Any:
    """What `stages` needs of a system."""
    torch.manual_seed(seed)
    networks = nn.Module()
    networks.forecast = FieldForecast(config) if config.forecast.fields else ForecastNetwork(config)
    networks.refinement = RefinementNetwork(config)
    networks.predictor = PosePredictor(config.pose)
    return SimpleNamespace(config=config, networks=networks.eval())


def stage_of(name: str, config: StructuresConfig = LEARNING, clips: Any = None, seed: int = 0) -> Any:
    """A stage over fresh networks, in training mode as the loop has them."""
    (stage,) = stages(system_of(config, seed), clips or [square_clip()], only=[name], seed=seed)
    for network in stage.networks.values():
        network.train()
    return stage


def batch_of(stage: Any, step: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = default_collate([stage.dataset[step * stage.batch + i] for i in range(stage.batch)])
    return found


class Update(Updater):
    """The loop's own, which notes what it was called with and what each call changed."""

    def __init__(self, stage: Any):
        super().__init__(stage, Accelerator(cpu=True))
        self.calls: list[tuple[str, float]] = []
        self.changes: list[set[str]] = []

    def __call__(self, names: Any, loss: Tensor, **options: Any) -> None:
        before = {name: copied(network) for name, network in self.stage.networks.items()}
        super().__call__(names, loss, **options)
        self.calls.append((names, loss.item()))
        self.changes.append({name for name, own in before.items() if differs(self.stage.networks[name], own)})


def copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def differs(network: nn.Module, before: dict[str, Tensor]) -> bool:
    return any(not torch.equal(value, before[name]) for name, value in network.state_dict().items())
