"""Where a trainer's policy chooses itself: who does, and what was decided before."""

from __future__ import annotations

import json
import math
from pathlib import Path

from bnsgcn.auto.controller import Controller
from bnsgcn.auto.recorded_decisions import KEY, decisions_in, decisions_of
from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.exchange.set_draws import SetDraws
from bnsgcn.record.run_folder import RunFolder
from bnsgcn.train.hop_sets import HopSet
from partition.store import Manifest


def controller_of(hops: HopSet, config: TrainConfig) -> Controller | None:
    """Who chooses for these hops; None where nobody has to. Collective."""
    lanes = {hop.index: hop.lane for hop in hops.hops if hop.lane is not None}
    settings = hops.policy.settings
    if settings is None or not lanes:
        return None
    assert isinstance(hops.draws, SetDraws)
    return Controller(hops.world, config, lanes, hops.draws, settings, hops.policy.wires)


def follow_recorded(
    world: World, controller: Controller, config: TrainConfig, manifest: Manifest, run: RunFolder | None
) -> None:
    """Let the decisions hold again of the run that is replayed, or of this one before it was stopped.

    Collective. What rank 0 reads of this run is what all follow: it is about to be written anew.

    Raises:
        UserError: see `decisions_of`.
    """
    if config.replay is not None:
        controller.follow(decisions_of(Path(config.replay), config, manifest), math.inf)
    elif config.resume and run is not None:
        told = [{"epoch": each["epoch"], KEY: each.get(KEY)} for each in run.metrics()]
        lines = json.loads(world.all_gather_text(json.dumps(told) if world.rank == 0 else "")[0])
        controller.follow(decisions_in(lines, manifest.parts), lines[-1]["epoch"] if lines else -1)
