"""The protocol `prediction`: what is predicted from one frame, and beside what."""

from pathlib import Path

import numpy as np
import pytest

from driving_tools import at, driving_frames, tiny_driving
from refusals import refuses
from stillmotion.animate import Animator
from stillmotion.data.clip import Clip
from stillmotion.evaluation.protocols import PROTOCOLS, find_protocol
from stillmotion.evaluation.protocols.base import copy_still
from stillmotion.evaluation.protocols.columns import Case, FeatureCache
from stillmotion.evaluation.report import evaluate_models, measured_columns
from stillmotion.systems.driving import Predict

PROTOCOL = find_protocol("prediction")


def test_of_a_long_clip_32_frames_are_predicted_from_the_first() -> None:
    frames = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((8, 8, 3), np.uint8)
    long, short = PROTOCOL.cases([Clip("long", frames, 25.0), Clip("short", frames[5:15], 10.0)])
    assert (long.still.max(), len(long.target), long.target[-1].max()) == (0, 32, 31)
    assert (short.still.min(), len(short.target)) == (5, 10)


def test_the_model_is_given_no_more_than_the_still() -> None:
    """Two targets of one still: the same frames, as many as asked for, and nothing of the target in the control."""
    system, seen = tiny_driving(**{"predictor.hidden": 8, **at("keypoints", heatmap_scale=7.0)}), []

    class Watched(Animator):
        def __call__(self, still, control, *rest, **options):  # type: ignore[no-untyped-def, override]
            seen.append(control)
            return super().__call__(still, control, *rest, **options)

    predict, frames = PROTOCOL.predictor(Watched(system)), driving_frames(5)
    cases = [Case("a", frames[0], target, Clip("a", target, 10.0)) for target in (frames, 255 - frames)]
    made = [predict(case, 0) for case in cases]
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0][4], made[0][0])
    assert seen == [Predict(frames=5, fps=10.0)] * 2


def test_a_model_without_a_predictor_is_refused_before_any_work() -> None:
    refuses("no keypoint predictor", PROTOCOL.predictor, Animator(tiny_driving()))


def test_table_3_has_fid_aed_and_mkr_beside_copying() -> None:
    class Any2:
        description, dimension, per_video = "", 2, False

    names = ("inception", "identity", "keypoints")
    found = [column.name for column in measured_columns(PROTOCOL, FeatureCache(dict.fromkeys(names, Any2())))]
    assert found[:5] == ["FID", "AED", "AED (squared)", "AED (mean absolute)", "MKR"]
    assert next(iter(PROTOCOL.baselines.values())) is copy_still
    assert PROTOCOLS["prediction"].controls == ("Predict",)


@pytest.mark.slow
def test_a_report_without_networks(tmp_path: Path) -> None:
    from stillmotion.data.info import DatasetInfo
    from stillmotion.data.shards import write_dataset

    clip = Clip("one", driving_frames(4), 25.0, meta={"split": "test"})
    write_dataset(tmp_path / "data", [clip], info=DatasetInfo(title="one"))
    text = evaluate_models([], tmp_path / "data", "prediction", tmp_path / "report")
    assert "baseline: copy the still" in text
    assert "Not measured: FID (needs Inception v3" in text
