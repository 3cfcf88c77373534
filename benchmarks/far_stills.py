"""How often a model calls the first frames of data sets unlike its training stills.

    python benchmarks/far_stills.py driving-puppets data/puppets-test data/plants-photographed

With `--learn DATA` (several may be named) the model's card first learns its training stills from these sets, as
`stillmotion train` has done since it does so.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from stillmotion.animate import find_model
from stillmotion.data.clipset import open_dataset
from stillmotion.errors import StillmotionError
from stillmotion.files import read_json, write_json
from stillmotion.systems.base import CONFIG
from stillmotion.systems.stills import first_frames, summarize, warn_if_far


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", nargs="*", type=Path)
    parser.add_argument("--learn", action="append", type=Path, default=[])
    options = parser.parse_args(arguments)
    path = find_model(options.model) / CONFIG
    stored = read_json(path)
    if options.learn:
        clips = [clip for data in options.learn for clip in open_dataset(data) if clip.meta.get("split") != "test"]
        learnt = summarize(first_frames(clips))
        if learnt is None:
            raise StillmotionError("These sets have too few clips to learn from.")
        stored["card"]["stills"] = asdict(learnt)
        write_json(path, stored)
    for data in options.data:
        told = [_is_far(stored["card"], still) for still in first_frames(open_dataset(data))]
        print(f"{data.name}: {sum(told)} of {len(told)} ({100 * np.mean(told):.1f} %)")


def _is_far(card: dict[str, object], still: np.ndarray) -> bool:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warn_if_far(card, still)
    return bool(told)


if __name__ == "__main__":
    main()
