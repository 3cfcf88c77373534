"""A still whose figure moves: its renderer, and the plate that frames teach more of."""

from __future__ import annotations

from torch import Tensor

from stillmotion.rendering.backdrop import Wanted, find_backdrop, left_places
from stillmotion.rendering.canvas import Canvas
from stillmotion.rendering.compositing import Renderer


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
