"""Scores from summed counts: each rank counts its own nodes, the counts are added up, torchmetrics computes.

Accuracy for one label a node; micro-F1 or ROC-AUC for multi-hot labels. ROC-AUC is torchmetrics' binned
form with 1001 thresholds over the predicted probabilities, averaged over the classes that have positives
and negatives (as ogbn-proteins' evaluator), since its counts can be summed.

A library computes the scores, because nobody should have to trust ours; it is imported with the first
evaluation, which costs a second and 100 MB that a training step never needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from bnsgcn.dist import World

if TYPE_CHECKING:
    from torchmetrics import Metric

MetricName = Literal["accuracy", "micro_f1", "roc_auc"]
_THRESHOLDS = 1001


def default_metric(task: str, source: str) -> MetricName:
    """Accuracy for single labels; micro-F1 for multi-hot ones, but ROC-AUC for ogbn-proteins."""
    if task == "single":
        return "accuracy"
    return "roc_auc" if "ogbn-proteins" in source else "micro_f1"


def score(world: World, metric: MetricName, logits: Tensor, labels: Tensor) -> float:
    """The metric over all ranks' nodes; NaN when no rank has any. Collective.

    Args:
        logits: [N, C] of this rank's nodes; N may be 0.
        labels: int64 [N] or multi-hot [N, C].
    """
    counter = _counter(metric, logits.shape[1]).to(logits.device)
    rows = world.all_reduce(torch.tensor([logits.shape[0]], device=logits.device))
    if logits.shape[0]:
        if metric == "accuracy":
            counter.update(logits.argmax(1), labels)
        else:
            counter.update(logits.float().sigmoid(), labels.long())
    if int(rows) == 0:
        return float("nan")
    _add_up(world, counter)
    if metric == "roc_auc":
        return _mean_over_defined(counter)
    return float(counter.compute())


def _counter(metric: MetricName, classes: int) -> Metric:
    from torchmetrics.classification import MulticlassAccuracy, MultilabelAUROC, MultilabelF1Score

    options: dict[str, Any] = {"sync_on_compute": False, "validate_args": False}
    if metric == "accuracy":
        return MulticlassAccuracy(num_classes=classes, average="micro", **options)
    if metric == "micro_f1":
        return MultilabelF1Score(num_labels=classes, average="micro", **options)
    return MultilabelAUROC(num_labels=classes, average="none", thresholds=_THRESHOLDS, **options)


def _add_up(world: World, counter: Metric) -> None:
    for name in counter._defaults:
        state = getattr(counter, name)
        if isinstance(state, Tensor):
            setattr(counter, name, world.all_reduce(state.clone()))
    counter._update_count = 1  # a rank without nodes never updated, and compute would warn


def _mean_over_defined(counter: Metric) -> float:
    state = counter.metric_state["confmat"]
    assert isinstance(state, Tensor)
    confusion = state[0]  # first threshold: [C, 2, 2], rows = truth
    defined = (confusion.sum(-1) > 0).all(-1)
    return float(counter.compute()[defined].mean())
