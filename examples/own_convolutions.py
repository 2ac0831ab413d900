"""Convolutions of one's own out of what a hop offers: the sum over neighbours and a softmax over their arcs.

    import bnsgcn, own_convolutions
    run = bnsgcn.train("pyg:Planetoid/Cora", model=own_convolutions.OwnNet)

`post` sends boundary rows on their way; what `hop.sum` and `hop.edge_softmax_sum` compute of the worker's own
rows hides the time that they take. Give the h that `post` returns to these and to products alone, and take
what else needs h from before.

    C source rows   D destination rows   R rows that arrive   K heads   W width of a head
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from bnsgcn import TrainConfig
from bnsgcn.nn import Conv, Hop


class GINConv(Conv):
    """mlp((1 + eps) h + sum over the neighbours of h) (Xu et al., ICLR 2019, equation 4.1)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, dropout=0.0, layer=0)
        self.eps = torch.nn.Parameter(torch.zeros(()))
        self.mlp = torch.nn.Sequential(
            torch.nn.Linear(inputs, outputs), torch.nn.ReLU(), torch.nn.Linear(outputs, outputs)
        )

    def forward(self, hop: Hop, h: Tensor) -> Tensor:
        """h [C, in] -> [D, out]."""
        own = hop.self_rows(h)
        h, arriving = hop.post(h)
        return self.mlp((1 + self.eps) * own + hop.sum(h, arriving))


class AttentionConv(Conv):
    """Attention whose scores have weights of their own, instead of GAT's, which are made from the values.

    out_i = W h_i + sum over the neighbours j of softmax_j(leaky_relu(query . h_i + key . h_j)) V h_j
    """

    weighs_edges = False

    def __init__(self, inputs: int, outputs: int, *, heads: int = 2) -> None:
        super().__init__(inputs, outputs, dropout=0.0, layer=0)
        self.shape = (heads, outputs // heads)
        self.value = torch.nn.Linear(inputs, outputs, bias=False)
        self.key = torch.nn.Linear(inputs, heads, bias=False)
        self.query = torch.nn.Linear(inputs, heads, bias=False)
        self.own = torch.nn.Linear(inputs, outputs)

    def scored(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Values [N, K, W] and scores [N, K] of rows [N, in]; of rows that arrive too."""
        return self.value(h).view(-1, *self.shape), self.key(h)

    def forward(self, hop: Hop, h: Tensor) -> Tensor:
        """h [C, in] -> [D, out]."""
        own = hop.self_rows(h)
        h, arriving = hop.post(h)
        seen = hop.edge_softmax_sum(self.scored(h), self.query(own), arriving, self.scored)
        return self.own(own) + seen.flatten(1)


class OwnNet(torch.nn.Module):
    """One of each."""

    def __init__(self, features: int, classes: int, config: TrainConfig) -> None:
        super().__init__()
        self.first, self.second = (
            GINConv(features, config.hidden),
            AttentionConv(config.hidden, config.hidden),
        )
        self.classify = torch.nn.Linear(config.hidden, classes)

    def forward(self, hops: Sequence[Hop], x: Tensor) -> Tensor:
        """x [C, F] of the first hop -> logits [D, classes] of the last."""
        h = torch.relu(self.first(hops[0], x))
        return self.classify(torch.relu(self.second(hops[1], h)))
