"""What an epoch measured: on a rank, over all ranks, over the run. Printing and evaluation are not in it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import torch

from bnsgcn.dist import World
from bnsgcn.record.rss import peak_rss_bytes
from bnsgcn.record.sent_bytes import SentBytes

WARM_UP_EPOCHS = 5
"""Epochs left out of medians."""


def of_rank(epoch: int, loss: float, seconds: dict[str, float], sent: SentBytes) -> dict[str, float]:
    """One rank's epoch; `seconds` has the spans epoch, halo_wait, reduce and draw."""
    total, wait, reduce = (seconds.get(name, 0.0) for name in ("epoch", "halo_wait", "reduce"))
    return {
        "epoch": epoch,
        "loss": loss,
        "time/epoch_s": total,
        "time/compute_s": total - wait - reduce,
        "time/halo_wait_s": wait,
        "time/reduce_s": reduce,
        "time/draw_s": seconds.get("draw", 0.0),
        "comm/sent_bytes": sent.features + sent.gradients,
        "comm/sent_feature_bytes": sent.features,
        "comm/sent_gradient_bytes": sent.gradients,
        "memory/peak_rss_bytes": peak_rss_bytes(),
    }


def of_all_ranks(world: World, own: dict[str, float]) -> dict[str, float]:
    """Bytes of all ranks, times of the slowest one, memory of the largest one. Collective."""
    names = list(own)
    values = torch.tensor([float(own[name]) for name in names], dtype=torch.float64, device=world.device)
    ranks = world.all_gather(values).cpu()
    slowest = int(ranks[:, names.index("time/epoch_s")].argmax())
    merged: dict[str, float] = {}
    for column, name in enumerate(names):
        if name.startswith("comm/"):
            merged[name] = int(ranks[:, column].sum())
        elif name.startswith("time/"):
            merged[name] = float(ranks[slowest, column])
        else:
            merged[name] = float(ranks[:, column].max())
    return merged | {
        "epoch": int(own["epoch"]),
        "memory/peak_rss_bytes": int(merged["memory/peak_rss_bytes"]),
    }


def of_run(epochs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over a run's epochs (the first 5 left out where there are more) and its largest memory.

    Epochs of a resumed run come from a file: what is no number there does not count.
    """
    measured = epochs[WARM_UP_EPOCHS:] or epochs

    def over(name: str, reduce: Callable[[list[float]], float] = statistics.median) -> float:
        found = [value for line in measured if isinstance(value := line.get(name), int | float)]
        return reduce(found) if found else math.nan

    return {
        "epoch_s_median": over("time/epoch_s"),
        "compute_s_median": over("time/compute_s"),
        "halo_wait_s_median": over("time/halo_wait_s"),
        "reduce_s_median": over("time/reduce_s"),
        "sent_bytes_per_epoch": over("comm/sent_bytes"),
        "peak_rss_bytes": over("memory/peak_rss_bytes", max),
    }
