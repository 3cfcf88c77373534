"""Contact sheets of what the networks make, for looking at while they train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from stillmotion.data.sampling import window_starts
from stillmotion.nn.modes import eval_mode
from stillmotion.systems.strokes.drawing import draw_stroke, to_frames, to_picture
from stillmotion.systems.strokes.networks import StrokesNetworks
from stillmotion.systems.strokes.objectives import held
from stillmotion.systems.strokes.windows import Masks, before_grey, stroke_of, usable


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
    stroke = torch.from_numpy(np.asarray(points, np.float32))[None].to(device)
    context = networks.begin(to_frames(still[None]).to(device), stroke)
    state, pictures = context.initial, [still]
    for t in range(len(points) - 1):
        state, frame = networks.advance(context, state, t)
        pictures.append(to_picture(frame.clamp(-1, 1)))
    return np.stack(pictures)


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
    with eval_mode(networks):
        return np.concatenate([row for clip in _spread(clips, rows) for row in _rolled(networks, clip, shown, scale)])


def _rolled(networks: StrokesNetworks, clip: Any, shown: int, scale: int) -> list[np.ndarray]:
    config = networks.config
    start = window_starts(usable(clip, config), config.frames, config.frame_step)[0]
    chosen = start + np.arange(config.frames) * config.frame_step
    truth, points = clip.frames[chosen], stroke_of(clip, config)[chosen]
    made = roll_out(networks, truth[0], points)
    at = np.linspace(0, len(chosen) - 1, shown).round().astype(int)
    above, below = (np.repeat(np.repeat(frames[at], scale, 1), scale, 2) for frames in (truth, made))
    first = draw_stroke(above[0], (points + 0.5) * scale - 0.5)
    return [np.concatenate([first, *above[1:]], 1), np.concatenate(list(below), 1)]


def _spread(clips: Sequence[Any], count: int) -> list[Any]:
    return [clips[i] for i in np.unique(np.linspace(0, len(clips) - 1, count).round().astype(int))]


@torch.no_grad()
def painting_sheet(networks: StrokesNetworks, clips: Sequence[Any], rows: int = 6, shown: int = 8) -> np.ndarray:
    """Two rows per clip: true frames, and below what G makes of E1's code of each, over the first of them.

    Args:
        networks: put into eval mode while it draws.
        clips: with usable windows; at most `rows` are taken, evenly.
        rows: clips in the sheet.
        shown: frames of each.
    """
    with eval_mode(networks):
        return np.concatenate([row for clip in _spread(clips, rows) for row in _painted(networks, clip, shown)])


def _painted(networks: StrokesNetworks, clip: Any, count: int) -> list[np.ndarray]:
    config, device = networks.config, next(networks.parameters()).device
    known = np.flatnonzero(usable(clip, config))
    chosen = known[np.linspace(0, len(known) - 1, count).round().astype(int)]
    truth = np.asarray(clip.frames[chosen])
    stroke = torch.from_numpy(stroke_of(clip, config)[chosen]).to(device)
    points = torch.stack([stroke[:1].expand_as(stroke), stroke], dim=1)
    frames = to_frames(truth).to(device)
    context = networks.begin(frames[:1].expand_as(frames), points)
    shown = frames
    if config.plain_wall:
        shown = before_grey((frames + 1) / 2, Masks().window(clip, chosen).to(device)) * 2 - 1
    codes = networks.encoder(held(shown, points, 1, config))
    made = networks.draw(context, codes, 0).frame.clamp(-1, 1)
    return [np.concatenate(list(truth), 1), np.concatenate([to_picture(one[None]) for one in made], 1)]
