"""Roll-outs of driving: steering, resting, the end, what stays open, and memory."""

import gc
import re
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

import stillmotion
from driving_tools import (
    DRIVER,
    STILL,
    VIDEO,
    driving_frames,
    own_means,
    seeing,
    spot,
    system,
    tiny_driving,
)  # fmt: skip
from stillmotion import media
from stillmotion.animate import Animator
from stillmotion.errors import StillmotionError
from stillmotion.keypoints.networks import Keypoints
from stillmotion.rendering.fields import STATIC
from stillmotion.systems.driving import Drive, Predict
from stillmotion.systems.driving.transfer import BATCH

# Untrained networks find bodies of any size.
pytestmark = pytest.mark.filterwarnings("ignore:The body in the still")

README = Path(stillmotion.__file__).parent / "systems" / "driving" / "README.md"
SMALL_VIDEO = driving_frames(20)
PICTURE = np.random.default_rng(1).integers(0, 256, (50, 40, 3), dtype=np.uint8)
PREDICTOR = {"predictor": {"hidden": 8}}


def means(steps: Any) -> np.ndarray:
    return np.stack([step.facts["mean"] for step in steps])


def frames_of(rollout: Any, count: int) -> np.ndarray:
    return np.stack([next(rollout).frame for _ in range(count)])


# --- steering ------------------------------------------------------------------------------------------------------
def test_without_a_control_the_still_rests() -> None:
    driving = tiny_driving()
    with torch.no_grad():
        driving.networks.generator.fields.shares.bias[STATIC] = 20.0  # the unmoved still has all of the blend
    rollout = Animator(driving).open(PICTURE)
    assert rollout.done
    steps = [next(rollout) for _ in range(3)]
    assert rollout.done
    assert rollout.fps == 25
    for step in steps:
        assert np.array_equal(step.frame, PICTURE)
        assert np.allclose(step.facts["mean"], own_means(driving, PICTURE), atol=1e-5)
        assert np.array_equal(step.facts["mean"], steps[0].facts["mean"])
        assert not {"reference", "crop"} & step.facts.keys()


@pytest.mark.parametrize("size", ["native", "model"])
def test_frames_sent_one_by_one_give_the_frames_of_the_whole_video(
    size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driving = tiny_driving()

    def both() -> tuple[np.ndarray, np.ndarray]:
        whole = driving.animate(PICTURE, Drive(SMALL_VIDEO), size=size).frames()
        rollout, sent = driving.open(PICTURE, size=size), []
        for frame in SMALL_VIDEO:
            rollout.send(Drive(frame[None]))
            assert not rollout.done
            sent.append(next(rollout).frame)
            assert rollout.done
        return whole, np.stack(sent)

    whole, sent = both()
    assert np.abs(whole.astype(int) - sent).max() <= 1  # a batch of 16 rounds otherwise than one frame
    assert np.abs(np.diff(whole.astype(int), axis=0)).max() > 20  # it moves
    monkeypatch.setattr("stillmotion.systems.driving.transfer.BATCH", 1)
    assert np.array_equal(*both())


def test_after_the_end_the_last_pose_is_held() -> None:
    driving = system()
    rollout = driving.open(STILL, Drive(VIDEO), size="model")
    steps = []
    while not rollout.done:
        steps.append(next(rollout))
    assert len(steps) == len(VIDEO)
    held = [next(rollout) for _ in range(BATCH + 2)]
    assert (means(held) == steps[-1].facts["mean"]).all()
    assert all(np.abs(step.frame.astype(int) - steps[-1].frame).max() <= 1 for step in held)


def test_steering_changes_later_frames_only() -> None:
    """Whatever has been prepared of the old direction is dropped; motion counts from the first driving frame."""
    driving = tiny_driving()
    other = SMALL_VIDEO[::-1][:6]
    plain = driving.animate(PICTURE, Drive(SMALL_VIDEO)).frames()
    rollout = driving.open(PICTURE, Drive(SMALL_VIDEO))
    before = frames_of(rollout, 4)
    rollout.send(Drive(other, fps=10))
    assert rollout.fps == 10
    after = frames_of(rollout, 6)
    assert rollout.done
    assert np.array_equal(before, plain[:4])
    assert np.abs(after.astype(int) - plain[4:10]).max() > 5
    joined = driving.animate(PICTURE, Drive(np.concatenate([SMALL_VIDEO[:1], other]))).frames()[1:]
    assert np.abs(after.astype(int) - joined).max() <= 1


def test_what_cannot_be_sent_is_refused_and_the_rollout_goes_on() -> None:
    driving = tiny_driving()
    plain = driving.animate(PICTURE, Drive(SMALL_VIDEO, crop=(2, 3, 30, 40)), size="model").frames()
    rollout = driving.open(PICTURE, Drive(SMALL_VIDEO, crop=(2, 3, 30, 40)), size="model")
    seen = [next(rollout).frame]
    for control, words in (
        ("wave.mp4", "directed by Drive or Predict, not by str"),
        (Predict(), "no keypoint predictor"),
        (Drive(SMALL_VIDEO, crop=(0, 0, 30, 40)), "crop cannot change while an animation runs"),
        (Drive(SMALL_VIDEO, crop="auto"), "crop cannot change"),
    ):
        with pytest.raises(StillmotionError, match=words):
            rollout.send(control)  # type: ignore[arg-type]
        seen.append(next(rollout).frame)
    assert np.array_equal(seen, plain[:5])
    for crop in (None, (2, 3, 30, 40)):  # no crop, and the same one, keep the one that is taken
        rollout.send(Drive(SMALL_VIDEO[:1], crop=crop))
        assert next(rollout).frame.shape == (32, 32, 3)


def test_an_automatic_crop_may_be_sent_with_every_frame() -> None:
    driving = seeing()
    rollout = driving.open(spot((120, 200), 110, 60, 18))
    crops = []
    for frame in DRIVER:
        rollout.send(Drive(frame[None], crop="auto"))
        crops.append(next(rollout).facts["crop"].tolist())
    assert crops[0] == crops[1]
    assert crops[0][2] < 70


def test_a_prediction_goes_on_from_the_pose_that_was_shown_last() -> None:
    driving = tiny_driving(**PREDICTOR)
    rollout = driving.open(PICTURE, Drive(SMALL_VIDEO), size="model")
    shown = [next(rollout) for _ in range(3)][-1].facts  # the batch holds 16
    rollout.send(Predict(frames=5, fps=7))
    assert rollout.fps == 7
    steps = []
    while not rollout.done:
        steps.append(next(rollout))
    first = Keypoints(*(torch.from_numpy(shown[name])[None] for name in ("mean", "covariance")))
    assert driving.networks.predictor is not None
    with torch.no_grad():
        predicted = driving.networks.predictor(first, 5)
    assert len(steps) == 5
    assert np.allclose(means(steps), predicted.mean[0], atol=1e-5)
    assert np.ptp(means(steps), axis=0).max() > 1e-3


def test_a_rollout_says_how_long_it_is_and_what_is_heard(tmp_path: Path) -> None:
    driving = tiny_driving()
    rollout = driving.open(PICTURE, Drive(SMALL_VIDEO[:5]), size="model")
    assert rollout.length == 5
    next(rollout)
    next(rollout)
    rollout.send(Drive(SMALL_VIDEO[:4]))
    assert rollout.length == 6
    assert sum(1 for _ in iter(lambda: rollout.done or next(rollout), True)) == 4
    assert driving.open(PICTURE, Drive(SMALL_VIDEO[:5]), frames=2).length == 2
    assert driving.open(PICTURE).length is None


def test_the_sound_begins_with_the_first_frame_that_shows_something(tmp_path: Path) -> None:
    black = np.zeros((3, *SMALL_VIDEO.shape[1:]), np.uint8)
    video = np.concatenate([black, SMALL_VIDEO[:4]])
    with av.open(tmp_path / "talk.mkv", "w") as output:
        pictures, sound = output.add_stream("libx264", rate=20), output.add_stream("pcm_s16le", rate=8000)
        pictures.height, pictures.width, pictures.pix_fmt = *video.shape[1:3], "yuv420p"
        sound.layout = "mono"
        for frame in video:
            output.mux(pictures.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(pictures.encode(None))
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 2800), np.int16), format="s16", layout="mono")
        samples.rate = 8000
        output.mux(sound.encode(samples))
        output.mux(sound.encode(None))
    for align, start, passed in (("first", 0.0, 3), ("best", 0.0, 0), ("first", 0.1, 1), ("first", 0.2, 0)):
        control = Drive(tmp_path / "talk.mkv", align=align, start=start)  # type: ignore[arg-type]
        rollout = tiny_driving().open(PICTURE, control, size="model")
        assert rollout.sound is not None
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            next(rollout)
        assert ["passed over" in str(each.message) for each in told].count(True) == (passed > 0)
        assert rollout.sound.start == pytest.approx(start + passed / 20, abs=1e-3)
        assert rollout.length == 7 - round(20 * start) - passed
        rollout.send(Drive(SMALL_VIDEO))  # heard only from the first step on
        assert rollout.sound is None
    absolute = tiny_driving().open(PICTURE, Drive(tmp_path / "talk.mkv", transfer="absolute"), size="model")
    assert len(list(iter(lambda: None if absolute.done else next(absolute), None))) == 7


# --- what is open, and memory --------------------------------------------------------------------------------------
open_driver = media.open_driver


class CountedVideo:
    """A long video as `media.open_driver` gives it; counts its openings, closings and the frames that are alive."""

    def __init__(self, frames: int):
        self.frames, self.fps, self.length, self.sound = frames, 25.0, frames, None
        self.alive = self.opened = self.closed = 0

    def _gone(self) -> None:
        self.alive -= 1

    def __call__(self, video: str | np.ndarray, *options: object) -> "media.VideoReader | CountedVideo":
        if isinstance(video, np.ndarray):
            return open_driver(video)
        self.opened += 1
        return self

    def close(self) -> None:
        self.closed += 1

    def __iter__(self) -> Iterator[np.ndarray]:
        for t in range(self.frames):
            frame = np.roll(SMALL_VIDEO[0], t, axis=1)
            self.alive += 1
            weakref.finalize(frame, self._gone)
            yield frame
            del frame


@pytest.fixture
def video(monkeypatch: pytest.MonkeyPatch) -> "CountedVideo":
    counted = CountedVideo(40)
    monkeypatch.setattr(media, "open_driver", counted)
    return counted


def test_a_video_is_opened_once_and_closed_at_the_end_or_early(video: CountedVideo) -> None:
    driving = tiny_driving()
    animation = driving.animate(PICTURE, Drive("long.mp4"), size="model")
    assert (video.opened, video.closed) == (1, 0)  # what is wrong with a video shows at the call
    assert len(list(animation)) == 40
    assert (video.opened, video.closed) == (1, 1)
    for step in animation:  # again, and left early
        assert step.frame.shape == (32, 32, 3)
        break
    del step
    gc.collect()
    assert (video.opened, video.closed) == (2, 2)
    with driving.open(PICTURE, Drive("long.mp4"), size="model") as rollout:
        next(rollout)
        rollout.send(Drive("other.mp4"))
        next(rollout)
        assert (video.opened, video.closed) == (4, 3)
    assert (video.opened, video.closed) == (4, 4)
    assert video.alive == 0
    shown = next(rollout)  # a closed roll-out rests where it was
    assert np.array_equal(next(rollout).frame, shown.frame)


def test_a_rollout_that_is_closed_before_its_first_step_rests(video: CountedVideo) -> None:
    rollout = tiny_driving().open(PICTURE, Drive("long.mp4"), size="model")
    rollout.close()
    assert rollout.done
    assert np.array_equal(next(rollout).frame, next(rollout).frame)


def tensors_alive() -> int:
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


@pytest.mark.parametrize("align", ["first", "best"])
def test_memory_does_not_grow_with_the_drivers_length(align: str, video: CountedVideo, monkeypatch):
    """Counts frames and tensors whenever keypoints are detected."""
    for bound in ("BATCH", "MOST_AHEAD"):
        monkeypatch.setattr(f"stillmotion.systems.driving.transfer.{bound}", 2)
    driving, most = tiny_driving(), 0

    def count(*_: object) -> None:
        nonlocal most
        most = max(most, tensors_alive() + video.alive)

    def most_alive(length: int) -> int:
        nonlocal most
        gc.collect()  # what earlier tests left must not go while it is counted
        video.frames, most = length, 0
        steps = driving.animate(PICTURE, Drive("long.mp4", align=align), size="model")  # type: ignore[arg-type]
        assert sum(1 for _ in steps) == length
        return most

    driving.networks.detector.register_forward_hook(count)
    assert most_alive(6) == most_alive(30)


@pytest.mark.slow
def test_memory_stays_over_two_thousand_steps(video: CountedVideo) -> None:
    def alive() -> tuple[int, int]:
        gc.collect()
        return tensors_alive(), video.alive

    video.frames = 1_800
    rollout = tiny_driving().open(PICTURE, Drive("long.mp4"), size="model")
    for _ in range(4 * BATCH):
        next(rollout)
    before = alive()
    for _ in range(2_000 - 8 * BATCH):  # beyond the end of the video
        next(rollout)
    for frame in np.tile(SMALL_VIDEO[:BATCH], (4, 1, 1, 1)):
        rollout.send(Drive(frame[None]))
        next(rollout)
    rollout.send(Drive("long.mp4"))
    for _ in range(4 * BATCH):
        next(rollout)
    tensors, frames = alive()
    assert tensors <= before[0] + 2
    assert frames <= before[1] + 1


def test_the_readmes_loop_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (loop,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    media.write_picture(tmp_path / "me.png", PICTURE)
    monkeypatch.chdir(tmp_path)
    shown: list[np.ndarray] = []
    exec(compile(loop, "README.md", "exec"), {"camera": SMALL_VIDEO[:3], "show": shown.append})
    assert np.stack(shown).shape == (3, 64, 64, 3)
