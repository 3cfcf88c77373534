"""Spectral normalisation: weights over their largest singular value (Miyato et al., ICLR 2018).

As in tf-SNDCGAN: one power iteration per use, with gradients through it. The vector u it starts from is a buffer.
It is updated by every use in training mode, except inside `forgetting`; in eval mode it stays, so the same weights
give the same pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillmotion.nn.same import SameConv2d


class SpectralConv2d(SameConv2d):
    """A `SameConv2d` whose matrix, outputs x (inputs k k), has the largest singular value one."""

    u: Tensor
    remembers: bool

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        super().__init__(inputs, outputs, kernel, stride)
        start(self)

    def forward(self, input: Tensor) -> Tensor:
        """N x inputs x H x W -> N x outputs x ceil(H / stride) x ceil(W / stride)."""
        return self.convolve(input, normalised(self))

    def fold(self) -> None:
        """Put the normalised weights in place, for inference alone; see `fold.folded`."""
        fold(self)


class SpectralConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution whose matrix, inputs x (outputs k k), has the largest singular value one.

    The other reshape, outputs x (inputs k k), is torch's own; this one is tf-SNDCGAN's.
    """

    u: Tensor
    remembers: bool

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int):
        super().__init__(inputs, outputs, kernel, stride, padding)
        start(self)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """N x inputs x h x w -> N x outputs x (stride h) x (stride w), if kernel = stride + 2 padding."""
        assert not isinstance(self.padding, str)
        return F.conv_transpose2d(input, normalised(self), self.bias, self.stride, self.padding)

    def fold(self) -> None:
        """Put the normalised weights in place, for inference alone; see `fold.folded`."""
        fold(self)


class SpectralLinear(nn.Linear):
    """A linear layer whose matrix, outputs x inputs, has the largest singular value one."""

    u: Tensor
    remembers: bool

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs)
        start(self)

    def forward(self, input: Tensor) -> Tensor:
        """N x inputs -> N x outputs."""
        return F.linear(input, normalised(self), self.bias)


Spectral = SpectralConv2d | SpectralConvTranspose2d | SpectralLinear


def start(layer: nn.Module) -> None:
    """Give a layer its u, drawn from a normal distribution cut at two deviations."""
    weight = cast(Tensor, layer.weight)
    layer.register_buffer("u", nn.init.trunc_normal_(torch.empty(len(weight)), std=1.0, a=-2.0, b=2.0))
    layer.remembers = True  # type: ignore[assignment]


def normalised(layer: Spectral) -> Tensor:
    """The weights of a layer over their largest singular value, as one more power iteration estimates it."""
    if not hasattr(layer, "u"):  # folded
        return layer.weight
    with torch.autocast(layer.weight.device.type, enabled=False):
        matrix = layer.weight.flatten(1)
        v = F.normalize(layer.u.clone() @ matrix, dim=0)  # a copy: the gradient needs u as it was
        u = F.normalize(matrix @ v, dim=0)
        sigma = u @ (matrix @ v)
        if layer.training and layer.remembers:
            layer.u.copy_(u.detach())
        return layer.weight / sigma


@torch.no_grad()
def fold(layer: Spectral) -> None:
    """Make the normalised weights the layer's own and forget u."""
    layer.weight.copy_(normalised(layer))
    del layer.u


@contextmanager
def forgetting(network: nn.Module) -> Iterator[None]:
    """Inside, the layers of a network normalise as ever but do not store the new u."""
    layers = [part for part in network.modules() if hasattr(part, "remembers")]
    for layer in layers:
        layer.remembers = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for layer in layers:
            layer.remembers = True  # type: ignore[assignment]
