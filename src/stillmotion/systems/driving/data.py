"""What keypoint prediction learns from: windows of keypoints. The other stages' data are in `keypoints.data`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset

from stillmotion.data.sampling import clip_index, sample_rng, window
from stillmotion.errors import StillmotionError
from stillmotion.keypoints.networks import Keypoints


class KeypointWindows(Dataset[dict[str, Any]]):
    """Runs of `size` consecutive frames' keypoints of one clip; item n is a pure function of n.

    Items are dicts of `mean`, T x K x 2, `covariance`, T x K x 2 x 2, and `name`.
    """

    def __init__(self, clips: Sequence[tuple[str, Keypoints]], size: int, seed: int):
        """Args: every clip's name and keypoints (time first), the window's length, the seed of the training."""
        self.clips, self.size, self.seed = clips, size, seed

    def __len__(self) -> int:
        """Samples per epoch, one per clip."""
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        name, keypoints = self.clips[clip_index(len(self.clips), index, self.seed)]
        start = int(window(len(keypoints.mean), self.size, sample_rng(self.seed, index))[0])
        chosen = keypoints.rows(slice(start, start + self.size))
        return {"mean": chosen.mean, "covariance": chosen.covariance, "name": name}


def window_length(clips: Sequence[Any], wanted: int) -> int:
    """The window's length: `wanted`, or the shortest clip's, for all windows of a batch must be equally long.

    Raises:
        StillmotionError: a clip has a single frame, which has no motion to learn.
    """
    shortest = min(clips, key=lambda clip: len(clip.frames))
    length = len(shortest.frames)
    if length < 2:
        raise StillmotionError(
            f"The clip {shortest.name} has one frame: a keypoint predictor needs at least two, leave it out."
        )
    if length < wanted:
        print(
            f"Keypoint prediction learns from windows of {length} frames, not {wanted}: {shortest.name} has no more.",
            file=sys.stderr,
        )
    return min(length, wanted)
