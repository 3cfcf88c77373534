"""Live play with `pokes`: `python benchmarks/pokes_live.py [MODEL] [--frames N] [--rounds 9] [--threads 2]`.

Speed: a poke is sent to a running roll-out of a still of the networks' size. The time to the first frame after it and
to the tenth, of the model and of the paper's networks (preset `paper`, fresh weights, not folded), in turn in every
round; median and quartiles in milliseconds, and the ratio of the medians of ten frames.

Endurance: 10,000 frames with a poke every 50, released after 15. Peak memory after a tenth of the frames and at
the end, and how far the frame is from the still when all has come to rest: largest difference in grey levels.

Length: the answer to a poke and an impulse of 10 pixels over that of one pixel, as mean displacement of all pixels.
"""

import argparse
import resource
import time
from collections import defaultdict
from collections.abc import Callable
from statistics import median, quantiles

import numpy as np
import torch

import stillmotion
from stillmotion.animate import Animator
from stillmotion.systems.pokes import Impulse, Poke
from stillmotion.systems.pokes.animating import Pokes, PokesRollout
from stillmotion.systems.pokes.config import PRESETS
from stillmotion.worlds import sample_clip

EVERY, HELD, RESTING = 50, 15, 400


def play(rollout: stillmotion.Rollout, start: tuple[float, float], frames: int = 10) -> list[float]:
    """Seconds from sending a poke to each of the frames after it."""
    began = time.perf_counter()
    rollout.send(Poke([(start, (start[0] + 6, start[1] + 2))]))
    seconds = []
    for _ in range(frames):
        next(rollout)
        seconds.append(time.perf_counter() - began)
    return seconds


def speed(animator: Animator, still: np.ndarray, start: tuple[float, float], rounds: int) -> None:
    """Print the times of the model and of the paper's networks."""
    paper = Pokes.build(PRESETS["paper"])
    paper.for_inference = lambda: paper  # type: ignore[method-assign]  # eager
    rollouts = {"model": animator.open(still, size="model"), "paper": Animator(paper).open(still, size="model")}
    times: dict[str, list[list[float]]] = defaultdict(list)
    for number in range(rounds + 2):
        for name, rollout in rollouts.items():
            seconds = play(rollout, start)
            if number >= 2:  # the first ones warm up
                times[name].append(seconds)
    for name, found in times.items():
        for label, index in (("first frame", 0), ("ten frames", -1)):
            low, middle, high = quantiles([1000 * one[index] for one in found], n=4)
            print(f"{name}, {label}: {middle:.1f} ms ({low:.1f} to {high:.1f})")
    ten = {name: median(one[-1] for one in found) for name, found in times.items()}
    print(f"paper over model, ten frames: {ten['paper'] / ten['model']:.1f}")


def endurance(animator: Animator, still: np.ndarray, places: np.ndarray, frames: int) -> None:
    """Print memory and rest after many pokes."""
    rng, rollout = np.random.default_rng(0), animator.open(still, size="model")
    assert isinstance(rollout, PokesRollout)
    next(rollout)
    early = 0
    for number in range(frames):
        if number % EVERY == 0:
            x, y = places[rng.integers(len(places))]
            dx, dy = rng.uniform(-12, 12, 2)
            rollout.send(Poke([((x, y), (x + dx, y + dy))]))
        elif number % EVERY == HELD:
            rollout.release()
        next(rollout)
        if number == frames // 10:
            early = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    late = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rollout.release()
    resting = next(step.frame for number, step in enumerate(rollout) if number == RESTING)
    away = int(np.abs(resting.astype(int) - still).max())
    print(f"{frames} frames: peak memory {early / 1024:.0f} MiB after a tenth, {late / 1024:.0f} MiB at the end")
    print(f"at rest {RESTING} frames later: {away} grey levels from the still")


def length(animator: Animator, still: np.ndarray, start: tuple[float, float]) -> None:
    """Print how much larger the answers to ten pixels are than those to one."""

    def moved(make: Callable[[float], Poke | Impulse]) -> float:
        sizes = []
        for pixels in (1.0, 10.0):
            steps = list(animator(still, make(pixels), 12, size="model"))
            lengths = [np.linalg.norm(step.facts["displacement"], axis=-1).mean() for step in steps]
            sizes.append(max(lengths))
        return float(sizes[1] / max(sizes[0], 1e-9))

    x, y = start
    print(f"poke of 10 pixels over 1: {moved(lambda d: Poke([(start, (x + d, y))])):.1f}")
    print(f"impulse of 10 pixels over 1: {moved(lambda d: Impulse([(start, (d, 0.0))])):.1f}")


def main() -> None:
    """Measure all three."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", nargs="?", default="pokes-plants")
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    animator = stillmotion.load(given.model)
    clip = sample_clip("plants", 12, 0, size=animator.system.config.size, frames=1)
    rows, columns = np.nonzero(np.asarray(clip.tracks["parts"][0]))
    places = np.stack([columns, rows], 1).astype(float)
    start = tuple(np.asarray(clip.tracks["path"], float)[0].tolist())
    speed(animator, clip.frames[0], start, given.rounds)
    length(animator, clip.frames[0], start)
    endurance(animator, clip.frames[0], places, given.frames)


if __name__ == "__main__":
    main()
