"""Fields by hand: the head's start, shares, the blend, and the figure's mask head."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from refusals import refuses
from stillmotion import geometry
from stillmotion.rendering.fields import (
    PAINT,
    PLATE,
    STATIC,
    WARPED,
    FieldHead,
    Fields,
    MaskHead,
    blend,
    restrict,
    warp_still,
)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def fields(shares: tuple[float, ...], count: int = 1, side: int = 2, paint: float = 0.0) -> Fields:
    """Of frames without motion, the same everywhere."""
    spread = torch.tensor(shares).view(1, 4, 1, 1).expand(count, 4, side, side)
    return Fields(torch.zeros(count, side, side, 2), spread, torch.full((count, 3, side, side), paint))


# --- the head ------------------------------------------------------------------------------------------------------
def test_the_sources_are_in_their_order() -> None:
    """Trained weights, data and layers count on it."""
    assert (WARPED, STATIC, PLATE, PAINT) == (0, 1, 2, 3)


def test_a_fresh_head_keeps_the_still() -> None:
    """Logits of 1, 1, 0 and 0: the moved still, which does not move, and the unmoved one have e / (e + 1)."""
    maps, still = random(2, 5, 6, 9), random(2, 3, 6, 9, seed=1)
    made = FieldHead(5)(maps)
    assert torch.equal(made.displacement, torch.zeros(2, 6, 9, 2))
    share = math.e / (2 * math.e + 2)
    torch.testing.assert_close(made.shares[:, :2], torch.full((2, 2, 6, 9), share))
    torch.testing.assert_close(made.shares[:, 2:], torch.full((2, 2, 6, 9), 0.5 - share))
    torch.testing.assert_close(warp_still(still, made), still, atol=1e-5, rtol=0)
    assert made.paint.shape == (2, 3, 6, 9)


def test_a_fresh_head_leaves_a_coarse_displacement_as_it_is() -> None:
    coarse = torch.tensor([0.25, -0.5]).expand(1, 3, 4, 2)
    made = FieldHead(2)(random(1, 2, 8, 8), coarse)
    torch.testing.assert_close(made.displacement, torch.tensor([0.25, -0.5]).expand(1, 8, 8, 2))
    ramp = geometry.identity_grid((3, 5))[None]
    torch.testing.assert_close(FieldHead(2)(random(1, 2, 7, 9), ramp).displacement[0], geometry.identity_grid((7, 9)))


def test_the_flow_is_in_pixels_of_the_maps_and_corrects_the_coarse_one() -> None:
    head = FieldHead(1)
    with torch.no_grad():
        head.flow.bias.copy_(torch.tensor([1.0, -2.0]))
    made = head(torch.zeros(1, 1, 5, 9), torch.full((1, 2, 2, 2), 0.125))
    expected = torch.tensor([1 * 2 / 8 + 0.125, -2 * 2 / 4 + 0.125])
    torch.testing.assert_close(made.displacement, expected.expand(1, 5, 9, 2))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_shares_of_a_head_sum_to_one_and_paint_is_a_colour(seed: int, scale: float) -> None:
    torch.manual_seed(seed)
    head = FieldHead(3)
    torch.nn.init.normal_(head.shares.weight, std=0.3)
    made = head(scale * random(2, 3, 4, 5, seed=seed))
    torch.testing.assert_close(made.shares.sum(1), torch.ones(2, 4, 5))
    assert made.shares.min() >= 0
    assert 0 <= made.paint.min() <= made.paint.max() <= 1


def test_the_logits_of_the_shares_have_a_gain() -> None:
    head = FieldHead(1)
    with torch.no_grad():
        head.shares.bias.copy_(torch.tensor([0.0, 0.0, math.log(3) / 8, 0.0]))
    shares = head(torch.zeros(1, 1, 2, 2)).shares[0, :, 0, 0]
    torch.testing.assert_close(shares, torch.tensor([1, 1, 3, 1]) / 6)


def test_fields_are_float32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        made = FieldHead(2)(random(1, 2, 4, 4))
        logits = MaskHead([2])([random(1, 2, 4, 4)])
    assert {part.dtype for part in (*made, logits)} == {torch.float32}


def test_one_frame_of_the_fields() -> None:
    made = Fields(random(3, 2, 2, 2), random(3, 4, 2, 2), random(3, 3, 2, 2))
    for part, whole in zip(made.rows(slice(1, 2)), made, strict=True):
        assert torch.equal(part, whole[1:2])


# --- shares and sources --------------------------------------------------------------------------------------------
def test_a_warped_still_repeats_its_border() -> None:
    """A displacement to the right by a pixel moves the content to the left."""
    still = torch.tensor([[0.0, 0.25, 1.0]]).expand(1, 3, 3, 3)
    moved = fields((1.0, 0.0, 0.0, 0.0), side=3)._replace(displacement=torch.tensor([1.0, 0.0]).expand(1, 3, 3, 2))
    torch.testing.assert_close(warp_still(still, moved)[0, 0, 0], torch.tensor([0.25, 1.0, 1.0]))


def test_where_the_plate_is_unknown_the_others_have_its_share() -> None:
    before = fields((0.2, 0.3, 0.4, 0.1))
    spread = torch.tensor([0.2, 0.3, 0.0, 0.1]) / 0.6
    torch.testing.assert_close(restrict(before, None).shares[0, :, 0, 0], spread)
    plate = torch.zeros(1, 4, 2, 2)
    plate[:, 3, 0] = 1  # known in the upper row
    found = restrict(before, plate)
    torch.testing.assert_close(found.shares[0, :, 0, 1], before.shares[0, :, 0, 1])
    torch.testing.assert_close(found.shares[0, :, 1, 1], spread)
    assert found.displacement is before.displacement
    assert found.paint is before.paint


def test_a_plate_that_is_unknown_and_has_everything_leaves_a_picture() -> None:
    """A softmax may be one in float32; the rest would be black."""
    shares = restrict(fields((0.0, 0.0, 1.0, 0.0)), None).shares[0, :, 0, 0]
    torch.testing.assert_close(shares, torch.tensor([1, 1, 0, 1]) / 3)
    nearly = restrict(fields((0.0, 0.0, 1 - 3e-7, 3e-7)), None).shares[0, :, 0, 0]
    torch.testing.assert_close(nearly, torch.tensor([0.0, 0.0, 0.0, 1.0]), atol=0.01, rtol=0)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.floats(0.1, 200))
def test_restricted_shares_sum_to_one_and_have_a_gradient(seed: int, scale: float) -> None:
    logits = (scale * random(2, 4, 3, 3, seed=seed)).requires_grad_()
    plate = (random(2, 4, 3, 3, seed=seed + 1) > 0).float()
    found = restrict(Fields(torch.zeros(2, 3, 3, 2), logits.softmax(1), torch.zeros(2, 3, 3, 3)), plate).shares
    torch.testing.assert_close(found.sum(1), torch.ones(2, 3, 3))
    assert (found[:, PLATE][plate[:, 3] == 0] == 0).all()
    found.square().sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_the_blend_by_hand() -> None:
    """The plate's fourth channel is no colour."""
    made = fields((0.1, 0.2, 0.3, 0.4), paint=0.5)
    warped, still = torch.full((1, 3, 2, 2), 0.8), torch.full((1, 3, 2, 2), 0.6)
    plate = torch.cat([torch.full((1, 3, 2, 2), 0.25), torch.zeros(1, 1, 2, 2)], dim=1)
    without = 0.1 * 0.8 + 0.2 * 0.6 + 0.4 * 0.5
    torch.testing.assert_close(blend(made, warped, still, plate), torch.full((1, 3, 2, 2), without + 0.3 * 0.25))
    torch.testing.assert_close(blend(made, warped, still, None), torch.full((1, 3, 2, 2), without))


def test_a_blend_of_bfloat16_pictures_is_float32() -> None:
    low = torch.ones(1, 3, 2, 2, dtype=torch.bfloat16)
    assert blend(fields((0.5, 0.5, 0.0, 0.0)), low, low, None).dtype == torch.float32


# --- the mask head -------------------------------------------------------------------------------------------------
PYRAMIDS = [
    [(3, 16, 16), (8, 8, 8), (12, 4, 4)],
    [(3, 17, 10), (5, 8, 5), (7, 4, 2), (9, 1, 1)],
    [(4, 6, 5)],
    [(2, 5, 9), (2, 5, 9)],
]


@pytest.mark.parametrize("pyramid", PYRAMIDS, ids=str)
def test_a_mask_head_takes_any_pyramid_and_reaches_every_level(pyramid: list[tuple[int, int, int]]) -> None:
    torch.manual_seed(0)
    maps = [random(2, *shape, seed=i).requires_grad_() for i, shape in enumerate(pyramid)]
    head = MaskHead([shape[0] for shape in pyramid])
    logits = head(maps)
    assert logits.shape == (2, 1, *pyramid[0][1:])
    logits.square().sum().backward()
    assert all(values.grad.abs().sum() > 0 for values in maps)
    assert all(parameter.grad.abs().sum() > 0 for parameter in head.parameters())


def test_a_mask_head_is_local_in_the_largest_map_and_wide_in_the_smallest() -> None:
    torch.manual_seed(0)
    head, maps = MaskHead([3, 5, 5]), [random(1, 3, 12, 12), random(1, 5, 6, 6), random(1, 5, 3, 3)]
    before = head(maps)
    largest = maps[0].clone()
    largest[..., 5, 5] += 10
    changed = (head([largest, *maps[1:]]) != before)[0, 0]
    assert changed[4:7, 4:7].any()
    assert changed.sum() <= 9
    smallest = maps[2].clone()
    smallest[..., 1, 1] += 10
    assert (head([*maps[:2], smallest]) != before).float().mean() > 0.5


def test_a_mask_head_wants_as_many_maps_as_it_was_made_for() -> None:
    refuses("shorter|longer", MaskHead([3, 5]), [random(1, 3, 4, 4)], error=ValueError)
