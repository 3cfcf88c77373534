"""Still pictures into video under a person's direction.

animator = stillmotion.load("driving-weizmann")
animator("me.png", stillmotion.Drive("wave.mp4")).save("out.mp4")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stillmotion.errors import StillmotionError
from stillmotion.version import __version__

if TYPE_CHECKING:
    from stillmotion.animate import Animator, load, shipped_models
    from stillmotion.controls import Drive, Predict, Stroke, StrokeFrom
    from stillmotion.systems.base import Animation, Step

__all__ = [
    "Animation",
    "Animator",
    "Drive",
    "Predict",
    "Step",
    "StillmotionError",
    "Stroke",
    "StrokeFrom",
    "__version__",
    "load",
    "shipped_models",
]

_HOME = {
    "Animation": "stillmotion.systems.base",
    "Animator": "stillmotion.animate",
    "Drive": "stillmotion.controls",
    "Predict": "stillmotion.controls",
    "Step": "stillmotion.systems.base",
    "Stroke": "stillmotion.controls",
    "StrokeFrom": "stillmotion.controls",
    "load": "stillmotion.animate",
    "shipped_models": "stillmotion.animate",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: `import stillmotion` stays instant."""
    if name not in _HOME:
        raise AttributeError(f"module 'stillmotion' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
