"""Encoders, predictor, generator and discriminators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from stillmotion.systems.strokes.config import StrokesConfig


class Drawn(NamedTuple):
    """What the generator makes of a state.

    Attributes:
        frame: N x 3 x size x size in [-1, 1], blended with the still where there is a blend.
        painted: the same before the blend.
        keep: N x 1 x size x size in [0, 1], the share of the still in each pixel; None without `composite`.
    """

    frame: Tensor
    painted: Tensor
    keep: Tensor | None


@dataclass
class Context:
    """What does not change over the steps of an animation; made by `StrokesNetworks.begin`.

    Attributes:
        still: N x 3 x size x size in [-1, 1].
        points: N x T x 2, (x, y) in pixels of the networks' picture.
        initial: h_0, N x state x size/8 x size/8; the first state.
    """

    still: Tensor
    points: Tensor
    initial: Tensor


class StrokesNetworks(nn.Module):
    """E1, E2, P and G, and the discriminators that the configuration asks for (None otherwise)."""

    def __init__(self, config: StrokesConfig):
        super().__init__()
        self.config = config
        self.encoder = nn.Identity()
        self.motion = nn.Identity()
        self.predictor = nn.Identity()
        self.decoder = nn.Identity()
        self.frame_discriminator: nn.Module | None = None
        self.pair_discriminator: nn.Module | None = None

    def begin(self, still: Tensor, points: Tensor) -> Context:
        """Compute once what all steps share; still N x 3 x s x s in [-1, 1], points N x T x 2 pixels."""
        raise NotImplementedError

    def advance(self, context: Context, state: Tensor, t: int) -> tuple[Tensor, Tensor]:
        """One step, from frame t to frame t + 1 (t up to T - 2): the next state and the next frame."""
        state = self.predict(context, state, t)
        return state, self.draw(context, state).frame

    def predict(self, context: Context, state: Tensor, t: int) -> Tensor:
        """The next state alone."""
        raise NotImplementedError

    def draw(self, context: Context, state: Tensor) -> Drawn:
        """The frame of a state, with the share of the still in every pixel (for output at the still's own size)."""
        raise NotImplementedError
