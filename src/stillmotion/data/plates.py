"""The background behind the object of a training clip, inpainted at the clip's own size."""

import numpy as np
import torch
from torch import Tensor

from stillmotion.data.augment import AugmentParams, augment_frames
from stillmotion.data.clip import Clip
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

    def __call__(self, clip: Clip, still: int, params: AugmentParams) -> Tensor:
        """The plate of a frame after an augmentation, 4 x h x w: RGB, and 1 if it is known, 0 if not."""
        mask = self.figures(clip)[still]
        frame = np.ascontiguousarray(clip.frames[still])
        both = np.stack([frame, plate.inpaint(frame, plate.widened(mask))])
        # The frame comes first in what is played: changes of colour look up the colours of its figure.
        changed = augment_frames(both[::-1] if params.reverse else both, params, reference=1)[1]
        moved = torch.from_numpy(changed.transpose(2, 0, 1).copy())
        return torch.cat([moved, torch.full_like(moved[:1], float(mask.any()))])
