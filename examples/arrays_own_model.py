"""Arrays, and a model of one's own: any torch.nn.Module whose forward takes (hops, x).

python examples/arrays_own_model.py [NODES]
"""

import sys

import numpy as np
import torch

import bnsgcn
from bnsgcn.nn import Dropout, SAGEConv


class SkipNet(torch.nn.Module):
    """Two graph layers, a skip connection, and a classifier; the class is its own factory."""

    def __init__(self, features: int, classes: int, config: bnsgcn.TrainConfig) -> None:
        super().__init__()
        self.first = SAGEConv(features, config.hidden)
        self.second = SAGEConv(config.hidden, config.hidden)
        self.dropout = Dropout(config.dropout, layer=1)
        self.classify = torch.nn.Linear(config.hidden, classes)

    def forward(self, hops, x):
        """x of hops[0]'s source rows -> logits of the last hop's destination rows."""
        h = torch.relu(self.first(hops[0], x))  # one hop for each convolution
        h = self.dropout(hops[0].dst, h)  # the mask belongs to the node, whichever worker owns it
        skipped = hops[1].self_rows(h)  # the rows that the second layer computes
        return self.classify(torch.relu(self.second(hops[1], h)) + skipped)


def communities(nodes: int) -> bnsgcn.Graph:
    """Five communities; a node's features say little about its own and its neighbours' say more."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 5, nodes)
    ends = rng.integers(0, nodes, (2, 40 * nodes))
    kept = ends[:, (label[ends[0]] == label[ends[1]]) | (rng.random(ends.shape[1]) < 0.1)]
    features = np.eye(5)[label] @ rng.standard_normal((5, 16)) + 3 * rng.standard_normal((nodes, 16))
    return bnsgcn.Graph.from_arrays(kept, features=features.astype(np.float32), labels=label)


def main(nodes: str = "5000") -> None:
    """Train, then look at some nodes alone."""
    graph = communities(int(nodes))
    run = bnsgcn.train(graph, parts=2, model=SkipNet, hidden=32, dropout=0.2, lr=0.01, epochs=40)
    print(f"test accuracy {run.test_score:.4f} of a {type(run.model).__name__}")
    hidden = run.embeddings("first", nodes=[0, 1, 2])  # of any module by its name
    print(f"nodes 0, 1, 2 after the first layer: {hidden.shape}")


if __name__ == "__main__":  # workers that look for SkipNet here go no further
    main(*sys.argv[1:])
