"""How wrong estimated flow is on plants, whose exact flow is known, by how many frames lie between the two.

`OMP_NUM_THREADS=1 python benchmarks/flow_error.py [ESTIMATOR] [SIZE ...] [--clips 12] [--seed 1] [--step N]
[--enlarge N]`; an estimator is named as in `stillmotion.data.flow.find_flow`, such as `dis`, `dis:fast` or
`onnx:FILE.onnx@SHA256`. `--step` follows pixels over so many frames at a time; `--enlarge` measures DIS on pictures
so many times as large.

Errors are end-point errors in pixels, over the pixels of the plant that move by more than half a pixel. Pixels that
the second frame hides count too. Motion is the median length of the true flow there, which is the error of predicting
none. A second table sorts the pixels of the most distant frames by how far they move, as a share of the side. A third
one says which share of the places that pokes may be drawn from (estimated flow above its mean) is not on the plant.
"""

import argparse
import itertools
from dataclasses import replace

import cv2
import numpy as np

from stillmotion.data.clip import Clip
from stillmotion.data.flow import DISFlow, FlowEstimator, find_flow, flow_of
from stillmotion.data.part_flow import flow_between
from stillmotion.systems.pokes.config import PokeConfig
from stillmotion.systems.pokes.poking import foreground_candidates
from stillmotion.worlds import sample_clip

APART = (1, 2, 3, 5, 10)
STARTS = (0, 6, 14)
SHARES = (0, 1 / 32, 1 / 16, 1 / 8, np.inf)  # of the side, between which motion lies
MOVES_ABOVE = 0.5  # pixels
SEED = 1  # the enlargement of DIS was chosen on seed 3


def main(name: str, sizes: list[int], clips: int, seed: int, enlarge: int | None, step: int | None) -> None:
    cv2.setNumThreads(1)
    estimator = find_flow(name) if enlarge is None else DISFlow(name.partition(":")[2] or "medium", enlarge)
    print(f"plants, {clips} clips, from frames {', '.join(map(str, STARTS))}, seed {seed}, {name}; pixels\n")
    print("| side | frames apart | pixels | median | mean | motion | median / motion |\n" + "|---" * 7 + "|")
    longest = {}
    for size in sizes:
        made = [sample_clip("plants", seed, index, size, STARTS[-1] + APART[-1] + 1) for index in range(clips)]
        for apart in APART:
            found = [flow_error(clip, start, start + apart, estimator, step) for clip in made for start in STARTS]
            errors, lengths = (np.concatenate(part) for part in zip(*found, strict=True))
            median, motion = np.median(errors), np.median(lengths)
            longest[size] = errors, lengths
            numbers = f"{median:.2f} | {errors.mean():.2f} | {motion:.2f} | {median / motion:.2f}"
            print(f"| {size} | {apart} | {len(errors)} | {numbers} |", flush=True)
    print(f"\n| side | motion, share of the side | pixels | median | motion |\n{'|---' * 5}|")
    for size, (errors, lengths) in longest.items():
        for low, high in itertools.pairwise(SHARES):
            among = (lengths >= low * size) & (lengths < high * size)
            if among.any():
                numbers = f"{np.median(errors[among]):.2f} | {np.median(lengths[among]):.2f}"
                print(f"| {size} | {low:.3f} to {high:.3f} | {among.sum()} | {numbers} |")
    print(f"\n| side | places beside the plant | by more than a pixel |\n{'|---' * 3}|")
    for size in sizes:
        made = [sample_clip("plants", seed, index, size, STARTS[-1] + APART[-1] + 1) for index in range(clips)]
        found = [places_beside(clip, start, start + APART[-1], estimator, step) for clip in made for start in STARTS]
        beside, farther = 100 * np.mean(found, axis=0)
        print(f"| {size} | {beside:.0f} % | {farther:.0f} % |")


def places_beside(
    clip: Clip, first: int, last: int, estimator: FlowEstimator, step: int | None
) -> tuple[float, float]:
    """The share of candidates for pokes that is off the plant, and off it by more than a pixel."""
    flow = flow_of(replace(clip, tracks={}), first, last, estimator, step)
    candidates = foreground_candidates(flow, PokeConfig())
    plant = (np.asarray(clip.tracks["parts"])[first] > 0).astype(np.uint8)
    around = cv2.dilate(plant, np.ones((3, 3), np.uint8))
    return 1 - float(plant[candidates].mean()), 1 - float(around[candidates].mean())


def flow_error(
    clip: Clip, first: int, last: int, estimator: FlowEstimator, step: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """End-point errors and true lengths of the moving pixels."""
    parts = np.asarray(clip.tracks["parts"])
    truth = flow_between(parts, np.asarray(clip.tracks["moves"]), first, last)
    lengths = np.linalg.norm(truth, axis=-1)
    moving = (parts[first] > 0) & (lengths > MOVES_ABOVE)
    errors = np.linalg.norm(flow_of(replace(clip, tracks={}), first, last, estimator, step) - truth, axis=-1)
    return errors[moving], lengths[moving]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("estimator", nargs="?", default="dis")
    parser.add_argument("sizes", nargs="*", type=int, default=[64, 128])
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--enlarge", type=int)
    parser.add_argument("--step", type=int)
    options = parser.parse_args()
    main(options.estimator, options.sizes, options.clips, options.seed, options.enlarge, options.step)
