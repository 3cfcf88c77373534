"""Clips as long as their poke (release, variable length): classes, windows, roll-outs, and a step of training."""

import numpy as np
import pytest
import torch

from pokes_state_tools import TINY_STATES, WITH_GANS, Update, batch_of, changed, make_stage
from pokes_tools import TINY_FIELDS, poked_clip, wild_pokes
from refusals import refuses
from stillmotion import Poke
from stillmotion.systems.pokes.config import PokeConfig, PokesConfig
from stillmotion.systems.pokes.data import PokeDataset
from stillmotion.systems.pokes.poking import answer_frames, length_classes, simulate_pokes
from stillmotion.systems.pokes.training import stages
from test_pokes_state_rollout import STILL, phis_seen, take

SIZE_32 = {"size": 32, "encoder__bottleneck": 8, "encoder__width": 128}
NINE = PokeConfig(lengths=9, cutoff=0.4, largest=16.0)  # the release on PokingPlants


def lengths_of(**changes: object) -> PokesConfig:
    """Clips of one to three frames, of pokes up to 2.5, up to 5, and beyond."""
    base = changed(TINY_STATES, **SIZE_32, clip__frames=3, poke__background=0.0)
    return changed(changed(base, poke__lengths=3, poke__largest=15.0, poke__cutoff=0.5), **changes)


def steady(name: str = "steady", speed: int = 2) -> object:
    """Ten frames of a square that goes to the right by `speed` pixels per frame."""
    return poked_clip(name, frames=10, by=(9 * speed, 0), rise=9, corner=(5, 10))


def test_classes_part_the_magnitudes_up_to_the_cutoff_evenly() -> None:
    """Sheet section 3.5: nine chunks of [0, 0.4], and 5 to 13 frames."""
    chunk = 0.4 / 9
    magnitudes = np.array([0, 0.99 * chunk, 1.01 * chunk, 0.39, 0.4, 1.0])
    assert length_classes(magnitudes, NINE).tolist() == [0, 0, 1, 8, 8, 8]
    assert [answer_frames(16 * share, NINE, 13) for share in (0.0, 1.5 * chunk, 0.2, 0.9)] == [5, 6, 9, 13]
    assert answer_frames(1.0, PokeConfig(), 10) == 10  # one length for all


@pytest.mark.parametrize(("interpretation", "unit"), [("shift", 16.0), ("impulse", 1.0)])
def test_vectors_are_drawn_from_the_class(interpretation: str, unit: float) -> None:
    flow = np.zeros((24, 32, 2), np.float32)
    flow[8:16, 8:16, 0], flow[8:16, 16:24, 0] = 0.1 * unit, 0.3 * unit
    still, rng = np.zeros((24, 32, 3), np.uint8), np.random.default_rng(0)
    for background in (0.0, 1.0):
        config = PokeConfig(interpretation=interpretation, background=background, lengths=2, cutoff=0.4)  # type: ignore[arg-type]
        for length, magnitude in ((0, 0.1), (1, 0.3), (None, None)):
            drawn = [simulate_pokes(flow, still, config, rng, length=length) for _ in range(12)]
            found = {round(poke.pokes[0].vector[0] / unit, 4) for poke in drawn if poke is not None}
            assert found == ({0.1, 0.3} if magnitude is None else {magnitude})
    assert simulate_pokes(flow * 0.1, still, config, rng, length=1) is None


@pytest.mark.parametrize("background", [0.0, 1.0])
def test_windows_are_as_long_as_their_poke_and_alike_in_a_batch(background: float) -> None:
    """The square goes by 2, 4 and 6 pixels in one, two and three frames."""
    dataset = PokeDataset([steady()], lengths_of(poke__background=background), 0, batch=4)  # type: ignore[list-item]
    found = []
    for n in range(40):
        sample = dataset[n]
        count = len(sample["frames"]) - 1
        assert sample["poke"].flatten(1).abs().amax(1).tolist() == [2 * count, 0]
        found.append(count)
    batches = np.reshape(found, (10, 4))
    assert (batches == batches[:, :1]).all()
    assert set(batches[:, 0]) == {1, 2, 3}
    assert [len(dataset[n]["frames"]) - 1 for n in (5, 0)] == [found[5], found[0]]


def test_clips_whose_motion_is_of_another_class_are_passed_over() -> None:
    clips = [steady(), steady("slow", 1)]  # the slow one goes 2 pixels in two frames
    dataset = PokeDataset(clips, lengths_of(), 0)  # type: ignore[arg-type]
    found = {(len(s["frames"]) - 1, s["name"]) for s in (dataset[n] for n in range(30))}
    assert found == {(1, "steady"), (1, "slow"), (2, "steady"), (3, "steady")}
    far = PokeDataset([steady()], lengths_of(poke__cutoff=0.01), 0)  # type: ignore[list-item]
    for n in range(9):  # all pokes are long
        if far_length(far, n) < 2:
            refuses(r"no pixel to poke: change poke\.cutoff\.$", far.__getitem__, n)
            return
    pytest.fail("no sample of a short class")


def far_length(dataset: PokeDataset, index: int) -> int:
    return int(np.random.default_rng([dataset.seed, index]).integers(3))


def test_an_answer_takes_the_frames_that_its_poke_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pixel of the networks is three of the still; phi falls to zero over the frames of this poke."""
    base = changed(TINY_STATES, clip__frames=5, poke__lengths=3, poke__largest=8.0, poke__cutoff=0.75)
    system = wild_pokes(base)
    for text, frames in (("24,18>27,18", 3), ("24,18>24,27", 4), ("24,18>40,36", 5)):
        rollout, count = system.open(STILL, Poke(text)), 0
        while not rollout.done:
            next(rollout)
            count += 1
        assert count == frames + 1  # with the still
    seen = phis_seen(monkeypatch)
    take(wild_pokes(changed(base, poke__schedule="decay")).open(STILL, Poke("24,18>27,18")), 4)
    assert [float((phi / seen[0]).nanmedian()) for phi in seen] == pytest.approx([1, 2 / 3, 1 / 3])
    rollout = system.open(STILL, Poke("24,18>27,18", rise=2))
    assert len(take(rollout, 3)) == 3
    assert rollout.done


def test_a_step_of_training_on_short_clips() -> None:
    """Both discriminators see clips of any length."""
    stage = make_stage("dynamics_training", changed(WITH_GANS, clip__frames=9, poke__lengths=5))
    batch = batch_of(stage.config)
    for frames in (6, 10):
        terms = stage.step({**batch, "frames": batch["frames"][:, :frames]}, Update(stage))
        assert {"video", "latent", "frame_gan", "clip_gan"} <= set(terms)
        assert all(torch.isfinite(value) for value in terms.values())
    system = wild_pokes(lengths_of(interleaved__steps=0, pretraining__steps=0, dynamics_training__batch=7))
    (made,) = stages(system, [steady()])
    assert made.dataset.batch == 7


def test_lengths_that_cannot_be_are_refused() -> None:
    refuses("poke.lengths must be at most clip.frames", changed, TINY_STATES, poke__lengths=4, clip__frames=3)
    refuses("needs generator.fields=false", changed, TINY_FIELDS, poke__lengths=1)
