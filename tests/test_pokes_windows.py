"""Windows with a simulated poke for the paper's networks, and which clips a training takes."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pokes_state_tools import TINY_STATES, changed
from pokes_tools import TINY_FIELDS, as_tensor, poked_clip, textured, unmoving, without
from refusals import refuses
from stillmotion.data.clip import Clip
from stillmotion.systems.pokes.data import PokeDataset, moving_clips


# --- which clips ---------------------------------------------------------------------------------------------------
def test_still_and_short_clips_are_left_out_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    blind = without(unmoving(poked_clip()), "parts", "moves", "path")
    short = without(poked_clip(frames=1), "parts", "moves", "path")
    clips = [poked_clip(), blind, textured(), short, short]
    assert moving_clips(clips, TINY_FIELDS) == [clips[0], clips[2]]
    assert capsys.readouterr().err.splitlines() == [
        "Left out 2 of 5 clips, which are shorter than 2 frames.",
        "Left out 1 of 5 clips, which are still.",
    ]
    refuses("No clip is long enough and moves", moving_clips, [blind, short], TINY_FIELDS)
    states = changed(TINY_STATES, clip__frames=3, clip__frame_step=2)
    capsys.readouterr()
    seven, six = poked_clip(frames=7), poked_clip(frames=6)
    assert moving_clips([seven, six], states) == [seven]
    assert capsys.readouterr().err == "Left out 1 of 2 clips, which are shorter than 7 frames.\n"


# --- the paper's networks ------------------------------------------------------------------------------------------
def pokes(clips: list[Clip] | None = None, **changes: Any) -> PokeDataset:
    """Windows that are as long as the clips, in which the square moves by (6, 3)."""
    made = clips or [poked_clip(f"c{k}", frames=4, rise=3, corner=(9 + k, 10)) for k in range(3)]
    return PokeDataset(made, changed(TINY_STATES, size=32, encoder__bottleneck=8, encoder__width=128, **changes), 0)


def patch_of(poke: Tensor) -> tuple[int, int, list[float]]:
    """Middle (x, y) and vector of a poke map, whose other pixels are zero."""
    rows, columns = poke.abs().sum(0).nonzero(as_tuple=True)
    assert len(rows) == 9
    x, y = int(columns.float().mean()), int(rows.float().mean())
    assert torch.equal(poke[:, y - 1 : y + 2, x - 1 : x + 2], poke[:, y, x, None, None].expand(2, 3, 3))
    return x, y, poke[:, y, x].tolist()


def test_a_poke_is_the_flow_at_its_pixel() -> None:
    dataset = pokes(poke__background=0.0)
    for n in range(6):
        sample = dataset[n]
        x, y, vector = patch_of(sample["poke"])
        clip = next(clip for clip in dataset.clips if clip.name == sample["name"])
        assert clip.tracks["parts"][0, y, x]
        assert vector == [6, 3]
        torch.testing.assert_close(sample["frames"][3], as_tensor(clip.frames[3]))
        assert "background" not in sample


def test_a_mirrored_poke_is_mirrored() -> None:
    dataset = pokes(poke__background=0.0, clip__augmentation="bair")
    vectors = {tuple(patch_of(dataset[n]["poke"])[2]) for n in range(8)}
    assert vectors == {(6.0, 3.0), (-6.0, 3.0)}


def test_a_poke_on_the_background_has_a_still_video() -> None:
    dataset = pokes(poke__background=1.0)
    for n in range(6):
        sample = dataset[n]
        x, y, vector = patch_of(sample["poke"])
        clip = next(clip for clip in dataset.clips if clip.name == sample["name"])
        assert not clip.tracks["parts"][0, y, x]
        assert vector == [6, 3]  # of the object
        assert torch.equal(sample["frames"], sample["frames"][:1].expand(4, -1, -1, -1))


def test_clips_without_a_poke_are_passed_over_but_not_for_ever() -> None:
    still = unmoving(poked_clip(frames=4))
    dataset = pokes([still, poked_clip("moves", frames=4, rise=3)], poke__background=0.0)
    assert {dataset[n]["name"] for n in range(4)} == {"moves"}
    refuses(r"50 clips in a row have no pixel to poke: use clips that move\.$", pokes([still]).__getitem__, 0)


def test_an_impulse_is_the_flow_as_a_share_of_the_largest_motion() -> None:
    """(6, 3) is 6.7 pixels long, and (2, 1) a third of it; what is longer than the largest gets the length 1."""
    clips = [poked_clip("far", frames=4, rise=3, corner=(9, 10)), poked_clip("near", frames=4, rise=3, by=(2, 1))]
    for largest, far, near in ((45**0.5 * 2, 1 / 2, 1 / 6), (45**0.5 / 2, 1, 2 / 3)):
        dataset = pokes(clips, poke__background=0.0, poke__interpretation="impulse", poke__largest=largest)
        for n in range(4):
            sample = dataset[n]
            vector = patch_of(sample["poke"])[2]
            assert float(np.hypot(*vector)) == pytest.approx(far if sample["name"] == "far" else near, rel=1e-4)
            assert vector[0] == pytest.approx(2 * vector[1], rel=1e-4)


def test_flow_of_another_size_is_refused() -> None:
    clip = without(poked_clip(frames=4), "parts", "moves", "path")
    clip.tracks["flow_forward"] = np.ones((1, 16, 16, 2), np.float32)
    refuses("The flow is 16 x 16 x 2 where frames of 32 x 32", pokes([clip]).__getitem__, 0)


def test_flow_that_a_clip_brings_is_taken() -> None:
    clip = without(poked_clip(frames=4, rise=3), "parts", "moves", "path")
    flow = np.zeros((1, 32, 32, 2), np.float32)
    flow[0, 10:20, 10:20] = (-2, 5)
    clip.tracks["flow_forward"] = flow
    x, y, vector = patch_of(pokes([clip], poke__background=0.0)[0]["poke"])
    assert vector == [-2, 5]
    assert 10 <= x < 20
    assert 10 <= y < 20


def test_a_window_depends_on_its_number_alone_and_is_never_played_backwards() -> None:
    dataset = pokes(clip__augmentation="pokes", poke__background=0.5)
    first = [dataset[n] for n in (0, 1, 7)]
    for n, sample in zip((7, 1, 0), reversed(first), strict=True):
        again = dataset[n]
        assert all(torch.equal(again[k], v) for k, v in sample.items() if isinstance(v, Tensor))
    assert pokes(clip__augmentation="nemo").augmentation.time_flip == 0
