"""Frames per second that one core makes: `OMP_NUM_THREADS=1 python benchmarks/worlds.py [size] [clips]`."""

import sys
import time

import cv2

from stillmotion.worlds import sample_clip
from stillmotion.worlds.puppets import ACTIONS


def main(size: int = 64, clips: int = 20, frames: int = 32) -> None:
    cv2.setNumThreads(1)
    sample_clip("puppets", 0, 0, size, 2)
    for action in ACTIONS:
        start = time.process_time()
        for index in range(clips):
            sample_clip("puppets", 1, index, size, frames, action)
        spent = time.process_time() - start
        print(f"{action:6} {size} px: {clips * frames / spent:6.0f} frames per CPU second")


if __name__ == "__main__":
    main(*(int(value) for value in sys.argv[1:]))
