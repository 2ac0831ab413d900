"""Models of one's own that are known from papers: copy what you need, or train with one of them as it is.

    import bnsgcn, models
    run = bnsgcn.train("pyg:Planetoid/Cora", model=models.GCNII, layers=16, hidden=64, dropout=0.5)

Each is a factory (features, classes, config). A forward takes one hop for each convolution, in their order.
The rows get fewer from hop to hop, since a layer computes what the next one reads: `hop.self_rows` takes the
destination rows out of rows that belong to the hop's sources.

    C source rows of a hop   D its destination rows   H hidden width
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bnsgcn import TrainConfig
from bnsgcn.nn import Dropout, GCNConv, Hop, SAGEConv


class Residual(torch.nn.Module):
    """h = h + relu(batch norm(SAGE(h))), between two linear layers.

    A plain torch.nn.BatchNorm1d sees the rows of all workers, as if there were one.
    """

    def __init__(self, features: int, classes: int, config: TrainConfig) -> None:
        super().__init__()
        width, layers = config.hidden, range(config.layers)
        self.enter, self.leave = torch.nn.Linear(features, width), torch.nn.Linear(width, classes)
        self.convs = torch.nn.ModuleList(SAGEConv(width, width, bias=False) for _ in layers)
        self.norms = torch.nn.ModuleList(torch.nn.BatchNorm1d(width) for _ in layers)
        self.dropouts = torch.nn.ModuleList(Dropout(config.dropout, layer=layer) for layer in layers)

    def forward(self, hops: Sequence[Hop], x: Tensor) -> Tensor:
        """x [C, F] of the first hop -> logits [D, classes] of the last."""
        h = self.enter(x)
        for hop, conv, norm, dropout in zip(hops, self.convs, self.norms, self.dropouts, strict=True):
            h = hop.self_rows(h) + torch.relu(norm(conv(hop, dropout(hop.src, h))))
        return self.leave(h)


class JumpingKnowledge(torch.nn.Module):
    """The outputs of all layers side by side before the classifier (Xu et al., ICML 2018)."""

    def __init__(self, features: int, classes: int, config: TrainConfig) -> None:
        super().__init__()
        widths = [features] + [config.hidden] * config.layers
        self.convs = torch.nn.ModuleList(
            GCNConv(widths[layer], config.hidden, dropout=config.dropout, layer=layer)
            for layer in range(config.layers)
        )
        self.classify = torch.nn.Linear(config.layers * config.hidden, classes)

    def forward(self, hops: Sequence[Hop], x: Tensor) -> Tensor:
        """x [C, F] of the first hop -> logits [D, classes] of the last."""
        h, seen = x, []
        for hop, conv in zip(hops, self.convs, strict=True):
            h = torch.relu(conv(hop, h))
            seen = [*(hop.self_rows(each) for each in seen), h]
        return self.classify(torch.cat(seen, dim=1))


class GCN2Conv(GCNConv):
    """((1 - beta) I + beta W) ((1 - alpha) D^-1/2 A D^-1/2 h + alpha h_0), beta = log(theta / layer + 1).

    Chen et al., "Simple and deep graph convolutional networks", ICML 2020, equation 5; as PyG's GCN2Conv.
    """

    precomputable = False  # it reads two inputs

    def __init__(self, width: int, *, layer: int, alpha: float = 0.1, theta: float = 0.5) -> None:
        super().__init__(width, width, bias=False)
        self.alpha, self.beta = alpha, math.log(theta / layer + 1)

    def forward(self, hop: Hop, h: Tensor, first: Tensor) -> Tensor:
        """h [C, H], first [D, H] -> [D, H]."""
        mixed = (1 - self.alpha) * self.aggregate(hop, h) + self.alpha * first
        return (1 - self.beta) * mixed + self.beta * torch.nn.functional.linear(mixed, self.weight)


class GCNII(torch.nn.Module):
    """Many layers of GCN2Conv between two linear ones."""

    def __init__(self, features: int, classes: int, config: TrainConfig) -> None:
        super().__init__()
        width, layers = config.hidden, range(config.layers)
        self.enter, self.leave = torch.nn.Linear(features, width), torch.nn.Linear(width, classes)
        self.convs = torch.nn.ModuleList(GCN2Conv(width, layer=layer + 1) for layer in layers)
        self.dropouts = torch.nn.ModuleList(Dropout(config.dropout, layer=layer) for layer in layers)

    def forward(self, hops: Sequence[Hop], x: Tensor) -> Tensor:
        """x [C, F] of the first hop -> logits [D, classes] of the last."""
        h = first = torch.relu(self.enter(x))
        for hop, conv, dropout in zip(hops, self.convs, self.dropouts, strict=True):
            first = hop.self_rows(first)
            h = torch.relu(conv(hop, dropout(hop.src, h), first))
        return self.leave(h)


class TwoInOne(torch.nn.Module):
    """Two convolutions in each layer, whose sum goes on. Each of them has a hop of its own."""

    def __init__(self, features: int, classes: int, config: TrainConfig) -> None:
        super().__init__()
        ends = [features] + [config.hidden] * (config.layers - 1) + [classes]
        widths = list(itertools.pairwise(ends))
        self.gcn = torch.nn.ModuleList(GCNConv(*width) for width in widths)
        self.sage = torch.nn.ModuleList(SAGEConv(*width) for width in widths)
        self.dropouts = torch.nn.ModuleList(Dropout(config.dropout, layer=i) for i in range(config.layers))

    def forward(self, hops: Sequence[Hop], x: Tensor) -> Tensor:
        """x [C, F] of the first hop -> logits [D, classes] of the last."""
        h = x
        for layer, (gcn, sage) in enumerate(zip(self.gcn, self.sage, strict=True)):
            one, two = hops[2 * layer : 2 * layer + 2]
            h = self.dropouts[layer](one.src, h)
            h = two.self_rows(gcn(one, h)) + sage(two, one.self_rows(h))
            h = h if layer + 1 == len(self.gcn) else torch.relu(h)
        return h
