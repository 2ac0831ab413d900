"""Options of BNS-GCN, PipeGCN and earlier versions, and what stands for them here."""

from __future__ import annotations

import itertools

from bnsgcn.earlier import EARLIER

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
    "--corr-momentum": "`--smooth-window`, in epochs: 1 / (1 - momentum)",
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
    """'; here: ...' for an option of theirs, '; it is ... now' for one of an earlier version, or nothing.

    `word`: with or without dashes in front.
    """
    option = f"--{word.lstrip('-').replace('_', '-')}"
    if (earlier := EARLIER.get(option.lstrip("-").replace("-", "_"))) is not None:
        return f"; {earlier}"
    return f"; here: {OURS[option].replace('`', '')}" if option in OURS else ""


def table() -> str:
    """The table of the site."""
    rows = ["| theirs | ours |", "|---|---|"]
    for ours, theirs in itertools.groupby(OURS, lambda option: OURS[option]):
        rows.append(f"| {', '.join(f'`{option}`' for option in theirs)} | {ours} |")
    return "\n".join(rows)
