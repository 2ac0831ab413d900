"""Distributed full-graph training of graph convolutional networks: what every worker runs.

The public names below are imported when they are first used, so that `import bnsgcn` is instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnsgcn.config import TrainConfig
    from bnsgcn.dist import World
    from bnsgcn.nn import GNN, Dropout, GATConv, GCNConv, SAGEConv
    from bnsgcn.predict import predict_run
    from bnsgcn.record.run_folder import Listener, RunFolder
    from bnsgcn.run import evaluate_run, train_worker
    from bnsgcn.train.checkpoint import Checkpoints
    from bnsgcn.train.evaluate import Scores
    from bnsgcn.train.trainer import Trainer

__all__ = [
    "GNN",
    "Checkpoints",
    "Dropout",
    "GATConv",
    "GCNConv",
    "Listener",
    "RunFolder",
    "SAGEConv",
    "Scores",
    "TrainConfig",
    "Trainer",
    "World",
    "evaluate_run",
    "predict_run",
    "train_worker",
]

_HOMES = {
    "bnsgcn.train.checkpoint": ("Checkpoints",),
    "bnsgcn.config": ("TrainConfig",),
    "bnsgcn.dist": ("World",),
    "bnsgcn.train.evaluate": ("Scores",),
    "bnsgcn.nn": ("GNN", "Dropout", "GATConv", "GCNConv", "SAGEConv"),
    "bnsgcn.record.run_folder": ("Listener", "RunFolder"),
    "bnsgcn.train.trainer": ("Trainer",),
    "bnsgcn.predict": ("predict_run",),
    "bnsgcn.run": ("evaluate_run", "train_worker"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'bnsgcn' has no attribute {name!r}")
