"""A graph of PyTorch Geometric: train on two workers, then use the weights in PyG's own layers.

python examples/pyg_graph.py [FOLDER]      FOLDER: where PyG keeps its files
"""

import sys

import numpy as np
import torch
from torch_geometric.datasets import Amazon
from torch_geometric.nn import SAGEConv
from torch_geometric.utils import add_self_loops

import bnsgcn


class Theirs(torch.nn.Module):
    """The trained model in PyG's words; `bnsgcn export` says which layers to write."""

    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.convs = torch.nn.ModuleList([SAGEConv(features, hidden), SAGEConv(hidden, classes)])
        self.norms = torch.nn.ModuleList([torch.nn.LayerNorm(hidden)])

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        """Logits of all nodes."""
        return self.convs[1](self.norms[0](self.convs[0](x, edge_index)).relu(), edge_index)


def main(folder: str = "dataset") -> None:
    """Train on Amazon Computers."""
    data = Amazon(folder, "Computers")[0]
    graph = bnsgcn.Graph.from_pyg(data).standardised()  # 60/20/20, since PyG gives no split
    run = bnsgcn.train(graph, parts=2, model="sage", layers=2, hidden=64, lr=0.01, epochs=60)
    print(f"test accuracy {run.test_score:.4f}, loss {run.history['loss'][-1]:.4f}")

    theirs = Theirs(graph.num_features, run.config.hidden, graph.num_classes).eval()
    theirs.load_state_dict(torch.load(run.export("pyg"), weights_only=True))
    same = graph.to_pyg()
    with torch.no_grad():
        logits = theirs(same.x, add_self_loops(same.edge_index)[0])
    difference = np.abs(logits.numpy() - run.predict()).max()
    print(f"PyG's logits differ from ours by at most {difference:.1e}")


if __name__ == "__main__":
    main(*sys.argv[1:])
