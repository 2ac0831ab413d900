"""The example models obey law 1, and the convolutions among them are what they say they are."""

from __future__ import annotations

import copy
import dataclasses
import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import models
import own_convolutions
import pytest
import torch
from torch import Tensor

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.exchange.lane import Lane
from bnsgcn.nn import Conv
from partition.graph import Graph
from partition.store import Manifest
from tests.bnsgcn.peer_layers import (
    FEATURES,
    Read,
    arcs_of,
    layer_difference,
    random_graph,
    seeded,
    weights_of,
)
from tests.bnsgcn.runs import Recorded, largest_difference, one_run, record
from tests.bnsgcn.small_graphs import PartsFolder
from tests.multiprocess import run_ranks

TOLERANCE = 1e-10
STEPS = 4
# Adam divides a gradient of 1e-17, zero but for rounding, by about 1e-8: lr scales that noise.
BASE = TrainConfig(layers=3, hidden=6, dropout=0.4, lr=0.004, dtype="float64")
MODELS = (
    models.Residual,
    models.JumpingKnowledge,
    models.GCNII,
    models.TwoInOne,
    own_convolutions.OwnNet,
)


CASES: dict[str, tuple[Any, str, dict[str, Any]]] = {
    **{model.__name__: (model, "single", {}) for model in MODELS},
    "on weighted arcs": (models.JumpingKnowledge, "weighted", {"precompute": True, "inductive": True}),
    "on a directed graph": (models.GCNII, "directed", {"layers": 5}),
    "precomputed": (models.TwoInOne, "single", {"precompute": True, "dropout": 0.0, "prune": False}),
    "without self loops": (own_convolutions.OwnNet, "directed", {"self_loops": False}),
}
Folders = dict[str, Path]


def built(model: Any, manifest: Manifest, config: TrainConfig) -> torch.nn.Module:
    """A model with the same weights on every rank."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        made: torch.nn.Module = model(manifest.num_features, manifest.num_classes, config)
    return made


def recorded(world: World, folders: Folders) -> dict[str, Recorded]:
    """All cases in one process group."""
    found = {}
    for name, (model, kind, options) in CASES.items():
        config, build = dataclasses.replace(BASE, **options), functools.partial(built, model)
        found[name] = record(world, folders[kind], config, STEPS, build=build)
    return found


def recorded_without_gradients(world: World, folders: Folders) -> dict[str, Recorded]:
    """Those that arrive from other ranks are dropped."""
    with mock.patch.object(Lane, "add_rows"):
        return recorded(world, folders)


@pytest.fixture(scope="module")
def folders_of(parts_folder: PartsFolder) -> Callable[[int], Folders]:
    return lambda parts: {kind: parts_folder(kind, parts) for _, kind, _ in CASES.values()}


@pytest.fixture(scope="module")
def alone(folders_of: Callable[[int], Folders]) -> dict[str, Recorded]:
    return recorded(World.single(), folders_of(1))


@pytest.mark.multi
@pytest.mark.parametrize("parts", [2, 3, 4])
def test_any_number_of_parts_trains_as_one_process(
    parts: int, alone: dict[str, Recorded], folders_of: Callable[[int], Folders], tmp_path: Path
) -> None:
    """Loss, every gradient, weights after some steps and exact logits, of every model."""
    ranks = run_ranks(recorded, parts, tmp_path, folders_of(parts), timeout_s=250)
    for name, one in alone.items():
        assert len(set(one.losses)) == STEPS
        run = one_run([rank[name] for rank in ranks])
        assert largest_difference(run, one) < TOLERANCE, name


@pytest.mark.multi
def test_the_comparison_notices(
    alone: dict[str, Recorded], folders_of: Callable[[int], Folders], tmp_path: Path
) -> None:
    ranks = run_ranks(recorded_without_gradients, 2, tmp_path, folders_of(2), timeout_s=250)
    for name, one in alone.items():
        assert largest_difference(one_run([rank[name] for rank in ranks]), one) > 1e-4, name


def adjacency(graph: Graph, *, self_loops: bool) -> Tensor:
    """[N, N]: what the arcs weigh that go into the row's node from the column's."""
    source, target = arcs_of(graph, self_loops=self_loops)
    weights = torch.ones(source.shape[0], dtype=torch.float64)
    if graph.weights is not None:
        weights = weights_of(graph, self_loops=self_loops)
    dense = torch.zeros(graph.num_nodes, graph.num_nodes, dtype=torch.float64)
    return dense.index_put_((target, source), weights, accumulate=True)


class Dense(torch.nn.Module):
    """A layer as a function of the whole adjacency, with a copy of the convolution's weights."""

    def __init__(self, conv: Conv, dense: Tensor) -> None:
        super().__init__()
        self.conv, self.dense = copy.deepcopy(conv), dense

    def mine(self, read: Read) -> dict[str, Tensor]:
        return {name: read(parameter) for name, parameter in self.conv.named_parameters()}


class DenseGin(Dense):
    def forward(self, h: Tensor) -> Tensor:
        return self.conv.mlp((1 + self.conv.eps) * h + self.dense @ h)


class DenseAttention(Dense):
    def forward(self, h: Tensor) -> Tensor:
        conv = self.conv
        scores = torch.nn.functional.leaky_relu(conv.query(h)[:, None] + conv.key(h)[None], 0.2)
        masked = scores.masked_fill(self.dense[..., None] == 0, -torch.inf)
        weights = torch.nan_to_num(masked.softmax(1))  # rows without neighbours
        values = conv.value(h).unflatten(1, conv.shape)
        return conv.own(h) + torch.einsum("nmk,mkw->nkw", weights, values).flatten(1)


@pytest.mark.parametrize("self_loops", [True, False])
@pytest.mark.parametrize(
    ("conv", "peer", "weighted"),
    [
        (own_convolutions.GINConv, DenseGin, False),
        (own_convolutions.GINConv, DenseGin, True),
        (own_convolutions.AttentionConv, DenseAttention, False),
    ],
)
def test_a_convolution_of_ones_own_is_what_a_dense_matrix_makes(
    conv: Any, peer: Any, weighted: bool, self_loops: bool, tmp_path: Path
) -> None:
    """Outputs and all gradients; with other self loops the comparison fails."""
    graph = random_graph(1, weighted=weighted)
    made = seeded(conv(FEATURES, 4), 1)
    dense = peer(made, adjacency(graph, self_loops=self_loops))
    assert layer_difference(graph, made, dense, tmp_path, self_loops=self_loops) < TOLERANCE
    other = peer(made, adjacency(graph, self_loops=not self_loops))
    other_path = tmp_path / "other"
    other_path.mkdir()
    assert layer_difference(graph, made, other, other_path, self_loops=self_loops) > 1e-2


class Gcn2Alone(models.GCN2Conv):
    """The initial residual is the input itself."""

    def forward(self, hop: Any, h: Tensor) -> Tensor:
        return super().forward(hop, h, hop.self_rows(h))


def test_gcn2_is_pygs(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pyg = pytest.importorskip("torch_geometric.nn", exc_type=ImportError)
    graph = random_graph(4)
    arcs = torch.stack(arcs_of(graph, self_loops=True))

    class Peer(torch.nn.Module):
        def __init__(self, theta: float) -> None:
            super().__init__()
            self.layer = pyg.GCN2Conv(FEATURES, 0.3, theta, layer=2, add_self_loops=False).double()

        def mine(self, read: Read) -> dict[str, Tensor]:
            return {"weight": read(self.layer.weight1).t()}

        def forward(self, h: Tensor) -> Tensor:
            return self.layer(h, h, arcs)

    conv = seeded(Gcn2Alone(FEATURES, layer=2, alpha=0.3, theta=0.7), 4)
    assert layer_difference(graph, conv, Peer(0.7), tmp_path, self_loops=True) < TOLERANCE
    (tmp_path / "other").mkdir()
    assert layer_difference(graph, conv, Peer(0.6), tmp_path / "other", self_loops=True) > 1e-2
