"""The alpha of a still's figure at full size: a small network refines the edge of an enlarged mask.

With true masks it leaves half the error of the enlarged mask at the edge, where a guided filter and GrabCut add to it
(docs/log.md, 2026-11-27). Trained by recipes/alpha.py on made figures.
"""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion import media
from stillmotion.files import fill, load_tensors

WEIGHTS = Path(__file__).parent / "alpha.safetensors"
WORKING_SIDE = 512
"""Larger stills are refined at this side, whose edges are enlarged: the time would grow with their pixels."""


class AlphaNetwork(nn.Module):
    """A small U-Net that corrects the logit of an enlarged mask; about 12 thousand parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(4, 8, 3, padding=1)
        self.coarse = nn.Conv2d(8, 16, 3, padding=1)
        self.wide = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=step, dilation=step) for step in (1, 2, 4, 1))
        self.up = nn.Conv2d(16, 8, 3, padding=1)
        self.out = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, still: Tensor, mask: Tensor) -> Tensor:
        """Alpha, N x 1 x H x W in [0, 1], from the still, N x 3 x H x W, and the mask, N x 1 x H x W, in [0, 1]."""
        fine = F.relu(self.fine(torch.cat([still, mask], dim=1) - 0.5))
        x = F.relu(self.coarse(F.avg_pool2d(fine, 2, ceil_mode=True)))
        for layer in self.wide:
            x = x + F.relu(layer(x))
        up = F.interpolate(F.relu(self.up(x)), size=fine.shape[2:], mode="bilinear", align_corners=False)
        certain = torch.logit(mask, eps=0.02)
        return torch.sigmoid(certain + self.out(torch.cat([fine, up], dim=1)))


@cache
def network() -> AlphaNetwork:
    """The network with its shipped weights, on the CPU: it runs once per still."""
    made = AlphaNetwork().eval().requires_grad_(False)
    fill(made, load_tensors(WEIGHTS), str(WEIGHTS))
    return made


@torch.no_grad()
def refine(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The alpha of a figure whose rough mask is known.

    Args:
        picture: H x W x 3, `uint8`.
        mask: H x W, `float32` in [0, 1], enlarged from the networks' size.

    Returns:
        H x W, `float32` in [0, 1]; the mask itself far from its edge.
    """
    height, width = mask.shape
    scale = min(1.0, WORKING_SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    rough = mask if scale == 1 else cv2.resize(mask, size[::-1], interpolation=cv2.INTER_AREA)
    top, bottom, left, right = _edges(rough)
    if bottom <= top:
        return mask
    still = media.to_tensor(media.resize(picture, size)[None])[..., top:bottom, left:right]
    part = torch.from_numpy(np.ascontiguousarray(rough[top:bottom, left:right]))[None, None]
    refined = rough.copy()
    refined[top:bottom, left:right] = network()(still, part)[0, 0].numpy()
    return refined if scale == 1 else np.asarray(cv2.resize(refined, (width, height), interpolation=cv2.INTER_LINEAR))


def _edges(mask: np.ndarray, around: int = 16) -> tuple[int, int, int, int]:
    """The part of a mask that has an edge, with some pixels around: top, bottom, left, right."""
    rows, columns = np.nonzero((mask > 0.02).any(1))[0], np.nonzero((mask > 0.02).any(0))[0]
    if len(rows) == 0:
        return 0, 0, 0, 0
    (top, left), (bottom, right) = (rows[0], columns[0]), (rows[-1] + 1, columns[-1] + 1)
    height, width = mask.shape
    return max(0, top - around), min(height, bottom + around), max(0, left - around), min(width, right + around)
