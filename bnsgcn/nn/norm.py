"""What stands between two layers: normalisation, ReLU and the next layer's dropout in one pass.

N rows of this worker   F features
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bnsgcn.config import NormName
from bnsgcn.dist import World
from bnsgcn.kernels import LayerNorm, autograd
from bnsgcn.nn.dropout import mask_of
from bnsgcn.nn.hop import Rows


class NormReluDropout(torch.nn.Module):
    """dropout(relu(norm(h))), where norm is layer, batch (over all workers) or none.

    Args:
        dropout: probability of the next layer's input dropout.
        layer: number of the dropout's mask (the next layer).
    """

    def __init__(self, features: int, norm: NormName, *, dropout: float, layer: int) -> None:
        super().__init__()
        self.norm, self.p, self.layer, self.eps = norm, dropout, layer, 1e-5
        self.batch = SyncBatchNorm(features) if norm == "batch" else None
        self.weight = torch.nn.Parameter(torch.ones(features)) if norm == "layer" else None
        self.bias = torch.nn.Parameter(torch.zeros(features)) if norm == "layer" else None

    def forward(self, rows: Rows, h: Tensor) -> Tensor:
        """h [N, F] of `rows` [N] -> [N, F]."""
        p = self.p if self.training else 0.0
        mask = mask_of(rows, self.layer, p)
        if self.norm == "layer":
            norm = LayerNorm(self.weight, self.bias, self.eps)
            return autograd.norm_relu_dropout(rows.kernels, h, norm, mask)
        if self.batch is not None:
            h = rows.keep(self.batch(rows, h.to(self.batch.weight.dtype)))
        return autograd.relu_dropout(rows.kernels, h, mask)

    def extra_repr(self) -> str:
        """Arguments, for printing."""
        return f"norm={self.norm}, p={self.p}"


class _SyncBatchNorm(torch.autograd.Function):
    """y = (x - mean) / deviation with the statistics of all workers' rows, M of them.

    | tensor | shape  | gradient, for g [N, F] and sums over all workers                         |
    |--------|--------|--------------------------------------------------------------------------|
    | x      | [N, F] | (g - sum(g) / M - y sum(g y) / M) / deviation                            |

    Weight and bias are outside: their gradients are local sums, reduced once with all others.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, world: World) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        sums = torch.cat([x.sum(0), x.new_full((1,), x.shape[0])])
        world.all_reduce(sums)
        count = sums[-1].clamp(min=1)
        mean = sums[:-1] / count
        variance = world.all_reduce(((x - mean) ** 2).sum(0)) / count
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
            return (h - self.running_mean) * (self.running_var + self.eps).rsqrt() * self.weight + self.bias
        y, mean, variance = normalise(h, self.eps, rows.world)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance, self.momentum)
        return y * self.weight + self.bias
