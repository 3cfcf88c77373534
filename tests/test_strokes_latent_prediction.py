"""Stages `latent_prediction` (P on codes, in growing roll-outs) and `generator_finetuning` (G on P's states)."""

import pytest
import torch

from stillmotion.systems.strokes.data import mask_background
from stillmotion.systems.strokes.training import LatentPredictionStage, rollout_length
from strokes_tools import changed
from strokes_training_tools import PEOPLE, batch_of, blinking_clip, changed_parts, copied, make_stage, train

CONFIG = changed(
    PEOPLE,
    clip__frames=6,
    latent_prediction__steps=120,
    latent_prediction__batch=4,
    latent_prediction__learning_rate=5e-3,
    generator_finetuning__steps=60,
    generator_finetuning__learning_rate=1e-2,
)


def stage_of(name: str = "latent_prediction", **changes: object) -> LatentPredictionStage:
    clips = [blinking_clip(mask=True), blinking_clip("b", (40, 200, 40), mask=True)]
    stage: LatentPredictionStage = make_stage(name, changed(CONFIG, **changes), clips)
    return stage


@pytest.mark.parametrize(("count", "wanted"), [(15, [1, 2, 4, 8, 15]), (8, [1, 2, 4, 8]), (3, [1, 2, 3]), (1, [1])])
def test_rollouts_double_and_end_with_the_whole_window(count: int, wanted: list[int]) -> None:
    lengths = [rollout_length(i / 1000, count) for i in range(1000)]
    assert sorted(set(lengths)) == wanted
    assert lengths == sorted(lengths)
    shares = [lengths.count(length) for length in wanted]
    assert max(shares) - min(shares) <= 1


def test_codes_are_e1s_and_motion_is_that_of_each_step() -> None:
    stage = stage_of()
    model, batch = stage.model.eval(), batch_of(stage, 2)
    frames, points = batch["frames"], batch["points"]
    with torch.no_grad():
        codes, motion = stage.encode(frames, points, None), stage.encode_motion(points)
        assert codes.shape[:2] == (2, 6)
        assert motion.shape[:2] == (2, 5)
        context = model.begin(frames[:, 0] * 2 - 1, points, fast=False)
        torch.testing.assert_close(codes[:, 0], context.initial)
        for t in range(5):
            torch.testing.assert_close(codes[:, t + 1], model.encode(frames[:, t + 1] * 2 - 1, points, t + 1))
            wanted = model.predict(model.step_inputs(context, context.initial, points, t))[1]
            torch.testing.assert_close(motion[:, t], wanted)


def test_a_constant_prediction_costs_one() -> None:
    """The loss is relative to that of constant states."""
    stage = stage_of(latent_prediction__steps=1, clip__frames=2)
    with torch.no_grad():
        stage.model.predictor.transition.weight.zero_()
        stage.model.predictor.transition.bias.zero_()  # type: ignore[union-attr]
    terms = train(stage, 1, 4)[0]
    assert terms["state"] == pytest.approx(1.0, abs=1e-5)
    assert terms["last"] == pytest.approx(1.0, abs=1e-5)
    assert terms["length"] == 1.0


def test_a_rollout_goes_on_from_its_own_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a P that adds a constant, the state k steps after the start is off by k times the constant."""
    stage = stage_of(clip__frames=4)
    monkeypatch.setattr(LatentPredictionStage, "length", 3)
    with torch.no_grad():
        stage.model.predictor.transition.weight.zero_()
        stage.model.predictor.transition.bias.fill_(0.5)  # type: ignore[union-attr]
    batch = {"frames": torch.rand(2, 4, 3, 16, 16), "points": torch.full((2, 4, 2), 8.0)}
    codes = stage.encode(batch["frames"], batch["points"], None).float()
    seen: list[float] = []
    terms = stage.step(batch, lambda name, loss, clip_grad=None: seen.append(loss.item()))
    targets = codes[:, 1:]
    made = torch.stack([codes[:, 0] + 0.5 * (k + 1) for k in range(3)], dim=1)
    wanted = (made - targets).square().mean() / (codes[:, :1] - targets).square().mean()
    assert seen == [pytest.approx(wanted.item(), rel=1e-4)]
    last = (made[:, -1] - targets[:, -1]).square().mean() / (codes[:, 0] - targets[:, -1]).square().mean()
    assert float(terms["last"]) == pytest.approx(last.item(), rel=1e-4)


def test_it_learns_to_predict_and_touches_neither_e1_nor_g() -> None:
    stage = stage_of()
    before = copied(stage.model)
    found = train(stage, 120, 4)
    assert [found[i]["length"] for i in (0, 40, 70, 110)] == [1.0, 2.0, 4.0, 5.0]
    assert found[-1]["state"] < 0.5
    assert changed_parts(stage.model, before) == {"motion", "predictor"}
    assert stage.preview()["rollouts"].shape[-1] == 3


def test_with_a_masked_background_only_the_still_tells_of_it() -> None:
    stage = stage_of(clip__mask_background=True)
    batch = batch_of(stage, 2)
    masks, points = batch["masks"], batch["points"]
    assert masks.shape == (2, 6, 1, 16, 16)
    assert masks.flatten(2).sum(-1).tolist() == [[16.0] * 6] * 2  # the square's pixels
    other = torch.where(masks > 0, batch["frames"], torch.rand(2, 1, 3, 16, 16))
    before, after = (stage.encode(frames, points, masks) for frames in (batch["frames"], other))
    torch.testing.assert_close(before[:, 1:], after[:, 1:])
    assert not torch.allclose(before[:, 0], after[:, 0])
    torch.testing.assert_close(after[:, 0], stage.model.encode(other[:, 0] * 2 - 1, points, 0))
    masked = stage.encode(mask_background(other, masks), points, None)
    torch.testing.assert_close(after[:, 1:], masked[:, 1:])
    assert not torch.allclose(after[:, 0], masked[:, 0])


# --- generator_finetuning ------------------------------------------------------------------------------------------
def test_states_are_those_of_an_animation() -> None:
    stage = stage_of("generator_finetuning")
    model, batch = stage.model.eval(), batch_of(stage, 2)
    stills, points = batch["frames"][:, 0] * 2 - 1, batch["points"]
    _, states = stage.roll_out(stills, points)  # type: ignore[attr-defined]
    assert len(states) == CONFIG.clip.frames - 1
    with torch.no_grad():
        context = model.begin(stills, points, fast=False)
        state = context.initial
        for t, found in enumerate(states):
            state = model(model.step_inputs(context, state, points, t)).state
            torch.testing.assert_close(found, state, rtol=1e-4, atol=1e-4)


def test_g_alone_learns() -> None:
    stage = stage_of("generator_finetuning")
    before = copied(stage.model)
    found = [terms["reconstruction"] / terms["copy"] for terms in train(stage, 60, 4)]
    assert sum(found[-5:]) < 0.8 * sum(found[:5])
    assert changed_parts(stage.model, before) == {"decoder"}
