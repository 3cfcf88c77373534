"""Give a trained driving model parts it was trained without; it makes the same frames as before, and can learn more.

    python recipes/grow_driving.py driving-weizmann runs/grown --set detector_detail=true fine_flow=true

New corrections start as zeros. With `detector_detail` the detector's first and last convolutions read f x f pixels
where they read their mean: each gets the old weight divided by f x f.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from stillmotion.animate import load
from stillmotion.systems.base import parse_config
from stillmotion.systems.driving.animating import Driving
from stillmotion.systems.driving.config import DrivingConfig

READ_PICTURES = ("detector.unet.encoder.blocks.0.conv.weight", "detector.logits.weight")
"""Weights whose last three input channels are a picture's colours."""


def main() -> None:
    """Read the model, widen what must be, save."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--set", nargs="+", default=[], metavar="FIELD=VALUE")
    arguments = parser.parse_args()

    source = load(arguments.model).system
    changes = dict(item.split("=", 1) for item in arguments.set)
    config = parse_config(DrivingConfig, {**asdict(source.config), **changes}, "--set")
    grown = Driving.build(config, source.card)
    grow(source.networks, grown.networks)
    grown.save_pretrained(arguments.out)
    print(f"{arguments.out}: {sum(value.numel() for value in grown.shipped().parameters()):,} parameters")


@torch.no_grad()
def grow(source: nn.Module, target: nn.Module) -> None:
    """Copy all weights; those that read pictures are shared out over the pixels of a fold."""
    old, new = source.state_dict(), target.state_dict()
    for name, value in new.items():
        if name in old:
            value.copy_(shared_out(old[name], value.shape[1]) if name in READ_PICTURES else old[name])


def shared_out(weight: Tensor, channels: int) -> Tensor:
    """C' x (C + 3) x k x k -> C' x (C + 3 f f) x k x k, as `pixel_unshuffle` orders the channels."""
    features, picture = weight[:, :-3], weight[:, -3:]
    times = (channels - features.shape[1]) // 3
    return torch.cat([features, picture.repeat_interleave(times, dim=1) / times], dim=1)


if __name__ == "__main__":
    main()
