"""The options of a run whose exchange the planner chooses, setting by setting, in place of --policy auto."""

from __future__ import annotations

import dataclasses
from typing import Any

from bnsgcn.config import TrainConfig
from bnsgcn.policy_options import AUTO_OPTIONS


def by_hand(config: TrainConfig) -> TrainConfig:
    """`config` with --policy fixed, and without what auto alone reads."""
    defaults: dict[str, Any] = {name: getattr(TrainConfig, name) for name in AUTO_OPTIONS}
    return dataclasses.replace(config, policy="fixed", **defaults)
