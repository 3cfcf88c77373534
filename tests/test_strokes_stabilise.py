"""`stabilise`: a camera follows the stroke, and what G paints is moved along it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from stillmotion import geometry
from stillmotion.errors import StillmotionError
from stillmotion.systems.strokes import carrying
from stillmotion.systems.strokes.composing import Canvas, compose
from stillmotion.systems.strokes.networks import Drawn, StrokesNetworks, layered
from stillmotion.systems.strokes.objectives import held, look, make
from strokes_tools import TINY_STROKES

CONFIG = replace(TINY_STROKES, carry=True, stabilise=True, skips=True)
SIDE = CONFIG.size
POINTS = torch.tensor([[[8.0, 9.0], [10.0, 9.0], [13.0, 8.0], [13.0, 12.0]]])


def networks(seed: int = 0) -> StrokesNetworks:
    torch.manual_seed(seed)
    return StrokesNetworks(CONFIG).eval()


def picture(seed: int = 1, channels: int = 3) -> Tensor:
    return torch.rand((1, channels, SIDE, SIDE), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def flat(value: float, channels: int = 1) -> Tensor:
    return torch.full((1, channels, SIDE, SIDE), value)


def shift(dx: float, dy: float) -> Tensor:
    return geometry.displacement_to_normalised(torch.tensor([[float(dx), float(dy)]]), (SIDE, SIDE))


def at(way: Tensor) -> carrying.Camera:
    return carrying.Camera(torch.zeros(1, 2), 1.0, way)


def test_the_point_that_is_due_lies_where_the_first_one_does() -> None:
    assert torch.equal(carrying.stabilised(POINTS, 0, SIDE), POINTS)
    seen = carrying.stabilised(POINTS, 2, SIDE)
    assert seen[0, 2].tolist() == [8.0, 9.0]
    assert seen[0, 3].tolist() == [8.0, 13.0]  # four pixels below the point before, as it is
    assert seen[0, 0].tolist() == [8.0, 9.0]  # it marks the object, and does not go away


def test_networks_read_strokes_alike_wherever_the_object_has_got_to() -> None:
    model = networks()
    straight = torch.stack([torch.arange(9.0) + 4, torch.full((9,), 7.0)], -1)[None]  # one pixel per step
    first, later = model.motion_pictures(straight, 0), model.motion_pictures(straight, 3)
    for a, b in zip(first, later, strict=True):
        torch.testing.assert_close(a, b)
    plain = StrokesNetworks(replace(CONFIG, stabilise=False, skips=False)).motion_pictures(straight, 3)
    assert not torch.allclose(plain[0], first[0], atol=1e-2)


def test_true_frames_are_seen_with_the_object_held_still() -> None:
    frame = flat(0.0, 3)
    frame[..., 8, 13] = 1.0  # the object is where point 2 is
    seen = held(frame, POINTS, 2, CONFIG)
    assert seen[0, 0, 9, 8] == pytest.approx(1.0, abs=1e-4)  # and is seen where point 0 is
    assert seen.sum() == pytest.approx(3.0, abs=1e-3)
    assert torch.equal(held(frame, POINTS, 2, replace(CONFIG, stabilise=False, skips=False)), frame)


def test_pixels_are_taken_from_the_way_back_and_the_flow() -> None:
    still = picture()
    flow = shift(1, 2)[:, :, None, None].expand(1, 2, SIDE, SIDE)
    made = carrying.moved(still, shift(3, -1), flow)  # three to the right and one up, from (1, 2) further
    torch.testing.assert_close(made[..., 5, 10], still[..., 5 + 1 + 2, 10 - 3 + 1], atol=1e-4, rtol=0)


def piece(paint: float, cover: float, share: float) -> carrying.Piece:
    return carrying.Piece(flat(paint, 3), flat(cover), flat(share), flat(0.0, 2))


@pytest.mark.parametrize(
    ("cover", "share", "keep", "wanted"),
    [
        (1.0, 1.0, 0.0, "carried"),
        (1.0, 0.0, 1.0, "paint"),
        (0.0, 1.0, 1.0, "still"),
        (0.0, 1.0, 0.0, "behind"),
    ],
)
def test_what_lies_in_front(cover: float, share: float, keep: float, wanted: str) -> None:
    still, behind, way = picture(), picture(2), shift(4, 0)
    drawn = layered(piece(0.5, cover, share), behind, flat(keep), still, at(way))
    pictures = {"carried": carrying.moved(still, way), "paint": flat(0.5, 3), "still": still, "behind": behind}
    # Left of what moved nothing covers: there the picture ended.
    torch.testing.assert_close(drawn.frame[..., 5:], pictures[wanted][..., 5:], atol=1e-5, rtol=0)


def test_a_cover_moves_and_leaves_the_ground_behind() -> None:
    cover = flat(0.0)
    cover[..., 10:14, 6:9] = 1.0
    still = flat(-1.0, 3)
    one = carrying.Piece(flat(0.5, 3), cover, flat(0.0), flat(0.0, 2))
    frame = layered(one, flat(0.25, 3), flat(0.0), still, at(shift(5, 2))).frame
    assert frame[0, 0, 12:16, 11:14].sub(0.5).abs().lt(1e-4).all()
    assert frame[0, 0, 10:12, 6:9].sub(0.25).abs().lt(1e-4).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_parts_make_the_frame(seed: int) -> None:
    """As for other blends: `compose` builds large frames from the shares."""
    generator = torch.Generator().manual_seed(seed)
    shares = [torch.rand((1, 1, SIDE, SIDE), generator=generator) for _ in range(3)]
    flow = 0.1 * (torch.rand((1, 2, SIDE, SIDE), generator=generator) - 0.5)
    still, way = picture(3), shift(2.5, -1.25)
    drawn = layered(carrying.Piece(picture(4), shares[0], shares[1], flow), picture(5), shares[2], still, at(way))
    assert drawn.keep is not None
    assert drawn.share is not None
    assert drawn.own is not None
    torch.testing.assert_close(drawn.painted + drawn.keep * (still - drawn.painted), drawn.frame, atol=1e-5, rtol=0)
    carried = carrying.moved(still, way, drawn.flow)
    torch.testing.assert_close(drawn.own + drawn.share * (carried - drawn.own), drawn.painted, atol=1e-4, rtol=0)
    assert 0 <= drawn.share.min() <= drawn.share.max() <= 1 + 1e-5


def test_paint_alone_holds_nothing_of_the_still_and_teaches_the_paint_not_the_cover() -> None:
    cover = flat(0.6).requires_grad_()
    paint = flat(0.5, 3).requires_grad_()
    one = carrying.Piece(paint, cover, flat(0.9), flat(0.0, 2))
    drawn = layered(one, flat(-0.5, 3), flat(0.8), picture(), at(shift(0, 0)))
    torch.testing.assert_close(drawn.paint, flat(0.6 * 0.5 - 0.4 * 0.5, 3))
    drawn.paint.sum().backward()
    assert cover.grad is None
    assert paint.grad is not None
    assert paint.grad.sum() == pytest.approx(0.6 * 3 * SIDE * SIDE, rel=1e-4)


def test_every_part_learns_from_one_step() -> None:
    model = networks().train()
    frames = torch.stack([picture(seed)[0] for seed in range(4)])[None]
    rng = torch.Generator().manual_seed(0)
    made = make(model, look(frames, POINTS, 1, CONFIG, model, rng), None)
    assert made.rebuilt is not None
    (made.drawn.frame.square().mean() + made.drawn.paint.mean() + made.rebuilt.mean()).backward()
    parts = (model.encoder, model.motion, model.predictor, model.decoder)
    silent = [name for part in parts for name, value in part.named_parameters() if value.grad is None]
    assert not silent
    assert model.decoder.layer is not None
    assert model.decoder.layer.colours.weight.grad.flatten(1).abs().sum(1).gt(0).all()  # colours, cover and flow


def test_steps_go_on_as_the_plain_way_does() -> None:
    model, still = networks(), picture()
    with torch.no_grad():
        fast, plain = (model.begin(still, POINTS, fast=fast) for fast in (True, False))
        state, frame = model.advance(fast, fast.initial, 1)
        again, same = model.advance(plain, plain.initial, 1)
    torch.testing.assert_close(state, again, atol=1e-5, rtol=0)
    torch.testing.assert_close(frame, same, atol=1e-5, rtol=0)


def test_a_bent_still_is_taken_from_as_far_at_its_own_size() -> None:
    large = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)  # four pixels of the square to one
    canvas = Canvas.prepare(large, SIDE)
    flow = shift(1.0, 0.0)[:, :, None, None].expand(1, 2, SIDE, SIDE)
    black = flat(-1.0, 3)
    drawn = Drawn(black, black, None, black, flat(1.0), flow)
    made = compose(canvas, drawn, flat(1.0), torch.tensor([2.0, -1.0]))  # 8 right, 4 up, from 4 further right
    assert np.abs(made[:-4, 8:-8].astype(int) - large[4:, 4:-12]).max() <= 1


@pytest.mark.parametrize("changes", [{"carry": False}, {"stroke_window": 0}])
def test_it_needs_what_it_holds_still(changes: dict[str, int]) -> None:
    with pytest.raises(StillmotionError, match="stabilise needs"):
        replace(CONFIG, **changes)


def test_a_residual_state_stays_where_nothing_is_added() -> None:
    config = replace(CONFIG, residual=True)
    torch.manual_seed(0)
    model = StrokesNetworks(config).eval()
    with torch.no_grad():
        context = model.begin(picture(), POINTS)
        before = torch.randn_like(context.initial)
        moved = model.predict(context, before, 0)
        assert (moved - before).abs().max() > 1e-3
        for parameter in model.predictor.transition.parameters():
            parameter.zero_()
        for fast in (True, False):
            again = model.begin(picture(), POINTS, fast=fast)
            torch.testing.assert_close(model.predict(again, before, 0), before)


# --- zoom ----------------------------------------------------------------------------------------------------------

ZOOMED = replace(CONFIG, zoom=2.0)


def test_the_camera_sees_the_object_in_the_middle_and_larger() -> None:
    frame = flat(0.0, 3)
    frame[..., 7:10, 12:15] = 1.0  # around point 2
    seen = held(frame, POINTS, 2, ZOOMED)[0, 0]
    y, x = torch.nonzero(seen > 0.5).float().mean(0).tolist()
    assert (x, y) == pytest.approx((15.5, 15.5), abs=0.3)
    assert seen.sum() == pytest.approx(4 * 9, rel=0.15)
    strokes = carrying.stabilised(POINTS, 2, SIDE, 2.0)[0]
    assert strokes[2].tolist() == [15.5, 15.5]
    assert (strokes[3] - strokes[2]).tolist() == [0.0, 8.0]  # four pixels, seen twice as large
    assert strokes[0].tolist() == [15.5, 15.5]


def test_what_the_camera_sees_is_put_back_where_it_was() -> None:
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    smooth = torch.stack([x / SIDE, y / SIDE, (x - y) / SIDE])[None].float()
    camera = carrying.camera(POINTS + 6, 1, SIDE, 2.0)
    back = carrying.placed_by(camera, carrying.seen_by(camera, smooth))
    # The middle of the view is point 1, (16, 15); it reaches 7.5 pixels to each side.
    torch.testing.assert_close(back[..., 9:22, 10:23], smooth[..., 9:22, 10:23], atol=1e-4, rtol=0)
    outside = carrying.placed_by(camera, flat(1.0), padding="zeros")
    assert outside[..., 9:22, 10:23].min() > 1 - 1e-4
    assert outside[..., :6, :].abs().max() == 0


def test_beyond_what_it_sees_the_still_stays() -> None:
    torch.manual_seed(1)
    model = StrokesNetworks(ZOOMED).eval()
    still, points = picture(), POINTS + 5
    with torch.no_grad():
        context = model.begin(still, points)
        drawn = model.draw(context, torch.randn_like(context.initial), 2)
    for made in (drawn.frame, drawn.paint):
        changed = (made - still).abs().amax(1)[0] > 1e-5
        assert changed.any()
        y, x = torch.nonzero(changed).unbind(1)
        # Two views of 16 pixels: around the first point, (13, 14), and around the last, (18, 17).
        assert (x.min() >= 4, y.min() >= 5, x.max() <= 27, y.max() <= 26) == (True,) * 4


def test_a_zoomed_piece_is_moved_as_far_as_the_stroke() -> None:
    still, way = picture(), torch.tensor([[3.0, -1.0]])
    points = torch.tensor([[[15.5, 15.5], [18.5, 14.5]]])
    camera = carrying.camera(points, 1, SIDE, 2.0)
    torch.testing.assert_close(camera.shift, shift(*way[0].tolist()))
    bend = shift(2.0, 0.0)[:, :, None, None].expand(1, 2, SIDE, SIDE)  # two pixels of the view, one of the picture
    one = carrying.Piece(flat(0.0, 3), flat(1.0), flat(1.0), bend)
    frame = layered(one, flat(0.0, 3), flat(1.0), still, camera).frame
    # In the middle of the view every pixel is the still's, from (3, -1) back and one to the right.
    torch.testing.assert_close(frame[..., 12:18, 15:22], still[..., 13:19, 13:20], atol=1e-4, rtol=0)


@pytest.mark.parametrize("zoom", [0.5, 2.0])
def test_zoom_needs_a_camera(zoom: float) -> None:
    with pytest.raises(StillmotionError, match="zoom must be 1"):
        replace(TINY_STROKES, carry=True, zoom=zoom)
