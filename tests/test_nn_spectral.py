"""`spectral_norm`: values by hand and those of PyTorch's own. tf-SNDCGAN's form is in test_strokes_networks."""

import copy
import warnings

import pytest
import torch
from torch import nn

from stillmotion.nn.spectral import frozen_power_iteration, spectral_norm


def linear(weight: list[list[float]], u: list[float], v: list[float]) -> nn.Linear:
    layer = nn.Linear(len(v), len(u), bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
    spectral_norm(layer)
    layer.parametrizations.weight[0].u.copy_(torch.tensor(u))
    layer.parametrizations.weight[0].v.copy_(torch.tensor(v))
    return layer


def vectors(layer: nn.Module) -> list[list[float]]:
    return [getattr(layer.parametrizations.weight[0], name).tolist() for name in "uv"]


def test_the_matrix_is_divided_by_u_w_v_by_hand() -> None:
    """W = diag(3, 4). From u = (0.6, 0.8): v ~ W u = (1.8, 3.2), u' ~ W v ~ (5.4, 12.8), sigma = u' W v = |W v|."""
    layer = linear([[3.0, 0.0], [0.0, 4.0]], [0.6, 0.8], [1.0, 0.0]).train()
    sigma = (5.4**2 + 12.8**2) ** 0.5 / (1.8**2 + 3.2**2) ** 0.5
    assert torch.allclose(layer(torch.eye(2)), torch.diag(torch.tensor([3.0, 4.0])) / sigma)
    length = (1.8**2 + 3.2**2) ** 0.5
    assert vectors(layer)[1] == pytest.approx([1.8 / length, 3.2 / length])


def test_eval_mode_uses_the_stored_vectors_and_leaves_them() -> None:
    layer = linear([[3.0, 0.0], [0.0, 4.0]], [0.6, 0.8], [1.0, 0.0]).eval()
    assert torch.allclose(layer(torch.eye(2)), torch.diag(torch.tensor([3.0, 4.0])) / (0.6 * 3.0))
    assert vectors(layer)[1] == [1.0, 0.0]


def test_inside_frozen_power_iteration_nothing_is_stored() -> None:
    layer = linear([[3.0, 0.0], [0.0, 4.0]], [0.6, 0.8], [1.0, 0.0]).train()
    before = vectors(layer)
    with frozen_power_iteration(layer):
        inside = layer(torch.eye(2))
    assert vectors(layer) == before
    assert torch.equal(layer(torch.eye(2)), inside)
    assert vectors(layer) != before


def test_training_equals_torchs_value_gradient_and_vectors() -> None:
    torch.manual_seed(0)
    theirs = nn.Conv3d(2, 4, 3)
    ours = copy.deepcopy(theirs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated in favour of a form with another order of updates
        theirs = nn.utils.spectral_norm(theirs)
    spectral_norm(ours)
    ours.parametrizations.weight[0].u.copy_(theirs.weight_u)
    clip = torch.randn(1, 2, 4, 4, 4)
    for _ in range(2):
        outputs = ours(clip), theirs(clip)
        assert torch.allclose(*outputs, atol=1e-6)
    weights = ours.parametrizations.weight.original, theirs.weight_orig
    gradients = [torch.autograd.grad(o.square().sum(), w)[0] for o, w in zip(outputs, weights, strict=True)]
    assert torch.allclose(*gradients, rtol=1e-4, atol=1e-6)
    assert torch.allclose(ours.parametrizations.weight[0].v, theirs.weight_v, atol=1e-6)


def test_a_pass_in_training_mode_does_not_break_the_graph_of_an_earlier_one() -> None:
    layer = linear([[3.0, 0.0], [0.0, 4.0]], [0.6, 0.8], [1.0, 0.0])
    early = layer.eval()(torch.eye(2)).square().sum()
    middle = layer.train()(torch.eye(2)).square().sum()
    layer(torch.eye(2))
    (early + middle).backward()
    assert torch.isfinite(layer.parametrizations.weight.original.grad).all()


def test_networks_with_it_are_copied_and_stored() -> None:
    layer = linear([[3.0, 0.0], [0.0, 4.0]], [0.6, 0.8], [1.0, 0.0]).eval()
    copied = copy.deepcopy(layer)
    assert torch.equal(copied(torch.eye(2)), layer(torch.eye(2)))
    assert list(layer.state_dict()) == [
        "parametrizations.weight.original",
        "parametrizations.weight.0.u",
        "parametrizations.weight.0.v",
    ]
