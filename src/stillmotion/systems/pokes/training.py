"""Training stages: ours (`fields`), and the paper's and the release's (see state_training.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from stillmotion.systems.base import System
from stillmotion.systems.pokes.config import PokesConfig
from stillmotion.systems.pokes.data import MomentDataset
from stillmotion.systems.pokes.field_losses import field_losses
from stillmotion.systems.pokes.field_network import FieldNetwork
from stillmotion.systems.pokes.handles import Handles
from stillmotion.systems.pokes.visualization import moment_sheet
from stillmotion.training.schedules import scheduler
from stillmotion.training.stage import check_clips, chosen_stages, stage_seed


def stages(
    system: System, clips: Sequence[Any], preview_clips: Sequence[Any] = (), only: Sequence[str] = (), seed: int = 0
) -> list[Any]:
    """The training stages of the system that have steps, in order.

    Args:
        system: a `Pokes` system; its networks are trained in place.
        clips: clips of the networks' size.
        preview_clips: what previews show; the training clips if empty.
        only: names of the stages to run; all that have steps if empty.
        seed: of the samples' order and augmentation.

    Raises:
        StillmotionError: no clips, clips of another size than the configuration's, or a stage that does not exist or
            has no steps.
    """
    config = system.config
    assert isinstance(config, PokesConfig)
    names = ("fields",)
    chosen = chosen_stages({name: getattr(config, name).steps for name in names}, only)
    check_clips(clips, config.size)
    assert isinstance(system.networks, FieldNetwork)
    return [
        FieldStage(system.networks, config, clips, preview_clips or clips, stage_seed(seed, name)) for name in chosen
    ]


class FieldStage:
    """Fields of single frames from the still and its handles, and oscillators, both from known motion (ours)."""

    name: ClassVar[str] = "fields"

    def __init__(
        self,
        model: FieldNetwork,
        config: PokesConfig,
        clips: Sequence[Any],
        preview_clips: Sequence[Any],
        seed: int,
    ):
        stage = config.fields
        self.model, self.config, self.preview_clips = model, config, preview_clips
        self.steps, self.batch = stage.steps, stage.batch
        self.dataset = MomentDataset(clips, config, seed)
        self.networks: Mapping[str, nn.Module] = {"model": model}
        self.ema: Mapping[str, nn.Module] = {"model": model}
        self.optimizers = {"model": AdamW(model.parameters(), stage.learning_rate, (0.9, 0.99), weight_decay=0.01)}
        self.schedulers = {"model": scheduler(self.optimizers["model"], stage.schedule, stage.steps)}

    def step(self, batch: Mapping[str, Any], update: Any) -> dict[str, Tensor]:
        """One training step.

        Args:
            batch: see `MomentDataset`, with a leading axis B.
            update: called as `update("model", loss, clip_grad=...)`.

        Returns:
            Every loss term, weighted, detached; and `copy`, what `displacement` is of standing still.
        """
        context = self.model.begin(batch["frames"][:, 0], batch["plate"])
        handles = Handles(*(batch[name].flatten(0, 1) for name in Handles._fields))
        count = batch["frames"].shape[1] - 1
        output = self.model(self.model.expand(context, count), handles)
        terms = field_losses(self.model, context, output, batch, self.config.field_losses)
        update("model", sum(terms.values(), torch.zeros_like(terms["figure"])), clip_grad=self.clip_grad)
        length, moving = batch["displacement"].norm(dim=-1), batch["moving"]
        terms["copy"] = self.config.field_losses.displacement * (length * moving).sum() / moving.sum().clamp_min(1)
        return {name: value.detach() for name, value in terms.items()}

    @property
    def clip_grad(self) -> float | None:
        """Largest norm of the gradient, if there is a limit."""
        return self.config.fields.clip_grad or None

    def preview(self) -> dict[str, np.ndarray]:
        """Stills with their pokes, true frames, and those predicted."""
        return {"answers": moment_sheet(self.model, self.config, self.preview_clips)}
