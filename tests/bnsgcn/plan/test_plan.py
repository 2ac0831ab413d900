"""The planner: bytes exactly (law 6 has the rest), memory about right, and a choice that follows the link."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from unittest import mock

import pytest

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.plan import machine as machine_module
from bnsgcn.plan.bytes import RunBytes
from bnsgcn.plan.choose import Choice, choose, expected_of_auto, grid
from bnsgcn.plan.costs import STEADY_EPOCH, plan
from bnsgcn.plan.machine import Machine
from partition.build import partition_graph
from partition.store import open_part
from tests.bnsgcn.runs import trainer_of
from tests.multiprocess import run_ranks

CONFIG = TrainConfig(layers=3, hidden=64)
FAST = Machine(
    sum_bytes_per_s=1e10, products_per_s=5e10, pass_bytes_per_s=2e9, link_bytes_per_s=1e12, latency_s=0
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan") / "parts"
    partition_graph("synthetic:nodes=20000,degree=12,features=32,classes=8,seed=2", parts=2, out=folder)
    return folder


def test_bytes_are_those_of_a_steady_epoch(folder: Path) -> None:
    config = dataclasses.replace(CONFIG, sampling_rate=0.1, pipeline=True)
    made = plan(folder, config, FAST)
    sent = RunBytes([open_part(folder, part) for part in range(2)], config).epoch(STEADY_EPOCH)
    assert made.sent == sent
    assert [rank.sent_bytes for rank in made.ranks] == [sum(each) for each in sent.per_rank()]
    assert sum(rank.received_bytes for rank in made.ranks) == sent.sent_bytes > 0


def test_a_plan_is_json(folder: Path) -> None:
    written = json.loads(json.dumps(plan(folder, CONFIG, FAST).to_json()))
    assert written["parts"] == len(written["per_rank"]) == 2
    assert written["peak_bytes"] == max(rank["peak_bytes"] for rank in written["per_rank"])
    assert written["sent_bytes_per_epoch"] == sum(rank["sent_bytes"] for rank in written["per_rank"])
    assert written["epoch_s"] > 0


def test_time_follows_the_machine_and_the_work(folder: Path) -> None:
    twice = dataclasses.replace(
        FAST, sum_bytes_per_s=2e10, products_per_s=1e11, pass_bytes_per_s=4e9, link_bytes_per_s=2e12
    )
    base = plan(folder, CONFIG, FAST).epoch_s
    assert plan(folder, CONFIG, twice).epoch_s == pytest.approx(base / 2)
    for less in ({"precompute": True}, {"inductive": True}, {"hidden": 32}):
        assert plan(folder, dataclasses.replace(CONFIG, **less), FAST).epoch_s < base  # type: ignore[arg-type]
    for more in ({"prune": False}, {"layers": 4}, {"dtype": "float64"}):
        assert plan(folder, dataclasses.replace(CONFIG, **more), FAST).epoch_s > base  # type: ignore[arg-type]


def test_the_choice_follows_the_link_and_the_memory(folder: Path) -> None:
    def chosen(link_bytes_per_s: float) -> Choice:
        return choose(grid(folder, CONFIG, dataclasses.replace(FAST, link_bytes_per_s=link_bytes_per_s)))

    choices = [chosen(link) for link in (1e12, 1e8, 3e7, 1e7, 3e6)]
    fast, slowest = choices[0], choices[-1]
    assert fast.plan.config == CONFIG
    assert fast.reason.startswith("exact")
    sent = [choice.plan.sent.sent_bytes for choice in choices]
    assert sent == sorted(sent, reverse=True)  # a slower link, fewer bytes
    assert slowest.plan.config.wire_dtype == "int8"
    assert "--sampling-rate 0.1 --sampler importance" in slowest.reason
    with pytest.raises(ValueError, match="partition into more than 2 parts"):
        choose(grid(folder, CONFIG, FAST), memory_bytes=10**6)


def test_what_auto_will_come_to_hides_and_is_not_late(folder: Path) -> None:
    asked = dataclasses.replace(CONFIG, policy="auto", tolerance=0.5)
    for link, wire in ((1e12, "fp32"), (3e6, "int8")):
        machine = dataclasses.replace(FAST, link_bytes_per_s=link)
        found = expected_of_auto(grid(folder, asked, machine)).config
        assert (found.policy, found.pipeline, found.wire_dtype) == ("fixed", False, wire)


def test_the_grid_goes_from_exact_to_all_that_can_be_less(folder: Path) -> None:
    configs = [each.config for each in grid(folder, CONFIG, FAST)]
    assert configs[0] == CONFIG
    assert {config.wire_dtype for config in configs} == {"fp32", "bf16", "int8"}
    assert all(config.sampler == "importance" for config in configs if config.sampling_rate < 1)
    assert all(config.pipeline for config in configs if config.smooth_features)
    last = configs[-1]
    assert (last.sampling_rate, last.wire_dtype, last.smooth_gradients) == (0.1, "int8", True)


def test_kernels_for_a_gpu_are_not_measured_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "_ROWS", 64)
    asked = mock.Mock(side_effect=machine_module.select)
    monkeypatch.setattr(machine_module, "select", asked)
    for kernel in ("torch", "triton"):
        Machine.measure(dataclasses.replace(CONFIG, kernel=kernel))
    assert [call.args[0] for call in asked.call_args_list] == ["torch", "auto"]


def test_a_measured_machine_has_rates_of_this_century() -> None:
    measured = Machine.measure(CONFIG, link_bytes_per_s=125e6)
    assert 1e7 < measured.sum_bytes_per_s < 1e13
    assert 1e7 < measured.products_per_s < 1e15
    assert 1e6 < measured.pass_bytes_per_s < 1e13
    assert measured.link_bytes_per_s == 125e6
    assert 50 << 20 < measured.base_bytes < 4 << 30


def peak_memory(world: World, folder: Path, config: TrainConfig) -> tuple[int, int]:
    """(peak of a worker that trains and evaluates, its libraries alone)."""
    base = Machine.measure(config).base_bytes
    trainer = trainer_of(world, folder, config)
    for _ in range(3):
        measured = trainer.train_epoch()
    trainer.evaluate()
    measured = trainer.train_epoch()
    return int(measured["memory/peak_rss_bytes"]), base


@pytest.mark.multi
def test_memory_is_about_what_a_worker_takes(folder: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, hidden=256)
    for real, base in run_ranks(peak_memory, 2, tmp_path, folder, config, timeout_s=120, fresh=True):
        machine = dataclasses.replace(FAST, base_bytes=base)
        predicted = plan(folder, config, machine).peak_bytes
        assert 0.7 * real < predicted < 1.5 * real
