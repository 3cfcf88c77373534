"""Transfer of keypoints from a driver to a still: where they go, which reference frame matches, which crop fits.

A *layout* is a pose without place and size: the keypoints' mean is subtracted and their
root mean square distance from it becomes one.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from stillmotion import geometry, media
from stillmotion.errors import StillmotionError, StillmotionWarning
from stillmotion.keypoints.networks import Keypoints
from stillmotion.options import Box
from stillmotion.rendering.canvas import to_network
from stillmotion.systems.base import Output
from stillmotion.systems.driving import Drive

BATCH = 16
"""Driving frames that go through the networks together."""

LIKE_SIZE = (0.67, 1.5)
"""The still's body over the driver's, each as a share of its picture: outside of this the two do not fit."""

LIKE_PLACE = 0.35
"""How far apart the bodies' centres may lie, as a share of the picture's side."""

SHOWN, MOST_AHEAD = 0.3, 100
"""A first frame shows nothing if it has less than this share of the later ones' detail, or of their figure. So many
frames are read ahead to find that out."""

LIKE_PART = 0.4
"""A second part of the still's figure with this share of the area of the largest is a figure of its own."""

NO_BODY = 1e-4
"""Keypoints nearer than this to each other (root mean square, normalised) have no size to compare."""


class Driver:
    """A driving video as the networks see it: batches of N x 3 x S x S in [0, 1], read as they are needed.

    Args:
        control: which video.
        output: how many frames.
        size: S.
        device: of the networks.
        passed: so many frames at its start are left out.

    Attributes:
        fps: frames per second.
        passed: how many frames are left out.
        batches: what is left of it.
    """

    def __init__(self, control: Drive, output: Output, size: int, device: torch.device, passed: int = 0):
        self.video = media.open_driver(control.video, control.fps, control.start)
        self.fps, self.passed, self._most = self.video.fps, 0, output.frames
        self._small: Iterator[Tensor] = (to_network(frame, size, device) for frame in self.video)
        for _ in itertools.islice(self._small, passed):
            pass
        self._begin((), passed)

    @property
    def length(self) -> int:
        """How many frames it gives, by the file's own account."""
        left = self.video.length - self.passed
        return left if self._most is None else min(left, self._most)

    @property
    def sound(self) -> media.Sound | None:
        """What is heard from the first frame on."""
        return self.video.sound and self.video.sound.later(self.passed / self.fps)

    def _begin(self, ahead: Sequence[Tensor], passed: int) -> None:
        """Give batches of some frames and what comes after them."""
        self.passed += passed
        self._small = small = itertools.chain(ahead, self._small)
        # Not one more is decoded: what follows frame N of `--frames N` may be damaged.
        given = itertools.islice(small, self._most)
        self.batches: Iterator[Tensor] = (torch.cat(batch) for batch in in_batches(given, BATCH))

    def pass_over(self, scores: Callable[[Tensor], Tensor], usual: Tensor) -> None:
        """Leave out the first frames if they show nothing, such as black ones: motion counts from the first frame.

        Args:
            scores: of N frames, N x F: how much each shows, in several respects.
            usual: F, of the still. More than a batch is read ahead only where no frame comes near it.

        Warns:
            StillmotionWarning: how many are left out.
        """
        ahead, found = list[Tensor](), usual.new_zeros(0, len(usual))
        damage: media.MediaError | None = None
        while len(ahead) < MOST_AHEAD and not (ahead and (found.amax(0) >= SHOWN * usual).all()):
            batch = list[Tensor]()
            try:
                batch.extend(itertools.islice(self._small, min(BATCH, self._most or BATCH)))
            except media.MediaError as error:
                damage = error  # raised once the frames before it are used up
            if batch:
                ahead += batch
                found = torch.cat([found, scores(torch.cat(batch))])
            if damage or not batch:
                break
        first = first_shown(found)
        if damage:
            self._small = raised(damage)
        self._begin(ahead[first:], first)
        if first:
            several = f"first {first} frames" if first > 1 else "first frame"
            verb = "show nothing to follow and are" if first > 1 else "shows nothing to follow and is"
            warnings.warn(
                f"The {several} of the driver {verb} passed over: black, blurred or empty.",
                StillmotionWarning,
                stacklevel=2,
            )

    def close(self) -> None:
        """Close the video."""
        self.batches = iter(())
        self.video.close()


def raised(error: Exception) -> Iterator[Tensor]:
    """Nothing but an exception."""
    raise error
    yield


def first_shown(scores: Tensor) -> int:
    """The first of N frames that shows enough beside the others, in all respects; 0 if none does. N x F."""
    enough = (scores >= SHOWN * scores.amax(0)).all(1)
    return int(enough.int().argmax())


def detail(frames: Tensor) -> Tensor:
    """Mean squared differences of neighbouring pixels, N: near zero for what is black or uniform, low for blur."""
    rows, columns = frames.diff(dim=2), frames.diff(dim=3)
    return rows.square().mean((1, 2, 3)) + columns.square().mean((1, 2, 3))


def transfer(still: Keypoints, reference: Keypoints, driving: Keypoints, control: Drive) -> Keypoints:
    """Where the still's keypoints go (Sec. 3.6, Eq. 7).

    Args:
        still: keypoints of the still, 1 x K.
        reference: keypoints of the driving frame that stands for the still's pose (the first), 1 x K.
        driving: keypoints of N driving frames.
        control: the transfer and its options.

    Returns:
        N x K target keypoints. Relative: the still's means moved as the driving means moved from the reference,
        with the driving covariances; absolute: the driving keypoints as they are.
    """
    if control.transfer == "absolute":
        return driving
    moved = driving.mean - reference.mean  # Eq. 7
    if control.scale_motion:
        area = geometry.hull_area(reference.mean[0])
        if not area > 0:
            raise StillmotionError(
                "The keypoints of the driver's reference frame span no area to compare with the still's; "
                "leave scale_motion out or start the video later."
            )
        moved = moved * (geometry.hull_area(still.mean[0]) / area).sqrt()
    mean, covariance = still.mean + moved, driving.covariance
    if control.clip_mean:
        mean = mean.clamp(-1, 1)
    if control.adapt_covariance:
        covariance = driving.covariance @ geometry.inverse_2x2(reference.covariance) @ still.covariance
        values, vectors = torch.linalg.eigh((covariance + covariance.mT) / 2)
        covariance = vectors @ torch.diag_embed(values.clamp_min(1e-6)) @ vectors.mT
    return Keypoints(mean, covariance)


def in_batches(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    """Groups of up to `size` items, in order."""
    while batch := list(itertools.islice(items, size)):
        yield batch


@dataclass(frozen=True)
class Match:
    """The driving frame whose layout is nearest the still's.

    Attributes:
        index: its number, from 0.
        keypoints: those of that frame, 1 x K.
        distance: root mean square distance of the two layouts, in body sizes.
    """

    index: int
    keypoints: Keypoints
    distance: float


@dataclass(frozen=True)
class Fit:
    """How well a still fits a driver, and the crop that would fit better.

    Attributes:
        size_ratio: the still's body over the driver's, each as a share of its (padded, square) picture.
        offset: distance of the two bodies' centres, as a share of the picture's side.
        crop: the part of the still to use, (x, y, width, height) in its pixels.
        whole: the crop is all that was wished for; False where it had to be moved or cut to lie in the picture.
        useful: the crop is less than the whole still.
    """

    size_ratio: float
    offset: float
    crop: Box
    whole: bool
    useful: bool = True

    @property
    def good(self) -> bool:
        """Whether size and place are near enough for relative transfer."""
        return LIKE_SIZE[0] <= self.size_ratio <= LIKE_SIZE[1] and self.offset <= LIKE_PLACE

    def advice(self) -> str:
        """One sentence for the person whose still does not fit."""
        what = (
            f"The body in the still has {self.size_ratio:.2g} times the size of the driver's and its centre lies "
            f"{self.offset:.0%} of the picture away"
        )
        if not self.useful:
            return f"{what}, and no part of the still fits better; take another still or another video."
        reach = "" if self.whole else ", as near as the still's border allows"
        return f"{what}; --crop {as_text(self.crop)} cuts out the part that fits{reach}."

    def border_note(self) -> str:
        """One sentence about a crop that is not whole."""
        return (
            f"The crop {as_text(self.crop)} had to stay inside the still, so the body does not quite get the size "
            "and place of the driver's; take a still with more room around the body if it matters."
        )


def large_parts(mask: Tensor) -> int:
    """How many connected parts of H x W booleans have at least `LIKE_PART` of the area of the largest."""
    _, _, found, _ = cv2.connectedComponentsWithStats(mask.cpu().numpy().astype(np.uint8), connectivity=8)
    areas = found[1:, cv2.CC_STAT_AREA]  # the first is the background
    return int((areas >= LIKE_PART * areas.max()).sum()) if len(areas) else 0


def layout(mean: Tensor) -> Tensor:
    """Keypoints without place and size; N x K x 2 to N x K x 2. Keypoints that coincide are all at zero."""
    centre, size = geometry.place(mean)
    return (mean - centre[:, None]) / size.clamp_min(NO_BODY)[:, None, None]


def layout_distance(still: Tensor, driving: Tensor) -> Tensor:
    """Root mean square distance between the layouts of one still, 1 x K x 2, and N frames, N x K x 2; N values."""
    return (layout(driving) - layout(still)).square().sum(-1).mean(1).sqrt()


def best_match(still: Keypoints, batches: Iterable[Keypoints]) -> Match:
    """Choose the driving frame whose pose is nearest the still's, wherever and however large it is in its picture.

    Relative transfer wants a reference frame in the still's pose. Only the best frame so far is kept, so that a video
    may be of any length. Of equals the first is chosen.

    Args:
        still: keypoints of the still, 1 x K.
        batches: keypoints of the driving frames in order, any number at a time.
    """
    best: Match | None = None
    start = 0
    for batch in batches:
        distances = layout_distance(still.mean, batch.mean)
        i = int(distances.argmin())
        distance = float(distances[i])
        if best is None or distance < best.distance:
            # Cloned: a view would keep the whole batch.
            here = Keypoints(*(part.clone() for part in batch.rows(slice(i, i + 1))))
            best = Match(start + i, here, distance)
        start += len(distances)
    if best is None:
        raise StillmotionError("The driving video has no frames; give at least one.")
    return best


def compare(still: Tensor, points: Tensor, driving: Tensor, size: geometry.Size, side: int) -> Fit | None:
    """Compare a still's body with the driver's in its reference frame.

    Args:
        still: K x 2, keypoints of what is animated, normalised over its padded square.
        points: K x 2, the same keypoints in pixels of the still that was given.
        driving: K x 2, keypoints of the driving frame, normalised over its padded square.
        size: (height, width) of the still that was given.
        side: height and width of the networks' frames.

    Returns:
        The fit; None where the keypoints of either lie in one point and have no size.
    """
    own, aim = geometry.place(still[None]), geometry.place(driving[None])
    if not (float(own.size) > NO_BODY and float(aim.size) > NO_BODY):
        return None
    crop, whole = suggest_crop(points, driving, size, side)
    useful = crop != (0, 0, size[1], size[0])
    return Fit(float(own.size / aim.size), float((own.centre - aim.centre).norm() / 2), crop, whole, useful)


def suggest_crop(still: Tensor, driving: Tensor, size: geometry.Size, side: int) -> tuple[Box, bool]:
    """The square part of the still in which its body is as large as the driver's, and in the same place.

    Where the picture is too small for that, the part keeps its size as far as it can and is moved inside. A part that
    is no longer square is padded like any other picture.

    Args:
        still: K x 2, keypoints in pixels of the still.
        driving: K x 2, keypoints of the driving frame, normalised.
        size: the still's (height, width).
        side: height and width of the networks' frames.

    Returns:
        (x, y, width, height) in pixels of the still, and whether it is whole, that is, lay within the picture.
    """
    (centre,), (extent,) = geometry.place(still[None])
    (aim,), (aimed,) = geometry.place(driving[None])
    # In pixels of the networks, whose outer edges are the part's.
    scale = float(extent) / (max(float(aimed), NO_BODY) * (side - 1) / 2)
    length = max(2, round(side * scale))
    place_in_part = (geometry.to_pixels(aim, (side, side)) + 0.5) * scale - 0.5
    corner = [round(v) for v in (centre - place_in_part).tolist()]
    height, width = size
    w, h = min(length, width), min(length, height)
    x, y = min(max(corner[0], 0), width - w), min(max(corner[1], 0), height - h)
    return (x, y, w, h), (x, y, w, h) == (corner[0], corner[1], length, length)


def as_text(box: Box) -> str:
    """`X,Y,W,H`, as it is typed."""
    return ",".join(map(str, box))
