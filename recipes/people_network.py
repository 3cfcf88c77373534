"""Train a network of identity for made people (`evaluation/extractors/faces.py`) and print its accuracy.

    python recipes/people_network.py OUT      writes OUT/people_identity.safetensors

Of every person there are several clips of the world `puppets`, each of its own scene, light, action and view, so that
a person is known by body, skin, hair and clothes. People of the test are never seen in training. Ten minutes on one
core at most, of which the trainings take --minutes. The last line is the value of `stillmotion evaluate --network`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from face_networks import Pictures, identity_options, save_faces, stacked, train_identity

from stillmotion.evaluation.extractors.faces import SIDE
from stillmotion.worlds.puppets import render, sample_description

PEOPLE, TESTED, CLIPS = 240, 60, 3  # trained on, tested on, and clips of each
FRAMES, SHOWN = 24, 4  # of a clip, and how many of them are pictures
SEED = 41


def main(given: Sequence[str] | None = None) -> None:
    """Make the pictures, train, test, save."""
    parser = identity_options(__doc__, PEOPLE, TESTED, minutes=3.0)
    parser.add_argument("--clips", type=int, default=CLIPS, help="of each person")
    options = parser.parse_args(given)
    options.out.mkdir(parents=True, exist_ok=True)
    trained = make_pictures(range(options.people), options.clips)
    tested = make_pictures(range(options.people, options.people + options.tested), options.clips)
    data = f"{len(trained.labels)} pictures of {options.people} people of the world puppets (seed {SEED})"
    print(data, flush=True)
    limits = {"steps": options.steps, "minutes": options.minutes}
    value = save_faces(options.out / "people_identity", *train_identity(trained, tested, data, limits))
    print(f"--network identity={value}")


def make_pictures(people: Sequence[int], clips: int) -> Pictures:
    """Pictures of some people, the same ones whenever they are made."""
    made = [_clip(person, number) for person in people for number in range(clips)]
    labels = torch.tensor(people).repeat_interleave(clips * SHOWN)
    return Pictures(stacked([frame for frames in made for frame in frames]), labels)


def _clip(number: int, clip: int) -> np.ndarray:
    """Frames of a clip of a person, `SHOWN` x H x W x 3."""
    person = sample_description(np.random.default_rng([SEED, number]))
    scene = sample_description(np.random.default_rng([SEED, number, clip]))
    puppet = replace(scene, body=person.body, appearance=person.appearance)
    return render(puppet, SIDE, FRAMES)[0][:: FRAMES // SHOWN]


if __name__ == "__main__":
    main()
