"""Layers that explain an animation (handles, displacement), and contact sheets of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw

from stillmotion import media
from stillmotion.data.clip import evenly
from stillmotion.nn.modes import eval_mode
from stillmotion.systems.pokes.config import PokesConfig
from stillmotion.systems.pokes.field_network import FieldNetwork
from stillmotion.systems.pokes.handles import Handles

HAND = (255, 80, 40)


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
    """A heat map over a still, red where the values are near one, with a ring around a place.

    Args:
        still: H x W x 3, `uint8`.
        values: H x W in [0, 1].
        at: (x, y) in its pixels.
    """
    heat = cv2.applyColorMap(np.rint(255 * values.clip(0, 1)).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
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
