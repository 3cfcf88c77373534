"""Train the video network of `evaluation/extractors/video.py` and print its accuracy. Minutes on one core.

    python recipes/video_network.py FOLDER [--steps N] [--out FILE]      FOLDER keeps the made clips
    python recipes/video_network.py --smoke FOLDER                       the same with few clips and two steps

The network names the world and the action of ten frames of a clip. Its classifier is thrown away: the features behind
it take the place of I3D's in a Frechet distance of videos where no weights of I3D are at hand.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.data.clipset import ClipSet, open_dataset
from stillmotion.evaluation.extractors.video import FEATURES, SIDE, WEIGHTS, VideoNetwork
from stillmotion.files import save_tensors
from stillmotion.worlds.dataset import write_world

FRAMES, SEED = 16, 21
CLIPS = {"arm": 100, "digits": 100, "faces": 300, "plants": 300, "puppets": 500}  # more where there are actions
TAKEN = 10  # frames of a clip that are shown, from a random start
HELD_BACK = 10  # one clip of so many is for testing
BATCH, RATE = 16, 2e-3


def main(given: Sequence[str] | None = None) -> None:
    """Make the clips, train, test, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--smoke", action="store_true", help="few clips, two steps, the weights into FOLDER")
    options = parser.parse_args(given)
    steps, out = options.steps, options.out or WEIGHTS
    if options.smoke:
        steps, out = 2, options.out or options.folder / WEIGHTS.name
    torch.manual_seed(0)
    videos, labels, names = read(made_clips(options.folder, options.smoke))
    test = np.arange(len(videos)) % HELD_BACK == 0
    network = train(videos[~test], labels[~test], len(names), steps)
    chosen = torch.from_numpy(labels[test])
    with torch.inference_mode():
        found = [network(as_input(video[None], 0)).argmax(1) for video in videos[test]]
    right = (torch.cat(found) == chosen).float().mean()
    print(f"{right:.1%} of {len(chosen)} other clips, {len(names)} classes: {', '.join(names)}")
    save_tensors(out, {name: halved(value) for name, value in network[0].state_dict().items()})
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    print(f"{out.stat().st_size / 1024:.0f} KB: --network video={out}@{digest}")


def made_clips(folder: Path, smoke: bool) -> list[ClipSet]:
    """The worlds' clips, made once."""
    sets = []
    for world, count in CLIPS.items():
        where = folder / world
        if not where.is_dir():
            few = {"clips": 2, "jobs": 1} if smoke else {"clips": count, "jobs": 2}
            write_world(world, where, size=SIDE, frames=FRAMES, seed=SEED, test_share=0.0, **few)
        sets.append(open_dataset(where))
    return sets


def read(sets: Sequence[ClipSet]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """All videos, N x T x S x S x 3 `uint8`, shuffled; their classes, N; and the names of the classes."""
    clips = [clip for each in sets for clip in each]
    kinds = [" ".join(filter(None, (clip.meta["world"], clip.meta.get("action")))) for clip in clips]
    names = sorted(set(kinds))
    order = np.random.default_rng(SEED).permutation(len(clips))
    videos = np.stack([np.asarray(clips[i].frames) for i in order])
    return videos, np.array([names.index(kinds[i]) for i in order]), names


def train(videos: np.ndarray, labels: np.ndarray, classes: int, steps: int) -> nn.Sequential:
    """The network and its classifier, in eval mode."""
    network = nn.Sequential(VideoNetwork(), nn.Linear(FEATURES, classes))
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    rng = np.random.default_rng(0)
    for step in range(steps):
        chosen = rng.integers(len(videos), size=min(BATCH, len(videos)))
        start = int(rng.integers(FRAMES - TAKEN + 1))
        scores = network(augmented(as_input(videos[chosen], start), rng))
        loss = F.cross_entropy(scores, torch.from_numpy(labels[chosen]), label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {loss.item():.3f}", flush=True)
    return network.eval()


def as_input(videos: np.ndarray, start: int) -> Tensor:
    """N x T x S x S x 3 `uint8` as N x 3 x 10 x S x S in [-1, 1], from a start on."""
    taken = torch.from_numpy(videos[:, start : start + TAKEN]).permute(0, 4, 1, 2, 3)
    return taken.float() / 127.5 - 1


def augmented(videos: Tensor, rng: np.random.Generator) -> Tensor:
    """Mirrored or not, other contrast and brightness, and noise, so that features see more than colours."""
    videos = videos.flip(4) if rng.random() < 0.5 else videos
    shape = (len(videos), 3, 1, 1, 1)
    gain, shift = (
        torch.from_numpy(rng.uniform(*ends, shape).astype(np.float32)) for ends in ((0.6, 1.2), (-0.2, 0.2))
    )
    return gain * videos + shift + 0.03 * torch.randn_like(videos)


def halved(value: Tensor) -> Tensor:
    """Kernels as float16, which halves the file."""
    return value.half() if value.ndim > 1 else value


if __name__ == "__main__":
    main()
