"""Simulated pokes: places and vectors drawn from a clip's flow (Sec. 3.2, B.1, E.2; "release" is the authors' code).

The flow joins a clip's first and last frame, so a poke's vector is where its pixel will have gone. Candidates of a
rule are H x W truth values; places are (x, y). Where a clip has none of a kind the answer is None, and the caller
draws another clip.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from stillmotion.data.flow import check_flow
from stillmotion.errors import StillmotionError
from stillmotion.systems.pokes.config import PokeConfig

_GRABCUT_STEPS = 5
_BACKGROUND_PERCENTILE = 5
_NEAR_QUANTILE = 0.05
"""An impulse is drawn from the candidates whose rank is at most so far from that of the clip's motion; ours."""


class SimulatedPoke(NamedTuple):
    """A pixel of the still and what happens to it."""

    place: tuple[int, int]  # (x, y)
    vector: tuple[float, float]  # (dx, dy): its displacement in pixels, or an impulse of length 0 to 1


class SimulatedPokes(NamedTuple):
    """The pokes of one training clip."""

    pokes: tuple[SimulatedPoke, ...]  # at distinct places
    background: bool  # they are on the background: the video to learn is the repeated still


def simulate_pokes(
    flow: np.ndarray,
    still: np.ndarray,
    config: PokeConfig,
    rng: np.random.Generator,
    motion_quantile: float | None = None,
    length: int | None = None,
) -> SimulatedPokes | None:
    """Draw the pokes of one clip, or None where the rule leaves no pixel.

    Args:
        flow: H x W x 2 pixels, from the clip's first to its last frame; for impulses from `normalise_flow`.
        still: the first frame, H x W x 3 `uint8`; seen by `config.mask` alone.
        config: the rule, the share of pokes on the background, how many pokes.
        rng: of the sample.
        motion_quantile: the rank of the clip's motion in the data set, 0 to 1 (see `motion_quantiles`); impulses
            are drawn near it (appendix B). None draws from all candidates.
        length: the class of length that the vectors must have (see `length_classes`); None for any.

    Raises:
        StillmotionError: the flow has another size than the still, or the patch does not fit.
    """
    check_flow(flow, (still.shape[0], still.shape[1]))
    mask = foreground_mask(still, config.patch) if config.mask == "grabcut" else None
    background = bool(rng.random() < config.background)
    count = int(rng.integers(1, config.most + 1))
    fitting = np.ones(flow.shape[:2], bool)
    if length is not None:
        unit = 1.0 if config.interpretation == "impulse" else config.largest
        fitting = length_classes(_magnitude(flow) / unit, config) == length
    if background:
        pokes = _background_pokes(flow, config, mask, count, rng, fitting)
    else:
        pokes = _foreground_pokes(flow, config, mask, count, rng, fitting, motion_quantile)
    return SimulatedPokes(pokes, background) if pokes else None


def foreground_candidates(flow: np.ndarray, config: PokeConfig, mask: np.ndarray | None = None) -> np.ndarray:
    """Pixels that may be poked, H x W truth values; none lies within `config.patch` pixels of the border.

    * `paper` (E.2): the magnitude is above the mean of the flow map. The paper names no border: it is the release's.
    * `release`: the amplitude inside the border, brought to [0, 1] by its minimum and maximum and set to 0 outside of
      the mask, is above its mean and two deviations (unbiased); if none is, above mean and one deviation of the
      amplitude without the mask; if none is, above its mean.

    Args:
        flow: H x W x 2.
        config: `rule` and `patch`.
        mask: H x W, the foreground; None for all.
    """
    inside = _inside(flow, config.patch, mask)
    if config.rule == "paper":
        above = _magnitude(flow) > _magnitude(flow).mean()
        return above & inside if mask is None else above & inside & mask
    amplitude = _amplitude(flow, inside)
    masked = amplitude if mask is None else amplitude * mask[inside]
    for values, deviations in ((masked, 2.0), (amplitude, 1.0), (amplitude, 0.0)):
        found = _above(values, deviations)
        if found.any():
            break
    return _placed(found, inside)


def vector_candidates(flow: np.ndarray, config: PokeConfig, mask: np.ndarray | None = None) -> np.ndarray:
    """Pixels whose vectors pokes on the background borrow, H x W truth values.

    They are those of the foreground (E.2); in the release those with an amplitude above mean and deviation without
    the mask, or above the mean if there are none.
    """
    if config.rule == "paper":
        return foreground_candidates(flow, config, mask)
    inside = _inside(flow, config.patch, mask)
    amplitude = _amplitude(flow, inside)
    found = _above(amplitude, 1.0)
    return _placed(found if found.any() else _above(amplitude, 0.0), inside)


def background_candidates(flow: np.ndarray, config: PokeConfig, mask: np.ndarray | None = None) -> np.ndarray:
    """Pixels of the background that may be poked, H x W truth values; the border is left out as in the foreground.

    With a mask they lie outside of it. Without one the magnitude is at most the mean (`paper`), or the amplitude is
    at most its 5th percentile (`release`, which says below: equal counts here, since exact flow is zero everywhere on
    a static background).
    """
    inside = _inside(flow, config.patch, mask)
    if mask is not None:
        return inside & ~mask
    if config.rule == "paper":
        return inside & (_magnitude(flow) <= _magnitude(flow).mean())
    amplitude = _amplitude(flow, inside)
    return _placed(amplitude <= np.percentile(amplitude, _BACKGROUND_PERCENTILE), inside)


def foreground_mask(still: np.ndarray, patch: int) -> np.ndarray:
    """The foreground of a still by GrabCut, H x W truth values (release; iPER and Tai-Chi).

    The rectangle that it starts from has its left edge at a fifth of the width, three fifths of the width, and leaves
    `patch` pixels above and below.

    Args:
        still: H x W x 3 `uint8`.
        patch: side of the poke's patch in pixels.

    Raises:
        StillmotionError: the still is too small for such a rectangle.
    """
    height, width = still.shape[:2]
    rectangle = width // 5, patch, 3 * width // 5, height - 2 * patch
    if min(rectangle[2:]) < 1 or width < 5:
        raise StillmotionError(f"A still of {width} x {height} pixels is too small for a mask: use poke.mask=none.")
    labels = np.zeros((height, width), np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    # OpenCV draws the first clusters from a stream of its own; the same still is to give the same mask.
    cv2.setRNGSeed(0)
    cv2.grabCut(np.ascontiguousarray(still), labels, rectangle, *models, _GRABCUT_STEPS, cv2.GC_INIT_WITH_RECT)
    return np.asarray((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD))


def poke_map(pokes: Iterable[SimulatedPoke], size: tuple[int, int], patch: int) -> np.ndarray:
    """What the poke encoder sees: zero but for a square around each poke that carries its vector.

    Squares that overlap show the later poke. A square that reaches over the border is clipped.

    Args:
        pokes: with places inside the picture.
        size: (H, W).
        patch: side of the square in pixels; odd.

    Returns:
        2 x H x W, `float32`: dx and dy.

    Raises:
        StillmotionError: a poke lies outside of the picture.
    """
    drawn = np.zeros((2, *size), np.float32)
    half = patch // 2
    for (x, y), vector in pokes:
        if not (0 <= x < size[1] and 0 <= y < size[0]):
            raise StillmotionError(f"The poke at ({x}, {y}) lies outside of the {size[1]} x {size[0]} pixels.")
        drawn[:, max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1] = np.reshape(vector, (2, 1, 1))
    return drawn


# --- impulses (appendix B) ------------------------------------------------------------------------------------------
def normalise_flow(flow: np.ndarray, largest: float) -> np.ndarray:
    """A flow whose magnitudes are in [0, 1]; what is longer, in clips of another data set, gets the length 1.

    Args:
        flow: ... x 2 pixels.
        largest: the largest magnitude in the data set between frames so far apart.

    Raises:
        StillmotionError: `largest` is not above zero.
    """
    if not largest > 0:
        raise StillmotionError("No clip of the data set moves, so there is no largest motion to divide by.")
    magnitude = np.maximum(_magnitude(flow), largest)[..., None]
    return np.asarray(flow / magnitude, np.float32)


def motion_amount(flows: np.ndarray | Sequence[np.ndarray]) -> float:
    """How much a clip moves (Eq. 10): the mean over time of the spatial mean of the magnitude, in pixels.

    Args:
        flows: T - 1 flows between consecutive frames, H x W x 2 each.
    """
    return float(np.mean([_magnitude(flow).mean() for flow in flows]))


def motion_quantiles(amounts: Sequence[float]) -> np.ndarray:
    """The rank of each clip's motion among all, 0 for the least and 1 for the most; equal ones share their mean."""
    values = np.asarray(amounts, float)
    ordered = np.sort(values)
    ranks = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right") - 1) / 2
    return np.asarray(ranks / max(len(values) - 1, 1))


def near_quantile(flow: np.ndarray, candidates: np.ndarray, quantile: float) -> np.ndarray:
    """Those candidates whose magnitude has about this rank among them, H x W truth values.

    So clips that move little give small pokes and clips that move much give large ones. The paper states the aim and
    no rule; this one is ours.

    Args:
        flow: H x W x 2.
        candidates: H x W truth values, one or more of them true.
        quantile: 0 takes the smallest ones, 1 the largest.
    """
    rows, columns = np.nonzero(candidates)
    order = np.argsort(_magnitude(flow)[rows, columns], kind="stable")
    middle, reach = quantile * (len(order) - 1), _NEAR_QUANTILE * (len(order) - 1)
    # Rounding the middle keeps one candidate at least.
    first, last = min(round(middle), round(middle - reach)), max(round(middle), round(middle + reach))
    near = order[max(0, first) : last + 1]
    chosen = np.zeros_like(candidates)
    chosen[rows[near], columns[near]] = True
    return chosen


# --- clips as long as their poke (release) --------------------------------------------------------------------------
def length_classes(magnitudes: np.ndarray | float, config: PokeConfig) -> np.ndarray:
    """The class of every magnitude, 0 for the shortest clips to `config.lengths` - 1.

    The classes part the magnitudes up to `config.cutoff` evenly. The release draws no longer ones; here they are of
    the last class, for a person may poke as far as they like.

    Args:
        magnitudes: of any shape, as shares of `config.largest`.
        config: with one length at least.
    """
    classes = np.asarray(magnitudes) / config.cutoff * config.lengths
    return np.minimum(classes, config.lengths - 1).astype(int)


def answer_frames(pixels: float, config: PokeConfig, longest: int) -> int:
    """Frames of the answer to a poke that is so many of the networks' pixels long; `longest` is `clip.frames`."""
    if not config.lengths:
        return longest
    return longest - config.lengths + 1 + int(length_classes(pixels / config.largest, config))


# --- parts ----------------------------------------------------------------------------------------------------------
def _foreground_pokes(
    flow: np.ndarray,
    config: PokeConfig,
    mask: np.ndarray | None,
    count: int,
    rng: np.random.Generator,
    fitting: np.ndarray,
    motion_quantile: float | None,
) -> tuple[SimulatedPoke, ...]:
    candidates = foreground_candidates(flow, config, mask) & fitting
    if motion_quantile is not None and candidates.any():
        candidates = near_quantile(flow, candidates, motion_quantile)
    places = _draw(candidates, count, rng)
    return tuple(_poke(place, flow, place) for place in places)


def _background_pokes(
    flow: np.ndarray,
    config: PokeConfig,
    mask: np.ndarray | None,
    count: int,
    rng: np.random.Generator,
    fitting: np.ndarray,
) -> tuple[SimulatedPoke, ...]:
    vectors = _places(vector_candidates(flow, config, mask) & fitting)
    if not len(vectors):
        return ()
    places = _draw(background_candidates(flow, config, mask), count, rng)
    return tuple(_poke(place, flow, vectors[rng.integers(len(vectors))]) for place in places)


def _poke(place: np.ndarray, flow: np.ndarray, source: np.ndarray) -> SimulatedPoke:
    """A poke at a place with the flow of another, both (x, y)."""
    dx, dy = flow[source[1], source[0]]
    return SimulatedPoke((int(place[0]), int(place[1])), (float(dx), float(dy)))


def _draw(candidates: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """At most `count` distinct places, N x 2 (x, y); fewer if there are not so many candidates."""
    places = _places(candidates)
    return places[rng.choice(len(places), min(count, len(places)), replace=False)] if len(places) else places


def _places(candidates: np.ndarray) -> np.ndarray:
    """N x 2 (x, y), row by row."""
    return np.argwhere(candidates)[:, ::-1]


def _magnitude(flow: np.ndarray) -> np.ndarray:
    """Lengths of float32 vectors as float64, whose mean over equal ones is exactly their value."""
    return np.linalg.norm(np.asarray(flow, np.float32), axis=-1).astype(np.float64)


def _inside(flow: np.ndarray, patch: int, mask: np.ndarray | None) -> np.ndarray:
    """The pixels that are `patch` or more away from the border, H x W truth values."""
    height, width = flow.shape[:2]
    check_flow(flow, (height, width))
    if min(height, width) <= 2 * patch:
        raise StillmotionError(
            f"A picture of {width} x {height} pixels has no place for a poke of {patch} pixels: lower poke.patch."
        )
    if mask is not None and (mask.shape != (height, width) or mask.dtype != bool):
        raise StillmotionError(f"The mask must be {height} x {width} truth values, not {mask.shape} of {mask.dtype}.")
    inside = np.zeros((height, width), bool)
    inside[patch:-patch, patch:-patch] = True
    return inside


def _amplitude(flow: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Magnitudes of the pixels inside, N numbers row by row, from 0 to 1; all 0 where they are equal."""
    values = _magnitude(flow)[inside]
    values = values - values.min()
    return np.asarray(values / values.max() if values.max() > 0 else values)


def _above(values: np.ndarray, deviations: float) -> np.ndarray:
    deviation = values.std(ddof=1) if len(values) > 1 else 0.0
    return np.asarray(values > values.mean() + deviations * deviation)


def _placed(found: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Truth values of the pixels inside as H x W."""
    placed = np.zeros_like(inside)
    placed[inside] = found
    return placed
