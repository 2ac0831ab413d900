"""`--aim bytes`, and a budget of bytes: coarse while the weights move, fine at the end.

Falling compression reaches the full solution whatever the cut (VARCO, Cerviño et al., 2024): the error of
early epochs is forgotten, that of the last ones is in the weights. So most epochs are as coarse as the error
limit lets them be, and the last share is as good as exact. Where the score stalls earlier, a trial of
fine epochs tells whether the error holds it back: if they bring more than the tolerance, the limit is halved.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from bnsgcn.auto.allotment import Market
from bnsgcn.auto.decision import Decision, Stage, taken
from bnsgcn.auto.seen import Seen
from bnsgcn.config import WireDtype
from bnsgcn.exchange.settings import Setting

FINE_SHARE = 0.15
"""Of the epochs, at the end."""
FINE_ERROR = 0.05
"""Of the error that the coarse ones are allowed to begin with."""
FIRST_WIRE: WireDtype = "int4"
"""Of the first epoch, in which every row travels."""
ERROR_AT_A_POINT = 0.3
"""The error of the aggregates, over all layers, that costs about a point while weights move; it costs as its
square."""
LOOK_EVERY = 10
STALLED_LOOKS = 2
ROOM = 0.98
"""Of a budget; draws are not exactly as large as is expected."""
MOST_OF_BUDGET = 0.6
"""That the fine epochs may take of a budget."""


def error_limit(tolerance: float) -> float:
    """The error that is allowed to begin with."""
    return float(ERROR_AT_A_POINT * tolerance**0.5)


@dataclasses.dataclass(frozen=True)
class FewBytes:
    """Decides for as few bytes as `tolerance` points allow; with a `budget`, for at most so many an epoch."""

    tolerance: float
    epochs: int
    budget: float = 0.0

    @property
    def fine_from(self) -> int:
        """The first of the fine epochs at the end."""
        return self.epochs - max(1, round(FINE_SHARE * self.epochs))

    def first(self, seen: Seen) -> Decision:
        """Before the first epoch, when nothing was measured."""
        return Decision(
            epoch=seen.epoch,
            stage="measure",
            reason=f"every row as {FIRST_WIRE} while rows and sums are measured",
            setting=Setting.whole(seen.layers, seen.parts, FIRST_WIRE),
            memory={
                "limit": error_limit(self.tolerance),
                "best": None,
                "evaluations": 0,
                "stalled": 0,
                "trial": False,
            },
        )

    def looks(self, epoch: int, first: int) -> bool:
        """Whether `epoch` is the last before a look, in a run that decides since `first`."""
        if epoch >= self.fine_from:
            return False
        return epoch in (first, self.fine_from - 1) or epoch % LOOK_EVERY == LOOK_EVERY - 1

    def measures(self, epoch: int, first: int, setting: Setting) -> bool:
        """Whether its rows and sums are measured: before every look."""
        return self.looks(epoch, first)

    def compares(self, epoch: int, first: int, setting: Setting) -> bool:
        """Whether its rows are kept: staleness saves no bytes."""
        return False

    def decide(self, seen: Seen, memory: Mapping[str, Any]) -> Decision | None:
        """What holds from `seen.epoch` on; None = what did."""
        assert seen.market is not None
        if self.budget:
            return self._in_budget(seen, seen.market, memory)
        if seen.epoch >= self.fine_from:
            return self._fine(seen, seen.market, "fine", "the last epochs are fine", memory)
        return self._coarse_or_trial(seen, seen.market, memory)

    def _coarse_or_trial(self, seen: Seen, market: Market, memory: Mapping[str, Any]) -> Decision | None:
        if memory["trial"] and seen.evaluations == memory["evaluations"]:
            return None  # nothing was scored in it yet
        before = memory["best"]
        better = before is None or (seen.best is not None and seen.best > before + self.tolerance / 100)
        stalled, limit = memory["stalled"], memory["limit"]
        if seen.evaluations > memory["evaluations"]:
            stalled = 0 if better else stalled + 1
        kept = {"best": seen.best if better else before, "evaluations": seen.evaluations}
        if memory["trial"] and better:
            limit, stalled = limit / 2, 0
            why = f"fine epochs brought more than {self.tolerance:g} points, so half the error: {limit:.3g}"
        elif stalled == STALLED_LOOKS and not memory["trial"]:
            why = f"the score stays at {seen.best:.4f}: a trial whether fine epochs bring more"
            return self._fine(
                seen, market, "trial", why, kept | {"limit": limit, "stalled": stalled, "trial": True}
            )
        else:
            why = f"the fewest bytes at an error of {limit:.3g}"
        if memory["trial"] and not better:
            stalled = STALLED_LOOKS + 1  # once is enough, until the score rises again
        kept |= {"limit": limit, "stalled": stalled, "trial": False}
        return taken(seen, "coarse", why, market.within_error(limit), kept)

    def _fine(
        self, seen: Seen, market: Market, stage: Stage, why: str, memory: Mapping[str, Any]
    ) -> Decision:
        limit = FINE_ERROR * error_limit(self.tolerance)
        return taken(seen, stage, f"{why}, an error of {limit:.3g}", market.within_error(limit), memory)

    def _in_budget(self, seen: Seen, market: Market, memory: Mapping[str, Any]) -> Decision:
        """What is left of the budget, shared out between the epochs until the fine ones and those."""
        left = ROOM * self.budget * self.epochs - seen.sent_bytes
        fine_epochs = self.epochs - self.fine_from
        if seen.epoch >= self.fine_from:
            found = market.within_bytes(left / (self.epochs - seen.epoch))
            return taken(seen, "fine", "what is left of --max-bytes, in the last epochs", found, memory)
        whole = market.of(Setting.whole(seen.layers, seen.parts, FIRST_WIRE)).bytes
        fine = max(left / (self.epochs - seen.epoch), min(whole, MOST_OF_BUDGET * left / fine_epochs))
        found = market.within_bytes((left - fine * fine_epochs) / (self.fine_from - seen.epoch))
        why = f"the smallest error, with {fine:.3g} bytes an epoch kept for the last {fine_epochs}"
        return taken(seen, "coarse", why, found, memory)
