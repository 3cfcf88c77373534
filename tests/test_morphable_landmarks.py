"""Landmarks of faces: MediaPipe's answers in iBUG's order, and files."""

import builtins
import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from refusals import refused
from stillmotion.morphable import landmarks

Answer = np.ndarray | None


class Mesh:
    """Answers with prepared points, 468 x 2 as shares of the picture, and remembers what it was shown."""

    def __init__(self, answers: Sequence[Answer]):
        self.answers, self.shown = list(answers), []

    def process(self, picture: np.ndarray) -> SimpleNamespace:
        self.shown.append(picture)
        answer = self.answers[len(self.shown) - 1]
        if answer is None:
            return SimpleNamespace(multi_face_landmarks=None)
        points = [SimpleNamespace(x=x, y=y) for x, y in answer]
        return SimpleNamespace(multi_face_landmarks=[SimpleNamespace(landmark=points)])


@pytest.fixture
def mesh(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(*answers: Answer) -> Mesh:
        made = Mesh(answers)

        @contextlib.contextmanager
        def detector(tracking: bool) -> Iterator[Mesh]:
            made.tracking = tracking  # type: ignore[attr-defined]
            yield made

        monkeypatch.setattr(landmarks, "_detector", detector)
        return made

    return use


def frames(count: int = 1) -> np.ndarray:
    return np.zeros((count, 40, 80, 3), np.uint8)


def test_places_are_in_the_frames_own_pixels(mesh: Any) -> None:
    """The shown picture has 20 pixels more on all sides: 80 x 120; its middle is that of the frame."""
    made = mesh(np.full((468, 2), 0.5), np.zeros((468, 2)))
    found = landmarks.find_landmarks(frames(2))
    assert found.shape == (2, 68, 2)
    assert (found[0] == [39.5, 19.5]).all()
    assert (found[1] == [-20.5, -20.5]).all()
    assert made.tracking
    assert made.shown[0].shape[1] == 448


def test_points_of_the_mesh_in_the_order_of_ibug(mesh: Any) -> None:
    """Points are named by x: number / 1000; the chin is 152, the outer corners of the eyes 33 and 263."""
    points = np.zeros((468, 2))
    points[:, 0] = np.arange(468) / 1000
    mesh(points)
    number = (landmarks.find_landmarks(frames()[0])[0, :, 0] + 20.5) / 120 * 1000
    assert number[[8, 30, 36, 45, 48, 54, 62, 66]] == pytest.approx([152, 4, 33, 263, 61, 291, 13, 14], abs=0.01)
    assert number[3] == pytest.approx((132 + 58) / 2, abs=0.01)


def test_gaps_are_filled_and_one_picture_is_not_tracked(mesh: Any) -> None:
    made = mesh(np.zeros((468, 2)), None, np.full((468, 2), 0.5), None)
    found = landmarks.find_landmarks(frames(4), tracking=False)
    assert (found[1] == (found[0] + found[2]) / 2).all()
    assert (found[3] == found[2]).all()
    assert not made.tracking
    made = mesh(np.zeros((468, 2)))
    landmarks.find_landmarks(frames())
    assert not made.tracking


def test_no_face_is_a_sentence(mesh: Any) -> None:
    mesh(None, None)
    assert "No face is found" in refused(landmarks.find_landmarks, frames(2))


def test_without_mediapipe_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("mediapipe"):
            raise ImportError(name)
        return imported(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "make pose" in refused(landmarks.find_landmarks, frames())


def test_landmarks_from_files(tmp_path: Path) -> None:
    points = np.random.default_rng(0).random((2, 68, 2)) * 50
    np.save(tmp_path / "a.npy", points)
    (tmp_path / "b.json").write_text(json.dumps(points[0].tolist()))
    assert np.allclose(landmarks.read_landmarks(tmp_path / "a.npy"), points)
    assert np.allclose(landmarks.read_landmarks(tmp_path / "b.json"), points[:1])


def test_files_that_are_no_landmarks_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"not numpy")
    (tmp_path / "b.json").write_text('[["x", 1]]')
    (tmp_path / "c.json").write_text("[[1, 2], [3]]")
    np.save(tmp_path / "d.npy", np.full((68, 2), np.nan))
    np.save(tmp_path / "e.npy", np.zeros((5, 2)))
    for name, words in {"a.npy": "readable", "b.json": "68", "c.json": "68", "d.npy": "NaN", "e.npy": "68"}.items():
        message = refused(landmarks.read_landmarks, tmp_path / name)
        assert words in message
        assert name in message
    assert "does not exist" in refused(landmarks.read_landmarks, tmp_path / "none.json")
