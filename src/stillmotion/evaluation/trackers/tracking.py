"""Tracking of points and objects of the first frame through any video.

The input is pixels only, so predictions and target clips are tracked alike. Dense optical flow between neighbouring
frames (OpenCV's DIS, see `data.tracks.flow`) is chained; matching with the first frame bounds its drift.
`calibration` measures the error of these trackers on clips with ground truth.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from stillmotion import media
from stillmotion.data.clip import evenly
from stillmotion.data.points import drop_uncertain
from stillmotion.data.tracks import boxes, flow
from stillmotion.geometry import to_normalised, warp

# A patch is about an eighth of the picture's side; it is searched within a twentieth of the side, since the flow
# seldom errs by more in one step.
_PATCH_SHARE, _SEARCH_SHARE = 1 / 8, 1 / 20
# A match with at least this correlation replaces the flow: patches on rotating limbs soon fall below it.
_MIN_CORRELATION = 0.8
# Penalty on the correlation at the edge of the search window: along a straight edge all positions match equally.
_DISTANCE_PENALTY = 0.3
_MIN_CONTRAST = 0.02  # patches with less contrast (standard deviation of values in [0, 1]) match anywhere
# Confidence falls to 1/e when forward and backward flow disagree by a 64th of the picture's side.
_DISAGREEMENT = 1 / 64
_OBJECT_POINTS, _MIN_POINTS = 40, 3


def track_points(frames: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Track points of the first frame.

    Every point moves with the flow. Then the patch around it in the first frame is searched around the new position
    by normalised cross-correlation; where it is found, the match replaces the flow.

    Args:
        frames: `uint8`, T x H x W x 3.
        points: N x 2, (x, y) in pixels of the first frame.

    Returns:
        Positions (`float32`, T x N x 2; the first are `points`) and their confidence (`float32`, T x N, 0 to 1).
        Confidence falls where forward and backward flow disagree, and rises to the correlation where the patch is
        found; it is 0 outside the picture. A point that is occluded tends to move with what occludes it.

    Raises:
        ValueError: another shape, or a point that is not finite.
    """
    _check_frames(frames)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError(f"Points must be N x 2 finite numbers, not {points.shape}.")
    side = min(frames.shape[1:3])
    forward, backward = flow(frames), flow(frames[::-1])[::-1]
    search = int(np.clip(round(side * _SEARCH_SHARE), 2, 6))
    half = int(np.clip(round(side * _PATCH_SHARE / 2), 3, 8))
    positions = [torch.from_numpy(points.astype(np.float32))]
    template = _patches(_picture(frames[0]), positions[0], half)
    confidence = [_inside(positions[0], frames)]
    for t in range(len(frames) - 1):
        step = sample_map(forward[t], positions[t])
        guess = positions[t] + step
        disagreement = (step + sample_map(backward[t], guess)).norm(dim=1) / (side * _DISAGREEMENT)
        matched, score = _match(_picture(frames[t + 1]), template, guess, half, search)
        anchored = score >= _MIN_CORRELATION
        position = torch.where(anchored[:, None], matched, guess)
        certain = confidence[t] * torch.exp(-disagreement.square())
        certain = torch.where(anchored, torch.maximum(certain, score), certain)
        positions.append(position)
        confidence.append(certain * _inside(position, frames))
    return torch.stack(positions).numpy(), torch.stack(confidence).numpy()


def track_object(
    frames: np.ndarray,
    *,
    box: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    background: np.ndarray | None = None,
) -> np.ndarray:
    """Track the centre of one object, given as a box or a mask in the first frame, or by its background.

    By box or mask, the centre of the box moves with the median of the points tracked inside: for rigid objects and
    any camera. By background, it is the centre of the box around all that differs: for deforming objects and a
    static camera only.

    Args:
        frames: `uint8`, T x H x W x 3.
        box: (x0, y0, x1, y1) in the first frame. Only the ellipse inside is tracked: corners are background.
        mask: H x W, above 0 on the object in the first frame.
        background: `uint8`, H x W x 3, without the object.

    Returns:
        `float32`, T x 2: (x, y) in pixels; NaN where the object is lost.

    Raises:
        ValueError: not exactly one of the three, another shape, or an empty mask.
    """
    _check_frames(frames)
    if (box is not None) + (mask is not None) + (background is not None) != 1:
        raise ValueError("Give exactly one of box, mask and background.")
    size = frames.shape[1:3]
    if background is not None:
        if background.shape != frames.shape[1:]:
            raise ValueError(f"The background must be {frames.shape[1:]}, not {background.shape}.")
        return np.stack([_foreground_centre(background, frame) for frame in frames])
    if mask is None:
        box = np.asarray(box, np.float64)
        mask = _ellipse(box, size)
    elif mask.shape != size or not mask.any():
        raise ValueError(f"The mask must be {size} and not empty.")
    else:
        y, x = np.nonzero(mask)
        box = np.array([x.min(), y.min(), x.max(), y.max()])
    centre = (box[:2] + box[2:]) / 2
    positions, confidence = track_points(frames, _points_inside(frames[0], mask))
    moved = drop_uncertain(positions, confidence) - positions[:1]
    seen = np.isfinite(moved[..., 0]).sum(axis=1) >= min(_MIN_POINTS, positions.shape[1])
    centres = np.full((len(frames), 2), np.nan, np.float32)
    centres[seen] = centre + np.nanmedian(moved[seen], axis=1)
    return centres


def _foreground_centre(background: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """Centre of the box around what differs; NaN if nothing does."""
    # With two frames of background it is the median; the box of the third frame is not smoothed.
    box = boxes(np.stack([background, background, frame]))[-1]
    height, width = frame.shape[:2]
    if (box == (0, 0, width - 1, height - 1)).all():
        return np.full(2, np.nan, np.float32)
    return (box[:2] + box[2:]) / 2


def _ellipse(box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Mask of the ellipse in a box; at least the pixel at its centre."""
    if box.shape != (4,) or not np.isfinite(box).all() or (box[2:] < box[:2]).any():
        raise ValueError(f"A box must be (x0, y0, x1, y1) with x0 <= x1 and y0 <= y1, not {box}.")
    centre, radius = (box[:2] + box[2:]) / 2, np.maximum((box[2:] - box[:2]) / 2, 0.71)
    y, x = np.mgrid[: size[0], : size[1]]
    return ((x - centre[0]) / radius[0]) ** 2 + ((y - centre[1]) / radius[1]) ** 2 <= 1


def _points_inside(frame: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The best corners to track, N x 2; evenly spread pixels if there are no corners."""
    grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    marked = (np.asarray(mask) > 0).astype(np.uint8)
    if not marked.any():
        raise ValueError("The box lies outside the picture.")
    corners = cv2.goodFeaturesToTrack(grey, _OBJECT_POINTS, 0.01, 2, mask=marked, blockSize=3)
    if corners is not None and len(corners) >= _MIN_POINTS:
        return corners[:, 0]
    y, x = np.nonzero(marked)
    chosen = evenly(len(x), _OBJECT_POINTS)
    return np.stack([x[chosen], y[chosen]], axis=1).astype(np.float32)


def _check_frames(frames: np.ndarray) -> None:
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or min(frames.shape) < 1:
        raise ValueError(f"Frames must be uint8, T x H x W x 3, not {frames.dtype} {frames.shape}.")


def _picture(frame: np.ndarray) -> Tensor:
    """1 x 3 x H x W in [0, 1]."""
    return torch.from_numpy(media.to_float(frame))[None]


def _sample(image: Tensor, points: Tensor) -> Tensor:
    """Values of 1 x C x H x W at ... x 2 pixels, bilinear; C x ..."""
    size = (image.shape[2], image.shape[3])
    grid = to_normalised(points.reshape(1, 1, -1, 2), size)
    return warp(image, grid, padding="border").reshape(image.shape[1], *points.shape[:-1])


def sample_map(field: np.ndarray, points: Tensor) -> Tensor:
    """Values of a map (H x W x C) at N x 2 pixels, bilinear, the border repeated outside; N x C, `float32`."""
    return _sample(torch.from_numpy(field.astype(np.float32)).permute(2, 0, 1)[None], points).T


def _patches(image: Tensor, centres: Tensor, half: int) -> Tensor:
    """Squares of 2 half + 1 pixels around N x 2 centres; N x C x side x side."""
    offsets = torch.arange(-half, half + 1.0)
    around = torch.stack(torch.meshgrid(offsets, offsets, indexing="xy"), dim=-1)  # side x side x 2
    return _sample(image, centres[:, None, None] + around).transpose(0, 1)


def _match(image: Tensor, template: Tensor, around: Tensor, half: int, search: int) -> tuple[Tensor, Tensor]:
    """Find each N x C x side x side template near N x 2 positions.

    The correlation is weighted by a gaussian, since the border of a patch may show something that moves differently.

    Returns:
        N x 2 positions with subpixel precision, and the N correlations; -1 for a template without contrast.
    """
    side, span = 2 * half + 1, 2 * search + 1
    weight = torch.exp(-torch.arange(-half, half + 1.0).square() / (half**2)).view(1, -1)
    weight = (weight.T * weight / weight.sum() ** 2).flatten()  # sums to 1
    windows = F.unfold(_patches(image, around, half + search), side)
    windows = windows.view(len(around), image.shape[1], side * side, span * span)
    flat = template.flatten(2)  # N x C x side^2
    centred = flat - (flat * weight).sum(-1, keepdim=True)
    own = (centred.square() * weight).sum((1, 2))
    cross = torch.einsum("ncp,ncpo->no", centred * weight, windows)
    # Mean of squares less the squared mean, per channel; rounding may leave a negative number.
    mean = torch.einsum("p,ncpo->nco", weight, windows)
    other = (torch.einsum("p,ncpo->no", weight, windows.square()) - mean.square().sum(1)).clamp_min(1e-6)
    score = (cross / (own[:, None].clamp_min(1e-12) * other).sqrt()).view(-1, span, span)
    score = torch.where((own > _MIN_CONTRAST**2)[:, None, None], score, -1.0)
    steps = torch.arange(-search, search + 1.0)
    far = (steps[:, None].square() + steps.square()) / search**2
    best = (score - _DISTANCE_PENALTY * far).flatten(1).argmax(1)
    row, column = best // span, best % span
    n = torch.arange(len(score))
    top = score[n, row, column]
    dx = _vertex(score[n, row, (column - 1).clamp_min(0)], top, score[n, row, (column + 1).clamp_max(span - 1)])
    dy = _vertex(score[n, (row - 1).clamp_min(0), column], top, score[n, (row + 1).clamp_max(span - 1), column])
    offset = torch.stack([column - search + dx, row - search + dy], dim=1)
    return around + offset, top


def _vertex(before: Tensor, top: Tensor, after: Tensor) -> Tensor:
    """Offset of the peak of the parabola through three neighbours, at most half a step."""
    curvature = before - 2 * top + after
    offset = 0.5 * (before - after) / torch.where(curvature < -1e-6, curvature, -1.0)
    return torch.where(curvature < -1e-6, offset, 0.0).clamp(-0.5, 0.5)


def _inside(points: Tensor, frames: np.ndarray) -> Tensor:
    """1 for points within the picture, else 0."""
    limit = torch.tensor([frames.shape[2] - 1.0, frames.shape[1] - 1.0])
    return ((points >= 0) & (points <= limit)).all(1).float()
