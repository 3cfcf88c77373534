"""A convolutional GRU cell (Ballas et al., ICLR 2016), shared by the systems that predict maps over time."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

Convolution = TypeVar("Convolution", nn.Conv2d, nn.ConvTranspose2d)


class ConvGRUCell(nn.Module):
    """One time step of a GRU whose gates are convolutions.

        u = sigmoid(update([x, h]))
        r = sigmoid(reset([x, h]))
        c = tanh(candidate([x, r h]))
        h <- (1 - u) h + u c

    Weights are orthogonal and biases zero at first.
    """

    def __init__(self, inputs: int, hidden: int, kernel: int = 3):
        """Args: channels of the input and of the state; an odd kernel."""
        super().__init__()
        self.reset, self.update, self.candidate = (
            orthogonal(nn.Conv2d(inputs + hidden, hidden, kernel, padding=kernel // 2)) for _ in range(3)
        )

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """N x inputs x H x W and N x hidden x H x W to the next state, of the state's shape."""
        both = torch.cat([x, state], dim=1)
        update, reset = torch.sigmoid(self.update(both)), torch.sigmoid(self.reset(both))
        candidate = torch.tanh(self.candidate(torch.cat([x, reset * state], dim=1)))
        return (1 - update) * state + update * candidate


def orthogonal(layer: Convolution) -> Convolution:
    """Give a convolution an orthogonal weight, as a matrix of its first dimension, and no bias; returns the layer."""
    nn.init.orthogonal_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
