"""Still plus stroke to frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from torch import nn

from stillmotion import controls
from stillmotion.systems.base import Animation, System
from stillmotion.systems.strokes.config import StrokesConfig
from stillmotion.systems.strokes.networks import StrokesNetworks


class Strokes(System):
    """Motion strokes: the still's object follows a drawn line, one point per frame."""

    name: ClassVar[str] = "strokes"
    control: ClassVar[type] = getattr(controls, "Stroke", object)
    config_class: ClassVar[type] = StrokesConfig
    networks: StrokesNetworks

    @classmethod
    def build(cls, config: StrokesConfig, card: Mapping[str, Any] | None = None) -> Self:
        """The system with fresh weights."""
        return cls(config, StrokesNetworks(config), card)

    def shipped(self) -> nn.Module:
        """E1, E2, P and G; the discriminators only train."""
        parts = ("encoder", "motion", "predictor", "decoder")
        return nn.ModuleDict({name: getattr(self.networks, name) for name in parts})

    def animate(
        self,
        still: np.ndarray,
        control: controls.Control,
        frames: int | None = None,
        seed: int | None = None,
        *,
        size: str = "native",
        layers: bool = False,
    ) -> Animation:
        """Animate a still after a stroke; see `System.animate`."""
        raise NotImplementedError
