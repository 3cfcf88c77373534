"""`object_frame`: the networks work in a frame of reference that follows the stroke; what they generate is moved."""

import numpy as np
import pytest
import torch
from torch import Tensor

from stillmotion import geometry
from stillmotion.systems.strokes.compositing import Canvas, compose
from stillmotion.systems.strokes.config import StrokesConfig
from stillmotion.systems.strokes.networks import StrokesNetworks
from stillmotion.systems.strokes.object_frame import (
    Foreground,
    GeneratorOutput,
    ObjectFrame,
    ObjectFrameGenerator,
    alpha_composite,
    from_object_frame,
    object_frame,
    stroke_in_object_frame,
    to_object_frame,
    translate,
)
from strokes_tools import TINY_WARP, changed, step

CONFIG = changed(TINY_WARP, generator__object_frame=True)
ZOOMED = changed(CONFIG, generator__crop_zoom=2.0)
SIDE = CONFIG.size
POINTS = torch.tensor([[[8.0, 9.0], [10.0, 9.0], [13.0, 8.0], [13.0, 12.0]]])


def build(config: StrokesConfig = CONFIG, seed: int = 0) -> StrokesNetworks:
    torch.manual_seed(seed)
    return StrokesNetworks(config).eval()


def picture(seed: int = 1, channels: int = 3) -> Tensor:
    return torch.rand((1, channels, SIDE, SIDE), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def flat(value: float, channels: int = 1) -> Tensor:
    return torch.full((1, channels, SIDE, SIDE), value)


def shift(dx: float, dy: float) -> Tensor:
    return geometry.displacement_to_normalised(torch.tensor([[float(dx), float(dy)]]), (SIDE, SIDE))


def at(way: Tensor) -> ObjectFrame:
    return ObjectFrame(torch.zeros(1, 2), 1.0, way)


def test_the_point_that_is_due_lies_where_the_first_one_does() -> None:
    assert torch.equal(stroke_in_object_frame(POINTS, 0, CONFIG), POINTS)
    seen = stroke_in_object_frame(POINTS, 2, CONFIG)
    assert seen[0, 2].tolist() == [8.0, 9.0]
    assert seen[0, 3].tolist() == [8.0, 13.0]  # four pixels below the point before, as it is
    assert seen[0, 0].tolist() == [8.0, 9.0]  # it marks the object, and does not go away


def test_networks_read_strokes_alike_wherever_the_object_has_got_to() -> None:
    model = build()
    straight = torch.stack([torch.arange(9.0) + 4, torch.full((9,), 7.0)], -1)[None]  # one pixel per step
    first, later = model.strokes(straight, 0), model.strokes(straight, 3)
    for a, b in zip(first, later, strict=True):
        torch.testing.assert_close(a, b)
    plain = build(TINY_WARP).strokes(straight, 3)
    assert not torch.allclose(plain[0], first[0], atol=1e-2)


def test_true_frames_are_seen_with_the_object_where_it_is_in_the_still() -> None:
    frame = flat(0.0, 3)
    frame[..., 8, 13] = 1.0  # the object is where point 2 is
    seen = build().align(frame, POINTS, 2)
    assert seen[0, 0, 9, 8] == pytest.approx(1.0, abs=1e-4)  # and is seen where point 0 is
    assert seen.sum() == pytest.approx(3.0, abs=1e-3)
    assert torch.equal(build(TINY_WARP).align(frame, POINTS, 2), frame)


def test_pixels_are_sampled_at_the_way_back_and_the_displacement() -> None:
    still = picture()
    displacement = shift(1, 2)[:, :, None, None].expand(1, 2, SIDE, SIDE)
    made = translate(still, shift(3, -1), displacement)  # three to the right and one up, from (1, 2) further
    torch.testing.assert_close(made[..., 5, 10], still[..., 5 + 1 + 2, 10 - 3 + 1], atol=1e-4, rtol=0)


def foreground(rgb: float, alpha: float, share: float) -> Foreground:
    return Foreground(flat(rgb, 3), flat(alpha), flat(share), flat(0.0, 2))


@pytest.mark.parametrize(
    ("alpha", "share", "still_share", "wanted"),
    [(1.0, 1.0, 0.0, "warped"), (1.0, 0.0, 1.0, "rgb"), (0.0, 1.0, 1.0, "still"), (0.0, 1.0, 0.0, "background")],
)
def test_what_lies_in_front(alpha: float, share: float, still_share: float, wanted: str) -> None:
    still, background, way = picture(), picture(2), shift(4, 0)
    output = alpha_composite(foreground(0.5, alpha, share), background, flat(still_share), still, at(way))
    pictures = {"warped": translate(still, way), "rgb": flat(0.5, 3), "still": still, "background": background}
    # Left of what moved nothing covers: there the picture ended.
    torch.testing.assert_close(output.frame[..., 5:], pictures[wanted][..., 5:], atol=1e-5, rtol=0)


def test_the_foreground_moves_and_leaves_the_background_behind() -> None:
    alpha = flat(0.0)
    alpha[..., 10:14, 6:9] = 1.0
    still = flat(-1.0, 3)
    one = Foreground(flat(0.5, 3), alpha, flat(0.0), flat(0.0, 2))
    frame = alpha_composite(one, flat(0.25, 3), flat(0.0), still, at(shift(5, 2))).frame
    assert frame[0, 0, 12:16, 11:14].sub(0.5).abs().lt(1e-4).all()
    assert frame[0, 0, 10:12, 6:9].sub(0.25).abs().lt(1e-4).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_shares_make_the_frame(seed: int) -> None:
    """As `GeneratorOutput` says: `compose` builds large frames from the shares."""
    generator = torch.Generator().manual_seed(seed)
    shares = [torch.rand((1, 1, SIDE, SIDE), generator=generator) for _ in range(3)]
    displacement = 0.1 * (torch.rand((1, 2, SIDE, SIDE), generator=generator) - 0.5)
    still, way = picture(3), shift(2.5, -1.25)
    one = Foreground(picture(4), shares[0], shares[1], displacement)
    output = alpha_composite(one, picture(5), shares[2], still, at(way))
    warped = translate(still, way, output.displacement)
    blend = output.warp_share * warped + (1 - output.warp_share) * output.rgb
    wanted = output.still_share * still + (1 - output.still_share) * blend
    torch.testing.assert_close(output.frame, wanted, atol=1e-4, rtol=0)
    assert 0 <= output.warp_share.min() <= output.warp_share.max() <= 1 + 1e-5


def test_unblended_has_nothing_of_the_still_and_trains_rgb_and_not_alpha() -> None:
    alpha = flat(0.6).requires_grad_()
    rgb = flat(0.5, 3).requires_grad_()
    one = Foreground(rgb, alpha, flat(0.9), flat(0.0, 2))
    output = alpha_composite(one, flat(-0.5, 3), flat(0.8), picture(), at(shift(0, 0)))
    torch.testing.assert_close(output.unblended, flat(0.6 * 0.5 - 0.4 * 0.5, 3))
    output.unblended.sum().backward()
    assert alpha.grad is None
    assert rgb.grad.sum() == pytest.approx(0.6 * 3 * SIDE * SIDE, rel=1e-4)


def test_every_part_learns_from_one_step() -> None:
    model = build().train()
    context = model.begin(picture(0), POINTS, fast=False)
    inputs = model.step_inputs(context, context.initial, POINTS, 1)
    output = model(inputs).generated
    rebuilt = model.generate(context, model.encode(picture(2), POINTS, 2), inputs.frame).unblended
    (output.frame.square().mean() + output.unblended.mean() + rebuilt.mean()).backward()
    assert not [name for name, value in model.named_parameters() if value.grad is None]
    assert isinstance(model.decoder, ObjectFrameGenerator)
    gradient = model.decoder.layer.colours.weight.grad
    assert gradient.flatten(1).abs().sum(1).gt(0).all()  # rgb, alpha and displacement


def test_the_fast_path_is_the_plain_one_but_for_rounding() -> None:
    model, still = build(), picture()
    with torch.no_grad():
        fast, plain = (model.begin(still, POINTS, fast=fast) for fast in (True, False))
        state, frame = step(model, fast, fast.initial, POINTS, 1)
        again, same = step(model, plain, plain.initial, POINTS, 1)
    torch.testing.assert_close(state, again, atol=1e-5, rtol=0)
    torch.testing.assert_close(frame, same, atol=1e-5, rtol=0)


def test_a_displacement_is_as_large_at_the_stills_own_size() -> None:
    large = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)  # four pixels of the square to one
    canvas = Canvas.prepare(large, SIDE)
    displacement = shift(1.0, 0.0)[:, :, None, None].expand(1, 2, SIDE, SIDE)
    black = flat(-1.0, 3)
    output = GeneratorOutput(black, black, black, None, flat(1.0), displacement)
    made = compose(canvas, output, flat(1.0), torch.tensor([2.0, -1.0]))  # 8 right, 4 up, from 4 further right
    assert np.abs(made[:-4, 8:-8].astype(int) - large[4:, 4:-12]).max() <= 1


def test_a_residual_state_stays_where_nothing_is_added() -> None:
    model = build(changed(CONFIG, predictor__residual=True))

    def predict(before: Tensor, fast: bool) -> Tensor:
        context = model.begin(picture(), POINTS, fast=fast)
        return model.predict(model.step_inputs(context, before, POINTS, 0))[0]

    with torch.no_grad():
        before = torch.randn_like(model.begin(picture(), POINTS).initial)
        assert (predict(before, True) - before).abs().max() > 1e-3
        for parameter in model.predictor.transition.parameters():
            parameter.zero_()
        for fast in (True, False):
            torch.testing.assert_close(predict(before, fast), before)


# --- crop_zoom -----------------------------------------------------------------------------------------------------
def test_with_a_zoom_the_object_is_in_the_middle_and_larger() -> None:
    frame = flat(0.0, 3)
    frame[..., 7:10, 12:15] = 1.0  # around point 2
    seen = build(ZOOMED).align(frame, POINTS, 2)[0, 0]
    y, x = torch.nonzero(seen > 0.5).float().mean(0).tolist()
    assert (x, y) == pytest.approx((15.5, 15.5), abs=0.3)
    assert seen.sum() == pytest.approx(4 * 9, rel=0.15)
    strokes = stroke_in_object_frame(POINTS, 2, ZOOMED)[0]
    assert strokes[2].tolist() == [15.5, 15.5]
    assert (strokes[3] - strokes[2]).tolist() == [0.0, 8.0]  # four pixels, seen twice as large
    assert strokes[0].tolist() == [15.5, 15.5]


def test_from_object_frame_is_the_inverse_of_to_object_frame() -> None:
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    smooth = torch.stack([x / SIDE, y / SIDE, (x - y) / SIDE])[None].float()
    frame = object_frame(POINTS + 6, 1, ZOOMED)
    back = from_object_frame(to_object_frame(smooth, frame), frame)
    # The middle of the view is point 1, (16, 15); it reaches 7.5 pixels to each side.
    torch.testing.assert_close(back[..., 9:22, 10:23], smooth[..., 9:22, 10:23], atol=1e-4, rtol=0)
    outside = from_object_frame(flat(1.0), frame, padding="zeros")
    assert outside[..., 9:22, 10:23].min() > 1 - 1e-4
    assert outside[..., :6, :].abs().max() == 0


def test_beyond_what_the_networks_see_the_still_stays() -> None:
    model = build(ZOOMED, 1)
    still, points = picture(), POINTS + 5
    with torch.no_grad():
        context = model.begin(still, points)
        output = model.generate(context, torch.randn_like(context.initial), object_frame(points, 3, ZOOMED))
    for made in (output.frame, output.unblended):
        different = (made - still).abs().amax(1)[0] > 1e-5
        assert different.any()
        y, x = torch.nonzero(different).unbind(1)
        # Two views of 16 pixels: around the first point, (13, 14), and around the last, (18, 17).
        assert (x.min() >= 4, y.min() >= 5, x.max() <= 27, y.max() <= 26) == (True,) * 4


def test_a_zoomed_foreground_is_moved_as_far_as_the_stroke() -> None:
    still, way = picture(), torch.tensor([[3.0, -1.0]])
    points = torch.tensor([[[15.5, 15.5], [18.5, 14.5]]])
    frame = object_frame(points, 1, ZOOMED)
    torch.testing.assert_close(frame.shift, shift(*way[0].tolist()))
    bend = shift(2.0, 0.0)[:, :, None, None].expand(1, 2, SIDE, SIDE)  # two pixels of the view, one of the picture
    one = Foreground(flat(0.0, 3), flat(1.0), flat(1.0), bend)
    made = alpha_composite(one, flat(0.0, 3), flat(1.0), still, frame).frame
    # In the middle of the view every pixel is the still's, from (3, -1) back and one to the right.
    torch.testing.assert_close(made[..., 12:18, 15:22], still[..., 13:19, 13:20], atol=1e-4, rtol=0)
