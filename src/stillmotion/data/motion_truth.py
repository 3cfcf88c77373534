"""Exact motion between any two frames of a clip with known parts: where each pixel comes from, what it shows.

A world that knows its motion writes the tracks `parts` (T x H x W, the part seen at each pixel, 0 is the background)
and `moves` (T x P x 2 x 3, from each part's coordinates to pixels); see `part_flow`.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor

from stillmotion import geometry
from stillmotion.data.augment import AugmentParams
from stillmotion.data.clip import Clip
from stillmotion.data.part_flow import flow_between
from stillmotion.data.track_augment import augment_flow, augment_labels, source_places
from stillmotion.rendering.fields import PAINT, PLATE, STATIC, WARPED

UNKNOWN = -100
"""Class of a pixel of which nothing is known; `torch.nn.functional.cross_entropy` ignores it."""

_EDGE = 2.5
"""In pixels: how far outside of a figure its motion counts."""

_SHAKEN_BELOW = 3.0
"""In pixels: background that moves by less counts as static, since the unmoved still is the best guess of it. What
moves farther is a camera's pan. A direction tells neither."""

_STILL_BELOW = 1e-4
"""Of every number of a part's map: one that changes by less rests."""

_RESTING_BELOW = 1.0
"""Mean change of the background, in grey levels, of a camera at rest without noise."""


def knows_motion(clip: Clip) -> bool:
    """Whether a clip has the tracks `parts` and `moves`."""
    return "parts" in clip.tracks and "moves" in clip.tracks


def without_resting(clip: Clip, indices: np.ndarray) -> Clip:
    """The clip with those parts as background that rest in some of its frames: what lies about is no figure.

    Clips whose camera moves in these frames, in which all or nothing moves, or that do not know it, stay as they are.
    """
    if not knows_motion(clip):
        return clip
    resting = np.ptp(np.asarray(clip.tracks["moves"])[indices], axis=0).max(axis=(1, 2)) < _STILL_BELOW  # P
    if resting.all() or not (resting[0] and resting[1:].any()):
        return clip
    kept = np.where(resting, 0, np.arange(len(resting))).astype(np.uint8)
    parts = kept[np.asarray(clip.tracks["parts"])]
    return replace(clip, tracks={**clip.tracks, "parts": parts, "mask": (255 * (parts > 0)).astype(np.uint8)})


def motion_truth(clip: Clip, indices: np.ndarray, params: AugmentParams) -> dict[str, Tensor]:
    """The motion from the first to the second of two frames, after an augmentation.

    Args:
        clip: with or without the tracks.
        indices: the two frames, in the clip's order (as `PairDataset` draws them).
        params: the augmentation; played backwards, the later frame is the still.

    Returns:
        * `displacement`, h x w x 2: backward, normalised, where in the still each pixel of the driving frame is from;
        * `moving`, h x w: 1 where that pixel is figure, of whose motion a direction can say something, or just
          outside of it, where the motion is that of the nearest pixel of the figure; else 0;
        * `visibility`, h x w, `int64`: what shows there: `WARPED`, figure that the still shows; `STATIC`, background
          that moves by little or not at all; `PLATE`, background that the still's figure hides;
          `PAINT`, what the still does not show; or `UNKNOWN`, background that has moved far, and everywhere in a clip
          that does not know its motion;
        * `figure`, 1 x h x w: 1 for the still's figure, else 0, or -1 where it is not known.

        Of a clip that knows only its figure, see `mask_truth`.
    """
    height, width = params.out
    still, driving = (int(i) for i in (indices[::-1] if params.reverse else indices))
    if not knows_motion(clip):
        return mask_truth(clip, still, driving, params)
    parts, moves = np.asarray(clip.tracks["parts"]), np.asarray(clip.tracks["moves"])
    flow = flow_between(parts, moves, driving, still)
    shown = visibility(parts[still], parts[driving], flow)
    flow, moving = extended(flow, parts[driving] > 0)
    sources = source_places(params)
    moved = torch.from_numpy(augment_flow(flow, params, sources))
    return {
        "displacement": geometry.displacement_to_normalised(moved, (height, width)),
        "moving": torch.from_numpy(augment_labels(moving, sources).astype(np.float32)),
        "visibility": torch.from_numpy(augment_labels(shown, sources).astype(np.int64)),
        "figure": torch.from_numpy((augment_labels(parts[still], sources) > 0).astype(np.float32))[None],
    }


def mask_truth(clip: Clip, still: int, driving: int, params: AugmentParams) -> dict[str, Tensor]:
    """What a clip's track `mask` (its figure) says of two frames, as `motion_truth`; nothing where there is none.

    Background of a camera at rest is the still's, or what the figure has uncovered of it; of the figure the mask says
    not where it comes from.
    """
    height, width = params.out
    known = {
        "displacement": torch.zeros(height, width, 2),
        "moving": torch.zeros(height, width),
        "visibility": torch.full((height, width), UNKNOWN),
        "figure": torch.full((1, height, width), -1.0),
    }
    if "mask" not in clip.tracks:
        return known
    before, after = (np.asarray(clip.tracks["mask"][i]) > 127 for i in (still, driving))
    sources = source_places(params)
    known["figure"] = torch.from_numpy((augment_labels(before.astype(np.uint8), sources) > 0).astype(np.float32))[
        None
    ]
    bare = ~(before | after)
    change = np.abs(clip.frames[still].astype(np.int16) - clip.frames[driving].astype(np.int16))[bare]
    if change.size and change.mean() < _RESTING_BELOW:
        shown = np.select([after, before], [UNKNOWN, PLATE], STATIC).astype(np.int16)
        known["visibility"] = torch.from_numpy(augment_labels(shown, sources).astype(np.int64))
    return known


def extended(flow: np.ndarray, figure: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A flow carried over the figure's edge, H x W x 2, and where it counts, H x W truth values.

    Pixels just outside come from just outside of the still's figure then, so that its alpha ends the moved figure.
    """
    if not figure.any():
        return flow, figure
    away, nearest = cv2.distanceTransformWithLabels(
        (~figure).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    flow_of = np.zeros((int(nearest.max()) + 1, 2), flow.dtype)
    flow_of[nearest[figure]] = flow[figure]
    counts = away <= _EDGE
    return np.where((counts & ~figure)[..., None], flow_of[nearest], flow), counts


def motion_truths(clip: Clip, indices: np.ndarray, params: AugmentParams) -> dict[str, Tensor]:
    """The motion from the first of T frames to each of the others, after an augmentation.

    Args:
        clip: see `motion_truth`.
        indices: the frames in the clip's order; played backwards, the last one is the still.
        params: the augmentation.

    Returns:
        As `motion_truth`, with T - 1 entries of all but `figure`.
    """
    still = indices[-1] if params.reverse else indices[0]
    others = indices[-2::-1] if params.reverse else indices[1:]
    pairs = [(other, still) if params.reverse else (still, other) for other in others]
    found = [motion_truth(clip, np.array(pair), params) for pair in pairs]
    stacked = {name: torch.stack([one[name] for one in found]) for name in found[0]}
    return stacked | {"figure": found[0]["figure"]}


def visibility(still: np.ndarray, driving: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """What each pixel of a driving frame shows of the still; H x W, `int16`; see `motion_truth`.

    Args:
        still: the parts seen in the still, H x W.
        driving: the parts seen in the driving frame.
        flow: H x W x 2 pixels, from the driving frame to the still.
    """
    height, width = still.shape
    y, x = np.mgrid[:height, :width]
    column, row = np.rint(x + flow[..., 0]).astype(int), np.rint(y + flow[..., 1]).astype(int)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    # A part's border moves by fractions of a pixel, so its neighbours count too.
    seen = np.zeros(still.shape, bool)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            there = still[np.clip(row + dy, 0, height - 1), np.clip(column + dx, 0, width - 1)]
            seen |= there == driving
    bare = still[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)] == 0
    return np.select(
        [driving > 0, np.abs(flow).max(-1) > _SHAKEN_BELOW, ~inside, bare],
        [np.where(seen & inside, WARPED, PAINT), UNKNOWN, PAINT, STATIC],
        PLATE,
    ).astype(np.int16)
