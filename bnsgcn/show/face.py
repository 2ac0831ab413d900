"""What a run looks like: a live table on a terminal, plain lines elsewhere, and a last block in both.

Rank 0 shows it. Showing takes place between epochs and is part of no measured time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bnsgcn.record.tracker import Tracker
from bnsgcn.show.columns import Column, fitted, table
from bnsgcn.show.say import bare_streams
from bnsgcn.show.units import clock, duration, number, short, size
from bnsgcn.train.seal import best_folder
from partition.errors import UserError, printable

ROWS = 10
"""Evaluated epochs that a live table keeps in sight."""
AROUND = 4
"""Lines of a live view that are no evaluated epochs: title, heads, present epoch, bar."""
BAR = 40
SEPARATOR = " · "
REFRESH_S = 0.2
LOG_WIDTH = 80
"""Columns of a log, which has no width of its own."""
LARGEST_WIDTH = 100
LINE_S = 10.0
"""A plain run says something at least this often, and at every evaluation."""


Measure = Callable[[dict[str, float]], str]


def _time(name: str) -> Measure:
    return lambda metrics: duration(metrics.get(f"time/{name}_s"))


COLUMNS: tuple[tuple[str, int, int, Measure], ...] = (
    ("epoch", 6, 0, lambda metrics: str(int(metrics["epoch"]) + 1)),
    ("loss", 8, 1, lambda metrics: number(metrics["loss"])),
    ("val score", 9, 2, lambda metrics: number(metrics.get("val_score"))),
    ("took", 9, 3, _time("epoch")),
    ("compute", 9, 6, _time("compute")),
    ("halo wait", 9, 4, _time("halo_wait")),
    ("reduce", 9, 7, _time("reduce")),
    ("draw", 9, 8, _time("draw")),
    ("memory", 9, 9, lambda metrics: size(metrics.get("memory/peak_rss_bytes"))),
    ("sent", 10, 5, lambda metrics: size(metrics["comm/sent_bytes"])),
)
"""Head, columns of the terminal that cells usually take, rank where there is no room, cell of an epoch."""


def epochs_table(rows: Sequence[dict[str, float]], room: int | None = None) -> list[str]:
    """Heads, and a line for each epoch."""
    columns = [
        Column(head, [cell(metrics) for metrics in rows], rank, width) for head, width, rank, cell in COLUMNS
    ]
    heads, lines = table(columns, room)
    return heads + lines


def face(run_dir: str | os.PathLike[str], console: Console | None = None) -> Tracker:
    """The listener that suits the console, standard output if None: lines in a file, a pipe or a log."""
    bare_streams()
    # In a notebook lines of text, not a box of HTML for each.
    shown_on = console or Output(highlight=False, markup=False, soft_wrap=True, force_jupyter=False)
    live = shown_on.is_terminal and not shown_on.is_dumb_terminal and shown_on.file.isatty()
    return LiveFace(shown_on, Path(run_dir)) if live else PlainFace(shown_on, Path(run_dir))


class Output(Console):
    """Standard output; a reader that leaves is an error, where rich would end the process without a word."""

    def on_broken_pipe(self) -> None:
        """Say what happened.

        Raises:
            BrokenPipeError: Nobody reads any more.
        """
        raise BrokenPipeError(errno.EPIPE, "nobody reads standard output any more")


class PlainFace:
    """One line at every evaluation, and one now and then between."""

    def __init__(self, console: Console, run_dir: Path) -> None:
        self._console, self._run_dir = console, run_dir
        self._epochs, self._last_s = 0, 0.0

    def on_start(self, facts: dict[str, Any]) -> None:
        """Say what is trained on what."""
        self._epochs = int(facts.get("epochs", 0))
        heads = epochs_table([], LOG_WIDTH)
        self._console.print("\n".join([headline(facts), *notes(facts), *heads]))

    def on_epoch(self, metrics: dict[str, float]) -> None:
        """Print a line for an evaluated epoch, the last one, and when nothing was said for a while."""
        now = time.monotonic()
        last = int(metrics["epoch"]) + 1 == self._epochs
        if "val_score" in metrics or last or now - self._last_s > LINE_S:
            self._last_s = now
            self._console.print(epochs_table([metrics], LOG_WIDTH)[1])

    def on_end(self, summary: dict[str, Any]) -> None:
        """Print the last block."""
        self._console.print(last_block(summary, self._run_dir))


class LiveFace:
    """A table of the last evaluated epochs, the present one, a bar and the time to go."""

    def __init__(self, console: Console, run_dir: Path) -> None:
        self._console, self._run_dir = console, run_dir
        self._live = Live(console=console, auto_refresh=False)
        self._title, self._epochs, self._start_epoch = "", 0, 0
        self._rows: deque[dict[str, float]] = deque(maxlen=ROWS)
        self._latest: dict[str, float] | None = None
        self._begin_s = self._shown_s = time.monotonic()

    def on_start(self, facts: dict[str, Any]) -> None:
        """Open the table."""
        self._title = headline(facts)
        self._epochs, self._start_epoch = int(facts.get("epochs", 0)), int(facts.get("start_epoch", 0))
        self._begin_s = time.monotonic()
        for note in notes(facts):
            self._console.print(fitted(note, self._console.width))
        self._live.start()
        self._live.update(self._picture(), refresh=True)

    def on_epoch(self, metrics: dict[str, float]) -> None:
        """Take the epoch in; redraw a few times a second."""
        self._latest = metrics
        if "val_score" in metrics:
            self._rows.append(metrics)
        now = time.monotonic()
        if now - self._shown_s > REFRESH_S or int(metrics["epoch"]) + 1 == self._epochs:
            self._shown_s = now
            self._live.update(self._picture(), refresh=True)

    def on_end(self, summary: dict[str, Any]) -> None:
        """Leave the table as it is and add the last block."""
        self._live.update(self._picture(), refresh=True)
        self._live.stop()
        self._console.print(last_block(summary, self._run_dir, self._console.width))

    def _picture(self) -> Group:
        """The view at the terminal's size of this moment."""
        width, height = self._console.size
        rows = list(self._rows)[-max(1, height - AROUND) :]
        present = [self._latest] if self._latest and self._latest not in rows[-1:] else []
        heads, *lines = (Text(line, no_wrap=True) for line in epochs_table(rows + present, width))
        for dim in (heads, *lines[len(rows) :]):
            dim.stylize("dim")
        title = Text(self._title_within(width), style="bold", no_wrap=True, overflow="ellipsis")
        return Group(title, heads, *lines, self._bar(width))

    def _title_within(self, width: int) -> str:
        """As much of the headline as there is room for; no figure without its unit."""
        pieces = self._title.split(SEPARATOR)
        while len(pieces) > 1 and len(SEPARATOR.join(pieces)) > width:
            pieces.pop()
        return SEPARATOR.join(pieces)

    def _bar(self, width: int) -> Table:
        done = 0 if self._latest is None else int(self._latest["epoch"]) + 1
        words = f"{done}/{self._epochs}  {self._time_to_go(done)}".rstrip()
        row = Table.grid(padding=(0, 1, 0, 0))
        room = max(1, min(BAR, width - len(words) - 2))
        row.add_row(ProgressBar(total=max(1, self._epochs), completed=done, width=room), Text(words))
        return row

    def _time_to_go(self, done: int) -> str:
        here = done - self._start_epoch
        if here <= 0 or done >= self._epochs:
            return ""
        seconds = (time.monotonic() - self._begin_s) / here * (self._epochs - done)
        return f"ETA {clock(seconds)}"


def headline(facts: dict[str, Any]) -> str:
    """What is trained on what, in one line."""
    pieces = [f"{facts.get('model', 'model')} on {facts.get('name', 'graph')}"]
    if "nodes" in facts:
        pieces.append(f"{short(facts['nodes'])} nodes, {short(facts['arcs'])} arcs")
    pieces.append(f"{facts.get('parts', 1)} worker{'s' if facts.get('parts', 1) != 1 else ''}")
    if "parameters" in facts:
        pieces.append(f"{short(facts['parameters'])} weights")
    if "kernel" in facts:
        pieces.append(f"{facts['kernel']} kernels")
    if facts.get("start_epoch"):
        pieces.append(f"going on at epoch {facts['start_epoch']}")
    return printable(SEPARATOR.join(pieces))


def notes(facts: dict[str, Any]) -> list[str]:
    """What was decided for the user, a line each."""
    return [printable(f"  {note}") for note in facts.get("notes", ())]


def last_block(summary: dict[str, Any], run_dir: Path, width: int | None = None) -> str:
    """The score, what an epoch cost, where the checkpoint is, how to evaluate it; paths stay in one line."""
    spent = ", ".join(
        f"{words} {duration(summary[f'{name}_s_median'])}"
        for name, words in (("compute", "compute"), ("halo_wait", "halo wait"), ("reduce", "reduce"))
    )
    figures = [
        score_line(summary),
        f"  epoch       {duration(summary['epoch_s_median'])}: {spent}",
        f"  used        {size(summary['sent_bytes_per_epoch'])} sent an epoch, "
        f"{size(summary['peak_rss_bytes'])} a worker at most{_least(summary)}",
    ]
    lines = [
        "",
        *(figures if width is None else [fitted(line, width) for line in figures]),
        printable(f"  checkpoint  {best_checkpoint(run_dir) or 'none'}"),
        printable(f"  evaluate    bnsgcn evaluate {run_dir}"),
        *_profile(summary, run_dir, width or LARGEST_WIDTH),
    ]
    return "\n".join(lines)


def score_line(summary: dict[str, Any]) -> str:
    """What a run is about, in one line."""
    return printable(
        f"test {summary.get('metric', 'score')} {number(summary['test_score'])}   "
        f"(validation {number(summary['val_score'])} "
        f"after epoch {summary['best_epoch'] + 1} of {summary['epochs']})"
    )


def _profile(summary: dict[str, Any], run_dir: Path, width: int) -> list[str]:
    """Where the traces of --profile are, and what took the most time in them."""
    found = summary.get("profile")
    if not found:
        return []
    if "failed" in found:
        return [printable(f"  profile     could not be written ({found['failed']})")]
    rows, room = found["largest"], max(16, min(width, LARGEST_WIDTH) - 24)
    columns = [
        Column(
            f"largest of rank 0, epochs {found['epochs']}"[:room].ljust(room),
            [row["name"][:room].ljust(room) for row in rows],
        ),
        Column("calls", [str(row["calls"]) for row in rows]),
        Column("time", [duration(row["self_s"]) for row in rows], width=9),
    ]
    heads, lines = table(columns)
    where = f"  profile     {run_dir / 'profile'}"
    return [printable(line) for line in (where, *(f"    {line}" for line in heads + lines))]


def _least(summary: dict[str, Any]) -> str:
    """What of a worker's memory training cannot do without, where it is known."""
    least = summary.get("least_rss_bytes")
    return f" ({size(least)} needed at least)" if least else ""


def best_checkpoint(run_dir: Path) -> Path | None:
    """Where the best checkpoint of a run is."""
    with contextlib.suppress(UserError):
        return best_folder(run_dir / "checkpoints")
    return None
