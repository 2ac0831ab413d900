"""A data set of the Open Graph Benchmark with several seeds, and what its leaderboard asks for.

python examples/ogb_seeds.py [SEEDS [FOLDER [EPOCHS]]]      SEEDS such as 0-9; FOLDER: where OGB keeps files

What was stopped goes on when it is started again.
"""

import sys

import bnsgcn


def main(seeds: str = "0-9", folder: str = "dataset", epochs: str = "200") -> None:
    """Train on ogbn-arxiv."""
    found = bnsgcn.train_seeds(
        f"ogb:ogbn-arxiv,root={folder}",
        seeds,
        parts=2,
        model="sage",
        layers=3,
        hidden=256,
        dropout=0.5,
        lr=0.01,
        epochs=int(epochs),
        run_dir=f"{folder}/runs/arxiv",
        resume=True,
    )
    print(found.entry)
    best = max(found.runs.values(), key=lambda run: run.val_score)
    print(f"the best of them is {best}")


if __name__ == "__main__":
    main(*sys.argv[1:])
