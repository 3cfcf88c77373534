"""Batches on their way to the device: on CUDA one batch ahead of the step, in a thread and a stream of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from stillmotion.training.stage import Batch

T = TypeVar("T")


@contextmanager
def on_device(batches: Iterator[Batch], device: torch.device, channels_last: bool) -> Iterator[Iterator[Batch]]:
    """Move batches to a device, in order.

    On CUDA a thread takes the next batch and starts its copy while the step runs on the present one; the thread has
    ended when the block is left. Elsewhere a batch is taken when it is asked for. The batches are the same.

    Args:
        batches: dicts of CPU tensors and other values.
        device: where the tensors go; other values stay as they are.
        channels_last: also lay 4-D float tensors out channels-last.
    """
    if device.type != "cuda":
        yield ({name: move(value, device, channels_last) for name, value in batch.items()} for batch in batches)
        return
    stream = torch.cuda.Stream(device)
    copies = (_start_copy(batch, device, channels_last, stream) for batch in batches)
    with one_ahead(copies) as started:
        yield (_finish_copy(batch, copied, device) for batch, copied in started)


@contextmanager
def one_ahead(items: Iterator[T]) -> Iterator[Iterator[T]]:
    """The same items in the same order; a thread computes one while the one before is in use.

    What an item raises is raised where that item is asked for.
    """
    end: Any = object()

    def ahead() -> Iterator[T]:
        pending = executor.submit(next, items, end)
        while (item := pending.result()) is not end:
            pending = executor.submit(next, items, end)
            yield item

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as executor:
        yield ahead()


def move(value: Any, device: torch.device, channels_last: bool) -> Any:
    """A tensor on the device, without waiting for a copy from pinned memory; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    value = value.to(device, non_blocking=True)
    if channels_last and value.dim() == 4 and value.is_floating_point():
        value = value.contiguous(memory_format=torch.channels_last)
    return value


def _start_copy(
    batch: Batch, device: torch.device, channels_last: bool, stream: torch.cuda.Stream
) -> tuple[Batch, torch.cuda.Event]:
    """Start the copy of a batch on a stream; returns the batch and the event that says that it has arrived."""
    pinned = {name: v.pin_memory() if isinstance(v, Tensor) else v for name, v in batch.items()}
    with torch.cuda.stream(stream):
        moved = {name: move(value, device, channels_last) for name, value in pinned.items()}
        return moved, stream.record_event()


def _finish_copy(batch: Batch, copied: torch.cuda.Event, device: torch.device) -> Mapping[str, Any]:
    """Let the device, and not this thread, wait for the copy."""
    stream = torch.cuda.current_stream(device)
    stream.wait_event(copied)
    for value in batch.values():
        if isinstance(value, Tensor):
            value.record_stream(stream)  # else its memory could be reused while the step still reads it
    return batch
