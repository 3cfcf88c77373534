"""One optimiser step: backward, averaging over processes, the check for NaN, clipping."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from stillmotion.errors import StillmotionError
from stillmotion.training.stage import Batch, Stage

_NAMED_CLIPS = 12


class Updater:
    """The `update` that a stage's `step` is given; see `stage.Update`.

    Attributes:
        step: number of the running step, from 1; the loop sets it.
        batch: this process's samples in it; the loop sets them.
    """

    def __init__(self, stage: Stage, accelerator: Accelerator):
        self.stage = stage
        self.accelerator = accelerator
        self.step = 0
        self.batch: Batch = {}
        self._of = {
            name: [p for group in optimizer.param_groups for p in group["params"]]
            for name, optimizer in stage.optimizers.items()
        }
        everything = [p for network in stage.networks.values() for p in network.parameters()]
        everything += [p for parameters in self._of.values() for p in parameters]
        self._all = list({id(p): p for p in everything}.values())

    def __call__(
        self,
        names: str | Sequence[str],
        loss: Tensor,
        *,
        clip_grad: float | None = None,
        retain_graph: bool = False,
    ) -> None:
        """See `stage.Update`."""
        chosen = (names,) if isinstance(names, str) else tuple(names)
        parameters = [p for name in chosen for p in self._of[name] if p.requires_grad]
        for parameter in self._all:
            parameter.grad = None
        with torch.autocast(self.accelerator.device.type, enabled=False):
            # `inputs` keeps gradients from the other networks that the loss went through, and saves their
            # cost.
            self.accelerator.backward(loss.float(), inputs=parameters, retain_graph=retain_graph)
            average = self._average_over_processes(parameters, loss.detach().float())
            gradients = [p.grad for p in parameters if p.grad is not None]
            norm = nn.utils.get_total_norm(gradients)
            self._check(chosen, average, norm)
            if clip_grad is not None:
                nn.utils.clip_grads_with_norm_(parameters, clip_grad, norm)
            for name in chosen:
                self.stage.optimizers[name].step()
        # Autocast keeps bfloat16 copies of the weights until its outermost block ends, which is the whole
        # step: without this line a second forward pass in the same step would still see the old weights.
        torch.clear_autocast_cache()

    def _average_over_processes(self, parameters: list[nn.Parameter], loss: Tensor) -> Tensor:
        """Replace gradients by their mean over all processes; returns the mean loss.

        By hand and in one bucket, not by DistributedDataParallel: its hooks count on one forward and one
        backward per step through one module, and a GAN step goes through the same networks several times,
        with several losses, leaving some parameters without gradient.
        """
        world = self.accelerator.num_processes
        if world == 1:
            return loss
        # A parameter without gradient must stay without on all processes, or with on all: Adam treats a
        # missing gradient (leave alone) and a zero one (decay the moments) differently.
        has = torch.tensor([p.grad is not None for p in parameters], dtype=torch.float32, device=loss.device)
        pieces = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1).float() for p in parameters]
        bucket = torch.cat([*pieces, has, loss.reshape(1)])
        torch.distributed.all_reduce(bucket)
        *flat, has, loss = bucket.split([p.numel() for p in parameters] + [len(parameters), 1])
        for parameter, total, count in zip(parameters, flat, has.tolist(), strict=True):
            if count:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad.copy_(total.view_as(parameter) / world)
        return loss[0] / world

    def _check(self, names: tuple[str, ...], average: Tensor, norm: Tensor) -> None:
        """Stop before NaN or infinity reaches a weight; all processes see the same numbers, so all stop."""
        if bool(torch.isfinite(average) & torch.isfinite(norm)):  # one wait for the device per update
            return
        everyone, broken = _clips(self.batch)
        if self.accelerator.num_processes > 1:
            # Batch norm carries a NaN to all processes, so only what went in tells whose it was.
            everyone, broken = gather_object(everyone), gather_object(broken)
        clips = list(dict.fromkeys(broken or everyone))
        what = "loss" if not torch.isfinite(average) else "gradient"
        shown = ", ".join(clips[:_NAMED_CLIPS]) or "unnamed"
        more = f" and {len(clips) - _NAMED_CLIPS} more" if len(clips) > _NAMED_CLIPS else ""
        raise StillmotionError(
            f"The {what} of {' and '.join(names)!r} became NaN or infinite at step {self.step} of stage "
            f"{self.stage.name!r} (clips: {shown}{more}); nothing was saved since the last checkpoint, so "
            "look at "
            "these clips or lower the learning rate, then resume."
        )


def _clips(batch: Batch) -> tuple[list[str], list[str]]:
    """Names of the clips in a batch: all, and those whose own tensors hold NaN or infinity."""
    names = batch.get("name", ())
    names = [names] if isinstance(names, str) else [str(name) for name in names]
    broken: set[int] = set()
    for value in batch.values():
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim() and len(value) == len(names):
            broken |= {i for i, row in enumerate(value) if not torch.isfinite(row).all()}
    return names, [names[i] for i in sorted(broken)]
