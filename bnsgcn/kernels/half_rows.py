"""Passes over bf16 rows by a backend's float32 ones: a piece is widened, worked on in cache, rounded once.

Only what is kept is bf16. Weights, moments and their gradients are float32.

    N rows   F features
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from bnsgcn.kernels import pool
from bnsgcn.kernels.protocol import Kernels, LayerNorm, Moments
from bnsgcn.kernels.random_bits import Mask

HALF = torch.bfloat16
_PIECE_ENTRIES = 1 << 18


def wide(dtype: torch.dtype) -> torch.dtype:
    """What rows of `dtype` are added up in, and scaled by."""
    return torch.float32 if dtype == HALF else dtype


def narrow(exact: Tensor, out: Tensor | None) -> Tensor:
    """Sums as bf16, added to `out` where it is given."""
    return exact.to(HALF) if out is None else out.copy_(exact.add_(out))


def pieces(x: Tensor) -> Iterator[slice]:
    """Rows that stay in cache; a GPU takes all at once."""
    step = max(1, x.shape[0])
    if x.device.type == "cpu":
        step = max(256, _PIECE_ENTRIES // max(1, x.shape[1]))
    for first in range(0, x.shape[0], step):
        yield slice(first, min(first + step, x.shape[0]))


def _room(out: Tensor | None, x: Tensor) -> Tensor:
    return pool.empty(tuple(x.shape), x) if out is None else out


def elementwise(compute: Callable[..., Tensor], x: Tensor, mask: Mask, out: Tensor | None) -> Tensor:
    """A pass that looks at each entry and its mask; `out` may be x."""
    result = _room(out, x)
    for rows in pieces(x):
        piece = x[rows].float()
        result[rows] = compute(piece, mask.rows(rows), out=piece)
    return result


def norm_forward(
    kernels: Kernels, x: Tensor, norm: LayerNorm, mask: Mask, out: Tensor | None
) -> tuple[Tensor, Moments]:
    """See Kernels.norm_relu_dropout."""
    result = _room(out, x)
    moments = Moments(*(torch.empty(x.shape[0], device=x.device) for _ in range(2)))
    for rows in pieces(x):
        piece = x[rows].float()
        made, (moments.mean[rows], moments.rstd[rows]) = kernels.norm_relu_dropout(
            piece, norm, mask.rows(rows), out=piece
        )
        result[rows] = made
    return result, moments


def norm_backward(
    kernels: Kernels,
    grad: Tensor,
    x: Tensor,
    moments: Moments,
    norm: LayerNorm,
    mask: Mask,
    out: Tensor | None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """See Kernels.norm_relu_dropout_backward; the pieces' sums are added in order."""
    result = _room(out, x)
    sums = [None if each is None else torch.zeros_like(each) for each in (norm.weight, norm.bias)]
    for rows in pieces(x):
        piece, own = grad[rows].float(), Moments(moments.mean[rows], moments.rstd[rows])
        made, *found = kernels.norm_relu_dropout_backward(
            piece, x[rows].float(), own, norm, mask.rows(rows), out=piece
        )
        result[rows] = made
        for total, part in zip(sums, found, strict=True):
            if total is not None and part is not None:
                total += part
    return result, sums[0], sums[1]
