"""Whether a still looks like those that a model was trained on, by the layout of its brightness and colours.

A picture is described by 24 numbers: its luma (BT.601) on a grid of 4 x 4, and its two chroma on grids of 2 x 2. Of
the training stills the mean and the covariance are known; a still is far from them if its Mahalanobis distance is
beyond nearly all of theirs. That tells photographs from drawn worlds, and not what they show: a drawn plant on the
background of a drawn puppet is as near as the puppet (docs/media.md has figures).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import pydantic.dataclasses
from pydantic import Field

from stillmotion import media
from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionWarning
from stillmotion.files import STRICT, parse_settings

MOST = 1000
"""Training stills that are looked at."""

_LEAST = 200  # below which their covariance says nothing
_LUMA, _CHROMA = 4, 2  # cells a side
_LENGTH = _LUMA**2 + 2 * _CHROMA**2
_SHRINKAGE = 1e-3  # of the covariance towards a multiple of the identity
_QUANTILE, _MARGIN = 0.995, 1.1
# Y, Cb and Cr of R, G and B.
_YCC = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])

Numbers = Annotated[tuple[float, ...], Field(min_length=_LENGTH, max_length=_LENGTH)]


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class Stills:
    """What a model's card says of its training stills."""

    mean: Numbers  # of the descriptions
    whitening: Annotated[tuple[Numbers, ...], Field(min_length=_LENGTH, max_length=_LENGTH)]  # W: W C W' = 1
    limit: Annotated[float, Field(gt=0)]  # distances beyond it are far


def describe(picture: np.ndarray) -> np.ndarray:
    """The 24 numbers of a `uint8` picture, H x W x 3."""
    luma = media.resize(picture, (_LUMA, _LUMA)).reshape(-1, 3) @ _YCC[0]
    chroma = media.resize(picture, (_CHROMA, _CHROMA)).reshape(-1, 3) @ _YCC[1:].T
    return np.concatenate([luma, chroma.ravel()]) / 255


def first_frames(clips: Sequence[Clip]) -> Iterator[np.ndarray]:
    """The stills of at most `MOST` clips, evenly spaced."""
    return (np.asarray(clips[number].frames[0]) for number in range(0, len(clips), -(-len(clips) // MOST) or 1))


def summarize(pictures: Iterable[np.ndarray]) -> Stills | None:
    """What is to be known of training stills; None if they are fewer than 200.

    The limit is what 99.5 % of either half of them keep when the other half is the measure, and a tenth more.
    """
    described = np.array([describe(picture) for picture in pictures])
    if len(described) < _LEAST:
        return None
    halves = described[::2], described[1::2]
    across = np.concatenate([_distances(one, *_fitted(other)) for one, other in (halves, halves[::-1])])
    mean, whitening = _fitted(described)
    # Six digits are plenty, and keep the card short.
    rows = tuple(tuple(float(f"{value:.6g}") for value in row) for row in (mean, *whitening))
    return Stills(rows[0], rows[1:], float(f"{_MARGIN * np.quantile(across, _QUANTILE):.6g}"))


def warn_if_far(card: Mapping[str, Any], still: np.ndarray) -> None:
    """Look whether a still is far from the training stills of a model, if its card knows of them.

    Raises:
        StillmotionError: the card is damaged.

    Warns:
        StillmotionWarning: it is far.
    """
    if "stills" not in card:
        return
    known = parse_settings(Stills, card["stills"], "The model's card, stills")
    with np.errstate(over="ignore"):
        far = _distances(describe(still)[None], np.array(known.mean), np.array(known.whitening))[0] > known.limit
    if far:
        sentence = "The still looks unlike those that the model was trained on (`stillmotion models` names them)"
        warnings.warn(f"{sentence}: it may move badly.", StillmotionWarning, stacklevel=3)


def _fitted(described: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean, and the whitening of the covariance."""
    covariance = np.cov(described.T)
    covariance += (_SHRINKAGE * np.trace(covariance) / _LENGTH + 1e-9) * np.eye(_LENGTH)
    return described.mean(0), np.linalg.inv(np.linalg.cholesky(covariance))


def _distances(described: np.ndarray, mean: np.ndarray, whitening: np.ndarray) -> np.ndarray:
    """Mahalanobis distances of N x 24."""
    found: np.ndarray = np.linalg.norm((described - mean) @ whitening.T, axis=1)
    return found
