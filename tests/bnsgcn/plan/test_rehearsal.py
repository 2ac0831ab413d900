"""What a rehearsal teaches the planner: it finds the machine that the measurements are of."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.plan.costs import plan, predictions
from bnsgcn.plan.machine import Machine
from bnsgcn.plan.rehearsal import calibrated, coarse, exact, measure_epochs
from tests.bnsgcn.small_graphs import PartsFolder

CONFIG = TrainConfig(layers=3, hidden=16, threads=1)
USUAL = Machine(
    sum_bytes_per_s=1e9, products_per_s=5e9, pass_bytes_per_s=1e9, copy_bytes_per_s=1e9, overhead_s=5e-3
)
THERE = dataclasses.replace(
    USUAL,
    compute_factor=1.7,
    exchange_factor=0.6,
    message_s=2e-4,
    transport_bytes_per_s=5e8,
    latency_s=4e-3,
    cores=2,
    base_bytes=200 << 20,
    memory_factor=1.3,
)


def measured_on(folder: Path, machine: Machine) -> list[dict[str, Any]]:
    """What the workers of a machine would measure, were all as predicted."""
    kinds: dict[str, dict[str, float]] = {}
    for name, config in (("exact", exact(CONFIG)), ("coarse", coarse(CONFIG))):
        made = predictions(folder, [config], machine)[0]
        messages, nbytes = made.traffic
        kinds[name] = {
            "epoch_s": made.plan().epoch_s,
            "compute_s": machine.compute_factor * made.plain_s + machine.exchange_factor * made.extra_s,
            "transport_s": messages * machine.message_s + nbytes / machine.transport_bytes_per_s,
        }
    peak = plan(folder, exact(CONFIG), machine).peak_bytes
    return [kinds | {"process_bytes": machine.base_bytes, "peak_bytes": peak} for _ in range(2)]  # type: ignore[dict-item]


def test_the_machine_that_was_measured_is_found(parts_folder: PartsFolder) -> None:
    folder = parts_folder("single", 2)
    found = calibrated(folder, CONFIG, dataclasses.replace(USUAL, cores=2), measured_on(folder, THERE))
    for name, value in dataclasses.asdict(THERE).items():
        near = 0.05 if name == "latency_s" else 1e-3
        assert getattr(found, name) == (value if value is None else pytest.approx(value, rel=near)), name
    assert found.latency_s > USUAL.latency_s


def test_all_options_of_the_run_but_the_exchange_stay(parts_folder: PartsFolder) -> None:
    asked = dataclasses.replace(CONFIG, model="gcn", sampling_rate=0.5, halo_cache=True, precompute=True)
    for kind in (exact(asked), coarse(asked)):
        assert (kind.model, kind.precompute, kind.halo_cache) == ("gcn", True, False)
    assert exact(asked).sampling_rate == 1
    assert coarse(asked).pipeline


def test_one_worker_rehearses_too(parts_folder: PartsFolder) -> None:
    folder = parts_folder("single", 1)
    measured = measure_epochs(World.single(), folder, CONFIG)
    assert 0 < measured["exact"]["compute_s"] < 60
    assert measured["process_bytes"] <= measured["peak_bytes"]
    assert "coarse" not in measured  # nothing is exchanged
    found = calibrated(folder, CONFIG, USUAL, [measured])
    assert plan(folder, CONFIG, found).epoch_s == pytest.approx(measured["exact"]["compute_s"], rel=1e-6)


def test_machines_apart_have_cores_of_their_own() -> None:
    apart = THERE.apart(125e6)
    assert apart.cores == math.inf
    assert 0.9 * 125e6 < apart.link_bytes_per_s < 125e6
