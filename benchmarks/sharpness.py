"""How sharp a `driving` model is at the still's own size, and how right its fields are, on made people.

`python benchmarks/sharpness.py MODEL ... [--seed 77] [--cases 24] [--plate none]`, for LPIPS with
`--lpips TRUNK@SHA256+LINEAR@SHA256`

Puppets whom nothing was trained on wave, jump and bend before a camera that stands still, without noise; the still
has 256 pixels, and the clip drives its own first frame. Seed 77 is validation: things were chosen by it. Errors are
grey levels of pixels that change in or near the figure; the gradient's is the sum over both axes. The copied still is
the first row.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from stillmotion import Drive, load, media
from stillmotion.animate import Animator
from stillmotion.data.augment import AugmentParams
from stillmotion.data.clip import Clip
from stillmotion.data.motion_truth import motion_truth
from stillmotion.evaluation.extractors.lpips import open_lpips
from stillmotion.evaluation.metrics.feature import LPIPS
from stillmotion.evaluation.metrics.region import RegionGradientError, RegionL1, RegionSharpness
from stillmotion.rendering.fields import PLATE
from stillmotion.worlds.puppets import FPS, render, sample_description

SIDE, FRAMES = 256, 32
ACTIONS = ("wave1", "wave2", "jack", "bend")
TIMES = (4, 11, 18, 25, 31)
MOVES_ABOVE = 2.0  # pixels of the networks: what moves by less is no test of the flow


def cases(seed: int, count: int) -> Iterator[Clip]:
    """Clips of people, each with a wall and an action of their own."""
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        puppet = sample_description(rng, ACTIONS[index % len(ACTIONS)])
        scene = replace(puppet.scene, noise=0.0, camera=replace(puppet.scene.camera, shake=0.0))
        video, tracks = render(replace(puppet, scene=scene), SIDE, FRAMES)
        yield Clip(f"{seed}-{index}", video, FPS, tracks, {})


def measure(
    animator: Animator | None, seed: int, count: int, lpips: str | None, plate: str | None
) -> dict[str, float]:
    """The row of a model, or of the copied still."""
    regions = {"L1": RegionL1(), "gradient": RegionGradientError(), "sharpness": RegionSharpness()}
    hidden, figures = RegionL1(), defaultdict(list)
    network = open_lpips(lpips) if lpips else None
    perceptual = LPIPS()
    for clip in cases(seed, count):
        still, true = clip.frames[0], clip.frames[list(TIMES)]
        made = np.repeat(still[None], len(TIMES), 0)
        if animator is not None:
            driver = Drive(np.concatenate([still[None], true]), transfer="absolute")
            steps = list(animator(still, driver, plate=plate))[1:]
            made = np.stack([step.frame for step in steps])
        truth = [motion_truth(clip, np.array([0, t]), AugmentParams((SIDE, SIDE), (SIDE, SIDE))) for t in TIMES]
        changed = np.stack([_changed(still, frame, known) for frame, known in zip(true, truth, strict=True)])
        shown, wanted, region = media.to_tensor(made), media.to_tensor(true), torch.from_numpy(changed)
        for metric in regions.values():
            metric.update(shown, wanted, region)
        uncovered = torch.stack([known["visibility"] == PLATE for known in truth])
        hidden.update(shown, wanted, region & uncovered)
        if network is not None:
            perceptual.update(network(made), network(true))
        if animator is not None:
            for step, known, mask in zip(steps, truth, changed, strict=True):
                for name, value in _fields(step.facts, known, mask).items():
                    figures[name].append(value)
    scale = {"L1": 255, "gradient": 2 * 255, "sharpness": 1}
    row = {name: scale[name] * float(metric.compute()) for name, metric in regions.items()}
    row["uncovered L1"] = 255 * float(hidden.compute())
    if network is not None:
        row["LPIPS"] = float(perceptual.compute())
    return row | {name: float(np.nanmean(values)) for name, values in figures.items()}


def _changed(still: np.ndarray, frame: np.ndarray, known: dict[str, torch.Tensor]) -> np.ndarray:
    """Where a frame differs from the still by more than 20 grey levels, in or near the figure; H x W."""
    difference = (np.abs(still.astype(np.int16) - frame).max(-1) > 20).astype(np.uint8)
    figure = ((known["moving"] > 0) | (known["figure"][0] > 0)).numpy().astype(np.uint8)
    return np.asarray((cv2.dilate(difference, np.ones((5, 5))) > 0) & (cv2.dilate(figure, np.ones((13, 13))) > 0))


def _fields(facts: dict[str, np.ndarray], known: dict[str, torch.Tensor], changed: np.ndarray) -> dict[str, float]:
    """End-point error in pixels of the networks where the figure moves, and the share of right sources."""
    found = torch.from_numpy(facts["displacement"])
    size = (found.shape[0], found.shape[1])
    half = (size[0] - 1) / 2
    shrunk = F.adaptive_avg_pool2d(known["displacement"].permute(2, 0, 1), size).permute(1, 2, 0)
    inside = F.adaptive_avg_pool2d(known["moving"][None], size)[0] > 0.9
    moves = inside & (shrunk.norm(dim=-1) * half > MOVES_ABOVE)
    values = {"EPE": float(((found - shrunk).norm(dim=-1) * half)[moves].mean())}
    if "shares" in facts:
        seen = F.interpolate(known["visibility"][None, None].float(), size, mode="nearest")[0, 0]
        there = (F.adaptive_avg_pool2d(torch.from_numpy(changed)[None].float(), size)[0] > 0.5) & (seen >= 0)
        right = torch.from_numpy(facts["shares"]).argmax(0) == seen
        values["sources right"] = float(right[there].float().mean())
    return values


def main() -> None:
    """Print a row per model."""
    typed = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    typed.add_argument("models", nargs="*")
    typed.add_argument("--seed", type=int, default=77)
    typed.add_argument("--cases", type=int, default=24)
    typed.add_argument("--lpips")
    typed.add_argument("--plate")
    given = typed.parse_args()
    for name in (None, *given.models):
        animator = None if name is None else load(name)
        row = measure(animator, given.seed, given.cases, given.lpips, given.plate)
        print(
            f"| {name or 'copied still'} | " + " | ".join(f"{key} {value:.3f}" for key, value in row.items()),
            flush=True,
        )


if __name__ == "__main__":
    main()
