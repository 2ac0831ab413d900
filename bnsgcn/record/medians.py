"""What the lines of metrics.jsonl say of a run as a whole. Nothing here imports torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

WARM_UP_EPOCHS = 5
"""Epochs left out of medians."""


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
