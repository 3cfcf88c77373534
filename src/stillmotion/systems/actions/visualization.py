"""Pictures that explain what was found and generated: layers of a frame, sheets of translations and of tracks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stillmotion import media
from stillmotion.data.clip import evenly
from stillmotion.keypoints.networks import Keypoints
from stillmotion.keypoints.visualization import SHOWN, draw_keypoints, draw_paths
from stillmotion.nn.modes import eval_mode
from stillmotion.systems.actions.config import ActionsConfig
from stillmotion.systems.actions.networks import ActionsNetworks, FieldActionsNetworks
from stillmotion.systems.actions.performing import bare, next_window

DOT = 1e-6
"""Variance of a keypoint that is drawn as a dot alone."""


def draw_translation(seen: Tensor, painted: Tensor, kept: Tensor, mean: Tensor) -> dict[str, np.ndarray]:
    """Layers of a translated frame: `keypoints`, `mask` and `synthesized`; enlarged.

    Args:
        seen: the frame, 1 x 3 x S x S in [0, 1].
        painted: the synthesised image, the same shape.
        kept: the mask, 1 x 1 x S x S.
        mean: K x 2.
    """
    scale = max(1, round(SHOWN / seen.shape[2]))
    pictures = [media.to_pictures(each)[0] for each in (kept.expand(-1, 3, -1, -1), painted)]
    mask, synthesized = (np.repeat(np.repeat(each, scale, 0), scale, 1) for each in pictures)
    return {"keypoints": _dots(media.to_pictures(seen)[0], mean, scale), "mask": mask, "synthesized": synthesized}


def _dots(picture: np.ndarray, mean: Tensor, scale: int) -> np.ndarray:
    shape = np.tile(DOT * np.eye(2), (len(mean), 1, 1))
    return draw_keypoints(picture, mean.float().cpu().numpy(), shape, scale)


@torch.no_grad()
def translation_sheet(networks: ActionsNetworks, clips: Sequence[Any], rows: int = 8, scale: int = 2) -> np.ndarray:
    """Translations, a row per clip: still and target with keypoints, mask, synthesised image, result (Fig. 8)."""
    device = next(networks.parameters()).device
    strips = []
    with eval_mode(networks):
        for clip in (clips[i] for i in evenly(len(clips), rows)):
            frames = media.to_tensor(clip.frames[[0, min(10, len(clip.frames) - 1)]]).to(device)
            context = networks.encode(2 * frames[:1] - 1)
            target = networks.detector(2 * frames[1:] - 1)
            made = networks(context, target)
            kept = torch.zeros_like(frames[:1, :1]) if made.mask is None else made.mask
            shown = [kept.expand(-1, 3, -1, -1), (made.synthesized + 1) / 2, (made.frame + 1) / 2]
            plain = [media.to_pictures(each.float())[0] for each in shown]
            pictures = media.to_pictures(frames)
            cells = [_dots(pictures[0], context.keypoints[0], scale), _dots(pictures[1], target[0], scale)]
            cells += [np.repeat(np.repeat(cell, scale, 0), scale, 1) for cell in plain]
            strips.append(np.concatenate(cells, axis=1))
    return np.concatenate(strips, axis=0)


@torch.no_grad()
def track_sheet(
    networks: ActionsNetworks | FieldActionsNetworks,
    config: ActionsConfig,
    items: Sequence[Mapping[str, Any]],
    side: int = 160,
) -> tuple[np.ndarray, float | None]:
    """The keypoints' paths, a row per item: of the clip, and of two performances of the same action.

    Args:
        networks: of the system.
        config: of the system.
        items: of `KeypointSequences`.
        side: of a cell in pixels.

    Returns:
        The sheet; and how far the two performances differ, over how far clips of one action do (root mean square of
        the keypoints' distances, from their first places), or None where no two items have the same action.
    """
    device, generator = next(networks.parameters()).device, torch.Generator().manual_seed(0)
    ground, rows, made = np.full((side, side, 3), 24, np.uint8), [], []
    with eval_mode(networks):
        for item in items:
            first = item["first"].to(device)
            shape = first[None, :, 2:].unflatten(-1, (2, 2)) if first.shape[-1] > 2 else bare(first[None]).covariance
            past = Keypoints(first[None, None, :, :2], shape[None])
            action, seen_from = (int(item.get(key, -1)) for key in ("action", "side"))
            asked = None if action < 0 else action, None if seen_from < 0 else seen_from
            two = [next_window(networks, config, past, *asked, generator).mean.cpu() for _ in range(2)]
            made.append((action, item["points"][..., :2] - item["first"][:, :2], *two))
            tracks = [torch.cat([item["first"][None, :, :2], each[..., :2]]) for each in (item["points"], *two)]
            rows.append(np.concatenate([draw_paths(ground, track.numpy()) for track in tracks], axis=1))
    return np.concatenate(rows), _diversity(made)


def _diversity(made: Sequence[tuple[int, Tensor, Tensor, Tensor]]) -> float | None:
    real = [
        float((a[1] - b[1]).square().mean().sqrt())
        for i, a in enumerate(made)
        for b in made[:i]
        if a[0] == b[0] and a[1].shape == b[1].shape
    ]
    if not real:
        return None
    frames = min(len(made[0][1]), len(made[0][2]))
    own = [float((one[:frames] - other[:frames]).square().mean().sqrt()) for _, _, one, other in made]
    return sum(own) / len(own) / max(sum(real) / len(real), 1e-6)
