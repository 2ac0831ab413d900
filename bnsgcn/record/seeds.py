"""Runs that differ in their seed alone: which seeds, where each of them is, and what they say together."""

from __future__ import annotations

import math
import re
import reprlib
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from partition.errors import UserError

MOST = 10_000
"""More seeds are a slip of the keyboard."""
SEEDS_NAME = "seeds.json"
OF_EACH = ("val_score", "test_score", "best_epoch", "epochs", "epoch_s_median", "peak_rss_bytes")
"""What is kept of each run's summary."""


def seeds_of(text: str) -> list[int]:
    """The seeds that `0-9` or `0,3,7-9` names.

    Raises:
        UserError: it is no such list, or names a seed twice.
    """
    shown = f"--seeds is {reprlib.repr(text)}"
    seeds: list[int] = []
    for piece in text.replace(" ", "").split(","):
        found = re.fullmatch(r"(\d{1,18})(?:-(\d{1,18}))?", piece, re.ASCII)
        if found is None:
            raise UserError(f"{shown}, must be seeds such as 0-9 or 0,3,7")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise UserError(f"{shown}: {piece} ends before it begins; write {last}-{first}")
        if len(seeds) + last - first >= MOST:
            raise UserError(f"{shown}: more than {MOST} seeds; take fewer")
        seeds += range(first, last + 1)
    twice = [seed for seed in seeds if seeds.count(seed) > 1] if len(set(seeds)) < len(seeds) else []
    if twice:
        raise UserError(f"{shown}: seed {twice[0]} is there twice; name it once")
    return seeds


def folder_of_seed(run_dir: Path, seed: int) -> Path:
    """Where the run of one seed is."""
    return run_dir / f"seed_{seed}"


def over_seeds(summaries: Mapping[int, Mapping[str, Any]], name: str) -> dict[str, Any]:
    """What the summaries of all seeds say together about the graph `name`; the std is that of a sample."""
    first = next(iter(summaries.values()))
    runs = [{"seed": seed} | {key: each[key] for key in OF_EACH} for seed, each in summaries.items()]
    scores = {key: [number(each[key]) for each in summaries.values()] for key in ("val_score", "test_score")}
    spread = {f"{key}_mean": statistics.fmean(values) for key, values in scores.items()}
    spread |= {f"{key}_std": _sample_std(values) for key, values in scores.items()}
    return {
        "name": name,
        "metric": first["metric"],
        "seeds": list(summaries),
        **spread,
        "parameters": first["parameters"],
        "hardware": first.get("hardware", "unknown"),
        "parts": first["parts"],
        "runs": runs,
        "config": {key: value for key, value in first["config"].items() if key not in ("seed", "resume")},
    }


def number(value: Any) -> float:
    """A score as a number; JSON has null for NaN."""
    return math.nan if value is None else float(value)


def _sample_std(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else math.nan


def entry(found: Mapping[str, Any]) -> list[str]:
    """The lines that an entry of an OGB leaderboard asks for."""
    metric = str(found["metric"])
    rows = {
        f"Test {metric}": _mean_and_std(found, "test_score"),
        f"Validation {metric}": _mean_and_std(found, "val_score"),
        "#Params": f"{found['parameters']:,}",
        "Hardware": str(found["hardware"]),
    }
    wide = max(map(len, rows))
    return [f"  {key:<{wide}}  {value}" for key, value in rows.items()]


def _mean_and_std(found: Mapping[str, Any], score: str) -> str:
    mean, std = number(found[f"{score}_mean"]), number(found[f"{score}_std"])
    count = len(found["seeds"])
    return f"{mean:.4f} ± {std:.4f} ({count} seeds)" if count > 1 else f"{mean:.4f} (1 seed)"
