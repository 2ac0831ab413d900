"""What stands between two layers: normalisation, activation and the next layer's dropout, fused for ReLU.

N rows of this worker   F features
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from bnsgcn.config import ActivationName, NormName
from bnsgcn.dist import World
from bnsgcn.kernels import LayerNorm, Mask, autograd
from bnsgcn.nn.dropout import mask_of
from bnsgcn.nn.hop import Rows

_ACTIVATIONS: dict[ActivationName, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "leaky-relu": functional.leaky_relu,
    "elu": functional.elu,
    "gelu": functional.gelu,
}
_PIECE_ENTRIES = 1 << 16
"""Of rows whose passes stay in cache."""


class NormReluDropout(torch.nn.Module):
    """dropout(activation(norm(h))), where norm is layer, batch (over all workers) or none.

    Args:
        dropout: probability of the next layer's input dropout.
        layer: number of the dropout's mask (the next layer).
        activation: relu goes with norm and dropout in one pass, the others in passes of their own.
    """

    def __init__(
        self,
        features: int,
        norm: NormName,
        *,
        dropout: float,
        layer: int,
        activation: ActivationName = "relu",
    ) -> None:
        super().__init__()
        self.norm, self.p, self.layer, self.eps = norm, dropout, layer, 1e-5
        self.activation: ActivationName = activation
        self.batch = SyncBatchNorm(features) if norm == "batch" else None
        self.weight = torch.nn.Parameter(torch.ones(features)) if norm == "layer" else None
        self.bias = torch.nn.Parameter(torch.zeros(features)) if norm == "layer" else None

    def forward(self, rows: Rows, h: Tensor) -> Tensor:
        """h [N, F] of `rows` [N] -> [N, F]."""
        mask = mask_of(rows, self.layer, self.p if self.training else 0.0)
        if self.activation != "relu":
            h = activated(self.activation, self._normed(rows, h))
            return rows.keep(autograd.dropout(rows.kernels, h, mask))
        if self.norm == "layer":
            norm = LayerNorm(self.weight, self.bias, self.eps)
            return autograd.norm_relu_dropout(rows.kernels, h, norm, mask)
        if self.batch is not None:
            return rows.keep(self.batch.relu_dropout(rows, h.to(self.batch.weight.dtype), mask))
        return autograd.relu_dropout(rows.kernels, h, mask)

    def _normed(self, rows: Rows, h: Tensor) -> Tensor:
        if self.batch is not None:
            h = self.batch(rows, h.to(self.batch.weight.dtype))
        elif self.weight is not None:
            h = functional.layer_norm(h.to(self.weight.dtype), h.shape[1:], self.weight, self.bias, self.eps)
        return h

    def extra_repr(self) -> str:
        """Arguments, for printing."""
        return f"norm={self.norm}, activation={self.activation}, p={self.p}"


def activated(activation: ActivationName, h: Tensor) -> Tensor:
    """The activation of every entry of h."""
    return _ACTIVATIONS[activation](h)


class _SyncBatchNorm(torch.autograd.Function):
    """y = (x - mean) / deviation with the statistics of all workers' rows, M of them.

    | tensor | shape  | gradient, for g [N, F] and sums over all workers                         |
    |--------|--------|--------------------------------------------------------------------------|
    | x      | [N, F] | (g - sum(g) / M - y sum(g y) / M) / deviation                            |

    Weight and bias are outside: their gradients are local sums, reduced once with all others.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, world: World) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean, variance, count = _moments(x, world)
        scale = (variance + eps).rsqrt()
        y = (x - mean) * scale
        ctx.save_for_backward(y, scale, count)
        ctx.world = world
        ctx.mark_non_differentiable(mean, variance, count)
        return y, mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        y, scale, count = ctx.saved_tensors
        g = gradients[0]
        sums = ctx.world.all_reduce(torch.stack([g.sum(0), (g * y).sum(0)]))
        return (g - sums[0] / count - y * (sums[1] / count)) * scale, None, None


class _BatchNormReluDropout(torch.autograd.Function):
    """mask * max(a x + c, 0) / keep, where a x + c is the batch norm of all workers' rows, M of them.

    | tensor       | shape  | kept | gradient, for g [N, F] of a x + c and sums over all workers     |
    |--------------|--------|------|-----------------------------------------------------------------|
    | x            | [N, F] | yes  | a (g - sum(g) / M - y sum(g y) / M), y the normalised x         |
    | weight, bias | [F]    | yes  | own sums of g y and of g, reduced once with all other gradients |
    | result       | [N, F] | yes  | the next product keeps it too; it is 0 where g must be          |

    One message forward and one backward; backward goes piece by piece, so that its passes stay in cache.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, rows: Rows, mask: Mask
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean, variance, count = _moments(x, rows.world)
        scale = (variance + eps).rsqrt()
        factor = weight * scale
        y = torch.addcmul(bias - mean * factor, x, factor)
        result = rows.kernels.relu_dropout(y, mask, out=y)
        ctx.save_for_backward(x, weight, result, mean, scale, count)
        ctx.rows, ctx.p = rows, mask.p
        ctx.mark_non_differentiable(mean, variance, count)
        return result, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, result, mean, scale, count = ctx.saved_tensors
        g = ctx.rows.kernels.relu_dropout_backward(gradients[0].contiguous(), result, ctx.p)
        sums = torch.zeros_like(torch.stack([mean, mean]))
        for part in _pieces(x):
            sums[0] += g[part].sum(0)
            sums[1] += (g[part] * (x[part] - mean)).sum(0)
        sums[1] *= scale
        own = sums.clone()
        of_all = ctx.rows.world.all_reduce(sums) / count
        factor = weight * scale
        slope = -factor * scale * of_all[1]
        offset = -factor * of_all[0] - mean * slope
        for part in _pieces(x):
            g[part].mul_(factor).add_(offset).addcmul_(x[part], slope)
        return g, own[1], own[0], None, None, None


def _pieces(x: Tensor) -> list[slice]:
    """Row ranges that stay in cache; on a device all rows at once."""
    step = max(64, _PIECE_ENTRIES // max(1, x.shape[1])) if x.device.type == "cpu" else max(1, x.shape[0])
    return [slice(start, start + step) for start in range(0, x.shape[0], step)]


def _moments(x: Tensor, world: World) -> tuple[Tensor, Tensor, Tensor]:
    """Mean [F], variance [F] and number of all workers' rows.

    Every worker says its number of rows, their mean and the squares around that (Chan, Golub and LeVeque,
    1979): one message, and no loss of digits where the mean is large.
    """
    mean, squares = x.new_zeros(x.shape[1]), x.new_zeros(x.shape[1])
    for part in _pieces(x):
        mean += x[part].sum(0)
    mean /= max(1, x.shape[0])
    for part in _pieces(x):
        squares += (x[part] - mean).square_().sum(0)
    every = world.all_gather(torch.cat([x.new_full((1,), x.shape[0]), mean, squares]))
    counts, means, squares = every.split([1, x.shape[1], x.shape[1]], dim=1)
    count = counts.sum().clamp(min=1)
    mean = (counts * means).sum(0) / count
    return mean, (squares + counts * (means - mean) ** 2).sum(0) / count, count


def normalise(x: Tensor, eps: float, world: World) -> tuple[Tensor, Tensor, Tensor]:
    """((x - mean) / deviation [N, F], mean [F], unbiased variance [F]) over all workers' rows. Collective."""
    y, mean, variance, count = _SyncBatchNorm.apply(x, eps, world)
    return y, mean, variance * (count / (count - 1).clamp(min=1))


class SyncBatchNorm(torch.nn.Module):
    """Batch normalisation over the rows of all workers (Ioffe and Szegedy, 2015), as if there were one.

    Running statistics use the unbiased variance and momentum 0.1, as torch.nn.BatchNorm1d's.
    """

    needs_all_rows = True
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = torch.nn.Parameter(torch.ones(features))
        self.bias = torch.nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, rows: Rows, h: Tensor) -> Tensor:
        """h [N, F] of `rows` -> [N, F]; every rank calls it, with zero rows too."""
        if not self.training:
            return torch.addcmul(*self._line(), h)
        y, mean, variance = normalise(h, self.eps, rows.world)
        self._run(mean, variance)
        return y * self.weight + self.bias

    def relu_dropout(self, rows: Rows, h: Tensor, mask: Mask) -> Tensor:
        """The same, then ReLU and dropout, in as few passes as that takes."""
        if not self.training:
            return autograd.relu_dropout(rows.kernels, self(rows, h), mask)
        result: Tensor
        result, mean, variance, count = _BatchNormReluDropout.apply(
            h, self.weight, self.bias, self.eps, rows, mask
        )
        self._run(mean, variance * (count / (count - 1).clamp(min=1)))
        return result

    def _line(self) -> tuple[Tensor, Tensor]:
        """Offset and slope of every column in evaluation."""
        slope = (self.running_var + self.eps).rsqrt() * self.weight
        return self.bias - self.running_mean * slope, slope

    @torch.no_grad()
    def _run(self, mean: Tensor, variance: Tensor) -> None:
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
