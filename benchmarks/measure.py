"""Records: what was measured, where, how often, how far apart, and what it does not show.

`write_record` leaves results/NAME.json (everything, a line a measurement) and results/NAME.md (the table to
read); plots lie beside them as results/NAME.png. Figures are medians; a spread is the first and third
quartile.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.workloads import ROOT

RESULTS = Path(os.environ.get("BNSGCN_BENCH_RESULTS", ROOT / "benchmarks" / "results"))
DIGITS = 9
"""Of a number in a record; the tables have at most four, and round these once more."""
LONGEST_LINE = 1_000
COLOURS = 128
"""Of a plot; as true colour it would take three times the room."""
PACKAGES = ("torch", "triton", "numpy", "scipy", "dgl", "torch_geometric", "pymetis")


@dataclasses.dataclass(frozen=True)
class Spread:
    """Median and quartiles of several measurements of one thing."""

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if not values:
            raise ValueError("no measurements to take a median of")
        if len(values) == 1:
            return cls(values[0], values[0], values[0], 1)
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high, len(values))

    def show(self, digits: int = 2) -> str:
        """`0.41 (0.40-0.43)`."""
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


def mean_and_deviation(values: Sequence[float], digits: int = 2) -> str:
    """`97.12 ± 0.08`; the deviation is that of a sample."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.{digits}f} ± {deviation:.{digits}f}"


def round_medians(rounds: Sequence[Sequence[dict[str, Any]]], key: str = "epoch_s") -> list[float]:
    """One median per round."""
    return [statistics.median(float(epoch[key]) for epoch in epochs) for epochs in rounds]


def ratios(ours: Sequence[Sequence[dict[str, Any]]], theirs: Sequence[Sequence[dict[str, Any]]]) -> Spread:
    """Ratio of the two medians, pair by pair: the rounds are the pairs."""
    return Spread.of([a / b for a, b in zip(round_medians(ours), round_medians(theirs), strict=True)])


def versions() -> dict[str, str]:
    """Installed versions of what a figure depends on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine() -> dict[str, Any]:
    """Processor, cores, memory, kernel and what else was running."""
    model = platform.processor()
    extensions: set[str] = set()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            model = value.strip()
        if key.strip() == "flags":
            extensions = set(value.split()) & {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "extensions": sorted(extensions),
        "memory_bytes": memory,
        "system": f"{platform.system()} {platform.release()}",
        "load_before": round(os.getloadavg()[0], 2),
    }


def commit() -> str:
    """Commit of the working tree, with a plus sign where tracked files differ from it."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True
        )
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=ROOT, capture_output=True, text=True
        )
    except FileNotFoundError:
        return "unknown"
    return (head.stdout.strip() + ("+" if dirty.stdout.strip() else "")) or "unknown"


def command() -> str:
    """The command line of this program, without machine paths."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = spec.name if spec is not None else Path(sys.argv[0]).stem
    return " ".join(["python -m", name, *sys.argv[1:]])


def rounded(value: Any) -> Any:
    """`value` for a record: with `DIGITS` digits, and without a second copy of what one process says."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        said = [item for process in value.get("processes", ()) for item in process.items()]
        return {key: rounded(entry) for key, entry in value.items() if (key, entry) not in said}
    return [rounded(entry) for entry in value] if isinstance(value, list | tuple) else value


def as_lines(value: Any) -> str:
    """JSON in which whatever fits into one line is one, and so are numbers in a row."""
    text = json.dumps(value, separators=(",", ":"))
    if len(text) <= LONGEST_LINE or "{" not in text or isinstance(value, str):
        return text
    if isinstance(value, list):
        return "[\n" + ",\n".join(map(as_lines, value)) + "\n]"
    entries = (f"{json.dumps(key)}:{as_lines(entry)}" for key, entry in value.items())
    return "{\n" + ",\n".join(entries) + "\n}"


def read_runs(file: Path) -> list[dict[str, Any]]:
    """The finished runs of a study, from its results/NAME.jsonl."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def add_run(file: Path, run: dict[str, Any]) -> None:
    """Add a line for a finished run."""
    with file.open("a") as stream:
        stream.write(json.dumps(rounded(run), separators=(",", ":")) + "\n")


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A markdown table, columns aligned for reading as text."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def write_record(
    name: str,
    *,
    claim: str,
    body: str,
    raw: Any,
    does_not_show: str,
    figure: str | None = None,
    before: dict[str, Any] | None = None,
) -> Path:
    """Write results/NAME.json and results/NAME.md; returns the second.

    `claim` is one sentence, `body` markdown with the tables, `raw` whatever JSON can hold, `before` what
    `machine()` said at the start (its load average tells whether the machine was quiet).
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    head = {
        "claim": claim,
        "command": command(),
        "commit": commit(),
        "written": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": before or machine(),
        "versions": versions(),
        "does_not_show": does_not_show,
    }
    (RESULTS / f"{name}.json").write_text(as_lines(rounded({**head, "raw": raw})) + "\n")
    host = head["machine"]
    lines = [
        f"# {name}",
        f"**{claim}**",
        body,
        *([f"![{name}]({figure})"] if figure else []),
        f"Does not show: {does_not_show}",
        f"`{head['command']}`, commit {head['commit']}, {head['written']}; {host['processor']}, "
        f"{host['cores']} cores, {host['memory_bytes'] / 2**30:.0f} GiB, load before {host['load_before']}; "
        + ", ".join(f"{package} {version}" for package, version in head["versions"].items())
        + f". Raw figures: {name}.json.",
    ]
    path = RESULTS / f"{name}.md"
    path.write_text("\n\n".join(lines) + "\n")
    print(f"\n{body}\n\nrecorded in {os.path.relpath(path)}")
    return path
