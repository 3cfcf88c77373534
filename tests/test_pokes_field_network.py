"""The network of fields: what it reads of the handles, how it moves the still, anchoring, folding."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pokes_tools import TINY_FIELDS, changed, field_network, handles_of, make_rigid
from refusals import refused
from stillmotion import geometry
from stillmotion.nn.modes import folded
from stillmotion.rendering.fields import PLATE
from stillmotion.systems.pokes.field_network import PATCH, FieldNetwork, FieldOutput, anchored, grip
from stillmotion.systems.pokes.handles import Handles, reach, spread

SIZE = TINY_FIELDS.size
HALF = (SIZE - 1) / 2
MOVED = ((0.1, 0.2), (4 / HALF, -2 / HALF))
"""A handle that has moved by (4, -2) pixels."""


def stills(count: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def free(*rows: Any) -> Handles:
    """Handles that nobody holds, which are not anchored."""
    return handles_of(*rows, held=0.0)


def frozen(network: FieldNetwork, still: Tensor, handles: Handles, plate: Tensor | None = None) -> FieldOutput:
    with torch.no_grad():
        output: FieldOutput = network(network.begin(still, plate), handles)
    return output


def pixels(displacement: Tensor) -> Tensor:
    return displacement * HALF


# --- what it reads -------------------------------------------------------------------------------------------------
def test_absent_handles_change_nothing_whatever_they_hold() -> None:
    network, still = field_network(), stills()
    one = handles_of(MOVED, velocity=(0.02, 0.01))
    padded = Handles(
        *(torch.cat([part, part.new_full((1, 2, *part.shape[2:]), 0.77)], 1) for part in one[:4]),
        present=torch.tensor([[1.0, 0.0, 0.0]]),
    )
    alone, filled = (frozen(network, still, handles) for handles in (one, padded))
    for a, b in zip((alone.frame, *alone.fields), (filled.frame, *filled.fields), strict=True):
        torch.testing.assert_close(a, b)
    present = frozen(network, still, padded._replace(present=torch.ones(1, 3)))
    assert (present.fields.displacement - alone.fields.displacement).abs().max() > 0.01


@pytest.mark.parametrize("part", ["place", "offset", "velocity", "held"])
def test_everything_that_is_known_of_a_handle_counts(part: str) -> None:
    network, still = field_network(), stills()
    handles = handles_of(MOVED)
    other = handles._replace(**{part: getattr(handles, part) - 0.3})
    difference = frozen(network, still, handles).frame - frozen(network, still, other).frame
    assert difference.abs().max() > 1e-4


def test_handles_in_another_order_are_the_same_handles() -> None:
    network, still = field_network(), stills()
    two = handles_of(MOVED, ((-0.5, 0.3), (0.2, 0.1)))
    turned = Handles(*(part.flip(1) for part in two))
    torch.testing.assert_close(frozen(network, still, two).frame, frozen(network, still, turned).frame)


# --- how it moves --------------------------------------------------------------------------------------------------
def test_it_starts_as_a_still_that_follows_by_the_start_share() -> None:
    """No correction, the still moved or not in equal shares, and no plate where none is known."""
    network, still = field_network(noise=0.0), stills()
    torch.nn.init.zeros_(network.follow.weight)
    output = frozen(network, still, free(MOVED))
    share = 1 / (1 + math.exp(2))
    expected = torch.tensor([-4 * share, 2 * share]).expand(1, SIZE, SIZE, 2)
    torch.testing.assert_close(pixels(output.fields.displacement), expected, atol=1e-4, rtol=0)
    shares = output.fields.shares[0, :, 5, 5].tolist()
    assert shares == pytest.approx([math.e / (2 * math.e + 1), math.e / (2 * math.e + 1), 0, 1 / (2 * math.e + 1)])
    known = torch.cat([torch.full((1, 3, SIZE, SIZE), 0.5), torch.ones(1, 1, SIZE, SIZE)], 1)
    with_plate = frozen(network, still, handles_of(MOVED), known).fields.shares[0, :, 5, 5].tolist()
    assert with_plate == pytest.approx([math.e / (2 * math.e + 2)] * 2 + [1 / (2 * math.e + 2)] * 2)


def test_a_displacement_is_the_handles_offset_backward_and_a_correction() -> None:
    network, still = make_rigid(field_network()), stills()
    found = frozen(network, still, handles_of(MOVED))
    torch.testing.assert_close(
        pixels(found.fields.displacement), torch.tensor([-4.0, 2.0]).expand(1, SIZE, SIZE, 2), atol=1e-4, rtol=0
    )
    # Content goes by (4, -2): the frame's pixel (12, 10) is the still's (8, 12).
    torch.testing.assert_close(found.frame[0, :, 10, 12], still[0, :, 12, 8], atol=1e-4, rtol=0)
    assert network.fields.flow.bias is not None
    torch.nn.init.constant_(network.fields.flow.bias, 1.5)
    torch.testing.assert_close(
        pixels(frozen(network, still, free(MOVED)).fields.displacement)[0, 3, 3],
        torch.tensor([-2.5, 3.5]), atol=1e-4, rtol=0,
    )  # fmt: skip


@pytest.mark.parametrize(("logit", "share"), [(30.0, 1.0), (0.0, 0.5), (-30.0, 0.0)])
def test_a_pixel_follows_by_a_share(logit: float, share: float) -> None:
    found = frozen(make_rigid(field_network(), logit), stills(), free(MOVED)).fields.displacement
    torch.testing.assert_close(pixels(found)[0, 20, 3], torch.tensor([-4.0, 2.0]) * share, atol=1e-4, rtol=0)


def test_each_pixel_follows_its_nearest_handle() -> None:
    network = make_rigid(field_network())
    two = handles_of(((-0.6, 0), (0, 4 / HALF)), ((0.6, 0), (-2 / HALF, 0)))
    found = pixels(frozen(network, stills(), two).fields.displacement)[0]
    torch.testing.assert_close(found[17, 6], torch.tensor([0.0, -4.0]), atol=0.1, rtol=0)
    torch.testing.assert_close(found[15, 23], torch.tensor([2.0, 0.0]), atol=0.1, rtol=0)


def test_without_an_offset_nothing_moves() -> None:
    network, still = make_rigid(field_network()), stills()
    found = frozen(network, still, handles_of((MOVED[0], (0.0, 0.0))))
    assert torch.equal(found.fields.displacement, torch.zeros(1, SIZE, SIZE, 2))
    torch.testing.assert_close(found.frame, still, atol=1e-5, rtol=0)


ON_FIGURE, ON_BACKGROUND = torch.full((1, 1, 9, 9), 5.0), torch.full((1, 1, 9, 9), -5.0)


def test_a_held_handle_is_taken_along_in_full() -> None:
    """All but the left third follow by 0.6, and go with the hand all the way; of a patch the left third has a bit."""
    offset, held = torch.tensor([0.5, 0.0]), handles_of(((0.0, 0.0), (0.5, 0.0)))
    predicted, follow = (-0.6 * offset).expand(1, 9, 9, 2), torch.zeros(1, 1, 9, 9)
    follow[..., 3:] = 0.6
    moved, found = anchored(predicted, follow, held, reach(held, (9, 9)), grip(ON_FIGURE, held))
    torch.testing.assert_close(found[0, 0], -0.6 * offset)
    torch.testing.assert_close(moved[0, :, 4:], (-offset).expand(9, 5, 2))
    torch.testing.assert_close(moved[0, :, :3], predicted[0, :, :3], atol=1e-4, rtol=0)
    for nobody in (held._replace(held=torch.zeros(1, 1)), held._replace(present=torch.zeros(1, 1))):
        firm = grip(ON_FIGURE, nobody)
        assert torch.equal(anchored(predicted, follow, nobody, reach(nobody, (9, 9)), firm)[0], predicted)


def test_where_the_network_follows_nothing_a_patch_goes_with_the_hand() -> None:
    """It has its full shift at the hand, and a share of exp(-1/2) a standard deviation away."""
    offset, held = torch.tensor([0.0, 0.25]), handles_of(((0.0, -0.25), (0.0, 0.25)))
    still, follow = torch.zeros(1, 81, 81, 2), torch.zeros(1, 1, 81, 81)
    moved, found = anchored(still, follow, held, reach(held, (81, 81)), torch.ones(1, 1))
    assert torch.equal(found, torch.zeros(1, 1, 2))
    torch.testing.assert_close(moved[0, 40, 40], -offset)
    torch.testing.assert_close(moved[0, 40, 40 + round(40 * PATCH)], -offset * math.exp(-0.5), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("probability", "firm"), [(0.1, 0.0), (0.3, 0.0), (0.5, 0.5), (0.7, 1.0), (0.9, 1.0)])
def test_a_hand_holds_the_figure_and_not_the_background(probability: float, firm: float) -> None:
    """Half of the picture is figure, and the logit is read where the handle was taken."""
    figure = ON_BACKGROUND.clone()
    figure[..., 5:] = math.log(probability / (1 - probability))
    left, right = (handles_of(((place, 0.0), (-place / 2, 0.0))) for place in (-0.75, 0.75))
    torch.testing.assert_close(grip(figure, right), torch.tensor([[firm]]), atol=1e-5, rtol=0)
    assert not grip(figure, left).any()
    offset, follow = torch.tensor([0.25, -0.5]), torch.full((1, 1, 9, 9), 0.8)
    held = handles_of(((0.0, 0.0), (0.25, -0.5)))
    start = (-0.2 * offset).expand(1, 9, 9, 2)
    moved, _ = anchored(start, follow, held, reach(held, (9, 9)), torch.tensor([[firm]]))
    torch.testing.assert_close(moved, (-(0.2 + 0.8 * firm) * offset).expand(1, 9, 9, 2), atol=1e-4, rtol=0)


def test_a_hand_finds_a_figure_two_pixels_away() -> None:
    """Columns of 33 are a sixteenth apart; the figure begins at 20, and 18 still reaches it."""
    figure = torch.full((1, 1, 33, 33), -5.0)
    figure[..., 20:] = 5.0
    places = [handles_of((((column - 16) / 16, 0.0), (0.1, 0.0))) for column in (17, 18)]
    assert [grip(figure, place).item() for place in places] == [0.0, 1.0]


def test_the_figure_has_no_gradient_from_the_hand() -> None:
    figure = torch.zeros(1, 1, 9, 9, requires_grad=True)
    assert not grip(figure, handles_of(((0.0, 0.0), (0.5, 0.0)))).requires_grad


def test_what_is_held_arrives_although_the_network_is_in_doubt() -> None:
    """A logit of 0 is a share of a half; the displacement before is told, too."""
    found = frozen(make_rigid(field_network(), 0.0), stills(), handles_of(MOVED))
    torch.testing.assert_close(
        pixels(found.fields.displacement), torch.tensor([-4.0, 2.0]).expand(1, SIZE, SIZE, 2), atol=1e-2, rtol=0
    )
    torch.testing.assert_close(pixels(found.at_handles)[0, 0], torch.tensor([-2.0, 1.0]), atol=1e-4, rtol=0)


def test_features_are_read_where_they_have_gone() -> None:
    """The second half of the maps is the first, moved with the handle; the comparison is with the handle's place."""
    network, still, handles = field_network(), stills(), handles_of(((0.0, 0.0), (8 / HALF, 0)))
    with torch.no_grad():
        context = network.begin(still)
        inputs, shared = network.gather(context, handles)
    offset = spread(handles.offset, shared.weights).permute(0, 2, 3, 1)
    torch.testing.assert_close(offset, torch.tensor([8 / HALF, 0.0]).expand(1, SIZE, SIZE, 2))
    own, moved = inputs[0][0, :3], inputs[0][0, 3:6]
    torch.testing.assert_close(own, still[0])
    torch.testing.assert_close(moved[:, :, 8:], own[:, :, :-8], atol=1e-4, rtol=0)
    torch.testing.assert_close(inputs[1][0, -16:, 8, 12], _keys_at(context.keys[0], handles), atol=1e-3, rtol=1e-3)


def _keys_at(keys: Tensor, handles: Handles) -> Tensor:
    """The comparison at row 8, column 12 of 16 x 16, which has moved 8 / 31 of the width: by hand."""
    x = 12 - 15 / 2 * float(handles.offset[0, 0, 0])
    at = keys[0, :, 8, int(x)] * (1 - x % 1) + keys[0, :, 8, int(x) + 1] * (x % 1)
    query = keys[0, :, 7:9, 7:9].mean((1, 2))  # the handle's place is the middle of four pixels
    return at * query


# --- contexts, inference -------------------------------------------------------------------------------------------
def test_folded_networks_are_equal_but_for_rounding() -> None:
    network = field_network().train()
    handles = handles_of(MOVED)
    for seed in range(3):  # the norms learn other statistics than those they start with
        network(network.begin(stills(4, seed)), Handles(*(part.expand(4, *part.shape[1:]) for part in handles)))
    network.eval()
    own, made = (frozen(each, stills(1, 9), handles) for each in (network, folded(network)))
    assert own.fields.displacement.abs().max() > 0.01
    for a, b in zip((own.frame, *own.fields), (made.frame, *made.fields), strict=True):
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-3)


def test_a_context_is_repeated_still_by_still() -> None:
    network, still = field_network(), stills(2)
    plate = torch.rand(2, 4, SIZE, SIZE, generator=torch.Generator().manual_seed(5))
    plate[:, 3] = 1
    rows = [handles_of(((0.1 * k, 0.2), (0.1, -0.05 * k))) for k in range(6)]
    every = Handles(*(torch.cat(parts) for parts in zip(*rows, strict=True)))
    with torch.no_grad():
        context = network.begin(still, plate)
        wide = network.expand(context, 3)
        frames = network(wide, every).frame
    assert wide.plate is not None
    for k in range(6):
        assert torch.equal(wide.still[k], still[k // 3])
        assert torch.equal(wide.plate[k], plate[k // 3])
        alone = frozen(network, still[k // 3][None], rows[k], plate[k // 3][None]).frame[0]
        torch.testing.assert_close(frames[k], alone, atol=1e-5, rtol=1e-4)
    assert network.expand(network.begin(still), 3).plate is None


def test_places_swing_as_their_features_say() -> None:
    network, still = field_network(), stills(2)
    with torch.no_grad():
        found = network.swings(
            network.begin(still), torch.tensor([[[0.0, 0.0], [0.5, 0.5]], [[0.0, 0.0], [-0.5, 0]]])
        )
    assert found.frequency.shape == (2, 2, 2)
    torch.testing.assert_close(found.share.sum(-1), torch.ones(2, 2))
    assert len(set(found.frequency.flatten().tolist())) == 8


def test_normalised_units_are_those_of_the_geometry() -> None:
    handles = handles_of(MOVED)
    assert geometry.displacement_to_pixels(handles.offset, (SIZE, SIZE))[0, 0].tolist() == pytest.approx([4, -2])


# --- a level more --------------------------------------------------------------------------------------------------
DETAILED = changed(TINY_FIELDS, size=2 * SIZE, generator__detail=4)


def detailed(noise: float) -> tuple[FieldNetwork, FieldNetwork]:
    """A network of one level more, and the one below it, with the same weights where both have some."""
    below, above = field_network(), field_network(DETAILED, noise=noise)
    above.load_state_dict(below.state_dict(), strict=False)
    return above, below


def test_a_level_more_starts_with_what_is_found_at_half_the_size() -> None:
    above, below = detailed(noise=0.0)
    still, seen = stills(4).view(1, 3, 2 * SIZE, 2 * SIZE), list[Any]()
    assert above.detail is not None
    above.detail.register_forward_hook(lambda _, given, output: seen.append((given[1], output)))
    fine, coarse = frozen(above, still, free(MOVED)), frozen(below, F.avg_pool2d(still, 2), free(MOVED))
    ((values, large),) = seen
    enlarged = F.interpolate(values, scale_factor=2, mode="bilinear", align_corners=False)
    enlarged[:, 1:3] *= 2  # flow, in pixels
    torch.testing.assert_close(large, enlarged)
    assert fine.frame.shape == (1, 3, 2 * SIZE, 2 * SIZE)
    pooled = F.avg_pool2d(fine.fields.displacement.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    away = (pooled - coarse.fields.displacement).norm(dim=-1)
    assert away.mean() < 0.12 * coarse.fields.displacement.norm(dim=-1).mean()


def test_a_level_more_sees_pixels_that_half_the_size_does_not() -> None:
    above, _ = detailed(noise=0.2)
    grey = torch.full((1, 3, 2 * SIZE, 2 * SIZE), 0.5)
    board = (torch.arange(2 * SIZE)[:, None] + torch.arange(2 * SIZE)) % 2 - 0.5  # its means of four are grey
    flat, fine = (frozen(above, still, free(MOVED)).fields.shares for still in (grey, grey + 0.5 * board))
    assert (flat - fine).abs().max() > 1e-3


def test_the_corrections_are_of_following_flow_shares_and_paint_in_this_order() -> None:
    above, _ = detailed(noise=0.0)
    still, handles = stills().repeat(1, 1, 2, 2), free(MOVED)
    plate = torch.ones(1, 4, 2 * SIZE, 2 * SIZE)
    before = frozen(above, still, handles, plate)
    assert above.detail is not None
    changes: list[tuple[slice, Any]] = [
        (slice(0, 1), lambda a, b: (a.displacement - b.displacement).abs().max() > 1e-3),
        (slice(1, 2), lambda a, b: (a.displacement - b.displacement).mul(SIZE - 0.5)[..., 0].mean() > 0.99),
        (slice(5, 6), lambda a, b: a.shares[:, PLATE].mean() < 0.9 * b.shares[:, PLATE].mean()),
        (slice(7, 10), lambda a, b: a.paint.mean() > 1.01 * b.paint.mean()),
    ]
    for channels, seen in changes:
        with torch.no_grad():
            above.detail.correction.bias[channels] = {0: 50.0, 5: -50.0}.get(channels.start, 1.0)
        assert seen(frozen(above, still, handles, plate).fields, before.fields)
        with torch.no_grad():
            above.detail.correction.bias[:] = 0.0


def test_a_level_more_is_a_halving_more() -> None:
    assert DETAILED.generator.halvings == TINY_FIELDS.generator.halvings + 1
    assert "divisible by 8" in refused(changed, DETAILED, size=2 * SIZE + 4)
    context = detailed(noise=0.0)[0].expand(detailed(noise=0.0)[0].begin(stills().repeat(1, 1, 2, 2)), 2)
    assert [maps.shape[-1] for maps in (context.still, context.features[0], context.figure)] == [64, 32, 64]
    assert len(context.still) == 2
