"""The five systems, one folder each, with the same rooms in all; this is the one dictionary of their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from stillmotion.errors import StillmotionError

if TYPE_CHECKING:
    from stillmotion.systems.base import System

SYSTEMS: dict[str, str] = {"driving": "Driving", "strokes": "Strokes"}
"""Folder -> class in its `animating.py`."""


@dataclass(frozen=True)
class Parts:
    """What one system offers to the rest of the house.

    Attributes:
        system: its class.
        presets: configurations by name; all have `paper`, `release` and `small`.
        stages: `stages(system, clips, preview_clips, only)` gives its training stages, or only those of the names
            `only` (needs the `train` extra).
    """

    system: type[System]
    presets: Mapping[str, Any]
    stages: Callable[[System, Sequence[Any], Sequence[Any], Sequence[str]], Sequence[Any]]


def find(name: str) -> Parts:
    """Look a system up; its modules are imported only now.

    Raises:
        StillmotionError: there is no system of this name.
    """
    if name not in SYSTEMS:
        raise StillmotionError(f"There is no system {name!r}; known are {', '.join(SYSTEMS)}.")
    package = f"stillmotion.systems.{name}"

    def stages(
        system: System, clips: Sequence[Any], preview_clips: Sequence[Any], only: Sequence[str]
    ) -> Sequence[Any]:
        made: Sequence[Any] = import_module(f"{package}.training").stages(system, clips, preview_clips, only)
        return made

    system = getattr(import_module(f"{package}.animating"), SYSTEMS[name])
    return Parts(system, import_module(f"{package}.config").PRESETS, stages)
