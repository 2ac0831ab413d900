"""What the loss is over: the training nodes among the logits' rows, their labels, and how many there are.

D rows of the logits   T of them are this rank's training nodes   C classes
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.local.boundary import BoolArray, IntArray
from bnsgcn.nn.loss import Loss, task_loss
from bnsgcn.train.class_weights import class_weights
from partition.errors import UserError
from partition.store import Manifest, Part


class Target:
    """Labels [T] or [T, C] of this rank's training nodes, beside the logits that are held against them."""

    def __init__(
        self,
        world: World,
        part: Part,
        logits_rows: IntArray,
        chosen: BoolArray,
        dtype: torch.dtype,
        config: TrainConfig,
        *,
        own: Loss | None = None,
    ) -> None:
        """Collective.

        Args:
            logits_rows: inner rows of the part that the logits [D, C] belong to.
            chosen: bool [I], the labelled training nodes among the part's inner rows.
            dtype: of the logits.
            own: a loss in place of the task's.

        Raises:
            UserError: no rank has a labelled training node, or class weights or smoothing do not fit.
        """
        check_smoothing(part.manifest, config)
        places = np.flatnonzero(chosen[logits_rows])
        device = world.device
        self._place = None if places.size == logits_rows.size else torch.from_numpy(places).to(device)
        labels = torch.from_numpy(np.ascontiguousarray(part.labels[logits_rows[places]])).to(device)
        self._labels = labels if labels.dim() == 1 else labels.to(dtype)
        self._own, self._smoothing = own, config.label_smoothing
        self._weights: Tensor | None = None
        self._nodes = nodes = int(world.all_reduce(torch.tensor([places.size], device=device)))
        self._total: float = nodes
        if nodes == 0:
            raise UserError(
                "0 labelled training nodes in all parts, at least 1 is needed; see the graph's split"
            )
        if config.class_weights is not None:
            counts, single = class_counts(world, labels, part.manifest.num_classes), labels.dim() == 1
            weights = class_weights(config, part.manifest.num_classes, nodes, counts, single=single)
            self._weights = torch.from_numpy(weights).to(device, dtype)
            # From whole numbers in one order, so that it is the same on any number of ranks.
            self._total = float(weights @ counts) if single else nodes

    def loss(self, logits: Tensor) -> Tensor:
        """This rank's share of the loss of logits [D, C], a scalar."""
        chosen = logits if self._place is None else logits[self._place]
        if self._own is not None:
            return self._own(chosen, self._labels, self._nodes)
        return task_loss(chosen, self._labels, self._total, self._weights, self._smoothing)


def check_smoothing(manifest: Manifest, config: TrainConfig) -> None:
    """UserError where labels are to be smoothed and a node has several."""
    if config.label_smoothing and manifest.task != "single":
        raise UserError(
            f"--label-smoothing {config.label_smoothing:g} spreads the one label of a node over the classes, "
            f"nodes of {manifest.name} have several; leave it out"
        )


def class_counts(world: World, labels: Tensor, classes: int) -> npt.NDArray[np.int64]:
    """Nodes of all ranks that have each class, int64 [C], by labels [T] or multi-hot [T, C]. Collective."""
    own = torch.bincount(labels, minlength=classes) if labels.dim() == 1 else labels.long().sum(0)
    counts: npt.NDArray[np.int64] = world.all_reduce(own).cpu().numpy()
    return counts
