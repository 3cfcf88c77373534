"""Cases of the protocol `pokes` of clips that know no motion: windows, and pokes simulated from their flow."""

import numpy as np
import pytest

from stillmotion.data.clip import Clip
from stillmotion.evaluation.protocols.poke_cases import LENGTH, as_poke, poke_cases, simulated_poke


def test_a_clip_that_knows_no_outcome_is_cut_into_windows() -> None:
    """A square rests for 15 frames and then goes on by a pixel a frame: two windows show too little."""
    texture = np.random.default_rng(0).integers(0, 255, (10, 10, 3))
    frames = np.full((115, 48, 160, 3), 90, np.uint8)
    for t, frame in enumerate(frames):
        frame[20:30, 20 + max(0, t - 15) :][:, :10] = texture
    cases = [as_poke(case) for case in poke_cases([Clip("walk", frames, 25.0)])]
    assert [case.name for case in cases] == [f"walk--{start}" for start in (30, 40, 60, 70, 90, 100)]
    for case in cases:
        start = int(case.name.rpartition("--")[2])
        assert np.array_equal(case.target, frames[start : start + LENGTH + 1])
        assert np.array_equal(case.clip.frames, case.target)
    assert cases[1].end[0] - cases[1].start[0] == pytest.approx(LENGTH, abs=1.5)


def test_simulated_pokes_start_where_much_moves() -> None:
    motion = np.zeros((32, 40, 2), np.float32)
    motion[0] = 9  # along the border, where flow is not trusted
    motion[10:13, 20:23] = (5, -1)
    rng = np.random.default_rng(0)
    for start, end in (simulated_poke(motion, rng) for _ in range(20)):
        assert 20 <= start[0] <= 22
        assert 10 <= start[1] <= 12
        assert (end - start).tolist() == [5, -1]
    start, end = simulated_poke(np.full((32, 40, 2), 2.0, np.float32), rng)  # nothing moves more than the mean
    assert (end - start).tolist() == [2, 2]
