"""The area under the ROC curve and average precision, exact: from all scores of a class, never from bins.

They need all scores of a class in one place: the classes are dealt out to the ranks, and each computes those
of its own. Ties count as such. Of one label a node, a class's score is its log-odds against all others (its
probability would saturate); with two classes class 1 alone counts, with more each stands against the rest.
The mean is over the classes that have both positives and negatives, as ogbn-proteins' evaluator takes it.

    N nodes of this rank   C classes   M nodes of all ranks   K classes of this rank
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bnsgcn.dist import World

Values = npt.NDArray[np.floating]
Truth = npt.NDArray[np.bool_]
Curve = Callable[[Values, Truth], float]
ROWS_AT_ONCE = 1 << 16


def mean_over_classes(world: World, curve: Curve, logits: Tensor, labels: Tensor) -> float:
    """Mean of `curve` over the classes for which it is defined; NaN without one. Collective.

    Args:
        logits: [N, C] of this rank's nodes.
        labels: int64 [N] or multi-hot [N, C].
    """
    if labels.dim() == 1:
        labels = labels[:, None] == torch.arange(logits.shape[1], device=labels.device)
        logits = log_odds(logits)
        if logits.shape[1] == 2:
            logits, labels = logits[:, 1:], labels[:, 1:]
    classes = logits.shape[1]
    own = range(world.rank, classes, world.size)
    values = np.zeros(classes)
    for place, (column, truth) in zip(own, _columns(world, logits, labels > 0), strict=True):
        values[place] = curve(column, truth)
    # Only a class's own rank adds anything but zero, so the result does not depend on the number of ranks.
    whole = world.all_reduce(torch.from_numpy(values).to(logits.device)).cpu().numpy()
    defined = whole[~np.isnan(whole)]
    return float(defined.mean()) if defined.size else math.nan


def log_odds(logits: Tensor) -> Tensor:
    """log(p / (1 - p)) of softmax's p, without p: float64 [N, C]; distinct up to differences of 700."""
    odds = torch.empty(logits.shape, dtype=torch.float64, device=logits.device)
    if logits.shape[1] == 2:
        torch.sub(logits[:, 1].double(), logits[:, 0].double(), out=odds[:, 1])
        torch.neg(odds[:, 1], out=odds[:, 0])
        return odds
    for rows in range(0, logits.shape[0], ROWS_AT_ONCE):
        chunk = slice(rows, rows + ROWS_AT_ONCE)
        below = logits[chunk].double()
        below -= below.amax(1, keepdim=True)
        shares = below.exp()
        others = torch.zeros_like(shares)
        others[:, 1:] = shares[:, :-1].cumsum(1)
        others[:, :-1] += shares[:, 1:].flip(1).cumsum(1).flip(1)
        odds[chunk] = below - others.log()
    return odds


def _columns(world: World, logits: Tensor, truth: Tensor) -> list[tuple[Values, Truth]]:
    """(logits [M], truth [M]) of every class that this rank computes, gathered from all ranks."""
    classes, rows = logits.shape[1], logits.shape[0]
    dealt = [range(rank, classes, world.size) for rank in range(world.size)]
    order = torch.tensor([place for each in dealt for place in each], dtype=torch.int64, device=logits.device)
    everyone = world.all_gather(torch.tensor([rows], device=logits.device)).flatten().tolist()
    mine = len(dealt[world.rank])
    joined = []
    for matrix in (logits, truth.to(torch.uint8)):
        sizes = [mine * count for count in everyone]
        gathered = world.all_to_all_now(
            matrix.t()[order].reshape(-1), [len(each) * rows for each in dealt], sizes
        )
        pieces = zip(gathered.split(sizes), everyone, strict=True)
        joined.append(torch.cat([piece.view(mine, count) for piece, count in pieces], 1).cpu().numpy())
    return list(zip(joined[0], joined[1].astype(bool), strict=True))


def area_under_roc(values: Values, truth: Truth) -> float:
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


def average_precision(values: Values, truth: Truth) -> float:
    """The precision at every threshold, weighted by the recall that the threshold adds; no interpolation.

    As scikit-learn's average_precision_score. NaN where there are only positives or none, and where a score
    is NaN. Arguments as those of `area_under_roc`.
    """
    total = int(truth.sum())
    if not 0 < total < truth.size or np.isnan(values).any():
        return math.nan
    order = np.argsort(-values)
    ordered = values[order]
    thresholds = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    found = truth[order].cumsum()[thresholds]
    gained = np.diff(found, prepend=0)
    return float((gained * (found / (thresholds + 1))).sum() / total)
