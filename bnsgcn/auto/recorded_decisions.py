"""The decisions of a run as its metrics.jsonl has them, for one that goes on and one that repeats it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bnsgcn.auto.decision import Decision
from bnsgcn.config import TrainConfig
from bnsgcn.record.run_folder import PartsIdentity, RunFolder
from partition.errors import UserError

KEY = "auto"
"""Of the decisions that an epoch's line has."""


def decisions_in(lines: Sequence[Mapping[str, Any]], parts: int) -> list[Decision]:
    """What can be read of them, oldest first."""
    found = []
    for line in lines:
        entries = line.get(KEY)
        for values in entries if isinstance(entries, list) else ():
            with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):
                found.append(Decision.from_json(values, parts))
    return found


def decisions_of(run: Path, config: TrainConfig, manifest: PartsIdentity) -> list[Decision]:
    """The decisions of the run that --replay names.

    Raises:
        UserError: it is no run, decided nothing, is of other parts, or ended before this one will.
    """
    folder = RunFolder(run)
    facts, lines = folder.open(), folder.metrics()
    if facts.digest != manifest.digest:
        raise UserError(
            f"--replay {run} is a run on {facts.name!r} in {facts.parts} parts ({facts.digest[:12]}), "
            f"these parts are {manifest.name!r} in {manifest.parts} parts ({manifest.digest[:12]}); "
            f"use {facts.parts_dir}"
        )
    found = decisions_in(lines, manifest.parts)
    if not found:
        raise UserError(f"--replay {run} has 0 decisions in metrics.jsonl; name a run with --policy auto")
    if len(lines) < config.epochs:
        raise UserError(
            f"--replay {run} has decisions for {len(lines)} epochs, --epochs is {config.epochs}; "
            f"use at most {len(lines)}"
        )
    return found
