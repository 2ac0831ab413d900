"""A hop set is whole when it is made: its lanes are there or never will be; all of them read one clock."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from partition.build import partition_graph
from partition.errors import UserError
from partition.graph import Graph
from tests.bnsgcn.runs import trainer_of
from tests.bnsgcn.small_graphs import PartsFolder
from tests.multiprocess import run_ranks

CONFIG = TrainConfig(layers=3, hidden=6, sampling_rate=0.5)


def travelling(world: World, folder: Path, precompute: bool) -> list[tuple[list[bool], list[bool]]]:
    """Of the sets for training and for evaluation: which hops have a lane, which an aggregate."""
    trainer = trainer_of(world, folder, dataclasses.replace(CONFIG, precompute=precompute))
    sets = trainer.training, trainer.evaluation
    return [
        ([hop.lane is not None for hop in hops.hops], [hop.precomputed is not None for hop in hops.hops])
        for hops in sets
    ]


@pytest.mark.multi
@pytest.mark.parametrize("precompute", [False, True])
def test_what_travels_is_what_has_peers_and_is_not_precomputed(
    precompute: bool, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    made = [precompute, False, False]
    alone = travelling(World.single(), parts_folder("single", 1), precompute)
    assert alone == [([False] * 3, made)] * 2
    for rank in run_ranks(travelling, 2, tmp_path, parts_folder("single", 2), precompute):
        assert rank == [([not precompute, True, True], made)] * 2


def clocks(world: World, folder: Path) -> int:
    """How many clocks the sets, lanes and rows of a worker read, when an epoch has begun."""
    trainer = trainer_of(world, folder, CONFIG)
    trainer.training.begin(7)
    sets = trainer.training, trainer.evaluation
    found = [clock for hops in sets for hop in hops.hops for clock in (hop.src.clock, hop.dst.clock)]
    found += [lane._clock for hops in sets for lane in hops.lanes] + [hops.clock for hops in sets]
    assert {clock.epoch for clock in found} == {7}
    return len({id(clock) for clock in found})


@pytest.mark.multi
def test_a_worker_has_one_clock(parts_folder: PartsFolder, tmp_path: Path) -> None:
    assert run_ranks(clocks, 2, tmp_path, parts_folder("single", 2)) == [1, 1]


@pytest.mark.parametrize(
    ("kind", "model", "weighted"),
    [
        ("weighted", "gcn", True),
        ("weighted", "sage", True),
        ("weighted", "gat", False),
        ("single", "gcn", False),
    ],
)
def test_blocks_have_weights_where_something_weighs_by_them(
    kind: str, model: Any, weighted: bool, parts_folder: PartsFolder
) -> None:
    trainer = trainer_of(World.single(), parts_folder(kind, 1), TrainConfig(model=model))
    assert "transposed" in vars(trainer.training.hops[0].inner), "made before the first epoch"
    for block in (trainer.training.hops[0].inner, trainer.evaluation.hops[0].inner):
        assert all((csr.weights is not None) == weighted for csr in (block.csr, block.transposed))
    said = "attention has no use for the graph's edge weights: they are left out"
    assert (said in trainer._notes) == (model == "gat")


def test_a_batch_norm_needs_two_rows(tmp_path: Path) -> None:
    graph = Graph.from_arrays(
        np.array([[0, 1, 2], [1, 2, 3]]),
        features=np.eye(4, dtype=np.float32),
        labels=[0, 1, 0, 1],
        split=np.array([1, 2, 3, 3]),
    )
    partition_graph(graph, parts=1, out=tmp_path / "parts", method="random")
    config = TrainConfig(layers=2, hidden=4, norm="batch", device="cpu")
    with pytest.raises(
        UserError, match="at least 2 rows, training sees 1; use --norm layer or none, or leave"
    ):
        trainer_of(World.single(), tmp_path / "parts", dataclasses.replace(config, inductive=True))
    trainer_of(World.single(), tmp_path / "parts", config).train_epoch()
