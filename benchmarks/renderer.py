"""The time of `rendering`: `OMP_NUM_THREADS=1 python benchmarks/renderer.py [--rounds 9] [--sizes 256 512 1024]`.

A made person, a fifth of the picture, moves by its true motion, which at 64 pixels takes the place of what networks
predict. Timed in one process and one thread, all sizes in turn in every round: what is done once per still, by its
steps, and a frame. Columns are milliseconds, median and quartiles: of the thread's own time, which other load on the
machine changes least, and of the wall clock. The last column is the thread's time in terms of a product of two
matrices of 512 x 512, which was timed in the same rounds.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from stillmotion.data.augment import AugmentParams
from stillmotion.data.clip import Clip
from stillmotion.data.motion_truth import motion_truth
from stillmotion.rendering import alpha, plate
from stillmotion.rendering.backdrop import Backdrop, find_backdrop
from stillmotion.rendering.canvas import Canvas
from stillmotion.rendering.compositing import Renderer
from stillmotion.rendering.fields import Fields
from stillmotion.worlds.puppets import FPS, Puppet, render, sample_description

NETWORKS, FRAMES = 64, 16
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Wanted:
    """A person who gives neither mask nor plate."""

    mask: None = None
    plate: None = None


class Exercise:
    """A still of one size, its figure, and the fields of some frames."""

    def __init__(self, puppet: Puppet, side: int):
        video, tracks = render(puppet, NETWORKS, FRAMES)
        clip = Clip("puppet", video, FPS, tracks)
        plain = AugmentParams((NETWORKS, NETWORKS), (NETWORKS, NETWORKS))
        truth = [motion_truth(clip, np.array([0, t]), plain) for t in range(1, FRAMES)]
        self.canvas = Canvas.prepare(render(puppet, side, 1)[0][0], NETWORKS, None, CPU)
        self.figure = _soft(truth[0]["figure"][None])
        self.fields = []
        for known in truth:
            shares = F.one_hot(known["visibility"].clamp_min(0), 4).permute(2, 0, 1)[None].float()
            paint = torch.full((1, 3, NETWORKS, NETWORKS), 0.5)
            self.fields.append(Fields(known["displacement"][None], _soft(shares), paint))
        self.renderer = Renderer(self.canvas, self.backdrop())
        self.next = 0

    def backdrop(self) -> Backdrop | None:
        """What the networks' figure gives."""
        return find_backdrop(self.canvas, self.figure, Wanted())

    def frame(self) -> None:
        """Make one frame, another one every time."""
        self.next = (self.next + 1) % len(self.fields)
        self.renderer.render(self.fields[self.next])

    def steps(self) -> dict[str, Callable[[], Any]]:
        """What is timed, by its name."""
        backdrop = self.renderer.backdrop
        assert backdrop is not None
        hidden = plate.widened(backdrop.alpha > 0.2)
        rows, columns = self.canvas.enlarger()
        rough = (rows @ self.figure[0, 0] @ columns.T).numpy()
        return {
            "set-up": lambda: Renderer(self.canvas, self.backdrop()),
            "- alpha.refine": lambda: alpha.refine(self.canvas.picture, rough),
            "- plate.widened": lambda: plate.widened(backdrop.alpha > 0.2),
            "- plate.inpaint": lambda: plate.inpaint(self.canvas.picture, hidden),
            "- Renderer": lambda: Renderer(self.canvas, backdrop),
            "frame": self.frame,
        }


def _soft(maps: torch.Tensor) -> torch.Tensor:
    """Edges as wide as a network's."""
    return F.avg_pool2d(F.pad(maps, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def timed(call: Callable[[], Any], repeats: int = 1) -> tuple[float, float]:
    """Milliseconds per call, of this thread and of the wall clock."""
    own, wall = time.thread_time(), time.perf_counter()
    for _ in range(repeats):
        call()
    return tuple(1000 * spent / repeats for spent in (time.thread_time() - own, time.perf_counter() - wall))


def columns(times: list[tuple[float, float]], unit: float) -> str:
    """The medians and quartiles of both clocks, and the ratio."""
    cells = []
    for values in zip(*times, strict=True):
        low, median, high = quantiles(values, n=4)
        cells.append(f"{median:8.2f} ({low:.2f} to {high:.2f})".ljust(30))
    own = quantiles([own for own, _ in times], n=4)[1]
    return " | ".join([*cells, f"{own / unit:7.2f}"])


def main() -> None:
    typed = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    typed.add_argument("--rounds", type=int, default=9)
    typed.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024])
    given = typed.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    puppet = sample_description(np.random.default_rng([1, 10]), "jack")
    exercises = {side: Exercise(puppet, side) for side in given.sizes}
    times: dict[tuple[int, str], list[tuple[float, float]]] = defaultdict(list)
    square = torch.ones(512, 512)
    with torch.inference_mode():
        for number in range(given.rounds + 1):  # the first one warms up
            for side, exercise in exercises.items():
                for name, call in exercise.steps().items():
                    spent = timed(call, FRAMES - 1 if name == "frame" else 1)
                    if number:
                        times[side, name].append(spent)
            times[0, "product"].append(timed(lambda: square @ square, 20))
    unit = quantiles([own for own, _ in times[0, "product"]], n=4)[1]
    print(f"product of two matrices of 512 x 512: {unit:.2f} ms; {given.rounds} rounds")
    for (side, name), values in times.items():
        if side:
            print(f"{side:5} | {name:16} | {columns(values, unit)}")


if __name__ == "__main__":
    main()
