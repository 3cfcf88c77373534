"""The ConvGRU cell by hand."""

import math

import pytest
import torch
from torch import nn

from stillmotion.nn.conv_gru import ConvGRUCell, orthogonal


@torch.no_grad()
def test_one_step_by_hand() -> None:
    """One pixel, one channel, 1x1 kernels: every gate is a number. The input comes before the state."""
    cell = ConvGRUCell(1, 1, kernel=1)
    for gate, weights, bias in ((cell.update, (0.5, -1.0), 0.1), (cell.reset, (2.0, 1.0), -0.3)):
        gate.weight.copy_(torch.tensor(weights).view(1, 2, 1, 1))
        gate.bias.fill_(bias)
    cell.candidate.weight.copy_(torch.tensor((0.7, 3.0)).view(1, 2, 1, 1))
    x, h = 0.8, -0.4

    def sigmoid(value: float) -> float:
        return 1 / (1 + math.exp(-value))

    u, r = sigmoid(0.5 * x - h + 0.1), sigmoid(2 * x + h - 0.3)
    expected = (1 - u) * h + u * math.tanh(0.7 * x + 3 * r * h)
    found = cell(torch.full((1, 1, 1, 1), x), torch.full((1, 1, 1, 1), h))
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_weights_are_orthogonal_and_biases_zero() -> None:
    cell = ConvGRUCell(6, 4)
    for gate in (cell.update, cell.reset, cell.candidate):
        matrix = gate.weight.flatten(1)
        assert torch.allclose(matrix @ matrix.T, torch.eye(4), atol=1e-5)
        assert gate.bias.abs().max() == 0
    assert not torch.equal(cell.update.weight, cell.reset.weight)
    assert orthogonal(nn.Conv2d(2, 2, 1, bias=False)).bias is None


def test_the_state_keeps_its_shape_and_moves_towards_the_unit_range() -> None:
    cell, x = ConvGRUCell(3, 5), torch.zeros(2, 3, 6, 7)
    state = torch.full((2, 5, 6, 7), 4.0)
    assert cell(x, state).shape == state.shape
    for _ in range(60):
        state = cell(x, state)
    assert state.abs().max() < 1
