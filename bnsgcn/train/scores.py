"""Exact scores over the nodes of all ranks, whatever their number.

Accuracy for one label a node; micro-F1 or ROC-AUC for multi-hot labels. The first two come from counts that
are added up. The area under the ROC curve needs all scores of a class in one place: the classes are dealt out
to the ranks, each computes those of its own, and ties count half. The mean is over the classes that have both
positives and negatives, as ogbn-proteins' evaluator takes it.

The tests hold all of them against scikit-learn and torchmetrics. Neither is imported here: both cost a worker
a second and 100 MB, and torchmetrics brings a plotting library that may not even start where training runs.

    N nodes of this rank   C classes   M nodes of all ranks   K classes of this rank
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bnsgcn.dist import World

MetricName = Literal["accuracy", "micro_f1", "roc_auc"]


def default_metric(task: str, source: str) -> MetricName:
    """Accuracy for single labels; micro-F1 for multi-hot ones, but ROC-AUC for ogbn-proteins."""
    if task == "single":
        return "accuracy"
    return "roc_auc" if "ogbn-proteins" in source else "micro_f1"


def score(world: World, metric: MetricName, logits: Tensor, labels: Tensor) -> float:
    """The metric over all ranks' nodes; NaN where it is not defined, as without any node. Collective.

    Args:
        logits: [N, C] of this rank's nodes; N may be 0.
        labels: int64 [N] or multi-hot [N, C].
    """
    if metric == "roc_auc":
        return _mean_area(world, logits, labels)
    if metric == "accuracy":
        hits, tried = (logits.argmax(1) == labels).sum(), torch.tensor(labels.numel())
    else:
        said, truth = logits > 0, labels > 0
        hits, tried = 2 * (said & truth).sum(), said.sum() + truth.sum()
    counts = [int(hits), int(tried), labels.numel()]
    hit, possible, entries = world.all_reduce(torch.tensor(counts, device=logits.device)).tolist()
    if not entries:
        return math.nan
    return hit / possible if possible else 0.0


def _mean_area(world: World, logits: Tensor, labels: Tensor) -> float:
    """Mean area under the ROC curve over the classes that have one."""
    classes = logits.shape[1]
    own = range(world.rank, classes, world.size)
    areas = np.zeros(classes)
    for place, (values, truth) in zip(own, _columns(world, logits, labels), strict=True):
        areas[place] = area_under_roc(values, truth > 0)
    # Only a class's own rank adds anything but zero, so the result does not depend on the number of ranks.
    whole = world.all_reduce(torch.from_numpy(areas).to(logits.device)).cpu()
    defined = whole[~whole.isnan()]
    return float(defined.mean()) if defined.numel() else math.nan


def _columns(
    world: World, logits: Tensor, labels: Tensor
) -> list[tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]]:
    """(logits [M], labels [M]) of every class that this rank computes, gathered from all ranks."""
    classes, rows = logits.shape[1], logits.shape[0]
    dealt = [range(rank, classes, world.size) for rank in range(world.size)]
    order = torch.tensor([place for each in dealt for place in each], dtype=torch.int64, device=logits.device)
    everyone = world.all_gather(torch.tensor([rows], device=logits.device)).flatten().tolist()
    mine = len(dealt[world.rank])
    gathered = [
        world.all_to_all_now(
            matrix.to(logits.dtype).t()[order].reshape(-1),
            [len(each) * rows for each in dealt],
            [mine * count for count in everyone],
        )
        for matrix in (logits, labels)
    ]
    pieces = [piece.split([mine * count for count in everyone]) for piece in gathered]
    joined = [torch.cat([part.view(mine, -1) for part in each], 1).cpu().numpy() for each in pieces]
    return list(zip(*joined, strict=True))


def area_under_roc(values: npt.NDArray[np.floating], truth: npt.NDArray[np.bool_]) -> float:
    """The share of (positive, negative) pairs in the right order, ties counting half.

    Hanley and McNeil, Radiology 143, 1982. NaN without such a pair, and where a score is NaN.

    Args:
        values: [M], any monotone function of the predicted probability.
        truth: bool [M].
    """
    positives, negatives = values[truth], np.sort(values[~truth])
    if not positives.size or not negatives.size or np.isnan(values).any():
        return math.nan
    below = np.searchsorted(negatives, positives, side="left").sum(dtype=np.int64)
    not_above = np.searchsorted(negatives, positives, side="right").sum(dtype=np.int64)
    return float(below + not_above) / (2.0 * positives.size * negatives.size)
