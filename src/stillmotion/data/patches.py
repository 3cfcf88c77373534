"""Tracking by patch matching, as the paper of motion strokes made its strokes for the Push data.

In the first frame the patch most similar to one of a few reference pictures is taken (the paper has 14 of 64 x 64
pixels, chosen by hand); in every next frame, the patch nearby that is most similar to the last one. Similarity is
normalised correlation, or a distance of a network's features (the paper's VGG), which the caller provides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stillmotion import media
from stillmotion.data.points import PointTracker, smooth_path
from stillmotion.data.tracks import detect_moving_object
from stillmotion.errors import StillmotionError

Similarity = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Takes a picture (H x W x 3 `uint8`) and a patch (h x w x 3), gives (H-h+1) x (W-w+1) numbers, at most 1, best 1."""

# The paper's patches are a quarter of the picture's side, and move by at most 17 of 256 pixels a frame.
PATCH_SHARE = 1 / 4
_REACH_SHARE = 1 / 8
# The patch of the last frame drifts: a match with the first one of at least this similarity replaces it.
_ANCHOR_SIMILARITY = 0.8
# Along an edge all places are similar: one at the limit of the search must be better by so much.
_DISTANCE_PENALTY = 0.05


def correlation(picture: np.ndarray, patch: np.ndarray) -> np.ndarray:
    """Normalised correlation of a patch with every place of a picture, -1 to 1; see `Similarity`."""
    score = cv2.matchTemplate(np.ascontiguousarray(picture), np.ascontiguousarray(patch), cv2.TM_CCOEFF_NORMED)
    # A patch or a place without contrast gives infinities or NaN.
    return np.where(np.isfinite(score) & (np.abs(score) <= 1 + 1e-3), score, -1.0)


def perceptual(features: Callable[[Tensor], Sequence[Tensor]]) -> Similarity:
    """Similarity of a network's features: 1 minus the mean squared distance over the patch's own mean square.

    `features` go from N x 3 x H x W in [0, 1] to maps N x C x H/s x W/s of one or more strides s, such as a VGG's.
    The similarity is averaged over the maps, at each map's stride and interpolated in between.
    """

    @torch.inference_mode()
    def similarity(picture: np.ndarray, patch: np.ndarray) -> np.ndarray:
        size = (picture.shape[0] - patch.shape[0] + 1, picture.shape[1] - patch.shape[1] + 1)
        total = torch.zeros(size)
        whole, part = (features(torch.from_numpy(media.to_float(p[None]))) for p in (picture, patch))
        for wide, small in zip(whole, part, strict=True):
            ones = torch.ones_like(small)
            # |a - b|^2 = |a|^2 - 2 ab + |b|^2 at every place, by two convolutions.
            own = small.square().sum()
            distance = F.conv2d(wide.square(), ones) - 2 * F.conv2d(wide, small) + own
            score = 1 - distance / own.clamp_min(1e-12)
            total += F.interpolate(score, size, mode="bilinear", align_corners=True)[0, 0]
        return np.asarray(total / len(part))

    return similarity


def read_references(folder: Path) -> tuple[np.ndarray, ...]:
    """Read the reference pictures of a folder, in order of their names.

    Raises:
        StillmotionError: no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise StillmotionError(f"{str(folder)!r} is not a folder: give one with pictures of the object to track.")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
    if not paths:
        raise StillmotionError(f"There is no PNG, JPEG or WebP picture in {str(folder)!r}.")
    return tuple(media.read_picture(path) for path in paths)


def patch_tracker(
    references: Sequence[np.ndarray] = (),
    similarity: Similarity = correlation,
    start: tuple[float, float] | None = None,
) -> PointTracker:
    """Make a tracker of a patch as wide as a quarter of the picture's smaller side.

    Args:
        references: pictures of the object, scaled to the patch's size; the first frame's patch most similar to any
            of them is tracked. Without them, and without `start`, it is the patch around the moving object in the
            frame with the highest confidence, tracked forwards and backwards in time.
        similarity: compares two patches.
        start: (x, y) of the patch's centre in the first frame, instead of a search.

    Returns:
        A tracker; its confidence is the similarity of neighbouring frames' patches, 0 to 1, multiplied from the
        start on, so that a lost patch stays lost.
    """

    def track(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        side = max(5, round(min(frames.shape[1:3]) * PATCH_SHARE))
        begin, sure = 0, 1.0
        if start is not None:
            place = np.array(start, np.float64)
        elif references:
            place, sure = _best_match(frames[0], [media.resize(r, (side, side)) for r in references], similarity)
        else:
            found, confidence = detect_moving_object(frames)
            begin = int(confidence.argmax())
            place, sure = (found[begin, :2] + found[begin, 2:]) / 2, float(confidence[begin])
        places = np.full((len(frames), 2), np.nan, np.float32)
        confidence = np.zeros(len(frames), np.float32)
        if sure > 0:
            for times in (range(begin, len(frames)), range(begin, -1, -1)):
                places[list(times)], confidence[list(times)] = _follow(frames[list(times)], place, side, similarity)
        confidence = confidence * min(1.0, max(0.0, sure))
        return smooth_path(places, confidence), confidence

    return track


def _best_match(frame: np.ndarray, patches: Sequence[np.ndarray], similarity: Similarity) -> tuple[np.ndarray, float]:
    """Centre of the place most similar to one of the patches, and the similarity."""
    best, where = -np.inf, np.zeros(2)
    for patch in patches:
        score = similarity(frame, patch)
        row, column = np.unravel_index(score.argmax(), score.shape)
        if score[row, column] > best:
            best = float(score[row, column])
            where = np.array([column, row]) + (np.array(patch.shape[1::-1]) - 1) / 2
    return where, best


def _follow(
    frames: np.ndarray, place: np.ndarray, side: int, similarity: Similarity
) -> tuple[np.ndarray, np.ndarray]:
    """Places T x 2 and confidences T of a patch that is at `place` in the first of the frames."""
    reach = max(2, round(min(frames.shape[1:3]) * _REACH_SHARE))
    places, confidence = [np.asarray(place, np.float64)], [1.0]
    first = _cut(frames[0], places[0], side)
    patch = first
    for frame in frames[1:]:
        around = _cut(frame, places[-1], side + 2 * reach)
        offset, score = _peak(similarity(around, patch), reach)
        anchored, certain = _peak(similarity(around, first), reach)
        if certain >= _ANCHOR_SIMILARITY and certain >= score - 0.1:
            offset, score = anchored, certain
        places.append(places[-1] + offset)
        confidence.append(confidence[-1] * (1.0 if score >= 0.5 else max(0.0, 2 * score)))
        patch = _cut(frame, places[-1], side)
    return np.stack(places), np.array(confidence)


def _cut(frame: np.ndarray, centre: np.ndarray, side: int) -> np.ndarray:
    """The square around a centre, with sub-pixel precision, the border replicated; side x side x 3."""
    shift = (side - 1) / 2 - np.asarray(centre, np.float64)
    matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    return cv2.warpAffine(np.ascontiguousarray(frame), matrix, (side, side), borderMode=cv2.BORDER_REPLICATE)


def _peak(score: np.ndarray, reach: int) -> tuple[np.ndarray, float]:
    """Offset (x, y) of the best place from the middle, with sub-pixel precision, and its score."""
    steps = np.arange(-reach, reach + 1)
    far = (steps[:, None] ** 2 + steps**2) / reach**2
    row, column = np.unravel_index((score - _DISTANCE_PENALTY * far).argmax(), score.shape)
    dx = _vertex(score[row, max(column - 1, 0) : column + 2])
    dy = _vertex(score[max(row - 1, 0) : row + 2, column])
    return np.array([column - reach + dx, row - reach + dy]), float(score[row, column])


def _vertex(three: np.ndarray) -> float:
    """Peak of the parabola through three neighbours, at most half a step from the middle one; 0 at a border."""
    if len(three) < 3:
        return 0.0
    before, top, after = (float(value) for value in three)
    bend = before - 2 * top + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < -1e-6 else 0.0
