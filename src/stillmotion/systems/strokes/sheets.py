"""Contact sheets of what the networks make, for looking at while they train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from stillmotion import media
from stillmotion.data.sampling import window_starts
from stillmotion.systems.strokes.networks import StrokesNetworks
from stillmotion.systems.strokes.windows import TRACK, usable


@torch.no_grad()
def roll_out(networks: StrokesNetworks, still: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Frames after a still, as the networks make them from their own states.

    Args:
        networks: in eval mode.
        still: s x s x 3 `uint8`.
        points: T x 2, (x, y) pixels.

    Returns:
        T x s x s x 3 `uint8`; the first is the still.
    """
    device = next(networks.parameters()).device
    first = torch.from_numpy(media.to_float(still[None])).to(device) * 2 - 1
    context = networks.begin(first, torch.from_numpy(np.asarray(points, np.float32))[None].to(device))
    state, frames = context.initial, [first]
    for t in range(len(points) - 1):
        state, frame = networks.advance(context, state, t)
        frames.append(frame)
    pictures = ((torch.cat(frames).float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return pictures.permute(0, 2, 3, 1).cpu().numpy()


def rollout_sheet(
    networks: StrokesNetworks, clips: Sequence[Any], rows: int = 6, shown: int = 8, scale: int = 2
) -> np.ndarray:
    """Two rows per clip: the stroke over the still and true frames; below, the frames made at those times.

    Args:
        networks: put into eval mode while it draws.
        clips: with usable windows (see `windows.with_points`); at most `rows` are taken, evenly.
        rows: clips in the sheet.
        shown: frames of each.
        scale: enlargement.
    """
    modes = {part: part.training for part in networks.modules()}
    networks.eval()
    config, strips = networks.config, []
    for i in np.unique(np.linspace(0, len(clips) - 1, rows).round().astype(int)):
        points = np.asarray(clips[i].tracks[TRACK], np.float32)
        start = window_starts(usable(clips[i], config), config.frames, config.frame_step)[0]
        chosen = start + np.arange(config.frames) * config.frame_step
        truth, points = clips[i].frames[chosen], points[chosen]
        made = roll_out(networks, truth[0], points)
        at = np.linspace(0, len(chosen) - 1, shown).round().astype(int)
        real = [draw_stroke(truth[0], points, scale), *(enlarged(truth[j], scale) for j in at[1:])]
        strips += [np.concatenate(real, 1), np.concatenate([enlarged(made[j], scale) for j in at], 1)]
    for part, mode in modes.items():
        part.training = mode
    return np.concatenate(strips, axis=0)


def enlarged(picture: np.ndarray, scale: int) -> np.ndarray:
    """Every pixel becomes scale x scale."""
    return np.repeat(np.repeat(picture, scale, 0), scale, 1)


def draw_stroke(still: np.ndarray, points: np.ndarray, scale: int = 1) -> np.ndarray:
    """A stroke over a still: a line from blue to red, a dot per point; H x W x 3 `uint8`, T x 2 pixels."""
    picture = Image.fromarray(enlarged(still, scale))
    draw = ImageDraw.Draw(picture)
    places = [(float(x), float(y)) for x, y in (points + 0.5) * scale - 0.5]
    for i in range(1, len(places)):
        red = round(255 * i / max(len(places) - 1, 1))
        draw.line([places[i - 1], places[i]], fill=(red, 80, 255 - red), width=max(1, scale // 2))
    for x, y in places:
        draw.point((x, y), fill=(255, 255, 0))
    return np.asarray(picture)
