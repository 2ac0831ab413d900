"""Runs the campaign and writes down what was tried and what was kept."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.campaign.calls import Calls
from tests.campaign.disks import Disks
from tests.campaign.driver import ROOT, Driver, Result, Unable
from tests.campaign.files import Files
from tests.campaign.kills import Kills
from tests.campaign.links import Links

RECORD = ROOT / "benchmarks" / "results" / "reliability.md"
DRIVERS: tuple[Driver, ...] = (Kills(), Files(), Calls(), Disks(), Links())
AIMS = {"kills": 200, "files": 1000, "calls": 400, "disks": 20, "links": 10}
"""What a whole campaign tries of each."""


def main() -> int:
    """Run the drivers that are asked for; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    names = [driver.name for driver in DRIVERS]
    parser.add_argument("drivers", nargs="*", choices=[*names, []], help="which ones; all when none is named")
    parser.add_argument("--minutes", type=float, default=30.0, help="when to stop (default 30)")
    parser.add_argument("--cases", type=int, help="tries of each driver; else the aims of the record")
    parser.add_argument("--first", type=int, default=0, help="number of the first case (default 0)")
    parser.add_argument("--write", action="store_true", help=f"write {RECORD.relative_to(ROOT)}")
    asked = parser.parse_args()
    chosen = [driver for driver in DRIVERS if driver.name in (asked.drivers or names)]
    wanted = {driver.name: asked.cases or AIMS[driver.name] for driver in chosen}
    found = campaign(chosen, wanted, first=asked.first, deadline=time.monotonic() + 60 * asked.minutes)
    kept = as_json(found)
    print(table(kept))
    if asked.write:
        write_record(kept)
    return int(any(result.faults for result, _ in found.values()))


def campaign(
    drivers: list[Driver], wanted: dict[str, int], *, first: int, deadline: float
) -> dict[str, tuple[Result, str]]:
    """(what came of it, why it could not be run) of every driver, taking turns until the deadline."""
    found = {driver.name: (Result(tried=0), "") for driver in drivers}
    case, busy = first, list(drivers)
    while busy and time.monotonic() < deadline:
        for driver in list(busy):
            total, _ = found[driver.name]
            try:
                one = run_case(driver, case)
            except Unable as error:
                found[driver.name] = total, str(error)
                busy.remove(driver)
                continue
            total.tried += one.tried
            total.faults += one.faults
            for fault in one.faults:
                print(f"{driver.name}: {fault}", flush=True)
            if total.tried >= wanted[driver.name]:
                busy.remove(driver)
        case += 1
        if case % 10 == 0:
            print(", ".join(f"{name} {total.tried}" for name, (total, _) in found.items()), flush=True)
    return found


def run_case(driver: Driver, case: int) -> Result:
    """One case in a folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=f"bnsgcn-{driver.name}-"))
    try:
        return driver.run(case, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def table(kept: dict[str, dict[str, Any]]) -> str:
    """What was tried and kept, as Markdown."""
    lines = ["| driver | promise | tried | not kept | commit |", "|---|---|---:|---:|---|"]
    for driver in DRIVERS:
        if driver.name in kept:
            one = kept[driver.name]
            faults = one["unable"] or len(one["faults"])
            lines.append(
                f"| {driver.name} | {driver.promise} | {one['tried']} | {faults} | {one['commit']} |"
            )
    return "\n".join(lines)


def as_json(found: dict[str, tuple[Result, str]]) -> dict[str, dict[str, Any]]:
    """What came of every driver, with the commit that was tried."""
    from benchmarks.measure import commit

    at = commit()
    return {
        name: {"tried": result.tried, "faults": result.faults, "unable": unable, "commit": at}
        for name, (result, unable) in found.items()
    }


def write_record(found: dict[str, dict[str, Any]]) -> None:
    """The record beside those of the benchmarks; drivers that were not run keep what they had."""
    from benchmarks.measure import machine

    raw = RECORD.with_suffix(".json")
    kept = (json.loads(raw.read_text()) if raw.exists() else {}) | found
    about = ", ".join(f"{name} {value}" for name, value in machine().items() if value)
    faults = [f"- {name}: {fault}" for name, one in kept.items() for fault in one["faults"]]
    broken = "What was not kept:\n\n" + "\n".join(faults) if faults else "Everything was as promised."
    RECORD.write_text(
        "# Reliability\n\n"
        "Whatever is done to it, the program keeps what it promises: kills at any moment, damaged and forged "
        "files, wrong calls, full disks, stopped ranks and cut links.\n\n"
        "    python -m tests.campaign --minutes 60 --write\n\n"
        f"{about}\n\n{table(kept)}\n\n{broken}\n\n"
        "A kill is one SIGKILL of a rank, the launcher or all processes of a run of two workers; after every "
        "four, the run is resumed to its end and compared. Not shown: machines that lose power, file systems "
        "over a network, more than two machines, CUDA.\n"
    )
    raw.write_text(json.dumps(kept) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
