"""The protocols of transfer: which pairs they take, and how they drive."""

from pathlib import Path

import numpy as np
import pytest

from driving_tools import driving_frames, still_picture, tiny_driving
from refusals import refuses
from stillmotion.animate import Animator
from stillmotion.data.clip import Clip
from stillmotion.evaluation.protocols import PROTOCOLS, find_protocol
from stillmotion.evaluation.protocols.columns import Case
from stillmotion.evaluation.report import chosen_cases


def test_transfer_takes_the_pairs_of_a_list(tmp_path: Path) -> None:
    """As Monkey-Net writes them: file names, and a column more; in the list's order, the same clip may come again."""
    clips = [Clip(name, driving_frames(2) + number, 25.0) for number, name in enumerate(("a", "b", "c"))]
    path = tmp_path / "pairs.csv"
    path.write_text("distance,source,driving\n0.1,c.png,a.png\n0.2,wave/b.mp4,c\n0.3,videos/a.mp4,a\n")
    cases = chosen_cases(PROTOCOLS["transfer-absolute"], clips, path)
    assert [found.name for found in cases] == ["c--a", "b--c", "a--a"]
    assert np.array_equal(cases[1].still, clips[1].frames[0])
    assert np.array_equal(cases[1].target, clips[2].frames)
    refuses("names 'd.png', and no clip", chosen_cases, PROTOCOLS["transfer"], clips, listing(tmp_path, "d.png,a"))
    refuses("cannot be read", chosen_cases, PROTOCOLS["transfer"], clips, tmp_path / "none.csv")
    refuses("has no pairs", chosen_cases, PROTOCOLS["reconstruction"], clips, path)
    path.write_text("still,driving\na,b\n")
    refuses("among them source and driving", chosen_cases, PROTOCOLS["transfer"], clips, path)


def listing(folder: Path, line: str) -> Path:
    path = folder / "list.csv"
    path.write_text(f"source,driving\n{line}\n")
    return path


@pytest.mark.parametrize(("protocol", "transfer"), [("transfer", "relative"), ("transfer-absolute", "absolute")])
def test_transfer_drives_as_its_name_says(protocol: str, transfer: str) -> None:
    """The still is the case's, the video its target, and the model's own kind of transfer does not matter."""
    system, seen = tiny_driving(transfer="absolute" if transfer == "relative" else "relative"), []
    frames = driving_frames(2)
    given = Case("a", still_picture(), frames, Clip("a", frames, 25.0))

    class Watched(Animator):
        def __call__(self, still, control, *rest, **options):  # type: ignore[no-untyped-def, override]
            seen.append((still, control))
            return super().__call__(still, control, *rest, **options)

    find_protocol(protocol).predictor(Watched(system))(given, 0)
    ((still, control),) = seen
    assert still is given.still
    assert (control.transfer, control.video is given.target) == (transfer, True)
