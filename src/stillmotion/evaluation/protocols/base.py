"""What a protocol is: cases, the control each case feeds a model, baselines and columns."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stillmotion.animate import Animator
from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionWarning
from stillmotion.evaluation.metrics.curves import Curve
from stillmotion.evaluation.protocols.columns import Case, Column
from stillmotion.options import Control
from stillmotion.systems.base import System

Predictor = Callable[[Case, int], np.ndarray | None]
"""Takes a case and the number of the sample (its seed), gives T x H x W x 3 `uint8` frames of the target's shape;
None where it has no prediction."""


@dataclass(frozen=True)
class Protocol:
    """A way to evaluate."""

    name: str  # as on the command line
    definition: str  # what is done, in a sentence
    cases: Callable[[Sequence[Clip]], Sequence[Case]]  # makes cases of clips
    predictor: Callable[[Animator], Predictor]  # makes a predictor of a model
    baselines: Mapping[str, Predictor]  # trivial predictors by name; the first is the one that L1 is compared with
    columns: Sequence[Column]  # in order
    # class names of the controls it feeds; empty: any, made by the system's own `control_of(clip)`
    controls: tuple[str, ...] = ()
    samples: int = 1  # predictions per case, each with its own seed
    # metrics per step by name, for the cases that `has_truth` selects
    curves: Mapping[str, Callable[[], Curve]] = field(default_factory=dict)
    # whether a case's target is the true outcome of its control
    has_truth: Callable[[Case], bool] = lambda case: True


def feed(control: Callable[[System, Any], Control | None]) -> Callable[[Animator], Predictor]:
    """For `Protocol.predictor`: animate a case's still with the control that a function makes of system and case.

    The frames have the still's size and the target's length. Where the function gives None there is no prediction.
    """

    def bind(animator: Animator) -> Predictor:
        def predict(case: Case, sample: int) -> np.ndarray | None:
            given = control(animator.system, case)
            if given is None:
                return None
            with warnings.catch_warnings():
                # Advice on how to choose a still or a control does not apply to cases.
                warnings.simplefilter("ignore", StillmotionWarning)
                return animator(case.still, given, len(case.target), sample).frames()

        return predict

    return bind


def copy_still(case: Case, sample: int = 0) -> np.ndarray:
    """Baseline: every frame is the still."""
    return np.repeat(case.still[None], len(case.target), axis=0)


def fits(protocol: Protocol, system: System) -> bool:
    """Whether a system takes what a protocol feeds."""
    return not protocol.controls or any(control.__name__ in protocol.controls for control in system.controls)
