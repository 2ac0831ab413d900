"""`bnsgcn train --seeds`: the same run with several seeds, and what an OGB leaderboard asks of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from bnsgcn.record.json_file import finite
from bnsgcn.record.seeds import SEEDS_NAME, entry, number, seeds_of
from bnsgcn.show.columns import Column
from bnsgcn.show.say import say
from bnsgcn.track.choice import Shown
from bnsgcn.workers.series import train_seeds
from launch.options import Train
from launch.parts import parts_of
from launch.tables import show_table


def train_with_seeds(command: Train, shown: Shown, tell: Callable[[str], None]) -> None:
    """Train with each seed that `command` names, one after the other, and show the scores of all.

    Args:
        shown: how each run shows itself; with --quiet none does.
        tell: says how far things are.
    """
    assert command.seeds is not None
    seeds = seeds_of(command.seeds)
    each: Shown = "nothing" if command.quiet else shown
    parts_dir = parts_of(command, tell)
    found = train_seeds(parts_dir, command.run_dir, seeds, command.options, say=tell, shown=each)
    if command.json:
        say(json.dumps({"event": "seeds"} | finite(found)))
    elif command.quiet:
        say(entry(found)[0].strip())
    else:
        _show(command, found)


def _show(command: Train, found: dict[str, Any]) -> None:
    runs = found["runs"]
    columns = [
        Column("seed", [str(run["seed"]) for run in runs]),
        Column("validation", [f"{number(run['val_score']):.4f}" for run in runs], 1),
        Column("test", [f"{number(run['test_score']):.4f}" for run in runs]),
        Column("best epoch", [str(run["best_epoch"] + 1) for run in runs], 2),
        Column("epochs", [str(run["epochs"]) for run in runs], 3),
    ]
    say("")
    show_table(columns)
    model = f"{command.options.model} on {found['name']}"
    say("\n".join(["", f"{model}, {command.run_dir / SEEDS_NAME}:", *entry(found)]))
