"""What the loss is over: the training nodes among the logits' rows, their labels, and how many there are.

D rows of the logits   T of them are this rank's training nodes   C classes
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bnsgcn.dist import World
from bnsgcn.local.boundary import BoolArray, IntArray
from bnsgcn.nn.loss import task_loss
from partition.errors import UserError
from partition.store import Part


class Target:
    """Labels [T] or [T, C] of this rank's training nodes, beside the logits that are held against them."""

    def __init__(
        self, world: World, part: Part, logits_rows: IntArray, chosen: BoolArray, dtype: torch.dtype
    ) -> None:
        """Collective.

        Args:
            logits_rows: inner rows of the part that the logits [D, C] belong to.
            chosen: bool [I], the labelled training nodes among the part's inner rows.
            dtype: of the logits.

        Raises:
            UserError: no rank has a labelled training node.
        """
        places = np.flatnonzero(chosen[logits_rows])
        device = world.device
        self._place = None if places.size == logits_rows.size else torch.from_numpy(places).to(device)
        labels = torch.from_numpy(np.ascontiguousarray(part.labels[logits_rows[places]])).to(device)
        self._labels = labels if labels.dim() == 1 else labels.to(dtype)
        self._count = int(world.all_reduce(torch.tensor([places.size], device=device)))
        if self._count == 0:
            raise UserError(
                "0 labelled training nodes in all parts, at least 1 is needed; see the graph's split"
            )

    def loss(self, logits: Tensor) -> Tensor:
        """This rank's share of the loss of logits [D, C], a scalar."""
        chosen = logits if self._place is None else logits[self._place]
        return task_loss(chosen, self._labels, self._count)
