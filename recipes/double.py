"""Makes of a model of `driving` one for pictures of twice the size, to be trained on: `double.py MODEL OUT`.

Its detector and dense motion see what they saw: pictures of half the size, since motion.scale is halved. So keypoints
and coarse flow are right from the start, and only the generator has to learn the new size, at which it is applied as
it is, for an hour of one core. (`small_first` is the way from nothing; this one is from trained weights.)
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from stillmotion import load
from stillmotion.errors import StillmotionError
from stillmotion.systems.driving.animating import Driving

LAST_STAGE = {"steps": 6_000, "batch": 4, "learning_rate": 4e-4}
"""A picture of twice the size takes four times as long."""


def main(arguments: list[str] | None = None) -> None:
    """Make the larger model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    options = parser.parse_args(arguments)
    small = load(options.model).system
    if not isinstance(small, Driving) or not small.config.detector.pixel_unshuffle:
        raise StillmotionError("Only models of `driving` with detector.pixel_unshuffle can be doubled.")
    doubled(small).save_pretrained(options.out)


def doubled(small: Driving) -> Driving:
    """The model for pictures of twice the size, with the same weights but for those that read pixels as channels."""
    motion = replace(small.config.motion, scale=small.config.motion.scale / 2)
    *earlier, last = small.config.motion_stages
    stages = (*earlier, replace(last, **LAST_STAGE))
    config = replace(small.config, size=2 * small.config.size, motion=motion, motion_stages=stages)
    large = Driving.build(config, dict(small.card))
    weights, grown = small.networks.state_dict(), large.networks.state_dict()
    folded = round(1 / small.config.motion.scale)
    for name, value in weights.items():
        if grown[name].shape != value.shape:  # the picture's channels are the last
            own = value.shape[1] - 3 * folded**2
            value = torch.cat([value[:, :own], spread(value[:, own:], folded)], dim=1)
        grown[name] = value
    large.networks.load_state_dict(grown)
    return large


def spread(weight: Tensor, folded: int) -> Tensor:
    """A kernel on pixels of RGB as channels, O x 3 f^2 x k x k, for pictures of twice the size: O x 12 f^2 x k x k.

    Each pixel becomes four, which count a quarter: the kernel sees their mean.
    """
    pixels = weight.unflatten(1, (3, folded, folded))
    return pixels.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3).flatten(1, 3) / 4


if __name__ == "__main__":
    main()
