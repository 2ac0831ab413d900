"""Inside an epoch the host reads nothing that the device computes, but the loss at its end.

Counted on CPU, where every operation that a GPU could not answer without making the host wait is one that
torch dispatches or a method that takes numbers out of a tensor. Draws are the host's own work. The same with
CUDA's own count: test_laws_on_a_gpu.py.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from tests.bnsgcn.device.late_streams import LateStreams
from tests.bnsgcn.runs import trainer_of
from tests.bnsgcn.small_graphs import PartsFolder
from tests.multiprocess import run_ranks

aten = torch.ops.aten
READS = {
    "_local_scalar_dense", "nonzero", "masked_select", "equal", "bincount", "_unique2", "unique_dim",
    "lift_fresh",
}  # fmt: skip
TAKES = {"tolist", "numpy", "cpu", "__array__"}
ON_THE_HOST = ("bnsgcn/train/optimizer.py", "bnsgcn/exchange/draws.py", "late_streams.py")
"""Whose tensors are the host's whatever the device: Adam's count of steps, draws, the stand-in's own look."""

BASE = TrainConfig(layers=3, hidden=8, heads=2, dropout=0.3, kernel="torch")
POLICIES: list[dict[str, Any]] = [
    {},
    {"model": "gcn", "hidden": 4, "precompute": True, "linear_layers": 1},
    {"model": "gat", "wire_dtype": "int4"},
    {"pipeline": True, "wire_dtype": "bf16", "amp": "bf16"},
    {"sampling_rate": 0.3, "sampler": "importance", "draw_per_layer": True, "wire_dtype": "fp16"},
    {"sampling_rate": 0.4, "halo_cache": True, "smooth_features": True, "pipeline": True},
    {"sampling_rate": 0.4, "smooth_gradients": True, "pipeline": True, "inductive": True, "norm": "none"},
    {"residual": True, "jumping_knowledge": "max", "linear_layers": 1, "input_linear": True},
    {"norm": "batch", "class_weights": "balanced", "clip_norm": 0.5, "ema": 0.9, "label_smoothing": 0.1}
    | {"optimizer": "adamw", "weight_decay": 0.1, "lr_schedule": "cosine", "warmup": 5},
]


def asker() -> str | None:
    """The innermost function of the project that asks; None for what is the host's whatever the device."""
    frame, found = sys._getframe(), ""
    while frame is not None:
        path = frame.f_code.co_filename
        if path.endswith(ON_THE_HOST):
            return None
        if not found and not path.endswith("test_no_host_waits.py") and "/bnsgcn/" in path:
            found = frame.f_code.co_name
        frame = frame.f_back  # type: ignore[assignment]
    return found


class Reads(TorchDispatchMode):
    """Counts operations whose answer decides what the host does next."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        picks = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            each is not None and each.dtype in (torch.bool, torch.uint8) for each in args[1]
        )
        repeats = name == "repeat_interleave" and (kwargs or {}).get("output_size") is None
        if (name in READS or picks or repeats) and (who := asker()) is not None:
            self.found[f"{name} in {who}"] += 1
        return func(*args, **(kwargs or {}))


class Takes(TorchFunctionMode):
    """Counts methods that take numbers out of a tensor."""

    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self._found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in TAKES and (who := asker()) is not None:
            self._found[f"{func.__name__} in {who}"] += 1
        return func(*args, **(kwargs or {}))


def host_reads(
    world: World, folder: Path, config: TrainConfig, hook: Callable[..., Any] | None = None
) -> tuple[dict[str, int], int]:
    """What is read in the third epoch, and how often the host waits for a copy."""
    trainer = trainer_of(world, folder, config)
    for _ in range(2):
        trainer.train_epoch()
    if hook is not None:
        trainer.model.register_forward_hook(hook)
    assert isinstance(world.streams, LateStreams)
    before, reads = world.streams.counts["host waits"], Reads()
    with reads, Takes(reads.found):
        trainer.train_epoch()
    return dict(reads.found), world.streams.counts["host waits"] - before


@pytest.mark.multi
@pytest.mark.parametrize(
    "options", POLICIES, ids=lambda options: " ".join(map(str, options.items())) or "exact"
)
def test_the_loss_alone_is_read(options: dict[str, Any], parts_folder: PartsFolder, tmp_path: Path) -> None:
    config, folder = dataclasses.replace(BASE, **options), parts_folder("single", 2)
    # gloo adds in host memory: gradients once, statistics of two batch norms once each way
    sums = 1 + (4 if config.norm == "batch" else 0)
    found = run_ranks(host_reads, 2, tmp_path, folder, config, device="late")
    assert found == [({"_local_scalar_dense in train_epoch": 1}, sums)] * 2


def looks(_: torch.nn.Module, __: Any, logits: torch.Tensor) -> None:
    """Breach: a forward that asks whether all is well."""
    if not bool(torch.isfinite(logits).all()) or logits[logits > 0].tolist() == [0.5]:
        raise AssertionError


@pytest.mark.multi
def test_a_look_inside_is_noticed(parts_folder: PartsFolder, tmp_path: Path) -> None:
    found = run_ranks(host_reads, 2, tmp_path, parts_folder("single", 2), BASE, looks, device="late")
    asked = {"_local_scalar_dense": 2, "index": 1, "tolist": 1}
    assert found[0][0] == {f"{name} in train_epoch": times for name, times in asked.items()}
