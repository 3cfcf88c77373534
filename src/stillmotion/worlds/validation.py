"""Checks of the arguments that all worlds take."""

from __future__ import annotations

from collections.abc import Sequence

from stillmotion.errors import StillmotionError


def check_clip(world: str, size: int, frames: int, action: str | None = None, actions: Sequence[str] = ()) -> None:
    """Raise `StillmotionError` for a size outside 16 to 1024, fewer than 1 frame, or an action the world lacks."""
    if not 16 <= size <= 1024:
        raise StillmotionError(f"The size of a clip must be 16 to 1024 pixels, not {size}.")
    if frames < 1:
        raise StillmotionError(f"A clip needs at least 1 frame, not {frames}.")
    check_action(world, action, actions)


def check_action(world: str, action: str | None, actions: Sequence[str]) -> None:
    """Raise `StillmotionError` for an action that is not among those of the world."""
    if action is not None and action not in actions:
        choice = f"choose one of: {', '.join(actions)}" if actions else "leave the action out"
        raise StillmotionError(f"The world {world!r} has no action {action!r}; {choice}.")
