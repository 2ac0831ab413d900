"""Our layers equal PyG's, and full-graph training in PyG ends at our weights; skipped without PyG.

Undirected graphs alone: PyG's GCNConv scales both ends by in-degrees, ours (as DGL's) by out- and in-degrees.
"""

from __future__ import annotations

import dataclasses
import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from partition.build import partition_graph
from partition.graph import Graph
from tests.bnsgcn.peer_layers import (
    CLASSES,
    EXACT_TYPE,
    FEATURES,
    STEPS,
    TOLERANCE,
    TRAINING,
    MakeAdapter,
    Read,
    arcs_of,
    layer_difference,
    our_conv,
    our_initial_weights,
    peer_weights,
    random_graph,
    seeded,
    weights_difference,
    weights_of,
)
from tests.bnsgcn.runs import run_on

HEADS = TRAINING.heads


@pytest.fixture(scope="module")
def pyg() -> Any:
    """torch_geometric.nn; its optional binaries may refuse to load with whatever exception they like."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("torch_geometric.nn")
    except Exception as error:
        pytest.skip(f"PyG cannot be imported here: {error}")


class PygLayer(torch.nn.Module):
    """A PyG layer over one graph that has its self loops already, its parameters under our names."""

    def __init__(
        self,
        pyg: Any,
        arcs: Tensor,
        model: str,
        sizes: tuple[int, int],
        concat: bool,
        normalize: bool,
        weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.arcs, self.model = arcs, model
        self.weights = () if weights is None else (weights,)
        inputs, outputs = sizes
        if model == "gcn":
            layer = pyg.GCNConv(inputs, outputs, add_self_loops=False, normalize=normalize)
        elif model == "sage":
            layer = pyg.SAGEConv(inputs, outputs, aggr="mean")
        else:
            per_head = outputs // HEADS if concat else outputs
            layer = pyg.GATConv(inputs, per_head, HEADS, concat=concat, add_self_loops=False)
        self.layer = layer.to(EXACT_TYPE)

    def mine(self, read: Read) -> dict[str, Tensor]:
        layer = self.layer
        if self.model == "gcn":
            return {"weight": read(layer.lin.weight), "bias": read(layer.bias)}
        if self.model == "sage":
            own, neigh = layer.lin_r, layer.lin_l
            return {
                "weight_self": read(own.weight),
                "weight_neigh": read(neigh.weight),
                "bias": read(neigh.bias),
            }
        scores = {"score_src": read(layer.att_src), "score_dst": read(layer.att_dst)}
        return {"weight": read(layer.lin.weight), "bias": read(layer.bias), **scores}

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.layer(h, self.arcs, *self.weights)
        return out


MakeMaker = Callable[..., MakeAdapter]


@pytest.fixture
def layers_over(pyg: Any) -> MakeMaker:
    """layers_over(graph, self_loops=..., normalize=True, weighted=False) -> a maker of PyG layers."""

    def over(
        graph: Graph, *, self_loops: bool, normalize: bool = True, weighted: bool = False
    ) -> MakeAdapter:
        arcs = torch.stack(arcs_of(graph, self_loops=self_loops))
        weights = weights_of(graph, self_loops=self_loops) if weighted else None

        def make(model: str, inputs: int, outputs: int, concat: bool) -> PygLayer:
            return PygLayer(pyg, arcs, model, (inputs, outputs), concat, normalize, weights)

        return make

    return over


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("self_loops", [True, False])
@pytest.mark.parametrize("outputs", [4, 8])
@pytest.mark.parametrize("model", ["gcn", "sage", "gat"])
def test_layer(
    model: str, outputs: int, self_loops: bool, seed: int, layers_over: MakeMaker, tmp_path: Path
) -> None:
    """Both sides of the width: 4 outputs are aggregated after the product, 8 before it."""
    graph = random_graph(seed)
    conv = seeded(our_conv(model, FEATURES, outputs, heads=HEADS), seed)
    peer = layers_over(graph, self_loops=self_loops)(model, FEATURES, outputs, True)
    assert layer_difference(graph, conv, peer, tmp_path, self_loops=self_loops) < TOLERANCE


@pytest.mark.parametrize("self_loops", [True, False])
@pytest.mark.parametrize("outputs", [4, 8])
def test_weighted_gcn(outputs: int, self_loops: bool, layers_over: MakeMaker, tmp_path: Path) -> None:
    graph = random_graph(2, weighted=True)
    conv = seeded(our_conv("gcn", FEATURES, outputs), 2)
    peer = layers_over(graph, self_loops=self_loops, weighted=True)("gcn", FEATURES, outputs, True)
    assert layer_difference(graph, conv, peer, tmp_path, self_loops=self_loops) < TOLERANCE


def test_gat_leaves_weights_out_as_theirs_does(layers_over: MakeMaker, tmp_path: Path) -> None:
    graph = random_graph(2, weighted=True)
    conv = seeded(our_conv("gat", FEATURES, 4, heads=HEADS), 2)
    peer = layers_over(graph, self_loops=True)("gat", FEATURES, 4, True)
    assert layer_difference(graph, conv, peer, tmp_path, self_loops=True) < TOLERANCE


def test_left_out_weights_are_noticed(layers_over: MakeMaker, tmp_path: Path) -> None:
    graph = random_graph(2, weighted=True)
    conv = seeded(our_conv("gcn", FEATURES, 4), 2)
    peer = layers_over(graph, self_loops=True)("gcn", FEATURES, 4, True)
    assert layer_difference(graph, conv, peer, tmp_path, self_loops=True) > 1e-2


@pytest.mark.multi
def test_weighted_training(layers_over: MakeMaker, tmp_path: Path) -> None:
    graph = random_graph(3, weighted=True)
    config = dataclasses.replace(TRAINING, model="gcn", precompute=True)
    partition_graph(graph, parts=2, out=tmp_path / "parts", method="random")
    ours = run_on(tmp_path / "parts", 2, config, tmp_path, STEPS).weights
    initial = our_initial_weights(tmp_path / "parts", config)
    make = layers_over(graph, self_loops=True, weighted=True)
    assert weights_difference(ours, peer_weights(graph, "gcn", make, initial)) < TOLERANCE


def test_mean_of_heads(layers_over: MakeMaker, tmp_path: Path) -> None:
    graph = random_graph(7)
    conv = seeded(our_conv("gat", FEATURES, CLASSES, heads=HEADS, concat=False), 7)
    peer = layers_over(graph, self_loops=True)("gat", FEATURES, CLASSES, False)
    assert layer_difference(graph, conv, peer, tmp_path, self_loops=True) < TOLERANCE


def test_a_missing_normalisation_is_noticed(layers_over: MakeMaker, tmp_path: Path) -> None:
    graph = random_graph(0)
    conv = seeded(our_conv("gcn", FEATURES, 4), 0)
    peer = layers_over(graph, self_loops=True, normalize=False)("gcn", FEATURES, 4, True)
    assert layer_difference(graph, conv, peer, tmp_path, self_loops=True) > 1e-2


@pytest.mark.parametrize("model", ["gcn", "sage", "gat"])
def test_missing_self_loops_are_noticed(model: str, layers_over: MakeMaker, tmp_path: Path) -> None:
    graph = random_graph(0)
    conv = seeded(our_conv(model, FEATURES, 4, heads=HEADS), 0)
    peer = layers_over(graph, self_loops=False)(model, FEATURES, 4, True)
    assert layer_difference(graph, conv, peer, tmp_path, self_loops=True) > 1e-2


@pytest.mark.multi
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("model", ["gcn", "sage", "gat"])
def test_training(model: str, parts: int, layers_over: MakeMaker, tmp_path: Path) -> None:
    graph = random_graph(3)
    config = dataclasses.replace(TRAINING, model=model, precompute=model != "gat")
    partition_graph(graph, parts=parts, out=tmp_path / "parts", method="random")
    ours = run_on(tmp_path / "parts", parts, config, tmp_path, STEPS).weights
    initial = our_initial_weights(tmp_path / "parts", config)
    make = layers_over(graph, self_loops=True)
    assert weights_difference(ours, peer_weights(graph, model, make, initial)) < TOLERANCE


@pytest.mark.parametrize("model", ["gcn", "sage", "gat"])
def test_training_on_another_graph_is_noticed(model: str, layers_over: MakeMaker, tmp_path: Path) -> None:
    graph = random_graph(3)
    config = dataclasses.replace(TRAINING, model=model)
    partition_graph(graph, parts=1, out=tmp_path / "parts")
    ours = run_on(tmp_path / "parts", 1, config, tmp_path, STEPS).weights
    initial = our_initial_weights(tmp_path / "parts", config)
    make = layers_over(graph, self_loops=False)
    assert weights_difference(ours, peer_weights(graph, model, make, initial)) > 1e-4
