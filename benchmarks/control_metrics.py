"""Identity accuracy and counterfactual accuracy of videos known to be correct, half correct and wrong.

`OMP_NUM_THREADS=1 python benchmarks/control_metrics.py faces|plants [clips] [size]`
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
from stillmotion.data.points import drop_uncertain
from stillmotion.evaluation.extractors.identity import face_crops
from stillmotion.evaluation.metrics.control import CounterfactualAccuracy
from stillmotion.evaluation.metrics.feature import IdentityAccuracy
from stillmotion.evaluation.trackers.calibration import add_surface_points
from stillmotion.evaluation.trackers.tracking import track_points
from stillmotion.worlds import faces, plants

SEED = 1
MIN_DIFFERENCE = 2.0
"""Paths are compared where the two outcomes differ by more than this, in pixels, at some time."""


def identity(count: int, size: int, frames: int = 32) -> None:
    """Everybody performs what the next person performed: who is recognised by downsampled face crops?"""
    people = [faces.sample_description(np.random.default_rng([SEED, index])) for index in range(count)]
    same_looks = [
        replace(face, person=replace(face.person, appearance=people[0].person.appearance), scene=people[0].scene)
        for face in people
    ]
    print(
        f"identity, {count} faces, {frames} frames, {size} px\n\n| faces | correct, % | taken for the performer, % |"
    )
    print("|---|---|---|")
    for name, group in (("as they are", people), ("all with the same skin, hair and scene", same_looks)):
        stills = [faces.render(face, size, 1) for face in group]
        gallery = torch.cat([face_crops(video, tracks["box"]) for video, tracks in stills])
        correct, performer = IdentityAccuracy(), IdentityAccuracy()
        for index in range(count):
            other = (index + 1) % count
            video, tracks = faces.render(faces.retarget(group[other], group[index]), size, frames)
            found = face_crops(video, tracks["box"])
            correct.update(found, gallery, torch.full((frames,), index))
            performer.update(found, gallery, torch.full((frames,), other))
        print(f"| {name} | {correct.compute():.1f} | {performer.compute():.1f} |")


def counterfactual(count: int, size: int, frames: int = 24) -> None:
    """Both outcomes of every plant, each asked for in turn; compared by pixels and by tracked paths."""
    metrics: dict[str, CounterfactualAccuracy] = {}
    rng = np.random.default_rng(SEED)
    for index in range(count):
        plant = plants.sample_description(np.random.default_rng([SEED, index]), "drag")
        pokes = [plant.poke, plants.counterfactual(plant).poke]
        clips, halves = [], []
        for poke in pokes:
            video, tracks = plants.render(plants.counterfactual(plant, poke), size, frames)
            clips.append(add_surface_points(Clip("plant", video, plants.FPS, tracks, {}), 100))
            x, y = poke.displacement
            half = plants.counterfactual(plant, replace(poke, displacement=(x / 2, y / 2)))
            halves.append(plants.render(half, size, frames)[0])
        points = [clip.tracks["surface"] for clip in clips]  # the same points: both begin with the same frame
        apart = np.linalg.norm(points[0][..., :2] - points[1][..., :2], axis=-1).max(axis=0) > MIN_DIFFERENCE
        kept = apart & (points[0][-1, :, 2] > 0) & (points[1][-1, :, 2] > 0)
        paths = [torch.from_numpy(track[:, kept, :2]) for track in points]
        for asked, other in ((0, 1), (1, 0)):
            video = np.asarray(clips[asked].frames)
            degraded = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in video])
            degraded = np.clip(degraded + rng.normal(0, 10, degraded.shape), 0, 255).astype(np.uint8)
            predictions = {
                "the true video": video, "the same, blurred (1.5 px) and noisy (10 grey levels)": degraded,
                "half the poke": halves[asked], "the still": np.repeat(video[:1], frames, axis=0),
            }  # fmt: skip
            outcomes = [torch.from_numpy(media.to_float(np.asarray(clips[i].frames))) for i in (asked, other)]
            for name, frames_of in predictions.items():
                by_pixels = metrics.setdefault(f"{name} | pixels", CounterfactualAccuracy())
                by_pixels.update(torch.from_numpy(media.to_float(frames_of)), *outcomes)
                by_paths = metrics.setdefault(f"{name} | paths", CounterfactualAccuracy())
                if kept.any():
                    by_paths.update(tracked(frames_of, paths[asked][0].numpy()), paths[asked], paths[other])
    print(f"counterfactual, {count} plants, drag, {frames} frames, {size} px\n\n| video | by | % |\n|---|---|---|")
    for name, metric in metrics.items():
        print(f"| {name} | {metric.compute():.1f} |")


def tracked(video: np.ndarray, starts: np.ndarray) -> Tensor:
    """Tracked positions, T x N x 2; a lost point rests at its last known position."""
    positions = drop_uncertain(*track_points(video, starts))
    for before, now in pairwise(positions):
        lost = ~np.isfinite(now)
        now[lost] = before[lost]
    return torch.from_numpy(positions)


if __name__ == "__main__":
    checks = {"faces": identity, "plants": counterfactual}
    if len(sys.argv) < 2 or sys.argv[1] not in checks:
        sys.exit(f"Name a world: {', '.join(checks)}.")
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    given = [int(value) for value in sys.argv[2:]]
    checks[sys.argv[1]](*[*given, *(20, 64)[len(given) :]])
