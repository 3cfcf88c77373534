"""The plate: a still's background, filled behind its figure with what the same picture shows elsewhere.

Walls, floors and hedges repeat themselves. A few shifts by which the surroundings of a hole agree with other parts of
the picture say where its pixels may come from (He and Sun, "Statistics of Patch Offsets for Image Completion", ECCV
2012); each pixel takes the shift that agrees best around it. Here a masked correlation finds the shifts, and windows
of several sizes take the place of a graph cut, which needs seconds. What they bring is lit as its surroundings are.

Shapes: H x W, a picture; h x w, the same smaller. A shift is (down, right) in pixels, from a pixel to its source.
"""

from collections.abc import Callable

import cv2
import numpy as np
from scipy import fft, sparse
from scipy.sparse.linalg import splu

MARGIN = 1 / 32
"""Of the longer side: how far the figure is widened before the background is inpainted behind it. A mask at the
networks' size is right to about a pixel of theirs, and what it leaves out would stay in the plate as a ghost."""

RADIUS = 3
"""In pixels: the neighbourhood that a colour is taken from."""

WORKING_SIDE = 512
"""Larger stills are inpainted at this side: what is invented has no finer detail, and the time would grow with it."""

COARSE_SIDE = 128
"""In pixels: shifts are found and chosen at this longer side."""

SHIFTS = 32
"""How many shifts are tried."""

RING = 0.1
"""Of the longer side: as far from a hole pixels say which shifts agree."""

LEAST_SEEN, LEAST_BROUGHT = 0.3, 0.08
"""Shares of the ring whose sources a shift must know, and of the hole that it must fill, to be tried."""

SMOOTH = 0.05
"""Of the longer side: light changes at no smaller scale; what is finer is texture."""

WINDOWS = ((0.012, 1.0), (0.035, 0.05), (0.1, 0.002))
"""Sizes of the windows in which shifts are compared, of the longer side, and their weights: the nearest pixels say
most, and deep in a hole the farther ones are all there is."""

SEAM = 0.005
"""Of the longer side: how far to either side the regions of two shifts are blended."""

RING_SAMPLES = 500
"""Pixels of the ring by which a shift is found to the pixel."""


def widened(mask: np.ndarray, margin: float = MARGIN) -> np.ndarray:
    """A mask (H x W truth values) grown by a share of its longer side, at least a pixel; `uint8`, 0 or 1."""
    reach = max(1, round(margin * max(mask.shape)))
    # A dilation's time grows with the square of its reach: seconds for a still of 4000 pixels.
    return (_distance(mask > 0) <= reach).astype(np.uint8)


def inpaint(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A picture with the masked part filled: with texture from elsewhere in it, in the light of what is around.

    Args:
        picture: H x W x 3, `uint8`.
        mask: H x W, 0 where the picture stays. If that is too little to fill from, its mean is taken; a mask of
            everything gives the mean of the picture.
    """
    return _filled(picture, mask, fill_from_elsewhere)


def inpaint_smoothly(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """As `inpaint`, without texture; a hundred times as fast, for samples of trainings.

    The method is that of Bertalmio et al. (2001). Telea's (2004), as OpenCV has it, gets brighter by a grey level
    every dozen pixels from the border.
    """
    return _filled(picture, mask, lambda picture, hidden, smooth: smooth)


def _filled(
    picture: np.ndarray, mask: np.ndarray, finish: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    mask = mask > 0
    small, hidden, scale = _shrunk(picture, mask, WORKING_SIDE)
    if hidden.all():
        known = picture[mask.all() | ~mask]
        return np.where(mask[..., None], known.mean(0).round().astype(np.uint8), picture)
    filled = cv2.inpaint(small, hidden.astype(np.uint8), RADIUS, cv2.INPAINT_NS)
    filled = finish(small, hidden, filled)
    if scale < 1:
        filled = cv2.resize(filled, (mask.shape[1], mask.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.where(mask[..., None], filled, picture)


def _shrunk(picture: np.ndarray, hidden: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, float]:
    """A picture and its mask with at most so long a side, and by what they were scaled."""
    height, width = hidden.shape
    scale = min(1.0, side / max(height, width))
    if scale == 1:
        return picture, hidden, scale
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    # What has any masked pixel in it is hidden, however thin the mask.
    return small, cv2.resize(hidden.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0, scale


# --- texture from elsewhere -----------------------------------------------------------------------------------------


def fill_from_elsewhere(picture: np.ndarray, hidden: np.ndarray, base: np.ndarray) -> np.ndarray:
    """A picture with the hidden part filled with shifted copies of what is known.

    Args:
        picture: H x W x 3, `uint8`.
        hidden: H x W truth values.
        base: the same picture filled in another way, which stays where no shift brings anything.
    """
    coarse, small_hidden, scale = _shrunk(base, hidden, COARSE_SIDE)
    small = coarse.astype(np.float32)
    texture = small - cv2.GaussianBlur(small, (0, 0), SMOOTH * max(small_hidden.shape))
    shifts = likely_shifts(texture, small_hidden)
    if not len(shifts):
        return base
    used, labels = np.unique(_chosen(texture, small_hidden, shifts), return_inverse=True)
    exact = _exact(picture, hidden, shifts[used], scale)
    light = _light(small, small_hidden, (exact * scale)[labels])
    y, x = (_enlarged(np.arange(n), side) for n, side in zip(labels.shape, hidden.shape, strict=True))
    places = np.ix_(y, x)
    return _composed(picture, hidden, base, exact[labels[places]], light[places])


def likely_shifts(texture: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """The shifts by which the ring around a hole agrees best with the rest of a picture; N x 2, the best first.

    Args:
        texture: h x w x 3, of mean zero in every part.
        hidden: h x w truth values.
    """
    known = ~hidden
    ring = _ring(hidden)
    size = tuple(fft.next_fast_len(2 * side, real=True) for side in hidden.shape)

    def spectrum(maps: np.ndarray) -> np.ndarray:
        return np.asarray(fft.rfft2(maps.astype(np.float32), size))

    seen, near, square = spectrum(known), np.conj(spectrum(ring)), (texture**2).sum(2)
    error = np.conj(spectrum(ring * square)) * seen + near * spectrum(known * square)
    for channel in np.moveaxis(texture, 2, 0):
        error -= 2 * np.conj(spectrum(ring * channel)) * spectrum(known * channel)
    error, counted, brought = (fft.irfft2(s, size) for s in (error, near * seen, np.conj(spectrum(hidden)) * seen))
    usable = (counted > LEAST_SEEN * ring.sum()) & (brought > LEAST_BROUGHT * hidden.sum())
    score = np.where(usable, error / np.maximum(counted, 1), np.finfo(np.float32).max).astype(np.float32)
    lowest = usable & (cv2.erode(score, np.ones((5, 5), np.uint8)) == score)
    found = np.argwhere(lowest)
    found = found[np.argsort(score[lowest], kind="stable")[:SHIFTS]]
    return np.where(found > np.array(size) // 2, found - size, found)


def _exact(picture: np.ndarray, hidden: np.ndarray, shifts: np.ndarray, scale: float) -> np.ndarray:
    """Shifts of the small picture to the pixel of the large one, whole numbers; N x 2."""
    shifts = np.round(shifts / scale).astype(int)
    if scale == 1:
        return shifts
    height, width = hidden.shape
    ring = np.argwhere(_ring(hidden))
    ring = ring[:: max(1, len(ring) // RING_SAMPLES)]
    own = picture[ring[:, 0], ring[:, 1]].astype(np.int16)
    reach = int(np.ceil(0.5 / scale)) + 1
    near = np.argwhere(np.ones((2 * reach + 1, 2 * reach + 1))) - reach
    found: list[np.ndarray] = []
    for shift in shifts:
        y, x = np.moveaxis(ring + shift + near[:, None], -1, 0)  # tries x samples
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        y, x = np.where(inside, y, 0), np.where(inside, x, 0)
        counted = inside & ~hidden[y, x]
        error = np.abs(picture[y, x] - own).sum(-1)
        found.append(shift + near[((error * counted).sum(1) / np.maximum(counted.sum(1), 1)).argmin()])
    return np.array(found)


def _chosen(texture: np.ndarray, hidden: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Which of N shifts agrees best around each pixel that it brings something to, h x w; 0 also where none does."""
    known, side = (~hidden).astype(np.float32), max(hidden.shape)
    least, labels = np.full(hidden.shape, np.inf, np.float32), np.zeros(hidden.shape, np.int64)
    for place, shift in enumerate(shifts):
        brought = _shifted(known, shift)
        both = known * brought
        error = ((_shifted(texture, shift) - texture) ** 2).sum(2) * both
        cost = _windowed(error, side) / (_windowed(both, side) + 1e-6)
        better = (brought > 0) & (cost < least)
        least[better], labels[better] = cost[better], place
    return labels


def _light(picture: np.ndarray, hidden: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """What has to be added to what shifts bring, so that it joins its surroundings and itself without a seam.

    The hole keeps the differences between neighbours that its shifts bring, where two meet their mean, and the values
    of its border (Perez et al., "Poisson Image Editing", 2003).

    Args:
        picture: h x w x 3, filled in some way.
        hidden: h x w truth values.
        shifts: h x w x 2, fractions of pixels too.

    Returns:
        h x w x 3.
    """
    height, width = hidden.shape
    y, x = np.mgrid[:height, :width]

    def brought(maps: np.ndarray, down: int, right: int, by: np.ndarray, border: int) -> np.ndarray:
        """What lies at the source of a neighbour of each pixel, under the shifts of the pixels."""
        row, column = (y + down + by[..., 0]).astype(np.float32), (x + right + by[..., 1]).astype(np.float32)
        return np.asarray(cv2.remap(maps, column, row, cv2.INTER_LINEAR, borderMode=border))

    def step_to(down: int, right: int, by: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How much larger a pixel is than its neighbour, and whether that is known: 0 and 0, or the step and 1."""
        ends = ((0, 0), (down, right))
        here, there = (brought(picture, *end, by, cv2.BORDER_REPLICATE) for end in ends)
        seen = [brought(known, *end, by, cv2.BORDER_CONSTANT) for end in ends]
        sure = (np.minimum(*seen) > 0.999)[..., None]
        return (here - there) * sure, sure.astype(np.float32)

    known = (~hidden).astype(np.float32)
    unknown = np.full(hidden.shape, -1)
    unknown[hidden] = np.arange(hidden.sum())
    wanted = np.zeros((len(y[hidden]), 3))
    entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        row, column = y + down, x + right
        there = hidden & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        row, column = row.clip(0, height - 1), column.clip(0, width - 1)
        steps, sure = zip(*(step_to(down, right, by) for by in (shifts, shifts[row, column])), strict=True)
        step = sum(steps) / np.maximum(sum(sure), 1)
        own, next_to = unknown[there], unknown[row, column][there]
        np.add.at(wanted, own, step[there] + np.where((next_to < 0)[:, None], picture[row, column][there], 0))
        entries.append((own, own, np.ones(len(own))))
        inner = next_to >= 0
        entries.append((own[inner], next_to[inner], -np.ones(int(inner.sum()))))
    rows, columns, values = (np.concatenate(part) for part in zip(*entries, strict=True))
    system = sparse.csc_matrix((values, (rows, columns)), shape=(len(wanted), len(wanted)))
    light = np.zeros_like(picture)
    light[hidden] = splu(system).solve(wanted) - brought(picture, 0, 0, shifts, cv2.BORDER_REPLICATE)[hidden]
    return light


def _composed(
    picture: np.ndarray, hidden: np.ndarray, base: np.ndarray, shifts: np.ndarray, light: np.ndarray
) -> np.ndarray:
    """The picture with what each pixel's shift, H x W x 2, brings, in the light of where it comes to, H x W x 3.

    A hidden pixel is the mean of what its own and its neighbours' shifts bring, so that their regions blend.
    """
    height, width = hidden.shape
    y, x = np.nonzero(hidden)
    total, count = np.zeros((len(y), 3), np.float32), np.zeros(len(y), np.float32)
    away = max(1, round(SEAM * max(height, width)))
    for down, right in ((0, 0), (-away, 0), (away, 0), (0, -away), (0, away)):
        neighbour = (y + down).clip(0, height - 1), (x + right).clip(0, width - 1)
        shift = shifts[neighbour]
        row, column = y + shift[:, 0], x + shift[:, 1]
        counted = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        row, column = row.clip(0, height - 1), column.clip(0, width - 1)
        counted &= ~hidden[row, column]
        total += (picture[row, column] + light[neighbour]) * counted[:, None]
        count += counted
    known = count > 0
    filled = base.copy()
    filled[y[known], x[known]] = (total[known] / count[known, None]).clip(0, 255).round().astype(np.uint8)
    return filled


def _enlarged(places: np.ndarray, side: int) -> np.ndarray:
    """Which of some places each of `side` pixels lies in."""
    return np.asarray(places[np.arange(side) * len(places) // side])


def _ring(hidden: np.ndarray) -> np.ndarray:
    """H x W truth values: what is known near a hole."""
    return ~hidden & (_distance(hidden) <= max(3, RING * max(hidden.shape)))


def _distance(hidden: np.ndarray) -> np.ndarray:
    """H x W, how far each pixel is from the hole."""
    return np.asarray(cv2.distanceTransform((~hidden).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5))


def _shifted(maps: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """What lies at each pixel's source; zero where that is outside."""
    move = np.array([[1, 0, -shift[1]], [0, 1, -shift[0]]], np.float32)
    size = (maps.shape[1], maps.shape[0])
    return np.asarray(cv2.warpAffine(maps, move, size, flags=cv2.INTER_NEAREST))


def _windowed(maps: np.ndarray, side: int) -> np.ndarray:
    """Weighted sums over the windows around each pixel."""
    return np.asarray(sum(weight * cv2.GaussianBlur(maps, (0, 0), part * side) for part, weight in WINDOWS))
