"""Tables: the quality of a partition, worst part first, and what a run is predicted to cost."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.text import Text

from bnsgcn.show.columns import Column, table
from bnsgcn.show.units import duration, short, size
from partition.errors import printable
from partition.quality import Quality

if TYPE_CHECKING:
    from bnsgcn.config import TrainConfig
    from bnsgcn.plan.choose import Choice
    from bnsgcn.plan.costs import RunPlan

COUNTS = (
    ("inner\nnodes", "inner_nodes", "inner_nodes", 4),
    ("inner\narcs", "inner_arcs", "inner_arcs", 5),
    ("halo\narcs", "halo_arcs", "halo_arcs", 6),
    ("halo\nslots", "halo_slots", "recv_rows", 2),
    ("rows\nsent", "send_rows", "send_rows", 1),
    ("training\nnodes", "train_nodes", "train_nodes", 7),
)
"""Of the table of a partition: head, field of a part, name of its ratio worst/mean, rank of the column."""


def show_quality(quality: Quality, memory: Sequence[int], console: Console | None = None) -> None:
    """Print the table, `memory` [P] of each part's worker in it; standard output if no console is given."""
    parts = quality.worst_first()
    columns = [Column("part", [*(str(part.part) for part in parts), "worst/mean"])]
    for head, field, ratio, rank in COUNTS:
        counts = [short(getattr(part, field)) for part in parts]
        columns.append(Column(head, [*counts, f"{quality.worst_over_mean[ratio]:.2f}"], rank))
    columns.append(Column("feature\nbytes", [*(size(part.feature_bytes) for part in parts), ""], 8))
    columns.append(Column("worker\nmemory", [*(size(memory[part.part]) for part in parts), ""], 3))
    show_table(columns, console, title=_headline(quality), foot=_footline(quality), bold=len(parts))


def show_plan(plan: RunPlan, console: Console | None = None) -> None:
    """Print what each worker of a run is predicted to need."""
    ranks = plan.ranks
    columns = [
        Column("rank", [str(rank.rank) for rank in ranks]),
        Column("inner\nrows", [short(rank.inner_rows) for rank in ranks], 6),
        Column("halo\nslots", [short(rank.halo_slots) for rank in ranks], 7),
        Column("sent", [size(rank.sent_bytes) for rank in ranks], 3),
        Column("received", [size(rank.received_bytes) for rank in ranks], 5),
        Column("compute", [duration(rank.compute_s) for rank in ranks], 1),
        Column("waiting", [duration(rank.exposed_s) for rank in ranks], 4),
        Column("memory", [size(rank.peak_bytes) for rank in ranks], 2),
    ]
    if ranks[0].device_bytes:
        columns.append(Column("of a GPU", [size(rank.peak_device_bytes) for rank in ranks], 3))
    title = f"{plan.config.model} on {plan.name}, {plan.parts} workers: {duration(plan.epoch_s)} an epoch"
    foot = f"{size(plan.sent.sent_bytes)} sent an epoch, {size(plan.peak_bytes)} a worker at most"
    show_table(columns, console, title=title, foot=foot)


def show_grid(
    plans: Sequence[RunPlan], choice: Choice, auto: RunPlan, console: Console | None = None
) -> None:
    """Print what each choice of pipeline, rate and wire dtype is predicted to cost, and the one to take."""
    configs = [plan.config for plan in plans]
    columns = [
        Column("rate", [f"{config.sampling_rate:g}" for config in configs]),
        Column("pipeline", [_late(config) for config in configs]),
        Column("wire", [config.wire_dtype for config in configs]),
        Column("epoch", [duration(plan.epoch_s) for plan in plans], 1),
        Column("sent", [size(plan.sent.sent_bytes) for plan in plans], 4),
        Column("memory", [size(plan.peak_bytes) for plan in plans], 3),
        Column("", [_mark(plan, choice, auto) for plan in plans], 2),
    ]
    bold = next(row for row, plan in enumerate(plans) if plan is choice.plan)
    reason = textwrap.fill(choice.reason, 80, break_on_hyphens=False)
    show_table(columns, console, foot=reason, bold=bold)


def _mark(plan: RunPlan, choice: Choice, auto: RunPlan) -> str:
    """`auto` is what --policy auto is expected to come to."""
    if plan is choice.plan:
        return "<- take this, auto too" if plan is auto else "<- take this"
    return "<- auto" if plan is auto else ""


def _late(config: TrainConfig) -> str:
    if not config.pipeline:
        return "no"
    return "smoothed" if config.smooth_features or config.smooth_gradients else "yes"


def show_classes(classes: Sequence[Mapping[str, float]], console: Console | None = None) -> None:
    """Print how well each class was told from the others, and the mean over the classes."""
    columns = [Column("class", [*(str(row["class"]) for row in classes), "mean"])]
    for rank, name in ((3, "precision"), (2, "recall"), (1, "f1")):
        values = [row[name] for row in classes]
        values.append(sum(values) / len(values))
        columns.append(Column(name, [f"{value:.4f}" for value in values], rank))
    support = [int(row["support"]) for row in classes]
    columns.append(Column("support", [str(count) for count in (*support, sum(support))], 4))
    show_table(columns, console, bold=len(classes))


def show_table(
    columns: list[Column], console: Console | None = None, *, foot: str = "", title: str = "", bold: int = -1
) -> None:
    """Print a table with what is above and below it; all of its columns where there is no terminal."""
    shown_on = console or Console(highlight=False, markup=False, soft_wrap=True)
    heads, lines = table(columns, shown_on.width if shown_on.is_terminal else None, gap=2)
    rows = [Text(line.rstrip(), style="bold" if row == bold else "") for row, line in enumerate(lines)]
    above = [Text(printable(title), style="bold")] if title else []
    below = [Text(foot)] if foot else []
    shown_on.print(Group(*above, *(Text(line, style="dim") for line in heads), *rows, *below))


def _headline(quality: Quality) -> str:
    return (
        f"{quality.name}: {short(quality.num_nodes)} nodes, {short(quality.num_arcs)} arcs in "
        f"{quality.parts} parts by {quality.method}, objective {quality.objective}"
    )


def _footline(quality: Quality) -> str:
    return (
        f"{short(quality.total_volume)} halo slots = rows sent per layer at rate 1, "
        f"{quality.halo_per_node:.3f} a node; {short(quality.edge_cut)} edges cut\n"
        f"{_between_machines(quality)}"
        f"connected components of inner arcs: {', '.join(_components(quality))}\n"
        f"{_content(quality)}"
    )


def _between_machines(quality: Quality) -> str:
    """What crosses the link between machines, where there are several."""
    if quality.hosts == 1:
        return ""
    share = quality.host_volume / max(1, quality.total_volume)
    return f"{short(quality.host_volume)} of them ({share:.1%}) go between {quality.hosts} machines\n"


def _content(quality: Quality) -> str:
    """How features and arcs are stored."""
    stored = "dense" if quality.features_set is None else f"sparse, {quality.features_set:.2%} of them set"
    arcs = "arcs have weights" if quality.weighted else "arcs weigh the same"
    return f"{short(quality.num_features)} features a node, stored {stored}; {arcs}"


def _components(quality: Quality) -> list[str]:
    """Components of each part, in the table's order; the first ten parts."""
    counts = [short(part.components) for part in quality.worst_first()]
    return counts if len(counts) <= 10 else [*counts[:10], "..."]
