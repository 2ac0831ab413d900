"""torch's batch norm in a model of one's own, made to look at the rows of all workers.

As torch.nn.SyncBatchNorm.convert_sync_batchnorm does, on any device, and in place: parameters, buffers, hooks
and names stay, so an optimiser that holds them and a saved state fit as before.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from bnsgcn.dist import World
from bnsgcn.nn.norm import normalise
from partition.errors import UserError

_CONVERTED = (torch.nn.BatchNorm1d, torch.nn.SyncBatchNorm)


class AllRowsBatchNorm(torch.nn.BatchNorm1d):
    """torch.nn.BatchNorm1d over the rows of all workers, as if there were one.

    A copy (copy.deepcopy, pickle) has no world: it is torch's until a Trainer takes it.
    """

    needs_all_rows = True
    world: World | None = None

    def forward(self, h: Tensor) -> Tensor:
        """h [N, F] -> [N, F]; every rank calls it in training, with zero rows too."""
        if self.world is None or not self.training:
            return super().forward(h)
        if h.dim() != 2:
            raise UserError(f"a batch norm over all workers takes rows [N, F], it was given {tuple(h.shape)}")
        y, mean, variance = normalise(h, self.eps, self.world)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            momentum = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance, momentum)
        return y * self.weight + self.bias if self.affine else y

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "world"}


def convert_batch_norms(model: torch.nn.Module, world: World) -> None:
    """Make every torch.nn.BatchNorm1d and SyncBatchNorm in `model` one over the rows of all workers.

    Raises:
        UserError: a batch norm of another kind, whose statistics would be each worker's own.
    """
    for name, module in model.named_modules():
        if not isinstance(module, _BatchNorm):
            continue
        if type(module) not in (*_CONVERTED, AllRowsBatchNorm) or not module.track_running_stats:
            without = "" if module.track_running_stats else " without running statistics"
            raise UserError(
                f"{name} is a {type(module).__name__}{without}, with statistics of each worker's own rows; "
                f"use torch.nn.BatchNorm1d or bnsgcn.nn.SyncBatchNorm"
            )
        module.__class__ = AllRowsBatchNorm
        cast(AllRowsBatchNorm, module).world = world
