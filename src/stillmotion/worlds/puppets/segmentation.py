"""Segmentation: the part seen at each pixel, which with the parts' own affine maps gives the exact flow."""

from __future__ import annotations

import cv2
import numpy as np

from stillmotion.worlds.compositing import coarse_windows, warp_to_window


def to_pixels(transforms: np.ndarray, factor: int) -> np.ndarray:
    """Return maps (T x 2 x 3) into pixels of the picture from maps into a canvas `factor` times as fine."""
    moved = transforms / factor
    moved[..., 2] += 0.5 / factor - 0.5
    return moved


def part_labels(
    images: list[np.ndarray], maps: list[np.ndarray], windows: list[np.ndarray], mask: np.ndarray, factor: int
) -> np.ndarray:
    """Return the part that covers the largest share of each pixel.

    Args:
        images: the parts' sprites (RGBA), from back to front.
        maps: of each, T x 2 x 3, from its sprite's pixels to the picture's.
        windows: of each, T x 4, the part of the canvas that it covers.
        mask: T x H x W, the person.
        factor: samples of the canvas per pixel and axis.

    Returns:
        uint8, T x H x W: 1 + the index of the part, 0 outside the mask.
    """
    # Averaged over about a pixel of the picture, to be sampled at its centre.
    alphas = [
        cv2.blur(np.ascontiguousarray(image[..., 3]), (3, 3), borderType=cv2.BORDER_CONSTANT) for image in images
    ]
    size = mask.shape[1]
    spans = [coarse_windows(window, factor, size) for window in windows]
    labels = np.zeros_like(mask)
    for t in range(len(mask)):
        shares = np.zeros((size, size), np.float32)
        for number, (alpha, transform, span) in enumerate(zip(alphas, maps, spans, strict=True), start=1):
            found = warp_to_window(alpha, transform[t], span[t])
            if found is None:
                continue
            share, region = found
            behind = shares[region]
            # A part in front covers all parts behind it alike, so the largest of them stays the largest.
            behind *= 1 - share
            labels[t][region][share > behind] = number
            np.maximum(behind, share, out=behind)
        # A pixel of the mask without a part takes a neighbour's label.
        dilated = cv2.dilate(labels[t], np.ones((3, 3), np.uint8))
        labels[t] = np.where(mask[t] > 0, np.where(labels[t] == 0, dilated, labels[t]), 0)
    return labels
