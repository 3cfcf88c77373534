"""A classifier of actions in videos, trained by `recipes/action_network.py` on real clips of the data set at hand.

Two streams, as of Simonyan and Zisserman (NIPS 2014), with differences of frames in the place of optical flow. Class
names, labels' key, own accuracy and the data's digests lie in a JSON file beside the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion import media
from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionError
from stillmotion.evaluation.extractors.base import load_weights, path_and_digest
from stillmotion.evaluation.extractors.described import (
    Progress,
    augmented,
    draw_weights,
    fit,
    read_described,
    recompute_statistics,
    save_described,
)

SIDE, FRAMES = 64, 16  # of the network's input: pixels a side, and frames that a video of any length is sampled to
LEAST_FRAMES = 4
SHOWN = 4  # every so many frames one goes through the stream of appearance
APPEARANCE, MOTION = 96, 128
FEATURES = APPEARANCE + MOTION
BATCH, RATE = 16, 2e-3
SETTLING = 8  # batches after a training, for the statistics of batch norm

FORM = "the file of an action classifier (FILE.safetensors with FILE.json beside it)"


class ActionNetwork(nn.Module):
    """0.57 M parameters; N x 16 x 3 x 64 x 64 in [0, 1] to N x `classes` scores."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.appearance = nn.Sequential(
            *_block(nn.Conv2d, 3, 16, 2),  # 16 x 32 x 32
            *_block(nn.Conv2d, 16, 32, 2),  # 32 x 16 x 16
            *_block(nn.Conv2d, 32, 64, 2),  # 64 x 8 x 8
            *_block(nn.Conv2d, 64, APPEARANCE, 2),  # 96 x 4 x 4
        )
        self.motion = nn.Sequential(
            *_block(nn.Conv3d, 3, 24, (1, 2, 2)),  # 24 x 15 x 32 x 32
            *_block(nn.Conv3d, 24, 48, (2, 2, 2)),  # 48 x 8 x 16 x 16
            *_block(nn.Conv3d, 48, 96, (2, 2, 2)),  # 96 x 4 x 8 x 8
            *_block(nn.Conv3d, 96, MOTION, (1, 2, 2)),  # 128 x 4 x 4 x 4
        )
        self.head = nn.Linear(FEATURES, classes)

    def encode(self, videos: Tensor) -> Tensor:
        """The features of both streams, averaged over time and place; N x 224."""
        shown = videos[:, ::SHOWN]
        count, times = shown.shape[:2]
        pictures = self.appearance(shown.flatten(0, 1)).mean(dim=(2, 3))  # NT x 96
        moving = self.motion(videos.diff(dim=1).transpose(1, 2)).mean(dim=(2, 3, 4))  # N x 128
        return torch.cat([pictures.view(count, times, -1).mean(1), moving], dim=1)

    def forward(self, videos: Tensor) -> Tensor:
        """Scores of the classes."""
        scores: Tensor = self.head(self.encode(videos))
        return scores


def _block(kind: Callable[..., nn.Module], inputs: int, outputs: int, stride: Any) -> list[nn.Module]:
    norm = nn.BatchNorm2d if kind is nn.Conv2d else nn.BatchNorm3d
    return [kind(inputs, outputs, 3, stride, padding=1, bias=False), norm(outputs), nn.ReLU()]


@dataclass(frozen=True)
class About:
    """What is known of a classifier beside its weights."""

    classes: tuple[str, ...]  # in the order of the scores
    label: str = "action"  # the key of a clip's meta that holds its class
    accuracy: float | None = None  # percent of real clips that it was not trained on
    clips: int = 0  # how many these were
    data: str = ""  # title of the data set
    shards: tuple[str, ...] = ()  # SHA-256 of its tar files


class ActionClassifier:
    """A feature extractor for whole videos that also names their class.

    Args:
        network: the weights; put in eval mode.
        about: see `About`.
        origin: where the weights are from, for the description.
        device: where the network runs; results come back on the CPU.
    """

    dimension, per_video = FEATURES, True

    def __init__(
        self, network: ActionNetwork, about: About, origin: str = "in memory", device: str | torch.device = "cpu"
    ):
        self.network = network.eval().requires_grad_(False).to(device)
        self.about, self.classes, self.device = about, about.classes, device
        own = "not measured" if about.accuracy is None else f"{about.accuracy:.1f} % of {about.clips} real clips"
        self.description = (
            f"two-stream classifier of {len(self.classes)} classes ({about.label}: {', '.join(self.classes)}) "
            f"trained on {about.data or 'untitled data'}, its own accuracy on clips it was not trained on: {own}; "
            f"videos sampled evenly to {FRAMES} frames of {SIDE} x {SIDE} ({origin})"
        )

    @torch.inference_mode()
    def __call__(self, frames: np.ndarray) -> Tensor:
        """T x H x W x 3 `uint8` to features, 1 x 224.

        Raises:
            StillmotionError: too few frames.
        """
        return self.network.encode(as_input(frames, sample_times(len(frames)))[None].to(self.device)).cpu().clone()

    @torch.inference_mode()
    def scores(self, features: Tensor) -> Tensor:
        """N x 224 to N x classes."""
        return self.network.head(features.to(self.device)).cpu().clone()


def sample_times(length: int, start: float = 0.0, share: float = 1.0) -> np.ndarray:
    """Indices of 16 frames, evenly spaced over a share of a video that begins at a share of it.

    Speed is not kept: an animation of 32 frames and a clip of 100 that show one cycle each give the same input.

    Raises:
        StillmotionError: the video has fewer than `LEAST_FRAMES`.
    """
    if length < LEAST_FRAMES:
        raise StillmotionError(f"A video has {length} frames; actions are recognised in {LEAST_FRAMES} or more.")
    last = length - 1
    return np.linspace(start * last, (start + share) * last, FRAMES).round().astype(int)


def as_input(frames: np.ndarray, times: np.ndarray) -> Tensor:
    """Chosen frames of T x H x W x 3 `uint8` as 16 x 3 x 64 x 64 in [0, 1]."""
    chosen = np.asarray(frames[times])
    if chosen.shape[1:3] != (SIDE, SIDE):
        chosen = media.resize(chosen, (SIDE, SIDE))
    return media.to_tensor(chosen)


# --- training ------------------------------------------------------------------------------------------------------


def train_classifier(
    clips: Sequence[Clip],
    generator: torch.Generator,
    *,
    label: str = "action",
    steps: int = 1500,
    minutes: float | None = None,
    batch: int = BATCH,
    progress: Progress | None = None,
) -> ActionClassifier:
    """Train on real clips whose meta holds the label.

    Args:
        clips: to train on; the classes are those found in them.
        generator: of all random numbers.
        label: key of the class in the clips' meta. Clips are mirrored half the time, unless it is `side`.
        steps: updates; the learning rate falls linearly to zero.
        minutes: an earlier end; the rate has fallen to zero by then.
        batch: clips per update.
        progress: see `Progress`.

    Raises:
        StillmotionError: a clip lacks the label or has too few frames, or all have the same class.
    """
    names = labels_of(clips, label)
    classes = tuple(sorted(set(names)))
    if len(classes) < 2:
        raise StillmotionError(f"All clips have the same {label}; a classifier needs two classes or more.")
    targets = torch.tensor([classes.index(name) for name in names])
    network = fresh_network(len(classes), generator).train()

    def draw() -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(clips), (batch,), generator=generator)
        videos = torch.stack([random_window(np.asarray(clips[i].frames), generator) for i in chosen.tolist()])
        return augmented(videos, generator, flip=label != "side"), targets[chosen]

    def loss_of_batch() -> Tensor:
        videos, wanted = draw()
        return F.cross_entropy(network(videos), wanted, label_smoothing=0.05)

    fit(network, loss_of_batch, rate=RATE, steps=steps, minutes=minutes, progress=progress)
    recompute_statistics(network, (draw()[0] for _ in range(SETTLING)))
    return ActionClassifier(network, About(classes, label))


def fresh_network(classes: int, generator: torch.Generator) -> ActionNetwork:
    """A network whose first weights are the generator's; torch's global stream stays as it is."""
    with torch.random.fork_rng(devices=[]):
        network = ActionNetwork(classes)
    draw_weights(network, generator)
    nn.init.zeros_(network.head.bias)
    return network


def labels_of(clips: Sequence[Clip], label: str) -> list[str]:
    """The class of every clip.

    Raises:
        StillmotionError: a clip has none.
    """
    names = [clip.meta.get(label) for clip in clips]
    for clip, name in zip(clips, names, strict=True):
        if name is None:
            raise StillmotionError(f"The clip {clip.name!r} has no {label} in its meta; leave it out.")
    return [str(name) for name in names]


def random_window(frames: np.ndarray, generator: torch.Generator) -> Tensor:
    """16 frames of a random 65 to 100 % of a video, 16 x 3 x 64 x 64: it is stretched in time and shifted."""
    share = 0.65 + 0.35 * float(torch.rand((), generator=generator))
    start = (1 - share) * float(torch.rand((), generator=generator))
    return as_input(frames, sample_times(len(frames), start, share))


def measure_accuracy(classifier: ActionClassifier, clips: Sequence[Clip]) -> ActionClassifier:
    """The same classifier with its accuracy on clips it was not trained on; a class it does not know is wrong."""
    names = labels_of(clips, classifier.about.label)
    found = [classifier.scores(classifier(np.asarray(clip.frames))).argmax().item() for clip in clips]
    right = sum(classifier.classes[int(at)] == name for at, name in zip(found, names, strict=True))
    about = replace(classifier.about, accuracy=100 * right / len(clips) if len(clips) else None, clips=len(clips))
    return ActionClassifier(classifier.network, about, device=classifier.device)


# --- files ---------------------------------------------------------------------------------------------------------


def save_classifier(path: Path, classifier: ActionClassifier, **about: Any) -> str:
    """Write FILE.safetensors and FILE.json; `about` changes fields of `About`. Returns FILE@SHA256 for `--network`.

    Raises:
        StillmotionError: a file cannot be written.
    """
    return save_described(path, classifier.network.state_dict(), replace(classifier.about, **about))


def open_classifier(value: str, device: str | torch.device = "cpu") -> ActionClassifier:
    """Open FILE.safetensors@SHA256 and the JSON beside it.

    Raises:
        StillmotionError: the file is not the one that was named, holds other weights, or its JSON is missing, damaged
            or that of another file.
    """
    tensors, about = read_described(value, About, FORM)
    path, digest = path_and_digest(value)
    network = ActionNetwork(len(about.classes))
    load_weights(network, tensors, path, ignored=())
    return ActionClassifier(network, about, f"SHA-256 {digest}", device)
