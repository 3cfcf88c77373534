"""Small networks for faces and people: who, which expression; trained on worlds, `recipes/face_networks.py`.

`recipes/people_network.py` trains the same network of identity on whole people of the world `puppets`.

Features have length 1; a class is the nearest of unit vectors, of which the right one is told apart by a margin in
training (CosFace, Wang et al. 2018). All see whole frames, in which a face or a person is as large as the world's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.evaluation.extractors.base import FeatureExtractor, NetworkFeatures, load_weights, path_and_digest
from stillmotion.evaluation.extractors.described import (
    Progress,
    augmented,
    draw_weights,
    fit,
    read_described,
    recompute_statistics,
    save_described,
)
from stillmotion.evaluation.extractors.identity import open_resnet50

SIDE = 64  # of the networks' input, in pixels
FEATURES = 64
WIDTHS = (24, 48, 96, 128)
SCALE = 16.0  # of cosines, before the softmax
BATCH, RATE = 64, 2e-3
SETTLING = 8  # batches after a training, for the statistics of batch norm

FORM = "the file of a face network (FILE.safetensors with FILE.json beside it)"


class FaceNetwork(nn.Module):
    """0.29 M parameters; N x 3 x 64 x 64 in [0, 1] to N x 64 features of length 1.

    Args:
        classes: which `compare` gives cosines with; 0 for features alone.
    """

    def __init__(self, classes: int = 0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in zip((3, *WIDTHS), WIDTHS, strict=False):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        last = WIDTHS[-1] * (SIDE >> len(WIDTHS)) ** 2
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(last, FEATURES))
        self.classes = nn.Linear(FEATURES, classes, bias=False) if classes else None

    def forward(self, pictures: Tensor) -> Tensor:
        """The features."""
        return F.normalize(self.layers(pictures), dim=1)

    def compare(self, features: Tensor) -> Tensor:
        """Cosines of N x 64 with every class, N x classes."""
        assert self.classes is not None
        return features @ F.normalize(self.classes.weight, dim=1).T


@dataclass(frozen=True)
class About:
    """What is known of a network beside its weights."""

    classes: tuple[str, ...] = ()  # expressions in the order of the scores; none for a network of identity
    accuracy: str = "not measured"  # on people that it was not trained on
    data: str = ""  # that it was trained on


class FaceExpressions(NetworkFeatures):
    """Features per frame, and the expression.

    Args:
        network: with the classes.
        about: see `About`.
        origin: where the weights are from, for the description.
        device: where the network runs; results come back on the CPU.
    """

    def __init__(
        self, network: FaceNetwork, about: About, origin: str = "in memory", device: str | torch.device = "cpu"
    ):
        what = f"classifier of {len(about.classes)} facial expressions ({', '.join(about.classes)})"
        super().__init__(network, FEATURES, (SIDE, SIDE), _as_given, _describe(what, about, origin), device)
        self.classifier, self.classes = network, about.classes

    @torch.inference_mode()
    def scores(self, features: Tensor) -> Tensor:
        """N x 64 to N x classes."""
        return self.classifier.compare(features.to(self.device)).cpu().clone()


def face_identity(
    network: FaceNetwork, about: About, origin: str = "in memory", device: str | torch.device = "cpu"
) -> NetworkFeatures:
    """Features of identity, T x 64 of length 1."""
    text = _describe(f"{FEATURES} features of a face's or a person's identity, of length 1", about, origin)
    return NetworkFeatures(network, FEATURES, (SIDE, SIDE), _as_given, text, device)


def _as_given(pictures: Tensor) -> Tensor:
    return pictures


def _describe(what: str, about: About, origin: str) -> str:
    own = f"on people it was not trained on: {about.accuracy}"
    return f"{what}, trained on {about.data or 'untitled data'}; {own}; frames scaled to {SIDE} x {SIDE} ({origin})"


# --- training ------------------------------------------------------------------------------------------------------


def train_faces(
    pictures: Tensor,
    labels: Tensor,
    classes: int,
    generator: torch.Generator,
    *,
    margin: float,
    flip: bool,
    steps: int,
    minutes: float | None = None,
    batch: int = BATCH,
    progress: Progress | None = None,
    start: FaceNetwork | None = None,
) -> FaceNetwork:
    """Train a network to tell classes of pictures apart.

    Args:
        pictures: `uint8`, N x 3 x 64 x 64.
        labels: the class of each, N whole numbers from 0 on.
        classes: how many there are.
        generator: of all random numbers.
        margin: by how much the right class's cosine must be above the others'.
        flip: mirror half of the pictures.
        steps: updates.
        minutes: an earlier end.
        batch: pictures per update.
        progress: see `Progress`.
        start: a network of so many classes, whose weights are trained on.

    Returns:
        The network in eval mode.
    """
    with torch.random.fork_rng(devices=[]):
        network = FaceNetwork(classes).train()
    draw_weights(network, generator)
    if start is not None:
        network.load_state_dict(start.state_dict())

    def draw() -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(pictures), (batch,), generator=generator)
        shown = augmented(pictures[chosen, None].float() / 255, generator, flip)[:, 0]
        return blurred(shown, generator), labels[chosen]

    def loss_of_batch() -> Tensor:
        shown, wanted = draw()
        cosines = network.compare(network(shown))
        return F.cross_entropy(SCALE * (cosines - margin * F.one_hot(wanted, cosines.shape[1])), wanted)

    fit(network, loss_of_batch, rate=RATE, steps=steps, minutes=minutes, progress=progress)
    recompute_statistics(network, (draw()[0] for _ in range(SETTLING)))
    return network.eval()


def blurred(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Each mixed with itself at half the size: generated frames are less sharp than rendered ones. N x 3 x S x S."""
    coarse = F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2, mode="bilinear", align_corners=False)
    share = torch.rand(len(pictures), 1, 1, 1, generator=generator)
    return pictures + share * (coarse - pictures)


# --- accuracy ------------------------------------------------------------------------------------------------------


def recognised(network: FaceNetwork, features: Tensor, labels: Tensor) -> float:
    """Percent of features, N x 64, whose nearest class is the right one."""
    return 100 * (network.compare(features).argmax(1) == labels).double().mean().item()


def verification_threshold(features: Tensor, people: Tensor) -> float:
    """The distance that best tells pairs of the same person from others, both kinds weighed alike.

    Args:
        features: N x 64, of people that the network may have seen.
        people: the person of each, N.
    """
    same, other = (kind.sort().values for kind in pair_distances(features, people))
    at = torch.cat([same, other]).sort().values
    right = torch.searchsorted(same, at, right=True) / len(same) - torch.searchsorted(other, at, right=True) / len(
        other
    )
    return float(at[right.argmax()])


def verified(features: Tensor, people: Tensor, threshold: float) -> float:
    """Percent of pairs rightly called the same person or others, both kinds weighed alike."""
    same, other = pair_distances(features, people)
    return 50 * ((same <= threshold).double().mean() + (other > threshold).double().mean()).item()


def pair_distances(features: Tensor, people: Tensor) -> tuple[Tensor, Tensor]:
    """Distances of all pairs of the same person, and of all others."""
    first, second = torch.triu_indices(len(features), len(features), 1)
    distance = torch.cdist(features, features)[first, second]
    alike = people[first] == people[second]
    return distance[alike], distance[~alike]


def identified(features: Tensor, people: Tensor) -> float:
    """Percent of pictures that are nearer to the first picture of their person than to that of anyone else."""
    names = people.unique()
    first = torch.stack([(people == name).nonzero()[0, 0] for name in names])
    rest = torch.ones(len(people), dtype=torch.bool).index_fill(0, first, False)
    nearest = names[torch.cdist(features[rest], features[first]).argmin(1)]
    return 100 * (nearest == people[rest]).double().mean().item()


# --- files ---------------------------------------------------------------------------------------------------------


def save_faces(path: Path, network: FaceNetwork, about: About) -> str:
    """Write FILE.safetensors, with the classes only where `about` names them, and FILE.json. Returns FILE@SHA256.

    Raises:
        StillmotionError: a file cannot be written.
    """
    kept = {name: value for name, value in network.state_dict().items() if about.classes or "classes" not in name}
    return save_described(path, kept, about)


def open_expressions(value: str, device: str | torch.device = "cpu") -> FaceExpressions:
    """Open a classifier of facial expressions, FILE.safetensors@SHA256 with the JSON beside it.

    Raises:
        StillmotionError: the file is not the one that was named, holds other weights, or its JSON is missing, damaged
            or that of another file.
    """
    return FaceExpressions(*_read(value), device=device)


def open_identity(value: str, device: str | torch.device = "cpu") -> FeatureExtractor:
    """Open features of identity: with FILE.json beside FILE.safetensors a face network, without it a ResNet-50.

    Raises:
        StillmotionError: as `open_expressions`.
    """
    path, digest = path_and_digest(value)
    if path.with_suffix(".json").is_file():
        network, about, origin = _read(value)
        return face_identity(network, replace(about, classes=()), origin, device)
    return open_resnet50(path, digest, device=device)


def _read(value: str) -> tuple[FaceNetwork, About, str]:
    tensors, about = read_described(value, About, FORM)
    path, digest = path_and_digest(value)
    network = FaceNetwork(len(about.classes))
    load_weights(network, tensors, path, ignored=())
    return network, about, f"SHA-256 {digest}"
