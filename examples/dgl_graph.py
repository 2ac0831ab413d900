"""A graph of DGL: train on two workers that exchange a tenth of their boundary rows, and label its nodes.

python examples/dgl_graph.py [FOLDER]      FOLDER: where DGL keeps its files
"""

import sys

import dgl
import torch

import bnsgcn


def main(folder: str = "dataset") -> None:
    """Train on Reddit."""
    reddit = dgl.data.RedditDataset(raw_dir=folder)[0]
    run = bnsgcn.train(
        bnsgcn.Graph.from_dgl(reddit),
        parts=2,
        model="sage",
        layers=2,
        hidden=128,
        epochs=60,
        sampling_rate=0.1,
    )
    print(f"test accuracy {run.test_score:.4f}, {run.summary['sent_bytes_per_epoch'] / 1e6:.1f} MB an epoch")

    reddit.ndata["label_found"] = torch.from_numpy(run.predict().argmax(1))
    right = reddit.ndata["label_found"] == reddit.ndata["label"]
    print(f"of all nodes {right.double().mean():.4f} are right")


if __name__ == "__main__":
    main(*sys.argv[1:])
