"""Tables: the quality of a partition, worst part first, and what a run is predicted to cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from launch.face import duration, short, size
from partition.errors import printable
from partition.quality import Quality

if TYPE_CHECKING:
    from bnsgcn.plan.choose import Choice
    from bnsgcn.plan.costs import Plan

COLUMNS = {
    "inner\nnodes": "inner_nodes",
    "inner\narcs": "inner_arcs",
    "halo\narcs": "halo_arcs",
    "halo\nslots": "halo_slots",
    "rows\nsent": "send_rows",
    "training\nnodes": "train_nodes",
}
BALANCED = ("inner_nodes", "inner_arcs", "halo_arcs", "recv_rows", "send_rows", "train_nodes")


def show_quality(quality: Quality, memory: Sequence[int], console: Console | None = None) -> None:
    """Print the table, `memory` [P] of each part's worker in it; standard output if no console is given."""
    table = _table("part", *COLUMNS, "feature\nbytes", "worker\nmemory")
    for part in quality.worst_first():
        counts = [short(getattr(part, field)) for field in COLUMNS.values()]
        table.add_row(str(part.part), *counts, size(part.feature_bytes), size(memory[part.part]))
    ratios = [f"{quality.worst_over_mean[name]:.2f}" for name in BALANCED]
    table.add_row("worst/mean", *ratios, "", "", style="bold")
    (console or _stdout()).print(
        Group(Text(printable(_headline(quality)), style="bold"), table, Text(_footline(quality)))
    )


def show_plan(plan: Plan, console: Console | None = None) -> None:
    """Print what each worker of a run is predicted to need."""
    table = _table("rank", "inner\nrows", "halo\nslots", "sent", "received", "compute", "waiting", "memory")
    for rank in plan.ranks:
        table.add_row(
            str(rank.rank),
            short(rank.inner_rows),
            short(rank.halo_slots),
            size(rank.sent_bytes),
            size(rank.received_bytes),
            duration(rank.compute_s),
            duration(rank.exposed_s),
            size(rank.peak_bytes),
        )
    title = f"{plan.config.model} on {plan.name}, {plan.parts} workers: {duration(plan.epoch_s)} an epoch"
    foot = f"{size(plan.sent.sent_bytes)} sent an epoch, {size(plan.peak_bytes)} a worker at most"
    (console or _stdout()).print(Group(Text(printable(title), style="bold"), table, Text(foot)))


def show_grid(plans: Sequence[Plan], choice: Choice, console: Console | None = None) -> None:
    """Print what each choice of rate, pipeline and wire dtype is predicted to cost, and the one to take."""
    table = _table("rate", "pipeline", "wire", "epoch", "sent", "memory", "")
    for plan in plans:
        taken = plan is choice.plan
        config = plan.config
        table.add_row(
            f"{config.sampling_rate:g}",
            "yes" if config.pipeline else "no",
            config.wire_dtype,
            duration(plan.epoch_s),
            size(plan.sent.sent_bytes),
            size(plan.peak_bytes),
            "<- take this" if taken else "",
            style="bold" if taken else "",
        )
    (console or _stdout()).print(Group(table, Text(choice.reason)))


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for name in names:
        table.add_column(name, justify="right", header_style="dim")
    return table


def _stdout() -> Console:
    return Console(highlight=False, markup=False, soft_wrap=True)


def _headline(quality: Quality) -> str:
    return (
        f"{quality.name}: {short(quality.num_nodes)} nodes, {short(quality.num_arcs)} arcs in "
        f"{quality.parts} parts by {quality.method}, objective {quality.objective}"
    )


def _footline(quality: Quality) -> str:
    return (
        f"{short(quality.total_volume)} halo slots = rows sent per layer at rate 1, "
        f"{quality.halo_per_node:.3f} a node; {short(quality.edge_cut)} edges cut\n"
        f"connected components of inner arcs: {', '.join(_components(quality))}"
    )


def _components(quality: Quality) -> list[str]:
    """Components of each part, in the table's order; the first ten parts."""
    counts = [short(part.components) for part in quality.worst_first()]
    return counts if len(counts) <= 10 else [*counts[:10], "..."]
