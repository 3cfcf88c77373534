"""Frames at the still's own size out of fields at the networks' size.

Enlarged shares have soft edges, several pixels wide. Where the still's figure is known, its own alpha cuts them: the
moved figure ends where its pixels end, and the rim that its outline left on the still is covered by the plate.

A frame is made on the CPU, in parts that stay in its cache; fields of a GPU are a few hundred kilobytes to fetch.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional as F

from stillmotion import geometry
from stillmotion.rendering.backdrop import Backdrop, Wanted, find_backdrop, left_places
from stillmotion.rendering.canvas import Canvas
from stillmotion.rendering.fields import PAINT, STATIC, WARPED, Fields, alone, restrict
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

NOTHING = 1e-3
"""Added to what the networks say of the sources behind the moved figure; where they say nothing, it is the plate."""

PART_PIXELS = 12_288
"""Frames are made in parts of about so many pixels, whose maps stay in a processor's cache."""

LAYERS = {
    "figure": "the still's figure, what is background darkened",
    "plate": "the background behind it",
}
"""Layers of every renderer, and what they show."""


class Part(NamedTuple):
    """A part of the picture."""

    place: tuple[slice, slice]  # rows and columns
    cells: slice  # the rows of the networks that it is enlarged from
    weights: np.ndarray  # its rows x these

    def enlarged(self, wide: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Maps that are as wide as the picture already, C x S x w, where the part lies; C x its size."""
        return np.matmul(self.weights, wide[:, self.cells, self.place[1]], out=out)


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
        """Take another backdrop from the next frame on; without one what is behind is the still."""
        self.backdrop = backdrop
        still = _planes(self.canvas.picture)
        self.alpha, self.plate, gate = None, still, []
        if backdrop is not None:
            self.alpha, self.plate = np.ascontiguousarray(backdrop.alpha, np.float32), _planes(backdrop.plate)
            # Far from the figure the still may move as well (a camera, a shadow): only near it alpha cuts.
            near = (widened(backdrop.alpha > 0.05) > 0) & ~backdrop.unsure
            gate = [np.where(near, self.alpha, np.float32(1))[None]]
        self.unhidden = still - self.plate  # 3 x h x w
        sampled = torch.from_numpy(np.concatenate([still, *gate]))[None]
        self.sampled = sampled.contiguous(memory_format=torch.channels_last)  # 1 x 3 or 4 x h x w

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
        fields = fields if self.backdrop is not None else restrict(fields, None)
        maps, changes = self._maps(fields, residual)
        parts = list(self._parts(changes))
        if parts:
            wide = self._widened(maps)
            for part, moved in zip(parts, self._sample(wide[:2], parts), strict=True):
                self._compose(part.enlarged(wide[2:]), moved, part, frame[part.place])
        return frame

    def _maps(self, fields: Fields, residual: Tensor | None) -> tuple[np.ndarray, np.ndarray]:
        """What a frame is made of, C x S x S, and where it differs from the still, S x S truth values.

        The maps are offsets (x, y; normalised), the five of `cut`, paint and residual (RGB, 0 to 255).
        """
        height, width, side = *self.canvas.picture.shape[:2], self.canvas.size
        moved, known = suppress_slow(fields.displacement.float()), settled(fields.shares.float())
        displacement, shares, paint = (
            part[0].detach().float().cpu().numpy() for part in (moved, known, fields.paint)
        )
        maps = np.empty((10 if residual is None else 13, side, side), np.float32)
        for axis, length in enumerate((width, height)):
            factor = (side - 1) * self.canvas.scale / max(length - 1, 1)
            np.multiply(displacement[..., axis], np.float32(factor), out=maps[axis])
        reach = 1 if self.alpha is None else REACH
        np.multiply(shares, np.array([reach, 1, reach, 1], np.float32)[:, None, None], out=maps[2:6])
        np.subtract(1 + NOTHING, shares[WARPED], out=maps[6])
        np.multiply(paint, 255, out=maps[7:10])
        if residual is not None:
            np.multiply(residual[0].float().cpu().numpy(), 255, out=maps[10:])
        return maps, shares[STATIC] < 1

    def _widened(self, maps: np.ndarray) -> np.ndarray:
        """Maps, C x S x S, as wide as the picture; the first with the places that its offsets count from."""
        rows = maps.reshape(-1, maps.shape[2])
        square = cv2.resize(rows, (self.canvas.side, len(rows)), interpolation=cv2.INTER_LINEAR)
        wide = square.reshape(*maps.shape[:2], -1)[..., self.canvas.box[0] : self.canvas.box[2]]
        wide[0] += self.columns.normalised
        return wide

    def _parts(self, changes: np.ndarray) -> Iterator[Part]:
        """Parts of the picture, from top to bottom, that hold what S x S truth values reach."""
        rows, columns = self.rows.reached(changes.any(1)), self.columns.reached(changes.any(0))
        height = max(1, PART_PIXELS // max(1, columns.stop - columns.start))
        for top in range(rows.start, rows.stop, height):
            band = slice(top, min(top + height, rows.stop))
            cells = self.rows.cells(band)
            columns = self.columns.reached(changes[cells].any(0))
            if columns.stop > columns.start:
                yield Part((band, columns), cells, self.rows.weights[band, cells])

    def _sample(self, wide: np.ndarray, parts: Sequence[Part]) -> list[np.ndarray]:
        """The still, and its alpha if that is known, where the pixels of each part come from; C x its size.

        In one call: torch's own costs as much as a part.

        Args:
            wide: offsets, 2 x S x w.
            parts: where in the picture.
        """
        sizes = [(rows.stop - rows.start, columns.stop - columns.start) for (rows, columns), *_ in parts]
        ends = np.cumsum([height * width for height, width in sizes]).tolist()
        runs = [slice(end - height * width, end) for end, (height, width) in zip(ends, sizes, strict=True)]
        places = np.empty((2, ends[-1]), np.float32)
        for part, run, size in zip(parts, runs, sizes, strict=True):
            x_and_y = part.enlarged(wide, places[:, run].reshape(2, *size))
            x_and_y[1] += self.rows.normalised[part.place[0], None]
        grid = torch.from_numpy(places).T[None, None]
        sampled = F.grid_sample(self.sampled, grid, padding_mode="border", align_corners=True)[0, :, 0].numpy()
        return [sampled[:, run].reshape(-1, *size) for run, size in zip(runs, sizes, strict=True)]

    def _compose(self, large: np.ndarray, sampled: np.ndarray, part: Part, target: np.ndarray) -> None:
        """Write the pixels of a part of the frame.

        Args:
            large: the maps without offsets, C x the part's size, which are changed.
            sampled: see `_sample`; changed too.
            part: the part.
            target: the part's size x 3, `uint8`.
        """
        shares, paint, residual = large[:5], large[5:8], large[8:]
        plate = self.plate[:, *part.place]
        if self.alpha is None:
            front, painted = shares[WARPED], np.divide(shares[PAINT], shares[4], out=shares[PAINT])
            frame = plate.copy()
        else:
            front, kept, painted = cut(shares, sampled[3], self.alpha[part.place])
            frame = self.unhidden[:, *part.place] * kept
            frame += plate
        paint -= plate
        paint *= painted
        frame += paint
        moved = sampled[:3]
        moved -= frame
        moved *= front
        frame += moved
        if len(residual):
            frame += residual
            frame.clip(0, 255, out=frame)
        height, width = front.shape
        bytes_ = cv2.convertScaleAbs(frame.reshape(-1, width)).reshape(3, height, width)
        cv2.merge(list(bytes_), target)


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
        self.weights = weights.cpu().numpy()  # n x S
        self.normalised = geometry.identity_grid((1, len(weights)), weights)[0, :, 0].cpu().numpy()  # n
        used, cells = self.weights > 0, np.arange(self.weights.shape[1])
        first, end = used.argmax(1), len(cells) - used[:, ::-1].argmax(1)
        self.first, self.end = first.tolist(), end.tolist()  # n, the first cell of each pixel, and after its last
        self.start = np.searchsorted(end, cells, "right").tolist()  # S, the first pixel that each cell reaches, ...
        self.stop = np.searchsorted(first, cells, "right").tolist()  # ... and the one after its last

    def reached(self, cells: ArrayLike) -> slice:
        """The pixels from the first to the last that some of the cells (S truth values) reach."""
        chosen = np.flatnonzero(cells)
        return slice(self.start[chosen[0]], self.stop[chosen[-1]]) if len(chosen) else slice(0, 0)

    def cells(self, pixels: slice) -> slice:
        """The cells that pixels are enlarged from."""
        return slice(self.first[pixels.start], self.end[pixels.stop - 1])


def _planes(picture: np.ndarray) -> np.ndarray:
    """H x W x 3 `uint8` as 3 x H x W `float32` in [0, 255]."""
    return np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32)


def settled(shares: Tensor) -> Tensor:
    """Shares, N x 4 x h x w, with what is all but the unmoved still made exactly that."""
    kept = shares[:, STATIC : STATIC + 1] > KEPT_ABOVE
    shares = shares.masked_fill(kept, 0.0)
    shares[:, STATIC : STATIC + 1].masked_fill_(kept, 1.0)
    return shares


def cut(shares: np.ndarray, moved: np.ndarray, here: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Enlarged shares with the figure's edges cut by its alpha.

    Args:
        shares: 5 x h x w, overwritten: `REACH` times that of the moved still, that of the unmoved still, `REACH`
            times that of the plate, that of paint, and one and `NOTHING` without that of the moved still.
        moved: alpha of the figure where each pixel comes from, h x w.
        here: alpha of the figure in the still, the same shape.

    Returns:
        The share of the moved figure; and of what is behind it, the shares of the unmoved still and of paint, whose
        rest is the plate's.
    """
    front, kept, rim, paint, behind = shares
    np.minimum(front, 1, out=front)
    front *= moved
    np.minimum(rim, 1, out=rim)
    rim *= here
    rim *= kept
    kept -= rim
    kept /= behind
    paint /= behind
    return front, kept, paint


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
