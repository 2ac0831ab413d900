"""DGL's and PyG's layers over one graph that has its self loops already, their parameters under our names."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from partition.graph import Graph
from tests.bnsgcn.peer_layers import EXACT_TYPE, TRAINING, MakeAdapter, Read, arcs_of, weights_of

HEADS = TRAINING.heads


def imported(*modules: str) -> Any:
    """The last of some modules; a binary among them may refuse to load with whatever exception it likes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [importlib.import_module(module) for module in modules][-1]
    except Exception as error:
        pytest.skip(f"{modules[0]} cannot be imported here: {error}")


class DglLayer(torch.nn.Module):
    """A layer of DGL."""

    def __init__(
        self, graph: Any, model: str, sizes: tuple[int, int], concat: bool, norm: str, weights: Tensor | None
    ) -> None:
        super().__init__()
        nn, (inputs, outputs) = imported("dgl.nn.pytorch"), sizes
        self.graph, self.model = graph, model
        self.weights = {} if weights is None else {"edge_weight": weights}
        if model == "gcn":
            layer = nn.GraphConv(inputs, outputs, norm=norm, allow_zero_in_degree=True)
        elif model == "sage":
            layer = nn.SAGEConv(inputs, outputs, "mean")
        else:
            per_head = outputs // HEADS if concat else outputs
            layer = nn.GATConv(inputs, per_head, HEADS, bias=concat, allow_zero_in_degree=True)
        self.layer = layer.to(EXACT_TYPE)
        of_mean = model == "gat" and not concat
        self.mean_bias = torch.nn.Parameter(torch.zeros(outputs, dtype=EXACT_TYPE)) if of_mean else None

    def mine(self, read: Read) -> dict[str, Tensor]:
        layer = self.layer
        if self.model == "gcn":
            return {"weight": read(layer.weight).t(), "bias": read(layer.bias)}
        if self.model == "sage":
            own, neigh = read(layer.fc_self.weight), read(layer.fc_neigh.weight)
            return {"weight_self": own, "weight_neigh": neigh, "bias": read(layer.fc_self.bias)}
        bias = layer.bias if self.mean_bias is None else self.mean_bias
        scores = {"score_src": read(layer.attn_l), "score_dst": read(layer.attn_r)}
        return {"weight": read(layer.fc.weight), "bias": read(bias), **scores}

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.layer(self.graph, h, **self.weights)
        if self.model != "gat":
            return out
        return out.flatten(1) if self.mean_bias is None else out.mean(1) + self.mean_bias


class PygLayer(torch.nn.Module):
    """A layer of PyG."""

    def __init__(
        self,
        arcs: Tensor,
        model: str,
        sizes: tuple[int, int],
        concat: bool,
        normalize: bool,
        weights: Tensor | None,
    ) -> None:
        super().__init__()
        nn, (inputs, outputs) = imported("torch_geometric.nn"), sizes
        self.arcs, self.model, self.weights = arcs, model, () if weights is None else (weights,)
        if model == "gcn":
            layer = nn.GCNConv(inputs, outputs, add_self_loops=False, normalize=normalize)
        elif model == "sage":
            layer = nn.SAGEConv(inputs, outputs, aggr="mean")
        else:
            per_head = outputs // HEADS if concat else outputs
            layer = nn.GATConv(inputs, per_head, HEADS, concat=concat, add_self_loops=False)
        self.layer = layer.to(EXACT_TYPE)

    def mine(self, read: Read) -> dict[str, Tensor]:
        layer = self.layer
        if self.model == "gcn":
            return {"weight": read(layer.lin.weight), "bias": read(layer.bias)}
        if self.model == "sage":
            own, neigh = read(layer.lin_r.weight), read(layer.lin_l.weight)
            return {"weight_self": own, "weight_neigh": neigh, "bias": read(layer.lin_l.bias)}
        scores = {"score_src": read(layer.att_src), "score_dst": read(layer.att_dst)}
        return {"weight": read(layer.lin.weight), "bias": read(layer.bias), **scores}

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.layer(h, self.arcs, *self.weights)
        return out


MakeMaker = Callable[..., MakeAdapter]


def dgl_layers(
    graph: Graph, *, self_loops: bool, normalised: bool = True, weighted: bool = False
) -> MakeAdapter:
    """A maker of DGL's layers; those of GCN are scaled at both ends, or else at one."""
    dgl = imported("dgl.nn.pytorch", "dgl")
    arcs = dgl.graph(arcs_of(graph, self_loops=self_loops), num_nodes=graph.num_nodes)
    norm, weights = "both" if normalised else "right", None
    if weighted:
        given = weights_of(graph, self_loops=self_loops)
        weights, norm = dgl.nn.EdgeWeightNorm(norm)(arcs, given), "none"

    def make(model: str, inputs: int, outputs: int, concat: bool) -> DglLayer:
        return DglLayer(arcs, model, (inputs, outputs), concat, norm, weights)

    return make


def pyg_layers(
    graph: Graph, *, self_loops: bool, normalised: bool = True, weighted: bool = False
) -> MakeAdapter:
    """A maker of PyG's layers; those of GCN are scaled at both ends, or else at none."""
    arcs = torch.stack(arcs_of(graph, self_loops=self_loops))
    weights = weights_of(graph, self_loops=self_loops) if weighted else None

    def make(model: str, inputs: int, outputs: int, concat: bool) -> PygLayer:
        return PygLayer(arcs, model, (inputs, outputs), concat, normalised, weights)

    return make
