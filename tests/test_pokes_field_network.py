"""The network of fields: what it reads of the handles, how it moves the still, and its losses."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from pokes_tools import TINY_FIELDS, field_network, handles_of, make_rigid, oscillators
from stillmotion import geometry
from stillmotion.nn.modes import folded
from stillmotion.rendering.fields import PAINT, PLATE, STATIC, WARPED, Fields
from stillmotion.systems.pokes.config import FieldLossConfig
from stillmotion.systems.pokes.field_network import FieldNetwork, FieldOutput
from stillmotion.systems.pokes.handles import Handles, Swing, advance
from stillmotion.systems.pokes.losses import CLASS_WEIGHTS, field_losses, path_error

SIZE = TINY_FIELDS.size
HALF = (SIZE - 1) / 2
MOVED = ((0.1, 0.2), (4 / HALF, -2 / HALF))
"""A handle that has moved by (4, -2) pixels."""


def stills(count: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


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
    output = frozen(network, still, handles_of(MOVED))
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
        pixels(frozen(network, still, handles_of(MOVED)).fields.displacement)[0, 3, 3],
        torch.tensor([-2.5, 3.5]), atol=1e-4, rtol=0,
    )  # fmt: skip


@pytest.mark.parametrize(("logit", "share"), [(30.0, 1.0), (0.0, 0.5), (-30.0, 0.0)])
def test_a_pixel_follows_by_a_share(logit: float, share: float) -> None:
    found = frozen(make_rigid(field_network(), logit), stills(), handles_of(MOVED)).fields.displacement
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


def test_features_are_read_where_they_have_gone() -> None:
    """The second half of the maps is the first, moved with the handle; the comparison is with the handle's place."""
    network, still, handles = field_network(), stills(), handles_of(((0.0, 0.0), (8 / HALF, 0)))
    with torch.no_grad():
        context = network.begin(still)
        inputs, offset = network.gather(context, handles)
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


# --- losses --------------------------------------------------------------------------------------------------------
WEIGHTS = {"displacement": 2.0, "visibility": 3.0, "figure": 5.0, "photometric": 7.0, "stillness": 11.0, "path": 13.0}


def batch_by_hand(stills_given: Tensor, count: int = 2) -> dict[str, Tensor]:
    """The left half has moved by (4, 0) pixels, the right half is at rest; the frames are grey."""
    n = len(stills_given)
    frames = torch.cat([stills_given[:, None], torch.full((n, count, 3, SIZE, SIZE), 0.5)], 1)
    moving, seen = torch.zeros(n, count, SIZE, SIZE), torch.full((n, count, SIZE, SIZE), STATIC)
    moving[..., :16] = 1
    seen[..., :16] = WARPED
    displacement = torch.zeros(n, count, SIZE, SIZE, 2)
    displacement[..., :16, 0] = -4 / HALF
    return {
        "frames": frames,
        "displacement": displacement,
        "moving": moving,
        "visibility": seen,
        "figure": (torch.arange(SIZE) < 16).float().expand(n, 1, SIZE, SIZE),
        "swing_place": torch.zeros(n, 2),
        "swing_start": torch.tensor([[0.3, 0.1], [0.0, 0.0]]).expand(n, 2, 2),
        "swing_pull": torch.zeros(n, 6, 2),
        "swing_path": torch.zeros(n, 6, 2),
        "swing_known": torch.ones(n, 6),
    }


def output_by_hand(shares: list[float], frame: float = 0.25, frames: int = 2) -> FieldOutput:
    """Everything is displaced by (-4, 3) pixels."""
    displacement = (torch.tensor([-4.0, 3.0]) / HALF).expand(frames, SIZE, SIZE, 2)
    maps = torch.tensor(shares)[:, None, None].expand(frames, 4, SIZE, SIZE)
    grey = torch.full((frames, 3, SIZE, SIZE), frame)
    return FieldOutput(grey, Fields(displacement, maps, grey))


def test_every_term_by_hand() -> None:
    network, still = field_network(), torch.full((1, 3, SIZE, SIZE), 0.5)
    torch.nn.init.zeros_(network.mask.logit.weight)
    assert network.mask.logit.bias is not None
    torch.nn.init.constant_(network.mask.logit.bias, math.log(3))  # 3 to 1 for the figure
    network.oscillators = _Fixed()  # type: ignore[assignment]
    batch, context = batch_by_hand(still), network.begin(still)
    terms = field_losses(network, context, output_by_hand([0.5, 0.3, 0.1, 0.1]), batch, FieldLossConfig(**WEIGHTS))
    assert list(terms) == list(WEIGHTS)
    found = {name: terms[name].item() / weight for name, weight in WEIGHTS.items()}
    assert found["displacement"] == pytest.approx(3 / HALF, rel=1e-3)  # (0, 3) pixels off where it moves
    # Half of the pixels are warped, with a weight of 1, half static, with 0.3.
    assert found["visibility"] == pytest.approx((-math.log(0.5) - 0.3 * math.log(0.3)) / 1.3)
    assert found["figure"] == pytest.approx((-math.log(0.75) - math.log(0.25)) / 2)
    assert found["photometric"] == pytest.approx(0.25)  # grey on grey: no pixel changes, all weigh alike
    assert found["stillness"] == pytest.approx(7 / HALF, rel=1e-5)  # |-4| + |3|, where nothing moves
    assert found["path"] == pytest.approx(path_error(network, context, batch).item())
    assert [CLASS_WEIGHTS[source] for source in (WARPED, STATIC, PLATE, PAINT)] == [1.0, 0.3, 2.0, 2.0]


def test_terms_without_truth_are_zero() -> None:
    network, still = field_network(), stills()
    batch = batch_by_hand(still)
    batch["moving"].zero_()
    batch["visibility"].fill_(-100)
    batch["figure"] = torch.full_like(batch["figure"], -1)
    batch["swing_known"].zero_()
    terms = field_losses(network, network.begin(still), output_by_hand([0.25] * 4), batch, FieldLossConfig())
    assert {name for name, value in terms.items() if value == 0} == set(WEIGHTS) - {"photometric"}


def test_what_changes_weighs_more() -> None:
    """A sixteenth changes by more than the saturation: its weight is six times that of the rest."""
    network, still = field_network(), torch.full((1, 3, SIZE, SIZE), 0.5)
    batch = batch_by_hand(still, count=1)
    batch["frames"][:, 1, :, :8, :8] = 1.0
    output = output_by_hand([0.25] * 4, frame=0.5, frames=1)  # wrong by a half there, right elsewhere
    found = field_losses(network, network.begin(still), output, batch, FieldLossConfig(photometric=1.0))
    assert found["photometric"].item() == pytest.approx(0.5 / 16 * 6 / (1 + 5 / 16))


class _Fixed(torch.nn.Module):
    def forward(self, features: Tensor) -> Any:
        return oscillators([0.5, 0.9], [0.1, 0.3], [0.6, 0.4], features.shape[:2])


def test_the_error_of_a_path_by_hand() -> None:
    network, still = field_network(), stills(2)
    network.oscillators = _Fixed()  # type: ignore[assignment]
    batch, context = batch_by_hand(still), network.begin(still)
    batch["swing_pull"] = torch.tensor([0.2, -0.1]) * torch.linspace(1, 0, 6)[:, None].expand(2, 6, 2)
    made = oscillators([0.5, 0.9], [0.1, 0.3], [0.6, 0.4], (2, 1))
    swing = Swing.of(made, batch["swing_start"][:, :1], batch["swing_start"][:, 1:])
    path = []
    for t in range(6):
        swing = advance(swing, made, batch["swing_pull"][:, None, t])
        path.append(swing.total()[0][:, 0])
    batch["swing_path"] = torch.stack(path, 1)
    assert path_error(network, context, batch).item() == pytest.approx(1e-4, rel=0.01)  # the root of its epsilon
    batch["swing_path"][0, 2:] += torch.tensor([0.3, 0.4])
    assert path_error(network, context, batch).item() == pytest.approx(0.5 * 4 / 12, abs=2e-4)
    batch["swing_known"][0, 3:] = 0
    assert path_error(network, context, batch).item() == pytest.approx(0.5 * 1 / 9, abs=2e-4)


def test_every_weight_learns() -> None:
    network = field_network().train()
    batch = batch_by_hand(stills(2))
    plate = torch.cat([torch.full((2, 3, SIZE, SIZE), 0.4), torch.ones(2, 1, SIZE, SIZE)], 1)
    batch["visibility"][:, :, :4] = PLATE
    context = network.begin(batch["frames"][:, 0], plate)
    rows = [handles_of(((0.1 * k, 0.2), (0.1, -0.05 * k)), velocity=(0.01 * k, 0.02)) for k in range(4)]
    handles = Handles(*(torch.cat(parts) for parts in zip(*rows, strict=True)))
    output = network(network.expand(context, 2), handles)
    terms = field_losses(network, context, output, batch, FieldLossConfig())
    torch.stack(list(terms.values())).sum().backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # A norm follows each of these convolutions and takes its bias away again, up to rounding.
    assert [name for name in idle if not name.endswith("conv.bias")] == []
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_normalised_units_are_those_of_the_geometry() -> None:
    handles = handles_of(MOVED)
    assert geometry.displacement_to_pixels(handles.offset, (SIZE, SIZE))[0, 0].tolist() == pytest.approx([4, -2])
