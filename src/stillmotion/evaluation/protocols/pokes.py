"""The protocol `pokes`: a still and one poke, ten frames after it, and the columns that measure what the poke moved.

Of a clip of the world `plants` there are three cases: its own poke and the other poke, both with their true outcome,
and a poke of the background, whose true outcome is a still video. Any other clip has one case, with a poke simulated
from the optical flow between its first and its last frame (Blattmann et al., CVPR 2021, Sec. 3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib import import_module
from typing import Any, Literal

import cv2
import numpy as np
import torch

from stillmotion import media
from stillmotion.data.clip import Clip
from stillmotion.data.flow import find_flow
from stillmotion.data.motion_truth import WARPED, knows_motion, visibility
from stillmotion.data.part_flow import flow_between
from stillmotion.errors import StillmotionError
from stillmotion.evaluation.metrics.control import (
    BackgroundChange,
    CounterfactualAccuracy,
    EndpointError,
    static_pixels,
)
from stillmotion.evaluation.metrics.curves import CURVES
from stillmotion.evaluation.metrics.feature import LPIPS
from stillmotion.evaluation.metrics.pixel import PSNR, SSIM, BatchPSNR, BatchSSIM
from stillmotion.evaluation.metrics.poke import BackgroundDisplacement, ChangedPixels, FlowEPE, PokeError, value_at
from stillmotion.evaluation.protocols.base import Protocol, copy_still, feed
from stillmotion.evaluation.protocols.columns import (
    FVD_COLUMN,
    LPIPS_COLUMN,
    PIXELS,
    WORLD_FVD_COLUMN,
    Case,
    Column,
    Prediction,
    Sample,
    metric,
    pixel_columns,
    target_frames,
)
from stillmotion.evaluation.protocols.regions import changed, region_columns
from stillmotion.options import Control

LENGTH = 10  # frames after the still
SEED = 0  # of the places of background pokes, and of the poked pixels of clips that know no motion
SHORTEST = 1 / 32  # of the width: a shorter poke asks for no motion that could be measured
CLEARANCE = 6  # pixels between a background poke and what moves
BORDER = 3  # pixels along the sides where the flow is not taken for a poke
FIELD = "displacement"
"""The fact of a step that columns measure: H x W x 2, backward, in pixels (x, y) of the frame."""

Kind = Literal["own", "other", "background"]


@dataclass(frozen=True, eq=False)
class PokeCase(Case):
    """A still and a poke; `target` is its true outcome, `LENGTH` frames after the still."""

    kind: Kind
    start: np.ndarray  # (x, y) of the poked point in the still, pixels
    end: np.ndarray  # where it is to be in the last frame
    other_last: np.ndarray | None = None  # the last frame of another poke on this still, H x W x 3, if there is one


def poke_cases(clips: Sequence[Clip]) -> list[Case]:
    """All cases of the clips.

    Raises:
        StillmotionError: a clip is too short, or no clip has a poke.
    """
    cases: list[Case] = []
    for i, clip in enumerate(clips):
        if len(clip) <= LENGTH:
            raise StillmotionError(
                f"Clip {clip.name!r} has {len(clip)} frames; the protocol pokes needs {LENGTH + 1}: prepare longer "
                "clips."
            )
        rng = np.random.default_rng([SEED, i])
        cases += world_cases(clip, rng) if "other_frames" in clip.tracks else simulated_cases(clip, rng)
    if not cases:
        raise StillmotionError(f"Nothing moves in the first {LENGTH + 1} frames of these clips; take others.")
    return cases


def world_cases(clip: Clip, rng: np.random.Generator) -> list[Case]:
    """The cases `own`, `other` and `background` of a clip that knows both outcomes; pokes under `SHORTEST` have none.

    The poke goes to where the poked point is in the last frame, as pokes that are simulated from flow do.
    """
    videos = [np.asarray(video)[: LENGTH + 1] for video in (clip.frames, clip.tracks["other_frames"])]
    ends = [np.asarray(clip.tracks[name], np.float64)[[0, LENGTH]] for name in ("path", "other_path")]
    lasting = [is_long(start, end, clip) for start, end in ends]
    others = [videos[1][-1], videos[0][-1]] if all(lasting) else [None, None]
    still, (start, end), (other_start, other_end) = videos[0][0], *ends
    cases: list[Case] = []
    if lasting[0]:
        cases.append(PokeCase(clip.name, still, videos[0], clip, "own", start, end, others[0]))
    if lasting[1]:
        name = f"{clip.name}--other"
        cases.append(PokeCase(name, still, videos[1], clip, "other", other_start, other_end, others[1]))
    place = background_place(clip, end - start, rng) if lasting[0] else None
    if place is not None:
        rest = np.repeat(still[None], LENGTH + 1, axis=0)
        name = f"{clip.name}--background"
        cases.append(PokeCase(name, still, rest, clip, "background", place, place + end - start))
    return cases


def is_long(start: np.ndarray, end: np.ndarray, clip: Clip) -> bool:
    """Whether a poke is long enough to be measured."""
    return bool(np.linalg.norm(end - start) >= SHORTEST * clip.frames.shape[2])


def background_place(clip: Clip, vector: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """A random pixel (x, y) far from what moves, from which the vector stays inside the picture; None without one."""
    moving = (np.asarray(clip.tracks["mask"])[: LENGTH + 1] > 0).any(axis=0)
    away = cv2.distanceTransform(np.where(moving, 0, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    y, x = np.nonzero(away >= CLEARANCE)
    ends, (height, width) = np.stack([x, y], axis=1) + vector, moving.shape
    inside = ((ends >= 0) & (ends <= (width - 1, height - 1))).all(axis=1)
    found = np.flatnonzero(inside)
    if len(found) == 0:
        return None
    at = found[rng.integers(len(found))]
    return np.array([x[at], y[at]], np.float64)


def simulated_cases(clip: Clip, rng: np.random.Generator) -> list[Case]:
    """The case `own` of a clip without known motion, its poke simulated from flow; none where nothing moves."""
    frames = np.asarray(clip.frames)[: LENGTH + 1]
    start, end = simulated_poke(flow_from_first_to_last(frames), rng)
    known = is_long(start, end, clip)
    return [PokeCase(clip.name, frames[0], frames, clip, "own", start, end)] if known else []


def simulated_poke(motion: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random pixel that moves clearly more than the mean, and where the flow takes it; (x, y) each.

    Args:
        motion: forward flow, H x W x 2 pixels.
        rng: chooses among the pixels above mean + 2 deviations; without one, above mean + 1, above the mean, all.
    """
    amplitude = np.linalg.norm(motion, axis=-1)
    inside = np.zeros(amplitude.shape, bool)
    inside[BORDER:-BORDER, BORDER:-BORDER] = True
    mean, deviation = amplitude[inside].mean(), amplitude[inside].std()
    levels = (mean + 2 * deviation, mean + deviation, mean, -1.0)
    y, x = next(found for level in levels if len((found := np.nonzero(inside & (amplitude > level)))[0]))
    at = rng.integers(len(x))
    start = np.array([x[at], y[at]], np.float64)
    return start, start + motion[y[at], x[at]]


def flow_from_first_to_last(frames: np.ndarray) -> np.ndarray:
    """Forward optical flow (DIS) from the first to the last of T frames; H x W x 2 pixels, float32."""
    return find_flow()(frames[0], frames[-1])


def control_of(case: PokeCase) -> Control:
    """The case's poke as the control of the system `pokes`."""
    poke: Callable[..., Control] = import_module("stillmotion.systems.pokes").Poke
    (x0, y0), (x1, y1) = case.start.tolist(), case.end.tolist()
    return poke([((x0, y0), (x1, y1))])


# --- baselines -----------------------------------------------------------------------------------------------------


def still_picture(case: Case, sample: int = 0) -> Sample:
    """Baseline: every frame is the still, and nothing is displaced."""
    return Sample(copy_still(case), {FIELD: np.zeros((*case.target.shape[:3], 2), np.float32)})


def moved_patch(case: Case, sample: int = 0) -> Sample:
    """Baseline: the still warped by a gaussian patch that goes along the poke, evenly in time.

    The patch has its full shift at the poked point and a standard deviation of a tenth of the width. It knows the
    control and nothing of the object.
    """
    poke = _poke_case(case)
    height, width = case.still.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    frames, fields = np.empty_like(case.target), np.empty((*case.target.shape[:3], 2), np.float32)
    for t, share in enumerate(np.linspace(0, 1, len(frames))):
        shift = share * (poke.end - poke.start)
        distance = (x - (poke.start + shift)[0]) ** 2 + (y - (poke.start + shift)[1]) ** 2
        fields[t] = np.exp(-distance / (2 * (width / 10) ** 2))[..., None] * -shift
        places = x + fields[t, ..., 0], y + fields[t, ..., 1]
        frames[t] = cv2.remap(case.still, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return Sample(frames, {FIELD: fields})


def true_clip(case: Case, sample: int = 0) -> np.ndarray:
    """Baseline: the target frames. Its error is that of what measures: the optical flow in pixels."""
    return case.target


# --- inputs of the metrics -----------------------------------------------------------------------------------------


def _poke_case(case: Case) -> PokeCase:
    assert isinstance(case, PokeCase)
    return case


def has_truth(case: Case) -> bool:
    """Whether something is to move: a poke of the object."""
    return _poke_case(case).kind != "background"


def is_own(case: Case) -> bool:
    """Whether the clip's tracks describe the target."""
    return _poke_case(case).kind == "own"


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
    case, field = _poke_case(prediction.case), field_of(prediction)
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
    case = _poke_case(prediction.case)
    if case.other_last is None:
        return None
    # Pixels in which both outcomes agree add the same to both distances, so they need not be left out.
    return tuple(torch.from_numpy(frame / 255) for frame in (prediction.frames[-1], case.target[-1], case.other_last))


def _changed_pixels(prediction: Prediction) -> tuple[Any, ...]:
    case = prediction.case
    target = prediction.cache.reference(PIXELS, case, target_frames)
    return prediction.features(PIXELS), target, _still(case), torch.from_numpy(changed(case))


def _tracked_end(prediction: Prediction) -> tuple[Any, ...]:
    case = _poke_case(prediction.case)
    start, end = torch.from_numpy(case.start), torch.from_numpy(case.end)
    motion = torch.from_numpy(flow_from_first_to_last(prediction.frames))
    return (start + value_at(motion, start))[None], start[None], end[None]


_COUNTERFACTUAL = (
    "percent of predictions whose last frame is nearer (L1 over the pixels in which the two differ) to the true last "
    "frame of its own poke than to that of another poke on the same still; a tie is half; both pokes of each pair "
    "are evaluated, so 50 is the value of a model that ignores the poke; higher is better"
)
_TARGETED = (
    "distance between where the optical flow (DIS) from the first to the last frame takes the poked point and its "
    "target, as a share of the poke's length, over all pokes of the object; the true clip has the flow's own error, "
    "0 where the poke was simulated from that flow; lower is better"
)

_moving = partial(Column, applies=has_truth)
_own = partial(Column, applies=is_own)
_background = partial(Column, applies=lambda case: not has_truth(case))
_GREY = metric(BackgroundChange, grey_levels=True)

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
)

PROTOCOL = Protocol(
    name="pokes",
    definition=f"frame 0 of each clip is the still, followed by {LENGTH} frames, with three pokes as controls: the "
    "clip's own and the other one, each to where the poked point is in the last frame (both outcomes are known), and "
    f"the clip's own vector at a random place of the background {CLEARANCE} pixels or more from what moves (the "
    f"still is the outcome; seed {SEED}); of a clip that knows no other outcome one poke, simulated from the optical "
    f"flow (DIS) from frame 0 to frame {LENGTH}; pokes under {SHORTEST:g} of the width are left out",
    cases=poke_cases,
    predictor=feed(lambda system, case: control_of(case), facts=(FIELD,)),
    baselines={"copy the still": still_picture, "moved patch": moved_patch, "the true clip": true_clip},
    columns=COLUMNS,
    controls=("Poke",),
    curves=CURVES,
    has_truth=has_truth,
)
