"""The epoch that is running, kept in one place: masks, draws, roundings and mailboxes read it here."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class Clock:
    """The run's seed and the epoch that is running; what is random is a pure function of both.

    A worker has one, shared by all that it runs; `HopSet.begin` sets the epoch.
    """

    seed: int
    epoch: int = 0
