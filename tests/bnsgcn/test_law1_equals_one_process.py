"""Law 1: rate 1 and exact, any number of parts trains as one process does, and that as a dense matrix does.

Loss, logits, every gradient and the weights after 10 Adam steps, float64, 1e-10.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from torch import Tensor

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.exchange.lane import Lane
from bnsgcn.train.gradients import FlatGradients
from partition.store import Part
from tests.bnsgcn.runs import Recorded, dense_run, largest_difference, one_run, record, run_on, trainer_of
from tests.bnsgcn.small_graphs import PartsFolder, small_graph
from tests.multiprocess import run_ranks

TOLERANCE = 1e-10
# Adam divides a gradient of 1e-17, zero but for rounding, by about 1e-8: lr scales that noise.
BASE = TrainConfig(layers=3, hidden=6, heads=2, dropout=0.4, lr=0.004, dtype="float64")


Case = tuple[str, str, TrainConfig]
"""Kind of graph, method of cutting, options."""


def case(kind: str, method: str = "random", **options: Any) -> Case:
    return kind, method, dataclasses.replace(BASE, **options)


CASES = [
    case("single", model="gcn"),
    case("single", "metis", model="gcn", inductive=True, precompute=True, norm="batch"),
    case("single", model="gcn", hidden=12, norm="none", dropout=0.0, weight_decay=0.01),
    case("multi", model="gcn", linear_layers=1, prune=False),
    case("directed", model="gcn", precompute=True),
    case("apart", model="gcn", norm="batch", inductive=True),
    case("idle", model="gcn", self_loops=False),
    case("single", model="sage"),
    case("single", "metis", model="sage", precompute=True, prune=False),
    case("single", model="sage", inductive=True, prune=False, norm="none"),
    case("multi", model="sage", inductive=True, precompute=True, linear_layers=1),
    case("multi", "metis", model="sage", norm="batch", dropout=0.0),
    case("directed", model="sage", inductive=True, hidden=12),
    case("apart", model="sage", precompute=True, self_loops=False),
    case("idle", model="sage", linear_layers=2, norm="batch"),
    case("weighted", model="gcn"),
    case("weighted", "metis", model="gcn", inductive=True, precompute=True, hidden=12, dropout=0.0),
    case("oneway", model="gcn", self_loops=False),
    case("weighted", model="sage", self_loops=False, dropout=0.0),
    case("weighted", "metis", model="sage", precompute=True, inductive=True),
    case("oneway", model="sage", hidden=12, prune=False),
    case("weighted", model="gat", layers=2),
    case("single", model="gat"),
    case("single", "metis", model="gat", inductive=True, norm="none", heads=1),
    case("multi", model="gat", hidden=12, heads=3, linear_layers=1),
    case("directed", model="gat", self_loops=False, prune=False),
    case("apart", model="gat", norm="batch", dropout=0.0),
    case("idle", model="gat", layers=2),
]
STEPS: list[dict[str, Any]] = [
    {"optimizer": "adamw", "weight_decay": 0.5, "lr_schedule": "cosine", "warmup": 3, "epochs": 10},
    {"clip_norm": 0.1, "lr_schedule": "plateau", "lr_patience": 1, "weight_decay": 0.01},
    {"ema": 0.8, "label_smoothing": 0.2, "class_weights": "balanced"},
]
"""How steps are taken, several options at a time; each of them is missed below."""
SHAPES: list[dict[str, Any]] = [
    {"residual": True, "norm": "batch", "activation": "elu", "linear_layers": 1}
    | {"jumping_knowledge": "cat", "input_linear": True, "input_dropout": 0.2},
    {"residual": True, "linear_layers": 1, "jumping_knowledge": "max", "activation": "gelu"},
    {"residual": True, "input_dropout": 0.0, "activation": "leaky-relu", "hidden": 12},
]
"""Of the model, several options at a time; each of them is missed below."""
CASES += [
    case("single", model="sage", norm="batch", **STEPS[0], **STEPS[2]),
    case("single", model="gcn", **SHAPES[0]),
    case("idle", "metis", model="sage", layers=4, **SHAPES[1], precompute=True),
    case("multi", model="gat", layers=4, **SHAPES[1], input_linear=True, norm="none"),
    case("directed", model="gcn", **SHAPES[2], precompute=True, inductive=True),
    case("single", "metis", model="gcn", **STEPS[1], **STEPS[2]),
]


MADE_FOR_PARTS = ("apart", "idle")
"""These kinds are another graph for each number of parts."""


@functools.cache
def dense(kind: str, parts: int, config: TrainConfig, folder: Path) -> Recorded:
    return dense_run(small_graph(kind, parts), folder, config)


def record_cases(world: World, cases: list[tuple[Path, TrainConfig]]) -> list[Recorded]:
    """All of them in one process group."""
    return [record(world, folder, config) for folder, config in cases]


@pytest.mark.multi
@pytest.mark.parametrize("parts", [1, 2, 3, 4])
@pytest.mark.parametrize("cases", [CASES[:15], CASES[15:]], ids=["first half", "second half"])
def test_any_number_of_parts_trains_as_a_dense_matrix_does(
    parts: int, cases: list[Case], parts_folder: PartsFolder, tmp_path: Path
) -> None:
    """So does one part, and so any number trains as one process does."""
    chosen = [(parts_folder(kind, parts, method), config) for kind, method, config in cases]
    ranks = (
        [record_cases(World.single(), chosen)]
        if parts == 1
        else run_ranks(record_cases, parts, tmp_path, chosen, timeout_s=200)
    )
    for place, (kind, method, config) in enumerate(cases):
        run = one_run([rank[place] for rank in ranks])
        made_for = parts if kind in MADE_FOR_PARTS else 1
        reference = dense(kind, made_for, config, parts_folder(kind, made_for, method))
        assert largest_difference(run, reference) < TOLERANCE, (kind, method, config)


@pytest.mark.parametrize(
    ("steps", "option"),
    [(steps, option) for steps in STEPS for option in steps if option != "epochs"]
    + [(shape, "activation") for shape in SHAPES]
    + [(SHAPES[0], "residual"), (SHAPES[0], "input_dropout"), (SHAPES[1], "jumping_knowledge")],
)
def test_the_comparison_notices_an_option_that_is_left_out(
    steps: dict[str, Any], option: str, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config, plain = dataclasses.replace(BASE, **steps), getattr(TrainConfig, option)
    folder = parts_folder("single", 1)
    run = run_on(folder, 1, config, tmp_path)
    without = dense_run(small_graph("single"), folder, dataclasses.replace(config, **{option: plain}))
    assert largest_difference(run, without) > 1e-4


def record_clipped_apart(world: World, folder: Path, config: TrainConfig) -> Recorded:
    """Breach: every rank clips its own share, before the sum."""
    reduce, clip = FlatGradients.reduce, FlatGradients.clip

    def clipped_first(gradients: FlatGradients, world: World, loss: Tensor) -> Tensor:
        clip(gradients, config.clip_norm)
        return reduce(gradients, world, loss)

    with (
        mock.patch.object(FlatGradients, "reduce", clipped_first),
        mock.patch.object(FlatGradients, "clip"),
    ):
        return record(world, folder, config)


@pytest.mark.multi
def test_the_comparison_notices_gradients_clipped_by_each_rank(
    parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config, folder = dataclasses.replace(BASE, **STEPS[1]), parts_folder("single", 2)
    run = one_run(run_ranks(record_clipped_apart, 2, tmp_path, folder, config))
    assert largest_difference(run, dense_run(small_graph("single"), folder, config)) > 1e-4


def source_rows(world: World, folder: Path, config: TrainConfig) -> list[int]:
    return [len(hop.src) for hop in trainer_of(world, folder, config).training.hops]


def test_pruning_leaves_rows_out(parts_folder: PartsFolder) -> None:
    """Without this, the runs above with pruning on would prove nothing about it."""
    folder = parts_folder("idle", 1)
    rows = source_rows(World.single(), folder, BASE)
    assert rows[0] > rows[1] > rows[2]
    assert rows[2] < small_graph("idle").num_nodes
    assert set(source_rows(World.single(), folder, dataclasses.replace(BASE, prune=False))) == {48}


def local_degrees(part: Part) -> Part:
    """Breach: degrees inside the part instead of in the whole graph."""
    degree = np.diff(part.inner_indptr).astype(np.int32)
    return dataclasses.replace(part, in_degree=degree, out_degree=degree)


def no_weights(part: Part) -> Part:
    """Breach: arcs of the halo that all weigh 1."""
    assert part.halo_weights is not None
    return dataclasses.replace(part, halo_weights=np.ones_like(part.halo_weights))


def local_ids(part: Part) -> Part:
    """Breach: masks keyed by the place in the part instead of by the original node."""
    return dataclasses.replace(part, node_ids=np.arange(part.num_inner))


def record_breached(world: World, folder: Path, config: TrainConfig, breach: str) -> Recorded:
    if breach == "dropped gradients":
        with mock.patch.object(Lane, "add_rows"):
            return record(world, folder, config)
    breaches = {"local degrees": local_degrees, "local ids": local_ids, "no weights": no_weights}
    spoil = breaches[breach]
    return record(world, folder, config, breach=spoil)


@pytest.mark.multi
@pytest.mark.parametrize("breach", ["local degrees", "local ids", "dropped gradients"])
@pytest.mark.parametrize("model", ["gcn", "sage"])
def test_the_comparison_notices(breach: str, model: str, parts_folder: PartsFolder, tmp_path: Path) -> None:
    config = dataclasses.replace(BASE, model=model)
    folder = parts_folder("single", 2)
    run = one_run(run_ranks(record_breached, 2, tmp_path, folder, config, breach))
    assert largest_difference(run, dense_run(small_graph("single"), folder, config)) > 1e-4


@pytest.mark.multi
@pytest.mark.parametrize("model", ["gcn", "sage"])
def test_the_comparison_notices_weights_that_are_left_out(
    model: str, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config = dataclasses.replace(BASE, model=model)
    folder = parts_folder("weighted", 2)
    run = one_run(run_ranks(record_breached, 2, tmp_path, folder, config, "no weights"))
    assert largest_difference(run, dense_run(small_graph("weighted"), folder, config)) > 1e-3


def record_with_own_seed(world: World, folder: Path, config: TrainConfig) -> Recorded:
    with mock.patch("bnsgcn.train.trainer.agree"):  # it would say so at once
        return record(world, folder, dataclasses.replace(config, seed=world.rank), 1)


@pytest.mark.multi
def test_ranks_that_drift_apart_are_noticed(parts_folder: PartsFolder, tmp_path: Path) -> None:
    ranks = run_ranks(record_with_own_seed, 2, tmp_path, parts_folder("single", 2), BASE)
    with pytest.raises(AssertionError, match="drifted apart"):
        one_run(ranks)


@pytest.mark.multi
def test_weights_of_all_ranks_are_bitwise_equal_after_every_step_in_float32(
    parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config = dataclasses.replace(BASE, dtype="float32", norm="batch")
    ranks = run_ranks(record, 4, tmp_path, parts_folder("single", 4), config, 20)
    assert len(set(ranks[0].digests)) == 20
    assert all(rank.digests == ranks[0].digests for rank in ranks)
