"""Pictures that explain what was generated: structure maps, masks, contents."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stillmotion import media
from stillmotion.keypoints.visualization import SHOWN, palette


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
