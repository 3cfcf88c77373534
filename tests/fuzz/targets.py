"""Every reader of foreign bytes as a function of bytes, with files in `corpus/NAME` to start from.

A reader returns, or raises a `StillmotionError`; anything else is a foreign exception.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import json
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stillmotion import cli, media
from stillmotion.animate import describe_models, find_system
from stillmotion.data.clipset import open_dataset
from stillmotion.data.pose_tracks import read_poses, to_track
from stillmotion.data.readers.animations import parse_colour
from stillmotion.errors import StillmotionError
from stillmotion.evaluation.report import describe_data
from stillmotion.files import change_settings, load_tensors, parse_settings, read_json
from stillmotion.media import Limits
from stillmotion.morphable.basel import read_basel_model
from stillmotion.morphable.landmarks import read_landmarks
from stillmotion.options import name_and_value, parse_box, read_points
from stillmotion.systems.base import read_config
from stillmotion.train import read_run
from stillmotion.training import checkpoint
from stillmotion.training.state import unpack

CORPUS = Path(__file__).parent / "corpus"
LIMITS = Limits(max_pixels=2**20, max_frame_pixels=2**18, max_frames=50, max_seconds=60)
"""Small, so that an input takes milliseconds."""


@dataclass(frozen=True)
class Target:
    """One reader."""

    name: str  # of its folder of the corpus
    parse: Callable[[bytes], object]
    share: int = 1  # of the inputs of `make fuzz`: more for readers that are fast

    @property
    def seeds(self) -> list[bytes]:
        """The files to start from."""
        return [path.read_bytes() for path in sorted((CORPUS / self.name).iterdir())]

    def foreign(self, content: bytes) -> Exception | None:
        """What the reader raises on these bytes that it should not."""
        try:
            self.parse(content)
        except StillmotionError:
            pass
        except Exception as error:
            return error
        return None


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, cut out, repeated, or a number or sign put in place of another."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(changed) + 1), rng.choice((1, 2, 8, 40))
        piece = rng.choice(
            (b"", b"0", b"-1", b"1e999", b"null", b"[]", b"{}", b'"', b"9" * 30, rng.randbytes(length))
        )
        changed[at : at + rng.choice((0, length))] = piece
    return bytes(changed)


@functools.cache
def scratch() -> Path:
    """A folder of this process, removed at its end."""
    folder = Path(tempfile.mkdtemp(prefix="stillmotion-fuzz-"))
    atexit.register(shutil.rmtree, folder, True)
    return folder


def written(name: str, content: bytes) -> Path:
    """A file of the scratch folder with this content."""
    path = scratch() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# --- folders -------------------------------------------------------------------------------------------------------
def dataset(content: bytes) -> None:
    """`dataset.json` of a prepared data set."""
    written("set/shard-00000.tar", (CORPUS / "shard" / "shard.tar").read_bytes())
    read_all(written("set/dataset.json", content).parent)


def shard(content: bytes) -> None:
    """A shard, in a data set that knows its size."""
    told = json.loads((CORPUS / "dataset" / "dataset.json").read_bytes())
    told["shards"][0]["bytes"] = len(content)
    written("shard/dataset.json", json.dumps(told).encode())
    read_all(written("shard/shard-00000.tar", content).parent)


def read_all(folder: Path) -> None:
    """Everything of a data set."""
    clips = open_dataset(folder)
    describe_data(clips.info)
    for clip in clips:
        _ = [float(array.sum()) for array in (clip.frames[:1], *clip.tracks.values())]


def state(content: bytes) -> None:
    """`state.json` of a checkpoint."""
    folder = written("run/checkpoints/gan-000001/state.json", content).parent
    optimizers = checkpoint.open_checkpoint(folder).state.optimizers
    with contextlib.suppress(KeyError, TypeError, ValueError):  # a checkpoint that is loaded says so in a sentence
        unpack(optimizers, {})


def last(content: bytes) -> None:
    """`last.json` of a run."""
    written("last/checkpoints/gan-000001/state.json", (CORPUS / "state" / "state.json").read_bytes())
    checkpoint.find_last(written("last/last.json", content).parent, ["gan"])


def run_config(content: bytes) -> None:
    """`config.json` of a run."""
    read_run(written("started/config.json", content).parent)


def model_config(content: bytes) -> None:
    """`config.json` of a model, with its card."""
    folder = written("models/one/config.json", content).parent
    written("models/one/model.safetensors", b"")
    describe_models([folder.parent])
    stored = read_config(folder)
    parse_settings(find_system(stored.system).config_class, stored.config, "config.json")


# --- files ---------------------------------------------------------------------------------------------------------
def picture(content: bytes) -> None:
    """A still."""
    media.read_picture(written("picture", content), limits=LIMITS)


def video(content: bytes) -> None:
    """A driving video; all its frames."""
    media.read_video(written("video", content), limits=LIMITS)


def read_as(ending: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """A reader of files with this ending."""
    return lambda content: read(written(f"file{ending}", content))


def poses(path: Path) -> None:
    """Poses, as a track."""
    stored = read_poses(path)
    to_track(stored.poses, stored.joints)


# --- what is typed -------------------------------------------------------------------------------------------------
@functools.cache
def _parser() -> Any:
    return cli.parser()


def words(content: bytes) -> None:
    """What follows `animate STILL --model M -o OUT`: a word a line."""
    typed = content.decode(errors="surrogateescape").splitlines()
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
            cli.control_from(vars(_parser().parse_args(["animate", "s.png", "--model", "m", "-o", "x.mp4", *typed])))
    except SystemExit as stop:
        if stop.code not in (0, 2):  # 0: --help
            raise RuntimeError(f"ended with {stop.code}") from stop


def settings(content: bytes) -> None:
    """A system's name, then a `--set` a line."""
    system, *changes = content.decode(errors="surrogateescape").splitlines() or [""]
    small = find_system(system).presets["small"]
    change_settings(small, dict(map(name_and_value, changes)), "--set")


def values(content: bytes) -> None:
    """What options and readers take as text."""
    text = content.decode(errors="surrogateescape")
    for parse in (lambda each: parse_box("crop", each), parse_colour):
        with contextlib.suppress(StillmotionError):
            parse(text)


TARGETS = (
    Target("dataset", dataset, share=4),
    Target("shard", shard, share=2),
    Target("state", state, share=4),
    Target("last", last, share=4),
    Target("run", run_config, share=4),
    Target("model", model_config),
    Target("tensors", read_as(".safetensors", load_tensors), share=6),
    Target("picture", picture, share=2),
    Target("video", video),
    Target("poses_json", read_as(".json", poses), share=6),
    Target("poses_npy", read_as(".npy", poses), share=6),
    Target("landmarks_json", read_as(".json", read_landmarks), share=12),
    Target("landmarks_npy", read_as(".npy", read_landmarks), share=6),
    Target("basel", read_as(".mat", read_basel_model), share=2),
    Target("stroke", read_as(".json", read_points), share=12),
    Target("json", read_as(".json", read_json), share=12),
    Target("words", words, share=2),
    Target("settings", settings, share=2),
    Target("values", values, share=12),
)

torch.set_num_threads(1)
