"""The protocol `strokes` on clips of any origin: gaps, joints, LPIPS at every step, the table by gait."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from refusals import refuses
from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo
from stillmotion.data.shards import write_dataset
from stillmotion.evaluation.metrics.curves import CURVES
from stillmotion.evaluation.protocols.strokes import COLUMNS, PROTOCOL, StrokeCase, stroke_cases
from stillmotion.evaluation.report import evaluate_models


def test_a_stroke_with_gaps_and_no_box() -> None:
    """Points as of Push: none in frame 0; the object is the square of a quarter of the side around the first."""
    points = np.array([[np.nan, np.nan], [4.0, 20.0], [np.nan, np.nan], [8.0, 30.0]])
    frames = np.zeros((4, 32, 48, 3), np.uint8)
    own, long = stroke_cases([Clip("push", frames, 10.0, {"points": points})])
    assert isinstance(own, StrokeCase)
    assert own.stroke.tolist() == [[4, 20], [4, 20], [6, 25], [8, 30]]
    assert own.box.tolist() == [0, 16, 8, 24]
    assert isinstance(long, StrokeCase)
    assert long.stroke[:6].tolist() == [[4, 20], [4, 20], [6, 25], [8, 30], [6, 25], [4, 20]]


def test_a_stroke_of_joints() -> None:
    """The middle of the person's box: 50 tall, 9 % more above and 5 % below; nobody is sure in frame 1."""
    joints = np.zeros((3, 3, 3))
    joints[:, 0] = (10, 10, 1)
    joints[:, 1] = (30, 60, 1)
    joints[:, 2] = (-99, 500, 0)  # not there
    joints[2, :, 0] += 6
    joints[1, 0, 2] = 0
    own = stroke_cases([Clip("person", np.zeros((3, 64, 64, 3), np.uint8), 25.0, {"joints": joints})])[0]
    assert isinstance(own, StrokeCase)
    assert own.box.tolist() == pytest.approx([10, 5.5, 30, 62.5])
    assert own.stroke.tolist() == [pytest.approx(each) for each in ([20, 34], [23, 34], [26, 34])]


class Brightness:
    """One feature per frame: its mean brightness in [0, 1]."""

    description, dimension, per_video = "brightness", 1, False

    def __call__(self, frames: np.ndarray) -> Tensor:
        return torch.from_numpy(frames.mean((1, 2, 3)) / 255)[:, None].float()


def test_lpips_at_every_step_is_the_squared_distance_of_features() -> None:
    curve = CURVES["LPIPS"]()
    for values in ([0.0, 0.3, 0.5], [0.0, 0.1, 0.5]):
        curve.update(torch.tensor(values)[:, None], torch.zeros(3, 1))
    assert curve.compute().tolist() == pytest.approx([0, 0.05, 0.25])
    refuses("must both be T x D", curve.update, torch.zeros(3, 1), torch.zeros(2, 1), error=ValueError)


def test_a_report_of_a_clip_that_brightens(tmp_path: Path) -> None:
    """51 grey levels brighter at each of three steps: copying the still is off by 0.2, 0.4 and 0.6."""
    frames = np.repeat(51 * np.arange(4, dtype=np.uint8), 32 * 32 * 3).reshape(4, 32, 32, 3)
    clip = Clip("dawn", frames, 10.0, {"points": np.full((4, 2), 16.0)}, {"split": "test"})
    write_dataset(tmp_path / "data", [clip], info=DatasetInfo(title="dawn"))
    evaluate_models([], tmp_path / "data", "strokes", tmp_path / "without")
    assert "LPIPS" not in (tmp_path / "without" / "curves.csv").read_text()
    evaluate_models([], tmp_path / "data", "strokes", tmp_path / "with", extractors={"lpips": Brightness()})
    lines = (tmp_path / "with" / "curves.csv").read_text().splitlines()
    found = [float(line.rsplit(",", 1)[1]) for line in lines if line.startswith("LPIPS,baseline: copy the still")]
    assert found == pytest.approx([0, 0.04, 0.16, 0.36], abs=1e-4)
    assert (tmp_path / "with" / "curve-lpips.png").is_file()


@pytest.mark.parametrize(("action", "gait"), [("walk", "walking"), ("walking", "walking"), ("jog", "jogging")])
def test_table_1_has_a_block_for_each_gait(action: str, gait: str) -> None:
    frames = np.zeros((4, 32, 32, 3), np.uint8)
    clip = Clip("one", frames, 25.0, {"points": np.full((4, 2), 16.0)}, {"action": action})
    own, long = stroke_cases([clip])
    names = {column.name for column in COLUMNS if column.name.startswith("joint motion, ") and column.applies(own)}
    assert names == {f"joint motion, mean ({gait})", f"joint motion, deviation ({gait})"}
    assert gait in PROTOCOL.blocks
    assert not any(column.applies(long) for column in COLUMNS if column.name in names)
