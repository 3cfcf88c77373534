"""Frames per second of one core: `OMP_NUM_THREADS=1 python benchmarks/worlds.py [size] [clips] [world ...]`."""

import sys
import time

import cv2

from stillmotion.worlds import WORLDS, sample_clip


def main(size: int = 64, clips: int = 20, frames: int = 32, worlds: tuple[str, ...] = ()) -> None:
    cv2.setNumThreads(1)
    for world in worlds or WORLDS:
        sample_clip(world, 0, 0, size, 2)
        start = time.process_time()
        for index in range(clips):
            sample_clip(world, 1, index, size, frames)
        spent = time.process_time() - start
        print(f"{world:8} {size} px: {clips * frames / spent:6.0f} frames per CPU second")


if __name__ == "__main__":
    numbers = [int(value) for value in sys.argv[1:] if value.isdigit()]
    main(*numbers, worlds=tuple(value for value in sys.argv[1:] if not value.isdigit()))
