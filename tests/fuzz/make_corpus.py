"""Writes `corpus`, a few small, whole files for every target: `python tests/fuzz/make_corpus.py`."""

from __future__ import annotations

import io
import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import safetensors.numpy
from PIL import Image
from scipy.io import savemat

sys.path.insert(0, str(Path(__file__).parents[1]))
from stillmotion import media
from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from test_media_deinterlacing import interlaced
from test_training_gan import Gan, train

CORPUS = Path(__file__).parent / "corpus"
ZOO = Path(__file__).parents[2] / "src" / "stillmotion" / "zoo"
FRAMES = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), np.uint8)

WORDS = [
    "--poke\n3,4>10,12\n--poke\n1,2>3,4@5\n--rise\n8",
    "--impulse\n3,4:-2,1.5@3\n--duration\n4",
    "--expression\nhappiness:0.8@0.5,neutral@2\n--landmark-noise\n0.01\n--crop\n1,2,30,40",
    "--stroke\n10,20 40,35 50,60\n--spacing\neven\n--fps\n12.5",
    "--drive\na.mp4\n--align\nbest",
    "--action\nwalk\n--side\nleft",
    "--poses\na.npy\n--joints\ncoco\n--no-smooth\n--frames\n3\n--seed\n1",
]
SETTINGS = [
    "driving\nmotion_stages.joint.steps=3\ngenerator.width=32\npredictor.hidden=8",
    "strokes\nencoder.widths=8,8,8\nstroke.lookahead=3\ngenerator.object_frame=true",
    "pokes\nsize=64",
]


def keep(name: str, content: bytes | str) -> None:
    """Write one file."""
    path = CORPUS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def pictures(folder: Path) -> None:
    """Pictures of all kinds, and videos."""
    palette = Image.fromarray(FRAMES[0]).quantize(8)
    turned = Image.Exif()
    turned[0x0112] = 6
    for name, image, options in (
        ("rgb.png", Image.fromarray(FRAMES[0]), {}),
        ("palette.png", palette, {"transparency": 0}),
        ("alpha.png", Image.fromarray(np.dstack([FRAMES[0], FRAMES[1, :, :, 0]])), {}),
        ("deep.png", Image.fromarray(FRAMES[0, :, :, 0].astype(np.uint16) * 256), {}),
        ("turned.jpg", Image.fromarray(FRAMES[0]), {"exif": turned, "quality": 30}),
        ("cmyk.jpg", Image.fromarray(FRAMES[0]).convert("CMYK"), {"quality": 30}),
        ("rgb.webp", Image.fromarray(FRAMES[0]), {"lossless": True}),
    ):
        file = io.BytesIO()
        image.save(file, {"jpg": "JPEG"}.get(name[-3:], name.rpartition(".")[2]), **options)
        keep(f"picture/{name}", file.getvalue())
    for name in ("a.mp4", "a.webm", "a.gif", "strip.png"):
        media.write_video(folder / name, iter(FRAMES), 10)
        keep(f"video/{name}", (folder / name).read_bytes())
    keep("video/interlaced.mpg", interlaced(folder / "a.mpg", size=32).read_bytes())


def folders(folder: Path) -> None:
    """A data set, a run, models' configurations."""
    clip = Clip("a", FRAMES[:2, :4, :4], 5.0, {"points": np.ones((2, 3))}, {"split": "test"})
    write_dataset(folder / "set", [clip], info=DatasetInfo(title="made"))
    keep("dataset/dataset.json", (folder / "set" / "dataset.json").read_bytes())
    keep("shard/shard.tar", (folder / "set" / "shard-00000.tar").read_bytes())
    train(folder / "run", [Gan(steps=1)])
    keep("last/last.json", (folder / "run" / "last.json").read_bytes())
    keep("state/state.json", (folder / "run" / "checkpoints" / "gan-000001" / "state.json").read_bytes())
    for model in ("driving-puppets", "strokes-digits", "pokes-plants", "actions-sprites", "structures-faces"):
        told = json.loads((ZOO / model / "config.json").read_text())
        keep(f"model/{model}.json", json.dumps(told))
        typed = {"data": ["/data"], "settings": {"size": "32"}, "preset": None, "loop": {"seed": 1}}
        started = {"system": told["system"], "data": [{"digests": ["ab"], "times": 1}], "preset": "small"}
        empty = {"start_from": None, "parts": [], "stages": [], "steps": 3, "seed": 1}
        if model == "strokes-digits":
            keep("run/config.json", json.dumps({**started, **empty, "config": told["config"], "typed": typed}))


def numbers() -> None:
    """Tensors, poses, landmarks, a face model."""
    tensors = {"a.weight": np.ones((2, 3), np.float32), "a.steps": np.array([4]), "b": np.ones(2, np.float16)}
    keep("tensors/a.safetensors", safetensors.numpy.save(tensors))
    for name, shape in (("poses", (2, 13, 3)), ("landmarks", (1, 68, 2))):
        array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        file = io.BytesIO()
        np.save(file, array)
        keep(f"{name}_npy/a.npy", file.getvalue())
        keep(f"{name}_json/a.json", json.dumps(array.astype(int).tolist()))
    told = {"poses": np.ones((2, 13, 2)).tolist(), "joints": "penn", "size": [10, 20], "fps": 5}
    keep("poses_json/told.json", json.dumps(told))
    points = np.random.default_rng(1).normal(size=(240, 1))
    tri, marks = np.arange(1, 61).reshape(3, 20), np.arange(68)
    mesh = {"mu_shape": points, "mu_exp": points, "w": points, "w_exp": points, "tri": tri, "keypoints": marks}
    file = io.BytesIO()
    savemat(file, mesh, do_compression=True)
    keep("basel/param_mesh.mat", file.getvalue())


def texts() -> None:
    """Strokes and what is typed."""
    keep("stroke/a.json", '{"points": [[1, 2], [3, 4.5]], "times": [0, 1]}')
    keep("json/a.json", '{"a": [1, -0.5, 1e300, "\\ud83d\\ude00", null, true]}')
    for kind, lines in (("words", WORDS), ("settings", SETTINGS), ("values", ["1,2,30,40", "12,34,255", "white"])):
        for number, line in enumerate(lines):
            keep(f"{kind}/{number}.txt", line)


if __name__ == "__main__":
    shutil.rmtree(CORPUS, ignore_errors=True)
    with tempfile.TemporaryDirectory() as place:
        pictures(Path(place))
        folders(Path(place))
    numbers()
    texts()
