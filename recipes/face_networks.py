"""Train the face networks of `evaluation/extractors/faces.py` on the world `faces` and print their accuracy.

    python recipes/face_networks.py OUT      writes OUT/faces_identity.safetensors, OUT/faces_expression.safetensors

For the network of identity every picture is of its own scene, light and head pose, so that a person is known by the
face alone. The classifier of expressions sees ten times as many people, each with all expressions in one scene: what
somebody looks like at rest is told from a weak emotion by many faces alone. People of the test are never seen in
training. A quarter of an hour on one core at most, five minutes of it for pictures, unless --minutes and
--expression-minutes say otherwise. The last lines are the values of `stillmotion evaluate --network`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stillmotion.evaluation.extractors.described import Progress
from stillmotion.evaluation.extractors.faces import (
    SIDE,
    About,
    FaceNetwork,
    identified,
    open_expressions,
    recognised,
    save_faces,
    train_faces,
    verification_threshold,
    verified,
)
from stillmotion.worlds.faces import EMOTIONS, Face, Performance, Person, render
from stillmotion.worlds.faces.appearance import sample_appearance, sample_scene
from stillmotion.worlds.faces.identity import sample_identity
from stillmotion.worlds.faces.performance import sample_performance

CLASSES = (*EMOTIONS, "neutral")
PEOPLE, TESTED, EACH = 280, 60, 10  # of identity: trained on, tested on, and pictures of each
FACES, TESTED_FACES = 3000, 150  # of expressions: trained on and tested on
SEED, FACES_SEED = 31, 32
BATCH = 256  # pictures whose features are found together


class Pictures(NamedTuple):
    """Made pictures."""

    pictures: Tensor  # `uint8`, N x 3 x 64 x 64
    labels: Tensor  # N whole numbers: people, or places in `CLASSES`


class Moments(NamedTuple):
    """The first moments of several performances, one a frame: what `render` reads of a performance."""

    performances: tuple[Performance, ...]

    @property
    def place(self) -> tuple[float, float, float]:
        """Of the body, which all share."""
        return self.performances[0].place

    def expression(self, times: np.ndarray) -> np.ndarray:
        """One row of coefficients for each performance."""
        return np.concatenate([each.expression(times[:1]) for each in self.performances])

    def pose(self, times: np.ndarray) -> np.ndarray:
        """One row for each performance."""
        return np.concatenate([each.pose(times[:1]) for each in self.performances])


def main(given: Sequence[str] | None = None) -> None:
    """Make the pictures, train, test, save."""
    parser = identity_options(__doc__, PEOPLE, TESTED, minutes=2.5)
    parser.add_argument("--each", type=int, default=EACH, help="pictures of each person")
    parser.add_argument("--faces", type=int, default=FACES, help="people whose expressions are trained on")
    parser.add_argument("--tested-faces", type=int, default=TESTED_FACES, help="and tested on")
    parser.add_argument("--expression-steps", type=int, default=8000)
    parser.add_argument("--expression-minutes", type=float, default=7, help="of the training of expressions at most")
    parser.add_argument("--start", help="a classifier of expressions to train on, FILE.safetensors@SHA256")
    options = parser.parse_args(given)
    options.out.mkdir(parents=True, exist_ok=True)
    limits = {"steps": options.steps, "minutes": options.minutes}
    trained = make_pictures(range(options.people), options.each)
    tested = make_pictures(range(options.people, options.people + options.tested), options.each)
    found = train_identity(trained, tested, _data(trained, options.people, SEED), limits)
    values = {"identity": save_faces(options.out / "faces_identity", *found)}
    start = open_expressions(options.start).classifier if options.start else None
    limits = {"steps": options.expression_steps, "minutes": options.expression_minutes, "start": start}
    values["expressions"] = save_faces(options.out / "faces_expression", *train_expressions(options, limits))
    for name, value in values.items():
        print(f"--network {name}={value}")


def identity_options(about: str | None, people: int, tested: int, minutes: float) -> argparse.ArgumentParser:
    """What a recipe of a network of identity is asked, with these defaults."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--people", type=int, default=people)
    parser.add_argument("--tested", type=int, default=tested, help="people of the test")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=minutes, help="of the training of identity at most")
    return parser


# --- pictures ------------------------------------------------------------------------------------------------------


def make_pictures(people: Sequence[int], each: int) -> Pictures:
    """Pictures of some people with expressions of any strength, the same ones whenever they are made."""
    made = [_picture(person, number) for person in people for number in range(each)]
    return Pictures(stacked(made), torch.tensor(people).repeat_interleave(each))


def _picture(number: int, picture: int) -> np.ndarray:
    """One picture of a person, H x W x 3."""
    who, rng = np.random.default_rng([SEED, number]), np.random.default_rng([SEED, number, picture])
    person = Person(tuple(sample_identity(who).tolist()), sample_appearance(who))
    name = CLASSES[int(rng.integers(len(CLASSES)))]
    performance = sample_performance(rng, name if name in EMOTIONS else str(rng.choice(list(EMOTIONS))))
    if rng.random() < 0.15:
        since = rng.uniform(0, performance.onset)
    else:
        since = performance.onset + rng.uniform(0, performance.apex) if name in EMOTIONS else -1.0
    moment = _moment(performance, since, rng)
    frames, _ = render(Face(person, moment, sample_scene(rng)), SIDE, 1)
    return frames[0]


def make_expressions(people: Sequence[int]) -> Pictures:
    """One picture of each expression of some people, at the apex or at rest."""
    made = [_expressions(person) for person in people]
    return Pictures(
        stacked([frame for frames in made for frame in frames]), torch.arange(len(CLASSES)).repeat(len(made))
    )


def _expressions(number: int) -> np.ndarray:
    """One person's pictures in one scene, in the order of `CLASSES`; the head is turned otherwise in each."""
    rng = np.random.default_rng([FACES_SEED, number])
    person, scene = Person(tuple(sample_identity(rng).tolist()), sample_appearance(rng)), sample_scene(rng)
    shown: list[Performance] = []
    for name in CLASSES:
        made = sample_performance(rng, name if name in EMOTIONS else str(rng.choice(list(EMOTIONS))))
        since = made.onset + rng.uniform(0, made.apex) if name in EMOTIONS else -1.0
        shown.append(replace(_moment(made, since, rng), place=shown[0].place if shown else made.place))
    frames, _ = render(Face(person, Moments(tuple(shown)), scene), SIDE, len(shown))
    return frames


def _moment(performance: Performance, since: float, rng: np.random.Generator) -> Performance:
    """The performance whose first frame is so long after its onset; below zero it is at rest."""
    return replace(performance, start=-since, blinks=_blinks(performance, rng))


def stacked(frames: Sequence[np.ndarray]) -> Tensor:
    """Frames, H x W x 3 `uint8` each, as N x 3 x H x W."""
    return torch.from_numpy(np.stack(frames).transpose(0, 3, 1, 2).copy())


def _blinks(performance: Performance, rng: np.random.Generator) -> tuple[float, float]:
    """A blink in one of ten pictures."""
    first, every = performance.blinks
    return (-float(rng.uniform(0, 5)) if rng.random() < 0.1 else first, every)


# --- networks ------------------------------------------------------------------------------------------------------


def train_identity(
    trained: Pictures, tested: Pictures, data: str, limits: dict[str, Any]
) -> tuple[FaceNetwork, About]:
    """Features of identity, by a classifier of the people trained on."""
    network = _trained("identity", trained, len(trained.labels.unique()), {"margin": 0.2, "flip": False, **limits})
    known, new = features(network, trained), features(network, tested)
    right = verified(new, tested.labels, verification_threshold(known, trained.labels))
    known_as, count = identified(new, tested.labels), len(tested.labels.unique())
    accuracy = f"{right:.1f} % of pairs verified, {known_as:.1f} % identified out of {count}"
    print(f"identity, people never seen: {accuracy}", flush=True)
    return network, About((), accuracy, data)


def train_expressions(options: argparse.Namespace, limits: dict[str, Any]) -> tuple[FaceNetwork, About]:
    """A classifier of the six emotions at their apex, and rest."""
    trained = make_expressions(range(options.faces))
    tested = make_expressions(range(options.faces, options.faces + options.tested_faces))
    network = _trained("expression", trained, len(CLASSES), {"margin": 0.1, "flip": True, **limits})
    right = recognised(network, features(network, tested), tested.labels)
    accuracy = f"{right:.1f} % of {len(tested.labels)} pictures recognised"
    print(f"expressions, people never seen: {accuracy}", flush=True)
    earlier = ", from an earlier network" if options.start else ""
    return network, About(CLASSES, accuracy, _data(trained, options.faces, FACES_SEED) + earlier)


def _trained(name: str, shown: Pictures, classes: int, settings: dict[str, Any]) -> FaceNetwork:
    print(f"{name}: {len(shown.labels)} pictures", flush=True)
    generator = torch.Generator().manual_seed(SEED)
    return train_faces(*shown, classes, generator, progress=_tell(name), **settings)


def _data(trained: Pictures, people: int, seed: int) -> str:
    return f"{len(trained.labels)} pictures of {people} people of the world faces (seed {seed})"


@torch.no_grad()
def features(network: FaceNetwork, pictures: Pictures) -> Tensor:
    """Of all pictures, N x 64."""
    return torch.cat([network(part.float() / 255) for part in pictures.pictures.split(BATCH)])


def _tell(name: str) -> Progress:
    return lambda step, loss: print(f"{name}, step {step}: loss {loss:.3f}", flush=True) if step % 200 == 0 else None


if __name__ == "__main__":
    main()
