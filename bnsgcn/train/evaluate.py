"""Exact evaluation on all workers: rate 1, this epoch's values, full precision on the wire, all edges."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bnsgcn.config import MetricName
from bnsgcn.train.counts import ClassScore, count
from bnsgcn.train.hop_sets import HopSet
from bnsgcn.train.scores import OwnMetric, name_of, score
from partition.labels import TEST, VAL
from partition.store import Part


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """Validation and test score of one set of weights; NaN for an empty split."""

    metric: str
    val: float
    test: float
    per_class: list[ClassScore] = dataclasses.field(default_factory=list)
    """Of the test nodes; empty where it was not asked for."""


def logits_of(model: torch.nn.Module, hops: HopSet) -> Tensor:
    """Logits [D, C] of the rows `hops.logits_rows`, without dropout and without gradients. Collective."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            logits: Tensor = model(hops.hops, hops.features)
            return logits
    finally:
        model.train(was_training)


def evaluate(
    model: torch.nn.Module,
    hops: HopSet,
    part: Part,
    metric: MetricName | OwnMetric,
    *,
    per_class: bool = False,
) -> Scores:
    """Scores over all workers' validation and test nodes. Collective."""
    logits = logits_of(model, hops)
    split, labels = part.split[hops.logits_rows], part.labels[hops.logits_rows]
    values = []
    for wanted in (VAL, TEST):
        chosen = np.flatnonzero(split == wanted)
        index = torch.from_numpy(chosen).to(logits.device)
        truth = torch.from_numpy(np.ascontiguousarray(labels[chosen])).to(logits.device)
        values.append(score(hops.world, metric, logits[index], truth))
    classes = count(hops.world, logits[index], truth).by_class() if per_class else []
    name = metric if isinstance(metric, str) else name_of(metric)
    return Scores(metric=name, val=values[0], test=values[1], per_class=classes)


def first_non_finite_layer(model: torch.nn.Module, hops: HopSet, layers: list[torch.nn.Module]) -> int | None:
    """The first of `layers` whose output is not finite on any rank, from an exact forward. Collective."""
    seen: dict[int, bool] = {}

    def watch(index: int) -> Callable[..., None]:
        def hook(_: torch.nn.Module, __: tuple[object, ...], output: Tensor) -> None:
            seen[index] = bool(torch.isfinite(output).all())

        return hook

    handles = [layer.register_forward_hook(watch(index)) for index, layer in enumerate(layers)]
    try:
        logits_of(model, hops)
    finally:
        for handle in handles:
            handle.remove()
    finite = torch.tensor([float(seen.get(index, True)) for index in range(len(layers))])
    finite = hops.world.all_reduce(finite.to(hops.world.device), "min")
    bad = (finite == 0).nonzero().flatten().tolist()
    return bad[0] if bad else None
