"""Distributed full-graph training of graph convolutional networks: what every worker runs.

The public names below are imported when they are first used, so that `import bnsgcn` is instant.
"""

from __future__ import annotations

import importlib
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnsgcn.api.seed_runs import SeedRuns
    from bnsgcn.api.session import open_run, read, train, train_seeds
    from bnsgcn.api.trained import Run
    from bnsgcn.config import TrainConfig
    from bnsgcn.dist import World
    from bnsgcn.nn import GNN, Dropout, GATConv, GCNConv, SAGEConv
    from bnsgcn.predict import predict_run
    from bnsgcn.record.run_folder import RunFolder
    from bnsgcn.record.tracker import Tracker
    from bnsgcn.run import evaluate_run, train_worker
    from bnsgcn.train.checkpoint import Checkpoints
    from bnsgcn.train.evaluate import Scores
    from bnsgcn.train.trainer import Trainer
    from partition.graph import Graph

__all__ = [
    "GNN",
    "Checkpoints",
    "Dropout",
    "GATConv",
    "GCNConv",
    "Graph",
    "Run",
    "RunFolder",
    "SAGEConv",
    "Scores",
    "SeedRuns",
    "Tracker",
    "TrainConfig",
    "Trainer",
    "World",
    "evaluate_run",
    "open_run",
    "predict_run",
    "read",
    "train",
    "train_seeds",
    "train_worker",
]

_HOMES = {
    "bnsgcn.api.session": ("open_run", "read", "train_seeds"),
    "bnsgcn.api.seed_runs": ("SeedRuns",),
    "bnsgcn.api.trained": ("Run",),
    "partition.graph": ("Graph",),
    "bnsgcn.train.checkpoint": ("Checkpoints",),
    "bnsgcn.config": ("TrainConfig",),
    "bnsgcn.dist": ("World",),
    "bnsgcn.train.evaluate": ("Scores",),
    "bnsgcn.nn": ("GNN", "Dropout", "GATConv", "GCNConv", "SAGEConv"),
    "bnsgcn.record.run_folder": ("RunFolder",),
    "bnsgcn.record.tracker": ("Listener", "Tracker"),
    "bnsgcn.train.trainer": ("Trainer",),
    "bnsgcn.predict": ("predict_run",),
    "bnsgcn.run": ("evaluate_run", "train_worker"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'bnsgcn' has no attribute {name!r}")


class _TrainRoom(types.ModuleType):
    """`bnsgcn.train(graph, ...)` trains; `bnsgcn.train.trainer` and others are in the room of that name."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from bnsgcn.api import session

        return session.train(*arguments, **options)


importlib.import_module("bnsgcn.train").__class__ = _TrainRoom
