"""Dense products of rows with weights, summed in place: x W^T + y V^T + b without a temporary.

Weights are [out, in], as in torch.nn.Linear.   N rows   I inputs   O outputs

    | tensor | shape  | gradient, for g [N, O] |
    |--------|--------|------------------------|
    | x      | [N, I] | g W                    |
    | W      | [O, I] | g^T x                  |
    | b      | [O]    | sum of g over rows     |
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _SumOfProducts(torch.autograd.Function):
    """bias + x W^T + y V^T (y and V may be missing)."""

    @staticmethod
    def forward(
        ctx: Any, bias: Tensor | None, x: Tensor, weight: Tensor, y: Tensor | None, other: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(x, weight, y, other)
        out = torch.mm(x, weight.t()) if bias is None else torch.addmm(bias, x, weight.t())
        if y is not None and other is not None:
            out.addmm_(y, other.t())
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        g = gradients[0].contiguous()
        x, weight, y, other = ctx.saved_tensors
        needs = ctx.needs_input_grad
        return (
            g.sum(0) if needs[0] else None,
            torch.mm(g, weight) if needs[1] else None,
            torch.mm(g.t(), x) if needs[2] else None,
            torch.mm(g, other) if needs[3] else None,
            torch.mm(g.t(), y) if needs[4] else None,
        )


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T (+ b): [N, I] -> [N, O]."""
    result: Tensor = _SumOfProducts.apply(bias, x, weight, None, None)
    return result


def sum_of_products(
    x: Tensor, weight: Tensor, y: Tensor, other: Tensor, bias: Tensor | None = None
) -> Tensor:
    """x W^T + y V^T (+ b): [N, I], [N, J] -> [N, O]."""
    result: Tensor = _SumOfProducts.apply(bias, x, weight, y, other)
    return result
