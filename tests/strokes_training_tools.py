"""Small trainings of strokes for the tests: clips, stages, updates, and time steps made by hand."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stillmotion.data.clip import Clip
from stillmotion.data.sampling import loader
from stillmotion.systems.strokes.config import StrokesConfig
from stillmotion.systems.strokes.losses import StepTargets
from stillmotion.systems.strokes.networks import StepOutputs, StrokesNetworks
from stillmotion.systems.strokes.object_frame import GeneratorOutput, ObjectFrame
from stillmotion.systems.strokes.training import STAGES
from strokes_tools import TINY_STROKES, changed

ADVERSARIAL = changed(
    TINY_STROKES, losses__gan=1.0, losses__pair_gan=1.0, discriminators__crop_branch=True, discriminators__width=4
)
"""With both discriminators, as the release has them."""


def square_clip(
    name: str = "c",
    frames: int = 8,
    size: int = 32,
    seed: int = 0,
    by: tuple[int, int] = (2, 1),
    known: bool = False,
) -> Clip:
    """A bright square of 5 pixels that moves by `by` pixels per frame; its centre is the point.

    With `known` the clip knows its motion.
    """
    corner = np.random.default_rng(seed).integers(2, 9, 2)
    video, points = np.full((frames, size, size, 3), 30, np.uint8), np.zeros((frames, 2), np.float32)
    moves = np.tile(np.eye(2, 3, dtype=np.float32), (frames, 2, 1, 1))
    for t in range(frames):
        x, y = corner + np.array(by) * t
        video[t, y : y + 5, x : x + 5] = (240, 200, 60)
        points[t] = (x + 2, y + 2)
        moves[t, 1, :, 2] = x, y
    parts = (video[..., 0] > 100).astype(np.uint8)
    return Clip(name, video, 10.0, {"points": points} | ({"parts": parts, "moves": moves} if known else {}))


def blinking_clip(name: str = "a", colour: tuple[int, int, int] = (240, 40, 40), mask: bool = False) -> Clip:
    """A square that moves to the right and blinks: its other look is not in the still. 16 x 16 pixels."""
    frames = np.full((8, 16, 16, 3), 90, np.uint8)
    for t, frame in enumerate(frames):
        frame[6:10, 3 + t : 7 + t] = colour if t % 2 == 0 else (20, 20, 200)
    tracks = {"points": np.stack([4.5 + np.arange(8), np.full(8, 7.5)], -1)}
    return Clip(name, frames, 25.0, tracks | ({"mask": (frames != 90).any(-1).astype(np.uint8)} if mask else {}))


PEOPLE = changed(
    TINY_STROKES,
    size=16,
    generator__fields=True,
    generator__object_frame=True,
    generator__crop_zoom=1.5,
    losses__unblended=5.0,
    losses__distance="absolute",
    predictor__residual=True,
    encoder__widths=(8, 8, 16),
    generator__widths=(16, 8, 8),
    autoencoder__steps=200,
    autoencoder__learning_rate=1e-2,
)
"""The preset `people` in small, for `blinking_clip`."""


def make_stage(name: str, config: StrokesConfig, clips: Sequence[Clip], seed: int = 0) -> Any:
    """A stage over fresh networks in training mode."""
    torch.manual_seed(seed)
    stage = STAGES[name](name, StrokesNetworks(config).train(), clips, clips, 0)
    for generator in stage.generators.values():
        generator.manual_seed(0)
    return stage


def stage_of(config: StrokesConfig = TINY_STROKES, clips: int = 2, **changes: Any) -> Any:
    """The stage `single_step` on clips of squares."""
    squares = [square_clip(f"c{i}", seed=i) for i in range(clips)]
    return make_stage("single_step", changed(config, **changes), squares)


def batch_of(stage: Any, count: int | None = None) -> dict[str, Any]:
    return next(iter(loader(stage.dataset, start_step=0, steps=1, batch=count or stage.batch)))


class Update:
    """The loop's `update` for one process; notes what it was called with."""

    def __init__(self, stage: Any, move: bool = True):
        self.stage, self.move, self.names, self.losses = stage, move, [], []
        self.after: Callable[[str], None] = lambda name: None

    def __call__(self, name: str, loss: Tensor, clip_grad: float | None = None) -> None:
        parameters = [p for group in self.stage.optimizers[name].param_groups for p in group["params"]]
        for network in self.stage.networks.values():
            network.zero_grad()
        loss.backward(inputs=parameters)
        if clip_grad is not None:
            nn.utils.clip_grad_norm_(parameters, clip_grad)
        self.names.append(name)
        self.losses.append(loss.detach())
        if self.move:
            self.stage.optimizers[name].step()
        self.after(name)


def train(stage: Any, steps: int, batch: int) -> list[dict[str, float]]:
    """The numbers of some steps on one batch."""
    found, samples, update = [], batch_of(stage, batch), Update(stage)
    for _ in range(steps):
        found.append({name: float(value) for name, value in stage.step(samples, update).items()})
        for scheduler in stage.schedulers.values():
            scheduler.step()
    return found


def changed_parts(model: nn.Module, before: dict[str, Tensor]) -> set[str]:
    """Names of the networks whose weights differ from an earlier state."""
    state = model.state_dict()
    return {name.partition(".")[0] for name, value in state.items() if not torch.equal(value, before[name])}


def copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def flat(value: float, size: int = 2) -> Tensor:
    return torch.full((1, 3, size, size), value)


NOWHERE = ObjectFrame(torch.zeros(1, 2), 1.0, torch.zeros(1, 2))
"""The object's frame of reference where it has not moved."""


def targets_of(size: int = 2, truth: float = 0.0) -> StepTargets:
    """Targets whose still and current frame are 0 and whose true frame is flat."""
    zero = flat(0.0, size)
    return StepTargets(zero, zero, flat(truth, size), NOWHERE, torch.zeros(1, 2).long(), torch.zeros(()))


def outputs_of(frame: float | Tensor, size: int = 2, unblended: float = 0.0) -> StepOutputs:
    picture = flat(frame, size) if isinstance(frame, float) else frame
    generated = GeneratorOutput(picture, flat(unblended, size))
    return StepOutputs(torch.zeros(1, 1, 1, 1), torch.zeros(1, 2, 1, 1), generated)
