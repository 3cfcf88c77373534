"""Layers that explain an animation, contact sheets, and what a model knows of structure (Sec. 4.2, B.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from stillmotion import geometry, media
from stillmotion.data.clip import evenly
from stillmotion.nn.modes import eval_mode
from stillmotion.rendering.canvas import to_network
from stillmotion.rendering.fields import STATIC, WARPED
from stillmotion.systems.pokes.config import PokesConfig
from stillmotion.systems.pokes.field_network import Context, FieldNetwork
from stillmotion.systems.pokes.handles import Handles

HAND = (255, 80, 40)

POKES = 1000
"""Random pokes of a correlation map."""

LENGTHS = 0.02, 0.15  # of the pokes, in sides of the picture

SEEN = 0.05
"""Least share of the pixels that come from one: below, it is hidden."""

_BATCH = 25


@torch.no_grad()
def moment_sheet(
    model: FieldNetwork, config: PokesConfig, clips: Sequence[Any], rows: int = 6, shown: int = 6, scale: int = 2
) -> np.ndarray:
    """Two rows per clip: true frames, and those predicted from the still and the true state of the handles.

    Args:
        model: the network.
        config: the system's.
        clips: at most `rows` are taken, evenly.
        rows: clips in the sheet.
        shown: frames of each.
        scale: enlargement.
    """
    from stillmotion.systems.pokes.data import moment_sample

    device, made = next(model.parameters()).device, []
    with eval_mode(model):
        for index in evenly(len(clips), rows):
            clip = clips[index]
            times = np.linspace(0, min(len(clip) - 1, config.fields.span), shown).round().astype(int)
            sample = {name: value.to(device) for name, value in moment_sample(clip, times).items()}
            context = model.begin(sample["frames"][:1], sample["plate"][None])
            handles = Handles(*(sample[name] for name in Handles._fields))
            output = model(model.expand(context, shown - 1), handles)
            true, predicted = (media.to_pictures(video) for video in (sample["frames"], output.frame))
            made += [np.concatenate(list(true), 1), np.concatenate([true[0], *predicted], 1)]
    return np.repeat(np.repeat(np.concatenate(made), scale, 0), scale, 1)


def draw_handles(still: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Handles over the still: a ring where each was, a line to the disc where it is.

    Args:
        still: H x W x 3, `uint8`.
        places: M x 4, (x, y) in its pixels and the offset.
    """
    thick = max(1, round(min(still.shape[:2]) / 120))
    image = Image.fromarray(still)
    draw = ImageDraw.Draw(image)
    for x, y, dx, dy in places.tolist():
        draw.line([(x, y), (x + dx, y + dy)], fill=HAND, width=thick)
        draw.ellipse([x - 3 * thick, y - 3 * thick, x + 3 * thick, y + 3 * thick], outline=HAND, width=thick)
        end = (x + dx - 2 * thick, y + dy - 2 * thick, x + dx + 2 * thick, y + dy + 2 * thick)
        draw.ellipse(end, fill=HAND)
    return np.asarray(image)


def draw_displacement(displacement: np.ndarray, full: float = 8.0, side: int = 256) -> np.ndarray:
    """A displacement as colours: hue is the direction in which things have gone, brightness the distance.

    Args:
        displacement: S x S x 2 pixels, backward.
        full: the distance in pixels of full brightness.
        side: the picture is enlarged to about this side.
    """
    x, y = -displacement[..., 0], -displacement[..., 1]
    hue = np.rint((np.arctan2(y, x) / (2 * np.pi) % 1) * 179)
    value = np.rint(255 * np.clip(np.hypot(x, y) / full, 0, 1))
    colours = cv2.cvtColor(np.stack([hue, np.full_like(hue, 200), value], -1).astype(np.uint8), cv2.COLOR_HSV2RGB)
    factor = max(1, round(side / len(colours)))
    return np.repeat(np.repeat(colours, factor, 0), factor, 1)


def draw_heat(still: np.ndarray, values: np.ndarray, at: tuple[float, float]) -> np.ndarray:
    """A heat map over a still, red where the values are near their largest, with a ring around a place.

    Args:
        still: H x W x 3, `uint8`.
        values: H x W in [0, 1].
        at: (x, y) in its pixels.
    """
    shares = values / max(float(values.max()), 1e-6)
    heat = cv2.applyColorMap(np.rint(255 * shares.clip(0, 1)).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    grey = np.repeat(still.mean(2, keepdims=True), 3, 2)
    shown = np.rint(0.45 * grey + 0.55 * heat).astype(np.uint8)
    return draw_handles(shown, np.array([[*at, 0.0, 0.0]]))


def draw_parts(still: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Parts in colours of their own over a still; labels H x W, 0 where there is none."""
    hues = np.stack([np.arange(count) * 180 // count, np.full(count, 220), np.full(count, 255)], 1).astype(np.uint8)
    colours = cv2.cvtColor(hues[None], cv2.COLOR_HSV2RGB)[0]
    table = np.concatenate([np.zeros((1, 3), np.uint8), colours])
    mixed = np.rint(0.45 * still + 0.55 * table[labels]).astype(np.uint8)
    return np.where(labels[..., None] > 0, mixed, still)


def draw_neighbours(still: np.ndarray, pictures: Sequence[np.ndarray]) -> np.ndarray:
    """A still and other pictures in a row, all of the still's size."""
    size = (still.shape[0], still.shape[1])
    return np.concatenate([still, *(media.resize(picture, size) for picture in pictures)], axis=1)


# --- structure ------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def correlation_map(
    networks: FieldNetwork, context: Context, place: Tensor, pokes: int, rng: np.random.Generator
) -> np.ndarray:
    """How much each pixel of a still moves as one place does, over random pokes of that place.

    Per poke, the distance of a pixel's motion from the poke; a pixel that goes with the place has none. The map is
    one minus the ratio of that distance's standard deviation over the pokes to the one of a pixel that never moves.

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
    """Where each pixel of a still has gone when a place has moved by some vectors, n x 2 to n x S x S x 2.

    All is normalised. The network says where pixels come from; each tells the pixels there (bilinearly, by its
    shares) how far they have gone. Pixels that nobody comes from count as unmoved.
    """
    count = len(vectors)
    ones = vectors.new_ones(count, 1)
    still = torch.zeros_like(vectors)[:, None]
    handles = Handles(place.expand(count, 1, 2), vectors[:, None], still, ones, ones)
    fields = networks(networks.expand(context, count), handles).fields
    size = (fields.displacement.shape[1], fields.displacement.shape[2])
    pixels = geometry.to_pixels(geometry.identity_grid(size, vectors) + fields.displacement, size)
    shares = fields.shares.permute(0, 2, 3, 1)
    values = torch.cat([-fields.displacement, torch.ones_like(shares[..., :1])], -1) * shares[..., WARPED, None]
    total = splat(values, pixels)
    return total[..., :2] / (total[..., 2:] + shares[..., STATIC, None]).clamp_min(SEEN)


def splat(values: Tensor, pixels: Tensor) -> Tensor:
    """Sums of values, n x h x w x C, at places in pixels, n x h x w x 2, each spread over the four pixels around."""
    count, height, width, channels = values.shape
    first, totals = pixels.floor(), values.new_zeros(count, height * width, channels)
    for dx in (0, 1):
        for dy in (0, 1):
            at = first + first.new_tensor([dx, dy])
            x, y = at.unbind(-1)
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            weight = (1 - (pixels - at).abs()).prod(-1) * inside
            index = (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).long().flatten(1)
            index = index[..., None].expand(-1, -1, channels)
            totals.scatter_add_(1, index, (values * weight[..., None]).flatten(1, 2))
    return totals.view_as(values)


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
    figure = (torch.sigmoid(context.figure)[0, 0] > 0.5).cpu().numpy()
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
        return networks.encode(to_network(picture, size, device))[-1].flatten()

    own = features(still)
    distances = [float((features(np.asarray(clip.frames[0])) - own).norm()) for clip in clips]
    return np.argsort(distances, kind="stable")
