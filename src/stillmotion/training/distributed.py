"""Communication between the processes of a run, be it one or many."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed
from accelerate import Accelerator
from accelerate.utils import broadcast, broadcast_object_list
from torch import Tensor, nn

from stillmotion.errors import StillmotionError
from stillmotion.nn.device import choose_device
from stillmotion.training.settings import LoopSettings


def start(settings: LoopSettings) -> Accelerator:
    """Join the processes that `torchrun` started, or be the only one.

    Raises:
        StillmotionError: the device of the settings is not there.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    # Without `cpu=True` on a CPU, accelerate takes each of torchrun's processes for a single one.
    # Precision is set by the loop: accelerate would wrap models, and no model passes through it here.
    return Accelerator(cpu=choose_device(settings.device).type == "cpu", mixed_precision="no")


def on_main(accelerator: Accelerator, work: Any, *arguments: Any) -> None:
    """Let the main process do something while the others wait; if it fails, all of them stop.

    Raises:
        StillmotionError: on the main process what `work` raised, on the others that it did.
    """
    failure: StillmotionError | None = None
    if accelerator.is_main_process:
        try:
            work(*arguments)
        except StillmotionError as error:
            failure = error
    failed = any_process(accelerator, failure is not None)
    if failure is not None:
        raise failure
    if failed:
        raise StillmotionError("The first process stopped, see its message, so this one stops too.")


def any_process(accelerator: Accelerator, raised: bool) -> bool:
    """True on all processes if it is on any."""
    return largest(accelerator, [float(raised)])[0] > 0


def largest(accelerator: Accelerator, values: Sequence[float]) -> list[float]:
    """The largest of each number over all processes, the same on all."""
    if accelerator.num_processes == 1:
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float32, device=accelerator.device)
    torch.distributed.all_reduce(tensor, torch.distributed.ReduceOp.MAX)
    return tensor.tolist()


def mean(accelerator: Accelerator, values: Iterable[float]) -> list[float]:
    """Mean of each number over all processes."""
    numbers = list(values)
    if accelerator.num_processes == 1 or not numbers:
        return numbers
    # float32 at least is known to every device; these numbers are for people.
    tensor = torch.tensor(numbers, dtype=torch.float32, device=accelerator.device)
    torch.distributed.all_reduce(tensor)
    return (tensor / accelerator.num_processes).tolist()


def broadcast_value(accelerator: Accelerator, value: Any) -> Any:
    """The main process's value, on all processes."""
    if accelerator.num_processes == 1:
        return value
    return broadcast_object_list([value])[0]


def broadcast_weights(accelerator: Accelerator, networks: Mapping[str, nn.Module]) -> None:
    """Start all processes from the main process's weights and buffers."""
    if accelerator.num_processes == 1:
        return
    with torch.no_grad():
        for network in networks.values():
            for value in network.state_dict().values():
                value.copy_(broadcast(value.clone(), from_process=0))


def gather_by_rank(accelerator: Accelerator, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of all processes, of the same shapes everywhere, as `RANK.NAME` on the CPU."""
    everyone: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        stacked = accelerator.gather(tensor.to(accelerator.device)[None])
        everyone |= {f"{rank}.{name}": row.cpu() for rank, row in enumerate(stacked)}
    return everyone


def own_rank(accelerator: Accelerator, everyone: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """This process's part of what `gather_by_rank` returned."""
    prefix = f"{accelerator.process_index}."
    return {name.removeprefix(prefix): value for name, value in everyone.items() if name.startswith(prefix)}
