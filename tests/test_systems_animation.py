"""What wraps a roll-out: an animation that can be repeated, left early and saved."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driving_tools import still_picture, tiny_driving
from refusals import refuses
from stillmotion import media
from stillmotion.errors import StillmotionError
from stillmotion.systems.base import Animation, Output, Rollout, Step
from stillmotion.systems.driving import Drive
from stillmotion.systems.driving.animating import Driving
from stillmotion.systems.driving.transfer import in_batches


class Counting(Rollout):
    """Frames that count up to three; remembers whether it was closed."""

    fps = 10.0

    def __init__(self) -> None:
        self.made, self.closed = 0, False

    def __next__(self) -> Step:
        self.made += 1
        return Step(np.full((2, 2, 3), self.made, np.uint8), {"layer": np.full((4, 4, 3), self.made, np.uint8)})

    def send(self, control: Any) -> None:
        raise NotImplementedError

    @property
    def done(self) -> bool:
        return self.made >= 3

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def opened() -> list[Counting]:
    return []


@pytest.fixture
def animation(opened: list[Counting]) -> Animation:
    def open_rollout() -> Counting:
        opened.append(Counting())
        return opened[-1]

    return Animation(open_rollout)


def test_an_animation_can_be_looked_at_twice(animation: Animation, opened: list[Counting]) -> None:
    assert animation.fps == 10
    assert [rollout.made for rollout in opened] == [0]  # opened at once, and nothing is made before somebody looks
    assert [step.frame[0, 0, 0] for step in animation] == [1, 2, 3]
    assert animation.frames().shape == (3, 2, 2, 3)
    assert [rollout.made for rollout in opened] == [3, 3]
    assert all(rollout.closed for rollout in opened)


def test_two_at_a_time_do_not_share_a_rollout(animation: Animation, opened: list[Counting]) -> None:
    assert [(a.frame[0, 0, 0], b.frame[0, 0, 0]) for a, b in zip(animation, animation, strict=True)] == [
        (1, 1), (2, 2), (3, 3)
    ]  # fmt: skip
    assert len(opened) == 2


def test_an_animation_that_is_left_early_is_closed(animation: Animation, opened: list[Counting]) -> None:
    steps = iter(animation)
    next(steps)
    assert not opened[0].closed
    steps.close()  # type: ignore[attr-defined]
    assert opened[0].closed
    assert opened[0].made == 1


def test_what_is_wrong_shows_at_the_call() -> None:
    def open_rollout() -> Rollout:
        raise StillmotionError("the video is missing.")

    refuses("missing", Animation, open_rollout)


@pytest.mark.parametrize("name", ["out.mp4", "out"])
def test_a_failure_on_the_way_leaves_nothing_behind_and_closes(tmp_path: Path, name: str) -> None:
    class Breaking(Counting):
        def __next__(self) -> Step:
            if self.made == 1:
                raise StillmotionError("the driving video is damaged.")
            return super().__next__()

    rollout = Breaking()
    with pytest.raises(StillmotionError, match="damaged"):
        Animation(lambda: rollout).save(tmp_path / name, layers=tmp_path / "layers")
    assert list(tmp_path.rglob("*.*")) == []
    assert rollout.closed


def test_saving_writes_frames_and_layers(animation: Animation, tmp_path: Path) -> None:
    seen: list[int] = []
    assert animation.save(tmp_path / "out.png", layers=tmp_path / "layers", progress=seen.append) == 3
    assert seen == [1, 2, 3]
    assert [path.name for path in (tmp_path / "layers").iterdir()] == ["layer.png"]
    assert media.read_video(tmp_path / "out.png")[0][:, 0, 0, 0].tolist() == [1, 2, 3]


def test_a_rollout_is_told_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Output] = []
    monkeypatch.setattr(Driving, "rollout", lambda self, still, control, output: seen.append(output))
    driving, still = tiny_driving(), still_picture()
    driving.open(still)
    driving.open(still, None, frames=3, seed=4, size="model", layers=True, mask="m.png", plate="none")
    assert seen == [Output(None, None, True, False), Output(3, 4, False, True, "m.png", "none")]
    refuses("frames must be at least 1, not 0", driving.open, still, frames=0)
    for size in ("large", 1, 9000, 64.0, True, "-4"):
        refuses(f"size must be native, model or 2 to 8192 pixels, not {size!r}", driving.open, still, size=size)
    assert len(seen) == 2


def test_batches_take_no_more_than_they_give() -> None:
    items = iter(range(7))
    batches = in_batches(items, 3)
    assert next(batches) == [0, 1, 2]
    assert next(items) == 3
    assert list(batches) == [[4, 5, 6]]
    assert list(in_batches(iter(()), 3)) == []


@pytest.mark.parametrize(
    ("given", "asked", "expected"),
    [((40, 56), 28, (20, 28)), ((56, 40), 29, (28, 20)), ((33, 64), 128, (66, 128)), ((2, 64), 8, (2, 8))],
)
def test_a_size_in_pixels_is_that_of_the_longer_side(
    given: tuple[int, int], asked: int, expected: tuple[int, int]
) -> None:
    driving, still = tiny_driving(), still_picture(given)
    control = Drive(np.stack([still_picture((16, 16))] * 3))
    (native, *_), (resized, *_) = driving.animate(still, control), driving.animate(still, control, size=asked)
    assert resized.frame.shape == (*expected, 3)
    assert np.array_equal(resized.frame, media.resize(native.frame, expected))
    rollout = driving.open(still, control, size=str(asked))
    assert (rollout.fps, rollout.length, rollout.done) == (25, 3, False)
    assert next(rollout).frame.shape == (*expected, 3)


def test_a_saved_animation_has_the_sound_of_its_latest_rollout(tmp_path: Path) -> None:
    """Which may be known only once the first step is made."""

    class Heard(Counting):
        def __next__(self) -> Step:
            self.sound = media.Sound(Path("talk.mp4"), 2.0)
            return super().__next__()

    asked: list[Any] = []
    animation = Animation(Heard)

    class Writer:
        count = 0

        def __init__(self, *_: Any, sound: Any, **__: Any) -> None:
            self.sound = sound

        def write(self, _: Any) -> None:
            asked.append(self.sound and self.sound())

        def __enter__(self) -> "Writer":
            return self

        def __exit__(self, *_: object) -> None: ...

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(media, "open_writer", Writer)
        animation.save(tmp_path / "a.mp4")
        animation.save(tmp_path / "b.mp4", sound=False)
    assert asked == [media.Sound(Path("talk.mp4"), 2.0)] * 3 + [None] * 3
