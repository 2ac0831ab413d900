"""A report as a page, as Markdown, as CSV (a row a run) or as JSON."""

from __future__ import annotations

import csv
import html
import importlib.resources
import io
import json
import re
from typing import Any, Literal

from bnsgcn.record.json_file import finite
from bnsgcn.show.say import fit
from launch.report.canvas import NARROW, WIDE, svg_of
from launch.report.palette import css
from launch.report.told import Sheet, Told
from partition.optional import optional

Format = Literal["html", "md", "csv", "json"]
FORMATS: tuple[Format, ...] = ("html", "md", "csv", "json")


def written(report: Told, kind: Format) -> str:
    """The text of the file.

    Raises:
        UserError: A page is asked for, and matplotlib or jinja2 is absent.
    """
    return fit({"html": as_page, "md": as_markdown, "csv": as_csv, "json": as_json}[kind](report))


def as_page(report: Told) -> str:
    """One HTML file that needs nothing else."""
    jinja2 = optional("jinja2")
    charts = [
        {
            "name": chart.name,
            "title": chart.title,
            "note": chart.note,
            "wide": jinja2.utils.markupsafe.Markup(svg_of(chart, WIDE)),
            "narrow": jinja2.utils.markupsafe.Markup(svg_of(chart, NARROW)),
        }
        for chart in report.charts
    ]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["marked"] = lambda text: jinja2.utils.markupsafe.Markup(marked(text))
    template = environment.from_string(_beside("page.html.j2"))
    return str(template.render(report=report, charts=charts, style=css() + _beside("page.css")))


_CODE = re.compile(r"`([^`]*)`|(?<![\w-])(--[a-z][a-z-]*(?: [\d.]+)?)")


def marked(text: str) -> str:
    """HTML of a sentence: options and what stands in backticks as code, numbers kept beside their units."""
    pieces = _CODE.sub(lambda found: f"<code>{found[1] or found[2]}</code>", html.escape(text))
    return re.sub(r"(?<=\d) (?=%|[kMGT]?B\b|m?s\b)", "&nbsp;", pieces)


def _beside(name: str) -> str:
    return importlib.resources.files("launch.report").joinpath(name).read_text(encoding="utf-8")


def as_markdown(report: Told) -> str:
    """Headings, lists and tables; the figures as their titles."""
    lines = [f"# {_escaped(report.title)}", "", _escaped(report.state), ""]
    lines += [f"- {what}: **{value}**{f' ({more})' if more else ''}" for what, value, more in report.tiles]
    if report.findings:
        lines += ["", "## Worth a look", ""]
    for finding in report.findings:
        about = f"{finding.about}: " if finding.about else ""
        advice = f" Try: {finding.advice}." if finding.advice else ""
        lines.append(f"- {_escaped(about + finding.says + advice)}")
    if report.charts:
        lines += [
            "",
            "## Seen in the figures",
            "",
            *(f"- {_escaped(chart.title)}" for chart in report.charts),
        ]
    for sheet in report.sheets:
        lines += ["", f"## {_escaped(sheet.title)}", "", *_table(sheet)]
    if report.command:
        lines += ["", "## Again", "", "```", report.command, "```"]
    if report.gaps:
        lines += ["", "## Not here", "", *(f"- {_escaped(gap)}" for gap in report.gaps)]
    return "\n".join(lines) + "\n"


def _table(sheet: Sheet) -> list[str]:
    def line(cells: Any) -> str:
        return "| " + " | ".join(_escaped(str(cell)) for cell in cells) + " |"

    note = ["", sheet.note] if sheet.note else []
    return [line(sheet.heads), "|" + "---|" * len(sheet.heads), *map(line, sheet.rows), *note]


def _escaped(text: str) -> str:
    for letter in "\\|*_<>[]`":
        text = text.replace(letter, f"\\{letter}") if letter in "|<" else text
    return text


def as_csv(report: Told) -> str:
    """A row a run, numbers as they are."""
    text = io.StringIO()
    names = dict.fromkeys(name for row in report.rows for name in row)
    table = csv.DictWriter(text, list(names), lineterminator="\n")
    table.writeheader()
    table.writerows(report.rows)
    return text.getvalue()


def as_json(report: Told) -> str:
    """Every run's figures and options, findings, gaps and what else is said, for programs."""
    findings = [{"says": each.says, "advice": each.advice, "about": each.about} for each in report.findings]
    whole = {
        "title": report.title,
        "runs": report.rows,
        **report.more,
        "findings": findings,
        "gaps": report.gaps,
    }
    return json.dumps(finite(whole), indent=1) + "\n"
