"""The stage `repaint`: G learns to paint from the states that P foresees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from stillmotion.errors import StillmotionError
from stillmotion.systems.strokes.animating import Strokes
from stillmotion.systems.strokes.networks import StrokesNetworks
from stillmotion.systems.strokes.repainting import RepaintStage
from stillmotion.systems.strokes.training import stages
from test_strokes_foreseeing import CONFIG as FORESEEING
from test_strokes_foreseeing import batch_of, mover

CONFIG = replace(FORESEEING, repaint_steps=60, learning_rate=1e-2)


def stage_of() -> RepaintStage:
    torch.manual_seed(0)
    stage = RepaintStage(StrokesNetworks(CONFIG).train(), CONFIG, [mover(), mover("b", (40, 200, 40))])
    stage.generators["steps"].manual_seed(0)
    return stage


def test_states_are_those_of_an_animation() -> None:
    stage = stage_of()
    model, batch = stage.model.eval(), batch_of(stage.dataset, 2)
    stills, points = batch["frames"][:, 0] * 2 - 1, batch["points"]
    _, states = stage.roll_out(stills, points)
    assert len(states) == CONFIG.frames - 1
    with torch.no_grad():
        context = model.begin(stills, points, fast=False)
        state = context.initial
        for t, found in enumerate(states):
            state = model.predict(context, state, t)
            torch.testing.assert_close(found, state, rtol=1e-4, atol=1e-4)


def test_g_alone_learns() -> None:
    stage = stage_of()
    before = {name: value.clone() for name, value in stage.model.state_dict().items()}
    batch, found = batch_of(stage.dataset, 4), []

    def update(name: str, loss: Tensor, clip_grad: float | None = None) -> None:
        stage.optimizers[name].zero_grad()
        loss.backward()
        stage.optimizers[name].step()
        stage.schedulers[name].step()

    for _ in range(60):
        terms: dict[str, Any] = stage.step(batch, update)
        found.append(float(terms["frame"] / terms["standing"]))
    assert sum(found[-5:]) < 0.8 * sum(found[:5])
    changed = {
        name.partition(".")[0]
        for name, value in stage.model.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {"decoder"}


def test_it_comes_after_what_p_learns() -> None:
    system = Strokes.build(CONFIG)
    names = [stage.name for stage in stages(system, [mover(), mover("b")])]
    assert names == ["paint", "foresee", "repaint", "stroke"]
    alone = Strokes.build(replace(CONFIG, foresee_steps=0))
    assert [stage.name for stage in stages(alone, [mover()], only=["repaint"])] == ["repaint"]
    with pytest.raises(StillmotionError, match="repaint_steps"):
        replace(CONFIG, repaint_steps=-1)
