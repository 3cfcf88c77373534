"""The plate: a still's background, inpainted behind its figure."""

import cv2
import numpy as np

MARGIN = 1 / 32
"""Of the longer side: how far the figure is widened before the background is inpainted behind it. A mask at the
networks' size is right to about a pixel of theirs, and what it leaves out would stay in the plate as a ghost."""

RADIUS = 3
"""In pixels: the neighbourhood that Telea's method (2004) takes a colour from."""

WORKING_SIDE = 512
"""Larger stills are inpainted at this side: what is invented has no finer detail, and the time would grow with it."""


def widened(mask: np.ndarray, margin: float = MARGIN) -> np.ndarray:
    """A mask (H x W truth values) grown by a share of its longer side, at least a pixel; `uint8`, 0 or 1."""
    reach = max(1, round(margin * max(mask.shape)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel))


def inpaint(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A picture with the masked part filled from its surroundings (Telea 2004); the rest stays as it is.

    Args:
        picture: H x W x 3, `uint8`.
        mask: H x W, 0 where the picture stays. A mask of everything leaves nothing to fill from: the picture's mean.
    """
    mask = (mask > 0).astype(np.uint8)
    if mask.all():
        return np.broadcast_to(picture.mean((0, 1)).round().astype(np.uint8), picture.shape).copy()
    if not mask.any():
        return picture.copy()
    scale = WORKING_SIDE / max(picture.shape[:2])
    if scale >= 1:
        return np.asarray(cv2.inpaint(picture, mask, RADIUS, cv2.INPAINT_TELEA))
    height, width = (max(1, round(side * scale)) for side in mask.shape)
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    hidden = cv2.dilate(cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA), np.ones((3, 3), np.uint8))
    filled = cv2.inpaint(small, hidden, RADIUS, cv2.INPAINT_TELEA)
    large = cv2.resize(filled, (mask.shape[1], mask.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.where(mask[..., None] > 0, large, picture)
