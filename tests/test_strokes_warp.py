"""`warp_still`: G blends generated RGB, the still, and the still moved along the stroke."""

import numpy as np
import pytest
import torch
from torch import Tensor

from stillmotion.systems.strokes.compositing import Canvas, compose
from stillmotion.systems.strokes.networks import StrokesNetworks
from stillmotion.systems.strokes.object_frame import GeneratorOutput, WarpGenerator, object_frame, translate
from strokes_tools import TINY_WARP, random_still, step

SIDE = TINY_WARP.size
POINTS = torch.tensor([[[5.0, 6.0], [6.0, 6.0], [8.0, 5.0]]])
STILL = random_still(seed=1)


def build() -> StrokesNetworks:
    torch.manual_seed(0)
    return StrokesNetworks(TINY_WARP).eval()


def shift_at(t: int) -> Tensor:
    return object_frame(POINTS, t, TINY_WARP).shift


def generate(model: StrokesNetworks, t: int) -> GeneratorOutput:
    """Frame t from h_0."""
    context = model.begin(STILL, POINTS)
    return model.generate(context, context.initial, object_frame(POINTS, t, TINY_WARP))


def test_the_still_moves_as_far_as_the_stroke_has_from_its_start() -> None:
    moved = translate(STILL, shift_at(2))  # three to the right, one up
    assert torch.allclose(moved[..., :-1, 3:], STILL[..., 1:, :-3], atol=1e-4)
    assert torch.allclose(moved[..., :-1, 0], STILL[..., 1:, 0], atol=1e-4)  # the border is replicated
    assert torch.allclose(translate(STILL, shift_at(0)), STILL, atol=1e-4)


def test_the_frame_is_the_moved_still_the_still_or_generated_as_the_shares_say() -> None:
    model = build()
    generator = model.decoder
    assert isinstance(generator, WarpGenerator)
    with torch.no_grad():
        for layer, bias in ((generator.colours, -50.0), (generator.share.share, 50.0)):
            layer.weight.zero_()
            layer.bias.fill_(bias)
        moved = generate(model, 2)
        assert torch.allclose(moved.frame, translate(STILL, shift_at(2)), atol=1e-5)
        assert torch.allclose(moved.rgb, torch.full_like(STILL, -1.0))  # clamped, and not shown
        assert torch.equal(moved.unblended, moved.rgb)
        generator.colours.bias[3] = 50.0
        assert torch.allclose(generate(model, 2).frame, STILL, atol=1e-5)
        generator.colours.bias.copy_(torch.tensor([0.5, -0.5, 0.0, np.log(3)]))  # a share of 3 / 4 of the still
        generator.share.share.bias.fill_(-50.0)
        blend = generate(model, 2)
    assert blend.still_share.unique().tolist() == pytest.approx([0.75])
    colours = torch.tensor([0.5, -0.5, 0.0])[:, None, None]
    torch.testing.assert_close(blend.frame, 0.75 * STILL + 0.25 * colours)


def test_the_share_learns_and_rgb_gets_no_gradient_through_it() -> None:
    model = build().train()
    generator = model.decoder
    assert isinstance(generator, WarpGenerator)
    generate(model, 2).warp_share.mean().backward()  # type: ignore[union-attr]
    assert generator.share.share.weight.grad.abs().sum() > 0
    assert generator.colours.weight.grad is None  # the share is told rgb as a fact
    output = generate(model, 2)
    (output.frame - translate(STILL, shift_at(2))).square().mean().backward()
    assert generator.colours.weight.grad[:, :3].abs().sum() > 0  # by the RGB that shows


def test_the_fast_path_is_the_plain_one_but_for_rounding() -> None:
    model = build()
    with torch.no_grad():
        fast, plain = (model.begin(STILL, POINTS, fast=fast) for fast in (True, False))
        state, frame = step(model, fast, fast.initial, POINTS, 0)
        again, same = step(model, plain, plain.initial, POINTS, 0)
        later = model.generate(plain, again, object_frame(POINTS, 2, TINY_WARP)).frame
    assert torch.allclose(state, again, atol=1e-5)
    assert torch.allclose(frame, same, atol=1e-5)
    assert not torch.allclose(frame, later, atol=1e-3)  # the point it belongs to counts


def test_what_is_warped_is_the_large_still_itself() -> None:
    large = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)  # four pixels of the square to one
    canvas = Canvas.prepare(large, SIDE)
    ones, black = torch.ones(1, 1, SIDE, SIDE), torch.full((1, 3, SIDE, SIDE), -1.0)
    output = GeneratorOutput(black, black, black, None, ones)
    made = compose(canvas, output, ones, torch.tensor([2.0, -1.0]))  # 8 pixels to the right and 4 up
    assert np.abs(made[:-4, 8:].astype(int) - large[4:, :-8]).max() <= 1
    half = compose(canvas, output._replace(warp_share=0.5 * ones), ones, torch.tensor([2.0, -1.0]))
    assert np.abs(half[:-4, 8:].astype(int) - large[4:, :-8] / 2).max() <= 1.01  # the rest is generated black
