"""What the planner is held against: groups of a model, a workload and a number of parts."""

from __future__ import annotations

from typing import Any

from benchmarks.hub import NO_LIMIT
from benchmarks.workloads import recipe
from bnsgcn.config import TrainConfig

GROUPS = (
    ("sage", "small", 2),
    ("gcn", "small", 2),
    ("sage", "products-like@0.25", 2),
    ("gcn", "products-like@0.25", 2),
    ("sage", "small", 4),
    ("gcn", "products-like@0.25", 4),
    ("sage", "small", 1),
    ("gcn", "products-like@0.25", 1),
)
POLICIES: dict[str, dict[str, Any]] = {
    "exact": {},
    "int8": {"wire_dtype": "int8"},
    "importance 0.1": {"sampling_rate": 0.1, "sampler": "importance"},
    "pipeline": {"pipeline": True},
    "all": {
        "sampling_rate": 0.1,
        "sampler": "importance",
        "pipeline": True,
        "wire_dtype": "int8",
        "smooth_features": True,
        "smooth_gradients": True,
    },
}
LINKS = {"no limit": NO_LIMIT, "1 Gbit/s": 1e9, "100 Mbit/s": 1e8}
Group = tuple[str, str, int]


def config_of(group: Group, policy: str = "exact") -> TrainConfig:
    """The options of a group, with one thread a worker."""
    model, workload, _ = group
    shape = recipe(workload)
    return TrainConfig(
        model=model,  # type: ignore[arg-type]
        layers=3,
        hidden=shape.hidden,
        dropout=shape.dropout,
        device="cpu",
        backend="gloo",
        threads=1,
        epochs=1_000_000,
        **POLICIES[policy],
    )


def name_of(group: Group) -> str:
    return "{}, {}, {} workers".format(*group)
