"""Runs that differ in their seed alone belong together; what else differs gives groups their names."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import string
from collections.abc import Sequence
from typing import Any

from bnsgcn.record.recorded import RecordedRun
from partition.errors import printable

NEVER_DIFFER = frozenset({"seed", "resume", "timeout_s", "checkpoint_every", "track", "profile"})
"""Options that make no other experiment of a run."""
LONGEST_LABEL = 30
PLAIN = "plain"
"""Of runs that have nothing on that others have on."""


@dataclasses.dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation of what is known of several runs."""

    mean: float
    std: float
    """NaN of fewer than two."""
    count: int


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Runs of the same options, graph and parts."""

    label: str
    differing: dict[str, Any]
    """What is not the same in all groups, by option."""
    runs: tuple[RecordedRun, ...]

    def spread(self, name: str) -> Spread:
        """Of one of the runs' figures."""
        values = [value for run in self.runs if math.isfinite(value := run.figure(name))]
        std = statistics.stdev(values) if len(values) > 1 else math.nan
        return Spread(statistics.fmean(values) if values else math.nan, std, len(values))


def grouped(runs: Sequence[RecordedRun]) -> list[Group]:
    """The groups, in the order of their first runs."""
    found: dict[str, list[RecordedRun]] = {}
    for run in runs:
        found.setdefault(json.dumps(_experiment(run), sort_keys=True), []).append(run)
    experiments = [json.loads(key) for key in found]
    names = [
        name for name in experiments[0] if any(each[name] != experiments[0][name] for each in experiments)
    ]
    differing = [{name: each[name] for name in names} for each in experiments]
    for each in differing:
        if len({row.get("digest") for row in differing}) > 1 and ("graph" in each or "parts" in each):
            each.pop("digest")  # said by these already
    labels = [printable(label) for label in _labels(differing, list(found.values()))]
    return [
        Group(label=label, differing=each, runs=tuple(members))
        for label, each, members in zip(labels, differing, found.values(), strict=True)
    ]


def _experiment(run: RecordedRun) -> dict[str, Any]:
    """What makes two runs the same experiment."""
    options = {name: value for name, value in run.facts.config.to_json().items() if name not in NEVER_DIFFER}
    own = json.dumps(run.facts.own, sort_keys=True)
    graph = {"graph": run.facts.name, "parts": run.facts.parts, "digest": run.facts.digest[:8]}
    return graph | options | ({"own functions": own} if run.facts.own else {"own functions": "none"})


def _labels(differing: Sequence[dict[str, Any]], members: Sequence[Sequence[RecordedRun]]) -> list[str]:
    """What differs, where that is short; or the folders' names, or letters, that a table explains."""
    if len(differing) == 1:
        run = members[0][0]
        return [f"{run.facts.config.model} on {run.facts.name}"]
    told = [
        ", ".join(filter(None, (shown(*option) for option in each.items()))) or PLAIN for each in differing
    ]
    if max(map(len, told)) <= LONGEST_LABEL:
        return told
    folders = [runs[0].path.parent.name if len(runs) > 1 else runs[0].path.name for runs in members]
    if max(map(len, folders)) <= LONGEST_LABEL and len(set(folders)) == len(folders):
        return folders
    letters = string.ascii_uppercase
    return [letters[i] if len(told) <= len(letters) else f"#{i + 1}" for i in range(len(told))]


def shown(name: str, value: Any) -> str:
    """An option and its value in few words; none for a switch that is off, an option that is not given."""
    option = name.replace("_", "-")
    if value is None or isinstance(value, bool):
        return option if value else ""
    return f"{option} {value:g}" if isinstance(value, float) else f"{option} {value}"
