"""The command line's models as plain functions of arrays: no hops, no workers, no kernels of ours.

What `torch.export` can trace: the sums over a CSR graph are embedding bags, which read the rows of h where
they lie instead of gathering a copy for every arc.

    N nodes   E arcs   F features   K heads   D width of a head
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional

from bnsgcn.nn.conv import Conv, GATConv, GCNConv, SAGEConv
from bnsgcn.nn.models import GNN, Linear
from bnsgcn.nn.norm import NormReluDropout, activated


@dataclasses.dataclass(frozen=True, eq=False)
class PlainGraph:
    """A whole graph in CSR: row i lists the sources of the arcs into i.

    rows: target of each arc, [E].   kept: 1 for arcs, 0 for self loops, [E]: those that are given do not
    count, those of the model are added.   loops: self loops added at every node, 0 or 1.
    """

    indptr: Tensor
    indices: Tensor
    rows: Tensor
    kept: Tensor
    loops: int

    @classmethod
    def of(cls, indptr: Tensor, indices: Tensor, loops: int, like: Tensor) -> PlainGraph:
        """Of int64 arrays [N+1] and [E]."""
        arcs = torch.arange(indices.shape[0], device=indices.device)
        rows = torch.searchsorted(indptr[1:].contiguous(), arcs, right=True)
        return cls(indptr, indices, rows, (indices != rows).to(like.dtype), loops)

    def degree(self, ends: Tensor) -> Tensor:
        """Arcs at each node, [N], by one of their ends."""
        none = self.kept.new_zeros(self.indptr.shape[0] - 1)
        return none.index_add(0, ends, self.kept) + self.loops

    def sum(self, h: Tensor, weight: Tensor) -> Tensor:
        """sum over the arcs e into i of weight[e] * h[source of e], own rows left out: [N, F]."""
        return functional.embedding_bag(
            self.indices, h, self.indptr, mode="sum", include_last_offset=True, per_sample_weights=weight
        )

    def sum_with_loops(self, h: Tensor) -> Tensor:
        """sum over the neighbours, [N, F]."""
        return self.sum(h, self.kept) + self.loops * h


class PlainGNN(torch.nn.Module):
    """(x [N, F], indptr int64 [N+1], indices int64 [E]) -> logits [N, C], exact, without dropout."""

    def __init__(self, model: GNN, *, self_loops: bool) -> None:
        super().__init__()
        self.model, self.loops = model, int(self_loops)

    def forward(self, x: Tensor, indptr: Tensor, indices: Tensor) -> Tensor:
        """Logits of all nodes."""
        graph, model = PlainGraph.of(indptr, indices, self.loops, x), self.model
        h, outputs = x, []
        if model.enter is not None:
            h = functional.linear(h, model.enter.weight, model.enter.bias)
            h = activated(model.enter.after.activation, h)
        for layer, conv in enumerate(model.convs):
            assert isinstance(conv, Conv)
            h = self._between(layer, _conv(conv, graph, h) + self._skipped(layer, h))
            outputs.append(h)
        if model.joins is not None:
            h = torch.cat(outputs, 1) if model.joins == "cat" else torch.stack(outputs).amax(0)
        for layer, linear in enumerate(self.model.linears, start=len(self.model.convs)):
            assert isinstance(linear, Linear)
            h = self._between(layer, functional.linear(h, linear.weight, linear.bias))
        return h

    def _skipped(self, layer: int, h: Tensor) -> Tensor | float:
        """What a residual adds."""
        if not self.model.residual:
            return 0.0
        if str(layer) not in self.model.skips:
            return h
        weight = self.model.skips[str(layer)].weight
        assert isinstance(weight, Tensor)
        return functional.linear(h, weight)

    def _between(self, layer: int, h: Tensor) -> Tensor:
        if layer == len(self.model.between):
            return h
        norm = self.model.between[layer]
        assert isinstance(norm, NormReluDropout)
        if norm.norm == "layer":
            h = functional.layer_norm(h, h.shape[1:], norm.weight, norm.bias, norm.eps)
        elif norm.batch is not None:
            batch = norm.batch
            h = (h - batch.running_mean) * (batch.running_var + batch.eps).rsqrt() * batch.weight + batch.bias
        return activated(norm.activation, h)


def _conv(conv: Conv, graph: PlainGraph, h: Tensor) -> Tensor:
    if isinstance(conv, GCNConv):
        return _gcn(conv, graph, h)
    if isinstance(conv, SAGEConv):
        mean = graph.sum_with_loops(h) / graph.degree(graph.rows).clamp(min=1)[:, None]
        out = functional.linear(h, conv.weight_self, conv.bias)
        return out + functional.linear(mean, conv.weight_neigh)
    assert isinstance(conv, GATConv)
    return _gat(conv, graph, h)


def _gcn(conv: GCNConv, graph: PlainGraph, h: Tensor) -> Tensor:
    source = graph.degree(graph.indices).clamp(min=1).rsqrt()[:, None]
    target = graph.degree(graph.rows).clamp(min=1).rsqrt()[:, None]
    if conv.out_features < conv.in_features:
        out = graph.sum_with_loops(functional.linear(h, conv.weight) * source) * target
        return out if conv.bias is None else out + conv.bias
    return functional.linear(graph.sum_with_loops(h * source) * target, conv.weight, conv.bias)


def _gat(conv: GATConv, graph: PlainGraph, h: Tensor) -> Tensor:
    z = functional.linear(h, conv.weight).unflatten(1, (conv.heads, conv.out_features))
    source, target = (z * conv.score_src).sum(-1), (z * conv.score_dst).sum(-1)
    score = functional.leaky_relu(source[graph.indices] + target[graph.rows], conv.slope)
    score = score.masked_fill(graph.kept[:, None] == 0, -torch.inf)
    own = functional.leaky_relu(source + target, conv.slope)
    shift = own if graph.loops else torch.full_like(own, -torch.inf)
    shift = shift.scatter_reduce(0, graph.rows[:, None].expand(-1, conv.heads), score, "amax")
    shift = shift.masked_fill(shift == -torch.inf, 0)
    weight = (score - shift[graph.rows]).exp()
    loop = (own - shift).exp() * graph.loops
    total = loop.index_add(0, graph.rows, weight)
    out: Tensor
    sums = [graph.sum(z[:, head], weight[:, head].contiguous()) for head in range(conv.heads)]
    out = torch.stack(sums, 1) + loop[..., None] * z
    out = out / torch.where(total == 0, 1.0, total)[..., None]
    out = out.flatten(1) if conv.concat else out.mean(1)
    return out if conv.bias is None else out + conv.bias
