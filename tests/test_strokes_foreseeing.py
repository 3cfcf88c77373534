"""The stage `foresee`: P alone, on E1's codes, in roll-outs that grow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionError
from stillmotion.systems.strokes.config import StrokesConfig
from stillmotion.systems.strokes.foreseeing import ForeseeStage, encode, rollout_length
from stillmotion.systems.strokes.networks import StrokesNetworks
from stillmotion.systems.strokes.objectives import look
from stillmotion.systems.strokes.windows import before_grey
from test_strokes_painting import CONFIG as PAINTING
from test_strokes_painting import batch_of
from test_strokes_painting import mover as moving

CONFIG = replace(PAINTING, frames=6, foresee_steps=120, foresee_batch=4, learning_rate=5e-3)


def mover(name: str = "a", colour: tuple[int, int, int] = (240, 40, 40)) -> Clip:
    """The square that goes and blinks, and where it is."""
    clip = moving(name, colour)
    clip.tracks["mask"] = (clip.frames != 90).any(-1).astype(np.uint8)
    return clip


def stage_of(config: StrokesConfig = CONFIG, seed: int = 0) -> ForeseeStage:
    torch.manual_seed(seed)
    stage = ForeseeStage(StrokesNetworks(config).train(), config, [mover(), mover("b", (40, 200, 40))])
    stage.generators["starts"].manual_seed(0)
    return stage


def train(stage: ForeseeStage, steps: int) -> list[dict[str, float]]:
    found = []

    def update(name: str, loss: Tensor, clip_grad: float | None = None) -> None:
        stage.optimizers[name].zero_grad()
        loss.backward()
        stage.optimizers[name].step()
        stage.schedulers[name].step()

    batch = batch_of(stage.dataset, 4)
    for _ in range(steps):
        found.append({key: float(value) for key, value in stage.step(batch, update).items()})
    return found


@pytest.mark.parametrize(("count", "wanted"), [(15, [1, 2, 4, 8, 15]), (8, [1, 2, 4, 8]), (3, [1, 2, 3]), (1, [1])])
def test_rollouts_double_and_end_with_the_whole_window(count: int, wanted: list[int]) -> None:
    lengths = [rollout_length(i / 1000, count) for i in range(1000)]
    assert sorted(set(lengths)) == wanted
    assert lengths == sorted(lengths)
    shares = [lengths.count(length) for length in wanted]
    assert max(shares) - min(shares) <= 1


def test_codes_are_e1s_and_motion_is_that_of_each_step() -> None:
    stage = stage_of()
    model, batch = stage.model.eval(), batch_of(stage.dataset, 2)
    frames, points = batch["frames"] * 2 - 1, batch["points"]
    with torch.no_grad():
        codes, motion = encode(model, frames, points), stage.motion(points)
        assert codes.shape[:2] == (2, 6)
        assert motion.shape[:2] == (2, 5)
        for t in range(5):
            moment = look(frames, points, t, CONFIG, model, torch.Generator())
            torch.testing.assert_close(codes[:, t + 1], model.encoder(moment.seen[2]))
            torch.testing.assert_close(motion[:, t], torch.cat(model.encode_motion(moment.motion), dim=1))


def test_a_predictor_that_stays_costs_one() -> None:
    """The loss counts in what standing still would cost."""
    stage = stage_of(replace(CONFIG, foresee_steps=1, frames=2))
    with torch.no_grad():
        stage.model.predictor.transition.weight.zero_()
        stage.model.predictor.transition.bias.zero_()  # type: ignore[union-attr]
    terms = train(stage, 1)[0]
    assert terms["state"] == pytest.approx(1.0, abs=1e-5)
    assert terms["last"] == pytest.approx(1.0, abs=1e-5)
    assert terms["length"] == 1.0


def test_a_rollout_goes_on_from_its_own_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a P that adds a constant, the state k steps after the start is off by k times the constant."""
    stage = stage_of(replace(CONFIG, frames=4))
    monkeypatch.setattr(ForeseeStage, "length", 3)
    with torch.no_grad():
        stage.model.predictor.transition.weight.zero_()
        stage.model.predictor.transition.bias.fill_(0.5)  # type: ignore[union-attr]
    batch = {"frames": torch.rand(2, 4, 3, 16, 16), "points": torch.full((2, 4, 2), 8.0)}
    codes = encode(stage.model, batch["frames"] * 2 - 1, batch["points"]).float()
    seen: list[float] = []
    terms = stage.step(batch, lambda name, loss, clip_grad=None: seen.append(loss.item()))
    aims = codes[:, 1:]
    made = torch.stack([codes[:, 0] + 0.5 * (k + 1) for k in range(3)], dim=1)
    wanted = (made - aims).square().mean() / (codes[:, :1] - aims).square().mean()
    assert seen == [pytest.approx(wanted.item(), rel=1e-4)]
    last = (made[:, -1] - aims[:, -1]).square().mean() / (codes[:, 0] - aims[:, -1]).square().mean()
    assert float(terms["last"]) == pytest.approx(last.item(), rel=1e-4)


def test_it_learns_what_comes_and_touches_neither_e1_nor_g() -> None:
    stage = stage_of()
    before = {name: value.clone() for name, value in stage.model.state_dict().items()}
    found = train(stage, 120)
    assert [found[i]["length"] for i in (0, 40, 70, 110)] == [1.0, 2.0, 4.0, 5.0]
    assert found[-1]["state"] < 0.5
    changed = {
        name.partition(".")[0]
        for name, value in stage.model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {"motion", "predictor"}
    assert stage.preview()["rollouts"].shape[-1] == 3


@pytest.mark.parametrize(
    ("name", "value"), [("foresee_steps", -1), ("foresee_batch", 0), ("code_noise", -1.0), ("code_weight", -0.1)]
)
def test_numbers_that_make_no_sense_are_refused(name: str, value: Any) -> None:
    with pytest.raises(StillmotionError, match=name):
        replace(CONFIG, **{name: value})


def test_with_a_plain_wall_only_the_still_tells_of_it() -> None:
    config = replace(CONFIG, plain_wall=True)
    stage = stage_of(config)
    batch = batch_of(stage.dataset, 2)
    masks = batch["masks"]
    assert masks.shape == (2, 6, 1, 16, 16)
    assert masks.flatten(2).sum(-1).tolist() == [[16.0] * 6] * 2  # the square's pixels
    other = torch.where(masks > 0, batch["frames"], torch.rand(2, 1, 3, 16, 16))
    before, after = (stage.codes(frames, batch["points"], masks) for frames in (batch["frames"], other))
    torch.testing.assert_close(before[:, 1:], after[:, 1:])
    assert not torch.allclose(before[:, 0], after[:, 0])
    moment = look(other * 2 - 1, batch["points"], 0, config, stage.model, torch.Generator())
    torch.testing.assert_close(after[:, 0], stage.model.encoder(moment.seen[0]))
    plain = encode(stage.model, before_grey(other, masks) * 2 - 1, batch["points"])
    torch.testing.assert_close(after[:, 1:], plain[:, 1:])
    assert not torch.allclose(after[:, 0], plain[:, 0])
