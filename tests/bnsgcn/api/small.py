"""A small graph in memory, and functions of one's own that every worker can import."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import bnsgcn
from bnsgcn.nn import GCNConv

NODES = 300
QUICK: dict[str, Any] = {"parts": 2, "layers": 2, "hidden": 8, "epochs": 6, "eval_every": 2, "lr": 0.1}
QUICK |= {"dropout": 0.0, "progress": False}


def small_graph(nodes: int = NODES) -> bnsgcn.Graph:
    """Three communities that features tell apart."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, nodes)
    ends = rng.integers(0, nodes, (2, 8 * nodes))
    same = (label[ends[0]] == label[ends[1]]) | (rng.random(ends.shape[1]) < 0.1)
    features = np.eye(3)[label] @ rng.standard_normal((3, 6)) + rng.standard_normal((nodes, 6))
    return bnsgcn.Graph.from_arrays(
        ends[:, same], features=features.astype("f4"), labels=label, split=np.arange(nodes) % 3 + 1
    )


class TwoLayers(torch.nn.Module):
    """A model of one's own, which is its own factory."""

    def __init__(self, features: int, classes: int, config: bnsgcn.TrainConfig) -> None:
        super().__init__()
        self.first = GCNConv(features, config.hidden)
        self.second = GCNConv(config.hidden, classes)

    def forward(self, hops: Any, x: torch.Tensor) -> torch.Tensor:
        return self.second(hops[1], torch.relu(self.first(hops[0], x)))


class TiedHeads(TwoLayers):
    """Two classifiers with one weight."""

    def __init__(self, features: int, classes: int, config: bnsgcn.TrainConfig) -> None:
        super().__init__(features, config.hidden, config)
        self.one, self.two = (torch.nn.Linear(config.hidden, classes) for _ in range(2))
        self.two.weight = self.one.weight

    def forward(self, hops: Any, x: torch.Tensor) -> torch.Tensor:
        h = super().forward(hops, x)
        return self.one(h) + self.two(h)  # type: ignore[no-any-return]


def broken(features: int, classes: int, config: bnsgcn.TrainConfig) -> torch.nn.Module:
    raise ArithmeticError(f"{features} features are not {classes}")


def halved(epoch: int) -> float:
    return 0.5**epoch


def doubled_loss(logits: torch.Tensor, labels: torch.Tensor, count: int) -> torch.Tensor:
    return 2 * torch.nn.functional.cross_entropy(logits, labels, reduction="sum") / count


def worst_class_recall(logits: torch.Tensor, labels: torch.Tensor) -> float:
    hit = (logits.argmax(1) == labels).double()
    return min(float(hit[labels == label].mean()) for label in labels.unique())
