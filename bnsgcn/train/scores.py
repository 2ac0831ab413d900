"""Exact scores over the nodes of all ranks, whatever their number.

Accuracy and F1 come from counts that are added up (counts.py), curves from all scores of a class in one place
(curves.py). They mean what scikit-learn's functions of these names mean; for multi-hot labels accuracy is the
share of nodes with all labels right.

The tests hold all of them against scikit-learn and torchmetrics. Neither is imported here: both cost a worker
a second and 100 MB, and torchmetrics brings a plotting library that may not even start where training runs.

    N nodes of this rank   C classes
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from bnsgcn.config import MetricName, TrainConfig
from bnsgcn.dist import World
from bnsgcn.train.counts import Counts, count
from bnsgcn.train.curves import area_under_roc, average_precision, mean_over_classes
from partition.errors import UserError
from partition.store import Manifest

OwnMetric: TypeAlias = Callable[[Tensor, Tensor], float]
"""From the logits and labels of all nodes of a split, in any order, to a score; more is better."""
OF_COUNTS = {"accuracy": Counts.accuracy, "micro-f1": Counts.micro_f1, "macro-f1": Counts.macro_f1}
OF_CURVES = {"roc-auc": area_under_roc, "average-precision": average_precision}


def default_metric(task: str, source: str) -> MetricName:
    """Accuracy for single labels; micro-F1 for multi-hot ones, but ROC-AUC for ogbn-proteins."""
    if task == "single":
        return "accuracy"
    return "roc-auc" if "ogbn-proteins" in source else "micro-f1"


def chosen_metric(config: TrainConfig, manifest: Manifest) -> tuple[MetricName, str]:
    """The metric of a run and the line that says why.

    Raises:
        UserError: it has no meaning for the graph.
    """
    metric = config.metric or default_metric(manifest.task, manifest.source)
    if metric in OF_CURVES and manifest.task == "single" and manifest.num_classes < 2:
        raise UserError(
            f"--metric {metric} needs at least 2 classes, {manifest.name} has {manifest.num_classes}; "
            f"take accuracy"
        )
    if config.metric is not None:
        return metric, f"metric: {metric}"
    why = {
        "accuracy": "one label a node",
        "micro-f1": "several labels a node",
        "roc-auc": "ogbn-proteins",
    }
    return metric, f"metric: {metric}, the default for {why[metric]} (--metric chooses another)"


def name_of(metric: OwnMetric) -> str:
    """What a metric of the user's own is called."""
    return str(getattr(getattr(metric, "func", metric), "__name__", type(metric).__name__))


def score(world: World, metric: MetricName | OwnMetric, logits: Tensor, labels: Tensor) -> float:
    """The metric over all ranks' nodes; NaN where it is not defined, as without any node. Collective.

    Args:
        logits: [N, C] of this rank's nodes; N may be 0.
        labels: int64 [N] or multi-hot [N, C].
    """
    if callable(metric):
        return float(metric(_gathered(world, logits), _gathered(world, labels)))
    if metric in OF_CURVES:
        return mean_over_classes(world, OF_CURVES[metric], logits, labels)
    return OF_COUNTS[metric](count(world, logits, labels))


def _gathered(world: World, rows: Tensor) -> Tensor:
    """The rows of all ranks, on every rank: [N, ...] -> [sum of N, ...]. Collective."""
    counts = world.all_gather(torch.tensor([rows.shape[0]], device=rows.device)).flatten().tolist()
    every = rows.repeat(world.size, *[1] * (rows.dim() - 1))
    return world.all_to_all_now(every, [rows.shape[0]] * world.size, counts)
