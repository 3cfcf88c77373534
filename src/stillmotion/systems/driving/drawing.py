"""Pictures that explain what the networks found: keypoints, masks, flow."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from stillmotion import geometry, media
from stillmotion.systems.driving.networks import DrivingNetworks, Keypoints


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


def draw_paths(frame: np.ndarray, paths: np.ndarray) -> np.ndarray:
    """The way of every keypoint over a still: a line each, with a dot where it starts.

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


def draw_masks(masks: np.ndarray) -> np.ndarray:
    """Which keypoint moves which pixel: colours mixed by the masks, the background dark.

    Args:
        masks: (K+1) x H x W, background first, summing to one.

    Returns:
        H x W x 3, `uint8`.
    """
    colours = np.array([(40, 40, 40), *palette(len(masks) - 1)], dtype=np.float32)
    return np.rint(np.einsum("khw,kc->hwc", masks, colours)).clip(0, 255).astype(np.uint8)


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


def to_pictures(frames: Tensor) -> np.ndarray:
    """N x 3 x H x W in [0, 1] to N x H x W x 3 `uint8`."""
    return (frames.float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


@torch.no_grad()
def keypoint_sheet(model: DrivingNetworks, clips: Sequence[Any], rows: int = 8, shown: int = 6) -> np.ndarray:
    """A contact sheet of frames with their keypoints: one row per clip, at most `rows`, `shown` frames each."""
    strips = []
    for clip in evenly(clips, rows):
        frames = to_frames(clip.frames[np.linspace(0, len(clip.frames) - 1, shown).round().astype(int)])
        found = model.detector(frames)
        cells = [
            draw_keypoints(picture, mean.numpy(), covariance.numpy(), scale=3)
            for picture, mean, covariance in zip(to_pictures(frames), found.mean, found.covariance, strict=True)
        ]
        strips.append(np.concatenate(cells, axis=1))
    return np.concatenate(strips, axis=0)


def evenly(clips: Sequence[Any], count: int) -> list[Any]:
    """At most `count` of the clips, evenly spaced."""
    return [clips[i] for i in np.unique(np.linspace(0, len(clips) - 1, count).round().astype(int))]


def to_frames(pictures: np.ndarray) -> Tensor:
    """N x H x W x 3 `uint8` to N x 3 x H x W in [0, 1]."""
    return torch.from_numpy(media.to_float(pictures))


@torch.no_grad()
def pair_sheet(model: DrivingNetworks, clips: Sequence[Any], rows: int = 8, scale: int = 2) -> np.ndarray:
    """A contact sheet of reconstructions, one row per clip: still, driving frame with keypoints, made, warped, masks.

    Args:
        model: put into eval mode while it draws.
        clips: things with `frames` (T x S x S x 3 `uint8`); at most `rows` are taken, evenly.
        rows: rows in the sheet.
        scale: enlargement of the 64-pixel frames.
    """
    was_training = model.training
    model.eval()
    strips = []
    for clip in evenly(clips, rows):
        at = [0, len(clip.frames) // 4, len(clip.frames) // 2, 3 * len(clip.frames) // 4]
        frames = to_frames(clip.frames[at])
        found = model.detector(frames)
        source = Keypoints(*(part[:1].expand_as(part) for part in found))
        features = [f.expand(len(at), -1, -1, -1) for f in model.generator.encode(frames[:1])]
        made = model.generator(features, source, found)
        pictures, warped, generated = (to_pictures(x) for x in (frames, made.warped, made.frame))
        cells = [
            draw_keypoints(pictures[i], found.mean[i].numpy(), found.covariance[i].numpy(), scale)
            for i in range(len(at))
        ]
        plain = [generated[i] for i in (1, 2, 3)] + [warped[i] for i in (1, 2)]
        if made.motion.masks is not None:
            size: geometry.Size = (frames.shape[2], frames.shape[3])
            masks = geometry.resize_map(made.motion.masks, size)
            plain += [draw_masks(masks[i].numpy()) for i in (1, 2)]
        if made.keep is not None:
            shares = torch.cat([made.keep, 1 - made.keep.sum(dim=1, keepdim=True)], dim=1)
            plain += [to_pictures(shares)[1]]  # red: warped, green: unmoved, blue: painted
        cells += [np.repeat(np.repeat(cell, scale, 0), scale, 1) for cell in plain]
        strips.append(np.concatenate(cells, axis=1))
    model.train(was_training)
    return np.concatenate(strips, axis=0)
