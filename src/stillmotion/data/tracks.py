"""Optical flow, masks and boxes of what moves, without learned weights.

`boxes` assumes a static camera, `detect_moving_object` one that is static or translates, and `flow` small steps
between frames. `trackers` names these and the others.

The camera's shift is the median flow of textured pixels. The background is the median over frames, shifted back;
where an object covers a pixel in about half of the frames the median may show it, and the value nearest to the
inpainted surroundings is taken. The object is the largest connected component of what differs from the background.
"""

from __future__ import annotations

import cv2
import numpy as np

from stillmotion.data.clip import evenly

# The patches of DIS are 8 pixels wide: smaller pictures are enlarged to this side, or their objects are too small.
_FLOW_SIDE, _MOST_ENLARGED = 256, 4
_LEAST_DIFFERENCE = 16.0  # differences below this are compression and camera noise in 8-bit video
_MOST_FRAMES, _MOST_SHIFTED = 64, 24  # the background is estimated from at most so many frames
# Texture, in grey levels per pixel; with less of it flow is unreliable. If an object moves before a plain wall, few
# cells of the picture's border have texture; if a whole picture shifts, more have.
_LEAST_TEXTURE, _LEAST_CELLS = 3.0, 5
# Flow of a static picture is wrong by a few hundredths of a pixel, which would add up.
_LEAST_STEP, _STILL = 0.05, 1.0
_DOUBTFUL = 0.2  # the median of a pixel that differs from it in a larger share of the frames may be the object
_GAP = 1 / 16  # parts of one object lie closer to each other than this share of the picture's smaller side
_LARGEST = 0.6  # what covers more than this of the picture is a change of light and no object


def flow(frames: np.ndarray, fps: float = 0.0) -> np.ndarray:
    """Estimate forward optical flow between neighbouring frames (OpenCV's DIS, medium preset).

    Args:
        frames: `uint8`, T x H x W x 3.
        fps: not used; every tracker takes it.

    Returns:
        `float16`, (T - 1) x H x W x 2: the pixel (x, y) of frame t is at (x + dx, y + dy) in frame t + 1.
    """
    height, width = frames.shape[1:3]
    factor = min(_MOST_ENLARGED, max(1, -(-_FLOW_SIDE // min(height, width))))
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found = np.zeros((len(frames) - 1, height, width, 2), np.float16)
    before = enlarged_grey(frames[0], factor)
    for t, frame in enumerate(frames[1:]):
        after = enlarged_grey(frame, factor)
        large = estimator.calc(before, after, None)  # type: ignore[call-overload]
        found[t] = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA) / factor
        before = after
    return found


def flow_backward(frames: np.ndarray, fps: float = 0.0) -> np.ndarray:
    """Estimate backward optical flow as `flow` does: entry t is from frame t + 1 to frame t; (T - 1) x H x W x 2."""
    return flow(frames[::-1], fps)[::-1]


def boxes(frames: np.ndarray, fps: float = 0.0) -> np.ndarray:
    """Detect what moves in every frame, before a static background.

    What differs from the clip's median picture is moving; the box is a running median over 5 frames. An object
    that rests for more than half of the clip becomes background.

    Args:
        frames: `uint8`, T x H x W x 3.
        fps: not used; every tracker takes it.

    Returns:
        `float32`, T x 4: (x0, y0, x1, y1), the centres of the outermost pixels; the whole picture if nothing
        moves; linearly interpolated where nothing is detected between two frames with a box.
    """
    height, width = frames.shape[1:3]
    background = np.median(_spread(frames, _MOST_FRAMES), axis=0).astype(np.float32)
    found = np.full((len(frames), 4), np.nan, np.float32)
    for t, frame in enumerate(frames):
        box = _box_of_parts(_differs(frame, background))
        if box is not None:
            found[t] = box
    seen = np.flatnonzero(~np.isnan(found[:, 0]))
    if len(seen) == 0:
        return np.tile(np.array([0, 0, width - 1, height - 1], np.float32), (len(frames), 1))
    times = np.arange(len(frames))
    filled = np.column_stack([np.interp(times, seen, found[seen, i]) for i in range(4)])
    return running_median(filled, 5).astype(np.float32)


def enlarged_grey(frame: np.ndarray, factor: int) -> np.ndarray:
    """A `uint8` frame, H x W x 3, in grey and `factor` times as large, bicubic; f H x f W."""
    grey = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)
    if factor == 1:
        return grey
    return cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)


def _box_of_parts(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """The box around the large connected components of a mask; None if it is empty."""
    count, _, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count < 2:
        return None
    parts = statistics[1:]
    parts = parts[parts[:, cv2.CC_STAT_AREA] >= 0.2 * parts[:, cv2.CC_STAT_AREA].max()]
    left, top = parts[:, cv2.CC_STAT_LEFT], parts[:, cv2.CC_STAT_TOP]
    right, bottom = left + parts[:, cv2.CC_STAT_WIDTH] - 1, top + parts[:, cv2.CC_STAT_HEIGHT] - 1
    return int(left.min()), int(top.min()), int(right.max()), int(bottom.max())


def running_median(values: np.ndarray, size: int) -> np.ndarray:
    """Median over `size` neighbours in time (the first axis); near the ends over as many as are on both sides."""
    smooth = np.empty_like(values)
    for t in range(len(values)):
        reach = min(size // 2, t, len(values) - 1 - t)
        smooth[t] = np.median(values[t - reach : t + reach + 1], axis=0)
    return smooth


def camera_shift(frames: np.ndarray) -> np.ndarray:
    """Estimate how far the camera has shifted the picture since the first frame; rotations and zooms are ignored.

    Args:
        frames: `uint8`, T x H x W x 3.

    Returns:
        `float32`, T x 2: (dx, dy) in pixels; zero throughout where it stays within a pixel.
    """
    steps = np.zeros((len(frames), 2), np.float32)
    for t, field in enumerate(flow(frames)):
        grey = cv2.cvtColor(np.ascontiguousarray(frames[t]), cv2.COLOR_RGB2GRAY).astype(np.float32)
        for axis, (dx, dy) in enumerate(((1, 0), (0, 1))):
            # Flow is undefined where the picture has no texture along that axis.
            texture = np.abs(cv2.Sobel(grey, cv2.CV_32F, dx, dy)) / 8
            textured = texture > _LEAST_TEXTURE
            if _border_cells(textured) >= _LEAST_CELLS:
                step = float(np.median(field[..., axis][textured]))
                steps[t + 1, axis] = step if abs(step) > _LEAST_STEP else 0.0
    shift = np.cumsum(steps, axis=0, dtype=np.float64).astype(np.float32)
    return shift if np.ptp(shift, axis=0).max() > _STILL else np.zeros_like(shift)


def _border_cells(textured: np.ndarray) -> int:
    """How many of the 12 outer cells of a 4 x 4 grid have texture in a tenth of their pixels."""
    shares = cv2.resize(textured.astype(np.float32), (4, 4), interpolation=cv2.INTER_AREA)
    shares[1:3, 1:3] = 0
    return int(np.count_nonzero(shares > 0.1))


def detect_moving_object(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Detect the largest moving object in every frame; a `points.BoxDetector` without weights.

    The camera may be static or translate. Of a person who stands and waves, the arms are detected.

    Args:
        frames: `uint8`, T x H x W x 3.

    Returns:
        Boxes (`float32`, T x 4: x0, y0, x1, y1, the centres of the outermost pixels; NaN where nothing differs) and
        the confidence in them (`float32`, T, 0 to 1). It is the product of three factors, each of which falls to 1/2
        at the point named: the component's area is a quarter of the clip's median area or four times it; only a
        quarter of all that differs is in the component; the box is off its neighbours' in time by its own diagonal.
    """
    shift = camera_shift(frames)
    masks = _masks(frames, shift)
    gap = max(1, round(min(frames.shape[1:3]) * _GAP / 2))
    found = np.full((len(frames), 4), np.nan, np.float32)
    areas, shares = np.zeros(len(frames)), np.zeros(len(frames))
    for t, mask in enumerate(masks):
        component = _largest_component(mask, gap)
        area = np.count_nonzero(component)
        if area == 0 or area > _LARGEST * mask.size:
            continue
        rows, columns = np.flatnonzero(component.any(axis=1)), np.flatnonzero(component.any(axis=0))
        found[t] = columns[0], rows[0], columns[-1], rows[-1]
        areas[t], shares[t] = area, area / np.count_nonzero(mask)
    seen = areas > 0
    if not seen.any():
        return found, np.zeros(len(frames), np.float32)
    usual = float(np.median(areas[seen]))
    area_factor = np.minimum(2 * areas / usual, 2 * usual / np.maximum(areas, 1))
    away, centres = np.zeros(len(frames)), (found[seen, :2] + found[seen, 2:]) / 2
    away[seen] = np.linalg.norm(centres - running_median(centres, 5), axis=1)  # in pixels, off the smoothed path
    diagonal = np.where(seen, np.hypot(found[:, 2] - found[:, 0] + 1, found[:, 3] - found[:, 1] + 1), 1)
    factors = [area_factor, 2 * shares, 0.5 * diagonal / np.maximum(away, 1e-6)]
    confidence = np.prod([np.clip(factor, 0, 1) for factor in factors], axis=0) * seen
    return found, confidence.astype(np.float32)


def moving_masks(frames: np.ndarray) -> np.ndarray:
    """Segment what differs from the background, static or shifted by the camera; T x H x W `uint8`, 0 or 1."""
    return _masks(frames, camera_shift(frames))


def _masks(frames: np.ndarray, shift: np.ndarray) -> np.ndarray:
    if not shift.any():
        background = _still_background(_spread(frames, _MOST_FRAMES))
        return np.stack([_differs(frame, background) for frame in frames])
    return np.stack([_differs(frame, _background_at(frames, shift, t)) for t, frame in enumerate(frames)])


def _spread(items: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the items, evenly spread from the first to the last."""
    return items[evenly(len(items), most)]


def _still_background(frames: np.ndarray) -> np.ndarray:
    """Median over time, corrected where an object may have rested; `float32`, H x W x 3, without NaN."""
    background = np.median(frames, axis=0).astype(np.float32)
    away = np.abs(frames.astype(np.float32) - background).max(axis=-1) > _LEAST_DIFFERENCE
    share = away.mean(axis=0)
    if not (share > _DOUBTFUL).any():
        return background
    # Everything that ever changed is inpainted, and each doubtful pixel takes the one of its values over time that is
    # nearest to the inpainted one.
    kernel = np.ones((3, 3), np.uint8)
    changed = cv2.dilate((share > 0).astype(np.uint8), kernel)
    inpainted = cv2.inpaint(background.round().astype(np.uint8), changed, 3, cv2.INPAINT_TELEA).astype(np.float32)
    rows, columns = np.nonzero(share > _DOUBTFUL)
    values = frames[:, rows, columns].astype(np.float32)  # T x N x 3
    nearest = np.abs(values - inpainted[rows, columns]).sum(axis=-1).argmin(axis=0)
    background[rows, columns] = values[nearest, np.arange(len(rows))]
    return background


def _background_at(frames: np.ndarray, shift: np.ndarray, t: int) -> np.ndarray:
    """Median of the other frames, moved to where frame t is; NaN where none reaches."""
    height, width = frames.shape[1:3]
    near = np.flatnonzero((np.abs(shift - shift[t]) < 0.6 * np.array([width, height])).all(axis=1))
    chosen = _spread(near, _MOST_SHIFTED)
    moved = np.full((len(chosen), height, width, 3), np.nan, np.float32)
    for place, s in enumerate(chosen):
        by = shift[t] - shift[s]
        matrix = np.array([[1, 0, by[0]], [0, 1, by[1]]])
        moved[place] = cv2.warpAffine(
            frames[s].astype(np.float32), matrix, (width, height), borderValue=(np.nan, np.nan, np.nan)
        )
    # NaN sorts behind all numbers; np.nanmedian does the same in ten times the time.
    ordered, known = np.sort(moved, axis=0), len(chosen) - np.isnan(moved).sum(axis=0)
    middle: np.ndarray = np.take_along_axis(ordered, (np.maximum(known, 1) // 2)[None], axis=0)[0]
    return middle


def _differs(frame: np.ndarray, background: np.ndarray) -> np.ndarray:
    difference = np.abs(frame - background).max(axis=2)
    known = np.isfinite(difference)
    noise = 1.4826 * float(np.median(difference[known])) if known.any() else 0.0
    mask = (np.where(known, difference, 0) > max(_LEAST_DIFFERENCE, 4 * noise)).astype(np.uint8)
    # Opening by 2 x 2 removes specks and keeps thin limbs. An even kernel needs opposite anchors, or the mask shifts.
    kernel = np.ones((2, 2), np.uint8)
    return cv2.dilate(cv2.erode(mask, kernel, anchor=(0, 0)), kernel, anchor=(1, 1))


def _largest_component(mask: np.ndarray, gap: int) -> np.ndarray:
    """The component that is largest once gaps of up to 2 `gap` pixels are closed, without them; H x W, `bool`."""
    kernel = np.ones((2 * gap + 1, 2 * gap + 1), np.uint8)
    _, labels = cv2.connectedComponents(cv2.dilate(mask, kernel), connectivity=8)
    counts = np.bincount(labels[mask > 0], minlength=2)
    counts[0] = 0
    return np.asarray((labels == counts.argmax()) & (mask > 0) & (counts.max() > 0))
