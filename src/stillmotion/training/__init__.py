"""The training loop, checkpoints and logging, independent of any system.

The names are imported when they are first asked for, so that `stillmotion.training.schedules` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stillmotion.training.checkpoint import stage_weights
    from stillmotion.training.loop import check_run, fit
    from stillmotion.training.settings import LoopSettings, Outcome
    from stillmotion.training.stage import Stage, Update

__all__ = ["LoopSettings", "Outcome", "Stage", "Update", "check_run", "fit", "stage_weights"]

_MODULES = {
    "LoopSettings": "settings",
    "Outcome": "settings",
    "Stage": "stage",
    "Update": "stage",
    "check_run": "loop",
    "fit": "loop",
    "stage_weights": "checkpoint",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module 'stillmotion.training' has no attribute {name!r}")
    return getattr(import_module(f"stillmotion.training.{_MODULES[name]}"), name)
