"""How often each class was predicted, was true, and was both, over the nodes of all ranks.

Counts are whole numbers that are added up, so nothing here depends on the number of ranks. What has nothing
to divide by counts 0, as in scikit-learn.

    N nodes of this rank   C classes
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bnsgcn.dist import World

Int64Array = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassScore:
    """How well one class was told from the others."""

    label: int
    precision: float
    recall: float
    f1: float
    support: int
    """Nodes of this class."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Counts:
    """Of all ranks' nodes; a node counts as predicted for the classes that it was said to have."""

    hits: Int64Array
    """[C] nodes of the class that were predicted as such."""
    predicted: Int64Array
    """[C]"""
    support: Int64Array
    """[C] nodes of the class."""
    right: int
    """Nodes of which all labels were predicted, and no other."""
    nodes: int
    single: bool
    """Whether a node has one label."""

    def accuracy(self) -> float:
        """Share of the nodes that are right; NaN without nodes."""
        return self.right / self.nodes if self.nodes else math.nan

    def micro_f1(self) -> float:
        """F1 of all classes' counts together; NaN without nodes."""
        if not self.nodes:
            return math.nan
        possible = int(self.predicted.sum() + self.support.sum())
        return 2 * int(self.hits.sum()) / possible if possible else 0.0

    def macro_f1(self) -> float:
        """Mean of the classes' F1; NaN without nodes.

        Of one label a node, classes that are neither true nor predicted anywhere are left out.
        """
        if not self.nodes:
            return math.nan
        seen = self.predicted + self.support > 0
        return float(self._f1()[seen if self.single else slice(None)].mean())

    def by_class(self) -> list[ClassScore]:
        """Precision, recall and F1 of every class."""
        columns = (
            _share(self.hits, self.predicted),
            _share(self.hits, self.support),
            self._f1(),
            self.support,
        )
        return [
            ClassScore(label=label, precision=precision, recall=recall, f1=f1, support=support)
            for label, (precision, recall, f1, support) in enumerate(
                zip(*(column.tolist() for column in columns), strict=True)
            )
        ]

    def _f1(self) -> FloatArray:
        return _share(2 * self.hits, self.predicted + self.support)


def _share(of: Int64Array, among: Int64Array) -> FloatArray:
    """The quotients, 0 where there is nothing to divide by."""
    return np.divide(of, among, out=np.zeros(of.size), where=among > 0)


def count(world: World, logits: Tensor, labels: Tensor) -> Counts:
    """Counts over all ranks' nodes. Collective.

    Args:
        logits: [N, C] of this rank's nodes; N may be 0. With multi-hot labels those above 0 are predicted,
            else the largest.
        labels: int64 [N] or multi-hot [N, C].
    """
    single, classes = labels.dim() == 1, logits.shape[1]
    if single:
        said = logits.argmax(1)
        hit = said == labels
        columns = [torch.bincount(which, minlength=classes) for which in (labels[hit], said, labels)]
        right = hit.sum()
    else:
        says, truth = logits > 0, labels > 0
        columns = [which.sum(0) for which in (says & truth, says, truth)]
        right = (says == truth).all(1).sum()
    totals = torch.stack([right, right.new_tensor(labels.shape[0])])
    summed = world.all_reduce(torch.cat([*columns, totals])).cpu().numpy()
    hits, predicted, support = summed[:-2].reshape(3, classes)
    return Counts(
        hits=hits,
        predicted=predicted,
        support=support,
        right=int(summed[-2]),
        nodes=int(summed[-1]),
        single=single,
    )
