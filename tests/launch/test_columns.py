"""Tables leave out whole columns where there is no room, and cut none."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from bnsgcn.show.columns import Column, table
from launch.tables import show_quality
from partition.quality import inspect_parts


def test_columns_go_by_rank_and_come_back() -> None:
    columns = [
        Column("a\nb", ["1", "22"]),
        Column("long", ["x kB", "y kB"], 2),
        Column("c", ["3", "4"], 1, 5),
    ]
    whole = (["a          ", "b long     c"], [" 1 x kB     3", "22 y kB     4"])
    assert [line.rstrip() for line in table(columns)[1]] == whole[1]
    assert table(columns, 13) == table(columns)
    assert table(columns, 12) == ([" a      ", " b     c"], [" 1     3", "22     4"])
    assert table(columns, 7) == ([" a", " b"], [" 1", "22"])
    assert table(columns, 1) == ([" a", " b"], [" 1", "22"]), "one column stays"
    assert table(columns, 13) == table(columns)


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("terminal", [True, False])
def test_a_partitions_table_fits_the_terminal(width: int, terminal: bool, two_parts: Path) -> None:
    quality = inspect_parts(two_parts)
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, no_color=True, soft_wrap=True)
    show_quality(quality, [290_100_000, 881_800], console)
    rows = [line for line in out.getvalue().splitlines() if "kB" in line or "MB" in line]
    assert len(rows) == 2
    for row in rows:
        assert len(row) <= max(width, 80 if not terminal else 0)
    heads = out.getvalue().replace("features", "")
    assert ("feature" in heads) == (width >= 80 or not terminal)
    assert {row.split()[-1] for row in rows} == {"kB", "MB"}
    assert "features a node, stored dense; arcs weigh the same" in out.getvalue()
    quality = dataclasses.replace(quality, weighted=True, features_set=0.004)
    show_quality(quality, [290_100_000, 881_800], console)
    assert "features a node, stored sparse, 0.40% of them set; arcs have weights" in out.getvalue()
