"""The world `digits`: the reader's errors, the glyphs, and every track against the pixels."""

import gzip
import hashlib
import json
import struct
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from refusals import refuses
from stillmotion.cli import main
from stillmotion.data.shards import open_dataset
from stillmotion.errors import StillmotionError
from stillmotion.worlds import sample_clip
from stillmotion.worlds.dataset import write_world
from stillmotion.worlds.digits import render, sample, sample_description
from stillmotion.worlds.digits.glyphs import FONTS, GlyphStyle, draw_glyph, sample_glyph_style
from stillmotion.worlds.digits.idx import labels_path, read_digits, read_idx
from stillmotion.worlds.digits.render import DIGIT, WINDOW, sample_trajectory
from test_worlds import warp

MNIST = Path(__file__).parents[2] / "shared" / "data" / "mnist" / "digits-8k-images-idx3-ubyte.gz"


def idx(values: np.ndarray, kind: int = 8) -> bytes:
    """The format written by hand: two zero bytes, type, dimensions, big-endian sizes, values."""
    return bytes([0, 0, kind, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def small_file(folder: Path, count: int = 20, labels: bool = True) -> Path:
    """Pictures whose brightness is their number, with labels number mod 10."""
    pictures = np.zeros((count, 28, 28), np.uint8)
    pictures[:, 8:20, 10:18] = 100 + np.arange(count)[:, None, None]
    file = folder / "tiny-images-idx3-ubyte"
    file.write_bytes(idx(pictures))
    if labels:
        (folder / "tiny-labels-idx1-ubyte").write_bytes(idx(np.arange(count, dtype=np.uint8) % 10))
    return file


# --- the file's format -------------------------------------------------------------------------------------
def test_reads_what_was_written_plain_and_gzip(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "plain").write_bytes(idx(values))
    (tmp_path / "packed").write_bytes(gzip.compress(idx(values)))
    for name in ("plain", "packed"):
        read = read_idx(tmp_path / name, 3)
        assert read.tolist() == values.tolist()
        assert not read.flags.writeable


GOOD = idx(np.ones((2, 3, 4), np.uint8))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"", "not an IDX file", id="empty"),
        pytest.param(b"\x89PNG\r\n\x1a\n", "not an IDX file", id="png"),
        pytest.param(idx(np.ones((2, 3, 4), np.uint8), kind=13), "IDX type 13", id="type"),
        pytest.param(idx(np.ones(5, np.uint8)), "must have 3 dimensions, not 1", id="one-axis"),
        pytest.param(GOOD[:9], "ends within its header", id="short-header"),
        pytest.param(GOOD[:-1], "truncated: 23 of 24", id="truncated"),
        pytest.param(GOOD + b"\0", "longer than its header", id="too-long"),
        pytest.param(idx(np.ones((0, 3, 4), np.uint8)), "holds nothing", id="nothing"),
        pytest.param(b"\0\0\x08\x03" + struct.pack(">3I", 2**32 - 1, 28, 28), "limits are", id="too-many"),
        pytest.param(b"\0\0\x08\x03" + struct.pack(">3I", 1, 20000, 28), "256 pixels a side", id="too-large"),
        pytest.param(gzip.compress(GOOD, mtime=0)[:-9], "damaged or truncated", id="cut-gzip"),
        pytest.param(b"\x1f\x8b" + b"nonsense" * 4, "damaged or truncated", id="not-gzip"),
    ],
)
def test_a_broken_file_is_explained(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "digits"
    file.write_bytes(content)
    refuses(says, read_idx, file, 3)


def test_a_missing_file_and_foreign_labels_are_explained(tmp_path: Path) -> None:
    refuses("could not be read", sample_clip, "digits", 0, 0, source=tmp_path / "nothing")
    file = small_file(tmp_path)
    labels_path(file).write_bytes(idx(np.zeros(3, np.uint8)))
    refuses("3 labels for 20 pictures", read_digits, file)


def test_labels_are_found_by_name_and_may_be_missing(tmp_path: Path) -> None:
    with_labels = sample_clip("digits", 0, 3, 32, 2, source=small_file(tmp_path)).meta
    assert with_labels["label"] == with_labels["description"]["picture"] % 10
    labels_path(tmp_path / "tiny-images-idx3-ubyte").unlink()
    file = tmp_path / "other-images-idx3-ubyte"
    (tmp_path / "tiny-images-idx3-ubyte").rename(file)
    assert sample_clip("digits", 0, 3, 32, 2, source=file).meta["label"] is None


@pytest.mark.skipif(not MNIST.is_file(), reason="the shared MNIST digits are not here")
def test_real_digits_are_read_and_move() -> None:
    pictures, labels = read_digits(MNIST)
    assert pictures.shape == (8000, 28, 28)
    assert np.bincount(labels, minlength=10).min() > 500
    clip = sample_clip("digits", 0, 0, 112, 3, source=MNIST)
    number = clip.meta["description"]["picture"]
    # At the paper's own size a digit keeps its pixels: the whole light of a frame is the picture's.
    light = pictures[number].sum(dtype=float)
    assert clip.frames[..., 0].sum(axis=(1, 2), dtype=float) == pytest.approx(light, rel=0.01)


# --- which pictures ----------------------------------------------------------------------------------------
def test_test_clips_and_training_clips_draw_from_different_pictures(tmp_path: Path) -> None:
    file = small_file(tmp_path)
    write_world("digits", tmp_path / "set", clips=40, size=16, frames=1, test_share=0.25, source=file)
    clips = open_dataset(tmp_path / "set")
    numbers = {
        split: {clip.meta["description"]["picture"] for clip in clips.where(split=split)}
        for split in ("train", "test")
    }
    assert len(numbers["train"]) > 8
    assert max(numbers["train"]) < 15 <= min(numbers["test"])
    about = json.loads((tmp_path / "set" / "dataset.json").read_text())
    assert file.name in about["licence"]
    assert str(tmp_path) not in json.dumps(about)


def test_too_few_pictures_for_two_splits_are_explained(tmp_path: Path) -> None:
    refuses("too few", sample_clip, "digits", 0, 0, source=small_file(tmp_path), share=(0.99, 1.0))


def test_the_command_line_takes_the_file_for_digits_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(small_file(tmp_path))
    common = ["--clips", "2", "--size", "32", "--frames", "2", "--digits", file]
    assert main(["world", "digits", str(tmp_path / "set"), *common]) == 0
    assert main(["world", "puppets", str(tmp_path / "no"), *common]) == 2
    assert "reads no file" in capsys.readouterr().err


# --- glyphs ------------------------------------------------------------------------------------------------
def test_glyphs_fill_twenty_of_twenty_eight_units_around_their_centre_of_mass() -> None:
    rng = np.random.default_rng(0)
    styles = [sample_glyph_style(rng) for _ in range(60)]
    assert {style.font for style in styles} == set(FONTS)
    assert {style.label for style in styles} == set(range(10))
    for style in styles:
        ink = draw_glyph(style)
        rows, columns = np.flatnonzero(ink.max(1) > 0.25 * style.ink), np.flatnonzero(ink.max(0) > 0.25 * style.ink)
        assert 68 <= max(np.ptp(rows), np.ptp(columns)) <= 84  # 80 of the 112 pixels, give or take the blur
        place = np.arange(112)
        middle = np.array([(ink.sum(0) * place).sum(), (ink.sum(1) * place).sum()]) / ink.sum()
        assert np.abs(middle - 55.5).max() < 2.5  # what is cut off at the border may pull a little
        assert 0.02 < ink.mean() < 0.35


def test_the_same_digit_is_written_in_many_ways() -> None:
    rng = np.random.default_rng(1)
    written = [draw_glyph(replace(sample_glyph_style(rng), label=3)) for _ in range(12)]
    apart = [np.abs(a - b).mean() for i, a in enumerate(written) for b in written[:i]]
    assert min(apart) > 0.01
    assert len({hashlib.sha256(ink.tobytes()).hexdigest() for ink in written}) == 12


def test_thickening_and_turning_do_what_they_say() -> None:
    plain = GlyphStyle(7, "outline", 0, 0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0)
    thin, thick = (draw_glyph(replace(plain, dilation=by)) > 0.5 for by in (0, 4))
    assert thick.sum() > 1.3 * thin.sum()
    upright, turned = (draw_glyph(replace(plain, label=1, rotation=turn)) for turn in (0.0, 0.5))
    y, x = np.mgrid[:112, :112] - 55.5
    # Positive turns x towards y: the upper end of the stroke goes to the right.
    lean = [float((ink * x * -y).sum() / (ink * y * y).sum()) for ink in (upright, turned)]
    assert lean[1] - lean[0] > 0.3


# --- motion and pixels -------------------------------------------------------------------------------------
def test_paths_stay_inside_are_smooth_and_differ_in_speed() -> None:
    times, speeds = np.arange(0, 400, 0.5), []
    for seed in range(60):
        path = sample_trajectory(np.random.default_rng(seed))
        places = path.at(times)
        assert places.min() >= DIGIT / 2
        assert places.max() <= WINDOW - DIGIT / 2
        steps = np.diff(places, axis=0)
        assert np.abs(np.diff(steps, axis=0)).max() < 0.8 * np.abs(steps).max()
        speeds.append(float(np.sqrt((steps**2).sum(1).mean()) / 0.5))
    assert 0.5 < min(speeds) < 1.2
    assert 4.0 < max(speeds) < 7.5


def centroid(video: np.ndarray) -> np.ndarray:
    """T x 2 (x, y), the centre of brightness of each frame."""
    light, place = video[..., 0].astype(float), np.arange(video.shape[1])
    return np.stack([light.sum(1) @ place, light.sum(2) @ place], -1) / light.sum(axis=(1, 2))[:, None]


def test_meta_has_the_label() -> None:
    assert sample(np.random.default_rng(1), size=40, frames=1).meta["label"] in range(10)


@pytest.mark.parametrize("seed", range(12))
def test_the_light_moves_exactly_as_the_points_do(seed: int) -> None:
    for size in (48, 112):
        video, tracks = render(sample_description(np.random.default_rng(seed)), size, 6)
        middle = centroid(video)
        shift, said = middle - middle[0], tracks["points"] - tracks["points"][0]
        assert np.abs(shift - said).max() < 0.03
        assert np.abs(middle - tracks["points"]).max() < 0.05 * size  # glyphs have their mass near the middle


@pytest.mark.parametrize("size", [32, 64, 112])
def test_the_points_are_the_middle_of_the_picture(size: int) -> None:
    square = np.zeros((28, 28), np.float32)
    square[4:24, 4:24] = 1
    video, tracks = render(replace(sample_description(np.random.default_rng(5)), ink=square), size, 4)
    assert centroid(video) == pytest.approx(tracks["points"], abs=0.02)
    # From the centre of the fifth to that of the 24th of 28 pixels.
    assert tracks["box"][:, 2] - tracks["box"][:, 0] == pytest.approx(19 * size / 112)
    assert 0.5 * (tracks["box"][:, :2] + tracks["box"][:, 2:]) == pytest.approx(tracks["points"], abs=1e-4)


def test_points_scale_with_the_picture() -> None:
    moving = sample_description(np.random.default_rng(4))
    small, large = render(moving, 32, 3)[1], render(moving, 128, 3)[1]
    for track in ("points", "box"):
        assert large[track] == pytest.approx((small[track] + 0.5) * 4 - 0.5, abs=1e-3)


def test_flow_reproduces_the_neighbouring_frame_wherever_there_is_ink() -> None:
    errors, still = [], []
    for seed in range(12):
        video, tracks = render(sample_description(np.random.default_rng([9, seed])), 112, 5)
        for t in range(4):
            for flow, here, there in (("flow_forward", t, t + 1), ("flow_backward", t + 1, t)):
                inked = video[here, ..., 0] > 2
                frame, other = video[here, ..., 0].astype(float), video[there, ..., 0]
                errors.append(np.abs(warp(other, tracks[flow][t], cv2.INTER_CUBIC) - frame)[inked].mean())
                still.append(np.abs(other - frame)[inked].mean())
                assert (tracks[flow][t][~inked] == 0).all()
    assert np.mean(errors) < 6  # grey levels, all from sampling a sampled picture with sharp edges again
    assert np.mean(still) > 10 * np.mean(errors)


def test_mask_and_box_lie_on_the_ink() -> None:
    for seed in range(12):
        video, tracks = render(sample_description(np.random.default_rng([2, seed])), 112, 3)
        bright = video[..., 0] >= 128
        assert np.array_equal(tracks["mask"] == 255, bright)
        for t in range(3):
            rows, columns = np.flatnonzero(bright[t].any(1)), np.flatnonzero(bright[t].any(0))
            found = np.array([columns[0], rows[0], columns[-1], rows[-1]])
            assert np.abs(tracks["box"][t] - found).max() < 2.0


def test_a_range_of_digits(tmp_path: Path) -> None:
    """Of pictures 2 to 11 the last fifth is for testing, and no other is used at all."""
    pictures = np.zeros((14, 28, 28), np.uint8)
    pictures[:, 8:20, 8:20] = 200
    file = tmp_path / "images-idx3-ubyte"
    file.write_bytes(b"\0\0\x08\3" + struct.pack(">3I", *pictures.shape) + pictures.tobytes())
    write_world(
        "digits", tmp_path / "out", clips=60, size=16, frames=1, test_share=0.2, source=file, pictures=(2, 12)
    )
    used = {
        split: {c.meta["description"]["picture"] for c in open_dataset(tmp_path / "out").where(split=split)}
        for split in ("train", "test")
    }
    assert used == {"train": set(range(2, 10)), "test": {10, 11}}
    with pytest.raises(StillmotionError, match="holds 14 pictures: no range 2:15"):
        write_world("digits", tmp_path / "no", clips=1, source=file, pictures=(2, 15))
    refuses("--digits", write_world, "digits", tmp_path / "no", clips=1, pictures=(0, 5))
