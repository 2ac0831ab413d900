"""Several plans side by side, and which one to take."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bnsgcn.config import TrainConfig, WireDtype
from bnsgcn.plan.by_hand import by_hand
from bnsgcn.plan.costs import RunPlan, plans
from bnsgcn.plan.machine import Machine
from partition.errors import UserError

RATES = (1.0, 0.5, 0.1)
"""Importance draws below 1: uniform ones cost as much and err more."""
WIRES: tuple[WireDtype, ...] = ("fp32", "bf16", "int8")
LATE: tuple[dict[str, Any], ...] = (
    {"pipeline": False, "smooth_features": False, "smooth_gradients": False},
    {"pipeline": True, "smooth_features": False, "smooth_gradients": False},
    {"pipeline": True, "smooth_features": True, "smooth_gradients": True},
)
CLOSE = 1.03
"""Among plans within this factor of the fastest, the one nearest to exact training is chosen."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """One plan among several, and why."""

    plan: RunPlan
    reason: str


def grid(parts_dir: str | Path, config: TrainConfig, machine: Machine | None = None) -> list[RunPlan]:
    """`config` with every combination of lateness, rate and wire dtype, nearest to exact first."""
    config = by_hand(config)
    plain = dataclasses.replace(config, halo_cache=False, gradient_wire_dtype=None, sampling_rate=1.0)
    configs = [
        dataclasses.replace(plain, wire_dtype=wire, **_rate(config, rate), **late)
        for late, rate, wire in itertools.product(LATE, RATES, WIRES)
    ]
    return plans(parts_dir, configs, machine)


def _rate(config: TrainConfig, rate: float) -> dict[str, Any]:
    return {"sampling_rate": rate, "sampler": config.sampler if rate == 1 else "importance"}


def choose(offered: Sequence[RunPlan], memory_bytes: int | None = None) -> Choice:
    """Of plans ordered by how near they are to exact training, the first that is about as fast as any.

    Raises:
        UserError: No plan fits into `memory_bytes` a worker, or onto its GPU.
    """
    on_gpu = [each for each in offered if each.fits]
    if not on_gpu:
        have = offered[0].machine.device_bytes or 0
        least = min(max(rank.peak_device_bytes for rank in each.ranks) for each in offered)
        raise UserError(
            f"a worker needs {least:,} bytes of a GPU and has {have:,}; partition into more than "
            f"{offered[0].parts} parts, or use --features host or fewer --hidden"
        )
    fitting = [each for each in on_gpu if memory_bytes is None or each.peak_bytes <= memory_bytes]
    if not fitting:
        least = min(each.peak_bytes for each in offered)
        raise UserError(
            f"a worker needs {least:,} bytes and has {memory_bytes:,}; "
            f"partition into more than {offered[0].parts} parts or use fewer --hidden"
        )
    fastest = min(each.epoch_s for each in fitting)
    chosen = next(each for each in fitting if each.epoch_s <= CLOSE * fastest)
    slowest_exact = fitting[0].epoch_s
    reason = (
        "exact training is as fast as anything else here"
        if chosen is fitting[0]
        else f"{slowest_exact / chosen.epoch_s:.2f} times as fast as {_describe(fitting[0].config)}"
    )
    return Choice(plan=chosen, reason=f"{_describe(chosen.config)}: {reason}")


def expected_of_auto(offered: Sequence[RunPlan]) -> RunPlan:
    """What --policy auto is expected to come to, for the sake of time: as near to exact as hides.

    It reads rows of the epoch before only where they hardly change, which nobody knows before the run.
    """
    in_time = [each for each in offered if not each.config.pipeline]
    fastest = min(each.epoch_s for each in in_time)
    return next(each for each in in_time if each.epoch_s <= CLOSE * fastest)


def _describe(config: TrainConfig) -> str:
    words = []
    if config.sampling_rate < 1:
        words.append(f"--sampling-rate {config.sampling_rate:g} --sampler {config.sampler}")
    words += ["--pipeline"] if config.pipeline else []
    words += ["--smooth-features"] if config.smooth_features else []
    words += ["--smooth-gradients"] if config.smooth_gradients else []
    words += [] if config.wire_dtype == "fp32" else [f"--wire-dtype {config.wire_dtype}"]
    return " ".join(words) or "exact"
