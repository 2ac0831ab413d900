"""Whether what a model keeps besides its weights is the same on all ranks.

Weights are, since all ranks take the same step. A buffer that is filled by the rows that a rank sees is not:
ranks would evaluate by different statistics, and checkpoints hold those of rank 0 alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bnsgcn.dist import World
from partition.errors import UserError

_ROUNDING = 1e-5
"""Of a buffer's largest number: machines round differently, statistics of other rows differ by more."""


def check_buffers(world: World, model: torch.nn.Module) -> None:
    """Compare the buffers in the model's state with rank 0's. Collective.

    Raises:
        UserError: on every rank the same line, which names the buffer and its module.
    """
    saved = model.state_dict(keep_vars=True)
    buffers = {name: value for name, value in model.named_buffers() if name in saved and value.numel()}
    if world.size == 1 or not buffers:
        return
    flat = torch.cat([value.detach().double().flatten() for value in buffers.values()])
    sizes = [value.numel() for value in buffers.values()]
    pairs = zip(flat.split(sizes), world.broadcast(flat.clone()).split(sizes), strict=True)
    ranks = world.all_gather(torch.stack([_difference(mine, first) for mine, first in pairs]))
    if not bool(ranks.any()):
        return
    place = int(ranks.any(0).nonzero()[0])
    rank, name = int(ranks[:, place].argmax()), list(buffers)[place]
    owner = type(model.get_submodule(name.rpartition(".")[0])).__name__
    raise UserError(
        f"the buffer {name} ({owner}) differs by {float(ranks[rank, place]):.3g} between ranks 0 and {rank}; "
        f"fill it from the rows of all workers (as bnsgcn.nn.SyncBatchNorm does) or from none"
    )


def _difference(mine: Tensor, first: Tensor) -> Tensor:
    """The largest difference, 0 where it is rounding; a number and none differ infinitely."""
    same = mine.eq(first) | (mine.isnan() & first.isnan())
    largest = torch.where(same, 0.0, mine - first).abs().nan_to_num(torch.inf).amax()
    level = first.nan_to_num(0.0, 0.0, 0.0).abs().amax()
    return torch.where(largest > _ROUNDING * level, largest, 0.0)
