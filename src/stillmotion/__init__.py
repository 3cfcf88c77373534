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
    from stillmotion.systems.base import Animation, Rollout, Step
    from stillmotion.systems.driving import Drive, Predict
    from stillmotion.systems.strokes import Stroke, StrokeFrom

__all__ = [
    "Animation", "Animator", "Drive", "Predict", "Rollout", "Step", "StillmotionError", "Stroke", "StrokeFrom",
    "__version__", "load", "shipped_models",
]  # fmt: skip

_MODULES = {
    **dict.fromkeys(("Animator", "load", "shipped_models"), "stillmotion.animate"),
    **dict.fromkeys(("Animation", "Rollout", "Step"), "stillmotion.systems.base"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: `import stillmotion` stays instant.

    Controls are found where their systems declare them.
    """
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    if name[:1].isupper():
        from stillmotion.animate import declared_controls

        for controls in declared_controls().values():
            for control in controls:
                if control.__name__ == name:
                    return control
    raise AttributeError(f"module 'stillmotion' has no attribute {name!r}")
