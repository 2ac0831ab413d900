"""Our layers equal DGL's, and full-graph training in DGL ends at our weights; skipped without DGL."""

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
def dgl() -> Any:
    """The library; its binary may refuse to load with whatever exception it likes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("dgl.nn.pytorch")
            return importlib.import_module("dgl")
    except Exception as error:
        pytest.skip(f"DGL cannot be imported here: {error}")


class DglLayer(torch.nn.Module):
    """A DGL layer over one graph, its parameters under our names."""

    def __init__(
        self,
        dgl: Any,
        graph: Any,
        model: str,
        sizes: tuple[int, int],
        concat: bool,
        norm: str,
        weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.graph, self.model, self.concat = graph, model, concat
        self.weights = {} if weights is None else {"edge_weight": weights}
        inputs, outputs = sizes
        if model == "gcn":
            layer = dgl.nn.GraphConv(inputs, outputs, norm=norm, allow_zero_in_degree=True)
        elif model == "sage":
            layer = dgl.nn.SAGEConv(inputs, outputs, "mean")
        else:
            per_head = outputs // HEADS if concat else outputs
            layer = dgl.nn.GATConv(inputs, per_head, HEADS, bias=concat, allow_zero_in_degree=True)
        self.layer = layer.to(EXACT_TYPE)
        self.mean_bias = torch.nn.Parameter(torch.zeros(outputs, dtype=EXACT_TYPE)) if not concat else None
        if model != "gat":
            self.mean_bias = None

    def mine(self, read: Read) -> dict[str, Tensor]:
        layer = self.layer
        if self.model == "gcn":
            return {"weight": read(layer.weight).t(), "bias": read(layer.bias)}
        if self.model == "sage":
            own, neigh = layer.fc_self, layer.fc_neigh
            return {
                "weight_self": read(own.weight),
                "weight_neigh": read(neigh.weight),
                "bias": read(own.bias),
            }
        bias = layer.bias if self.mean_bias is None else self.mean_bias
        scores = {"score_src": read(layer.attn_l), "score_dst": read(layer.attn_r)}
        return {"weight": read(layer.fc.weight), "bias": read(bias), **scores}

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.layer(self.graph, h, **self.weights)
        if self.model != "gat":
            return out
        return out.flatten(1) if self.mean_bias is None else out.mean(1) + self.mean_bias


MakeMaker = Callable[..., MakeAdapter]


@pytest.fixture
def layers_over(dgl: Any) -> MakeMaker:
    """layers_over(graph, self_loops=..., norm="both", weighted=False) -> a maker of DGL layers."""

    def over(graph: Graph, *, self_loops: bool, norm: str = "both", weighted: bool = False) -> MakeAdapter:
        arcs = dgl.graph(arcs_of(graph, self_loops=self_loops), num_nodes=graph.num_nodes)
        weights = None
        if weighted:
            given = weights_of(graph, self_loops=self_loops)
            weights, norm = dgl.nn.EdgeWeightNorm(norm)(arcs, given), "none"

        def make(model: str, inputs: int, outputs: int, concat: bool) -> DglLayer:
            return DglLayer(dgl, arcs, model, (inputs, outputs), concat, norm, weights)

        return make

    return over


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("self_loops", [True, False])
@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("outputs", [4, 8])
@pytest.mark.parametrize("model", ["gcn", "sage", "gat"])
def test_layer(
    model: str,
    outputs: int,
    directed: bool,
    self_loops: bool,
    seed: int,
    layers_over: MakeMaker,
    tmp_path: Path,
) -> None:
    """Both sides of the width: 4 outputs are aggregated after the product, 8 before it."""
    graph = random_graph(seed, directed=directed)
    conv = seeded(our_conv(model, FEATURES, outputs, heads=HEADS), seed)
    peer = layers_over(graph, self_loops=self_loops)(model, FEATURES, outputs, True)
    assert layer_difference(graph, conv, peer, tmp_path, self_loops=self_loops) < TOLERANCE


@pytest.mark.parametrize("self_loops", [True, False])
@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("outputs", [4, 8])
def test_weighted_gcn(
    outputs: int, directed: bool, self_loops: bool, layers_over: MakeMaker, tmp_path: Path
) -> None:
    graph = random_graph(2, directed=directed, weighted=True)
    conv = seeded(our_conv("gcn", FEATURES, outputs), 2)
    peer = layers_over(graph, self_loops=self_loops, weighted=True)("gcn", FEATURES, outputs, True)
    assert layer_difference(graph, conv, peer, tmp_path, self_loops=self_loops) < TOLERANCE


def test_left_out_weights_are_noticed(layers_over: MakeMaker, tmp_path: Path) -> None:
    graph = random_graph(2, weighted=True)
    conv = seeded(our_conv("gcn", FEATURES, 4), 2)
    peer = layers_over(graph, self_loops=True)("gcn", FEATURES, 4, True)
    assert layer_difference(graph, conv, peer, tmp_path, self_loops=True) > 1e-2


def test_mean_of_heads(layers_over: MakeMaker, tmp_path: Path) -> None:
    graph = random_graph(7)
    conv = seeded(our_conv("gat", FEATURES, CLASSES, heads=HEADS, concat=False), 7)
    peer = layers_over(graph, self_loops=True)("gat", FEATURES, CLASSES, False)
    assert layer_difference(graph, conv, peer, tmp_path, self_loops=True) < TOLERANCE


def test_another_normalisation_is_noticed(layers_over: MakeMaker, tmp_path: Path) -> None:
    graph = random_graph(0)
    conv = seeded(our_conv("gcn", FEATURES, 4), 0)
    peer = layers_over(graph, self_loops=True, norm="right")("gcn", FEATURES, 4, True)
    assert layer_difference(graph, conv, peer, tmp_path, self_loops=True) > 1e-2


@pytest.mark.parametrize("model", ["gcn", "sage", "gat"])
def test_missing_self_loops_are_noticed(model: str, layers_over: MakeMaker, tmp_path: Path) -> None:
    graph = random_graph(0)
    conv = seeded(our_conv(model, FEATURES, 4, heads=HEADS), 0)
    peer = layers_over(graph, self_loops=False)(model, FEATURES, 4, True)
    assert layer_difference(graph, conv, peer, tmp_path, self_loops=True) > 1e-2


@pytest.mark.multi
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("model", ["gcn", "sage", "gat"])
def test_training(model: str, directed: bool, parts: int, layers_over: MakeMaker, tmp_path: Path) -> None:
    graph = random_graph(3, directed=directed)
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
