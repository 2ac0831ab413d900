"""Small trained runs, and their logits of all nodes by our own exact prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bnsgcn.config import TrainConfig
from bnsgcn.predict import predict_run
from bnsgcn.run import train_worker

MODELS: tuple[dict[str, Any], ...] = (
    {"model": "gcn", "norm": "layer", "linear_layers": 1},
    {"model": "gcn", "norm": "batch", "self_loops": False},
    {"model": "sage", "norm": "batch", "linear_layers": 1},
    {"model": "sage", "norm": "none", "self_loops": False},
    {"model": "gat", "norm": "layer"},
    {"model": "gat", "norm": "batch", "self_loops": False},
    {"model": "sage", "norm": "batch", "residual": True, "linear_layers": 1, "jumping_knowledge": "cat"}
    | {"activation": "elu", "input_linear": True},
)


def shown(options: dict[str, Any]) -> str:
    """Name of a test's case."""
    return "-".join(str(value) for value in options.values())


def trained(folder: Path, run_dir: Path, **options: Any) -> Tensor:
    """Train in this process on parts of one; the logits."""
    chosen = {"layers": 3, "hidden": 8, "heads": 2, "epochs": 3, "eval_every": 1, "device": "cpu"}
    train_worker(folder, run_dir, TrainConfig(**chosen | options))
    predict_run(run_dir, run_dir / "logits.npy")
    return torch.from_numpy(np.load(run_dir / "logits.npy"))
