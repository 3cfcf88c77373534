"""The network of ours: what follows a handle, anchoring, gradients, folding."""

import torch

from pokes_state_tools import changed
from pokes_tools import TINY_FIELDS, field_network, handles_of, make_rigid, poked_clip
from stillmotion.nn.modes import folded
from stillmotion.systems.pokes import losses
from stillmotion.systems.pokes.data import MomentDataset
from stillmotion.systems.pokes.field_network import FieldNetwork, anchored
from stillmotion.systems.pokes.handles import Handles

TINY_SMALL = changed(TINY_FIELDS, size=16)


def still(count: int = 1, side: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_what_follows_goes_as_far_as_the_handle() -> None:
    network = make_rigid(field_network())
    output = network(network.begin(still()), handles_of(((0.0, 0.0), (0.25, -0.125))))
    assert torch.allclose(output.fields.displacement, torch.tensor([-0.25, 0.125]).expand(1, 32, 32, 2), atol=1e-5)


def test_what_does_not_follow_stays() -> None:
    network = make_rigid(field_network(), follow=-30.0)
    output = network(network.begin(still()), handles_of(((0.0, 0.0), (0.25, -0.125))))
    assert float(output.fields.displacement.detach().abs().max()) < 1e-6


def test_a_held_handle_is_taken_along_in_full_and_a_free_one_as_predicted() -> None:
    offset = torch.tensor([0.5, 0.0])
    predicted = (-0.6 * offset).expand(1, 9, 9, 2)
    follow = torch.zeros(1, 1, 9, 9)
    follow[..., 3:] = 0.6  # all but the left third
    held = handles_of(((0.0, 0.0), (0.5, 0.0)))
    moved, found = anchored(predicted, follow, held)
    assert torch.allclose(found, -0.6 * offset)
    assert torch.allclose(moved[0, :, 4:], (-offset).expand(9, 5, 2))
    assert torch.allclose(moved[0, :, :3], predicted[0, :, :3])
    free = held._replace(held=torch.zeros(1, 1))
    assert torch.equal(anchored(predicted, follow, free)[0], predicted)
    # On the background nothing goes with the handle, and nothing is added.
    nothing = torch.zeros_like(predicted)
    assert torch.equal(anchored(nothing, follow, held)[0], nothing)


def test_what_fills_up_a_sample_changes_nothing() -> None:
    network = field_network()
    context, one = network.begin(still()), handles_of(((0.2, 0.1), (0.1, 0.2)))
    padded = Handles(*(torch.cat([part, 3 * torch.ones_like(part)], 1) for part in one[:4]), torch.tensor([[1.0, 0]]))
    first, second = network(context, one), network(context, padded)
    assert torch.allclose(first.frame, second.frame, atol=1e-5)
    assert torch.allclose(first.fields.displacement, second.fields.displacement, atol=1e-5)


def test_folded_equals_unfolded_and_expanded_equals_each() -> None:
    network = field_network()
    faster, handles = folded(network), handles_of(((0.2, 0.1), (0.1, 0.2)))
    with torch.no_grad():
        expected = network(network.begin(still()), handles).frame
        assert torch.allclose(faster(faster.begin(still()), handles).frame, expected, atol=1e-5)
        twice = Handles(*(part.expand(2, *part.shape[1:]) for part in handles))
        many = network(network.expand(network.begin(still()), 2), twice).frame
    assert torch.allclose(many, expected.expand(2, -1, -1, -1), atol=1e-5)


def test_all_losses_together_reach_every_weight() -> None:
    torch.manual_seed(0)
    network = FieldNetwork(TINY_SMALL).train()
    clip = poked_clip(kind="pluck", size=16, by=(4, 2), corner=(3, 3), side=5)
    dataset = MomentDataset([clip], TINY_SMALL, 0)
    samples = [dataset[i] for i in range(4)]
    batch = {key: torch.stack([one[key] for one in samples]) for key in samples[0] if key != "name"}
    context = network.begin(batch["frames"][:, 0], batch["plate"])
    handles = Handles(*(batch[name].flatten(0, 1) for name in Handles._fields))
    output = network(network.expand(context, batch["frames"].shape[1] - 1), handles)
    terms = losses.field_losses(network, context, output, batch, TINY_FIELDS.field_losses)
    assert set(terms) == {"displacement", "visibility", "figure", "photometric", "stillness", "handle", "path"}
    sum(terms.values()).backward()  # type: ignore[union-attr]
    # A convolution before batch norm has no use for its bias, and the decoder starts behind heads of zeros.
    without = [name for name, value in network.named_parameters() if value.grad is None]
    assert without == []
    assert all(torch.isfinite(value.grad).all() for value in network.parameters())  # type: ignore[arg-type]
