"""Small state generators, pokes and trainings for the tests of the paper's side of `pokes`."""

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from reference_tools import Golden
from stillmotion.files import change_settings
from stillmotion.systems.pokes.config import PRESETS, PokesConfig
from stillmotion.systems.pokes.networks import StateGenerator
from stillmotion.systems.pokes.training import STATE_STAGES
from stillmotion.training.update import Updater


def changed(config: PokesConfig, **changes: Any) -> PokesConfig:
    """The configuration with some fields changed; `losses__video` is `losses.video`."""
    return change_settings(config, {name.replace("__", "."): value for name, value in changes.items()}, "test")


TINY_STATES = changed(
    PRESETS["release"],
    size=16,
    encoder__bottleneck=4,
    encoder__width=128,
    encoder__poke_width=8,
    clip__frames=3,
    losses__perceptual__network="none",
    pretraining__steps=10,
    dynamics_training__steps=10,
    interleaved__steps=10,
)
"""Three levels of 128 x 4 x 4, 64 x 4 x 4 and 32 x 8 x 8."""

WITH_GANS = changed(TINY_STATES, size=32, encoder__bottleneck=8, discriminators__start=0)
"""The patch discriminator needs 32 pixels."""


def generator_of(config: PokesConfig = TINY_STATES, seed: int = 0, **changes: Any) -> StateGenerator:
    torch.manual_seed(seed)
    return StateGenerator(changed(config, **changes))


def poke_map(size: int, *pokes: tuple[int, int, tuple[float, float]], patch: int = 3) -> Tensor:
    """One map per poke: row, column and vector (dx, dy) of a square."""
    maps, half = torch.zeros(len(pokes), 2, size, size), patch // 2
    for entry, (row, column, vector) in zip(maps, pokes, strict=True):
        square = entry[:, row - half : row + half + 1, column - half : column + half + 1]
        square.copy_(torch.tensor(vector)[:, None, None].expand_as(square))
    return maps


def golden_poke(golden: Golden) -> Tensor:
    """The poke map of a golden of the generator."""
    entry = golden.facts["inputs"][1]
    pokes = [(patch["row"], patch["col"], tuple(patch["vector"])) for patch in entry["patches"]]
    return poke_map(entry["shape"][-1], *pokes, patch=5 if entry["shape"][-1] == 128 else 3)


def stills(config: PokesConfig, count: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, config.size, config.size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def batch_of(config: PokesConfig, count: int = 2, seed: int = 0) -> dict[str, Tensor]:
    """Noise that fades to grey, and a poke."""
    still = stills(config, count, seed) / 2 + 0.5
    shares = torch.linspace(1, 0, config.clip.frames + 1)[:, None, None, None]
    frames = shares * still[:, None] + (1 - shares) / 2
    return {"frames": frames, "poke": poke_map(config.size, *[(7, 8, (2.0, -1.0))] * count)}


def make_stage(name: str, config: PokesConfig = TINY_STATES, seed: int = 0) -> Any:
    """A stage over fresh networks in training mode."""
    model = generator_of(config).train()
    return STATE_STAGES[name](name, model, config, [], seed)  # type: ignore[arg-type]


class Update(Updater):
    """The loop's own, which notes what it was called with."""

    def __init__(self, stage: Any):
        super().__init__(stage, Accelerator(cpu=True))
        self.calls: list[tuple[str | tuple[str, ...], float]] = []

    def __call__(self, names: Any, loss: Tensor, **options: Any) -> None:
        self.calls.append((names, loss.item()))
        super().__call__(names, loss, **options)

    @property
    def names(self) -> list[Any]:
        return [names for names, _ in self.calls]


def train(stage: Any, steps: int = 1, update: Update | None = None) -> list[dict[str, float]]:
    """The numbers of some steps on one batch."""
    found, batch, update = [], batch_of(stage.config), update or Update(stage)
    for _ in range(steps):
        found.append({name: float(value) for name, value in stage.step(batch, update).items()})
        for scheduler in stage.schedulers.values():
            scheduler.step()
    return found


def copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def changed_parts(network: nn.Module, before: dict[str, Tensor]) -> set[str]:
    """First words of the names of the weights that differ from an earlier state."""
    state = network.state_dict()
    return {name.partition(".")[0] for name, value in state.items() if not torch.equal(value, before[name])}
