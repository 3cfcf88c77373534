"""What the stages learn from: handles and truth, background pokes, estimated motion, what is left out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pokes_state_tools import changed
from pokes_tools import TINY_FIELDS, poked_clip
from refusals import refused
from stillmotion import geometry
from stillmotion.data.augment import AugmentParams
from stillmotion.data.clip import Clip
from stillmotion.data.examples import moving_square
from stillmotion.data.flow import displacement_of, find_flow
from stillmotion.rendering.fields import STATIC
from stillmotion.systems.pokes.config import PokesConfig
from stillmotion.systems.pokes.data import (
    SLOTS,
    SWING,
    MomentDataset,
    PokeDataset,
    background_moves,
    estimated,
    farthest_move,
    moving_clips,
    release_frame,
    swing_targets,
    world_moves,
)
from stillmotion.systems.pokes.handles import sample_at
from stillmotion.worlds import sample_clip

PLAIN = AugmentParams((32, 32), (32, 32))
NO_BACKGROUND = changed(TINY_FIELDS, poke__background=0.0, fields__span=8)


def plant(index: int = 1, action: str = "drag") -> Clip:
    return sample_clip("plants", 3, index, size=64, frames=16, action=action)


@pytest.mark.parametrize("augmentation", ["none", "varied"])
def test_handles_agree_with_the_motion_of_the_pixels_there(augmentation: str) -> None:
    """The backward displacement where a handle is leads back to where it was, also after an augmentation."""
    config = changed(
        NO_BACKGROUND, size=64, encoder__bottleneck=16, clip__augmentation=augmentation, fields__moments=2
    )
    dataset, errors = MomentDataset([plant(i) for i in (1, 2, 5)], config, 0), []
    for number in range(12):
        sample = dataset[number]
        place, offset = sample["place"], sample["offset"]
        there = sample_at(sample["displacement"].permute(0, 3, 1, 2), place + offset)
        away = (there + offset).norm(dim=-1) * 31.5
        errors += away[sample["present"] > 0].tolist()
    # Behind a stem thinner than a pixel the truth is that of the leaf there.
    assert np.median(errors) < 0.15
    assert np.mean(np.array(errors) < 0.6) >= 0.7


def test_the_motion_of_a_point_is_that_of_its_path() -> None:
    clips = [plant(i) for i in range(6)]

    def shown(clip: Clip) -> bool:
        x, y = np.rint(clip.tracks["path"][0]).astype(int)
        return bool(clip.tracks["parts"][0][y, x] == clip.meta["poke"]["node"] + 1)

    clip = next(filter(shown, clips))
    path = np.asarray(clip.tracks["path"], float)
    for last in (0, 4, 15):
        assert displacement_of(clip, path[0], 0, last) == pytest.approx(path[last] - path[0], abs=1e-3)


def test_velocity_is_the_last_frame_s_and_a_hand_lets_go_in_time() -> None:
    drag, pluck = poked_clip(), poked_clip(kind="pluck", rise=4, hold=1)
    moves = world_moves(pluck, np.array([0, 3, 5, 6]), None)
    assert moves.place.tolist() == [[9, 11]]
    assert moves.offset[:, 0].tolist() == [[4, 2], [6, 3], [6, 3]]  # three quarters of (6, 3), rounded
    assert moves.velocity[:, 0].tolist() == [[1, 0], [0, 0], [0, 0]]
    assert moves.held[:, 0].tolist() == [True, True, False]
    assert [release_frame(clip) for clip in (drag, pluck, poked_clip(kind="push"))] == [np.inf, 5, -1]


def test_a_poke_of_the_background_repeats_the_still() -> None:
    config = changed(TINY_FIELDS, poke__background=1.0)
    clip = poked_clip()
    for number in range(5):
        sample = MomentDataset([clip], config, 0)[number]
        assert torch.equal(sample["frames"][1], sample["frames"][0])
        assert float(sample["displacement"].abs().max()) == 0
        x, y = geometry.to_pixels(sample["place"][0, 0], (32, 32)).round().long().tolist()
        near = clip.tracks["parts"][0][max(0, y - 3) : y + 4, max(0, x - 3) : x + 4]
        assert near.max() == 0
        assert float(sample["offset"].abs().max()) > 0
    moves = background_moves(clip, np.array([0, 0]), np.random.default_rng(0))
    assert moves.held.all()


def test_oscillators_learn_the_path_behind_the_release() -> None:
    clip = poked_clip(kind="pluck", frames=12, rise=4, hold=2)
    found = swing_targets(clip, PLAIN)
    assert found["swing_known"].tolist() == [1.0] * 5 + [0.0] * (SWING - 5)  # frames 7 to 11
    pixels = found["swing_path"] * 15.5
    assert pixels[0].tolist() == pytest.approx([6, 3], abs=1e-5)
    assert (found["swing_start"][0] * 15.5).tolist() == pytest.approx([6, 3], abs=1e-5)
    assert float(found["swing_pull"].abs().max()) == 0
    push = swing_targets(poked_clip(kind="push", rise=4), PLAIN)
    assert (push["swing_pull"][:4] * 15.5)[:, 0].tolist() == pytest.approx(
        [6 * np.sin(np.pi * t / 4) ** 2 for t in (0.5, 1.5, 2.5, 3.5)], abs=1e-4
    )
    assert float(push["swing_pull"][4:].abs().max()) == 0
    assert float(swing_targets(poked_clip(), PLAIN)["swing_known"].max()) == 0  # a drag is held for ever


def test_motion_that_a_clip_does_not_know_is_estimated() -> None:
    clip = moving_square(32, 8)
    assert "parts" not in clip.tracks
    found = estimated(clip, np.array([0, 4]), PLAIN, find_flow())
    moving = found["moving"][0] > 0
    assert 0.01 < float(moving.float().mean()) < 0.5
    (start, end) = farthest_move(clip, 4)
    shift = np.array(end) - np.array(start)
    assert np.linalg.norm(shift) > 1
    pixels = found["displacement"][0][moving] * 15.5
    assert (-pixels).median(dim=0).values.tolist() == pytest.approx(shift.tolist(), abs=1.0)
    still = found["visibility"][0] == STATIC
    assert float(still.float().mean()) > 0.3
    assert not (still & moving).any()
    assert float(found["figure"].max()) == -1


def test_still_and_short_clips_are_left_out_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    rest = Clip("rest", np.repeat(moving_square(32, 1).frames, 8, 0), 25.0)
    short = Clip("short", moving_square(32, 1).frames, 25.0)
    good = moving_square(32, 8)
    assert moving_clips([rest, good, short, rest], NO_BACKGROUND) == [good]
    told = capsys.readouterr().err
    assert "Left out 1 of 4 clips, which are shorter than 2 frames." in told
    assert "Left out 2 of 4 clips, which are still." in told
    assert "nothing to learn" in refused(moving_clips, [rest], NO_BACKGROUND)


def test_windows_carry_the_flow_of_the_poked_pixel() -> None:
    config = changed(PokesConfig(), size=32, clip__frames=4, poke__background=0.0)
    dataset = PokeDataset([poked_clip(by=(6, 3), rise=7)], config, 0)
    for number in range(4):
        sample = dataset[number]
        assert sample["frames"].shape == (5, 3, 32, 32)
        drawn = sample["poke"]
        assert drawn.shape == (2, 32, 32)
        poked = drawn.abs().sum(0) > 0
        assert int(poked.sum()) == 9
        vectors = drawn[:, poked].T
        assert (vectors == vectors[0]).all()
        assert 2 <= float(vectors[0, 0]) <= 4  # 6 in seven frames, over four of them, in whole pixels
        again = dataset[number]
        assert torch.equal(again["poke"], drawn)
    still = PokeDataset([poked_clip()], replace(config, poke=replace(config.poke, background=1.0)), 0)[0]
    assert torch.equal(still["frames"], still["frames"][:1].expand_as(still["frames"]))


def test_impulses_are_at_most_one_long() -> None:
    config = changed(
        PokesConfig(),
        size=32,
        clip__frames=4,
        poke__background=0.0,
        poke__interpretation="impulse",
        poke__largest=2.0,
    )
    sample = PokeDataset([poked_clip(rise=7), poked_clip("d", by=(2, 0), rise=7)], config, 0)[0]
    assert 0 < float(sample["poke"].norm(dim=0).max()) <= 1 + 1e-6


def test_a_sample_has_slots_for_several_handles() -> None:
    sample = MomentDataset([plant()], changed(NO_BACKGROUND, size=64, encoder__bottleneck=16), 0)[0]
    assert sample["place"].shape == (2, SLOTS, 2)
    absent = sample["present"] == 0
    assert float(sample["offset"][absent].abs().sum()) == 0
