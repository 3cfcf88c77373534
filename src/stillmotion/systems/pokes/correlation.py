"""What a model knows of an object's structure (Sec. 4.2, B.3): correlation maps, parts, nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from stillmotion import geometry
from stillmotion.rendering.canvas import to_network
from stillmotion.systems.pokes.field_network import Context, FieldNetwork
from stillmotion.systems.pokes.handles import Handles

POKES = 1000
"""Random pokes of a correlation map."""

LENGTHS = 0.03, 0.25  # of the pokes, in sides of the picture
_BATCH = 25
_INVERSIONS = 6


@torch.inference_mode()
def correlation_map(
    networks: FieldNetwork, context: Context, place: Tensor, pokes: int, rng: np.random.Generator
) -> np.ndarray:
    """How much each pixel of a still moves as one place does, over random pokes of that place.

    Per poke, the distance of a pixel's motion from the poke; a pixel that goes with the place has none. The map is one
    minus the ratio of that distance's standard deviation over the pokes to the one of a pixel that never moves.

    Args:
        networks: for inference.
        context: of one still.
        place: 2, normalised.
        pokes: how many.
        rng: directions and lengths are drawn from it.

    Returns:
        S x S, `float32` in [0, 1].
    """
    size = (context.still.shape[2], context.still.shape[3])
    angles, lengths = rng.uniform(0, 2 * np.pi, pokes), 2 * rng.uniform(*LENGTHS, pokes)
    vectors = torch.from_numpy(np.stack([np.cos(angles), np.sin(angles)], 1) * lengths[:, None]).float()
    distances = []
    for part in vectors.to(place.device).split(_BATCH):
        motion = forward_motion(networks, context, place, part)  # n x S x S x 2
        distances.append((motion - part[:, None, None]).norm(dim=-1).cpu())
    deviation = torch.cat(distances).std(dim=0)
    unmoved = float(np.std(lengths, ddof=1)) if pokes > 1 else 1.0
    return np.asarray((1 - deviation / max(unmoved, 1e-6)).clamp(0, 1).view(size).numpy())


def forward_motion(networks: FieldNetwork, context: Context, place: Tensor, vectors: Tensor) -> Tensor:
    """Where each pixel of a still has gone when a place has moved by some vectors; n x 2 to n x S x S x 2, normalised.

    The network says where pixels come from; its inverse is found by fixed-point iteration.
    """
    count = len(vectors)
    ones = vectors.new_ones(count, 1)
    still = torch.zeros_like(vectors)[:, None]
    handles = Handles(place.expand(count, 1, 2), vectors[:, None], still, ones, ones)
    fields = networks(networks.expand(context, count), handles).fields
    maps = fields.displacement.permute(0, 3, 1, 2)
    grid = geometry.identity_grid((maps.shape[2], maps.shape[3]), maps)
    motion = torch.zeros_like(fields.displacement)
    for _ in range(_INVERSIONS):
        motion = -geometry.warp(maps, grid + motion, padding="border").permute(0, 2, 3, 1)
    return motion


def find_parts(
    networks: FieldNetwork, context: Context, parts: int, rng: np.random.Generator, places: int = 32, pokes: int = 100
) -> np.ndarray:
    """Parts of a still's object: pixels whose correlations with many places are alike (k-means).

    Args:
        networks: for inference.
        context: of one still.
        parts: how many.
        rng: for the places, the pokes and the clustering.
        places: how many places are poked.
        pokes: of each.

    Returns:
        S x S, `uint8`: 0 is background, parts count from 1; all 0 where no figure is found.
    """
    figure = (torch.sigmoid(networks.figure(context))[0, 0] > 0.5).cpu().numpy()
    rows, columns = np.nonzero(figure)
    if len(rows) < parts:
        return np.zeros(figure.shape, np.uint8)
    chosen = rng.choice(len(rows), size=min(places, len(rows)), replace=False)
    points = torch.from_numpy(np.stack([columns[chosen], rows[chosen]], 1)).float()
    normalised = geometry.to_normalised(points, figure.shape).to(context.still.device)
    maps = [correlation_map(networks, context, place, pokes, rng)[figure] for place in normalised]
    cv2.setRNGSeed(int(rng.integers(2**31)))
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 50, 1e-4)
    values = np.ascontiguousarray(np.stack(maps, 1), np.float32)
    _, labels, _ = cv2.kmeans(values, parts, None, stop, 5, cv2.KMEANS_PP_CENTERS)  # type: ignore[call-overload]
    found = np.zeros(figure.shape, np.uint8)
    found[figure] = labels[:, 0] + 1
    return found


@torch.inference_mode()
def nearest_neighbours(networks: FieldNetwork, still: np.ndarray, clips: Sequence[Any], size: int) -> np.ndarray:
    """The order of clips by the distance of their first frames from a still, in the object encoder's features (B.3).

    Args:
        networks: for inference.
        still: H x W x 3, `uint8`.
        clips: with `frames`.
        size: the side of the networks' frames.
    """
    device = next(networks.parameters()).device

    def features(picture: np.ndarray) -> Tensor:
        return networks.encoder(to_network(picture, size, device))[-1].flatten()

    own = features(still)
    distances = [float((features(np.asarray(clip.frames[0])) - own).norm()) for clip in clips]
    return np.argsort(distances, kind="stable")
