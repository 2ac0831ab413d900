"""Law 6: every rank sends, in every epoch, exactly the bytes that the planner counts from the parts alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.plan.bytes import LayerBytes, RunBytes
from partition.store import open_part
from tests.bnsgcn.runs import trainer_of
from tests.bnsgcn.small_graphs import PartsFolder
from tests.multiprocess import run_ranks

EPOCHS = 4
BASE = TrainConfig(layers=3, hidden=8, heads=2, dropout=0.2, dtype="float64")

COMBINATIONS: list[dict[str, Any]] = [
    {},
    {"prune": False, "model": "gcn"},
    {"norm": "batch", "precompute": True},
    {"input_linear": True, "residual": True, "hidden": 5, "linear_layers": 1, "jumping_knowledge": "cat"},
    {"precompute": True, "inductive": True, "hidden": 5},
    {"precompute": True, "layers": 1},
    {"model": "gat"},
    {"model": "gat", "hidden": 4, "inductive": True, "wire_dtype": "int8"},
    {"hidden": 5, "wire_dtype": "int4", "gradient_wire_dtype": "int8"},
    {"model": "gat", "layers": 1, "heads": 4, "linear_layers": 0},
    {"linear_layers": 1, "hidden": 3, "wire_dtype": "bf16"},
    {"dtype": "float32", "pipeline": True},
    {"sampling_rate": 0.3, "sampler": "uniform"},
    {"sampling_rate": 0.0, "pipeline": True},
    {"sampling_rate": 0.3, "pipeline": True, "first_epoch": "zeros", "inductive": True},
    {
        "sampling_rate": 0.4,
        "sampler": "uniform",
        "draw_per_layer": True,
        "precompute": True,
        "pipeline": True,
    },
    {"sampling_rate": 0.3, "pipeline": True, "draw_per_layer": True},
    {"sampling_rate": 0.3, "model": "gcn", "inductive": True, "wire_dtype": "fp16"},
    {"sampling_rate": 0.3, "model": "gat", "self_loops": False},
    {"sampling_rate": 0.2, "halo_cache": True},
    {"sampling_rate": 0.2, "halo_cache": True, "pipeline": True, "gradient_wire_dtype": "bf16"},
    {"sampling_rate": 0.2, "sampler": "uniform", "halo_cache": True, "first_epoch": "zeros"},
    {
        "sampling_rate": 0.4,
        "pipeline": True,
        "smooth_features": True,
        "smooth_gradients": True,
        "wire_dtype": "int8",
    },
]


ByLayer = dict[int, tuple[int, int]]
"""(features, gradients) of each layer that sends any."""


def sent_bytes(world: World, folder: Path, tried: list[TrainConfig]) -> list[list[ByLayer]]:
    """What this rank sends, for each configuration and epoch."""
    found = []
    for config in tried:
        trainer = trainer_of(world, folder, config)
        found.append([by_layer(trainer.train_epoch(), config.layers) for _ in range(EPOCHS)])
    return found


def by_layer(measured: Mapping[str, float], layers: int) -> ByLayer:
    """What the measurements of an epoch say, once it is seen that their sums are those of the layers."""
    directions = "feature", "gradient"
    rows = {
        layer: [int(measured.get(f"comm/layer_{layer}_{kind}_bytes", 0)) for kind in directions]
        for layer in range(layers)
    }
    for place, kind in enumerate(directions):
        assert measured[f"comm/sent_{kind}_bytes"] == sum(row[place] for row in rows.values())
    return {layer: (row[0], row[1]) for layer, row in rows.items() if any(row)}


def counted(folder: Path, parts: int, config: TrainConfig) -> list[list[ByLayer]]:
    """What each rank sends in each epoch by the planner: [P][epochs]."""
    sent = RunBytes([open_part(folder, part) for part in range(parts)], config)
    epochs = [sent.epoch(epoch).layers for epoch in range(EPOCHS)]
    return [[of_rank(layers, rank) for layers in epochs] for rank in range(parts)]


def of_rank(layers: Sequence[LayerBytes], rank: int) -> ByLayer:
    rows = {layer.layer: (layer.feature_bytes[rank], layer.gradient_bytes[rank]) for layer in layers}
    return {layer: row for layer, row in rows.items() if any(row)}


def configs(options: list[dict[str, Any]]) -> list[TrainConfig]:
    return [dataclasses.replace(BASE, **each) for each in options]


GRAPHS = [
    ("single", "metis", 2),
    ("idle", "random", 3),
    ("directed", "metis", 4),
    ("apart", "random", 3),
    ("oneway", "random", 3),
]


@pytest.mark.multi
@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph[0])
def test_the_planner_counts_every_byte(
    graph: tuple[str, str, int], parts_folder: PartsFolder, tmp_path: Path
) -> None:
    """Each combination is tried on two of the graphs, one after the other in turn."""
    (kind, method, parts), turn = graph, GRAPHS.index(graph)
    folder = parts_folder(kind, parts, method)
    chosen = [each for place, each in enumerate(COMBINATIONS) if (place + turn) % len(GRAPHS) < 2]
    tried = configs(chosen)
    ranks = run_ranks(sent_bytes, parts, tmp_path, folder, tried, timeout_s=120)
    sent = {}
    for place, config in enumerate(tried):
        sent[place] = [rank[place] for rank in ranks]
        assert sent[place] == counted(folder, parts, config), chosen[place]
    assert len({str(found) for found in sent.values()}) > len(tried) - 4, "the combinations differ too little"


@pytest.mark.multi
@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"prune": False}, {"first_epoch": "exact"}, {"pipeline": False}]
)
def test_another_plan_is_noticed(
    change: Mapping[str, Any], parts_folder: PartsFolder, tmp_path: Path
) -> None:
    options = {"sampling_rate": 0.3, "halo_cache": True, "first_epoch": "zeros", "pipeline": True}
    config = dataclasses.replace(BASE, **options, draw_per_layer=True)
    folder = parts_folder("idle", 3)
    sent = [rank[0] for rank in run_ranks(sent_bytes, 3, tmp_path, folder, [config])]
    assert sent == counted(folder, 3, config)
    assert sent != counted(folder, 3, dataclasses.replace(config, **change))


def test_one_worker_sends_nothing(parts_folder: PartsFolder) -> None:
    assert RunBytes([open_part(parts_folder("single", 1), 0)], BASE).epoch(0).sent_bytes == 0
