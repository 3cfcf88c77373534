"""Convolution with the padding that TensorFlow calls "SAME"."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def same_padding(length: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis for an output of ceil(length / stride); an odd zero goes after.

    With kernel 3 and stride 2 on an even length that is (0, 1): the windows start at the even pixels; with
    symmetric padding of 1 they start at the odd ones.
    """
    total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """`nn.Conv2d` (square kernel, one stride) with that padding; weights have the same names and shapes."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        super().__init__(inputs, outputs, kernel, stride)

    def forward(self, input: Tensor) -> Tensor:
        """N x inputs x H x W -> N x outputs x ceil(H / stride) x ceil(W / stride)."""
        return self.convolve(input, self.weight)

    def convolve(self, input: Tensor, weight: Tensor) -> Tensor:
        """The same with other weights in place of the layer's own."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        top, bottom = same_padding(input.shape[2], kernel, stride)
        left, right = same_padding(input.shape[3], kernel, stride)
        if top == bottom and left == right:
            return F.conv2d(input, weight, self.bias, stride, (top, left))
        return F.conv2d(F.pad(input, (left, right, top, bottom)), weight, self.bias, stride)
