"""Train the face networks of `evaluation/extractors/faces.py` on the world `faces` and print their accuracy.

    python recipes/face_networks.py OUT      writes OUT/faces_identity.safetensors, OUT/faces_expression.safetensors

Every picture is of its own scene, light and head pose, so that a person is known by the face alone; it shows an
emotion at its apex, rest, or something between, which trains the network of identity only. People of the test are
never seen in training. Eight minutes on one core at most, of which two make the pictures, unless --minutes says
otherwise for the trainings. The last lines are the values of `stillmotion evaluate --network`.
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
BETWEEN = -1  # label of a picture between rest and apex
PEOPLE, TESTED, EACH = 280, 60, 10  # trained on, tested on, and pictures of each
SEED = 31
BATCH = 256  # pictures whose features are found together


class Pictures(NamedTuple):
    """Made pictures."""

    pictures: Tensor  # `uint8`, N x 3 x 64 x 64
    people: Tensor  # N whole numbers
    expressions: Tensor  # N places in `CLASSES`, or `BETWEEN`


def main(given: Sequence[str] | None = None) -> None:
    """Make the pictures, train, test, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--people", type=int, default=PEOPLE)
    parser.add_argument("--tested", type=int, default=TESTED, help="people of the test")
    parser.add_argument("--each", type=int, default=EACH, help="pictures of each person")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=2.5, help="of each training at most")
    options = parser.parse_args(given)
    options.out.mkdir(parents=True, exist_ok=True)
    trained = make_pictures(range(options.people), options.each)
    tested = make_pictures(range(options.people, options.people + options.tested), options.each)
    print(f"{len(trained.people)} pictures of {options.people} people", flush=True)
    data = f"{len(trained.people)} pictures of {options.people} people of the world faces (seed {SEED})"
    limits = {"steps": options.steps, "minutes": options.minutes}
    values = {
        "identity": save_faces(options.out / "faces_identity", *train_identity(trained, tested, data, limits)),
        "expressions": save_faces(
            options.out / "faces_expression", *train_expressions(trained, tested, data, limits)
        ),
    }
    for name, value in values.items():
        print(f"--network {name}={value}")


# --- pictures ------------------------------------------------------------------------------------------------------


def make_pictures(people: Sequence[int], each: int) -> Pictures:
    """Pictures of some people, the same ones whenever they are made."""
    made = [_picture(person, number) for person in people for number in range(each)]
    pictures = np.stack([picture for picture, _ in made]).transpose(0, 3, 1, 2)
    labels = torch.tensor([label for _, label in made])
    return Pictures(torch.from_numpy(pictures.copy()), torch.tensor(people).repeat_interleave(each), labels)


def _picture(number: int, picture: int) -> tuple[np.ndarray, int]:
    """One picture of a person, H x W x 3, and its place in `CLASSES` or `BETWEEN`."""
    who, rng = np.random.default_rng([SEED, number]), np.random.default_rng([SEED, number, picture])
    person = Person(tuple(sample_identity(who).tolist()), sample_appearance(who))
    label = int(rng.integers(len(CLASSES)))
    emotion = CLASSES[label] if CLASSES[label] in EMOTIONS else str(rng.choice(list(EMOTIONS)))
    performance = sample_performance(rng, emotion)
    # The first frame is rendered, so time is shifted until it is the one that is wanted.
    if rng.random() < 0.15:
        label, since = BETWEEN, rng.uniform(0, performance.onset)
    elif CLASSES[label] in EMOTIONS:
        since = performance.onset + rng.uniform(0, performance.apex)
    else:
        since = -1.0
    moment = replace(performance, start=-since, blinks=_blinks(performance, rng))
    frames, _ = render(Face(person, moment, sample_scene(rng)), SIDE, 1)
    return frames[0], label


def _blinks(performance: Performance, rng: np.random.Generator) -> tuple[float, float]:
    """A blink in one of ten pictures."""
    first, every = performance.blinks
    return (-float(rng.uniform(0, 5)) if rng.random() < 0.1 else first, every)


# --- networks ------------------------------------------------------------------------------------------------------


def train_identity(
    trained: Pictures, tested: Pictures, data: str, limits: dict[str, Any]
) -> tuple[FaceNetwork, About]:
    """Features of identity, by a classifier of the people trained on."""
    network = train_faces(
        trained.pictures,
        trained.people,
        len(trained.people.unique()),
        _generator(),
        margin=0.2,
        flip=False,
        progress=_tell("identity"),
        **limits,
    )
    known, new = features(network, trained), features(network, tested)
    right = verified(new, tested.people, verification_threshold(known, trained.people))
    count = len(tested.people.unique())
    accuracy = f"{right:.1f} % of pairs verified, {identified(new, tested.people):.1f} % identified out of {count}"
    print(f"identity, people never seen: {accuracy}", flush=True)
    return network, About((), accuracy, data)


def train_expressions(
    trained: Pictures, tested: Pictures, data: str, limits: dict[str, Any]
) -> tuple[FaceNetwork, About]:
    """A classifier of the six emotions at their apex, and rest."""
    shown, asked = (_without_between(pictures) for pictures in (trained, tested))
    network = train_faces(
        shown.pictures,
        shown.expressions,
        len(CLASSES),
        _generator(),
        margin=0.1,
        flip=True,
        progress=_tell("expression"),
        **limits,
    )
    right = recognised(network, features(network, asked), asked.expressions)
    accuracy = f"{right:.1f} % of {len(asked.people)} pictures recognised"
    print(f"expressions, people never seen: {accuracy}", flush=True)
    return network, About(CLASSES, accuracy, data)


def _without_between(pictures: Pictures) -> Pictures:
    return Pictures(*(part[pictures.expressions != BETWEEN] for part in pictures))


@torch.no_grad()
def features(network: FaceNetwork, pictures: Pictures) -> Tensor:
    """Of all pictures, N x 64."""
    return torch.cat([network(part.float() / 255) for part in pictures.pictures.split(BATCH)])


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)


def _tell(name: str) -> Progress:
    return lambda step, loss: print(f"{name}, step {step}: loss {loss:.3f}", flush=True) if step % 200 == 0 else None


if __name__ == "__main__":
    main()
