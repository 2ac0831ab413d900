"""What the planner predicts beside what is measured: epoch time, memory, bytes, and what its choice costs.

    python -m benchmarks.plan_accuracy                  measure what is not there yet, then write the record
    python -m benchmarks.plan_accuracy --report         write the record from what there is
    python -m benchmarks.plan_accuracy --only sage:small:2

Of each group (model, workload, parts) a rehearsal as `plan --calibrate` makes one, then every policy over
every link, and a rehearsal again, which tells how far the machine has drifted. Predictions are made from the
first rehearsal of the group alone, on loopback. Each worker has a network namespace of its own (hub.py); all
share the cores of one machine. Lines of results/plan_accuracy.jsonl are measurements: predictions can be made
again.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.contest import Contestant
from benchmarks.hub import NO_LIMIT, Hub, hub
from benchmarks.measure import RESULTS, add_run, machine, read_runs, table, write_record
from benchmarks.ours import environments, ours_contestant
from benchmarks.plan_deviation import Regret, Row, off, regrets_of, rows_of
from benchmarks.plan_groups import GROUPS, LINKS, POLICIES, Group, config_of, name_of
from benchmarks.workloads import Skip, workload_parts
from bnsgcn.plan.costs import all_parts
from bnsgcn.plan.machine import Machine
from bnsgcn.workers.jobs import rehearse_here

NAME = "plan_accuracy"
WARM_UP, EPOCHS = 2, 6


class Study:
    """The lines of the record, and what is missing."""

    def __init__(self, file: Path, shared: Path | None) -> None:
        self._file, self._shared = file, shared

    def measure(self, group: Group) -> None:
        """A group, whole; nothing when it is there."""
        key = list(group)
        if any(run["group"] == key and run.get("when") == "after" for run in read_runs(self._file)):
            return
        folder = workload_parts(group[1], group[2], self._shared)
        found = [self._rehearsal(group, folder, "before")]
        found += self._epochs(group, folder)
        found.append(self._rehearsal(group, folder, "after"))
        for run in found:
            add_run(self._file, run)

    def _rehearsal(self, group: Group, folder: Path, when: str) -> dict[str, Any]:
        config = config_of(group)
        torch.set_num_threads(1)
        rates = Machine.measure(config, parts=all_parts(folder))
        begin = time.monotonic()
        ranks = rehearse_here(folder, config)
        took_s = time.monotonic() - begin
        rates_json = dataclasses.asdict(rates)
        return {"group": list(group), "when": when, "machine": rates_json, "ranks": ranks, "took_s": took_s}

    def _epochs(self, group: Group, folder: Path) -> list[dict[str, Any]]:
        """Every policy over every link; all workers are there from the start, and sleep in between."""
        parts = group[2]
        policies = POLICIES if parts > 1 else {"exact": {}}
        links = LINKS if parts > 1 else {"no limit": NO_LIMIT}
        found = []
        with hub(parts) as network:
            contestants = {policy: _contestant(group, policy, folder, network) for policy in policies}
            try:
                for contestant in contestants.values():
                    contestant.wait_ready()
                for link, rate in links.items():
                    network.limit(rate)
                    for policy, contestant in contestants.items():
                        found.append(
                            _measured(contestant) | {"group": list(group), "policy": policy, "link": link}
                        )
            finally:
                for contestant in contestants.values():
                    contestant.close()
        return found


def _contestant(group: Group, policy: str, folder: Path, network: Hub) -> Contestant:
    parts = group[2]
    around = environments(parts, address=network.addresses[0], threads=1)
    for environment, device in zip(around, network.devices, strict=True):
        environment |= {"GLOO_SOCKET_IFNAME": device, "LOCAL_RANK": "0"}
    prefixes = [["ip", "netns", "exec", name] for name in network.names]
    return ours_contestant(
        policy,
        folder,
        config_of(group, policy),
        parts=parts,
        threads=1,
        prefixes=prefixes,
        environment=around,
        options=["--evaluate"],
    )


def _measured(contestant: Contestant) -> dict[str, Any]:
    """A few epochs of a contestant: seconds of each, and of the last one its number and bytes."""
    answers = [contestant.step() for _ in range(WARM_UP + EPOCHS)]
    last = answers[-1]
    loading = max(each["loading_peak_rss_bytes"] for each in contestant.ready)
    return {
        "epoch_s": [answer["epoch_s"] for answer in answers[WARM_UP:]],
        "waits_s": [answer["time/halo_wait_s"] for answer in answers[WARM_UP:]],
        "epoch": last["epoch"],
        "sent_bytes": sum(each["comm/sent_bytes"] for each in last["processes"]),
        "peak_rss_bytes": max(loading, *(answer["peak_rss_bytes"] for answer in answers)),
    }


# ---- the record ----


def summary(rows: list[Row], regrets: list[Regret]) -> str:
    """Figures beside what they should be."""
    others = [row for row in rows if (row.policy, row.link) != ("exact", "no limit")]
    lines = []
    for name, chosen in (("all", rows), ("other than the rehearsed policy and link", others)):
        mean, worst = off([row.ratio for row in chosen])
        lines.append([f"epoch time, {name} ({len(chosen)})", f"{mean:.1%}", f"{worst:.1%}", "10 %, 25 %"])
    mean, worst = off([row.unrehearsed_s / row.measured_s for row in rows])
    lines.append(["epoch time without a rehearsal", f"{mean:.1%}", f"{worst:.1%}", "-"])
    mean, worst = off([row.memory for row in rows])
    lines.append(["memory", f"{mean:.1%}", f"{worst:.1%}", "5 %, 10 %"])
    mean, worst = off([row.unrehearsed_memory for row in rows])
    lines.append(["memory without a rehearsal", f"{mean:.1%}", f"{worst:.1%}", "-"])
    wrong = sum(not row.bytes_exact for row in rows)
    lines.append(["bytes that are not exact", str(wrong), str(wrong), "0"])
    costs = [regret.share for regret in regrets]
    lines.append(
        ["the choice beside the fastest policy", f"{statistics.fmean(costs):.1%}", f"{max(costs):.1%}", "3 %"]
    )
    return table(["deviation", "mean", "worst", "aim"], lines)


def drift(runs: list[dict[str, Any]]) -> str:
    """The same rehearsal before and after a group."""
    lines = []
    for group in GROUPS:
        epochs = {
            run["when"]: max(rank["exact"]["epoch_s"] for rank in run["ranks"])
            for run in runs
            if run["group"] == list(group) and "when" in run
        }
        if len(epochs) == 2:
            before, after = epochs["before"], epochs["after"]
            lines.append(
                [name_of(group), f"{before * 1e3:.1f}", f"{after * 1e3:.1f}", f"{after / before:.2f}"]
            )
    return table(["group", "rehearsed ms before", "after", "ratio"], lines)


def report(file: Path, shared: Path | None, before: dict[str, Any]) -> None:
    runs = read_runs(file)
    rows = [row for group in GROUPS for row in rows_of(runs, group, shared)]
    regrets = regrets_of(rows)
    header = ["group", "link", "policy", "measured ms", "planned ms", "ratio", "unrehearsed", "memory"]
    lines = [
        [
            name_of(row.group),
            row.link,
            row.policy,
            f"{row.measured_s * 1e3:.1f}",
            f"{row.planned_s * 1e3:.1f}",
            f"{row.ratio:.2f}",
            f"{row.unrehearsed_s / row.measured_s:.2f}",
            f"{row.memory:.2f}",
        ]
        for row in rows
    ]
    choices = [
        [name_of(each.group), each.link, each.chosen, each.best, f"{each.share:.1%}"] for each in regrets
    ]
    write_record(
        NAME,
        claim="What the planner says of epoch time, memory and bytes, beside what is measured.",
        body="\n\n".join(
            [
                summary(rows, regrets),
                table(["group", "link", "chosen", "fastest", "slower by"], choices),
                drift(runs),
                table(header, lines),
            ]
        ),
        raw=[{k: v for k, v in dataclasses.asdict(row).items() if k != "plan"} for row in rows],
        does_not_show="GPUs, machines with cores of their own, attention, several threads a worker.",
        before=before,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", default=None, metavar="MODEL:WORKLOAD:PARTS")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--no-report", action="store_true", help="write no record")
    parser.add_argument("--shared", type=Path, default=None)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no group after this time")
    options = parser.parse_args()
    before, begin = machine(), time.monotonic()
    RESULTS.mkdir(parents=True, exist_ok=True)
    file = RESULTS / f"{NAME}.jsonl"
    study = Study(file, options.shared)
    wanted = [g for g in GROUPS if options.only is None or ":".join(map(str, g)) in options.only]
    for group in [] if options.report else wanted:
        if time.monotonic() - begin > 60 * options.minutes:
            print("out of time; call again to go on", file=sys.stderr)
            return
        print(f"{name_of(group)}, {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
        study.measure(group)
    if not options.no_report:
        report(file, options.shared, before)


if __name__ == "__main__":
    try:
        main()
    except Skip as reason:
        print(f"skipped: {reason}")
