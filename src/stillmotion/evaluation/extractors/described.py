"""Networks that recipes train: how they are trained, and FILE.safetensors with what is known of it in FILE.json."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.errors import StillmotionError
from stillmotion.evaluation.extractors.base import path_and_digest
from stillmotion.files import check_digest, read_json, read_weights, save_tensors, write_json

WARM_UP = 0.05  # share of a training in which the rate rises

About = TypeVar("About", bound=Any)
Progress = Callable[[int, float], None]  # is given every step's number and loss


# --- training ------------------------------------------------------------------------------------------------------


def fit(
    network: nn.Module,
    loss_of_batch: Callable[[], Tensor],
    *,
    rate: float,
    steps: int,
    minutes: float | None = None,
    progress: Progress | None = None,
) -> None:
    """Train by AdamW, with a rate that falls linearly to zero.

    Args:
        network: whose weights are trained.
        loss_of_batch: draws a batch.
        rate: the highest learning rate.
        steps: updates.
        minutes: an earlier end; the rate has fallen to zero by then.
        progress: see `Progress`.
    """
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.02)
    begun = time.monotonic()
    for step in range(steps):
        done = max(step / steps, (time.monotonic() - begun) / (60 * minutes) if minutes else 0.0)
        if done >= 1:
            break
        optimizer.param_groups[0]["lr"] = rate * min(1.0, (done + 1 / steps) / WARM_UP) * (1 - done)
        loss = loss_of_batch()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if progress:
            progress(step + 1, loss.item())


def draw_weights(network: nn.Module, generator: torch.Generator) -> None:
    """Give all kernels and matrices the generator's values (He et al. 2015)."""
    for weight in network.parameters():
        if weight.ndim > 1:
            nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)


@torch.no_grad()
def recompute_statistics(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Batch statistics as the mean over batches: after a short training moving averages are those of old weights."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d):
            layer.reset_running_stats()
            layer.momentum = None  # a mean of all batches
    for batch in batches:
        network(batch)


def augmented(videos: Tensor, generator: torch.Generator, flip: bool) -> Tensor:
    """Cropped, mirrored, of another contrast and brightness, and noisy: a video N x T x 3 x S x S at a time.

    Crops cover 80 to 105 % of the side, borders repeated. Generated frames lack a camera's noise: its amount varies.
    """
    count, times, side = len(videos), videos.shape[1], videos.shape[-1]

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    scale = uniform(0.8, 1.05)
    mirror = torch.where((torch.rand(count, generator=generator) < 0.5) & flip, -1.0, 1.0)
    shift = uniform(-1, 1, 2) * (1 - scale).abs()[:, None]
    maps = torch.zeros(count, 2, 3)
    maps[:, 0, 0], maps[:, 1, 1], maps[:, :, 2] = scale * mirror, scale, shift
    grid = F.affine_grid(maps.repeat_interleave(times, 0), [count * times, 3, side, side], align_corners=True)
    moved = F.grid_sample(videos.flatten(0, 1), grid, padding_mode="border", align_corners=True)
    gain, level = uniform(0.7, 1.2, 1, 1, 1, 1), uniform(-0.15, 0.15, 1, 3, 1, 1)
    noise = uniform(0, 0.03, 1, 1, 1, 1) * torch.randn(videos.shape, generator=generator)
    return gain * moved.view(videos.shape) + level + noise


# --- files ---------------------------------------------------------------------------------------------------------


def save_described(path: Path, tensors: Mapping[str, Tensor], about: Any) -> str:
    """Write FILE.safetensors, and the fields of a dataclass to FILE.json. Returns FILE@SHA256 for `--network`.

    Raises:
        StillmotionError: a file cannot be written.
    """
    path = path.with_suffix(".safetensors")
    save_tensors(path, tensors)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    write_json(path.with_suffix(".json"), {**asdict(about), "weights": digest})
    return f"{path}@{digest}"


def read_described(value: str, kind: type[About], form: str) -> tuple[dict[str, Tensor], About]:
    """Read FILE.safetensors@SHA256 and the JSON beside it.

    Args:
        value: the file and its digest.
        kind: dataclass of what the JSON holds; its lists become tuples.
        form: what such a file is, for messages.

    Raises:
        StillmotionError: the file is not the one that was named, or its JSON is missing, damaged or that of another
            file.
    """
    path, digest = path_and_digest(value)
    check_digest(path, digest)
    beside = path.with_suffix(".json")
    stored = read_json(beside)
    fields = stored if isinstance(stored, dict) else {}
    if fields.get("weights") != digest:
        raise StillmotionError(f"{beside} does not describe the weights beside it; it is not of {form}.")
    known = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items() if name != "weights"}
    try:
        about = kind(**known)
    except TypeError:
        raise StillmotionError(f"{beside} lacks fields or has unknown ones; it is not of {form}.") from None
    return read_weights(path, digest), about
