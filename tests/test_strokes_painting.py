"""The stage `paint`, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stillmotion.data.augment import Augmentation
from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionError
from stillmotion.systems.strokes.animating import Strokes
from stillmotion.systems.strokes.carrying import Camera
from stillmotion.systems.strokes.networks import StrokesNetworks
from stillmotion.systems.strokes.objectives import held, look, make
from stillmotion.systems.strokes.painting import FrameDataset, PaintStage, between
from stillmotion.systems.strokes.training import StrokeStage, stages
from strokes_tools import TINY_STROKES

CONFIG = replace(
    TINY_STROKES,
    size=16,
    carry=True,
    stabilise=True,
    skips=True,
    residual=True,
    zoom=1.5,
    distance="absolute",
    encoder_widths=(8, 8),
    state=16,
    generator_widths=(16, 8, 8),
    paint_steps=200,
    learning_rate=1e-2,
)


MODEL = StrokesNetworks(CONFIG)
BLUE = torch.rand(1, 3, 16, 16)


def mover(name: str = "a", colour: tuple[int, int, int] = (240, 40, 40)) -> Clip:
    """A square that goes to the right and blinks: what it looks like is not in the still."""
    frames = np.full((8, 16, 16, 3), 90, np.uint8)
    for t, frame in enumerate(frames):
        frame[6:10, 3 + t : 7 + t] = colour if t % 2 == 0 else (20, 20, 200)
    points = np.stack([4.5 + np.arange(8), np.full(8, 7.5)], -1)
    return Clip(name, frames, 25.0, {"points": points})


def batch_of(dataset: FrameDataset, count: int) -> dict[str, Any]:
    samples = [dataset[i] for i in range(count)]
    return {key: torch.stack([sample[key] for sample in samples]) for key in samples[0] if key != "name"}


def test_the_still_comes_first_and_points_are_those_of_the_frames() -> None:
    clip = mover()
    dataset = FrameDataset([clip], CONFIG, Augmentation())
    for i in range(20):
        sample = dataset[i]
        x = sample["points"][:, 0].tolist()
        assert x[0] <= x[1]
        for frame, at in zip((sample["still"], sample["frame"]), x, strict=True):
            t = round(at - 4.5)
            assert np.array_equal((frame * 255).round().byte().permute(1, 2, 0).numpy(), clip.frames[t])
    again = dataset[7]
    assert torch.equal(again["frame"], dataset[7]["frame"])


def test_e1_is_shown_the_frame_or_what_moves_in_it() -> None:
    clip = mover()
    clip.tracks["mask"] = (clip.frames != 90).any(-1).astype(np.uint8)
    plain = FrameDataset([clip], replace(CONFIG, plain_wall=True), Augmentation())
    for i in range(5):
        usual, sample = FrameDataset([clip], CONFIG, Augmentation())[i], plain[i]
        assert torch.equal(usual["shown"], usual["frame"])
        assert torch.equal(sample["frame"], usual["frame"])
        wall = (sample["frame"] * 255).round() == 90
        assert (sample["shown"][wall] == 0.5).all()
        torch.testing.assert_close(sample["shown"][~wall], sample["frame"][~wall])
        moment = between(*(sample[k][None] * 2 - 1 for k in ("still", "frame")), sample["points"][None], MODEL, BLUE)
        assert torch.equal(moment.seen[2], held(BLUE, sample["points"][None], 1, CONFIG))


def test_frames_without_a_point_are_not_shown() -> None:
    clip = mover()
    clip.tracks["points"][[0, 3]] = np.nan
    seen = {float(x) for i in range(60) for x in FrameDataset([clip], CONFIG, Augmentation())[i]["points"][:, 0]}
    assert seen == {4.5 + t for t in (1, 2, 4, 5, 6, 7)}


def test_a_leap_is_what_the_steps_are_made_of() -> None:
    """The camera and the view are those of the step that ends at the frame."""
    torch.manual_seed(0)
    model = StrokesNetworks(CONFIG)
    frames = torch.rand(2, 4, 3, 16, 16) * 2 - 1
    points = 4 + torch.rand(2, 4, 2) * 5
    step = look(frames, points, 2, CONFIG, model, torch.Generator())
    leap = between(frames[:, 0], frames[:, 3], points[:, [0, 3]], model)
    assert torch.equal(leap.seen[2], step.seen[2])
    assert torch.equal(leap.seen[0], step.seen[0])
    assert isinstance(leap.camera, Camera)
    assert isinstance(step.camera, Camera)
    assert torch.equal(leap.camera.shift, step.camera.shift)


def test_noise_is_added_to_what_g_is_given_and_large_codes_cost() -> None:
    torch.manual_seed(0)
    config = replace(CONFIG, code_noise=0.5, code_weight=3.0)
    model = StrokesNetworks(config).train()
    stage = PaintStage(model, config, [mover()])
    stage.generators["noise"].manual_seed(1)
    code = torch.full((64, 16, 4, 4), 2.0)
    blurred = stage.blurred(code)
    assert blurred.mean().item() == pytest.approx(2.0, abs=0.02)
    assert blurred.std().item() == pytest.approx(0.5, abs=0.02)
    assert not torch.equal(stage.blurred(code), blurred)
    batch = batch_of(stage.dataset, 4)
    terms = stage.step(batch, lambda name, loss, clip_grad=None: None)
    moment = between(batch["still"] * 2 - 1, batch["frame"] * 2 - 1, batch["points"], model)
    wanted = 3 * model.encoder(moment.seen[2]).square().mean()
    torch.testing.assert_close(terms["code"], wanted.detach())


def train(stage: PaintStage, steps: int) -> list[float]:
    """The frame's loss over that of standing still, step by step."""
    found: list[float] = []

    def update(name: str, loss: Tensor, clip_grad: float | None = None) -> None:
        optimizer = stage.optimizers[name]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    batch = batch_of(stage.dataset, 16)
    for _ in range(steps):
        terms = stage.step(batch, update)
        found.append(float(terms["frame"] / terms["standing"]))
    return found


def test_it_learns_what_the_still_does_not_show_and_touches_neither_e2_nor_p() -> None:
    torch.manual_seed(0)
    model = StrokesNetworks(CONFIG).train()
    stage = PaintStage(model, CONFIG, [mover(), mover("b", (40, 200, 40))])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = train(stage, 150)
    assert found[-1] < 0.7 * found[0]
    changed = {
        name.partition(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"encoder", "decoder"}
    sheet = stage.preview()["paintings"]
    assert sheet.shape == (2 * 2 * 16, 8 * 16, 3)
    model.config = replace(CONFIG, plain_wall=True)
    assert not np.array_equal(stage.preview()["paintings"], sheet)
    assert model.training


def system(**changes: Any) -> Strokes:
    torch.manual_seed(0)
    return Strokes.build(replace(CONFIG, **changes))


def test_stages_by_name_and_number_of_steps() -> None:
    clips = [mover(), mover("b")]
    assert [stage.name for stage in stages(system(), clips)] == ["paint", "stroke"]
    assert [stage.name for stage in stages(system(paint_steps=0), clips)] == ["stroke"]
    assert [stage.name for stage in stages(system(), clips, only=["stroke"])] == ["stroke"]
    assert [stage.name for stage in stages(system(), clips, only=["paint"])] == ["paint"]
    assert [stage.name for stage in stages(system(foresee_steps=9), clips)] == ["paint", "foresee", "stroke"]
    with pytest.raises(StillmotionError, match="foresee_steps=N"):
        stages(system(), clips, only=["foresee"])
    with pytest.raises(StillmotionError, match="known are paint, foresee, repaint, stroke"):
        stages(system(), clips, only=["predict"])
    with pytest.raises(StillmotionError, match="paint_steps=N"):
        stages(system(paint_steps=0), clips, only=["paint"])


def test_a_held_painter_stays_while_the_state_learns() -> None:
    model = system(hold_painter=True, state_weight=1.0, frames=4).networks
    assert isinstance(model, StrokesNetworks)
    stage = StrokeStage(model, model.config, [mover(), mover("b")])
    stage.generators["crops"].manual_seed(0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    frames = torch.stack([stage.dataset[i]["frames"] for i in range(2)])
    points = torch.stack([stage.dataset[i]["points"] for i in range(2)])

    def update(name: str, loss: Tensor, clip_grad: float | None = None) -> None:
        optimizer: torch.optim.Optimizer = stage.optimizers[name]
        nn.Module.zero_grad(model)
        loss.backward()
        optimizer.step()

    terms = stage.step({"frames": frames, "points": points}, update)
    assert terms["state"] > 0
    changed = {
        name.partition(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"motion", "predictor"}


def test_the_states_loss_by_hand() -> None:
    model = system(state_weight=2.0).networks
    assert isinstance(model, StrokesNetworks)
    frames, points = torch.rand(1, 4, 3, 16, 16) * 2 - 1, 4 + torch.rand(1, 4, 2) * 5
    moment = look(frames, points, 1, model.config, model, torch.Generator())
    stage = StrokeStage(model, model.config, [mover()])
    made = make(model, moment, None)
    assert made.code is not None
    torch.testing.assert_close(made.code, model.encoder(moment.seen[2]))
    off = made._replace(state=made.code + 0.25)
    found = stage.objectives.generator(off, moment, None)["state"]
    assert found.item() == pytest.approx(2 * 0.25 / made.code.abs().mean().item(), rel=1e-5)


@pytest.mark.parametrize("name", ["paint_steps", "state_weight", "painting_focus", "smooth_points"])
def test_none_of_it_may_be_negative(name: str) -> None:
    with pytest.raises(StillmotionError, match=name):
        replace(CONFIG, **{name: -1})
