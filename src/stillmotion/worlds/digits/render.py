"""A moving digit: its smooth random trajectory inside the paper's window of 112 units, and its rendering.

The paper (Hu et al., ICPR 2020, Sec. 4) specifies smooth random trajectories and publishes no law. Here each
coordinate is a sum of three sines: smooth, endless, and without reflections at the borders. Frames are rendered at
subpixel positions, with exact tracks.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from stillmotion.worlds.compositing import supersampling

WINDOW, DIGIT = 112.0, 28.0

_Rows = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class Trajectory:
    """Sums of three sines around a centre, in window units with 0 at the window's left and upper border."""

    centre: tuple[float, float]
    amplitudes: _Rows  # 2 x 3 (x, y); each row sums to at most the room around the centre
    frequencies: _Rows  # 2 x 3, radians per frame
    phases: _Rows  # 2 x 3, radians

    def at(self, times: np.ndarray) -> np.ndarray:
        """Return the digit's centre at `times` (T, in frames): T x 2, in window units."""
        angle = np.asarray(self.frequencies) * np.asarray(times, float)[:, None, None] + np.asarray(self.phases)
        return np.asarray(self.centre) + (np.asarray(self.amplitudes) * np.sin(angle)).sum(-1)


def sample_trajectory(rng: np.random.Generator) -> Trajectory:
    """Draw a trajectory that keeps the digit inside the window; the RMS speed is 0.6 to 7 units per frame."""
    room = (WINDOW - DIGIT) / 2
    reach = room * rng.uniform(0.35, 1.0, 2)
    centre = WINDOW / 2 + (room - reach) * rng.uniform(-1, 1, 2)
    weights = rng.uniform(0.1, 1.0, (2, 3)) * np.array([1.0, 0.6, 0.35])
    amplitudes = reach[:, None] * weights / weights.sum(1, keepdims=True)
    # Relative frequencies first; then all are scaled to the drawn speed (RMS over the endless trajectory).
    frequencies = np.array([1.0, 1.9, 3.1]) * rng.uniform(0.75, 1.25, (2, 3))
    speed = 0.6 * (7.0 / 0.6) ** rng.random()
    frequencies *= speed / np.sqrt(0.5 * ((amplitudes * frequencies) ** 2).sum())
    phases = rng.uniform(0, 2 * np.pi, (2, 3))
    return Trajectory((float(centre[0]), float(centre[1])), *map(_rows, (amplitudes, frequencies, phases)))


def _rows(values: np.ndarray) -> _Rows:
    first, second = (tuple(row) for row in values.tolist())
    return first, second


_BACKGROUND = 2.5 / 255  # pixels of at most two grey levels are background


@dataclass(frozen=True)
class MovingDigit:
    """The whole description of a clip, independent of its size and length."""

    ink: np.ndarray  # float32, N x N, in [0, 1]: the digit's square picture, 28 window units a side
    label: int | None  # 0 to 9, or None where the file of labels is missing
    trajectory: Trajectory  # of the picture's centre
    origin: dict[str, object]  # the file's name and the picture's number in it, or the glyph's style


def _resample(ink: np.ndarray, size: int, factor: int) -> np.ndarray:
    """Return the picture at the resolution it is drawn at: `factor` samples per pixel."""
    side = max(1, round(DIGIT / WINDOW * size * factor))
    shrinks = side < ink.shape[0]
    return np.clip(cv2.resize(ink, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC), 0, 1)


def _draw(sprite: np.ndarray, centre: np.ndarray, size: int, factor: int) -> np.ndarray:
    """Return a frame's ink (float32, size x size): the sprite with its middle at `centre` (pixels)."""
    side = sprite.shape[0]
    reach = int(np.ceil(0.5 * side / factor)) + 2
    first = np.floor(centre).astype(int) - reach
    wide = 2 * reach + 2
    # Sample k of the fine canvas lies at (k + 0.5) / factor - 0.5 pixels from the window's first pixel.
    shift = (centre - first + 0.5) * factor - 0.5 - 0.5 * (side - 1)
    translation = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    fine = cv2.warpAffine(sprite, translation, (wide * factor, wide * factor), flags=cv2.INTER_LINEAR)
    coarse = cv2.resize(fine, (wide, wide), interpolation=cv2.INTER_AREA)
    frame = np.zeros((size, size), np.float32)
    (x0, y0), (x1, y1) = np.clip(first, 0, size), np.clip(first + wide, 0, size)
    frame[y0:y1, x0:x1] = coarse[y0 - first[1] : y1 - first[1], x0 - first[0] : x1 - first[0]]
    return frame


def _ink_box(ink: np.ndarray, centres: np.ndarray, size: int) -> np.ndarray:
    """Return T x 4: the box around the ink, which moves rigidly with the digit (subpixel)."""
    threshold = float(ink.max()) / 2
    columns, rows = np.flatnonzero(ink.max(0) >= threshold), np.flatnonzero(ink.max(1) >= threshold)
    unit = DIGIT / WINDOW * size / ink.shape[0]
    corners = (np.array([columns[0], rows[0], columns[-1], rows[-1]]) - 0.5 * (ink.shape[0] - 1)) * unit
    return (np.tile(centres, 2) + corners).astype(np.float32)


def _translations(centres: np.ndarray) -> np.ndarray:
    """The digit's maps from coordinates around its middle to pixels; T x 2 x 3."""
    return np.concatenate([np.broadcast_to(np.eye(2), (len(centres), 2, 2)), centres[..., None]], axis=-1)


def render(digit: MovingDigit, size: int, frames: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Render a description, the 112-unit window at `size` pixels a side; a longer clip begins as a shorter one.

    Returns:
        Frames (`uint8`, T x H x W x 3, grey) and tracks, in pixels: `points` (float32, T x 2: the centre of the
        digit's picture), `box` (float32, T x 4: x0, y0, x1, y1 around the ink of at least half the highest
        brightness), `mask` (`uint8`, T x H x W, 255 where the pixel is at least half ink), `flow_forward` and
        `flow_backward` (float16, T-1 x H x W x 2: the digit's translation where there is ink, 0 elsewhere), `parts`
        (`uint8`, T x H x W: 1 where there is ink) and `moves` (float32, T x 2 x 2 x 3; see `data.part_flow`).
    """
    factor = supersampling(size)
    centres = digit.trajectory.at(np.arange(frames)) * (size / WINDOW) - 0.5
    sprite = _resample(digit.ink, size, factor)
    ink = np.stack([_draw(sprite, centre, size, factor) for centre in centres])
    inked = (ink > _BACKGROUND)[..., None]
    steps = np.diff(centres, axis=0)[:, None, None].astype(np.float16)
    return np.repeat((ink * 255 + 0.5).astype(np.uint8)[..., None], 3, axis=-1), {
        "points": centres.astype(np.float32),
        "box": _ink_box(digit.ink, centres, size),
        "mask": np.where(ink >= 0.5, 255, 0).astype(np.uint8),
        "flow_forward": np.where(inked[:-1], steps, np.float16(0)),
        "flow_backward": np.where(inked[1:], -steps, np.float16(0)),
        "parts": inked[..., 0].astype(np.uint8),
        "moves": np.stack([_translations(np.zeros_like(centres)), _translations(centres)], 1).astype(np.float32),
    }
