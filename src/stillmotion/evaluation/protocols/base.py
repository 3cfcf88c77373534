"""What a protocol is: cases, the control each case feeds a model, baselines and columns."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stillmotion.animate import Animator
from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionWarning
from stillmotion.evaluation.metrics.curves import Curve
from stillmotion.evaluation.protocols.columns import Case, Column, Sample
from stillmotion.options import Control
from stillmotion.systems.base import Animation, System

Predictor = Callable[[Case, int], np.ndarray | Sample | None]
"""Takes a case and the number of the sample (its seed), gives T x H x W x 3 `uint8` frames of the target's shape, or
these with facts; None where it has no prediction."""


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
    # columns whose names end in one of these, in brackets, stand in a table of their own in the text
    blocks: Sequence[str] = ()
    # makes cases of clips and a file that names them, for `--pairs`; None where cases are not chosen so
    listed: Callable[[Sequence[Clip], Path], Sequence[Case]] | None = None
    # the group of a case, such as its action, and the columns of which the report has a table by group
    group: Callable[[Case], str | None] = lambda case: None
    grouped: Sequence[str] = ()


def feed(
    control: Callable[[System, Any], Control | None], facts: Sequence[str] = ()
) -> Callable[[Animator], Predictor]:
    """For `Protocol.predictor`: animate a case's still with the control that a function makes of system and case.

    The frames have the still's size and the target's length. Where the function gives None there is no prediction.

    Args:
        control: makes the control.
        facts: those of the steps' facts that columns measure; without them a prediction is its frames alone.
    """

    def bind(animator: Animator) -> Predictor:
        def predict(case: Case, sample: int) -> np.ndarray | Sample | None:
            given = control(animator.system, case)
            if given is None:
                return None
            with warnings.catch_warnings():
                # Advice on how to choose a still or a control does not apply to cases.
                warnings.simplefilter("ignore", StillmotionWarning)
                animation = animator(case.still, given, len(case.target), sample)
                return with_facts(animation, facts) if facts else animation.frames()

        return predict

    return bind


def with_facts(animation: Animation, names: Sequence[str]) -> Sample:
    """An animation's frames and those of the named facts that any step has; NaN at the steps that lack one."""
    steps = list(animation)
    found = {}
    for name in names:
        each = [step.facts.get(name) for step in steps]
        shape = next((value.shape for value in each if value is not None), None)
        if shape is not None:
            found[name] = np.stack([np.full(shape, np.nan) if value is None else value for value in each])
    return Sample(np.stack([step.frame for step in steps]), found)


def copy_still(case: Case, sample: int = 0) -> np.ndarray:
    """Baseline: every frame is the still."""
    return np.repeat(case.still[None], len(case.target), axis=0)


def true_clip(case: Case, sample: int = 0) -> np.ndarray:
    """Baseline: the target itself. Its errors are those of what measures: detectors, optical flow, networks."""
    return case.target


def fits(protocol: Protocol, system: System) -> bool:
    """Whether a system takes what a protocol feeds."""
    return not protocol.controls or any(control.__name__ in protocol.controls for control in system.controls)
