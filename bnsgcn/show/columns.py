"""What fits: tables that leave out whole columns, and lines that go on below."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Column:
    """One column, justified to the right."""

    head: str
    """One line, or several."""
    cells: Sequence[str]
    rank: int = 0
    """Where there is no room, the columns of the highest ranks are left out."""
    width: int = 0
    """At least so wide."""


def table(columns: Sequence[Column], room: int | None = None, gap: int = 1) -> tuple[list[str], list[str]]:
    """The lines of the heads and those of the cells, at most `room` wide if at all possible."""
    high = max(column.head.count("\n") for column in columns)
    shown = []
    for place, column in enumerate(columns):
        heads = ("\n" * (high - column.head.count("\n")) + column.head).split("\n")
        wide = max(column.width, *map(len, [*heads, *column.cells]))
        shown.append((column.rank, place, [f"{cell:>{wide}}" for cell in [*heads, *column.cells]]))
    while (
        room is not None and len(shown) > 1 and sum(len(cells[0]) + gap for *_, cells in shown) - gap > room
    ):
        shown.remove(max(shown))
    lines = [(" " * gap).join(row) for row in zip(*(cells for *_, cells in shown), strict=True)]
    return lines[: high + 1], lines[high + 1 :]


def fitted(line: str, width: int) -> str:
    """`line` in lines of at most `width` columns; numbers stay with their units, brackets are not broken."""
    label = re.match(r" *\S+ {2,}", line)
    margin = len(label.group()) if label else 2 + len(line) - len(line.lstrip())
    width = max(30, width)
    brackets = re.compile(rf"\([^()]{{,{width - margin - 3}}}\)")
    kept = re.sub(r"(?<=\d) (?=[mkMG]?(?:s|B)\b)", "\u00a0", line)
    kept = brackets.sub(lambda found: found[0].replace(" ", "\u00a0"), kept)
    lines = textwrap.wrap(
        kept, width, subsequent_indent=" " * margin, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines).replace("\u00a0", " ")
