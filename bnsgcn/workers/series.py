"""Runs one after the other: what has ended stays as it is, what was interrupted goes on, the rest begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bnsgcn.config import BALANCED, TrainConfig
from bnsgcn.own import NONE_OWN, References
from bnsgcn.record.json_file import write_object
from bnsgcn.record.run_folder import RunFolder
from bnsgcn.record.seeds import SEEDS_NAME, folder_of_seed, number, over_seeds
from bnsgcn.workers.jobs import train_here
from partition.errors import UserError
from partition.store import read_manifest

Say = Callable[[str], None]


def train_once(
    parts_dir: Path,
    run_dir: Path,
    config: TrainConfig,
    *,
    say: Say,
    own: References = NONE_OWN,
    **followed: Any,
) -> dict[str, Any]:
    """The summary of the run in `run_dir`, which is trained as far as it has not been yet.

    `followed`: by what, as for `train_here`.

    Raises:
        UserError: the run there is another one, or see `train_here`.
    """
    run = RunFolder(run_dir)
    begun = (run_dir / "config.json").exists()
    config = dataclasses.replace(config, resume=begun)
    if begun:
        run.check(config, read_manifest(parts_dir), own)
        ended = run.ended(config)
        # Of a file of weights only the checkpoint knows whether its numbers are still the same.
        if ended is not None and config.class_weights in (None, BALANCED):
            val, test = number(ended["val_score"]), number(ended["test_score"])
            say(f"{run_dir} has ended: validation {val:.4f}, test {test:.4f}")
            return ended
    return train_here(parts_dir, run_dir, config, say=say, own=own, **followed)


def train_seeds(
    parts_dir: Path,
    run_dir: Path,
    seeds: Sequence[int],
    config: TrainConfig,
    *,
    say: Say,
    own: References = NONE_OWN,
    **followed: Any,
) -> dict[str, Any]:
    """Train with each of the seeds in `run_dir`/seed_K; what `seeds.json` there says of them together.

    Raises:
        UserError: a run is there already and is not to be resumed, or see `train_once`.
    """
    manifest = read_manifest(parts_dir)
    if config.seed:
        raise UserError(f"--seed {config.seed} and --seeds {seeds[0]}...: give one of the two")
    if (run_dir / "config.json").exists():
        raise UserError(f"--run-dir {run_dir} holds a run itself; name another folder for those of --seeds")
    configs = {seed: dataclasses.replace(config, seed=seed) for seed in seeds}
    for seed in seeds:  # before the first one is trained
        RunFolder(folder_of_seed(run_dir, seed)).check(configs[seed], manifest, own)
    summaries = {}
    for place, seed in enumerate(seeds):
        say(f"seed {seed} ({place + 1} of {len(seeds)})")
        folder = folder_of_seed(run_dir, seed)
        summaries[seed] = train_once(parts_dir, folder, configs[seed], say=say, own=own, **followed)
    found = over_seeds(summaries, manifest.name)
    write_object(run_dir / SEEDS_NAME, found)
    return found
