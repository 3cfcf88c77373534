"""A toy system that tests evaluate and time: every frame is the still, made brighter by what is pushed."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import numpy as np
import torch

from stillmotion.data.clip import Clip
from stillmotion.options import Control, option
from stillmotion.systems.base import Output, Rollout, Step, System


@dataclass(frozen=True)
class Push(Control):
    """Make every frame brighter."""

    given_by: ClassVar[str] = "--push"
    levels: int = option("--push", metavar="LEVELS", parse=int, at_least=0, help="grey levels per frame")


@dataclass(frozen=True)
class ToyConfig:
    size: int = 32
    copies_still: bool = False


class Toy(System):
    """Frame t is the still with `levels` (t + 1) more; with t instead of t + 1 if frame 0 is to be the still."""

    name, controls, config_class, protocol = "toy", (Push,), ToyConfig, "reconstruction"
    presets: ClassVar = {"small": ToyConfig()}

    @classmethod
    def build(cls, config: ToyConfig, card: Any = None) -> Self:
        return cls(config, torch.nn.Linear(1, 1), card)

    @property
    def main_stage(self) -> str:
        return "fit"

    def control_of(self, clip: Clip) -> Control:
        return Push(int(clip.frames[-1, 0, 0, 0]) % 7 + 1)

    def rollout(self, still: np.ndarray, control: Control | None, output: Output) -> Rollout:
        return ToyRollout(self, still, control, output)

    def stages(
        self, clips: Sequence[Any], preview_clips: Sequence[Any] = (), only: Sequence[str] = (), seed: int = 0
    ) -> Sequence[Any]:
        optimizer = torch.optim.SGD(self.networks.parameters(), 0.1)

        def step(batch: torch.Tensor, update: Any) -> None:
            update("net", self.networks(batch).square().mean())

        dataset = torch.ones(len(clips[0]), 1)
        networks, optimizers = {"net": self.networks}, {"net": optimizer}
        fit = SimpleNamespace(
            name="fit", batch=2, networks=networks, optimizers=optimizers, dataset=dataset, step=step
        )
        return [each for each in (SimpleNamespace(name="other"), fit) if each.name in only]


class ToyRollout(Rollout):
    """The seed is added once to the red channel."""

    fps = 10.0

    def __init__(self, system: Toy, still: np.ndarray, control: Control | None, output: Output):
        assert isinstance(control, Push)
        self.frame = still + np.array([output.seed or 0, 0, 0], np.uint8)
        self.control, self.left, self.copies = control, output.frames or 5, system.config.copies_still

    def __next__(self) -> Step:
        now, self.frame = self.frame, self.frame + np.uint8(self.control.levels)
        self.left -= 1
        return Step(now if self.copies else self.frame)

    def send(self, control: Control) -> None:
        raise NotImplementedError

    @property
    def done(self) -> bool:
        return self.left <= 0

    def close(self) -> None:
        pass
