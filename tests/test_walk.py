"""How many source files run between the typed command and the written frame: what a reader has to open.

Seven of them are the renderer, which who reads a system need not open; three of driving are shared; five read the
video.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import stillmotion
from stillmotion import cli

SOURCE = Path(stillmotion.__file__).parent
EXAMPLES = Path(__file__).parents[1] / "examples"


def files_that_run(work: Callable[[], Any]) -> set[str]:
    """The package's files of which a function is called; importing a module does not count."""
    found = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and frame.f_code.co_name != "<module>" and SOURCE in path.parents:
            found.add(path.relative_to(SOURCE).as_posix())

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return found


@pytest.mark.parametrize(
    ("model", "still", "control", "most"),
    [
        ("driving-puppets", "stills/wave2.png", ["--drive", "drives/wave2.mp4"], 28),
        ("strokes-puppets", "strokes/puppets.png", ["--stroke", "strokes/puppets-fast.json"], 25),
    ],
)
def test_the_walk_from_a_still_to_a_frame_is_short(
    model: str, still: str, control: list[str], most: int, tmp_path: Path
) -> None:
    option, file = control
    command = [
        "animate",
        str(EXAMPLES / still),
        "--model",
        model,
        option,
        str(EXAMPLES / file),
        "--frames",
        "4",
        "-o",
    ]
    assert cli.main([*command, str(tmp_path / "first.mp4")]) == 0  # imports what is needed
    files = files_that_run(lambda: cli.main([*command, str(tmp_path / "out.mp4")]))
    assert "systems/base.py" in files
    assert len(files) <= most, sorted(files)
