"""`bnsgcn sweep FILE.toml`: every combination of a grid is a run; cut once, resumable, a table at the end.

RUN/lr=0.01,hidden=64/    the run of one combination
RUN/sweep.json            all of them, the best validation score first, rewritten after every run
RUN/sweep.csv             the same
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bnsgcn.record.json_file import write_object, write_whole
from bnsgcn.record.seeds import number
from bnsgcn.show.columns import Column
from bnsgcn.show.say import say
from bnsgcn.show.units import duration
from bnsgcn.workers.outcome import WorkerFailure
from bnsgcn.workers.series import train_once
from launch.grid import Member, read_grid
from launch.options import Sweep, Train
from launch.parts import parts_of
from launch.tables import show_table
from partition.errors import UserError, one_line

Row = dict[str, Any]
KEPT = (
    *("metric", "val_score", "test_score", "best_epoch"),
    *("epoch_s_median", "peak_rss_bytes", "parameters"),
)
"""What the table has of each run's summary."""


def sweep(command: Sweep) -> None:
    """Run what has not been run yet, and show the table of all.

    Raises:
        UserError: the file is no grid, or runs could not be done because of a mistake.
        WorkerFailure: runs failed otherwise.
    """
    folder, members = read_grid(command.file)
    cut = Cuts()
    rows: list[Row] = []
    failures: list[tuple[Member, Exception]] = []
    for place, member in enumerate(members):
        say(f"[{place + 1}/{len(members)}] {member.name}")
        row: Row = {"name": member.name, "run_dir": str(folder / member.name)} | member.differing
        try:
            row |= _trained(member, cut)
        except (UserError, WorkerFailure, OSError, MemoryError) as error:
            row["error"] = one_line(error)
            failures.append((member, error))
            say(f"  failed      {row['error']}")
        rows.append(row)
        _write(folder, rows)
    _show(_sorted(rows), folder, list(members[0].differing))
    if failures:
        member, first = failures[0]
        line = (
            f"{len(failures)} of {len(members)} runs failed, first {member.name}: {one_line(first)}; "
            f"all are in {folder / 'sweep.json'}, and the same command does them again"
        )
        mistakes = all(isinstance(each, UserError) for _, each in failures)
        raise UserError(line) if mistakes else WorkerFailure(line)


class Cuts:
    """Folders of parts, each cut once."""

    def __init__(self) -> None:
        self._found: dict[tuple[Any, ...], Path | UserError] = {}

    def __getitem__(self, command: Train) -> Path:
        """The folder that `command` trains on; UserError, again and again, where it cannot be made."""
        key = command.source, command.parts, command.method, command.objective, command.cache_dir
        if key not in self._found:
            try:
                self._found[key] = parts_of(command, say)
            except UserError as mistake:
                self._found[key] = mistake
        found = self._found[key]
        if isinstance(found, UserError):
            raise found
        return found


def _trained(member: Member, cut: Cuts) -> Row:
    """The summary of one run."""
    if member.command is None:
        raise UserError(member.fault)
    found = train_once(cut[member.command], member.command.run_dir, member.command.options, say=say)
    return {name: found.get(name) for name in KEPT}


def _sorted(rows: list[Row]) -> list[Row]:
    """The best validation score first, failures last."""
    scores = [number(row.get("val_score")) for row in rows]
    ranks = [math.inf if math.isnan(score) else -score for score in scores]
    return [rows[place] for place in sorted(range(len(rows)), key=ranks.__getitem__)]


def _write(folder: Path, rows: list[Row]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ordered = _sorted(rows)
    write_object(folder / "sweep.json", {"runs": ordered})
    text = io.StringIO()
    names = dict.fromkeys(name for row in ordered for name in row)
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(ordered)
    write_whole(folder / "sweep.csv", text.getvalue().encode())


def _show(rows: list[Row], folder: Path, differing: list[str]) -> None:
    def score(row: Mapping[str, Any], name: str) -> str:
        return "failed" if "error" in row else f"{number(row[name]):.4f}"

    columns = [Column(name.replace("_", "-"), [_text(row[name]) for row in rows]) for name in differing]
    columns += [
        Column("validation", [score(row, "val_score") for row in rows]),
        Column("test", [score(row, "test_score") for row in rows]),
        Column("best epoch", ["-" if "error" in row else str(row["best_epoch"] + 1) for row in rows], 1),
        Column("epoch", [duration(row.get("epoch_s_median")) for row in rows], 2),
    ]
    say("")
    show_table(columns, foot=f"{folder / 'sweep.json'}, {folder / 'sweep.csv'}", bold=0)


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)
