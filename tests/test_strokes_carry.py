"""`carry`: the blend may take the still moved by the stroke."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from stillmotion.errors import StillmotionError
from stillmotion.systems.strokes import carrying
from stillmotion.systems.strokes.composing import Canvas, compose
from stillmotion.systems.strokes.networks import Drawn, StrokesNetworks
from strokes_tools import TINY_STROKES

CARRY = replace(TINY_STROKES, carry=True)
SIDE = CARRY.size


def networks(seed: int = 0) -> StrokesNetworks:
    torch.manual_seed(seed)
    return StrokesNetworks(CARRY).eval()


def picture() -> Tensor:
    return torch.rand((1, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(1)) * 2 - 1


def shift_at(model: StrokesNetworks, t: int) -> Tensor:
    camera = model.camera(POINTS, t)
    assert camera is not None
    return camera.shift


POINTS = torch.tensor([[[5.0, 6.0], [6.0, 6.0], [8.0, 5.0]]])


def test_the_still_moves_as_far_as_the_stroke_has_from_its_start() -> None:
    model, still = networks(), picture()
    moved = carrying.moved(still, shift_at(model, 1))  # three to the right, one up
    assert torch.allclose(moved[..., :-1, 3:], still[..., 1:, :-3], atol=1e-4)
    assert torch.allclose(moved[..., :-1, 0], still[..., 1:, 0], atol=1e-4)  # the border is replicated
    unmoved = carrying.moved(still, shift_at(model, -1))  # frame 0
    assert torch.allclose(unmoved, still, atol=1e-4)


def test_where_it_takes_the_moved_still_the_frame_is_that_and_where_it_keeps_the_still() -> None:
    model, still = networks(), picture()
    share = model.decoder.share
    assert share is not None
    with torch.no_grad():
        for layer, bias in ((model.decoder.colours, -50.0), (share.share, 50.0)):
            layer.weight.zero_()
            layer.bias.fill_(bias)
        context = model.begin(still, POINTS)
        drawn = model.draw(context, context.initial, 1)
        assert torch.allclose(drawn.frame, carrying.moved(still, shift_at(model, 1)), atol=1e-5)
        assert torch.allclose(drawn.paint, torch.full_like(still, -1.0))  # its own paint is clamped, and not shown
        model.decoder.colours.bias[3] = 50.0
        kept = model.draw(context, context.initial, 1)
    assert torch.allclose(kept.frame, still, atol=1e-5)


def test_the_share_learns_and_paint_gets_no_gradient_through_it() -> None:
    model, still = networks().train(), picture()
    context = model.begin(still, POINTS)
    drawn = model.draw(context, context.initial, 1)
    target = carrying.moved(still, shift_at(model, 1))
    (drawn.painted - target).square().mean().backward()
    assert model.decoder.share is not None
    assert model.decoder.share.share.weight.grad.abs().sum() > 0
    assert model.decoder.colours.weight.grad[:, :3].abs().sum() > 0  # by the paint that shows


def test_steps_go_on_as_the_plain_way_does() -> None:
    model, still = networks(), picture()
    with torch.no_grad():
        fast, plain = (model.begin(still, POINTS, fast=fast) for fast in (True, False))
        state, frame = model.advance(fast, fast.initial, 0)
        again, same = model.advance(plain, plain.initial, 0)
    assert torch.allclose(state, again, atol=1e-5)
    assert torch.allclose(frame, same, atol=1e-5)
    assert not torch.allclose(frame, model.draw(plain, again, 1).frame, atol=1e-3)  # the step it belongs to counts


def test_it_needs_the_blend() -> None:
    with pytest.raises(StillmotionError, match="carry needs composite"):
        replace(CARRY, composite=False, painted_weight=0.0)


def test_what_is_carried_is_the_large_still_itself_moved() -> None:
    large = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)  # four pixels of the square to one
    canvas = Canvas.prepare(large, SIDE)
    ones = torch.ones(1, 1, SIDE, SIDE)
    black = torch.full((1, 3, SIDE, SIDE), -1.0)
    drawn = Drawn(black, black, None, black, ones)
    made = compose(canvas, drawn, ones, torch.tensor([2.0, -1.0]))  # 8 pixels to the right and 4 up
    assert np.abs(made[:-4, 8:].astype(int) - large[4:, :-8]).max() <= 1
    half = compose(canvas, drawn._replace(share=0.5 * ones), ones, torch.tensor([2.0, -1.0]))
    assert np.abs(half[:-4, 8:].astype(int) - large[4:, :-8] / 2).max() <= 1.01  # the rest is painted black
