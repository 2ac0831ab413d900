"""Dense products of rows with weights, summed in place: x W^T + y V^T + b.

Weights are [out, in], as in torch.nn.Linear.   N rows   I inputs   O outputs

    | tensor | shape  | gradient, for g [N, O] |
    |--------|--------|------------------------|
    | x      | [N, I] | g W                    |
    | W      | [O, I] | g^T x                  |
    | b      | [O]    | sum of g over rows     |

Where x is dropped out on the way, or the product runs in bf16, it goes in pieces of some hundred rows: what
is masked or converted stays in cache, is never kept, and is made again in backward. Only the factors of a
product are bf16; weights, gradients and what is kept stay in their own format. Where oneDNN can round the
factors of float32 matrices itself (x86 with AVX-512), sums and results are float32 to the last bit. Elsewhere
(CUDA, other processors) the product of each piece is rounded to bf16 once, before it is added in float32.
Rows that are kept as bf16 are widened in the same pieces, and what becomes of them is added up in float32
and rounded once. oneDNN leaves narrow products (16 numbers a sum, as a rule) in float32 altogether.

A `late` weight's gradient is computed after that of x has been handed on: backward can send what it has for
the peers first, and multiply while it flies.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from bnsgcn.kernels import Kernels, Mask, pool
from bnsgcn.kernels.half_rows import HALF, wide
from bnsgcn.kernels.input_rows import Input, InputRows

_PIECE_ENTRIES = 1 << 19
_DEVICE_PIECE_ENTRIES = 1 << 27
"""On a GPU: there is no cache to stay in, and each pass is to be worth its start."""


@dataclasses.dataclass(frozen=True, eq=False)
class Drop:
    """Dropout of a product's rows: see `kernels.Kernels.dropout`."""

    kernels: Kernels
    mask: Mask

    def __call__(self, x: Tensor, rows: slice, out: Tensor | None = None) -> Tensor:
        """Rows x of all the rows, dropped out; `out` may be x."""
        return self.kernels.dropout(x, self.mask.rows(rows), out=out)


@dataclasses.dataclass(frozen=True, eq=False)
class Late:
    """A weight [O, I] whose gradient is computed in a step of its own; see `late`."""

    weight: Tensor
    due: list[Callable[[], Tensor]]


def late(weight: Tensor) -> Late:
    """`weight`, to be used in one product, with a gradient that backward computes late.

    The autograd engine takes what was created last first: this gradient comes after everything that was
    created after this call and can run without it, and before everything that was created earlier. Call it
    between `hop.post` and the sum that waits for the halo: then the halo's gradient leaves before this one is
    computed, and is waited for after it.
    """
    due: list[Callable[[], Tensor]] = []
    return Late(_Late.apply(weight, due), due)


class _Late(torch.autograd.Function):
    """weight -> weight; backward asks for the gradient that the product has promised."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, due: list[Callable[[], Tensor]]) -> Tensor:
        ctx.due = due
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.due.pop()(), None


@dataclasses.dataclass(frozen=True, eq=False)
class Term:
    """One product of a sum: rows x [N, I] (dropped out, when `drop` is given) with weight [O, I].

    Of input rows the weight is not late.
    """

    x: Input
    weight: Tensor | Late
    drop: Drop | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class _Factors:
    """Of every term x [N, I], W [O, I] and dropout; the factors' format."""

    xs: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    drops: tuple[Drop | None, ...]
    precision: torch.dtype | None

    @property
    def rounded_on_the_way(self) -> bool:
        """The product itself rounds its factors."""
        x = self.xs[0]
        plain = wide(x.dtype) == torch.float32 and x.device.type == "cpu"
        return self.precision == torch.bfloat16 and plain and _rounds_factors()

    def multiplying(self) -> contextlib.AbstractContextManager[None]:
        """What the products run in."""
        return _rounding_factors() if self.rounded_on_the_way else contextlib.nullcontext()

    def pieces(self) -> Iterator[slice]:
        """Row ranges: all rows at once where rows are taken as they are."""
        total = self.xs[0].shape[0]
        plain = self.precision is None and self.xs[0].dtype != HALF
        if plain and all(drop is None for drop in self.drops):
            yield slice(0, total)
            return
        entries = _PIECE_ENTRIES if self.xs[0].device.type == "cpu" else _DEVICE_PIECE_ENTRIES
        step = max(256, entries // max(1, max(x.shape[1] for x in self.xs)))
        for start in range(0, total, step):
            yield slice(start, min(start + step, total))

    def rows(self, term: int, rows: slice) -> Tensor:
        """Some rows of x as they are multiplied."""
        x, drop = self.xs[term][rows], self.drops[term]
        return self.cast(x if drop is None else drop(x.to(wide(x.dtype)), rows))

    def cast(self, values: Tensor) -> Tensor:
        """In the format that the product takes."""
        whole = self.precision is None or self.rounded_on_the_way
        return values.to(wide(values.dtype)) if whole else values.to(self.precision)

    def weight_gradients(self, g: Tensor, terms: list[int]) -> list[Tensor]:
        """g^T x of some terms, for g [N, O]."""
        totals = [torch.zeros_like(self.weights[term]) for term in terms]
        with self.multiplying():
            for rows in self.pieces() if terms else ():
                piece = self.cast(g[rows]).t()
                for term, total in zip(terms, totals, strict=True):
                    _accumulate(total, piece, self.rows(term, rows), None, first=False)
        return totals

    def row_gradients(self, g: Tensor, terms: list[int]) -> list[Tensor]:
        """g W of some terms."""
        totals = [pool.empty(tuple(self.xs[term].shape), g) for term in terms]
        factors = [self.cast(self.weights[term]) for term in terms]
        with self.multiplying():
            for rows in self.pieces() if terms else ():
                piece = self.cast(g[rows])
                for term, total, factor in zip(terms, totals, factors, strict=True):
                    some = _room(total[rows])
                    _accumulate(some, piece, factor, None, first=True)
                    drop = self.drops[term]
                    if drop is not None:
                        drop(some, rows, out=some)
                    _keep(total[rows], some)
        return totals


class _SumOfProducts(torch.autograd.Function):
    """into (or bias) + sum over terms of x W^T; the arguments after `dues` are x, W, x, W, ...

    dues: of each term where the gradient of its weight is promised, None = it is computed at once.
    """

    @staticmethod
    def forward(
        ctx: Any,
        into: Tensor | None,
        bias: Tensor | None,
        precision: torch.dtype | None,
        drops: tuple[Drop | None, ...],
        dues: list[list[Callable[[], Tensor]] | None],
        *flat: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(*flat)
        ctx.precision, ctx.drops, ctx.dues = precision, drops, dues
        terms = _Factors(flat[0::2], flat[1::2], drops, precision)
        out = into
        if out is None:
            out = pool.empty((flat[0].shape[0], flat[1].shape[0]), flat[0])
        else:
            ctx.mark_dirty(out)
        factors = [terms.cast(weight.t()) for weight in terms.weights]
        with terms.multiplying():
            for rows in terms.pieces():
                some = _room(out[rows], filled=into is not None)
                for term, factor in enumerate(factors):
                    first = term == 0 and into is None
                    _accumulate(some, terms.rows(term, rows), factor, bias, first=first)
                _keep(out[rows], some)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        g, flat, needs = gradients[0].contiguous(), ctx.saved_tensors, ctx.needs_input_grad
        terms = _Factors(flat[0::2], flat[1::2], ctx.drops, ctx.precision)
        found: list[Tensor | None] = [None] * len(flat)
        rows = [term for term in range(len(ctx.dues)) if needs[5 + 2 * term]]
        weights = [term for term in range(len(ctx.dues)) if needs[6 + 2 * term]]
        for term, gradient in zip(rows, terms.row_gradients(g, rows), strict=True):
            found[2 * term] = gradient
        now = [term for term in weights if ctx.dues[term] is None]
        for term, gradient in zip(now, terms.weight_gradients(g, now), strict=True):
            found[2 * term + 1] = gradient
        for term in weights:
            if ctx.dues[term] is not None:
                ctx.dues[term].append(functools.partial(_only, terms, g, term))
                found[2 * term + 1] = (
                    terms.weights[term].new_zeros(()).expand_as(terms.weights[term])
                )  # unread
        of_bias = g.sum(0, dtype=wide(g.dtype)) if needs[1] else None
        return g if needs[0] else None, of_bias, None, None, None, *found


class _InputProduct(torch.autograd.Function):
    """into (or bias) + x W^T of input rows, which have no gradient."""

    @staticmethod
    def forward(ctx: Any, into: Tensor | None, bias: Tensor | None, x: InputRows, weight: Tensor) -> Tensor:
        ctx.x = x
        if into is not None:
            ctx.mark_dirty(into)
        total = x.times(weight, into)
        return total if bias is None else total.add_(bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        g, needs = gradients[0].contiguous(), ctx.needs_input_grad
        of_weight = ctx.x.weight_gradient(g) if needs[3] else None
        return g if needs[0] else None, g.sum(0) if needs[1] else None, None, of_weight


def _only(terms: _Factors, g: Tensor, term: int) -> Tensor:
    return terms.weight_gradients(g, [term])[0]


@contextlib.contextmanager
def _rounding_factors() -> Iterator[None]:
    """Inside, oneDNN multiplies float32 matrices with factors rounded to bf16, and adds in float32."""
    setting = getattr(torch.backends.mkldnn, "matmul")  # noqa: B009 (unknown to older annotations)
    before = setting.fp32_precision
    setting.fp32_precision = "bf16"
    try:
        yield
    finally:
        setting.fp32_precision = before


@functools.cache
def _rounds_factors() -> bool:
    """Whether it does so with this processor and this torch: 1 + 2^-10 is 1 in bf16."""
    ones = torch.ones(64, 64)
    try:
        with _rounding_factors():
            return bool((torch.mm(ones + 2**-10, ones) == 64).all())
    except AttributeError:  # before torch 2.9
        return False


def _room(rows: Tensor, *, filled: bool = False) -> Tensor:
    """Where a product of some rows is added up: they themselves, of bf16 rows float32, with what is there."""
    if rows.dtype != HALF:
        return rows
    return rows.float() if filled else torch.empty_like(rows, dtype=torch.float32)


def _keep(rows: Tensor, summed: Tensor) -> None:
    """Round what was added up elsewhere."""
    if rows.dtype == HALF:
        rows.copy_(summed)


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
    terms: list[Term],
    bias: Tensor | None = None,
    *,
    precision: torch.dtype | None = None,
    into: Tensor | None = None,
) -> Tensor:
    """bias + sum over `terms` of x W^T: [N, O].

    Args:
        precision: format that dense factors are rounded to, None = as they are.
        into: [N, O], added to in place, instead of a bias.
    """
    assert bias is None or into is None
    drops: list[Drop | None] = []
    dues: list[list[Callable[[], Tensor]] | None] = []
    flat: list[Tensor] = []
    for term in terms:
        weight = term.weight.weight if isinstance(term.weight, Late) else term.weight
        if not isinstance(term.x, Tensor):
            x = term.x if term.drop is None else term.x.dropped(term.drop.mask)
            into, bias = _InputProduct.apply(into, bias, x, weight), None
            continue
        flat += [term.x, weight]
        drops.append(term.drop)
        dues.append(term.weight.due if isinstance(term.weight, Late) else None)
    if into is not None and not flat:
        return into
    result: Tensor = _SumOfProducts.apply(into, bias, precision, tuple(drops), dues, *flat)
    return result


def product(
    x: Input,
    weight: Tensor | Late,
    bias: Tensor | None = None,
    *,
    precision: torch.dtype | None = None,
    into: Tensor | None = None,
) -> Tensor:
    """x W^T (+ b, or added to `into` in place): [N, I] -> [N, O]."""
    return sum_of_products([Term(x, weight)], bias, precision=precision, into=into)
