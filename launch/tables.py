"""The quality of a partition as a table, worst part first."""

from __future__ import annotations

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from launch.face import short, size
from partition.quality import Quality

COLUMNS = {
    "inner\nnodes": "inner_nodes",
    "inner\narcs": "inner_arcs",
    "halo\narcs": "halo_arcs",
    "halo\nslots": "halo_slots",
    "rows\nsent": "send_rows",
    "training\nnodes": "train_nodes",
}
BALANCED = ("inner_nodes", "inner_arcs", "halo_arcs", "recv_rows", "send_rows", "train_nodes")


def show_quality(quality: Quality, console: Console | None = None) -> None:
    """Print the table; standard output if no console is given."""
    shown_on = console or Console(highlight=False, markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for name in ("part", *COLUMNS, "feature\nbytes"):
        table.add_column(name, justify="right", header_style="dim")
    for part in quality.worst_first():
        counts = [short(getattr(part, field)) for field in COLUMNS.values()]
        table.add_row(str(part.part), *counts, size(part.feature_bytes))
    ratios = [f"{quality.worst_over_mean[name]:.2f}" for name in BALANCED]
    table.add_row("worst/mean", *ratios, "", style="bold")
    shown_on.print(Group(Text(_headline(quality), style="bold"), table, Text(_footline(quality))))


def _headline(quality: Quality) -> str:
    return (
        f"{quality.name}: {short(quality.num_nodes)} nodes, {short(quality.num_arcs)} arcs in "
        f"{quality.parts} parts by {quality.method}, objective {quality.objective}"
    )


def _footline(quality: Quality) -> str:
    return (
        f"{short(quality.total_volume)} halo slots = rows sent per layer at rate 1, "
        f"{quality.halo_per_node:.3f} a node; {short(quality.edge_cut)} edges cut"
    )
