"""Frames at the still's own size out of fields at the networks' size.

Enlarged shares have soft edges, several pixels wide. Where the still's figure is known, its own alpha cuts them: the
moved figure ends where its pixels end, and the rim that its outline left on the still is covered by the plate.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from stillmotion import geometry, media
from stillmotion.rendering.backdrop import Backdrop, Wanted, find_backdrop, left_places
from stillmotion.rendering.canvas import Canvas
from stillmotion.rendering.fields import PAINT, PLATE, STATIC, WARPED, Fields, alone, restrict
from stillmotion.rendering.plate import widened

STATIC_BELOW, MOVING_ABOVE = 0.3, 1.0
"""In pixels of the network: slower motion is not applied to a larger still, faster motion in full.

The flow is never exactly zero where nothing moves. Upsampled to a thousand pixels that would make a static background
drift and blur; at the network's own size it still costs a little (docs/log.md, I).
"""

KEPT_ABOVE = 0.96
"""Share of the unmoved still from which on a pixel is the still's own: shares of a softmax are never exactly one."""

REACH = 2.0
"""An enlarged share counts in full from a half on, which is its edge, where alpha cuts: so alpha ends the figure."""

PART_PIXELS = 65_536
"""Frames are made in parts of about so many pixels, whose maps stay in a processor's cache."""

Part = tuple[slice, slice]
"""Rows and columns."""

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
        self.rows, self.columns = (Axis(weights) for weights in canvas.enlarger())
        self.show(backdrop)

    def show(self, backdrop: Backdrop | None) -> None:
        """Take another backdrop from the next frame on."""
        self.backdrop, self.alpha, self.plate = backdrop, None, None
        device = self.canvas.small.device
        self.sampled = media.to_tensor(self.canvas.picture[None]).to(device).contiguous()  # 1 x 3 or 4 x h x w
        if backdrop is not None:
            alpha = torch.from_numpy(np.ascontiguousarray(backdrop.alpha, np.float32)).to(device)[None, None]
            # Far from the figure the still may move as well (a camera, a shadow): only near it alpha cuts.
            near = (widened(backdrop.alpha > 0.05) > 0) & ~backdrop.unsure
            gate = torch.where(torch.from_numpy(near).to(device), alpha, 1.0)
            self.sampled = torch.cat([self.sampled, gate], dim=1)
            self.alpha, self.plate = alpha, media.to_tensor(backdrop.plate[None]).to(device).contiguous()
        self.still = self.sampled[:, :3]

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

        Raises:
            ValueError: the fields are not those of one frame of the networks' size.
        """
        side = self.canvas.size
        if fields.shares.shape != (1, 4, side, side):
            raise ValueError(f"The shares must be 1 x 4 x {side} x {side}, not {tuple(fields.shares.shape)}.")
        frame = self.canvas.picture.copy()
        shares = settled((fields if self.backdrop is not None else restrict(fields, None)).shares)
        size = (self.canvas.picture.shape[0], self.canvas.picture.shape[1])
        pixels = suppress_slow(fields.displacement) * ((self.canvas.size - 1) / 2 * self.canvas.scale)
        offsets = geometry.displacement_to_normalised(pixels, size).permute(0, 3, 1, 2)
        added = [] if residual is None else [residual.float()]
        maps = torch.cat([offsets, shares, fields.paint, *added], dim=1)[0]  # 9 or 12 x S x S
        for part in self._parts((shares[0, STATIC] < 1).cpu().numpy()):
            frame[part] = media.to_pictures(self._compose(self._enlarged(maps, part), part))[0]
        return frame

    def _parts(self, changes: np.ndarray) -> Iterator[Part]:
        """Parts of the picture, from top to bottom, that hold what S x S truth values reach."""
        rows, columns = self.rows.reached(changes.any(1)), self.columns.reached(changes.any(0))
        height = max(1, PART_PIXELS // max(1, columns.stop - columns.start))
        for top in range(rows.start, rows.stop, height):
            band = slice(top, min(top + height, rows.stop))
            columns = self.columns.reached(changes[self.rows.cells(band)].any(0))
            if columns.stop > columns.start:
                yield band, columns

    def _enlarged(self, maps: Tensor, part: Part) -> Tensor:
        """Maps of the networks' size, C x S x S, where a part lies; 1 x C x the part's size."""
        rows, columns = self.rows.cells(part[0]), self.columns.cells(part[1])
        weights = self.rows.weights[part[0], rows], self.columns.weights[part[1], columns]
        return (weights[0] @ (maps[:, rows, columns] @ weights[1].T))[None]  # in this order since a part is wide

    def _compose(self, large: Tensor, part: Part) -> Tensor:
        """The pixels of a part of the frame, 1 x 3 x its size."""
        sampled, still = self._sample(large[:, :2], part), self.still[..., part[0], part[1]]
        shares, paint, residual = large[:, 2:6].split(1, dim=1), large[:, 6:9], large[:, 9:]
        if self.alpha is not None and self.plate is not None:
            shares = cut(shares, sampled[:, 3:], self.alpha[..., part[0], part[1]])
        frame = shares[WARPED] * sampled[:, :3]
        frame.addcmul_(shares[STATIC], still).addcmul_(shares[PAINT], paint)
        if self.plate is not None:
            frame.addcmul_(shares[PLATE], self.plate[..., part[0], part[1]])
        return frame.add_(residual) if residual.shape[1] else frame

    def _sample(self, places: Tensor, part: Part) -> Tensor:
        """The still, and its alpha if that is known, where the pixels of a part come from.

        Args:
            places: 1 x 2 x the part's size, offsets, which are changed to places.
            part: the part.
        """
        places[:, 0] += self.columns.normalised[part[1]]
        places[:, 1] += self.rows.normalised[part[0], None]
        return geometry.warp(self.sampled, places.permute(0, 2, 3, 1), padding="border")


class Scene:
    """The renderer of one still, with its backdrop.

    Args:
        canvas: the still.
        figure: probability of the figure, 1 x 1 x S x S; None if the networks do not find it, or a person says it.
        wanted: what a person says of mask and plate.

    Attributes:
        renderer: with the plate as it is known so far.
        left: places that the figure has left, 1 x 1 x S x S; None before there are any that it was not known to have.
    """

    def __init__(self, canvas: Canvas, figure: Tensor | None, wanted: Wanted):
        self.canvas, self.wanted = canvas, wanted
        self.figure = figure if wanted.mask is None else None
        self.left: Tensor | None = None
        self.renderer = Renderer(canvas, find_backdrop(canvas, self.figure, wanted))

    def reveal(self, shares: Tensor) -> bool:
        """Find the plate again where a frame shows that more of the still is figure.

        Frame by frame, so that a frame does not depend on which others go through the networks with it.

        Args:
            shares: 1 x 4 x S x S.

        Returns:
            Whether the plate is another than at first.
        """
        if self.figure is not None and self.renderer.backdrop is not None:
            left = left_places(shares, self.figure, self.left)
            if left is not None:
                self.left = left
                self.renderer.show(find_backdrop(self.canvas, self.figure, self.wanted, left, self.renderer.backdrop))
        return self.left is not None


class Axis:
    """Pixels of one axis of the picture, and the pixels of the networks ("cells") that they are enlarged from.

    Args:
        weights: n x S, see `Canvas.enlarger`.
    """

    def __init__(self, weights: Tensor):
        used = weights.cpu().numpy() > 0
        self.weights = weights
        self.normalised = geometry.identity_grid((1, len(weights)), weights)[0, :, 0]  # n
        self.first = used.argmax(1)  # n, the first cell of each pixel, and the one after its last
        self.end = used.shape[1] - used[:, ::-1].argmax(1)

    def reached(self, cells: ArrayLike) -> slice:
        """The pixels from the first to the last that some of the cells (S truth values) reach."""
        chosen = np.flatnonzero(cells)
        if len(chosen) == 0:
            return slice(0, 0)
        start, stop = np.searchsorted(self.end, chosen[0], "right"), np.searchsorted(self.first, chosen[-1], "right")
        return slice(int(start), int(stop))

    def cells(self, pixels: slice) -> slice:
        """The cells that pixels are enlarged from."""
        return slice(int(self.first[pixels.start]), int(self.end[pixels.stop - 1]))


def settled(shares: Tensor) -> Tensor:
    """Shares, N x 4 x h x w, with what is all but the unmoved still made exactly that."""
    return torch.where(shares[:, STATIC : STATIC + 1] > KEPT_ABOVE, alone(STATIC, shares), shares)


def cut(shares: Sequence[Tensor], moved: Tensor, here: Tensor) -> tuple[Tensor, ...]:
    """Enlarged shares with the figure's edges cut by its alpha.

    Args:
        shares: four times N x 1 x H x W; they sum to one.
        moved: alpha of the figure where each pixel comes from, N x 1 x H x W.
        here: alpha of the figure in the still, the same shape.

    Returns:
        Four shares that sum to one.
    """
    warped, kept, plate, paint = shares
    front = (REACH * warped).clamp_(max=1).mul_(moved)
    behind = 1 - front
    # The rest, whose shares are what the networks say of it; where they say nothing, it is the plate.
    rest = behind / (1 + 1e-3 - warped)
    rim = (REACH * plate).clamp_(max=1).mul_(here)
    kept, paint = torch.addcmul(kept, kept, rim, value=-1).mul_(rest), rest * paint
    return front, kept, (behind - kept).sub_(paint), paint


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
    return fields._replace(shares=weight * fields.shares + (1 - weight) * alone(STATIC, fields.shares))
