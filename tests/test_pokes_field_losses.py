"""Losses of the network of fields, by hand, and that every weight learns from them."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from pokes_tools import TINY_FIELDS, field_network, handles_of, oscillators
from stillmotion.rendering.fields import PAINT, PLATE, STATIC, WARPED, Fields
from stillmotion.systems.pokes.config import FieldLossConfig
from stillmotion.systems.pokes.field_network import FieldOutput
from stillmotion.systems.pokes.handles import Handles, Swing, advance
from stillmotion.systems.pokes.losses import CLASS_WEIGHTS, field_losses, handle_error, path_error

SIZE = TINY_FIELDS.size
HALF = (SIZE - 1) / 2


def stills(count: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


WEIGHTS = {
    "displacement": 2.0,
    "visibility": 3.0,
    "figure": 5.0,
    "photometric": 7.0,
    "stillness": 11.0,
    "handle": 17.0,
    "filled": 19.0,
    "path": 13.0,
}


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
        # Of three handles one is there, in the left half.
        "place": torch.tensor([-0.6, 0.0]).expand(n, count, 3, 2),
        "offset": torch.tensor([4 / HALF, 0.0]).expand(n, count, 3, 2),
        "present": torch.tensor([1.0, 0.0, 0.0]).expand(n, count, 3),
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
    return FieldOutput(grey, Fields(displacement, maps, grey), displacement[:, 0, :3])


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
    assert found["handle"] == pytest.approx(3 / HALF, rel=1e-3)
    assert found["filled"] == 0  # all is known
    assert found["path"] == pytest.approx(path_error(network, context, batch).item())
    assert [CLASS_WEIGHTS[source] for source in (WARPED, STATIC, PLATE, PAINT)] == [1.0, 0.3, 2.0, 2.0]


def test_uncovered_background_is_to_rest_as_well() -> None:
    """The left half shows the plate and is displaced, the right half is static and is not."""
    network, still = field_network(), torch.full((1, 3, SIZE, SIZE), 0.5)
    batch, output = batch_by_hand(still), output_by_hand([0.25] * 4)
    batch["visibility"] = torch.where(batch["visibility"] == WARPED, PLATE, batch["visibility"])
    displacement = output.fields.displacement * (batch["visibility"][0] == PLATE)[..., None]
    output = output._replace(fields=output.fields._replace(displacement=displacement))
    terms = field_losses(network, network.begin(still), output, batch, FieldLossConfig(**WEIGHTS))
    assert terms["stillness"].item() == pytest.approx(11 * 7 / 2 / HALF, rel=1e-5)


def test_terms_without_truth_are_zero() -> None:
    network, still = field_network(), stills()
    batch = batch_by_hand(still)
    batch["moving"].zero_()
    batch["visibility"].fill_(-100)
    batch["figure"] = torch.full_like(batch["figure"], -1)
    batch["swing_known"].zero_()
    batch["present"] = torch.zeros(1, 2, 3)
    terms = field_losses(network, network.begin(still), output_by_hand([0.25] * 4), batch, FieldLossConfig())
    assert {name for name, value in terms.items() if value == 0} == set(WEIGHTS) - {"photometric", "filled"}
    assert terms["filled"].item() == pytest.approx(0.5 * FieldLossConfig().filled)


def test_what_changes_weighs_more() -> None:
    """A sixteenth changes by more than the saturation: its weight is six times that of the rest."""
    network, still = field_network(), torch.full((1, 3, SIZE, SIZE), 0.5)
    batch = batch_by_hand(still, count=1)
    batch["frames"][:, 1, :, :8, :8] = 1.0
    output = output_by_hand([0.25] * 4, frame=0.5, frames=1)  # wrong by a half there, right elsewhere
    found = field_losses(network, network.begin(still), output, batch, FieldLossConfig(photometric=1.0))
    assert found["photometric"].item() == pytest.approx(0.5 / 16 * 6 / (1 + 5 / 16))


def test_a_handle_that_the_truth_contradicts_does_not_count() -> None:
    """Three handles: one as the truth, one in the right half, which rests, and one that has moved farther."""
    batch = batch_by_hand(stills(), count=1)
    batch["place"] = torch.tensor([[[[-0.6, 0.0], [0.6, 0.0], [-0.6, 0.5]]]])
    batch["offset"] = torch.tensor([[[[4 / HALF, 0.0], [4 / HALF, 0.0], [4 / HALF, 0.5]]]])
    batch["present"] = torch.ones(1, 1, 3)
    found = torch.tensor([[[-4 / HALF, 0.3], [9.0, 9.0], [9.0, 9.0]]])
    output = output_by_hand([0.25] * 4, frames=1)._replace(at_handles=found)
    assert handle_error(output, batch).item() == pytest.approx(0.3, rel=1e-3)
    # Where the whole frame rests it is a poke on the background, and that must not move.
    batch["displacement"] = torch.zeros_like(batch["displacement"])
    still = output._replace(at_handles=torch.tensor([[[0.3, 0.4], [0.0, 0.6], [0.7, 0.0]]]))
    assert handle_error(still, batch).item() == pytest.approx((0.5 + 0.6 + 0.7) / 3, rel=1e-3)


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
