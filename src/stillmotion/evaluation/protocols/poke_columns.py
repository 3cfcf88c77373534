"""Columns of the protocol `pokes`: what the metrics are given of a prediction, and the cases they apply to."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch

from stillmotion import media
from stillmotion.data.motion_truth import WARPED, knows_motion, visibility
from stillmotion.data.part_flow import flow_between
from stillmotion.errors import StillmotionError
from stillmotion.evaluation.metrics.control import (
    BackgroundChange,
    CounterfactualAccuracy,
    EndpointError,
    static_pixels,
)
from stillmotion.evaluation.metrics.feature import LPIPS
from stillmotion.evaluation.metrics.pixel import PSNR, SSIM, BatchPSNR, BatchSSIM
from stillmotion.evaluation.metrics.poke import BackgroundDisplacement, ChangedPixels, FlowEPE, PokeError, value_at
from stillmotion.evaluation.protocols.columns import (
    FVD_COLUMN,
    LPIPS_COLUMN,
    PIXELS,
    WORLD_FVD_COLUMN,
    Case,
    Column,
    Prediction,
    metric,
    pixel_columns,
    target_frames,
)
from stillmotion.evaluation.protocols.poke_cases import LENGTH, as_poke, flow_from_first_to_last
from stillmotion.evaluation.protocols.regions import CHANGED_ABOVE, changed, region_columns

FIELD = "displacement"
"""The fact of a step that columns measure: H x W x 2, backward, in pixels (x, y) of the frame."""

DRAGS = "drags, last frame"
"""The block of columns of what a hand holds until the end, when it has arrived."""


# --- inputs of the metrics -----------------------------------------------------------------------------------------


def has_truth(case: Case) -> bool:
    """Whether something is to move: a poke of the object."""
    return as_poke(case).kind != "background"


def is_own(case: Case) -> bool:
    """Whether the clip's tracks describe the target."""
    return as_poke(case).kind == "own"


def is_drag(case: Case) -> bool:
    """Whether the target is that of a hand that arrives and holds on, which is what the control asks for."""
    return has_truth(case) and case.clip.meta.get("poke", {}).get("kind") == "drag"


def field_of(prediction: Prediction) -> torch.Tensor | None:
    """The predicted displacement of the frames after the still, T-1 x H x W x 2 pixels; None if there is none.

    Raises:
        StillmotionError: it has another size than the frames, whose pixels it is measured in.
    """
    found = prediction.facts.get(FIELD)
    if found is None:
        return None
    if found.shape != (*prediction.frames.shape[:3], 2):
        raise StillmotionError(
            f"The displacement has {found.shape[1]} x {found.shape[2]} pixels and the frames of case "
            f"{prediction.case.name!r} {prediction.frames.shape[1]} x {prediction.frames.shape[2]}; prepare the data "
            f"with --size {found.shape[1]}."
        )
    return torch.from_numpy(found[1:])


def _poke_error(prediction: Prediction) -> tuple[Any, ...] | None:
    case, field = as_poke(prediction.case), field_of(prediction)
    return None if field is None else (field[-1], torch.from_numpy(case.start), torch.from_numpy(case.end))


@lru_cache(maxsize=1)  # two columns of every model's prediction ask in turn
def true_field(case: Case) -> tuple[np.ndarray, np.ndarray] | None:
    """The exact displacement of the frames after the still, T-1 x H x W x 2, and where it counts, T-1 x H x W.

    It counts on the figure where the still shows the same part. None in clips that know no motion.
    """
    if not knows_motion(case.clip):
        return None
    parts, moves = (np.asarray(case.clip.tracks[name]) for name in ("parts", "moves"))
    fields = [flow_between(parts, moves, t, 0) for t in range(1, len(case.target))]
    shown = [visibility(parts[0], parts[t], field) for t, field in enumerate(fields, start=1)]
    figure = parts[1 : len(case.target)] > 0
    return np.stack(fields), (np.stack(shown) == WARPED) & figure


def _flow(prediction: Prediction) -> tuple[Any, ...] | None:
    field, true = field_of(prediction), true_field(prediction.case)
    return None if field is None or true is None else (field, *map(torch.from_numpy, true))


def _last_flow(prediction: Prediction) -> tuple[Any, ...] | None:
    found = _flow(prediction)
    return None if found is None else tuple(values[-1] for values in found)


@lru_cache(maxsize=1)
def static(case: Case) -> np.ndarray | None:
    """Pixels without motion in the whole target, H x W `bool`; None where they are not known."""
    if not has_truth(case):
        return np.ones(case.still.shape[:2], bool)
    tracks = case.clip.tracks
    if "mask" not in tracks:
        return None
    flows = [tracks[name][:LENGTH] for name in ("flow_forward", "flow_backward") if name in tracks]
    return static_pixels(tracks["mask"][: LENGTH + 1], *flows)


def _still(case: Case) -> torch.Tensor:
    return torch.from_numpy(media.to_float(case.still[None]))[0]


def _background_displacement(prediction: Prediction) -> tuple[Any, ...] | None:
    field, pixels = field_of(prediction), static(prediction.case)
    return None if field is None or pixels is None else (field, torch.from_numpy(pixels))


def _background_change(prediction: Prediction) -> tuple[Any, ...] | None:
    pixels = static(prediction.case)
    if pixels is None or not pixels.any():
        return None
    return prediction.features(PIXELS), _still(prediction.case), torch.from_numpy(pixels)


def _outcomes(prediction: Prediction) -> tuple[Any, ...] | None:
    case = as_poke(prediction.case)
    if case.other_last is None:
        return None
    # Pixels in which both outcomes agree add the same to both distances, so they need not be left out.
    return tuple(torch.from_numpy(frame / 255) for frame in (prediction.frames[-1], case.target[-1], case.other_last))


def _clear_outcomes(prediction: Prediction) -> tuple[Any, ...] | None:
    """The same, of the pixels in which the outcomes differ by more than noise."""
    found = _outcomes(prediction)
    if found is None:
        return None
    clear = (found[1] - found[2]).abs().amax(-1) > (CHANGED_ABOVE + 0.5) / 255
    return tuple(frame[clear] for frame in found)


def _changed_pixels(prediction: Prediction) -> tuple[Any, ...]:
    case = prediction.case
    target = prediction.cache.reference(PIXELS, case, target_frames)
    return prediction.features(PIXELS), target, _still(case), torch.from_numpy(changed(case))


def _last_changed_pixels(prediction: Prediction) -> tuple[Any, ...]:
    preds, target, still, region = _changed_pixels(prediction)
    return preds[-1:], target[-1:], still, region[-1:]


def _tracked_end(prediction: Prediction) -> tuple[Any, ...]:
    case = as_poke(prediction.case)
    start, end = torch.from_numpy(case.start), torch.from_numpy(case.end)
    motion = torch.from_numpy(flow_from_first_to_last(prediction.frames))
    return (start + value_at(motion, start))[None], start[None], end[None]


_COUNTERFACTUAL = (
    "percent of predictions whose last frame is nearer (L1 over the pixels in which the two differ) to the true last "
    "frame of its own poke than to that of another poke on the same still; a tie is half; both pokes of each pair "
    "are evaluated, so 50 is the value of a model that ignores the poke; higher is better"
)
_CLEAR = _COUNTERFACTUAL.replace("differ)", f"differ by more than {CHANGED_ABOVE} grey levels)")
_TARGETED = (
    "distance between where the optical flow (DIS) from the first to the last frame takes the poked point and its "
    "target, as a share of the poke's length, over all pokes of the object; the true clip has the flow's own error, "
    "0 where the poke was simulated from that flow; lower is better"
)

_moving = partial(Column, applies=has_truth)
_own = partial(Column, applies=is_own)
_background = partial(Column, applies=lambda case: not has_truth(case))
_GREY = metric(BackgroundChange, grey_levels=True)


def drag_columns() -> tuple[Column, ...]:
    """The block `DRAGS`: before the last frame a hand is on its way, and each model may go there in its own time."""
    own = partial(Column, applies=lambda case: is_drag(case) and is_own(case))
    drag = partial(Column, applies=is_drag)
    counterfactual = metric(CounterfactualAccuracy, definition=_CLEAR)
    columns = (
        drag("poke error", metric(PokeError), inputs=_poke_error),
        own("flow EPE (relative)", metric(FlowEPE, relative=True), inputs=_last_flow),
        drag("L1 of changed pixels / copy the still", metric(ChangedPixels), inputs=_last_changed_pixels),
        drag("counterfactual accuracy", counterfactual, inputs=_clear_outcomes),
    )
    return tuple(replace(column, name=f"{column.name} ({DRAGS})") for column in columns)


COLUMNS: tuple[Column, ...] = (
    *(replace(column, applies=has_truth) for column in pixel_columns()),
    _moving("PSNR (paper)", metric(PSNR, with_still=False)),
    _moving("SSIM (paper)", metric(SSIM, with_still=False)),
    _moving("LPIPS (paper)", metric(LPIPS, with_still=False), "lpips"),
    _moving("PSNR (release)", metric(BatchPSNR)),
    _moving("SSIM (release)", metric(BatchSSIM)),
    *region_columns(is_own),
    replace(LPIPS_COLUMN, applies=has_truth),
    *(replace(column, applies=has_truth) for column in (FVD_COLUMN, WORLD_FVD_COLUMN)),
    _moving("poke error", metric(PokeError), inputs=_poke_error),
    _own("flow EPE", metric(FlowEPE), inputs=_flow),
    _own("flow EPE (relative)", metric(FlowEPE, relative=True), inputs=_flow),
    _own("background displacement", metric(BackgroundDisplacement), inputs=_background_displacement),
    _own("background change (grey levels)", _GREY, inputs=_background_change),
    _background("displacement (background poke)", metric(BackgroundDisplacement), inputs=_background_displacement),
    _background("change (background poke)", _GREY, inputs=_background_change),
    _moving("counterfactual accuracy", metric(CounterfactualAccuracy, definition=_COUNTERFACTUAL), inputs=_outcomes),
    _moving("L1 of changed pixels / copy the still", metric(ChangedPixels), inputs=_changed_pixels),
    _moving("targeted end-point error", metric(EndpointError, definition=_TARGETED), inputs=_tracked_end),
    *drag_columns(),
)
