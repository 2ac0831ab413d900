"""What a decision looks at: the same on every rank."""

from __future__ import annotations

import dataclasses

from bnsgcn.auto.allotment import Market
from bnsgcn.auto.link_speed import LinkSpeed
from bnsgcn.exchange.settings import Setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Times:
    """Of the epochs since the last decision, medians.

    epoch_s, compute_s: of the slowest rank.   wait_s: of the rank that waits least: what others wait for its
    work, and not for rows, is not in it.
    """

    epoch_s: float
    compute_s: float
    wait_s: float


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What is known before an epoch.

    epoch: the one that is next.   setting: what holds.   market: what can be had, None where it was not
    measured.   sent_bytes: of all ranks so far.   best: the best validation score of
    the `evaluations` so far, None before there are any.
    """

    epoch: int
    setting: Setting
    market: Market | None = None
    times: Times | None = None
    link: LinkSpeed | None = None
    sent_bytes: float = 0.0
    best: float | None = None
    evaluations: int = 0

    @property
    def layers(self) -> tuple[int, ...]:
        """Those that exchange."""
        return self.setting.layers

    @property
    def parts(self) -> int:
        """Parts, and so ranks."""
        return int(self.setting.rates.shape[-1])

    @property
    def measured(self) -> dict[str, float]:
        """Figures that a person may want to see beside a decision."""
        found = {} if self.times is None else dataclasses.asdict(self.times)
        if self.link is not None:
            found |= self.link.figures()
        return found | {"sent_bytes": self.sent_bytes}
