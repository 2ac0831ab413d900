"""A partitioning as a picture: who sends how much to whom, and how even the load is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from partition.errors import UserError, one_line, printable
from partition.optional import optional
from partition.quality import Quality

BARS = {
    "arcs": "arcs",
    "inner_nodes": "inner nodes",
    "train_nodes": "training nodes",
    "send_rows": "rows sent",
}
MOST_NUMBERS = 12


def plot_quality(quality: Quality, file: Path | str) -> None:
    """Write a heat map of the volume between parts and bars of load over mean load to `file` (.png, .svg).

    Raises:
        UserError: matplotlib is absent, the ending is no format of it, or the file cannot be written.
    """
    path = Path(file)
    figure = figure_class()(figsize=(12, 4.6), layout="constrained")
    known = sorted(figure.canvas.get_supported_filetypes())
    if path.suffix.lower()[1:] not in known:
        raise UserError(f"{path}: '{path.suffix}' is no format of a picture; end it in .{', .'.join(known)}")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: no such folder for the picture {path.name}")
    heat, bars = figure.subplots(1, 2)
    figure.colorbar(_draw_volume(heat, quality), ax=heat, label="rows per layer")
    _draw_load(bars, quality)
    unfinished = path.with_name(f".{path.stem}.unfinished-{os.getpid()}{path.suffix}")
    try:
        figure.savefig(unfinished, dpi=120)
        unfinished.replace(path)
    except OSError as error:
        raise UserError(f"{path}: the picture cannot be written ({one_line(error)})") from error
    finally:
        unfinished.unlink(missing_ok=True)


def figure_class() -> Any:
    """matplotlib's Figure, which draws to files alone, without pyplot and without a backend of windows."""
    backend = os.environ.pop("MPLBACKEND", None)  # where it names an absent one, importing matplotlib fails
    try:
        return optional("matplotlib.figure").Figure
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend


def _draw_volume(heat: Any, quality: Quality) -> Any:
    image = heat.imshow(quality.volume, cmap="viridis")
    heat.set(xlabel="reader", ylabel="owner", title=f"{quality.total_volume:,} rows sent per layer at rate 1")
    if quality.parts <= MOST_NUMBERS:
        for (owner, reader), rows in _entries(quality):
            heat.text(reader, owner, f"{rows:,}", ha="center", va="center", color="white", fontsize=7)
        heat.set_xticks(range(quality.parts))
        heat.set_yticks(range(quality.parts))
    return image


def _draw_load(bars: Any, quality: Quality) -> None:
    width = 0.8 / len(BARS)
    for number, (key, name) in enumerate(BARS.items()):
        loads = [getattr(part, key) for part in quality.per_part]
        mean = max(1e-12, sum(loads) / len(loads))
        places = [part + (number - (len(BARS) - 1) / 2) * width for part in range(quality.parts)]
        worst = quality.worst_over_mean[key]
        bars.bar(places, [load / mean for load in loads], width, label=f"{name}, worst {worst:.2f}")
    bars.axhline(1.0, color="black", linewidth=0.8)
    bars.set(xlabel="part", ylabel="load over mean load")
    bars.set_title(printable(f"{quality.name}: {quality.method}"), parse_math=False)
    bars.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=8, frameon=False)
    if quality.parts <= MOST_NUMBERS:
        bars.set_xticks(range(quality.parts))


def _entries(quality: Quality) -> list[tuple[tuple[int, int], int]]:
    """((owner, reader), rows) of every pair of different parts."""
    pairs = ((owner, reader) for owner in range(quality.parts) for reader in range(quality.parts))
    return [(pair, int(quality.volume[pair])) for pair in pairs if pair[0] != pair[1]]
