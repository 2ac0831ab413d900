"""From the folders that the user names to the runs in them: a run, a folder of seeds, of a sweep, of runs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from bnsgcn.record.json_file import read_object
from bnsgcn.record.recorded import RecordedRun, read_run
from partition.errors import UserError

CONFIG = "config.json"


def asked_runs(folders: Sequence[Path]) -> tuple[list[RecordedRun], list[str]]:
    """The runs, each once, in the order of the folders; and what of them is not there.

    Raises:
        UserError: A folder holds no run, or a config.json is broken.
    """
    gaps: list[str] = []
    paths: dict[Path, Path] = {}
    for folder in folders:
        for path in _runs_in(folder, gaps):
            paths.setdefault(path.resolve(), path)
    return [read_run(path) for path in paths.values()], gaps


def _runs_in(folder: Path, gaps: list[str]) -> list[Path]:
    if (folder / CONFIG).exists():
        return [folder]
    if not folder.is_dir():
        kind = "is a file" if folder.exists() else "is not there"
        raise UserError(f"{folder} {kind}; name a run folder, see bnsgcn train")
    within = sorted((path.parent for path in folder.glob(f"*/{CONFIG}")), key=_by_number)
    gaps += _failed(folder)
    if not within:
        raise UserError(
            f"{folder} holds no run: no {CONFIG} there nor in a folder within; name the --run-dir of a run"
        )
    return within


def _by_number(path: Path) -> tuple[str, int, str]:
    """seed_2 comes before seed_10."""
    head, _, tail = path.name.rpartition("_")
    return (head, int(tail), "") if tail.isdecimal() else (path.name, -1, "")


def _failed(folder: Path) -> list[str]:
    """The runs of a sweep that have no result, with the reason."""
    rows: object = []
    with contextlib.suppress(OSError, UserError):
        rows = read_object(folder / "sweep.json").get("runs")
    found = (
        [row for row in rows if isinstance(row, dict) and "error" in row] if isinstance(rows, list) else []
    )
    return [f"{row.get('name', 'a run')} of the sweep failed: {row['error']}" for row in found]
