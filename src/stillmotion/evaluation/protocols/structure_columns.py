"""Columns of the protocols `structures` and `retargeting`: frames, their change in time, refinement, who is seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stillmotion import media
from stillmotion.evaluation.metrics.pixel import L1, MSE, PSNR
from stillmotion.evaluation.metrics.structures import ContentConsistency, ContentDistance, TemporalError
from stillmotion.evaluation.protocols.columns import (
    LPIPS_COLUMN,
    PIXELS,
    Case,
    Column,
    Prediction,
    metric,
    still_frame,
    target_frames,
)

COARSE, REFINED = "coarse", "refined"
"""The fact of a step that columns measure: the frame before its refinement, S x S x 3 `uint8`."""

IDENTITY = "identity"  # the name of its extractor


def frame_columns(applies: Callable[[Case], bool], prefix: str = "") -> tuple[Column, ...]:
    """MSE, PSNR, L1, LPIPS and temporal error against the target."""
    columns = (
        *(Column(kind.__name__, metric(kind)) for kind in (MSE, PSNR, L1)),
        LPIPS_COLUMN,
        Column("temporal error", metric(TemporalError)),
    )
    return tuple(replace(column, name=f"{prefix}{column.name}", applies=applies) for column in columns)


def refinement_columns(applies: Callable[[Case], bool]) -> tuple[Column, ...]:
    """MSE and temporal error before and after refinement, both at the networks' size."""
    return tuple(
        Column(f"{name} {when} refinement", metric(kind), inputs=partial(_at_network_size, fact=fact),
               applies=applies)
        for name, kind in (("MSE", MSE), ("temporal error", TemporalError))
        for when, fact in (("before", COARSE), ("after", REFINED))
    )  # fmt: skip


def content_columns() -> tuple[Column, ...]:
    """ACD-I and ACD-C."""
    return (
        Column("ACD-I", metric(ContentDistance), IDENTITY, inputs=_with_still),
        Column("ACD-C", metric(ContentConsistency), IDENTITY, inputs=lambda made: (made.features(IDENTITY)[1:],)),
    )


def _with_still(prediction: Prediction) -> tuple[Any, ...]:
    still = prediction.cache.reference(IDENTITY, prediction.case, still_frame)
    return prediction.features(IDENTITY)[1:], still


def _at_network_size(prediction: Prediction, fact: str) -> tuple[Tensor, Tensor] | None:
    """Frames of the networks, and the target; None without refinement, or where stills are not square."""
    made, (height, width) = prediction.facts.get(fact), prediction.frames.shape[1:3]
    if made is None or made.dtype != np.uint8 or height != width:
        return None
    if made.shape[1] == height:
        return _as_tensor(made), prediction.cache.reference(PIXELS, prediction.case, target_frames)
    return _as_tensor(made), _as_tensor(media.resize(prediction.case.target, (made.shape[1], made.shape[2])))


def _as_tensor(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(media.to_float(frames))
