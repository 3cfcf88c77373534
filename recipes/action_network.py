"""Train the action classifier of `evaluation/extractors/actions.py` on a data set and print its own accuracy.

    python recipes/action_network.py DATA [OUT]        OUT is FILE.safetensors; without it the file lies inside DATA

It is trained on the split `train` and tested on `test`, which it never sees. Ten minutes on one core at most, unless
--minutes says otherwise. The last line is the value of `stillmotion evaluate --network actions=`.

For `actions-puppets` clips of `stillmotion world puppets --staging treadmill` and `--staging front` belong beside the
others: a still's background stands, and a walk is to be known by how the figure walks, not by what the camera does.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from stillmotion.data.clipset import concat, open_dataset
from stillmotion.evaluation.extractors.actions import measure_accuracy, save_classifier, train_classifier

FILE = "action_classifier.safetensors"


def main(given: Sequence[str] | None = None) -> None:
    """Train, test, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path, help="a prepared data set")
    parser.add_argument("out", type=Path, nargs="?", default=None)
    parser.add_argument("--beside", type=Path, nargs="+", default=[], help="more data sets, as DATA")
    parser.add_argument("--label", default="action", help="the key of the clips' meta that is to be recognised")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--minutes", type=float, default=10.0, help="end earlier than that number of steps")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(given)
    clips = concat([open_dataset(folder) for folder in (options.data, *options.beside)])
    trained, tested = (clips.where(split=split) for split in ("train", "test"))
    classifier = train_classifier(
        trained,
        torch.Generator().manual_seed(options.seed),
        label=options.label,
        steps=options.steps,
        minutes=options.minutes,
        progress=lambda step, loss: print(f"step {step}: loss {loss:.3f}", flush=True) if step % 100 == 0 else None,
    )
    classifier = measure_accuracy(classifier, tested)
    about = classifier.about
    print(f"{about.accuracy:.1f} % of {about.clips} held-out clips, {len(about.classes)} classes")
    shards = tuple(shard.sha256 for shard in clips.info.shards)
    value = save_classifier(options.out or options.data / FILE, classifier, data=clips.info.title, shards=shards)
    print(f"--network actions={value}")


if __name__ == "__main__":
    main()
