"""Pictures that explain what the networks found, and contact sheets for previews."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from stillmotion import geometry, media
from stillmotion.data.clip import evenly
from stillmotion.keypoints.data import detect
from stillmotion.keypoints.networks import (
    GeneratorOutput,
    KeypointDetector,
    KeypointNetworks,
    Keypoints,
    gather_inputs,
)
from stillmotion.nn.modes import eval_mode

SHOWN = 256
"""Layers are enlarged to about this side."""


def palette(count: int) -> list[tuple[int, int, int]]:
    """`count` clearly different RGB colours."""
    colours = [colorsys.hsv_to_rgb(i / count, 0.85, 1.0) for i in range(count)]
    return [(round(255 * r), round(255 * g), round(255 * b)) for r, g, b in colours]


def draw_keypoints(frame: np.ndarray, mean: np.ndarray, covariance: np.ndarray, scale: int = 1) -> np.ndarray:
    """Keypoints as dots with one-sigma ellipses.

    Args:
        frame: H x W x 3, `uint8`.
        mean: K x 2, normalised (x, y).
        covariance: K x 2 x 2, normalised.
        scale: enlarge the picture this many times first.
    """
    height, width = frame.shape[0] * scale, frame.shape[1] * scale
    picture = Image.fromarray(frame).resize((width, height), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(picture)
    half = np.array([(width - 1) / 2, (height - 1) / 2])
    radius = max(1.5, min(width, height) / 60)
    turn = np.linspace(0, 2 * np.pi, 25)
    circle = np.stack([np.cos(turn), np.sin(turn)])
    for point, spread, colour in zip(mean, covariance, palette(len(mean)), strict=True):
        values, vectors = np.linalg.eigh(spread)
        ellipse = vectors @ (np.sqrt(np.clip(values, 0, None))[:, None] * circle)
        outline = (ellipse.T + point + 1) * half
        draw.line([tuple(p) for p in outline], fill=colour)
        x, y = (point + 1) * half
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
    return np.asarray(picture)


def draw_masks(masks: np.ndarray) -> np.ndarray:
    """Which keypoint moves which pixel: colours mixed by the masks, the background dark.

    Args:
        masks: (K+1) x H x W, background first, summing to one.

    Returns:
        H x W x 3, `uint8`.
    """
    colours = np.array([(40, 40, 40), *palette(len(masks) - 1)], dtype=np.float32)
    return np.rint(np.einsum("khw,kc->hwc", masks, colours)).clip(0, 255).astype(np.uint8)


def draw_shares(shares: Tensor) -> np.ndarray:
    """Which source shows where, 4 x H x W: the moved still red, the unmoved one green, plate blue, paint white."""
    colours = shares.new_tensor([[1.0, 0.2, 0.2], [0.1, 0.4, 0.1], [0.2, 0.3, 1.0], [1.0, 1.0, 1.0]])
    return media.to_pictures(torch.einsum("khw,kc->chw", shares, colours)[None])[0]


def draw_flow(displacement: np.ndarray, full: float = 0.25) -> np.ndarray:
    """A flow field as hue (direction) and saturation (length, full at `full` normalised units) on white.

    Args:
        displacement: H x W x 2, normalised.
        full: the length drawn in full colour.

    Returns:
        H x W x 3, `uint8`.
    """
    angle = np.arctan2(displacement[..., 1], displacement[..., 0])
    length = np.clip(np.linalg.norm(displacement, axis=-1) / full, 0, 1)
    hue = np.rint((angle / (2 * np.pi) % 1) * 255)
    hsv = np.stack([hue, np.rint(length * 255), np.full_like(hue, 255)], -1).astype(np.uint8)
    return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))


def draw_paths(frame: np.ndarray, paths: np.ndarray) -> np.ndarray:
    """The path of every keypoint over a still: a line each, with a dot where it starts.

    Args:
        frame: H x W x 3, `uint8`.
        paths: T x K x 2, normalised (x, y).
    """
    height, width = frame.shape[:2]
    picture = Image.fromarray(frame)
    draw = ImageDraw.Draw(picture)
    places = (paths + 1) * np.array([(width - 1) / 2, (height - 1) / 2])
    thick = max(1, round(min(height, width) / 120))
    for k, colour in enumerate(palette(paths.shape[1])):
        draw.line([(float(x), float(y)) for x, y in places[:, k]], fill=colour, width=thick)
        x, y = places[0, k]
        draw.ellipse([x - 2 * thick, y - 2 * thick, x + 2 * thick, y + 2 * thick], fill=colour)
    return np.asarray(picture)


def draw_layers(
    shown: GeneratorOutput, target: Keypoints, driving: tuple[Tensor, Keypoints] | None
) -> dict[str, np.ndarray]:
    """The layers of one frame: `driving` (if there is one), `keypoints`, `flow`, `warped`, `masks`; enlarged.

    Args:
        shown: what was generated, a batch of one.
        target: its keypoints, 1 x K.
        driving: the driving frame, 1 x 3 x S x S, and its keypoints.
    """
    size = shown.frame.shape[2]
    scale = max(1, round(SHOWN / size))

    def enlarged(picture: np.ndarray) -> np.ndarray:
        factor = scale * size // picture.shape[0]
        return np.repeat(np.repeat(picture, factor, 0), factor, 1)

    def marked(frame: Tensor, points: Keypoints) -> np.ndarray:
        picture = media.to_pictures(frame)[0]
        return draw_keypoints(picture, points.mean[0].cpu().numpy(), points.covariance[0].cpu().numpy(), scale)

    pictures = {} if driving is None else {"driving": marked(*driving)}
    pictures |= {
        "keypoints": marked(shown.frame, target),
        "flow": enlarged(draw_flow(shown.motion.displacement[0].cpu().numpy())),
        "warped": enlarged(media.to_pictures(shown.warped)[0]),
    }
    if shown.motion.masks is not None:
        pictures["masks"] = enlarged(draw_masks(shown.motion.masks[0].cpu().numpy()))
    return pictures


# --- contact sheets, for previews while training -------------------------------------------------------------------


@torch.no_grad()
def keypoint_sheet(detector: KeypointDetector, clips: Sequence[Any], rows: int = 8, shown: int = 6) -> np.ndarray:
    """Frames with their keypoints: one row per clip, at most `rows`, `shown` frames each."""
    strips = []
    for clip in (clips[i] for i in evenly(len(clips), rows)):
        frames = np.asarray(clip.frames[np.linspace(0, len(clip.frames) - 1, shown).round().astype(int)])
        found = detect(detector, frames)
        cells = [
            draw_keypoints(picture, mean.numpy(), covariance.numpy(), scale=3)
            for picture, mean, covariance in zip(frames, *found, strict=True)
        ]
        strips.append(np.concatenate(cells, axis=1))
    return np.concatenate(strips, axis=0)


@torch.no_grad()
def pair_sheet(networks: KeypointNetworks, clips: Sequence[Any], rows: int = 8, scale: int = 2) -> np.ndarray:
    """Reconstructions, one row per clip: driving frames with keypoints, generated, warped, masks, blend.

    Args:
        networks: put into eval mode while it draws.
        clips: things with `frames` (T x S x S x 3 `uint8`); at most `rows` are taken, evenly.
        rows: rows in the sheet.
        scale: enlargement of the frames.
    """
    device = next(networks.parameters()).device
    strips = []
    with eval_mode(networks):
        for clip in (clips[i] for i in evenly(len(clips), rows)):
            at = [0, len(clip.frames) // 4, len(clip.frames) // 2, 3 * len(clip.frames) // 4]
            frames = media.to_tensor(clip.frames[at]).to(device)
            inputs = gather_inputs(networks, frames[:1], frames)
            strips.append(_pair_row(frames, inputs.target, networks(inputs), scale))
    return np.concatenate(strips, axis=0)


def _pair_row(frames: Tensor, found: Keypoints, made: GeneratorOutput, scale: int) -> np.ndarray:
    pictures, warped, generated = (media.to_pictures(x) for x in (frames, made.warped, made.frame))
    means, covariances = (part.cpu().numpy() for part in found)
    cells = [
        draw_keypoints(picture, mean, covariance, scale)
        for picture, mean, covariance in zip(pictures, means, covariances, strict=True)
    ]
    plain = [generated[i] for i in (1, 2, 3)] + [warped[i] for i in (1, 2)]
    if made.motion.masks is not None:
        masks = geometry.resize_map(made.motion.masks, (frames.shape[2], frames.shape[3])).cpu()
        plain += [draw_masks(masks[i].numpy()) for i in (1, 2)]
    if made.fields is not None:
        plain += [draw_shares(made.fields.shares[1])]
    cells += [np.repeat(np.repeat(cell, scale, 0), scale, 1) for cell in plain]
    return np.concatenate(cells, axis=1)
