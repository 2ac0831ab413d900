"""Options of BNS-GCN and PipeGCN and what stands for them here, for who types them and for the site."""

from __future__ import annotations

import itertools

OURS = {
    "--dataset": "SOURCE, as in `bnsgcn train dgl:reddit`",
    "--n-partitions": "`--parts`",
    "--partition-method": "`--method`",
    "--partition-obj": "`--objective volume` or `--objective cut`",
    "--graph-name": "the folder given to `bnsgcn partition --out`, and then to `bnsgcn train`",
    "--skip-partition": "the folder given to `bnsgcn partition --out`, and then to `bnsgcn train`",
    "--n-layers": "`--layers`",
    "--n-hidden": "`--hidden`",
    "--n-linear": "`--linear-layers`",
    "--n-epochs": "`--epochs`",
    "--use-pp": "`--precompute`",
    "--log-every": "`--eval-every`",
    "--eval": "always exact and distributed; `--eval-every 0` evaluates at the end only",
    "--no-eval": "always exact and distributed; `--eval-every 0` evaluates at the end only",
    "--fix-seed": "`--seed`, always in force",
    "--enable-pipeline": "`--pipeline --first-epoch zeros`",
    "--feat-corr": "`--smooth-features`",
    "--grad-corr": "`--smooth-gradients`",
    "--corr-momentum": "`--smooth-decay`",
    "--master-addr": "torchrun's options",
    "--port": "torchrun's options",
    "--node-rank": "torchrun's options",
    "--parts-per-node": "torchrun's options",
    "--n-feat": "read from the parts",
    "--n-class": "read from the parts",
    "--n-train": "read from the parts",
}
"""In Markdown; `--model graphsage` is `--model sage`, other names are the same."""


def answer(word: str) -> str:
    """'; here: ...' for an option of theirs, with or without dashes in front; nothing for any other."""
    option = f"--{word.lstrip('-').replace('_', '-')}"
    return f"; here: {OURS[option].replace('`', '')}" if option in OURS else ""


def table() -> str:
    """The table of the site."""
    rows = ["| theirs | ours |", "|---|---|"]
    for ours, theirs in itertools.groupby(OURS, lambda option: OURS[option]):
        rows.append(f"| {', '.join(f'`{option}`' for option in theirs)} | {ours} |")
    return "\n".join(rows)
