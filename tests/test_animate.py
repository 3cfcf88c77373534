"""From a model's name and a picture to frames in a file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import stillmotion
from driving_tools import at, driving_frames, still_picture, tiny_driving
from refusals import refuses
from stillmotion import animate, media
from stillmotion.animate import Animator, describe_models, load, own_times, to_pixels
from stillmotion.errors import StillmotionError
from stillmotion.systems.driving import Drive
from stillmotion.systems.driving.transfer import BATCH
from strokes_tools import tiny_strokes

# Untrained networks find bodies of any size.
pytestmark = pytest.mark.filterwarnings("ignore:The body in the still")

STILL, VIDEO = still_picture(), driving_frames(4)
LAYERS = {"driving", "keypoints", "flow", "masks", "warped", "figure", "plate"}


def mask_of(still: np.ndarray, folder: Path) -> Path:
    """A file with the still's bright square in white: untrained networks find no figure."""
    media.write_picture(folder / "mask.png", np.where(still[..., :1] > 240, 255, 0).astype(np.uint8).repeat(3, -1))
    return folder / "mask.png"


@pytest.fixture(scope="module")
def animator() -> Animator:
    return Animator(tiny_driving())


def test_bf16_changes_little_and_leaves_flow_and_keypoints_in_fp32(tmp_path: Path) -> None:
    tiny_driving(seed=3).save_pretrained(tmp_path / "model")
    exact, rough = (load(tmp_path / "model", precision) for precision in ("fp32", "bf16"))
    of_exact, of_rough = ([*model(STILL, Drive(VIDEO), size="model")] for model in (exact, rough))
    for a, b in zip(of_exact, of_rough, strict=True):
        assert b.facts["displacement"].dtype == b.facts["mean"].dtype == np.float32
        assert not np.array_equal(a.facts["displacement"], b.facts["displacement"])  # it took part
        assert np.abs(a.frame.astype(int) - b.frame).mean() < 2
    assert not torch.is_autocast_enabled("cpu")


def test_an_unknown_precision_is_said() -> None:
    refuses("precision must be one of auto, fp32, bf16, not 'fp16'", load, "driving-weizmann", "fp16")


# --- conventions of docs/conventions.md ----------------------------------------------------------------------------
def test_convention_public_pictures_are_rgb(tmp_path: Path) -> None:
    red = np.zeros((3, 5, 3), np.uint8)
    red[..., 0], red[0, 4] = 255, (0, 0, 255)  # red, blue in the upper right corner
    Image.fromarray(red).save(tmp_path / "red.png")
    tensor = torch.from_numpy(red.copy()).permute(2, 0, 1).float() / 255
    for form in (red, Image.fromarray(red), tensor, tensor.double(), tmp_path / "red.png", str(tmp_path / "red.png")):
        pixels = to_pixels(form)
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels, red)


def test_convention_the_same_seed_gives_the_same_frames(animator: Animator) -> None:
    first = animator(STILL, Drive(VIDEO), seed=3).frames()
    torch.manual_seed(99)  # whatever else the program drew in between
    torch.rand(5)
    assert np.array_equal(animator(STILL, Drive(VIDEO), seed=3).frames(), first)


def test_convention_fps_travels_with_the_clip(animator: Animator, tmp_path: Path) -> None:
    media.write_video(tmp_path / "a.gif", iter(VIDEO), 12.5)
    assert animator(STILL, Drive(tmp_path / "a.gif")).fps == 12.5
    assert animator(STILL, Drive(tmp_path / "a.gif", fps=5)).fps == 5
    assert animator(STILL, Drive(VIDEO, fps=7)).fps == 7
    assert animator(STILL, Drive(VIDEO)).fps == 25


# --- finding models ------------------------------------------------------------------------------------------------
def test_models_load_by_folder_run_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_driving().save_pretrained(tmp_path / "zoo" / "driving-tiny")
    tiny_driving().save_pretrained(tmp_path / "run" / "model")
    monkeypatch.setattr(animate, "ZOO", tmp_path / "zoo")
    for place in (tmp_path / "zoo" / "driving-tiny", str(tmp_path / "run"), "driving-tiny"):
        assert load(place).system.config.size == 32
    assert stillmotion.shipped_models() == ["driving-tiny"]


def test_an_unknown_name_lists_what_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animate, "ZOO", tmp_path)
    refuses("no model 'dancing'; shipped are none, or give a folder", load, "dancing")
    tiny_driving().save_pretrained(tmp_path / "one")
    tiny_driving().save_pretrained(tmp_path / "two")
    for wrong in ("dancing", tmp_path / "nothing", tmp_path, "a\0b", "x" * 5000, ""):
        refuses("shipped are one, two", load, wrong)


def test_a_run_without_a_model_yet_says_so(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    refuses("has no model yet", load, tmp_path)


def test_models_are_described_and_broken_ones_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animate, "ZOO", tmp_path / "zoo")
    tiny_driving(card={"data": "made", "licence": "CC0"}).save_pretrained(tmp_path / "zoo" / "shipped")
    tiny_driving().save_pretrained(tmp_path / "runs" / "mine" / "model")
    tiny_driving().save_pretrained(tmp_path / "runs" / "broken")
    (tmp_path / "runs" / "broken" / "config.json").write_text("{")
    rows = describe_models([tmp_path / "runs", tmp_path / "missing"])
    assert rows[0] == ("shipped", "driving", "Drive", "32", "made", "CC0")
    assert rows[2] == (str(tmp_path / "runs" / "mine"), "driving", "Drive", "32", "", "yours")
    assert rows[1][0] == str(tmp_path / "runs" / "broken")
    assert rows[1][1].startswith("unusable: ")
    assert len(rows) == 3


# --- stills --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "picture",
    [
        None,
        7,
        [[0, 0, 0]],
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        torch.zeros(4, 4, 3),
        torch.zeros(3, 4, 4, dtype=torch.uint8),
        torch.zeros(1, 3, 4, 4),
        torch.zeros(3, 0, 4),
        "missing.png",
        Path("missing.png"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_picture_is_refused(picture: Any) -> None:
    with pytest.raises(StillmotionError) as caught:
        to_pixels(picture)
    assert str(caught.value).endswith(".")


def test_tensors_are_rounded_and_clipped() -> None:
    values = torch.tensor([0.0, 0.5, 1.0, 1.7, -0.3]).expand(3, 1, 5)
    assert to_pixels(values)[0, :, 0].tolist() == [0, 128, 255, 255, 0]


def test_grey_and_palette_images_become_rgb() -> None:
    assert to_pixels(Image.new("L", (5, 3), 90)).shape == (3, 5, 3)
    assert to_pixels(Image.new("P", (5, 3))).shape == (3, 5, 3)


# --- animations ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fields", [True, False])
@pytest.mark.parametrize("size", [(47, 83), (83, 47), (32, 32), (9, 100), (1, 1)])
def test_frames_have_the_stills_own_size(fields: bool, size: tuple[int, int]) -> None:
    driving = tiny_driving(**at("generator", fields=fields))
    animation = Animator(driving)(still_picture(size), Drive(VIDEO[:2]))
    frames = animation.frames()
    assert frames.shape == (2, *size, 3)
    assert frames.dtype == np.uint8


def test_size_model_gives_the_networks_size(animator: Animator) -> None:
    assert animator(still_picture((47, 83)), Drive(VIDEO[:1]), size="model").frames().shape == (1, 32, 32, 3)


def test_an_animation_is_the_same_each_time(animator: Animator, tmp_path: Path) -> None:
    media.write_video(tmp_path / "a.png", iter(VIDEO), 25)
    animation = animator(STILL, Drive(tmp_path / "a.png"), layers=True, mask=mask_of(STILL, tmp_path))
    first, second = list(animation), list(animation)
    assert len(first) == len(VIDEO)
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a.frame, b.frame)
        assert a.layers.keys() == b.layers.keys() == LAYERS
        assert all(np.array_equal(a.layers[name], b.layers[name]) for name in a.layers)
        assert a.facts["mean"].shape == (3, 2)
        assert a.facts["covariance"].shape == (3, 2, 2)
        assert a.facts["displacement"].shape == (32, 32, 2)
    assert not next(iter(animator(STILL, Drive(VIDEO)))).layers  # drawn only when asked for


@pytest.mark.parametrize(
    ("size", "frames", "word"), [("large", None, "size"), ("native", 0, "frames"), ("native", -1, "frames")]
)
def test_wrong_numbers_are_told_before_anything_runs(
    animator: Animator, size: str, frames: int | None, word: str
) -> None:
    refuses(word, animator, STILL, Drive(VIDEO), frames, size=size)


def test_motion_cannot_be_scaled_by_keypoints_without_area() -> None:
    animation = Animator(tiny_driving(**at("keypoints", count=2)))(STILL, Drive(VIDEO, scale_motion=True))
    refuses("leave scale_motion out", animation.frames)


def test_what_is_wrong_with_a_video_shows_at_the_call(animator: Animator, tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("not a video at all\n" * 20)
    for video in ("missing.mp4", tmp_path / "notes.mp4", tmp_path / "nothing"):
        refuses(r"missing|notes|nothing", animator, STILL, Drive(video))


def test_a_rollout_is_opened_on_any_form_of_a_picture(animator: Animator) -> None:
    with animator.open(Image.fromarray(STILL), size="model") as rollout:
        rollout.send(Drive(VIDEO[:2]))
        found = [next(rollout).frame for _ in range(2)]
    assert np.array_equal(found, animator(STILL, Drive(VIDEO[:2]), size="model").frames())
    refuses("missing", animator.open, "missing.png")


def test_frames_is_an_upper_limit(animator: Animator) -> None:
    assert len(animator(STILL, Drive(VIDEO), 2).frames()) == 2
    assert len(animator(STILL, Drive(VIDEO), 99).frames()) == len(VIDEO)


class FakeReader:
    """A video without end, or one that breaks after some frames; counts what is taken from it."""

    fps, length, sound = 25.0, 0, None

    def __init__(self, breaks_after: int | None = None):
        self.taken = 0
        self.breaks_after = breaks_after

    def __iter__(self) -> Iterator[np.ndarray]:
        return self

    def __next__(self) -> np.ndarray:
        if self.taken == self.breaks_after:
            raise media.MediaError(f"The video is damaged after frame {self.taken}.")
        assert self.taken < 100, "a video without end is read without end"
        self.taken += 1
        return VIDEO[self.taken % len(VIDEO)]

    def close(self) -> None: ...


def test_no_more_of_the_driving_video_is_read_than_asked_for(
    animator: Animator, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = FakeReader()
    monkeypatch.setattr(media, "open_driver", lambda *_, **__: reader)
    assert len(animator(STILL, Drive("endless.mp4"), 5, size="model").frames()) == 5
    assert reader.taken == 5


def test_frames_are_made_one_batch_at_a_time(animator: Animator, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = FakeReader()
    monkeypatch.setattr(media, "open_driver", lambda *_, **__: reader)
    steps = iter(animator(STILL, Drive("endless.mp4"), size="model"))
    assert reader.taken == 0
    for made in range(1, BATCH + 2):
        next(steps)
        assert made <= reader.taken <= made + BATCH


def test_a_video_can_be_followed_up_to_its_damage(animator: Animator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader's advice, `--frames N`, works."""
    monkeypatch.setattr(media, "open_driver", lambda *_, **__: FakeReader(breaks_after=3))
    assert len(animator(STILL, Drive("broken.mp4"), 3, size="model").frames()) == 3
    with pytest.raises(StillmotionError, match="damaged after frame 3"):
        animator(STILL, Drive("broken.mp4"), 4, size="model").frames()


# --- files ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["out.png", "out.gif", "out.mp4", "out"])
def test_animations_are_saved_in_each_form_with_their_layers(animator: Animator, tmp_path: Path, name: str) -> None:
    still = still_picture((40, 56))
    animation = animator(still, Drive(VIDEO, fps=10), layers=True, mask=mask_of(still, tmp_path))
    seen: list[int] = []
    count = animation.save(tmp_path / name, layers=tmp_path / "layers", progress=seen.append)
    assert count == 4
    assert seen == [1, 2, 3, 4]
    # A folder of frames does not know its rate.
    frames, fps = media.read_video(tmp_path / name, fps=10 if name == "out" else None)
    assert frames.shape == (4, 40, 56, 3)
    assert fps == 10
    ending = Path(name).suffix
    layers = sorted(path.name for path in (tmp_path / "layers").iterdir())
    assert layers == sorted(f"{layer}{ending}" for layer in LAYERS)
    for layer in (tmp_path / "layers").iterdir():
        assert len(media.read_video(layer)[0]) == 4
    if name in ("out.png", "out"):  # nothing is lost in these
        assert np.array_equal(frames, animation.frames())


def test_an_existing_file_is_kept_unless_told_otherwise(animator: Animator, tmp_path: Path) -> None:
    (tmp_path / "out.png").write_bytes(b"mine")
    animation = animator(STILL, Drive(VIDEO))
    refuses("already exists", animation.save, tmp_path / "out.png")
    assert (tmp_path / "out.png").read_bytes() == b"mine"
    assert animation.save(tmp_path / "out.png", overwrite=True) == 4


def test_a_layers_folder_that_is_a_file_is_told(animator: Animator, tmp_path: Path) -> None:
    (tmp_path / "layers").write_text("mine")
    with pytest.raises(StillmotionError, match="layers"):
        animator(STILL, Drive(VIDEO), layers=True).save(tmp_path / "out.png", layers=tmp_path / "layers")
    assert [path.name for path in tmp_path.iterdir()] == ["layers"]


def test_public_names_come_from_the_top() -> None:
    for name in stillmotion.__all__:
        assert getattr(stillmotion, name) is not None
    with pytest.raises(AttributeError, match="dance"):
        stillmotion.dance  # noqa: B018


@pytest.mark.parametrize(("times", "chosen"), [((10.0, 1.0), "bf16"), ((1.0, 10.0), "fp32")], ids=["bf16", "fp32"])
def test_auto_takes_what_is_faster_for_this_very_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: tuple[float, float], chosen: str
) -> None:
    tiny_driving().save_pretrained(tmp_path / "model")
    monkeypatch.setattr(
        "stillmotion.animate.own_times", lambda _system: dict(zip(("fp32", "bf16"), times, strict=True))
    )
    assert load(tmp_path / "model", precision="auto").system.precision == chosen


@pytest.mark.parametrize("make", [tiny_driving, tiny_strokes])
def test_own_times_animate_in_both_precisions_and_change_nothing(monkeypatch: pytest.MonkeyPatch, make: Any) -> None:
    system = make()
    seen, opened = [], type(system).open

    def watched(self: Any, *given: Any, **options: Any) -> Any:
        seen.append(self.precision)
        return opened(self, *given, **options)

    monkeypatch.setattr(type(system), "open", watched)
    times = own_times(system, frames=3)
    assert set(seen) == set(times) == {"fp32", "bf16"}
    assert min(times.values()) > 0
    assert system.precision == "fp32"
