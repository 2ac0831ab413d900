"""`bnsgcn report`: read the runs, write the report, say where it is."""

from __future__ import annotations

from pathlib import Path

from bnsgcn.record.json_file import write_whole
from bnsgcn.show.say import say
from bnsgcn.show.units import size
from launch.options import Report
from launch.report.asked_runs import CONFIG, asked_runs
from launch.report.canvas import save_figures
from launch.report.one_run import of_one
from launch.report.several_runs import of_several
from launch.report.written import FORMATS, Format, written
from partition.errors import UserError, one_line

PAGE = Path("report.html")


def make_report(command: Report) -> None:
    """Do what the command says.

    Raises:
        UserError: There is no run, a package is absent, or the file cannot be written.
    """
    if command.out is not None:
        check_out(command.out)
    kind = format_of(command)
    out = PAGE if command.out is None and kind == "html" and command.figures is None else command.out
    runs, gaps = asked_runs(command.runs)
    report = of_one(runs[0], gaps) if len(runs) == 1 else of_several(runs, gaps)
    if command.figures is not None:
        files = save_figures(report.charts, command.figures)
        say(f"{command.figures}: {len(report.charts)} figures, {len(files)} files")
        if out is None and command.format is None:
            return
    text = written(report, kind)
    if out is None:
        say(text.rstrip("\n"))
        return
    try:
        write_whole(out, text.encode())
    except OSError as error:
        raise UserError(f"--out {out} cannot be written ({one_line(error)}); name another file") from error
    count = len(report.findings)
    remarks = f", {count} remark{'s' * (count > 1)}" if count else ""
    say(f"{out}: {size(len(text.encode()))}{remarks}")


def format_of(command: Report) -> Format:
    """What was asked for, or what the ending of the file says.

    Raises:
        UserError: The ending says nothing.
    """
    if command.format is not None:
        return command.format
    if command.out is None:
        return "html"
    ending = {"htm": "html", "markdown": "md"}.get(
        command.out.suffix.lower()[1:], command.out.suffix.lower()[1:]
    )
    for kind in FORMATS:
        if kind == ending:
            return kind
    raise UserError(
        f"--out {command.out}: '{command.out.suffix}' is none of .{', .'.join(FORMATS)}; add --format"
    )


def check_out(out: Path) -> None:
    """UserError where writing `out` would go wrong, or take a file of a run with it."""
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; name a file, such as {out / PAGE}")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}; make it, or name another file")
    if out.exists() and out.suffix in (".json", ".jsonl") and (out.parent / CONFIG).exists():
        raise UserError(f"--out {out} is a file of the run; name one outside of {out.parent}")
