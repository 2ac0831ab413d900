"""Our layers equal DGL's and PyG's, and full-graph training there ends at our weights; skipped without them.

PyG on undirected graphs alone: its GCNConv scales both ends by in-degrees, ours (as DGL's) by out- and
in-degrees.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from partition.build import partition_graph
from partition.graph import Graph
from tests.bnsgcn.peer_adapters import HEADS, MakeMaker, dgl_layers, pyg_layers
from tests.bnsgcn.peer_layers import (
    CLASSES,
    FEATURES,
    STEPS,
    TOLERANCE,
    TRAINING,
    layer_difference,
    our_conv,
    our_initial_weights,
    peer_weights,
    random_graph,
    seeded,
    weights_difference,
)
from tests.bnsgcn.runs import run_on

both = pytest.mark.parametrize("layers_over", [dgl_layers, pyg_layers], ids=["dgl", "pyg"])
directed_too = pytest.mark.parametrize(
    ("layers_over", "directed"),
    [(dgl_layers, False), (dgl_layers, True), (pyg_layers, False)],
    ids=["dgl", "dgl directed", "pyg"],
)
every_model = pytest.mark.parametrize("model", ["gcn", "sage", "gat"])


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("self_loops", [True, False])
@directed_too
@pytest.mark.parametrize("outputs", [4, 8])
@every_model
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
@directed_too
@pytest.mark.parametrize("outputs", [4, 8])
def test_weighted_gcn(
    outputs: int, directed: bool, self_loops: bool, layers_over: MakeMaker, tmp_path: Path
) -> None:
    graph = random_graph(2, directed=directed, weighted=True)
    conv = seeded(our_conv("gcn", FEATURES, outputs), 2)
    peer = layers_over(graph, self_loops=self_loops, weighted=True)("gcn", FEATURES, outputs, True)
    assert layer_difference(graph, conv, peer, tmp_path, self_loops=self_loops) < TOLERANCE


@both
def test_gat_leaves_weights_out_as_theirs_does(layers_over: MakeMaker, tmp_path: Path) -> None:
    graph = random_graph(2, weighted=True)
    conv = seeded(our_conv("gat", FEATURES, 4, heads=HEADS), 2)
    peer = layers_over(graph, self_loops=True)("gat", FEATURES, 4, True)
    assert layer_difference(graph, conv, peer, tmp_path, self_loops=True) < TOLERANCE


@both
def test_left_out_weights_are_noticed(layers_over: MakeMaker, tmp_path: Path) -> None:
    graph = random_graph(2, weighted=True)
    conv = seeded(our_conv("gcn", FEATURES, 4), 2)
    peer = layers_over(graph, self_loops=True)("gcn", FEATURES, 4, True)
    assert layer_difference(graph, conv, peer, tmp_path, self_loops=True) > 1e-2


@both
def test_mean_of_heads(layers_over: MakeMaker, tmp_path: Path) -> None:
    graph = random_graph(7)
    conv = seeded(our_conv("gat", FEATURES, CLASSES, heads=HEADS, concat=False), 7)
    peer = layers_over(graph, self_loops=True)("gat", FEATURES, CLASSES, False)
    assert layer_difference(graph, conv, peer, tmp_path, self_loops=True) < TOLERANCE


@both
def test_another_normalisation_is_noticed(layers_over: MakeMaker, tmp_path: Path) -> None:
    graph = random_graph(0)
    conv = seeded(our_conv("gcn", FEATURES, 4), 0)
    peer = layers_over(graph, self_loops=True, normalised=False)("gcn", FEATURES, 4, True)
    assert layer_difference(graph, conv, peer, tmp_path, self_loops=True) > 1e-2


@both
@every_model
def test_missing_self_loops_are_noticed(model: str, layers_over: MakeMaker, tmp_path: Path) -> None:
    graph = random_graph(0)
    conv = seeded(our_conv(model, FEATURES, 4, heads=HEADS), 0)
    peer = layers_over(graph, self_loops=False)(model, FEATURES, 4, True)
    assert layer_difference(graph, conv, peer, tmp_path, self_loops=True) > 1e-2


def trained_apart(
    graph: Graph, model: str, parts: int, peers: MakeMaker, tmp_path: Path, **over: bool
) -> float:
    """How far our weights are from the library's after the same steps."""
    config = dataclasses.replace(TRAINING, model=model, precompute=model != "gat")
    make = peers(graph, **over)
    partition_graph(graph, parts=parts, out=tmp_path / "parts", method="random")
    ours = run_on(tmp_path / "parts", parts, config, tmp_path, STEPS).weights
    initial = our_initial_weights(tmp_path / "parts", config)
    return weights_difference(ours, peer_weights(graph, model, make, initial))


@pytest.mark.multi
@pytest.mark.parametrize("parts", [1, 2])
@directed_too
@every_model
def test_training(model: str, directed: bool, parts: int, layers_over: MakeMaker, tmp_path: Path) -> None:
    graph = random_graph(3, directed=directed)
    assert trained_apart(graph, model, parts, layers_over, tmp_path, self_loops=True) < TOLERANCE


@pytest.mark.multi
@both
def test_weighted_training(layers_over: MakeMaker, tmp_path: Path) -> None:
    graph, over = random_graph(3, weighted=True), {"self_loops": True, "weighted": True}
    assert trained_apart(graph, "gcn", 2, layers_over, tmp_path, **over) < TOLERANCE


@both
@every_model
def test_training_on_another_graph_is_noticed(model: str, layers_over: MakeMaker, tmp_path: Path) -> None:
    assert trained_apart(random_graph(3), model, 1, layers_over, tmp_path, self_loops=False) > 1e-4
