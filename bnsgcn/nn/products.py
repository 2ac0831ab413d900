"""Dense products of rows with weights, summed in place: x W^T + y V^T + b.

Weights are [out, in], as in torch.nn.Linear.   N rows   I inputs   O outputs

    | tensor | shape  | gradient, for g [N, O] |
    |--------|--------|------------------------|
    | x      | [N, I] | g W                    |
    | W      | [O, I] | g^T x                  |
    | b      | [O]    | sum of g over rows     |

Where x is dropped out on the way, or the product runs in bf16, it goes in pieces of some hundred rows: what
is masked or converted stays in cache, is never kept, and is made again in backward. Weights, sums over rows
and results stay in their own format; only the factors of a product are bf16.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from bnsgcn.kernels import Kernels, memory

_PIECE_ENTRIES = 1 << 19


@dataclasses.dataclass(frozen=True, eq=False)
class Mask:
    """Dropout of a product's rows: see `kernels.Kernels.dropout`."""

    kernels: Kernels
    node_ids: Tensor
    key: int
    p: float


@dataclasses.dataclass(frozen=True, eq=False)
class Term:
    """One product of a sum: rows x [N, I] (masked, when `mask` is given) with weight [O, I]."""

    x: Tensor
    weight: Tensor
    mask: Mask | None = None


class _SumOfProducts(torch.autograd.Function):
    """bias + sum over terms of x W^T; the arguments after `masks` are x, W, x, W, ..."""

    @staticmethod
    def forward(
        ctx: Any, bias: Tensor | None, precision: torch.dtype | None, masks: list[Mask | None], *flat: Tensor
    ) -> Tensor:
        ctx.save_for_backward(*flat)
        ctx.precision, ctx.masks = precision, masks
        xs, weights = flat[0::2], flat[1::2]
        out = memory.empty((xs[0].shape[0], weights[0].shape[0]), xs[0])
        factors = [weight.t().to(precision or weight.dtype) for weight in weights]
        for rows in _pieces(xs, masks, precision):
            piece = out[rows]
            for term, (x, mask, factor) in enumerate(zip(xs, masks, factors, strict=True)):
                _accumulate(piece, _rows(x, mask, rows, precision), factor, bias, first=term == 0)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        g = gradients[0].contiguous()
        flat, masks, precision = ctx.saved_tensors, ctx.masks, ctx.precision
        xs, weights, needs = flat[0::2], flat[1::2], ctx.needs_input_grad
        grad_x = [
            memory.empty(tuple(x.shape), x) if needs[3 + 2 * term] else None for term, x in enumerate(xs)
        ]
        grad_w = [torch.zeros_like(w) if needs[4 + 2 * term] else None for term, w in enumerate(weights)]
        factors = [weight.to(precision or weight.dtype) for weight in weights]
        for rows in _pieces(xs, masks, precision):
            piece = g[rows].to(precision or g.dtype)
            for term, (x, mask, factor) in enumerate(zip(xs, masks, factors, strict=True)):
                into, total = grad_x[term], grad_w[term]
                if into is not None:
                    _accumulate(into[rows], piece, factor, None, first=True)
                    if mask is not None:
                        _drop(into[rows], mask, rows, out=into[rows])
                if total is not None:
                    _accumulate(total, piece.t(), _rows(x, mask, rows, precision), None, first=False)
        grad_terms = [gradient for pair in zip(grad_x, grad_w, strict=True) for gradient in pair]
        return g.sum(0) if needs[0] else None, None, None, *grad_terms


def _pieces(
    xs: tuple[Tensor, ...], masks: list[Mask | None], precision: torch.dtype | None
) -> Iterator[slice]:
    """Row ranges: all rows at once where rows are taken as they are."""
    total = xs[0].shape[0]
    if precision is None and all(mask is None for mask in masks):
        yield slice(0, total)
        return
    step = max(256, _PIECE_ENTRIES // max(1, max(x.shape[1] for x in xs)))
    for start in range(0, total, step):
        yield slice(start, min(start + step, total))


def _rows(x: Tensor, mask: Mask | None, rows: slice, precision: torch.dtype | None) -> Tensor:
    taken = x[rows] if mask is None else _drop(x[rows], mask, rows)
    return taken if precision is None else taken.to(precision)


def _drop(x: Tensor, mask: Mask, rows: slice, out: Tensor | None = None) -> Tensor:
    return mask.kernels.dropout(x, mask.node_ids[rows], mask.key, mask.p, out=out)


def _accumulate(total: Tensor, left: Tensor, right: Tensor, bias: Tensor | None, *, first: bool) -> None:
    """total = bias + left @ right for the first term, total += left @ right for the others."""
    if left.dtype != total.dtype:
        product = torch.mm(left, right)
        if not first:
            total.add_(product)
        elif bias is None:
            total.copy_(product)
        else:
            torch.add(product, bias, out=total)
    elif not first:
        total.addmm_(left, right)
    elif bias is None:
        torch.mm(left, right, out=total)
    else:
        torch.addmm(bias, left, right, out=total)


def sum_of_products(
    terms: list[Term], bias: Tensor | None = None, *, precision: torch.dtype | None = None
) -> Tensor:
    """bias + sum over `terms` of x W^T: [N, O]. `precision`: format of the factors, None = as they are."""
    flat = [tensor for term in terms for tensor in (term.x, term.weight)]
    result: Tensor = _SumOfProducts.apply(bias, precision, [term.mask for term in terms], *flat)
    return result


def product(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, precision: torch.dtype | None = None
) -> Tensor:
    """x W^T (+ b): [N, I] -> [N, O]."""
    return sum_of_products([Term(x, weight)], bias, precision=precision)
