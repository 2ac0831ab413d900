"""The training loss: summed over this worker's training nodes, divided by the global count.

So the sum of all ranks' losses, and of their gradients, is what one process would have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

Loss: TypeAlias = Callable[[Tensor, Tensor, int], Tensor]
"""From logits [T, C] and labels of this rank's training nodes, and the number of those of all ranks, to this
rank's share of the loss: a sum over its nodes, divided by that number."""


def task_loss(
    logits: Tensor, labels: Tensor, total: float, weights: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """This rank's share of the loss, a scalar.

    Args:
        logits: [T, C], this rank's training nodes.
        labels: int64 [T] class ids (cross-entropy), or float [T, C] multi-hot (binary cross-entropy, the mean
            over classes, as torch.nn.BCEWithLogitsLoss).
        total: training nodes of all ranks; with class ids and weights, the sum of these nodes' weights.
        weights: [C], of the classes; of multi-hot labels, of the positives.
        smoothing: share of a class id's weight that all classes get evenly; multi-hot labels have none.
    """
    if labels.dim() == 1:
        summed = torch.nn.functional.cross_entropy(
            logits, labels, weights, reduction="sum", label_smoothing=smoothing
        )
        return summed / total
    summed = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, labels, reduction="sum", pos_weight=weights
    )
    return summed / (total * labels.shape[1])
