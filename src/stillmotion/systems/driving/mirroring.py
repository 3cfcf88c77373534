"""Ours: a frame as the mean of two, one made of the picture and one of its mirror image ("flip test").

Everything that follows keypoints is given those of both, 2K, in the picture's own coordinates: the first K were
found in the picture, the others in its mirror image. Only the generator takes them apart.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stillmotion.systems.driving.networks import DrivingNetworks, Generated, Keypoints, Motion


def detect(networks: DrivingNetworks, frames: Tensor, both: bool) -> Keypoints:
    """Keypoints of N x 3 x S x S frames: N x K, or with `both` N x 2K."""
    found: Keypoints = networks.detector(frames)
    return joined(found, mirrored(networks.detector(frames.flip(3)))) if both else found


def joined(own: Keypoints, other: Keypoints) -> Keypoints:
    """N x K and N x K keypoints as N x 2K; further axes in front are fine."""
    mean, covariance = torch.cat([own.mean, other.mean], -2), torch.cat([own.covariance, other.covariance], -3)
    return Keypoints(mean, covariance)


def halves(keypoints: Keypoints, count: int) -> list[Keypoints]:
    """N x K or N x 2K keypoints as one or two of N x `count`."""
    parts = zip(keypoints.mean.split(count, -2), keypoints.covariance.split(count, -3), strict=True)
    return [Keypoints(*part) for part in parts]


def mirrored(keypoints: Keypoints) -> Keypoints:
    """The same in the coordinates of the picture's mirror image; undone by doing it again."""
    sign = keypoints.mean.new_tensor([-1.0, 1.0])
    return Keypoints(keypoints.mean * sign, keypoints.covariance * (sign[:, None] * sign))


def unmirrored(made: Generated) -> Generated:
    """What was made of the mirror image, mirrored back: the maps, and the flow, whose x changes its sign."""

    def back(maps: Tensor | None) -> Tensor | None:
        return None if maps is None else maps.flip(3)

    motion, sign = made.motion, made.motion.displacement.new_tensor([-1.0, 1.0])
    flow = motion.displacement.flip(2) * sign
    return Generated(
        made.frame.flip(3),
        Motion(flow, back(motion.masks), back(motion.mixed)),
        made.warped.flip(3),
        back(made.keep),
        back(made.painted),
        back(made.retouch),
    )


def mean_picture(pictures: list[np.ndarray]) -> np.ndarray:
    """The mean of H x W x 3 `uint8` pictures, rounded to the even value where it lies between two."""
    return pictures[0] if len(pictures) == 1 else np.mean(pictures, axis=0).round().astype(np.uint8)
