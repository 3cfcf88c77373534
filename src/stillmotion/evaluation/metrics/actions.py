"""Metrics of animations by the name of an action: recognition, diversity, and what is kept of the still.

Diversity and multimodality are those of Guo et al., "Action2Motion" (ACM MM 2020), with 20 repetitions and 95 %
intervals; they are of videos, so features are a video classifier's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor
from torchmetrics import Metric

from stillmotion.evaluation.metrics.base import MeanOfValues, shapes

REPETITIONS, SEED = 20, 0
NORMAL_95 = 1.959964  # deviations of a normal distribution that hold 95 %
DIVERSITY_PAIRS, CLASS_PAIRS = 200, 20  # as in the paper's code, the latter for each class


# --- functions -----------------------------------------------------------------------------------------------------


def repeated(
    measure: Callable[[torch.Generator], Tensor], repetitions: int = REPETITIONS, seed: int = SEED
) -> tuple[Tensor, Tensor]:
    """Mean of a random measure and half the width of the mean's 95 % interval.

    Args:
        measure: one number; draws from the generator.
        repetitions: two or more.
        seed: of the generator.
    """
    generator = torch.Generator().manual_seed(seed)
    values = torch.stack([measure(generator).double() for _ in range(repetitions)])
    return values.mean(), NORMAL_95 * values.std() / math.sqrt(repetitions)


def diversity(features: Tensor, generator: torch.Generator, pairs: int = DIVERSITY_PAIRS) -> Tensor:
    """Mean Euclidean distance of random pairs of different rows of N x D; NaN for fewer than two.

    The paper's code draws both halves of the pairs independently, so a row may meet itself; here it does not.
    """
    count = len(features)
    if count < 2:
        return torch.tensor(torch.nan)
    first = torch.randint(count, (pairs,), generator=generator)
    other = (first + torch.randint(1, count, (pairs,), generator=generator)) % count
    return (features[first].double() - features[other].double()).norm(dim=1).mean()


def multimodality(features: Tensor, labels: Tensor, generator: torch.Generator, pairs: int = CLASS_PAIRS) -> Tensor:
    """Mean over classes of the diversity inside the class; those with one row do not count. N x D and N."""
    each = torch.stack([diversity(features[labels == label], generator, pairs) for label in labels.unique()])
    return each[each.isfinite()].mean()


def spread(one: Tensor, other: Tensor) -> Tensor:
    """Mean Euclidean distance of corresponding points, ... x D each."""
    return (one.double() - other.double()).norm(dim=-1).mean()


def mean_spread(videos: Sequence[Tensor]) -> Tensor:
    """Mean `spread` over all pairs; NaN for fewer than two."""
    pairs = [spread(one, other) for one, other in combinations(videos, 2)]
    return torch.stack(pairs).mean() if pairs else torch.tensor(torch.nan, dtype=torch.float64)


def interval_of_share(right: Tensor, count: Tensor) -> Tensor:
    """Half the width of the 95 % interval of a share (Wilson, 1927); NaN without any."""
    z2, share = NORMAL_95**2, right.double() / count
    return NORMAL_95 * (share * (1 - share) / count + z2 / (4 * count**2)).sqrt() / (1 + z2 / count)


# --- metrics -------------------------------------------------------------------------------------------------------


class RecognitionAccuracy(Metric):
    """Percent of videos recognised as the action asked for.

    Args:
        classes: names in the order of the scores.
        interval: give half the width of the 95 % interval instead.
        tabulated: whether a report shows the confusion.
        definition: replaces the class's own sentence.
    """

    full_state_update, higher_is_better = False, True
    confusion: Tensor

    def __init__(self, classes: Sequence[str], interval: bool = False, tabulated: bool = False, definition: str = ""):
        super().__init__()
        self.classes, self.interval, self.tabulated = tuple(classes), interval, tabulated
        what = "half the width of the 95 % interval (Wilson) of the " if interval else ""
        self.definition = what + (
            definition or "percent of predictions recognised as the action asked for; higher is better"
        )
        self.add_state(
            "confusion", torch.zeros(len(self.classes), len(self.classes), dtype=torch.int64), dist_reduce_fx="sum"
        )

    def update(self, scores: Tensor, asked: Tensor) -> None:
        """Add videos: N x classes, and the places of the actions asked for, N.

        Raises:
            ValueError: the shapes do not fit.
        """
        if scores.shape != (len(asked), len(self.classes)):
            raise ValueError(
                f"Scores and actions must be N x {len(self.classes)} and N, not {shapes(scores, asked)}."
            )
        for place, found in zip(asked.tolist(), scores.argmax(1).tolist(), strict=True):
            self.confusion[place, found] += 1

    def compute(self) -> Tensor:
        """The percentage or its interval; NaN without any video."""
        right, count = self.confusion.trace(), self.confusion.sum()
        return 100 * (interval_of_share(right, count) if self.interval else right.double() / count).float()

    def table(self) -> Mapping[str, Mapping[str, int]]:
        """The confusion: how often each action asked for was recognised as which."""
        return {
            name: dict(zip(self.classes, row, strict=True))
            for name, row in zip(self.classes, self.confusion.tolist(), strict=True)
        }


class FeatureDiversity(Metric):
    """Diversity of a model's videos in feature space, over all or within classes.

    Args:
        within: inside each class, which is multimodality; else over all videos.
        interval: give half the width of the 95 % interval over the repetitions instead.
    """

    full_state_update, higher_is_better = False, True
    features: list[Tensor]
    labels: list[Tensor]

    def __init__(self, within: bool = False, interval: bool = False):
        super().__init__()
        self.within, self.interval = within, interval
        pairs = f"{CLASS_PAIRS} pairs inside each action" if within else f"{DIVERSITY_PAIRS} pairs of all videos"
        what = "half the width of the 95 % interval of the " if interval else ""
        self.definition = (
            f"{what}mean Euclidean distance of the classifier's features over {pairs}, mean of {REPETITIONS} draws "
            "of pairs (the interval is that of the draws); near the true clips' is best"
        )
        self.add_state("features", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, samples: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Add a case's videos: features 1 x D and the place of its action, 1, of each."""
        for features, label in samples:
            self.features.append(features)
            self.labels.append(label)

    def compute(self) -> Tensor:
        """The mean or its interval; NaN for fewer than two videos."""
        features, labels = (torch.cat(list(each)) for each in (self.features, self.labels))

        def measure(generator: torch.Generator) -> Tensor:
            return multimodality(features, labels, generator) if self.within else diversity(features, generator)

        return repeated(measure)[1 if self.interval else 0].float()


class DiversityRatio(Metric):
    """Distance between samples of the same still and action over that between real clips of the action.

    Real clips also differ in who is seen, which makes the denominator larger and the ratio smaller.

    Args:
        space: what is compared, for the definition.
    """

    full_state_update, higher_is_better = False, True
    made: list[Tensor]
    made_of: list[Tensor]
    real: list[Tensor]
    real_of: list[Tensor]

    def __init__(self, space: str):
        super().__init__()
        self.definition = (
            f"mean Euclidean distance of {space} between the samples of a case, over that between real clips of the "
            "action, mean over actions with two real clips or more; 0 for a deterministic model, 1 is as diverse"
        )
        for name in ("made", "made_of", "real", "real_of"):
            self.add_state(name, [], dist_reduce_fx=None)

    def update(self, samples: Sequence[tuple[Tensor, Tensor, Tensor | None]]) -> None:
        """Add a case: of each sample its points (... x D), the action's place, and the real clip's points, if any."""
        if not samples:
            return
        place, real = samples[0][1:]
        self.made.append(mean_spread([each[0] for each in samples]))
        self.made_of.append(place)
        if real is not None:
            self.real.append(real)
            self.real_of.append(place)

    def compute(self) -> Tensor:
        """The mean of the ratios; NaN without any."""
        places = {int(place) for place in self.real_of}
        ratios = [
            torch.stack(_of(self.made, self.made_of, place)).nanmean()
            / mean_spread(_of(self.real, self.real_of, place))
            for place in sorted(places)
        ]
        found = torch.stack(ratios) if ratios else torch.zeros(0)
        return found[found.isfinite()].mean().float()


def _of(values: Sequence[Tensor], places: Sequence[Tensor], place: int) -> list[Tensor]:
    return [value for value, at in zip(values, places, strict=True) if int(at) == place]


class KeypointConsistency(MeanOfValues):
    """Distance between the keypoints asked for and those detected again in the generated frames."""

    definition = (
        "distance in percent of the width between the keypoints asked for and those that the model's own detector "
        "finds in the generated frame, over all keypoints and frames after the still; lower is better"
    )

    def update(self, asked: Tensor, found: Tensor) -> None:
        """Add a video: T x K x 2 each, normalised.

        Raises:
            ValueError: the shapes differ.
        """
        if asked.shape != found.shape or asked.ndim != 3 or asked.shape[2] != 2:
            raise ValueError(f"Keypoints must both be T x K x 2, not {shapes(asked, found)}.")
        distance = (asked.double() - found.double()).norm(dim=-1)
        self.add(50 * distance[distance.isfinite()])


class MaskCoverage(MeanOfValues):
    """Share of the pixels that are kept from the still."""

    definition = (
        "mean share of the unmoved still over all pixels and frames after the still; 1 moves nothing, and what is "
        "kept has the still's own pixels"
    )

    def update(self, kept: Tensor) -> None:
        """Add a video: T x S x S in [0, 1]."""
        self.add(kept)


class BackgroundExactness(Metric):
    """The largest difference from the still where the model keeps it."""

    full_state_update, higher_is_better = False, False
    largest: Tensor
    definition = (
        "largest absolute difference from the still in grey levels (0 to 255) over all kept pixels, frames and "
        "cases; 0 is exact; lower is better"
    )

    def __init__(self) -> None:
        super().__init__()
        self.add_state("largest", torch.tensor(-1.0), dist_reduce_fx="max")

    def update(self, frames: Tensor, still: Tensor, kept: Tensor) -> None:
        """Add a video: T x H x W x 3 and H x W x 3 `uint8`, and the kept pixels, T x H x W `bool`.

        Raises:
            ValueError: the shapes do not fit.
        """
        if frames.shape[1:] != still.shape or kept.shape != frames.shape[:3]:
            raise ValueError(
                f"Frames, still and pixels must be T x H x W x 3, H x W x 3 and T x H x W, not "
                f"{shapes(frames, still, kept)}."
            )
        difference = (frames.int() - still.int()).abs().amax(-1)[kept.bool()]
        if len(difference):
            self.largest = torch.maximum(self.largest, difference.max().float())

    def compute(self) -> Tensor:
        """Grey levels; NaN where nothing was kept."""
        return torch.where(self.largest < 0, torch.nan, self.largest)
