"""Training runs of a study of scores, a line each in results/NAME.jsonl; nothing here is timed.

A study goes on where an earlier call ended: what has its line is not run again.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS, add_run, read_runs
from benchmarks.workers import Group, Job
from benchmarks.workloads import Skip, parts_folder
from bnsgcn.config import TrainConfig

Run = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
    """One run of a study: `names` tell it from the others and begin its line, `kept` ends it."""

    names: Run
    source: str
    parts: int
    config: TrainConfig
    kept: Run = dataclasses.field(default_factory=dict)


def study_parser(description: str | None, *, seeds: int) -> argparse.ArgumentParser:
    """The options that all studies of scores have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no run after so long")
    parser.add_argument("--report", action="store_true", help="the table alone")
    parser.add_argument("--shared", type=Path, default=None)
    return parser


def all_runs(file: str, asked: Iterable[Asked], options: argparse.Namespace) -> list[Run]:
    """The lines of `file` in the results, after what is missing was run, until the time is up.

    Raises:
        Skip: There is none.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / file
    if not options.report:
        _run_missing(path, asked, time.monotonic() + 60 * options.minutes)
    runs = read_runs(path)
    if not runs:
        raise Skip("no runs yet")
    return runs


def _run_missing(path: Path, asked: Iterable[Asked], deadline: float) -> None:
    there = read_runs(path)
    groups: dict[int, Group] = {}
    with contextlib.ExitStack() as stack:
        for each in asked:
            if any(each.names.items() <= run.items() for run in there) or time.monotonic() > deadline:
                continue
            if each.parts not in groups:
                groups[each.parts] = stack.enter_context(Group(each.parts))
            folder = parts_folder(each.source, each.parts)
            summary = groups[each.parts].run(Job(parts_dir=str(folder), config=each.config.to_json()))
            line = each.names | {
                "metric": summary["metric"],
                "val": summary["val_score"],
                "test": summary["test_score"],
                "best_epoch": summary["best_epoch"],
                "run_s": round(summary["run_s"], 2),
                "sent_bytes": summary["sent_bytes_per_epoch"],
            }
            add_run(path, line | each.kept)
            print(line, flush=True)
