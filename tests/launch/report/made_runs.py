"""Run folders made up: as training writes them, without training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bnsgcn.config import TrainConfig
from bnsgcn.record.medians import of_run
from bnsgcn.record.run_folder import RunFolder

Change = Callable[[int, dict[str, Any]], None]


class MadeParts:
    """What a run remembers of parts that are not there."""

    def __init__(self, name: str = "ring", parts: int = 2, digest: str = "a" * 64) -> None:
        self.name, self.parts, self.digest = name, parts, digest
        self.graph_digest = "c" * 64


def made_run(
    path: Path,
    *,
    of: Any = None,
    parts_dir: Path = Path("/nowhere/parts"),
    done: int | None = None,
    ended: bool = True,
    slow_rank: int = -1,
    change: Change | None = None,
    **options: Any,
) -> Path:
    """A run of `done` epochs (None = all) on the parts `of`.

    Rank `slow_rank` computes twice as long; `change` alters the line of an epoch.
    """
    parts, config = of or MadeParts(), TrainConfig(**{"epochs": 40, **options})
    folder = RunFolder(path)
    folder.create(config, parts, parts_dir)
    folder.release()
    done = config.epochs if done is None else done
    rng = np.random.default_rng(config.seed)
    lines = [line_of(epoch, config, parts.parts, rng) for epoch in range(done)]
    for rank in range(parts.parts):
        own = [of_rank(line, rank, parts.parts, slow_rank) for line in lines]
        (path / f"rank_{rank}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in own))
    for epoch, line in enumerate(lines):
        if slow_rank >= 0:
            line |= {
                "time/epoch_s": 0.08,
                "time/compute_s": 0.072,
                "time/halo_wait_s": 0.004,
                "time/reduce_s": 0.004,
            }
        if change is not None:
            change(epoch, line)
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if ended and lines:
        folder.write_summary(summary_of(lines, config, parts.parts))
    return path


def line_of(epoch: int, config: TrainConfig, parts: int, rng: np.random.Generator) -> dict[str, Any]:
    """What all ranks measured in an epoch: a loss that falls, a score that rises to a plateau."""
    progress = 1 - math.exp(-12 * epoch / max(1, config.epochs))
    rate = config.sampling_rate
    forward = round(1e6 * rate) if parts > 1 else 0
    wait = 0.002 if config.pipeline else 0.006 * rate
    noise = float(rng.normal())
    line: dict[str, Any] = {
        "epoch": epoch,
        "loss": 2.5 * (1 - progress) + 0.3 + 0.02 * noise,
        "time/epoch_s": 0.043 + wait + 0.0005 * noise + (0.3 if epoch == 0 else 0),
        "time/compute_s": 0.04 + 0.0005 * noise + (0.3 if epoch == 0 else 0),
        "time/halo_wait_s": wait,
        "time/reduce_s": 0.003,
        "time/draw_s": 0.001,
        "comm/sent_bytes": 4 * forward,
        "comm/sent_feature_bytes": 3 * forward,
        "comm/sent_gradient_bytes": forward,
        "comm/layer_0_feature_bytes": 2 * forward,
        "comm/layer_0_gradient_bytes": 0,
        "comm/layer_1_feature_bytes": forward,
        "comm/layer_1_gradient_bytes": forward,
        "memory/peak_rss_bytes": 300_000_000,
    }
    if config.eval_every and (epoch + 1) % config.eval_every == 0:
        score = 0.5 + 0.4 * progress - 0.02 * (1 - rate) + 0.0005 * noise
        line |= {"val_score": score, "test_score": score - 0.01}
    if config.telemetry_every and epoch % config.telemetry_every == 0:
        line |= {"sampling/relative_error": 0.8 * (1 - rate), "stale/relative_gap": 0.1 * config.pipeline}
        line |= {"stale/mean_slot_age_epochs": float(config.pipeline)}
    return line


def of_rank(line: dict[str, Any], rank: int, parts: int, slow: int) -> dict[str, Any]:
    """One rank's share of an epoch."""
    own = {name: value for name, value in line.items() if not name.endswith("_score")}
    own |= {name: value // parts for name, value in line.items() if name.startswith("comm/")}
    if slow >= 0:
        compute = 0.072 if rank == slow else 0.036
        own |= {"time/epoch_s": 0.08, "time/compute_s": compute, "time/halo_wait_s": 0.076 - compute}
        own["time/reduce_s"] = 0.004
    return own | {"memory/peak_rss_bytes": 300_000_000 - 10_000_000 * rank}


def summary_of(lines: list[dict[str, Any]], config: TrainConfig, parts: int) -> dict[str, Any]:
    """What a run writes at its end."""
    scored = [line for line in lines if "val_score" in line]
    best = max(scored, key=lambda line: line["val_score"]) if scored else {"epoch": len(lines) - 1}
    return {
        "metric": config.metric or "accuracy",
        "val_score": best.get("val_score", math.nan),
        "test_score": best.get("test_score", math.nan),
        "best_epoch": best["epoch"],
        "epochs": len(lines),
        "final_loss": lines[-1]["loss"],
        "parameters": 19_300,
        **of_run(lines),
        "parts": parts,
        "config": config.to_json(),
        "least_rss_bytes": 200_000_000,
        "hardware": "1 x Some CPU, 2 cores (16 GB)",
    }
