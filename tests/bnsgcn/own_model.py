"""A model of one's own, trained from Python: any torch.nn.Module whose forward takes (hops, x)."""

import sys

import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.nn import Dropout, SAGEConv
from bnsgcn.train.trainer import Trainer
from partition.store import open_part


class SkipNet(torch.nn.Module):
    """Two graph layers, a skip connection between them, and a classifier of one's own."""

    def __init__(self, features: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.first = SAGEConv(features, hidden)
        self.second = SAGEConv(hidden, hidden)
        self.dropout = Dropout(0.5, layer=1)
        self.classify = torch.nn.Linear(hidden, classes)

    def forward(self, hops, x):
        h = torch.relu(self.first(hops[0], x))  # one hop for each convolution
        h = self.dropout(hops[0].dst, h)  # the mask belongs to the node, whichever worker owns it
        skipped = hops[1].self_rows(h)  # the rows that the second layer computes
        return self.classify(torch.relu(self.second(hops[1], h)) + skipped)


def train(world: World, parts_dir: str) -> dict:
    part = open_part(parts_dir, world.rank)  # made by `bnsgcn partition SOURCE --parts K --out DIR`
    torch.manual_seed(0)
    model = SkipNet(part.manifest.num_features, 32, part.manifest.num_classes)
    return Trainer(world, part, model, TrainConfig(epochs=40)).fit()


if __name__ == "__main__":  # python own_model.py DIR, or torchrun --nproc-per-node K own_model.py DIR
    world = World.start(device="cpu")
    summary = train(world, sys.argv[1])
    if world.rank == 0:
        print(f"{summary['metric']} on the test nodes: {summary['test_score']:.3f}")
    world.close()
