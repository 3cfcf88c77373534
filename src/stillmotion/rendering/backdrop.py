"""What is known of a still beside its pixels: the alpha of its figure, and the plate behind it; once per still."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stillmotion import media
from stillmotion.errors import StillmotionError
from stillmotion.rendering import alpha as matting
from stillmotion.rendering import plate as plates
from stillmotion.rendering.canvas import Canvas, to_network
from stillmotion.rendering.fields import PLATE

LEAST, MOST = 0.003, 0.8
"""Shares of the picture between which a figure counts as found: less is noise, and behind more there is nothing to
inpaint from."""


LEAST_LEFT, LEAST_MORE = 0.002, 0.03
"""Shares, of the picture and of what is known as figure, that frames must show anew to have been figure for another
plate, which takes as long as many frames."""


@dataclass(frozen=True)
class Backdrop:
    """A still's figure and the background behind it, at the still's own size and at the networks'.

    Attributes:
        alpha: h x w, `float32` in [0, 1], how far the figure covers each pixel.
        unsure: h x w truth values, where the alpha may be wrong: it shows background, and frames have shown figure.
        plate: h x w x 3, `uint8`, the background alone.
        small: 1 x 4 x S x S, the plate as `fields.blend` wants it.
    """

    alpha: np.ndarray
    unsure: np.ndarray
    plate: np.ndarray
    small: Tensor


class Wanted(Protocol):
    """What a person says of the backdrop; files, and None where nothing is said."""

    @property
    def mask(self) -> str | Path | None:
        """A picture of the still's size with the figure in white, instead of what the networks find."""

    @property
    def plate(self) -> str | Path | None:
        """A picture of the still's size without the figure, instead of inpainting; `none`: no plate."""


def find_backdrop(
    canvas: Canvas,
    figure: Tensor | None,
    wanted: Wanted,
    left: Tensor | None = None,
    before: Backdrop | None = None,
) -> Backdrop | None:
    """The backdrop of a still, or None where it has no clear figure or none is wanted.

    Args:
        canvas: the still.
        figure: probability of the figure, 1 x 1 x S x S; None if the networks do not find it.
        wanted: what the person says.
        left: 1 x 1 x S x S in [0, 1], places that frames have shown the figure to leave; see `left_places`.
        before: what was found of the same still without them, whose alpha stays.

    Raises:
        StillmotionError: a file cannot be read or has another size than the still.
    """
    if wanted.plate == "none":
        return None
    alpha = before.alpha if before is not None else _find_alpha(canvas, figure, wanted)
    if alpha is None:
        return None
    unsure = np.zeros(alpha.shape, bool)
    if left is not None and wanted.mask is None:
        unsure = (_enlarged(left, canvas) > 0.5) & (alpha < 0.5)
    if wanted.plate is not None:
        behind = _given(wanted.plate, canvas, "plate")
    else:
        hidden = (alpha > 0.2) | unsure
        if figure is not None and wanted.mask is None:
            hidden |= _enlarged(figure, canvas) > 0.5  # what alpha has lost: thin parts of small figures
        behind = plates.inpaint(canvas.picture, plates.widened(hidden))
    small = to_network(behind, canvas.size, canvas.small.device)
    return Backdrop(alpha, unsure, behind, torch.cat([small, torch.ones_like(small[:, :1])], dim=1))


def left_places(shares: Tensor, figure: Tensor, before: Tensor | None) -> Tensor | None:
    """Places at which frames show the plate: what has left them was figure, whatever the mask head says.

    Args:
        shares: of N frames, N x 4 x S x S, see `Fields`.
        figure: of the still, 1 x 1 x S x S in [0, 1].
        before: the places that earlier frames have shown; None at first.

    Returns:
        1 x 1 x S x S, 0 or 1, with a pixel around them, which the next frames are likely to show; None if hardly
        anything is new.
    """
    shown = (shares[:, PLATE : PLATE + 1].amax(0, keepdim=True) > 0.5).to(figure)
    known = (figure if before is None else torch.maximum(figure, before)) >= 0.5
    new = float(((shown > 0.5) & ~known).float().mean())
    if new < max(LEAST_LEFT, LEAST_MORE * float(known.float().mean())):
        return None
    shown = F.max_pool2d(shown, 3, stride=1, padding=1)
    return shown if before is None else torch.maximum(shown, before)


def _find_alpha(canvas: Canvas, figure: Tensor | None, wanted: Wanted) -> np.ndarray | None:
    """The alpha of the figure, h x w in [0, 1]; None where there is no clear one."""
    if wanted.mask is not None:
        alpha = _given(wanted.mask, canvas, "mask").mean(2, dtype=np.float32) / 255
        return alpha if _is_figure(alpha) else None
    if figure is None or not _is_figure(mask := _enlarged(figure, canvas)):
        return None
    alpha = matting.refine(canvas.picture, mask)
    return alpha if _is_figure(alpha) else None


def _is_figure(mask: np.ndarray) -> bool:
    return LEAST <= float((mask > 0.5).mean()) <= MOST


def _enlarged(figure: Tensor, canvas: Canvas) -> np.ndarray:
    rows, columns = canvas.enlarger()
    return np.asarray((rows @ figure[0, 0].float() @ columns.T).cpu().numpy())


def _given(path: str | Path, canvas: Canvas, name: str) -> np.ndarray:
    """A person's own picture of the still's size, the part that is animated."""
    picture = media.read_picture(path)
    if picture.shape[:2] != canvas.given:
        height, width = picture.shape[:2]
        raise StillmotionError(
            f"The {name} {path} is {width} x {height} pixels, and the still {canvas.given[1]} x {canvas.given[0]}: "
            "they must be equally large."
        )
    x, y, w, h = canvas.crop
    return media.crop(picture, (x, y, x + w, y + h))
