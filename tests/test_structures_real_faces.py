"""What the shipped model of made faces does with real ones, as far as landmarks found in its frames tell."""

import os
from pathlib import Path

import numpy as np
import pytest

import stillmotion
from stillmotion import media
from stillmotion.morphable.landmarks import find_landmarks

DATA = Path(os.environ.get("STILLMOTION_DATA") or Path(__file__).parents[2] / "shared" / "data")
CLIP = DATA / "grid_faces" / "GRID_lwbsza.mpg"


def shape(frame: np.ndarray) -> dict[str, float]:
    """How open and wide the mouth is, and how far the brows are from the eyes, in parts of the face's height."""
    marks = find_landmarks(frame)[0]

    def between(a: int, b: int) -> float:
        return float(np.linalg.norm(marks[a] - marks[b]) / np.linalg.norm(marks[27] - marks[8]))

    return {"open": between(62, 66), "wide": between(48, 54), "brows": between(19, 37) + between(24, 44)}


@pytest.mark.slow
@pytest.mark.skipif(not CLIP.is_file(), reason="the GRID faces are not here")
def test_a_real_face_shows_what_it_is_told_to() -> None:
    """Found in the frames by mediapipe, which made the still's landmarks too. A person never trained on."""
    pytest.importorskip("mediapipe")
    still = media.read_video(CLIP)[0][0]
    animator, shown = stillmotion.load("structures-faces"), {}
    for name in ("surprise", "happiness", "anger"):
        frames = animator(still, stillmotion.Express(name)).frames()
        assert np.array_equal(frames[0][:40], still[:40])  # above the head nothing changes
        shown[name] = shape(frames[24])
    rest = shape(still)
    assert shown["surprise"]["open"] > rest["open"] + 0.05
    assert shown["surprise"]["brows"] > rest["brows"] + 0.03
    assert shown["happiness"]["wide"] > rest["wide"] + 0.03
    assert shown["anger"]["brows"] < rest["brows"] - 0.01
