"""Graph convolutions over a hop: GCN, GraphSAGE (mean) and GAT.

Each takes (hop, h) with h [C, in] of the hop's source rows and gives [D, out] of its destination rows. The
sum weighs arcs where the graph has edge weights; degrees of the whole graph, sums of weights then, scale
rows. The layer's weight is applied before aggregating and exchanging where that is the narrower side or h is
sparse, after it otherwise.

    C source rows   D destination rows   R halo rows   K heads
"""

from __future__ import annotations

import torch
from torch import Tensor

from bnsgcn.kernels.input_rows import Input
from bnsgcn.nn.dropout import Dropout
from bnsgcn.nn.hop import Hop
from bnsgcn.nn.products import Term, late, product, sum_of_products


class Conv(torch.nn.Module):
    """What the convolutions share: dropout of the layer's input.

    Args:
        dropout: probability for the layer's input (rows at their owner, before the exchange).
        layer: number of the dropout's mask.
    """

    weighs_edges = True
    """Whether the convolution has a use for edge weights."""
    precomputable = False
    """Whether `aggregate` is free of parameters, so that layer 0's can be computed once."""

    def __init__(self, in_features: int, out_features: int, *, dropout: float, layer: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.dropout = Dropout(dropout, layer=layer)

    def aggregate(self, hop: Hop, h: Tensor) -> Tensor:
        """The parameter-free part of the convolution: [C, in] -> [D, in]."""
        raise TypeError(f"{type(self).__name__} has no parameter-free aggregation")

    def extra_repr(self) -> str:
        """Arguments, for printing."""
        return f"{self.in_features}, {self.out_features}"


class GCNConv(Conv):
    """out = D^-1/2 A D^-1/2 h W^T + b (Kipf and Welling, ICLR 2017, eq. 2; as DGL's GraphConv, norm="both").

    A holds edge weights where there are any, and D the sums of them (as PyG's GCNConv). In a directed graph
    the source side is scaled by out-degrees, the destination side by in-degrees.
    """

    precomputable = True

    def __init__(
        self, in_features: int, out_features: int, *, bias: bool = True, dropout: float = 0.0, layer: int = 0
    ) -> None:
        super().__init__(in_features, out_features, dropout=dropout, layer=layer)
        self.weight = torch.nn.Parameter(torch.empty(out_features, in_features))
        self.bias = torch.nn.Parameter(torch.zeros(out_features)) if bias else None
        torch.nn.init.xavier_uniform_(self.weight)

    def aggregate(self, hop: Hop, h: Tensor) -> Tensor:
        """D^-1/2 A D^-1/2 h."""
        source_scale, row_scale = _inverse_root(hop.out_degree), _inverse_root(hop.in_degree)
        h, arriving = hop.post(h, source_scale)
        return hop.sum(h, arriving, source_scale=source_scale, row_scale=row_scale)

    def forward(self, hop: Hop, h: Input) -> Tensor:
        """h [C, in] -> [D, out]."""
        precision = hop.src.precision
        if hop.precomputed is not None:
            term = Term(hop.precomputed, self.weight, self.dropout.mask(hop.dst))
            return hop.dst.keep(sum_of_products([term], self.bias, precision=precision))
        h = self.dropout(hop.src, h)
        if not isinstance(h, Tensor) or self.out_features < self.in_features:
            out = self.aggregate(hop, hop.src.keep(product(h, self.weight, precision=precision)))
            return out if self.bias is None else hop.dst.keep(out + self.bias)
        return self._aggregate_first(hop, h)

    def _aggregate_first(self, hop: Hop, h: Tensor) -> Tensor:
        source_scale, row_scale = _inverse_root(hop.out_degree), _inverse_root(hop.in_degree)
        h, arriving = hop.post(h, source_scale)
        weight = late(self.weight)
        total = hop.sum(h, arriving, source_scale=source_scale, row_scale=row_scale)
        return product(total, weight, self.bias, precision=hop.src.precision)


class SAGEConv(Conv):
    """out = h W_self^T + mean over neighbours (h) W_neigh^T + b (Hamilton et al., NeurIPS 2017).

    As DGL's SAGEConv with "mean"; a row without neighbours has mean 0. With edge weights w the mean is
    sum w h / sum w.
    """

    precomputable = True

    def __init__(
        self, in_features: int, out_features: int, *, bias: bool = True, dropout: float = 0.0, layer: int = 0
    ) -> None:
        super().__init__(in_features, out_features, dropout=dropout, layer=layer)
        self.weight_self = torch.nn.Parameter(torch.empty(out_features, in_features))
        self.weight_neigh = torch.nn.Parameter(torch.empty(out_features, in_features))
        self.bias = torch.nn.Parameter(torch.zeros(out_features)) if bias else None
        gain = torch.nn.init.calculate_gain("relu")
        torch.nn.init.xavier_uniform_(self.weight_self, gain)
        torch.nn.init.xavier_uniform_(self.weight_neigh, gain)

    def aggregate(self, hop: Hop, h: Tensor) -> Tensor:
        """Mean over the neighbours."""
        h, arriving = hop.post(h)
        return hop.sum(h, arriving, row_scale=_inverse(hop.in_degree))

    def forward(self, hop: Hop, h: Input) -> Tensor:
        """h [C, in] -> [D, out]."""
        precision = hop.src.precision
        if hop.precomputed is not None:
            terms = [
                Term(
                    h if not isinstance(h, Tensor) else hop.self_rows(h),
                    self.weight_self,
                    self.dropout.mask(hop.dst),
                ),
                Term(hop.precomputed, self.weight_neigh, self.dropout.mask(hop.dst, copy=1)),
            ]
            return hop.dst.keep(sum_of_products(terms, self.bias, precision=precision))
        h = self.dropout(hop.src, h)
        row_scale = _inverse(hop.in_degree)
        if not isinstance(h, Tensor):
            into = hop.self_rows(hop.src.keep(product(h, self.weight_self, self.bias)))
            z, arriving = hop.post(hop.src.keep(product(h, self.weight_neigh)))
            return hop.sum(z, arriving, row_scale=row_scale, into=into)
        if self.out_features < self.in_features:
            h, own = hop.split(h)
            z, arriving = hop.post(product(h, self.weight_neigh, precision=precision))
            into = product(own, self.weight_self, self.bias, precision=precision)
            return hop.sum(z, arriving, row_scale=row_scale, into=into)
        h, arriving = hop.post(h)
        own, inner = hop.own_and_inner_sum(h, row_scale)
        out = product(own, self.weight_self, self.bias, precision=precision)
        weight = late(self.weight_neigh)
        return product(arriving.add_to(inner, row_scale), weight, precision=precision, into=out)


class GATConv(Conv):
    """Attention over neighbours with K heads (Velickovic et al., ICLR 2018, eqs. 1-4; as DGL's GATConv).

    out_features is the width of one head; the result is [D, K * out_features], or the heads' mean [D,
    out_features] with concat=False. Edge weights change nothing.
    """

    weighs_edges = False

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        heads: int = 1,
        concat: bool = True,
        slope: float = 0.2,
        bias: bool = True,
        dropout: float = 0.0,
        layer: int = 0,
    ) -> None:
        super().__init__(in_features, out_features, dropout=dropout, layer=layer)
        self.heads, self.concat, self.slope = heads, concat, slope
        self.weight = torch.nn.Parameter(torch.empty(heads * out_features, in_features))
        self.score_src = torch.nn.Parameter(torch.empty(1, heads, out_features))
        self.score_dst = torch.nn.Parameter(torch.empty(1, heads, out_features))
        width = heads * out_features if concat else out_features
        self.bias = torch.nn.Parameter(torch.zeros(width)) if bias else None
        gain = torch.nn.init.calculate_gain("relu")
        for parameter in (self.weight, self.score_src, self.score_dst):
            torch.nn.init.xavier_normal_(parameter, gain)

    def forward(self, hop: Hop, h: Input) -> Tensor:
        """h [C, in] -> [D, out]."""
        h = self.dropout(hop.src, h)
        before = isinstance(h, Tensor) and h.shape[1] < self.weight.shape[0]
        if not isinstance(h, Tensor) or not before:
            z, arriving = hop.post(self._project(hop, h))
        else:
            h, arriving = hop.post(h)
            z = self._project(hop, h)
        z, own = hop.split(z)
        score_dst = (own.view(-1, self.heads, self.out_features) * self.score_dst).sum(-1)
        out = hop.edge_softmax_sum(
            self._scored(z),
            score_dst,
            arriving,
            lambda rows: self._scored(self._project(hop, rows) if before else rows),
            slope=self.slope,
        )
        out = out.flatten(1) if self.concat else out.mean(1)
        return hop.dst.keep(out if self.bias is None else out + self.bias)

    def _project(self, hop: Hop, h: Input) -> Tensor:
        return hop.src.keep(product(h, self.weight, precision=hop.src.precision))

    def _scored(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Projected rows as [N, K, d], and their scores as sources [N, K]."""
        z = z.to(self.weight.dtype).reshape(-1, self.heads, self.out_features)
        return z, (z * self.score_src).sum(-1)

    def extra_repr(self) -> str:
        """Arguments, for printing."""
        return f"{self.in_features}, {self.out_features}, heads={self.heads}, concat={self.concat}"


def _inverse(degree: Tensor) -> Tensor:
    return _positive(degree).reciprocal()


def _inverse_root(degree: Tensor) -> Tensor:
    return _positive(degree).rsqrt()


def _positive(degree: Tensor) -> Tensor:
    """1 for a degree of 0, whose row sums to 0 anyway."""
    return torch.where(degree > 0, degree, 1.0)
