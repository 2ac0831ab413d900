"""How far the planner's figures are from measured ones, and what its choice of a policy costs."""

from __future__ import annotations

import dataclasses
import math
import statistics
from pathlib import Path
from typing import Any

from benchmarks.hub import NO_LIMIT
from benchmarks.plan_groups import LINKS, Group, config_of
from benchmarks.workloads import workload_parts
from bnsgcn.plan.bytes import RunBytes
from bnsgcn.plan.choose import choose
from bnsgcn.plan.costs import RunPlan, all_parts, plans
from bnsgcn.plan.machine import Machine
from bnsgcn.plan.rehearsal import calibrated


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One configuration, measured and predicted."""

    group: Group
    policy: str
    link: str
    measured_s: float
    planned_s: float
    unrehearsed_s: float
    memory: float
    unrehearsed_memory: float
    """Predicted over measured."""
    bytes_exact: bool
    plan: RunPlan

    @property
    def ratio(self) -> float:
        return self.planned_s / self.measured_s


def rows_of(runs: list[dict[str, Any]], group: Group, shared: Path | None) -> list[Row]:
    """All configurations of a group, predicted from its first rehearsal."""
    mine = [run for run in runs if run["group"] == list(group)]
    first = next((run for run in mine if run.get("when") == "before"), None)
    if first is None:
        return []
    folder = workload_parts(group[1], group[2], shared)
    rates = Machine(**first["machine"])
    rehearsed = calibrated(folder, config_of(group), rates, first["ranks"])
    parts, found = all_parts(folder), []
    for link, rate in LINKS.items():
        runs_here = [run for run in mine if run.get("link") == link]
        configs = [config_of(group, run["policy"]) for run in runs_here]
        planned = [
            plans(folder, configs, _over(each, rate)) if configs else [] for each in (rehearsed, rates)
        ]
        for run, config, plan, plain in zip(runs_here, configs, *planned, strict=True):
            sent = RunBytes(parts, config).epoch(run["epoch"]).sent_bytes
            found.append(
                Row(
                    group=group,
                    policy=run["policy"],
                    link=link,
                    measured_s=statistics.median(run["epoch_s"]),
                    planned_s=plan.epoch_s,
                    unrehearsed_s=plain.epoch_s,
                    memory=plan.peak_bytes / run["peak_rss_bytes"],
                    unrehearsed_memory=plain.peak_bytes / run["peak_rss_bytes"],
                    bytes_exact=sent == run["sent_bytes"],
                    plan=plan,
                )
            )
    return found


def _over(machine: Machine, bits_per_s: float) -> Machine:
    """Between links of a rate, and still on the cores of one machine."""
    return (
        machine
        if bits_per_s == NO_LIMIT
        else dataclasses.replace(machine.apart(bits_per_s / 8), cores=machine.cores)
    )


@dataclasses.dataclass(frozen=True)
class Regret:
    """What the planner's choice of a policy costs beside the fastest one, as shares of its epoch."""

    group: Group
    link: str
    chosen: str
    best: str
    share: float


def regrets_of(rows: list[Row]) -> list[Regret]:
    """Of each group and link with several policies."""
    found = []
    for group, link in dict.fromkeys((row.group, row.link) for row in rows):
        cell = [row for row in rows if (row.group, row.link) == (group, link)]
        if len(cell) > 1:
            plan = choose([row.plan for row in cell]).plan
            chosen = next(row for row in cell if row.plan is plan)
            best = min(cell, key=lambda row: row.measured_s)
            found.append(
                Regret(group, link, chosen.policy, best.policy, chosen.measured_s / best.measured_s - 1)
            )
    return found


def off(ratios: list[float]) -> tuple[float, float]:
    """How far ratios are from 1: geometric mean, and the worst."""
    logs = [abs(math.log(ratio)) for ratio in ratios]
    return math.exp(statistics.fmean(logs)) - 1, math.exp(max(logs)) - 1
