"""G with fields, in the picture's frame and in the object's, which follows the stroke."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stillmotion import geometry
from stillmotion.errors import StillmotionError
from stillmotion.rendering.fields import PAINT, PLATE, STATIC, WARPED, Fields
from stillmotion.systems.strokes.config import StrokesConfig
from stillmotion.systems.strokes.networks import StrokesNetworks
from stillmotion.systems.strokes.object_frame import (
    FieldGenerator,
    GeneratorOutput,
    ObjectFrame,
    blended,
    from_object_frame,
    object_frame,
    place,
    stroke_in_object_frame,
    to_object_frame,
    translate,
)
from strokes_tools import (
    TINY_FIELDS,
    TINY_OBJECT,
    TINY_STROKES,
    block,
    changed,
    fields_of,
    moves,
    predict_by_hand,
    random_still,
    step,
    tiny_strokes,
)

ZOOMED = changed(TINY_OBJECT, generator__crop_zoom=2.0)
MOVED = changed(TINY_FIELDS, generator__moved_skips=True)
CONFIGS = {"picture": TINY_FIELDS, "object": TINY_OBJECT, "zoomed": ZOOMED, "moved": MOVED}
SIDE = TINY_FIELDS.size
POINTS = torch.tensor([[[8.0, 9.0], [10.0, 9.0], [13.0, 8.0], [13.0, 12.0]]])


def build(config: StrokesConfig = TINY_OBJECT, seed: int = 0) -> StrokesNetworks:
    torch.manual_seed(seed)
    return StrokesNetworks(config).eval()


def picture(seed: int = 1, n: int = 1) -> Tensor:
    """In [0, 1]."""
    return (random_still(SIDE, n, seed) + 1) / 2


def flat(value: float, channels: int = 1) -> Tensor:
    return torch.full((1, channels, SIDE, SIDE), value)


def plate(colour: float | Tensor, known: float | Tensor = 1.0) -> Tensor:
    """A plate of one colour, or of a picture."""
    rgb = flat(colour, 3) if isinstance(colour, float) else colour
    return torch.cat([rgb, torch.ones_like(rgb[:, :1]) * known], dim=1)


def shift(dx: float, dy: float) -> Tensor:
    return geometry.displacement_to_normalised(torch.tensor([[float(dx), float(dy)]]), (SIDE, SIDE))


def at(way: Tensor, zoom: float = 1.0) -> ObjectFrame:
    """The object's frame after a way; what the networks see of the still is its middle."""
    return ObjectFrame(torch.zeros(1, 2), zoom, way)


def generate(model: StrokesNetworks, t: int, still: Tensor, behind: Tensor | None = None) -> GeneratorOutput:
    """Frame t from h_0."""
    context = model.begin(still, POINTS, behind)
    return model.generate(context, context.initial, object_frame(POINTS, t, model.config))


# --- the object's frame of reference -------------------------------------------------------------------------------
def test_the_still_moves_as_far_as_the_stroke_has_from_its_start() -> None:
    still = picture()
    moved = translate(still, object_frame(POINTS, 2, TINY_FIELDS).shift)  # five to the right, one up
    torch.testing.assert_close(moved[..., :-1, 5:], still[..., 1:, :-5], atol=1e-4, rtol=0)
    torch.testing.assert_close(moved[..., :-1, 0], still[..., 1:, 0], atol=1e-4, rtol=0)  # the border is replicated
    torch.testing.assert_close(translate(still, shift(0, 0)), still, atol=1e-4, rtol=0)


def test_the_point_that_is_due_lies_where_the_first_one_does() -> None:
    assert torch.equal(stroke_in_object_frame(POINTS, 0, TINY_OBJECT), POINTS)
    seen = stroke_in_object_frame(POINTS, 2, TINY_OBJECT)
    assert seen[0, 2].tolist() == [8.0, 9.0]
    assert seen[0, 3].tolist() == [8.0, 13.0]  # four pixels below the point before, as it is
    assert seen[0, 0].tolist() == [8.0, 9.0]  # it marks the object, and does not go away


def test_networks_read_strokes_alike_wherever_the_object_has_got_to() -> None:
    model = build()
    straight = torch.stack([torch.arange(9.0) + 4, torch.full((9,), 7.0)], -1)[None]  # one pixel per step
    first, later = model.strokes(straight, 0), model.strokes(straight, 3)
    for a, b in zip(first, later, strict=True):
        torch.testing.assert_close(a, b)
    plain = build(TINY_FIELDS).strokes(straight, 3)
    assert not torch.allclose(plain[0], first[0], atol=1e-2)


def test_true_frames_are_seen_with_the_object_where_it_is_in_the_still() -> None:
    frame = flat(0.0, 3)
    frame[..., 8, 13] = 1.0  # the object is where point 2 is
    seen = build().align(frame, POINTS, 2)
    assert seen[0, 0, 9, 8] == pytest.approx(1.0, abs=1e-4)  # and is seen where point 0 is
    assert seen.sum() == pytest.approx(3.0, abs=1e-3)
    assert torch.equal(build(TINY_FIELDS).align(frame, POINTS, 2), frame)


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


# --- in the picture's frame ----------------------------------------------------------------------------------------
def test_a_displacement_in_the_picture_is_the_heads_less_the_strokes_shift(monkeypatch: pytest.MonkeyPatch) -> None:
    """At point 2 the object is 5 to the right and 1 up; the head looks 2 to the right and 3 down of there."""
    still = random_still(seed=1)
    head = fields_of((0.0, 1.0, 0.0, 0.0))._replace(displacement=shift(2, 3)[:, None, None].expand(1, SIDE, SIDE, 2))
    predict_by_hand(monkeypatch, head)
    found = generate(build(TINY_FIELDS), 2, still).fields
    assert found is not None
    torch.testing.assert_close(found.displacement, shift(2 - 5, 3 + 1)[:, None, None].expand_as(found.displacement))
    predict_by_hand(monkeypatch, head._replace(shares=fields_of((1.0, 0.0, 0.0, 0.0)).shares))
    frame = generate(build(TINY_FIELDS), 2, still).frame
    torch.testing.assert_close(frame[..., :-4, 3:], still[..., 4:, :-3], atol=1e-4, rtol=0)


def test_the_generator_sees_the_still_as_it_is_and_moved_along_the_stroke() -> None:
    model, still, seen = build(MOVED), random_still(), list[Tensor]()
    assert isinstance(model.decoder, FieldGenerator)
    for layer in (*model.decoder.layers[1:], model.decoder.hidden):
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    generate(model, 2, still)
    context, way = model.begin(still, POINTS), object_frame(POINTS, 2, MOVED).shift
    for inputs, maps in zip(seen, reversed(context.features), strict=True):  # quarter, half and full size
        both = torch.cat([maps, translate(maps, way)], dim=1)
        torch.testing.assert_close(inputs[:, -both.shape[1] :], both)
    assert not torch.equal(seen[2][:, -3:], still)


@pytest.mark.parametrize("base", [TINY_OBJECT, TINY_STROKES])
def test_only_fields_in_the_picture_have_moved_skips(base: StrokesConfig) -> None:
    with pytest.raises(StillmotionError, match=r"moved_skips needs fields=true and object_frame=false"):
        changed(base, generator__moved_skips=True)


def test_a_frame_is_blended_as_the_shares_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eighths of the moved still (at point 0, where it is), of the still, of a grey plate and of black paint."""
    still, head = random_still(), fields_of((1 / 8, 2 / 8, 4 / 8, 1 / 8))
    predict_by_hand(monkeypatch, head)
    frame = generate(build(TINY_FIELDS), 0, still, plate(0.75)).frame
    torch.testing.assert_close(frame, 3 / 8 * still + 4 / 8 * 0.5 - 1 / 8)  # in [-1, 1]
    # An unknown plate: the other sources have what it had, in their proportion.
    frame = generate(build(TINY_FIELDS), 0, still, plate(0.75, 0.0)).frame
    torch.testing.assert_close(frame, 3 / 4 * still - 1 / 4)


def test_a_fresh_generator_keeps_the_still() -> None:
    """`FieldHead` starts so, and `initialise` leaves that alone; the rest of G has weights."""
    model, still = build(TINY_FIELDS), random_still()
    assert isinstance(model.decoder, FieldGenerator)
    made = generate(model, 3, still).fields
    assert made is not None
    torch.testing.assert_close(made.displacement, -shift(5, 3)[:, None, None].expand_as(made.displacement))
    e = np.e  # logits 1, 1 and 0 of the moved still, the still and paint; there is no plate
    assert made.shares.mean((0, 2, 3)).tolist() == pytest.approx(
        [e / (2 * e + 1), e / (2 * e + 1), 0, 1 / (2 * e + 1)]
    )
    assert model.decoder.hidden.weight.std() > 0.05
    # Paint starts near grey, and what no clip has told the mask head of is no figure.
    assert 0 < model.decoder.fields.paint.weight.std() < 0.05  # of 0.2 by its inputs
    context = model.begin(still, POINTS)
    assert model.decoder.figure(context.features, context.initial).unique().tolist() == [-4]


# --- in the object's frame: `place` --------------------------------------------------------------------------------
SHIFTS = st.tuples(st.floats(-20, 20), st.floats(-20, 20))


@settings(max_examples=40, deadline=None)
@given(way=SHIFTS, middle=SHIFTS, zoom=st.floats(1, 3), seed=st.integers(0, 9))
def test_shares_sum_to_one_and_outside_of_the_crop_nothing_is_front(
    way: tuple[float, float], middle: tuple[float, float], zoom: float, seed: int
) -> None:
    rng = torch.Generator().manual_seed(seed)
    shares = (4 * torch.randn((1, 4, SIDE, SIDE), generator=rng)).softmax(1)
    inner = Fields(
        torch.randn((1, SIDE, SIDE, 2), generator=rng), shares, torch.rand((1, 3, SIDE, SIDE), generator=rng)
    )
    still = picture(seed)
    known = torch.cat([torch.where(picture(2)[:, :1] > 0.5, picture(3), still), picture(4)[:, :1].round()], dim=1)
    frame = ObjectFrame(shift(*middle), zoom, shift(*way))
    placed = place(inner, still, known, frame)
    torch.testing.assert_close(placed.shares.sum(1), torch.ones(1, SIDE, SIDE))
    assert placed.shares.min() > -1e-5
    away = (geometry.identity_grid((SIDE, SIDE), still) - (frame.centre + frame.shift)[:, None, None]).abs().amax(-1)
    outside = away * zoom > 1 + 2.01 / (SIDE - 1)  # a pixel of the crop beyond its border, where zeros begin
    front = placed.shares[:, [WARPED, PAINT]]
    assert not front.amax(1)[outside].any()
    # Background is plate where the plate is known and differs from the still, and the still elsewhere.
    differs = ((known[:, :3] - still).abs().amax(1) > 1e-3) & (known[:, 3] > 0)
    assert not placed.shares[:, PLATE][~differs].any()
    assert not placed.shares[:, STATIC][differs].any()


def test_the_front_moves_with_the_stroke_and_what_it_leaves_is_plate() -> None:
    """A square of 3 x 4 pixels goes 5 to the right and 2 down; its place in the still is known, and nothing else."""
    still = picture()
    known = torch.where(block(6, 10, 9, 14) > 0, flat(0.25, 3), still)
    placed = place(moves(block(6, 10, 9, 14)), still, plate(known), at(shift(5, 2)))
    for source, mask in ((WARPED, block(11, 12, 14, 16)), (PLATE, block(6, 10, 9, 14))):
        torch.testing.assert_close(placed.shares[0, source], mask, atol=1e-4, rtol=0)
    frame = (blended(placed, still, plate(known)).frame + 1) / 2
    torch.testing.assert_close(frame[..., 12:16, 11:14], still[..., 10:14, 6:9], atol=1e-4, rtol=0)
    torch.testing.assert_close(frame[..., 10:12, 6:9], flat(0.25, 3)[..., 10:12, 6:9], atol=1e-4, rtol=0)
    torch.testing.assert_close(frame[..., 20:, :], still[..., 20:, :], atol=1e-4, rtol=0)


def test_paint_moves_with_the_stroke_and_has_its_colours_there() -> None:
    inner = moves(block(6, 10, 9, 14), PAINT)
    inner.paint[:, 0, 10:14, 6:9] = 0.75
    placed = place(inner, picture(), None, at(shift(5, 2)))
    torch.testing.assert_close(placed.shares[0, PAINT], block(11, 12, 14, 16), atol=1e-4, rtol=0)
    torch.testing.assert_close(placed.paint[0, 0], 0.75 * block(11, 12, 14, 16), atol=1e-4, rtol=0)


def test_what_the_head_says_of_the_background_is_not_asked_for() -> None:
    """In the object's frame the background moves: static and plate there are no places of the picture."""
    still, behind = picture(), plate(picture(2))
    for name in ("plate", "static"):
        inner = fields_of((0.25, 0.75, 0.0, 0.0) if name == "static" else (0.25, 0.0, 0.75, 0.0))
        shares = place(inner, still, behind, at(shift(0, 0))).shares
        assert shares.mean((0, 2, 3)).tolist() == pytest.approx([0.25, 0.0, 0.75, 0.0], abs=1e-4)


@pytest.mark.parametrize("known", ["not given", "not known", "the still"])
def test_without_a_plate_of_its_own_the_background_is_the_still(known: str) -> None:
    still = picture()
    given = {"not given": None, "not known": plate(0.25, 0.0), "the still": plate(still + 5e-4)}[known]
    frame = blended(place(moves(block(6, 10, 9, 14)), still, given, at(shift(9, 0))), still, given).frame
    torch.testing.assert_close((frame[..., :15] + 1) / 2, still[..., :15], atol=1e-4, rtol=0)


def test_each_clip_of_a_batch_knows_its_own_plate() -> None:
    both = torch.cat([plate(0.25), plate(0.25, 0.0)])
    inner = Fields(*(part.expand(2, *part.shape[1:]) for part in fields_of((0.0, 1.0, 0.0, 0.0))))
    frame = ObjectFrame(torch.zeros(2, 2), 1.0, torch.zeros(2, 2))
    shares = place(inner, picture(n=2), both, frame).shares
    assert shares[:, PLATE].mean((1, 2)).tolist() == [1.0, 0.0]


def test_a_zoomed_front_is_moved_as_far_as_the_stroke_and_displaced_by_pixels_of_the_view() -> None:
    still = picture()
    frame = object_frame(torch.tensor([[[15.5, 15.5], [18.5, 14.5]]]), 1, ZOOMED)
    torch.testing.assert_close(frame.shift, shift(3, -1))
    bent = shift(2, 0)[:, None, None].expand(1, SIDE, SIDE, 2)  # two pixels of the view, one of the picture
    inner = fields_of((1.0, 0.0, 0.0, 0.0))._replace(displacement=bent)
    placed = place(inner, still, None, frame)
    middle = placed.displacement[:, 12:18, 15:22]
    torch.testing.assert_close(middle, shift(1 - 3, 1)[:, None, None].expand_as(middle), atol=1e-5, rtol=0)
    made = (blended(placed, still, None).frame + 1) / 2
    torch.testing.assert_close(made[..., 12:18, 15:22], still[..., 13:19, 13:20], atol=1e-4, rtol=0)
    half = place(moves(block(12, 14, 20, 18)), still, None, frame).shares[0, WARPED]  # 8 x 4 of the view, around its
    assert half[13:16, 15:22].sum() == pytest.approx(4 * 2, abs=0.1)  # middle, are 4 x 2 around (18.5, 14.5)
    assert half.sum() == pytest.approx(4 * 2, abs=0.1)


def test_beyond_what_the_networks_see_the_still_stays() -> None:
    model, still = build(ZOOMED, 1), random_still()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.2 * torch.randn(value.shape))
    points = POINTS + 5
    with torch.no_grad():
        context = model.begin(still, points)
        output = model.generate(context, torch.randn_like(context.initial), object_frame(points, 3, ZOOMED))
    for made in (output.frame, output.unblended):
        y, x = torch.nonzero((made - still).abs().amax(1)[0] > 1e-5).unbind(1)
        # A view of 16 pixels around the last point, (18, 17).
        assert (x.min() >= 9, y.min() >= 8, x.max() <= 27, y.max() <= 26) == (True,) * 4
        assert len(x) > 100


# --- what learns ---------------------------------------------------------------------------------------------------
def test_unblended_has_paint_for_the_moved_still_and_its_gradient_alone() -> None:
    """Shares of 0.4 moved, 0.3 still and 0.2 plate; with 0.1 its own, paint of 0.5 has a half of what is shown."""
    still, behind = picture(), plate(0.25)
    parts = [part.requires_grad_() for part in fields_of((0.4, 0.3, 0.2, 0.1), paint=0.5)]
    made = blended(Fields(*parts), still, behind)
    torch.testing.assert_close((made.unblended + 1) / 2, 0.3 * still + 0.2 * 0.25 + 0.5 * 0.5)
    made.unblended.sum().backward()
    displacement, shares, paint = parts
    assert displacement.grad is None
    assert shares.grad is None
    torch.testing.assert_close(paint.grad, torch.full_like(paint, 2 * 0.5))
    blended(Fields(*parts), still, behind).frame.square().sum().backward()
    assert all(part.grad is not None and part.grad.abs().sum() > 0 for part in parts)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_part_learns_from_one_step(name: str) -> None:
    model, still = tiny_strokes(base=CONFIGS[name]).networks.train(), random_still()
    context = model.begin(still, POINTS, plate(0.25), fast=False)
    inputs = model.step_inputs(context, context.initial, POINTS, 1)
    output = model(inputs).generated
    rebuilt = model.generate(context, model.encode(random_still(seed=2), POINTS, 2), inputs.frame).unblended
    assert isinstance(model.decoder, FieldGenerator)
    figure = model.decoder.figure(context.features, context.initial)
    (output.frame.square().mean() + output.unblended.mean() + rebuilt.mean() + figure.mean()).backward()
    assert not [name for name, value in model.named_parameters() if value.grad is None]
    for layer in (model.decoder.fields.flow, model.decoder.fields.shares, model.decoder.fields.paint):
        assert layer.weight.grad.flatten(1).abs().sum(1).gt(0).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_fast_path_is_the_plain_one_but_for_rounding(name: str) -> None:
    model, still = tiny_strokes(base=CONFIGS[name]).networks, random_still()
    with torch.no_grad():
        fast, plain = (model.begin(still, POINTS, plate(0.25), fast=fast) for fast in (True, False))
        state, frame = step(model, fast, fast.initial, POINTS, 1)
        again, same = step(model, plain, plain.initial, POINTS, 1)
        later = model.generate(plain, again, object_frame(POINTS, 3, model.config)).frame
    torch.testing.assert_close(state, again, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(frame, same, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(frame, later, atol=1e-3)  # the point it belongs to counts


def test_a_residual_state_stays_where_nothing_is_added() -> None:
    model, still = build(changed(TINY_OBJECT, predictor__residual=True)), random_still()

    def predict(before: Tensor, fast: bool) -> Tensor:
        context = model.begin(still, POINTS, fast=fast)
        return model.predict(model.step_inputs(context, before, POINTS, 0))[0]

    with torch.no_grad():
        before = torch.randn_like(model.begin(still, POINTS).initial)
        assert (predict(before, True) - before).abs().max() > 1e-3
        for parameter in model.predictor.transition.parameters():
            parameter.zero_()
        for fast in (True, False):
            torch.testing.assert_close(predict(before, fast), before)


# --- the still's figure --------------------------------------------------------------------------------------------
def test_the_figure_is_what_the_mask_head_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the picture's frame; what the fields move at the start is another place, and does not count."""
    found = 0.7 * block(4, 4, 8, 8) + 0.2 * block(10, 10, 14, 14)
    predict_by_hand(monkeypatch, moves(block(10, 4, 14, 8)), found)
    model = build(TINY_FIELDS)
    figure = model.figure(model.begin(random_still(), POINTS), POINTS)
    torch.testing.assert_close(figure[0, 0], found, atol=1e-5, rtol=0)


def test_a_figure_seen_in_the_objects_frame_is_where_it_is_in_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The view of 16 pixels is around the first point, (8, 9): its middle 8 x 8 pixels are 4 x 4 there."""
    model, context = build(ZOOMED), build(ZOOMED).begin(random_still(), POINTS)
    predict_by_hand(monkeypatch, fields_of((0.0, 1.0, 0.0, 0.0)), block(12, 12, 20, 20))
    found = model.figure(context, POINTS)[0, 0]
    assert found.sum() == pytest.approx(16, abs=0.2)
    y, x = torch.nonzero(found > 0.5).float().mean(0).tolist()
    assert (x, y) == pytest.approx((8, 9), abs=0.3)
    predict_by_hand(monkeypatch, fields_of((0.0, 1.0, 0.0, 0.0)), torch.ones(SIDE, SIDE))
    found = model.figure(context, POINTS)[0, 0]
    assert found[4:14, 3:13].min() > 0.99
    assert not found[20:].any()  # outside of the view nothing is known
    assert not found[:, 20:].any()
