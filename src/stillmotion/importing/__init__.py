"""Models out of the checkpoints that the papers' authors published.

`importing` stands above the systems: each of them knows the names of its own release (`from_release`,
`rename_release`), and this room knows the files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from stillmotion.animate import find_system
from stillmotion.errors import StillmotionError, check_known
from stillmotion.files import fill
from stillmotion.importing.states import read_states
from stillmotion.systems.base import System

Rename = Callable[[str, str, Tensor, Any], tuple[str, Tensor] | None]
"""(state, name, value, configuration) to name and value here; None for what has no place here."""


class Release(NamedTuple):
    """What a paper's authors saved."""

    title: str  # of the paper's code
    states: tuple[str, ...]  # keys of the checkpoint that hold the networks of an animation
    rename: Rename


def _driving(state: str, name: str, value: Tensor, config: Any) -> tuple[str, Tensor] | None:
    from stillmotion.systems.driving.networks import from_release

    return from_release(state, name, value, config)


def _pokes(_: str, name: str, value: Tensor, __: Any) -> tuple[str, Tensor] | None:
    from stillmotion.systems.pokes.networks import rename_release

    return rename_release(name), value


def _structures(_: str, name: str, value: Tensor, __: Any) -> tuple[str, Tensor] | None:
    from stillmotion.systems.structures.forecasting import rename_release

    return f"forecast.{rename_release(name)}", value


RELEASES: Mapping[str, Release] = {
    "driving": Release("AliaksandrSiarohin/monkey-net", ("kp_detector", "generator"), _driving),
    "pokes": Release("CompVis/interactive-image2video-synthesis", ("model",), _pokes),
    "structures": Release("garyzhao/FRGAN", ("gen_state_dict",), _structures),
}
"""By system. Those of `actions` are TensorFlow's bundles, which nothing here reads; `strokes` has published none."""


def import_model(path: Path, target: str, out: Path) -> System:
    """Make a model of a checkpoint of the authors' code, and save it.

    Args:
        path: the checkpoint, as their training wrote it.
        target: SYSTEM:PRESET, e.g. `driving:release-taichi`; the preset must be the setting it was trained with.
        out: the model's folder.

    Raises:
        StillmotionError: an unknown system or preset, a file that holds more than tensors and plain containers, or
            tensors that are missing, left over, not finite, or of other shapes than the preset's.
    """
    name, _, preset = target.partition(":")
    check_known("release", name, RELEASES)
    system_class, release = find_system(name), RELEASES[name]
    check_known("preset", preset or "release", system_class.presets)
    config = system_class.presets[preset or "release"]
    weights: dict[str, Tensor] = {}
    for state, entries in read_states(path, release.states).items():
        for entry, value in entries.items():
            renamed = release.rename(state, entry, value, config)
            if value.is_floating_point() and not value.isfinite().all():
                raise StillmotionError(f"{entry} of {state} in {path.name} holds NaN or infinity; it cannot be used.")
            if renamed is None:
                raise StillmotionError(f"{path.name} has {entry} in {state}, which {target} has no place for.")
            weights[renamed[0]] = renamed[1]
    system = system_class.build(config, {"imported": f"{path.name} of {release.title}, as {target}"})
    fill(system.networks, weights, str(path))
    system.save_pretrained(out)
    return system
