"""One optimiser step: backward, mean gradients over processes, the check for NaN, clipping."""

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
    """The `update` argument of a stage's `step`; see `stage.Update`.

    Attributes:
        step: number of the running step, from 1; the loop sets it.
        decay: the largest share of every learning rate; the loop lets it fall under a time budget.
        rates: the learning rate of each optimiser's last step.
        batch: this process's samples in it; the loop sets them.
    """

    def __init__(self, stage: Stage, accelerator: Accelerator):
        self.stage = stage
        self.accelerator = accelerator
        self.step = 0
        self.decay = 1.0
        self.rates: dict[str, float] = {}
        self.batch: Batch = {}
        self._parameters = {
            name: [p for group in optimizer.param_groups for p in group["params"]]
            for name, optimizer in stage.optimizers.items()
        }
        everything = [p for network in stage.networks.values() for p in network.parameters()]
        everything += [p for parameters in self._parameters.values() for p in parameters]
        self._all = list({id(p): p for p in everything}.values())

    def __call__(
        self, names: str | Sequence[str], loss: Tensor, *, clip_grad: float | None = None, retain_graph: bool = False
    ) -> None:
        """See `stage.Update`."""
        chosen = (names,) if isinstance(names, str) else tuple(names)
        parameters = [p for name in chosen for p in self._parameters[name] if p.requires_grad]
        for parameter in self._all:
            parameter.grad = None
        with torch.autocast(self.accelerator.device.type, enabled=False):
            # `inputs` leaves the other networks that the loss went through without gradients, and saves their cost.
            self.accelerator.backward(loss.float(), inputs=parameters, retain_graph=retain_graph)
            mean_loss = self._all_reduce(parameters, loss.detach().float())
            gradients = [p.grad for p in parameters if p.grad is not None]
            norm = nn.utils.get_total_norm(gradients)
            self._check(chosen, mean_loss, norm)
            if clip_grad is not None:
                nn.utils.clip_grads_with_norm_(parameters, clip_grad, norm)
            for name in chosen:
                self._step(name)
        # Autocast keeps bfloat16 copies of the weights until its outermost block ends, which is the whole
        # step: without this line a second forward pass in the same step would use the old weights.
        torch.clear_autocast_cache()

    def _step(self, name: str) -> None:
        """Step an optimiser with its rates bounded by `decay`, which its scheduler does not see.

        The bound is a share of the rate that the optimiser began with, which schedulers note in its groups.
        """
        optimizer = self.stage.optimizers[name]
        own = [group["lr"] for group in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, own, strict=True):
            group["lr"] = min(rate, group.get("initial_lr", rate) * self.decay)
        self.rates[name] = float(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for group, rate in zip(optimizer.param_groups, own, strict=True):
            group["lr"] = rate

    def _all_reduce(self, parameters: list[nn.Parameter], loss: Tensor) -> Tensor:
        """Replace gradients by their mean over all processes; returns the mean loss.

        In one bucket and not by DistributedDataParallel, whose hooks expect one forward and one backward pass
        per step through one module. A GAN step goes through the same networks several times, with several
        losses, and leaves some parameters without gradient.
        """
        world = self.accelerator.num_processes
        if world == 1:
            return loss
        # A parameter without gradient must stay without on all processes, or with on all: Adam treats a
        # missing gradient (leave alone) and a zero one (decay the moments) differently.
        has = torch.tensor([p.grad is not None for p in parameters], dtype=torch.float32, device=loss.device)
        gradients = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1).float() for p in parameters]
        bucket = torch.cat([*gradients, has, loss.reshape(1)])
        torch.distributed.all_reduce(bucket)
        *flat, has, loss = bucket.split([p.numel() for p in parameters] + [len(parameters), 1])
        for parameter, total, count in zip(parameters, flat, has.tolist(), strict=True):
            if count:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad.copy_(total.view_as(parameter) / world)
        return loss[0] / world

    def _check(self, names: tuple[str, ...], mean_loss: Tensor, norm: Tensor) -> None:
        """Raise before NaN or infinity reaches a weight; the numbers are the same on all processes, so all raise."""
        if bool(torch.isfinite(mean_loss) & torch.isfinite(norm)):  # one wait for the device per update
            return
        everyone, broken = _clip_names(self.batch)
        if self.accelerator.num_processes > 1:
            # Batch norm spreads a NaN to all processes, so only the inputs show where it came from.
            everyone, broken = gather_object(everyone), gather_object(broken)
        clips = list(dict.fromkeys(broken or everyone))
        what = "loss" if not torch.isfinite(mean_loss) else "gradient"
        shown = ", ".join(clips[:_NAMED_CLIPS]) or "unnamed"
        more = f" and {len(clips) - _NAMED_CLIPS} more" if len(clips) > _NAMED_CLIPS else ""
        raise StillmotionError(
            f"The {what} of {' and '.join(names)!r} became NaN or infinite at step {self.step} of stage "
            f"{self.stage.name!r} (clips: {shown}{more}); nothing was saved since the last checkpoint, so "
            "look at these clips or lower the learning rate, then resume."
        )


def _clip_names(batch: Batch) -> tuple[list[str], list[str]]:
    """Names of the clips in a batch: all, and those whose own tensors hold NaN or infinity."""
    names = batch.get("name", ())
    names = [names] if isinstance(names, str) else [str(name) for name in names]
    broken: set[int] = set()
    for value in batch.values():
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim() and len(value) == len(names):
            broken |= {i for i, row in enumerate(value) if not torch.isfinite(row).all()}
    return names, [names[i] for i in sorted(broken)]
