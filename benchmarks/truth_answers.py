"""What `identity` and `counterfactual` say of answers that are known to be right, half right and wrong.

`OMP_NUM_THREADS=1 python benchmarks/truth_answers.py faces|plants [clips] [size]`
"""

import sys
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import torch
from torch import Tensor

from stillmotion import media
from stillmotion.data.clip import Clip
from stillmotion.evaluation.instrument import with_surface
from stillmotion.evaluation.likeness import portraits
from stillmotion.evaluation.tracking import known, track_points
from stillmotion.evaluation.truth_metrics import Counterfactual, Identity
from stillmotion.worlds import faces, plants

SEED = 1
SEEN = 2.0
"""Paths are compared where the two answers differ by more than this, in pixels, at some time."""


def identity(count: int, size: int, frames: int = 32) -> None:
    """Everybody performs what the next one performed: who is recognised, by the small pictures of the face?"""
    people = [faces.sample_description(np.random.default_rng([SEED, index])) for index in range(count)]
    alike = [
        replace(face, person=replace(face.person, appearance=people[0].person.appearance), scene=people[0].scene)
        for face in people
    ]
    print(f"identity, {count} faces, {frames} frames, {size} px\n\n| who | right, % | taken for the performer, % |")
    print("|---|---|---|")
    for name, group in (("as they are", people), ("all with the same skin, hair and scene", alike)):
        stills = [faces.render(face, size, 1) for face in group]
        gallery = torch.cat([portraits(video, tracks["box"]) for video, tracks in stills])
        right, performer = Identity(), Identity()
        for index in range(count):
            other = (index + 1) % count
            video, tracks = faces.render(faces.retarget(group[other], group[index]), size, frames)
            found = portraits(video, tracks["box"])
            right.update(found, gallery, torch.full((frames,), index))
            performer.update(found, gallery, torch.full((frames,), other))
        print(f"| {name} | {right.compute():.1f} | {performer.compute():.1f} |")


def counterfactual(count: int, size: int, frames: int = 24) -> None:
    """Both answers of every plant, asked for in turn; by pixels, and by the points that the tracker finds."""
    metrics: dict[str, Counterfactual] = {}
    rng = np.random.default_rng(SEED)
    for index in range(count):
        plant = plants.sample_description(np.random.default_rng([SEED, index]), "drag")
        pokes = [plant.poke, plants.counterfactual(plant).poke]
        clips, halves = [], []
        for poke in pokes:
            video, tracks = plants.render(plants.counterfactual(plant, poke), size, frames)
            clips.append(with_surface(Clip("plant", video, plants.FPS, tracks, {}), 100))
            x, y = poke.displacement
            less = plants.counterfactual(plant, replace(poke, displacement=(x / 2, y / 2)))
            halves.append(plants.render(less, size, frames)[0])
        spots = [clip.tracks["surface"] for clip in clips]  # the same points: both begin with the same frame
        apart = np.linalg.norm(spots[0][..., :2] - spots[1][..., :2], axis=-1).max(axis=0) > SEEN
        kept = apart & (spots[0][-1, :, 2] > 0) & (spots[1][-1, :, 2] > 0)
        ways = [torch.from_numpy(spot[:, kept, :2]) for spot in spots]
        for asked, other in ((0, 1), (1, 0)):
            video = np.asarray(clips[asked].frames)
            worn = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in video])
            worn = np.clip(worn + rng.normal(0, 10, worn.shape), 0, 255).astype(np.uint8)
            answers = {
                "the true video": video, "the same, blurred (1.5 px) and noisy (10 grey levels)": worn,
                "half the poke": halves[asked], "the still": np.repeat(video[:1], frames, axis=0),
            }  # fmt: skip
            truths = [torch.from_numpy(media.to_float(np.asarray(clips[which].frames))) for which in (asked, other)]
            for name, answer in answers.items():
                pixels = metrics.setdefault(f"{name} | pixels", Counterfactual())
                pixels.update(torch.from_numpy(media.to_float(answer)), *truths)
                paths = metrics.setdefault(f"{name} | paths", Counterfactual())
                if kept.any():
                    paths.update(followed(answer, ways[asked][0].numpy()), ways[asked], ways[other])
    print(f"counterfactual, {count} plants, drag, {frames} frames, {size} px\n\n| answer | by | % |\n|---|---|---|")
    for name, metric in metrics.items():
        print(f"| {name} | {metric.compute():.1f} |")


def followed(video: np.ndarray, starts: np.ndarray) -> Tensor:
    """The tracker's places, T x N x 2; a point that is lost rests where it was last seen."""
    places = known(*track_points(video, starts))
    for before, now in pairwise(places):
        lost = ~np.isfinite(now)
        now[lost] = before[lost]
    return torch.from_numpy(places)


if __name__ == "__main__":
    checks = {"faces": identity, "plants": counterfactual}
    if len(sys.argv) < 2 or sys.argv[1] not in checks:
        sys.exit(f"Name a world: {', '.join(checks)}.")
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    given = [int(value) for value in sys.argv[2:]]
    checks[sys.argv[1]](*[*given, *(20, 64)[len(given) :]])
