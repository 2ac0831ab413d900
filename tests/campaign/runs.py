"""A small graph in two parts, and runs on it whose end is known."""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from tests.campaign.driver import started

EPOCHS = 40
BASE = (
    "--layers", "2", "--hidden", "8", "--dropout", "0.3", "--epochs", str(EPOCHS), "--eval-every", "4",
    "--threads", "1", "--timeout-s", "20",
)  # fmt: skip
SETTINGS: dict[str, tuple[str, ...]] = {
    "exact": ("--checkpoint-every", "1"),
    "pipeline": ("--checkpoint-every", "3", "--pipeline", "--smooth-features", "--smooth-gradients"),
    "composed": (
        *("--checkpoint-every", "1", "--pipeline", "--sampling-rate", "0.5", "--sampler", "importance"),
        *("--wire-dtype", "int8", "--smooth-features"),
    ),
    "cache": ("--checkpoint-every", "2", "--sampling-rate", "0.3", "--halo-cache", "--norm", "batch"),
}
COMPARED = ("epoch", "loss", "val_score", "test_score", "comm/sent_bytes")


@functools.cache
def parts_dir() -> Path:
    """The parts, made once a process and removed at its end."""
    from partition.build import partition_graph

    folder = Path(_scratch().name) / "parts"
    partition_graph("synthetic:nodes=400,degree=8,features=8,classes=4", parts=2, out=folder)
    return folder


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="bnsgcn-campaign-")


def train(run_dir: Path, setting: str, *more: str) -> tuple[str, ...]:
    """Arguments of Python for a run of a setting."""
    options = (*BASE, *SETTINGS[setting], *more)
    return ("-m", "launch.cli", "train", str(parts_dir()), "--run-dir", str(run_dir), *options)


@functools.cache
def reference(setting: str) -> dict[str, Any]:
    """The end of an undisturbed run."""
    run_dir = Path(_scratch().name) / f"reference-{setting}"
    with started(*train(run_dir, setting)) as process:
        ended = process.finish(120)
    assert ended is not None, "the undisturbed run did not end"
    assert ended[0] == 0, ended
    return end_of(run_dir)


def end_of(run_dir: Path) -> dict[str, Any]:
    """What a finished run must have in common with another one: weights, lines, scores."""
    last = max((run_dir / "checkpoints").glob("epoch_*[0-9]"), key=lambda path: int(path.name.split("_")[1]))
    summary = json.loads((run_dir / "summary.json").read_text())
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    ranks = {
        path.name: [json.loads(line)["epoch"] for line in path.read_text().splitlines()]
        for path in sorted(run_dir.glob("rank_*.jsonl"))
    }
    return {
        "weights": weights_of(last),
        "lines": [{name: line.get(name) for name in COMPARED} for line in lines],
        "ranks": ranks,
        "scores": {name: summary[name] for name in ("val_score", "test_score", "best_epoch", "final_loss")},
        "best": best_of(run_dir),
    }


def best_of(run_dir: Path) -> str:
    """Digest of the weights that `evaluate` would take."""
    from bnsgcn.train.seal import best_folder

    folder = best_folder(run_dir / "checkpoints")
    return weights_of(folder) if folder is not None else "none"


def weights_of(checkpoint: Path) -> str:
    """Digest of a checkpoint's weights, bit by bit."""
    state = torch.load(checkpoint / "shared.pt", weights_only=True)["model"]
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(state[name].numpy().tobytes())
    return digest.hexdigest()


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Names of what differs, with the epochs where lines do."""
    wrong = [name for name in expected if found.get(name) != expected[name]]
    if "lines" in wrong:
        epochs = [line["epoch"] for line in found["lines"]]
        wrong.append(f"epochs {epochs}" if epochs != list(range(EPOCHS)) else "figures of lines")
    return wrong
