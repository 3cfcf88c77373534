"""The protocols `actions` and `actions-all`: a still and the name of an action, and whether the still performs it.

The still is a clip's first frame. `actions` asks for the clip's own action, `actions-all` for every action of the
clips. Where a clip shows the same character from the same side in the action asked for, as game characters' do, its
frames are the true outcome.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from stillmotion import geometry, media
from stillmotion.animate import Animator
from stillmotion.data.motion_truth import PAINT, STATIC, WARPED
from stillmotion.errors import StillmotionError
from stillmotion.evaluation.extractors.actions import ActionClassifier, sample_times
from stillmotion.evaluation.extractors.base import FeatureExtractor
from stillmotion.evaluation.extractors.identity import figure_colours
from stillmotion.evaluation.metrics.actions import (
    BackgroundExactness,
    DiversityRatio,
    FeatureDiversity,
    KeypointConsistency,
    MaskCoverage,
    RecognitionAccuracy,
)
from stillmotion.evaluation.metrics.feature import IdentityAccuracy
from stillmotion.evaluation.metrics.poke import ChangedPixels
from stillmotion.evaluation.protocols.action_cases import (
    LENGTH,
    ActionCase,
    action_cases,
    evenly_sampled,
    still_figure,
)
from stillmotion.evaluation.protocols.base import Predictor, Protocol, copy_still, feed
from stillmotion.evaluation.protocols.columns import (
    FVD_COLUMN,
    LPIPS_COLUMN,
    PIXELS,
    WORLD_FVD_COLUMN,
    Case,
    Column,
    FeatureCache,
    Prediction,
    Sample,
    identity_columns,
    metric,
    still_frame,
    target_frames,
)
from stillmotion.evaluation.protocols.regions import changed
from stillmotion.options import Control
from stillmotion.systems.base import System

CLASSIFIER = "actions"  # the name of its extractor
SAMPLES = 2  # of each case, seeds 0 and 1
SHARES, DISPLACEMENT, KEYPOINTS = "shares", "displacement", "mean"
DETECTED, TARGET_KEYPOINTS, FIGURE = "detected", "target_keypoints", "figure"
"""Facts that columns measure: the first three of steps; the others are found here."""

KEPT_ABOVE = 0.97  # share of the unmoved still from which on a pixel is taken to be kept
LEAST_FIGURE = 0.5  # share of moved figure, paint and kept figure above which a pixel counts as the figure
PLACES = 16  # side of the pictures whose change is compared for diversity in pixels


# --- predictions ---------------------------------------------------------------------------------------------------


def act_control(system: System, case: ActionCase) -> Control | None:
    """The case's action as the system's own control, the one with a field `action`; None if it cannot be asked for.

    It is to be seen from the clip's side, if the system knows sides. A model without classes performs what it likes,
    the paper's ablation, and is measured by the action asked for.
    """
    own = system.control_of(case.clip)
    if getattr(system.config, "actions", None) == ():
        return own
    for kind in system.controls:
        if "action" in {field.name for field in dataclasses.fields(kind)}:
            make: Callable[..., Control] = partial(dataclasses.replace, own) if isinstance(own, kind) else kind
            control = make(action=case.action)
            try:
                system.check_control(control)
            except StillmotionError:  # an action that the model does not know
                return None
            return control
    return None


def predictor(animator: Animator) -> Predictor:
    """Animates; a system with `detect_keypoints(frames: T x H x W x 3 uint8) -> T x K x 2` also finds keypoints."""
    animate = feed(act_control, facts=(SHARES, DISPLACEMENT, KEYPOINTS))(animator)
    detect: Callable[[np.ndarray], np.ndarray] | None = getattr(animator.system, "detect_keypoints", None)

    @lru_cache(maxsize=1)  # samples of a case come one after the other
    def find_in_target(case: Case) -> np.ndarray:
        assert detect is not None
        return detect(case.target)

    def predict(case: Case, sample: int) -> Sample | None:
        made = animate(case, sample)
        if not isinstance(made, Sample):
            return None
        found = {} if detect is None else {DETECTED: detect(made.frames)}
        if detect is not None and is_own(case):
            found[TARGET_KEYPOINTS] = find_in_target(case)
        return Sample(made.frames, {**made.facts, **found})

    return predict


def still_picture(case: Case, sample: int = 0) -> Sample:
    """Baseline: every frame is the still."""
    return Sample(copy_still(case), _figures(case, moving=False))


def true_clip(case: Case, sample: int = 0) -> Sample | None:
    """Baseline: the target frames. What is recognised in them is the classifier's own accuracy on these clips."""
    return Sample(case.target, _figures(case, moving=True)) if _action_case(case).true else None


def _figures(case: Case, moving: bool) -> dict[str, np.ndarray]:
    """The figure in every frame of a baseline, where the clip knows it."""
    still, masks = still_figure(case.clip), case.clip.tracks.get("mask")
    if not moving and still is not None:
        return {FIGURE: np.repeat(still[None], len(case.target), axis=0)}
    if moving and masks is not None and is_own(case):
        return {FIGURE: (evenly_sampled(np.asarray(masks)) > 0).astype(np.float32)}
    return {}


# --- inputs of the metrics -----------------------------------------------------------------------------------------


def _action_case(case: Case) -> ActionCase:
    assert isinstance(case, ActionCase)
    return case


def is_own(case: Case) -> bool:
    """Whether the target is the clip's own action."""
    return _action_case(case).own


def has_truth(case: Case) -> bool:
    """Whether the target is the true outcome."""
    return _action_case(case).true


def has_action(case: Case) -> bool:
    """Whether an action is asked for."""
    return _action_case(case).action is not None


def _classifier(cache: FeatureCache) -> ActionClassifier:
    found = cache.extractors[CLASSIFIER]
    if not isinstance(found, ActionClassifier):
        raise StillmotionError("The network actions must be an ActionClassifier; see extractors/actions.py.")
    return found


def _asked(prediction: Prediction) -> Tensor:
    """The place of the action asked for among the classifier's classes.

    Raises:
        StillmotionError: the classifier does not know it.
    """
    case, classes = _action_case(prediction.case), _classifier(prediction.cache).classes
    if case.action not in classes:
        raise StillmotionError(
            f"The classifier does not know the action {case.action!r} of clip {case.clip.name!r}; it knows "
            f"{', '.join(classes)}."
        )
    return torch.tensor([classes.index(str(case.action))])


def _recognised(prediction: Prediction) -> tuple[Any, ...]:
    return _classifier(prediction.cache).scores(prediction.features(CLASSIFIER)), _asked(prediction)


def _recognised_real(prediction: Prediction) -> tuple[Any, ...]:
    features = prediction.cache.reference(CLASSIFIER, prediction.case, target_frames)
    return _classifier(prediction.cache).scores(features), _asked(prediction)


def _labelled(prediction: Prediction) -> tuple[Any, ...]:
    return prediction.features(CLASSIFIER), _asked(prediction)


Points = Callable[[Prediction, np.ndarray | None], Tensor | None]
"""Points, ... x D, of a prediction's frames, or of the target's frames where they are given."""


def _against_real(points: Points) -> Callable[[Prediction], tuple[Any, ...] | None]:
    """Points of a sample, the action's place, and points of the real clip where the action is its own."""

    def inputs(prediction: Prediction) -> tuple[Any, ...] | None:
        case, made = _action_case(prediction.case), points(prediction, None)
        real = points(prediction, case.target) if case.own else None
        return None if made is None else (made, torch.tensor(case.place), real)

    return inputs


def _feature_points(prediction: Prediction, target: np.ndarray | None) -> Tensor:
    if target is None:
        return prediction.features(CLASSIFIER)
    return prediction.cache.reference(CLASSIFIER, prediction.case, target_frames)


def _pixel_points(prediction: Prediction, target: np.ndarray | None) -> Tensor:
    """Colours of 16 x 16 places at 16 times, less those of the first frame: T x 256 x 3 in [-1, 1]."""
    frames = prediction.frames if target is None else target
    # The mean over a place, so that neither noise nor a shift by a pixel counts.
    small = np.stack([cv2.resize(f, (PLACES, PLACES), interpolation=cv2.INTER_AREA) for f in frames]) / np.float32(
        255
    )
    return torch.from_numpy((small - small[:1])[sample_times(len(small))]).flatten(1, 2)


def _keypoint_points(prediction: Prediction, target: np.ndarray | None) -> Tensor | None:
    """Keypoints at 16 times, less those of the first frame: T x K x 2, normalised."""
    found = prediction.facts.get(KEYPOINTS if target is None else TARGET_KEYPOINTS)
    if found is None:
        return None
    known = torch.from_numpy(np.asarray(found, np.float64))
    return (known - known[:1])[sample_times(len(known))]


def _consistency(prediction: Prediction) -> tuple[Any, ...] | None:
    asked, found = (prediction.facts.get(name) for name in (KEYPOINTS, DETECTED))
    if asked is None or found is None:
        return None
    return tuple(torch.from_numpy(np.asarray(points, np.float64))[1:] for points in (asked, found))


def _coverage(prediction: Prediction) -> tuple[Any, ...] | None:
    shares = prediction.facts.get(SHARES)
    return None if shares is None else (torch.from_numpy(shares[1:, STATIC]),)


def _kept(prediction: Prediction) -> tuple[Any, ...] | None:
    """Frames, still, and the pixels that are kept; a pixel of the networks around counts as well."""
    shares = prediction.facts.get(SHARES)
    if shares is None:
        return None
    moving = np.where(shares[:, STATIC] > KEPT_ABOVE, 0, 1).astype(np.uint8)
    near = np.stack([cv2.dilate(frame, np.ones((3, 3), np.uint8)) for frame in moving])
    kept = torch.from_numpy(_enlarged(near, prediction) == 0)
    return torch.from_numpy(prediction.frames), torch.from_numpy(np.array(prediction.case.still)), kept


def _enlarged(maps: np.ndarray, prediction: Prediction) -> np.ndarray:
    """T x S x S as T x H x W, the outer edges aligned."""
    height, width = prediction.frames.shape[1:3]
    return np.stack([cv2.resize(each, (width, height), interpolation=cv2.INTER_NEAREST) for each in maps])


def _moved(still: np.ndarray, prediction: Prediction) -> np.ndarray:
    """The still's figure, H x W, where its pixels are sent, T x H x W; everywhere if nobody says where.

    What was behind a figure may be drawn with background from beside it, and that is not the figure.
    """
    if DISPLACEMENT not in prediction.facts:
        return np.ones(prediction.frames.shape[:3], np.float32)
    sent = torch.from_numpy(np.nan_to_num(prediction.facts[DISPLACEMENT].astype(np.float32)))
    grid = geometry.resize_grid(sent + geometry.identity_grid((sent.shape[1], sent.shape[2]), sent), still.shape)
    moved: Tensor = geometry.warp(torch.from_numpy(still).expand(len(grid), 1, -1, -1), grid)
    return moved[:, 0].numpy()


def _identity(prediction: Prediction) -> tuple[Any, ...] | None:
    """Colours of the figure in each frame, the gallery, and the right place in it."""
    case, figure = _action_case(prediction.case), prediction.facts.get(FIGURE)
    still = still_figure(case.clip)
    if figure is None and SHARES in prediction.facts and still is not None:
        shares = np.nan_to_num(prediction.facts[SHARES].astype(np.float32))
        warped, unmoved, paint = (_enlarged(shares[:, source], prediction) for source in (WARPED, STATIC, PAINT))
        # Whole pixels, as in the gallery: a little of the background around moves along, and has other colours.
        figure = warped * _moved(still, prediction) + unmoved * still + paint
        figure = (figure > LEAST_FIGURE).astype(np.float32)
    if figure is None or case.gallery is None:
        return None
    colours = figure_colours(prediction.frames, figure)
    return colours, case.gallery, torch.full((len(colours),), case.person)


def _changed_pixels(prediction: Prediction) -> tuple[Any, ...]:
    case = prediction.case
    target = prediction.cache.reference(PIXELS, case, target_frames)
    still = torch.from_numpy(media.to_float(case.still[None]))[0]
    return prediction.features(PIXELS), target, still, torch.from_numpy(changed(case))


# --- columns -------------------------------------------------------------------------------------------------------

_REAL = (
    "percent of the cases' own clips recognised as their action: the classifier's own accuracy, the same in every "
    "row, and the most that a model can have"
)
_IDENTITY = (
    "percent of frames whose figure's colours (a histogram) are nearer to those in its own still than to those in "
    "any other person's; a tie is wrong; higher is better"
)
_CHANGED = (
    "sum of the absolute pixel errors over that of copying the still, where the target differs from it, all frames "
    "and cases summed before the division; frames of the same time are compared, without any alignment, so that "
    "another pace counts as an error; lower is better"
)


def _recognition(**options: Any) -> Callable[[FeatureExtractor | None], RecognitionAccuracy]:
    def build(source: FeatureExtractor | None) -> RecognitionAccuracy:
        assert isinstance(source, ActionClassifier)
        return RecognitionAccuracy(source.classes, **options)

    return build


_named = partial(Column, extractor=CLASSIFIER, applies=has_action)
_spread = partial(_named, per_case=False, over_samples=True)
_compared = partial(Column, over_samples=True, per_case=False, applies=has_action)

COLUMNS: tuple[Column, ...] = (
    Column("recognised (real clips)", _recognition(definition=_REAL), CLASSIFIER, inputs=_recognised_real,
           applies=lambda case: is_own(case) and has_action(case)),
    _named("recognised", _recognition(tabulated=True), inputs=_recognised),
    _named("recognised, 95 % +-", _recognition(interval=True), inputs=_recognised),
    _spread("diversity", metric(FeatureDiversity), inputs=_labelled),
    _spread("diversity, 95 % +-", metric(FeatureDiversity, interval=True), inputs=_labelled),
    _spread("multimodality", metric(FeatureDiversity, within=True), inputs=_labelled),
    _spread("multimodality, 95 % +-", metric(FeatureDiversity, within=True, interval=True), inputs=_labelled),
    _spread("diversity ratio (features)", metric(DiversityRatio, space="the classifier's features"),
            inputs=_against_real(_feature_points)),
    _compared("diversity ratio (pixels)",
              metric(DiversityRatio, space=f"{PLACES} x {PLACES} colours less the first frame's, at equal times"),
              inputs=_against_real(_pixel_points)),
    _compared("diversity ratio (keypoints)",
              metric(DiversityRatio, space="keypoints less the first frame's, at equal times"),
              inputs=_against_real(_keypoint_points)),
    *(replace(column, applies=is_own) for column in (FVD_COLUMN, WORLD_FVD_COLUMN)),
    replace(LPIPS_COLUMN, applies=has_truth),
    Column("identity right", metric(IdentityAccuracy, definition=_IDENTITY), inputs=_identity),
    *identity_columns(still_frame),
    Column("background exactness", metric(BackgroundExactness), inputs=_kept),
    Column("mask coverage", metric(MaskCoverage), inputs=_coverage),
    Column("keypoint consistency (% of width)", metric(KeypointConsistency), inputs=_consistency),
    Column("L1 of changed pixels / copy the still", metric(ChangedPixels, definition=_CHANGED),
           inputs=_changed_pixels, applies=has_truth),
)  # fmt: skip

_DEFINITION = (
    f"frame 0 of each clip is the still and {{}} the control; at most {LENGTH} frames, {SAMPLES} samples with seeds "
    "from 0 on"
)

PROTOCOL = Protocol(
    name="actions",
    definition=_DEFINITION.format("the clip's own action"),
    cases=action_cases,
    predictor=predictor,
    baselines={"copy the still": still_picture, "the true clip": true_clip},
    columns=COLUMNS,
    controls=("Act",),
    samples=SAMPLES,
    has_truth=has_truth,
)

PROTOCOL_ALL = replace(
    PROTOCOL,
    name="actions-all",
    definition=f"{_DEFINITION.format('every action of the clips')}; than the clip's has "
    "a true outcome only where the same character performs it from the same side",
    cases=partial(action_cases, every=True),
)
