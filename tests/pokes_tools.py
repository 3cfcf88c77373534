"""Small pokes systems that predict fields, handles made by hand, and clips of a square that is poked."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from pokes_state_tools import changed
from stillmotion.data.clip import Clip
from stillmotion.rendering.fields import SHARE_GAIN, WARPED
from stillmotion.systems.pokes.animating import Pokes
from stillmotion.systems.pokes.config import PRESETS, PokesConfig
from stillmotion.systems.pokes.field_network import FieldNetwork
from stillmotion.systems.pokes.handles import Handles, Oscillators

TINY_FIELDS = changed(
    PRESETS["small"],
    size=32,
    clip__frames=5,
    clip__augmentation="none",
    encoder__bottleneck=8,  # for sizes of 16
    generator__width=4,
    generator__max_width=8,
    generator__blocks=2,
    fields__batch=2,
    fields__steps=2,
    fields__schedule__warmup=0,
)
"""Two halvings, 4 to 8 channels."""


def field_network(config: PokesConfig = TINY_FIELDS, seed: int = 0, noise: float = 0.2) -> FieldNetwork:
    """A network in eval mode whose weights are so large that everything counts; as it starts without `noise`."""
    torch.manual_seed(seed)
    network = FieldNetwork(config).eval()
    with torch.no_grad():
        for value in network.parameters() if noise else ():
            value.add_(noise * torch.randn(value.shape))
    return network


def make_rigid(network: FieldNetwork, follow: float = 30.0) -> FieldNetwork:
    """Every pixel is the still moved with the handles: by their whole offset, or by the share of a logit `follow`.

    Every pixel is of the figure, too.
    """
    with torch.no_grad():
        network.mask.logit.bias.fill_(100.0)  # type: ignore[union-attr]
        for layer in (network.follow, network.fields.flow, network.fields.shares):
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            layer.weight.zero_()
            layer.bias.zero_()
        network.follow.bias.fill_(follow)  # type: ignore[union-attr]
        network.fields.shares.bias[WARPED] = 100 / SHARE_GAIN  # type: ignore[index]
    return network


def tiny_pokes(
    seed: int = 0, card: dict[str, Any] | None = None, base: PokesConfig = TINY_FIELDS, **changes: Any
) -> Pokes:
    """A system of such a network."""
    config = changed(base, **changes)
    return Pokes(config, field_network(config, seed), card)


def wild_pokes(base: Any, seed: int = 0) -> Pokes:
    """A system of any networks, with weights so large that everything counts."""
    torch.manual_seed(seed)
    system = Pokes.build(base)
    for value in system.networks.parameters():
        torch.nn.init.normal_(value, std=0.2)
    return system


def rigid_pokes(follow: float = 30.0, swing: tuple[float, float] = (0.6, 0.3), **changes: Any) -> Pokes:
    """A system that moves the whole still with the handles, which swing at a frequency and a damping."""
    system = tiny_pokes(**changes)
    assert isinstance(system.networks, FieldNetwork)
    make_rigid(system.networks, follow)
    system.networks.oscillators = Fixed(*swing)  # type: ignore[assignment]
    return system


class Fixed(nn.Module):
    """The same oscillators everywhere, all of one mode."""

    def __init__(self, frequency: float, damping: float):
        super().__init__()
        self.frequency, self.damping = frequency, damping

    def forward(self, features: Tensor) -> Oscillators:
        return oscillators([self.frequency], [self.damping], [1.0], features.shape[:2])


def oscillators(
    frequency: Sequence[float], damping: Sequence[float], share: Sequence[float], count: Sequence[int] = (1, 1)
) -> Oscillators:
    """The same modes for N x M handles."""
    rows = (torch.tensor(list(values)).expand(*count, -1) for values in (frequency, damping, share))
    return Oscillators(*rows)


def handles_of(*rows: tuple[Any, Any], velocity: Any = (0.0, 0.0), held: float = 1.0) -> Handles:
    """The handles of one sample, which are all there: place and offset of each, normalised."""
    place, offset = (torch.tensor([list(row[axis]) for row in rows])[None].float() for axis in (0, 1))
    ones = torch.ones(1, len(rows))
    return Handles(place, offset, torch.tensor(velocity).expand_as(place), held * ones, ones)


def poked_clip(
    name: str = "c",
    frames: int = 8,
    size: int = 32,
    kind: str = "drag",
    by: tuple[float, float] = (6, 3),
    corner: tuple[int, int] = (6, 8),
    rise: float = 4.0,
    hold: float = 1.0,
    side: int = 7,
) -> Clip:
    """A bright square that is poked in its middle and goes by `by` in even steps, until `rise`; knows its motion."""
    ground = np.full((size, size, 3), 30, np.uint8)
    ground[:, ::4] = 50
    video, parts = np.repeat(ground[None], frames, 0), np.zeros((frames, size, size), np.uint8)
    moves, path = np.tile(np.eye(2, 3), (frames, 2, 1, 1)), np.zeros((frames, 2), np.float32)
    for t in range(frames):
        shift = np.rint(np.array(by) * min(1.0, t / rise)).astype(int)
        x, y = np.array(corner) + shift
        video[t, y : y + side, x : x + side] = (240, 200, 60)
        parts[t, y : y + side, x : x + side] = 1
        moves[t, 1, :, 2] = x, y
        path[t] = (x + side // 2, y + side // 2)
    poke = {"kind": kind, "node": 0, "place": path[0].tolist(), "displacement": list(by), "rise": rise, "hold": hold}
    return Clip(name, video, 25.0, {"parts": parts, "moves": moves, "path": path}, {"poke": poke, "action": kind})


def spot(size: tuple[int, int] = (32, 32), x: int = 8, y: int = 10, side: int = 6) -> np.ndarray:
    """A bright square on a dark ground with a pattern, its first pixel at (x, y); H x W x 3 `uint8`."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    picture = np.repeat((30 + 3 * (rows % 5) + 2 * (columns % 7))[..., None], 3, 2).astype(np.uint8)
    picture[y : y + side, x : x + side] = (240, 200, 60)
    return picture


def without(clip: Clip, *names: str) -> Clip:
    """The clip, which no longer knows some tracks."""
    return Clip(clip.name, clip.frames, clip.fps, {k: v for k, v in clip.tracks.items() if k not in names}, {})


def unmoving(clip: Clip) -> Clip:
    """The clip's first frame, repeated."""
    tracks = {name: np.repeat(values[:1], len(clip), 0) for name, values in clip.tracks.items()}
    return Clip("still", np.repeat(clip.frames[:1], len(clip), 0), clip.fps, tracks, {})


@cache
def textured(by: tuple[int, int] = (3, 2), frames: int = 3) -> Clip:
    """A textured square of 24 pixels that moves by (3, 2) over a textured wall; it knows nothing."""
    rng = np.random.default_rng(0)
    square, wall = (cv2.GaussianBlur(rng.uniform(0, 255, (64, 64, 3)), (0, 0), 1.2) for _ in range(2))
    video = np.repeat((0.6 * wall)[None], frames, 0)
    for t in range(frames):
        x, y = 14 + by[0] * t, 16 + by[1] * t
        video[t, y : y + 24, x : x + 24] = (square[:24, :24] - 128) * 2 + 150
    return Clip("textured", video.clip(0, 255).astype(np.uint8), 25.0, {})


def as_tensor(frame: np.ndarray) -> Tensor:
    """3 x H x W in [0, 1]."""
    return torch.from_numpy(frame.astype(np.float32) / 255).permute(2, 0, 1)
