"""The background behind the object of a training clip, inpainted at the clip's own size."""

import numpy as np
import torch
from torch import Tensor

from stillmotion.data.augment import AugmentParams
from stillmotion.data.clip import Clip
from stillmotion.data.track_augment import augment_like
from stillmotion.data.tracks import moving_masks
from stillmotion.rendering import plate


class Figures:
    """Masks of the object of clips: a clip's track `parts` or `mask`, or what differs from the background.

    The latter is found once per clip, and shows of a body what moves.
    """

    def __init__(self) -> None:
        self.found: dict[str, np.ndarray] = {}

    def __call__(self, clip: Clip) -> np.ndarray:
        """The masks of all frames, T x H x W truth values."""
        for track in ("mask", "parts"):
            if track in clip.tracks:
                return (np.asarray(clip.tracks[track]) > 0).reshape(clip.frames.shape[:3])
        if clip.name not in self.found:
            self.found[clip.name] = np.asarray(moving_masks(clip.frames)).reshape(clip.frames.shape[:3]) > 0
        return self.found[clip.name]


class Plates:
    """The plates of training samples; see `rendering.fields.blend`."""

    def __init__(self) -> None:
        self.figures = Figures()

    def __call__(self, clip: Clip, indices: np.ndarray, params: AugmentParams) -> Tensor:
        """The plate of the first of some frames after an augmentation, 4 x h x w: RGB, and 1 if it is known, else 0.

        Args:
            clip: of `uint8` frames.
            indices: the frames, in the clip's order; played backwards, the last one is the still.
            params: the augmentation.
        """
        still = int(indices[-1] if params.reverse else indices[0])
        mask = self.figures(clip)[still]
        filled = plate.inpaint_smoothly(np.ascontiguousarray(clip.frames[still]), plate.widened(mask))
        moved = torch.from_numpy(
            augment_like(filled[None], clip.frames[indices], params)[0].transpose(2, 0, 1).copy()
        )
        return torch.cat([moved, torch.full_like(moved[:1], float(mask.any()))])
