"""Muon, an optimiser of matrices whose steps have all singular values near one (Jordan et al. 2024; ours).

It makes more of every step than Adam does: docs/log.md has the trial. Torch's own takes matrices alone; here a
convolution's weight, out x in x k x k, is taken for one of `out` rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

LEAST_ROWS = 8
"""Weights of fewer rows are heads, of two or three numbers a pixel, which a step in all directions would shake."""

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration whose fixed points lie around one
_ITERATIONS = 5


def is_matrix(parameter: nn.Parameter) -> bool:
    """Whether a parameter is a convolution's weight of at least `LEAST_ROWS` rows."""
    return parameter.dim() == 4 and len(parameter) >= LEAST_ROWS


def split(
    name: str, parameters: Iterable[nn.Parameter], rate: float, others: Callable[[list[nn.Parameter]], Optimizer]
) -> dict[str, Optimizer]:
    """The optimisers of a network by name: `others` for all of it, or for what Muon does not take.

    Args:
        name: of `others`; Muon's is `NAME_matrices`.
        parameters: what learns.
        rate: learning rate of Muon; 0: there is none.
        others: makes an optimiser.
    """
    given = list(parameters)
    if not rate:
        return {name: others(given)}
    rest = [p for p in given if not is_matrix(p)]
    return {name: others(rest), f"{name}_matrices": Muon([p for p in given if is_matrix(p)], rate)}


class Muon(Optimizer):
    """Nesterov momentum, made orthogonal."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float = 0.01, momentum: float = 0.95):
        """Args: weights with two axes or more; learning rate, of a square matrix; share of the momentum kept."""
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step, without a closure."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                mean = state["momentum"].mul_(group["momentum"]).add_(parameter.grad)
                step = orthogonal((parameter.grad + group["momentum"] * mean).flatten(1))
                # A step of every row counts alike, however few columns there are.
                scale = max(1.0, step.shape[0] / step.shape[1]) ** 0.5
                parameter.add_(step.reshape(parameter.shape), alpha=-group["lr"] * scale)


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest matrix whose singular values are one, roughly: they come to lie between 0.7 and 1.2.

    Args:
        matrix: M x N; of a matrix of zeros the result is zero.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    first, second, third = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        square = x @ x.T
        x = first * x + (second * square + third * square @ square) @ x
    return x.T if tall else x
