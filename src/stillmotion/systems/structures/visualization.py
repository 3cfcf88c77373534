"""Pictures that explain what was generated, and contact sheets of what the stages learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stillmotion import media
from stillmotion.keypoints.visualization import SHOWN, palette
from stillmotion.nn.modes import eval_mode
from stillmotion.systems.structures.config import StructuresConfig
from stillmotion.systems.structures.data import FIELD_INPUTS, field_inputs, structure_maps
from stillmotion.systems.structures.fields import FieldForecast
from stillmotion.systems.structures.forecasting import ForecastNetwork, PosePredictor
from stillmotion.systems.structures.networks import predict, refinement_inputs
from stillmotion.systems.structures.refinement import RefinementNetwork
from stillmotion.systems.structures.structure_maps import pose_maps, vector_poses

COLUMNS = 8
"""Frames that a sheet shows of a clip or of poses."""


def draw_structure(structure: Tensor, kind: str) -> np.ndarray:
    """A structure map as a picture, S x S x 3, `uint8`.

    Args:
        structure: C x S x S.
        kind: `normals`: x, y, z as red, green and blue from -1 to 1, black where there is no face; else heat maps,
            each in a colour of its own, the strongest showing.
    """
    maps = structure.float().cpu()
    if kind == "normals":
        seen = (maps != 0).any(0)
        return media.to_pictures(((maps + 1) / 2 * seen)[None])[0]
    colours = torch.tensor(palette(len(maps)), dtype=torch.float32) / 255  # C x 3
    strength, strongest = maps.max(0)
    return media.to_pictures((strength * colours[strongest].permute(2, 0, 1))[None])[0]


def draw_layers(
    structure: Tensor, kind: str, mask: Tensor, content: Tensor, coarse: Tensor | None
) -> dict[str, np.ndarray]:
    """Layers of a frame: `structure`, `mask`, `content`, and `forecast` where there is one; enlarged.

    Args:
        structure: C x S x S.
        kind: of it, see `draw_structure`.
        mask: 1 x S x S in [0, 1], what is replaced of the still.
        content: 3 x S x S in [-1, 1], G_M's.
        coarse: 3 x S x S in [-1, 1], the frame before it was refined; None if it was not.
    """
    pictures = {
        "structure": draw_structure(structure, kind),
        "mask": media.to_pictures(mask[None].float().expand(-1, 3, -1, -1))[0],
        "content": media.to_pictures((content[None].float() + 1) / 2)[0],
    }
    if coarse is not None:
        pictures["forecast"] = media.to_pictures((coarse[None].float() + 1) / 2)[0]
    scale = max(1, round(SHOWN / mask.shape[-1]))
    return {name: np.repeat(np.repeat(picture, scale, 0), scale, 1) for name, picture in pictures.items()}


# --- contact sheets ---


@torch.no_grad()
def forecast_sheet(
    network: ForecastNetwork | FieldForecast, config: StructuresConfig, items: Sequence[Mapping[str, Any]]
) -> np.ndarray:
    """A row per pair of `data.pairs`: still, its structure, the target's, the frame, its mask, content, the truth."""
    device, rows = next(network.parameters()).device, []
    with eval_mode(network):
        for item in items:
            still, target = item["source"][None].to(device), item["driving"][None].to(device)
            batch = _batch(item, device)
            maps = structure_maps(batch, config)[0]  # 2 x C x s x s
            made = predict(network, 2 * still - 1, maps[:1], maps[1:], *field_inputs(batch, config))
            shown = [still, *_pictures(maps).split(1), _unit(made.frame), made.mask.expand(-1, 3, -1, -1)]
            rows.append(_row([*shown, _unit(made.content), target]))
    return np.concatenate(rows)


@torch.no_grad()
def refinement_sheet(
    forecast: ForecastNetwork | FieldForecast,
    refinement: RefinementNetwork,
    config: StructuresConfig,
    items: Sequence[Mapping[str, Any]],
) -> np.ndarray:
    """Four rows per item of `data.ClipWindows`: forecasts, refined frames, their mask, the truth; over time."""
    device, rows = next(refinement.parameters()).device, []
    with eval_mode(forecast, refinement):
        for item in items:
            frames = item["frames"].to(device)  # (1 + K) x 3 x s x s
            batch = _batch(item, device)
            maps = structure_maps(batch, config)[0]
            known = field_inputs(batch, config)
            given = refinement_inputs(forecast.to(device), 2 * frames[:1] - 1, maps, *known, config)
            made, coarse = refinement(*given), given[0][0]
            times = np.linspace(0, len(coarse) - 1, min(len(coarse), COLUMNS)).round().astype(int)
            mask = made.mask[0].expand(-1, 3, -1, -1)
            for video in (_unit(coarse), _unit(made.frames[0]), mask, frames[1:]):
                rows.append(_row(video[times].split(1)))
    return np.concatenate(rows)


@torch.no_grad()
def pose_sheet(network: PosePredictor, config: StructuresConfig, items: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Two rows per item of `data.PoseWindows`, drawn as limbs over time: predicted poses, and the true ones."""
    device, rows = next(network.parameters()).device, []
    with eval_mode(network):
        for item in items:
            future = item["future"].to(device)
            predicted = network(item["observed"][None].to(device), len(future))[0]
            times = np.linspace(0, len(future) - 1, min(len(future), COLUMNS)).round().astype(int)
            for vectors, visible in ((predicted, torch.ones_like(item["visible"])), (future, item["visible"])):
                poses = vector_poses(vectors, config.size)
                poses[..., 2] = visible.to(device)
                maps = pose_maps(poses[times], "limbs", (config.size, config.size), 1 / config.size)
                rows.append(_row(_pictures(maps).split(1)))
    return np.concatenate(rows)


def _pictures(maps: Tensor) -> Tensor:
    """Structure maps, N x C x s x s, as pictures N x 3 x s x s in [0, 1]: normals as colours, heat maps in grey."""
    if maps.shape[1] == 3:
        return (maps + 1) / 2 * (maps != 0).any(1, keepdim=True)
    return maps.amax(1, keepdim=True).expand(-1, 3, -1, -1)


def _batch(item: Mapping[str, Any], device: torch.device) -> dict[str, Tensor]:
    return {name: item[name][None].to(device) for name in ("normals", *FIELD_INPUTS) if name in item}


def _unit(frames: Tensor) -> Tensor:
    return (frames.float() + 1) / 2


def _row(cells: Sequence[Tensor]) -> np.ndarray:
    """Pictures 1 x 3 x s x s in [0, 1] side by side, s x n s x 3, `uint8`."""
    return np.concatenate(list(media.to_pictures(torch.cat([cell.float() for cell in cells]))), axis=1)
