"""Frames at the still's own size out of fields at the networks' size.

Enlarged shares have soft edges, several pixels wide. Where the still's figure is known, its own alpha cuts them: the
moved figure ends where its pixels end, and the rim that its outline left on the still is covered by the plate.
"""

import numpy as np
import torch
from torch import Tensor

from stillmotion import geometry, media
from stillmotion.rendering.backdrop import Backdrop
from stillmotion.rendering.canvas import Canvas
from stillmotion.rendering.fields import STATIC, Fields
from stillmotion.rendering.plate import widened

STATIC_BELOW, MOVING_ABOVE = 0.3, 1.0
"""In pixels of the network: slower motion is not applied to a larger still, faster motion in full.

The flow is never exactly zero where nothing moves. Upsampled to a thousand pixels that would make a static background
drift and blur; at the network's own size it still costs a little (docs/log.md, I).
"""

KEPT_ABOVE = 0.96
"""Share of the unmoved still from which on a pixel is the still's own: shares of a softmax are never exactly one."""

REACH = 1.5
"""An enlarged share counts in full from two thirds on where alpha cuts it, so that it is alpha that ends the figure."""


LAYERS = {
    "figure": "the still's figure, what is background darkened",
    "plate": "the background behind it",
}
"""Layers of every renderer, and what they show."""


class Renderer:
    """Makes the frames of one still.

    Args:
        canvas: the still.
        backdrop: its figure and plate; None blends the moved still, the still and paint alone.
    """

    def __init__(self, canvas: Canvas, backdrop: Backdrop | None):
        self.canvas = canvas
        self.rows, self.columns = canvas.enlarger()
        self.still = media.to_tensor(canvas.picture[None]).to(canvas.small.device)  # 1 x 3 x h x w
        self.show(backdrop)

    def show(self, backdrop: Backdrop | None) -> None:
        """Take another backdrop from the next frame on."""
        self.backdrop, self.alpha, self.plate = backdrop, None, None
        device, sampled = self.still.device, [self.still]
        if backdrop is not None:
            alpha = torch.from_numpy(np.ascontiguousarray(backdrop.alpha, np.float32)).to(device)[None, None]
            # Far from the figure the still may move as well (a camera, a shadow): only near it alpha cuts.
            near = (widened(backdrop.alpha > 0.05) > 0) & ~backdrop.unsure
            sampled.append(torch.where(torch.from_numpy(near).to(device), alpha, 1.0))
            self.alpha, self.plate = alpha, media.to_tensor(backdrop.plate[None]).to(device)
        self.sampled = torch.cat(sampled, dim=1).contiguous(memory_format=torch.channels_last)

    @property
    def small_plate(self) -> Tensor | None:
        """The plate at the networks' size, see `fields.blend`."""
        return None if self.backdrop is None else self.backdrop.small

    def layers(self) -> dict[str, np.ndarray]:
        """What is known of the still; see `LAYERS`."""
        if self.backdrop is None:
            return {}
        figure = self.canvas.picture * (0.25 + 0.75 * self.backdrop.alpha[..., None])
        return {"figure": np.rint(figure).astype(np.uint8), "plate": self.backdrop.plate}

    def render(self, fields: Fields, residual: Tensor | None = None) -> np.ndarray:
        """One frame, h x w x 3 `uint8`; where nothing moves, the still's own pixels.

        Args:
            fields: of the frame.
            residual: 1 x 3 x S x S, added to their blend.
        """
        frame = self.canvas.picture.copy()
        shares = settled(fields.shares)
        part = self._part(shares[0, STATIC] < 1)
        if part is None:
            return frame
        made = self._compose(fields._replace(shares=shares), part)
        if residual is not None:
            made = made + self.rows[part[0]] @ residual.float() @ self.columns[part[1]].T
        frame[part] = media.to_pictures(made)[0]
        return frame

    def _part(self, changes: Tensor) -> tuple[slice, slice] | None:
        """The part of the picture that S x S truth values reach."""
        spans = []
        for matrix, axis in ((self.rows, 1), (self.columns, 0)):
            reached = torch.nonzero(matrix @ changes.any(dim=axis).float())[:, 0]
            if len(reached) == 0:
                return None
            spans.append(slice(int(reached[0]), int(reached[-1]) + 1))
        return spans[0], spans[1]

    def _compose(self, fields: Fields, part: tuple[slice, slice]) -> Tensor:
        """The pixels of a part of the frame, 1 x 3 x its size."""
        pixels = suppress_slow(fields.displacement) * ((self.canvas.size - 1) / 2 * self.canvas.scale)
        maps = torch.cat([pixels.permute(0, 3, 1, 2), fields.shares, fields.paint], dim=1)[0]  # 9 x S x S
        large = (self.rows[part[0]] @ maps @ self.columns[part[1]].T)[None]  # 9 x the part's size
        sampled = self._sample(large[:, :2], part)
        shares = large[:, 2:6]
        still = self.still[..., part[0], part[1]]
        if self.alpha is None or self.plate is None:
            moved, kept, _, painted = shares.split(1, dim=1)
            return moved * sampled + kept * still + painted * large[:, 6:]
        plate = self.plate[..., part[0], part[1]]
        moved, kept, hidden, painted = cut(shares, sampled[:, 3:], self.alpha[..., part[0], part[1]]).split(1, dim=1)
        return moved * sampled[:, :3] + kept * still + hidden * plate + painted * large[:, 6:]

    def _sample(self, pixels: Tensor, part: tuple[slice, slice]) -> Tensor:
        """The still, and its alpha if that is known, where the pixels of a part come from."""
        height, width = self.still.shape[2:]
        x = torch.arange(part[1].start, part[1].stop, device=pixels.device) + pixels[:, 0]
        y = torch.arange(part[0].start, part[0].stop, device=pixels.device)[:, None] + pixels[:, 1]
        grid = geometry.to_normalised(torch.stack([x, y], dim=-1), (height, width))
        return geometry.warp(self.sampled, grid, padding="border")


def settled(shares: Tensor) -> Tensor:
    """Shares, N x 4 x h x w, with what is all but the unmoved still made exactly that."""
    still = torch.zeros_like(shares)
    still[:, STATIC] = 1.0
    return torch.where(shares[:, STATIC : STATIC + 1] > KEPT_ABOVE, still, shares)


def cut(shares: Tensor, moved: Tensor, here: Tensor) -> Tensor:
    """Enlarged shares with the figure's edges cut by its alpha.

    Args:
        shares: N x 4 x H x W; they sum to one.
        moved: alpha of the figure where each pixel comes from, N x 1 x H x W.
        here: alpha of the figure in the still.

    Returns:
        N x 4 x H x W.
    """
    warped, kept, plate, paint = shares.split(1, dim=1)
    front = moved * (REACH * warped).clamp_max(1)
    # The rest, whose shares are what the networks say of it; where they say nothing, it is the plate.
    rest = (1 - front) / (kept + plate + paint + 1e-3)
    rim = here * (REACH * plate).clamp_max(1)
    shown = kept * (1 - rim)
    return torch.cat([front, rest * shown, rest * (plate + kept - shown + 1e-3), rest * paint], dim=1)


def suppress_slow(displacement: Tensor) -> Tensor:
    """The flow without what moves by less than a fraction of a network pixel; N x s x s x 2, normalised."""
    size = (displacement.shape[1], displacement.shape[2])
    length = geometry.displacement_to_pixels(displacement, size).norm(dim=-1, keepdim=True)
    share = ((length - STATIC_BELOW) / (MOVING_ABOVE - STATIC_BELOW)).clamp(0, 1)
    return displacement * share


def hold(fields: Fields, weight: Tensor) -> Fields:
    """Fields of which only a share shows, and the still's own pixels for the rest.

    Args:
        fields: of N frames.
        weight: N x 1 x h x w in [0, 1].
    """
    still = torch.zeros_like(fields.shares)
    still[:, STATIC] = 1.0
    return fields._replace(shares=weight * fields.shares + (1 - weight) * still)
