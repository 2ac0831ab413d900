"""`--aim time`: the nearest to exact whose transfer hides behind computation.

Exact until waiting for rows takes more than `HIDDEN` of an epoch. Then as many bytes as were seen to hide, in
the setting with the smallest error (allotment.py): fewer bits first, as these cost nearly nothing, then
importance draws. Later looks take fewer bytes where something still waits, and more where nothing does.
Rows of the epoch before have a whole epoch to travel: they are taken where they change so little that this is
nearer to exact than few rows of this epoch.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from bnsgcn.auto.allotment import Market
from bnsgcn.auto.decision import Decision, taken
from bnsgcn.auto.few_bytes import error_limit
from bnsgcn.auto.seen import Seen
from bnsgcn.exchange.settings import Setting

HIDDEN = 0.03
"""Share of an epoch that waiting for rows may take."""
FIRST_LOOKS = (3, 10)
"""Epochs before them; the first epoch warms up."""
LOOK_EVERY = 20
SLOW_S = 1.0
"""Where the rows of an epoch alone take longer, even the first epochs are not exact."""
LEAST_HIDES = 0.1
"""Of the computation: what hides of a transfer, whatever the measured times say."""
ROOM = 0.9
"""Of what hides."""
GROWTH = 1.5
"""Times the bytes, where nothing waits."""
LATE_HIDES = 0.8
"""Of the computation: what hides of rows that have a whole epoch to travel."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hiding:
    """Decides for the time of an epoch; `tolerance` limits the error."""

    tolerance: float

    def first(self, seen: Seen) -> Decision:
        """Before the first epoch, when the link alone is known."""
        assert seen.market is not None
        assert seen.link is not None
        exact = seen.market.of(Setting.whole(seen.layers, seen.parts))
        alone_s = seen.link.transfer_s(*seen.market.pairs(exact.setting))
        memory = {"hides": {"fresh": exact.bytes}, "too_many": {}, "told": False}
        if alone_s <= SLOW_S:
            why = f"exact while it is measured; its rows alone take {alone_s:.3g} s"
            return taken(seen, "measure", why, exact, memory)
        why = f"rows of exact epochs alone take {alone_s:.3g} s, to begin with {SLOW_S:g} s of them"
        return taken(seen, "measure", why, seen.market.within_bytes(exact.bytes * SLOW_S / alone_s), memory)

    def looks(self, epoch: int, first: int) -> bool:
        """Whether `epoch` is the last before a look, in a run that decides since `first`."""
        done = epoch + 1 - first
        return done in FIRST_LOOKS or done % LOOK_EVERY == 0

    def compares(self, epoch: int, first: int, setting: Setting) -> bool:
        """Whether its rows are kept, to see how they change until the next."""
        return self.looks(epoch + 1, first) and self.measures(epoch + 1, first, setting)

    def measures(self, epoch: int, first: int, setting: Setting) -> bool:
        """Whether its rows and sums are measured; as long as nothing has to be saved once will do."""
        return epoch + 1 - first == FIRST_LOOKS[0] or not setting.is_exact

    def decide(self, seen: Seen, memory: Mapping[str, Any]) -> Decision | None:
        """What holds from `seen.epoch` on; None = what did."""
        market, times, link = seen.market, seen.times, seen.link
        assert market is not None
        assert times is not None
        assert link is not None
        now, way = market.of(seen.setting), "late" if seen.setting.pipeline else "fresh"
        alone_s = link.transfer_s(*market.pairs(seen.setting))
        waits = min(times.wait_s, alone_s) / times.epoch_s
        why = f"waiting for rows takes {waits:.1%} of an epoch"
        if waits <= HIDDEN and seen.setting.is_exact:
            kept = {**memory, "told": True}
            return None if memory["told"] else taken(seen, "hold", f"exact: {why}", now, kept)
        hides, too_many = dict(memory["hides"]), dict(memory["too_many"])
        if waits > HIDDEN:
            hides_s = max(alone_s - times.wait_s, LEAST_HIDES * times.compute_s)
            hides[way] = now.bytes * ROOM * min(hides_s / alone_s, 1.0)
            too_many[way] = min(now.bytes, too_many.get(way, now.bytes))
        else:
            hides[way] = min(GROWTH * now.bytes, ROOM * too_many.get(way, math.inf))
            if hides[way] <= now.bytes:
                return None
        hides.setdefault("late", now.bytes * LATE_HIDES * times.compute_s / max(alone_s, 1e-9))
        return self._nearest(seen, market, hides, why, {**memory, "hides": hides, "too_many": too_many})

    def _nearest(
        self, seen: Seen, market: Market, hides: dict[str, float], why: str, memory: Mapping[str, Any]
    ) -> Decision:
        """At most the bytes that hide, but for those that the error limit asks for."""
        fresh, limit = market.within_bytes(hides["fresh"]), error_limit(self.tolerance)
        late = market.late(market.within_bytes(hides["late"]))
        if late is not None and late.error < min(fresh.error, limit):
            why += (
                f"; rows an epoch late are nearer to exact (error {late.error:.2g}, else {fresh.error:.2g})"
            )
            return taken(seen, "hold", why, late, memory)
        if fresh.error > limit:
            why += f"; less would pass the error limit of {limit:.2g}"
            return taken(seen, "hold", why, market.within_error(limit), memory)
        return taken(seen, "hold", f"{why}; the nearest to exact that hides", fresh, memory)
