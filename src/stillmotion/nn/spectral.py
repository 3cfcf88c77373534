"""Spectral normalisation: weights over their largest singular value (Miyato et al., ICLR 2018).

Two forms. `SpectralConv2d`, `SpectralConvTranspose2d` and `SpectralLinear` are tf-SNDCGAN's: gradients flow through
the power iteration, and one vector u is stored. `spectral_norm` is PyTorch's (`torch.nn.utils.spectral_norm`): the
singular vectors u and v are constants of the gradient, and both are stored.

Every use in training mode makes one power iteration and stores its vectors, except inside `frozen_power_iteration`.
In eval mode nothing is stored, so the same weights give the same output.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from stillmotion.nn.padding import SameConv2d

Layer = TypeVar("Layer", bound=nn.Module)


class SpectralConv2d(SameConv2d):
    """A `SameConv2d` whose matrix, outputs x (inputs k k), has the largest singular value one."""

    u: Tensor
    stores_vectors: bool

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        super().__init__(inputs, outputs, kernel, stride)
        register_u(self)

    def forward(self, input: Tensor) -> Tensor:
        """N x inputs x H x W -> N x outputs x ceil(H / stride) x ceil(W / stride)."""
        return self.convolve(input, normalised_weight(self))

    def fold(self) -> None:
        """Make the normalised weight the layer's own, for inference only; see `nn.modes.folded`."""
        fold(self)


class SpectralConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution whose matrix, inputs x (outputs k k), has the largest singular value one.

    The other reshape, outputs x (inputs k k), is PyTorch's; this one is tf-SNDCGAN's.
    """

    u: Tensor
    stores_vectors: bool

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, padding: int):
        super().__init__(inputs, outputs, kernel, stride, padding)
        register_u(self)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """N x inputs x h x w -> N x outputs x (stride h) x (stride w), if kernel = stride + 2 padding."""
        assert not isinstance(self.padding, str)
        return F.conv_transpose2d(input, normalised_weight(self), self.bias, self.stride, self.padding)

    def fold(self) -> None:
        """Make the normalised weight the layer's own, for inference only; see `nn.modes.folded`."""
        fold(self)


class SpectralLinear(nn.Linear):
    """A linear layer whose matrix, outputs x inputs, has the largest singular value one."""

    u: Tensor
    stores_vectors: bool

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs)
        register_u(self)

    def forward(self, input: Tensor) -> Tensor:
        """N x inputs -> N x outputs."""
        return F.linear(input, normalised_weight(self), self.bias)


Spectral = SpectralConv2d | SpectralConvTranspose2d | SpectralLinear


def register_u(layer: nn.Module) -> None:
    """Give a layer its u, drawn from a normal distribution truncated at two standard deviations."""
    weight = cast(Tensor, layer.weight)
    layer.register_buffer("u", nn.init.trunc_normal_(torch.empty(len(weight)), std=1.0, a=-2.0, b=2.0))
    layer.stores_vectors = True  # type: ignore[assignment]


def normalised_weight(layer: Spectral) -> Tensor:
    """The weight of a layer over its largest singular value, as one more power iteration estimates it."""
    if not hasattr(layer, "u"):  # folded
        return layer.weight
    with torch.autocast(layer.weight.device.type, enabled=False):
        matrix = layer.weight.flatten(1)
        v = F.normalize(layer.u.clone() @ matrix, dim=0)  # a copy: the gradient needs u as it was
        u = F.normalize(matrix @ v, dim=0)
        sigma = u @ (matrix @ v)
        if layer.training and layer.stores_vectors:
            layer.u.copy_(u.detach())
        return layer.weight / sigma


@torch.no_grad()
def fold(layer: Spectral) -> None:
    """Make the normalised weight the layer's own and remove u."""
    layer.weight.copy_(normalised_weight(layer))
    del layer.u


def spectral_norm(layer: Layer) -> Layer:
    """Normalise the weight of a layer in place, in PyTorch's form; returns the layer.

    Its matrix is outputs x (the rest). The parameter becomes `parametrizations.weight.original`, and the buffers are
    `parametrizations.weight.0.u` and `.v`. Initialise the weight before.
    """
    # "Unsafe" skips a trial run, which would fail for networks on the meta device.
    parametrize.register_parametrization(layer, "weight", SpectralNorm(cast(Tensor, layer.weight)), unsafe=True)
    return layer


class SpectralNorm(nn.Module):
    """The parametrization that `spectral_norm` registers: weight -> weight / (u . W v)."""

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor):
        super().__init__()
        rows, columns = weight.flatten(1).shape
        self.register_buffer("u", F.normalize(torch.randn(rows), dim=0))
        self.register_buffer("v", F.normalize(torch.randn(columns), dim=0))
        self.stores_vectors = True

    def forward(self, weight: Tensor) -> Tensor:
        """Any shape, outputs first -> the same."""
        with torch.autocast(weight.device.type, enabled=False):
            matrix = weight.flatten(1)
            u, v = self._iterate(matrix.detach()) if self.training else (self.u.clone(), self.v.clone())
            return weight / (u @ (matrix @ v))

    def _iterate(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        """One power iteration: v from u, then u from v."""
        v = F.normalize(self.u @ matrix, dim=0)
        u = F.normalize(matrix @ v, dim=0)
        if self.stores_vectors:
            self.u.copy_(u)
            self.v.copy_(v)
        return u, v


@contextmanager
def frozen_power_iteration(network: nn.Module) -> Iterator[None]:
    """In this block the layers of a network normalise as before but do not store their new singular vectors."""
    layers = [module for module in network.modules() if hasattr(module, "stores_vectors")]
    for layer in layers:
        layer.stores_vectors = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for layer in layers:
            layer.stores_vectors = True  # type: ignore[assignment]
