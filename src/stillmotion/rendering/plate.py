"""The plate: a still's background, inpainted behind its figure."""

import cv2
import numpy as np

MARGIN = 1 / 32
"""Of the longer side: how far the figure is widened before the background is inpainted behind it. A mask at the
networks' size is right to about a pixel of theirs, and what it leaves out would stay in the plate as a ghost."""

RADIUS = 3
"""In pixels: the neighbourhood that a colour is taken from."""

WORKING_SIDE = 512
"""Larger stills are inpainted at this side: what is invented has no finer detail, and the time would grow with it."""


def widened(mask: np.ndarray, margin: float = MARGIN) -> np.ndarray:
    """A mask (H x W truth values) grown by a share of its longer side, at least a pixel; `uint8`, 0 or 1."""
    reach = max(1, round(margin * max(mask.shape)))
    # A dilation's time grows with the square of its reach: seconds for a still of 4000 pixels.
    distance = cv2.distanceTransform((mask == 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    return (distance <= reach).astype(np.uint8)


def inpaint(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A picture with the masked part filled from its surroundings (Bertalmio et al. 2001); the rest stays as it is.

    Telea's method (2004), as OpenCV has it, gets brighter by a grey level every dozen pixels from the border.

    Args:
        picture: H x W x 3, `uint8`.
        mask: H x W, 0 where the picture stays. If that is too little to fill from, its mean is taken; a mask of
            everything gives the mean of the picture.
    """
    mask = mask > 0
    height, width = mask.shape
    scale = min(1.0, WORKING_SIDE / max(height, width))
    small, hidden = picture, mask.astype(np.uint8)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        # What has any masked pixel in it is hidden, however thin the mask.
        hidden = (cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)
    if hidden.all():
        known = picture[mask.all() | ~mask]
        return np.where(mask[..., None], known.mean(0).round().astype(np.uint8), picture)
    filled = cv2.inpaint(small, hidden, RADIUS, cv2.INPAINT_NS)
    if scale < 1:
        filled = cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.where(mask[..., None], filled, picture)
