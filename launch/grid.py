"""From a TOML file with lists of option values to one `train` command for each combination."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
import reprlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launch.options import Train
from launch.parse import command_of, read_file
from partition.errors import UserError

NOT_IN_A_GRID = {
    "run-dir": "name one folder for all runs",
    "resume": "a sweep goes on by itself",
    "seeds": "write seed = [0, 1, 2]",
    "quiet": "a sweep shows its runs and the table of all",
    "json": "the table is in sweep.json",
}
MOST = 10_000
"""More runs are a slip of the keyboard."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
    """One combination."""

    name: str
    """What differs, as in `lr=0.01,hidden=64`: its folder within that of the sweep."""
    differing: dict[str, Any]
    """Values of the options that the file has lists of."""
    command: Train | None
    fault: str = ""
    """Why the options do not go together, where there is no command."""


def read_grid(path: Path) -> tuple[Path, list[Member]]:
    """The folder of a sweep, and its members in the order of the file's lists, the last list fastest.

    Raises:
        UserError: it cannot be read, names what is no option, or no combination is one of `train`.
    """
    values = read_file(path, "train", lists=True)
    for option, way_out in NOT_IN_A_GRID.items():
        field = option.replace("-", "_")
        if field in values and (option != "run-dir" or isinstance(values[field], list)):
            raise UserError(f"{path}: '{option}' cannot be in a sweep like that; {way_out}")
    axes = {field: _axis(path, field, entry) for field, entry in values.items() if isinstance(entry, list)}
    missing = [option for option in ("source", "run-dir") if option.replace("-", "_") not in values]
    if missing:
        raise UserError(
            f"{path}: no {' and no '.join(missing)}; a sweep needs them beside the options of train"
        )
    fixed = {field: entry for field, entry in values.items() if field not in axes}
    combinations = math.prod(map(len, axes.values()))
    if combinations > MOST:
        raise UserError(f"{path}: {combinations:,} combinations, more than {MOST:,}; shorten the lists")
    chosen = [dict(zip(axes, each, strict=True)) for each in itertools.product(*axes.values())]
    members = [_member(fixed, differing) for differing in chosen]
    if all(member.command is None for member in members):
        raise UserError(f"{path}: {members[0].fault}")
    folder = next(member.command.run_dir.parent for member in members if member.command is not None)
    name, times = Counter(member.name for member in members).most_common(1)[0]
    if times > 1:
        raise UserError(f"{path}: {times} runs would be called {name}; sweep over them one at a time")
    return folder, members


def _axis(path: Path, field: str, values: list[Any]) -> list[Any]:
    option = field.replace("_", "-")
    if not values:
        raise UserError(f"{path}: the list of '{option}' is empty; give it a value, or leave it out")
    for value in values:
        if not isinstance(value, bool | int | float | str):
            raise UserError(
                f"{path}: '{option}' has {reprlib.repr(value)} in its list, must be one value each"
            )
    value, times = Counter(map(repr, values)).most_common(1)[0]
    if times > 1:
        raise UserError(f"{path}: '{option}' has {value[:60]} {times} times in its list; once is enough")
    return values


def _member(fixed: Mapping[str, Any], differing: dict[str, Any]) -> Member:
    name = (
        ",".join(f"{field.replace('_', '-')}={_shown(value)}" for field, value in differing.items()) or "run"
    )
    given = {**fixed, **differing}
    if isinstance(given.get("run_dir"), str):
        given["run_dir"] = str(Path(given["run_dir"]) / name)
    try:
        command = command_of("train", given)
    except UserError as error:
        return Member(name=name, differing=differing, command=None, fault=str(error))
    assert isinstance(command, Train)
    return Member(name=name, differing=differing, command=command)


def _shown(value: Any) -> str:
    """A value as a piece of a file name."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", text).strip("-.")[-60:] or "-"
