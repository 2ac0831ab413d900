"""Runs the policy that chooses itself: measures on all ranks, lets rank 0 decide, and tells lanes and draws.

Decisions are functions of figures that are the same on every rank; that rank 0's is taken keeps machines
together that round differently. What was decided once, in this run or in one that is replayed, holds again
without being measured: `known`.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from bnsgcn.auto.allotment import Market
from bnsgcn.auto.decision import Decision
from bnsgcn.auto.few_bytes import FewBytes
from bnsgcn.auto.figures import reduced, unmeasured
from bnsgcn.auto.hiding import Hiding
from bnsgcn.auto.link_speed import LinkSpeed, measure_link
from bnsgcn.auto.prices import list_prices
from bnsgcn.auto.recorded_decisions import KEY
from bnsgcn.auto.seen import Seen, Times
from bnsgcn.config import TrainConfig, WireDtype
from bnsgcn.dist import World
from bnsgcn.exchange.lane import Lane
from bnsgcn.exchange.set_draws import SetDraws
from bnsgcn.exchange.settings import Settings
from bnsgcn.exchange.wire import Wire


class Controller:
    """Chooses the setting of every epoch of one run. Collective, but for what is said otherwise."""

    def __init__(
        self,
        world: World,
        config: TrainConfig,
        lanes: Mapping[int, Lane],
        draws: SetDraws,
        settings: Settings,
        wires: Mapping[WireDtype, Wire],
    ) -> None:
        """`lanes`: of the layers that exchange, by their number.   `wires`: what there is to choose from."""
        self._world, self._lanes, self._settings, self._wires = world, lanes, settings, wires
        self._eval_every = config.eval_every
        self._width, self._number = config.hidden, config.row_number_bytes
        self._prices = list_prices(world, draws)
        self._way: FewBytes | Hiding = Hiding(tolerance=config.tolerance)
        if config.saves_bytes:
            self._way = FewBytes(config.tolerance, config.epochs, config.max_bytes)
        self._link: LinkSpeed | None = None
        self._made: list[Decision] = []
        self._known: dict[int, Decision] = {}
        self._known_until = -1.0
        self._told = 0
        self._sent = 0.0
        self._epochs: list[Mapping[str, float]] = []
        self._looking = self._measuring = False
        self._market: Market | None = None

    def follow(self, decisions: Sequence[Decision], until: float) -> None:
        """Let what was decided before hold again; nothing is decided anew in epochs up to `until`."""
        self._known, self._known_until = {each.epoch: each for each in decisions}, until

    def begin(self, epoch: int) -> None:
        """Before an epoch: measure in it where that is due, and decide on the very first one."""
        if not self._made:
            known = self._known.get(epoch)
            self._take(known or self._together(self._way.first(self._unseen(epoch))))
        first, setting = self._made[0].epoch, self._settings.of(epoch)
        self._looking = epoch > self._known_until and self._way.looks(epoch, first)
        self._measuring = self._looking and self._way.measures(epoch, first, setting)
        comparing = epoch >= self._known_until and self._way.compares(epoch, first, setting)
        for lane in self._lanes.values():
            if self._measuring:
                lane.gauge()
            if comparing:
                lane.remember()

    def end(self, epoch: int, own: Mapping[str, float], best: float | None) -> None:
        """After an epoch: decide on the next where that is due.

        Args:
            own: what this rank measured.
            best: the best validation score of the evaluations so far.
        """
        self._sent += own["comm/sent_bytes"]
        self._epochs.append(own)
        if epoch + 1 in self._known:
            self._take(self._known[epoch + 1])
        elif self._looking:
            seen = self._seen(epoch + 1, best)
            self._take(self._together(self._way.decide(seen, self._made[-1].memory)))

    def told(self) -> dict[str, Any]:
        """What was decided since this was asked the last time, ready for JSON; on this rank alone."""
        new, self._told = self._made[self._told :], len(self._made)
        return {KEY: [decision.to_json() for decision in new]} if new else {}

    def _take(self, decision: Decision | None) -> None:
        self._epochs = []
        if decision is not None:
            self._settings.put(decision.epoch, decision.setting)
            self._made.append(decision)

    def _together(self, decision: Decision | None) -> Decision | None:
        """Rank 0's."""
        mine = None if decision is None else decision.to_json()
        texts = self._world.all_gather_text(json.dumps(mine) if self._world.rank == 0 else "")
        found = json.loads(texts[0])
        return None if found is None else Decision.from_json(found, self._world.size)

    # ---- what is measured ----

    def _unseen(self, epoch: int) -> Seen:
        """Before the first epoch, when the link alone is known."""
        setting = self._settings.of(epoch)
        return Seen(epoch=epoch, setting=setting, market=self._guessed(), link=self._measured_link())

    def _measured_link(self) -> LinkSpeed | None:
        """Measured once, where anybody wants to know."""
        if self._link is None and isinstance(self._way, Hiding):
            most = float(self._prices.rows.max()) * self._width * self._number
            self._link = measure_link(self._world, most)
        return self._link

    def _guessed(self) -> Market:
        """Where nothing was measured yet: rows are as wide as hidden layers, and alike."""
        like = torch.empty(0, dtype={2: torch.bfloat16, 4: torch.float32, 8: torch.float64}[self._number])
        rooms = {dtype: wire.room(1, self._width, like) for dtype, wire in self._wires.items()}
        row_bytes = {dtype: room.element_size() * room.numel() for dtype, room in rooms.items()}
        return Market(self._prices, unmeasured(self._prices.weight.shape, row_bytes))

    def _seen(self, epoch: int, best: float | None) -> Seen:
        if self._measuring:
            figures = reduced(self._world, [lane.gauged() for lane in self._lanes.values()])
            self._market = Market(self._prices, figures)
        sent = torch.tensor([self._sent], dtype=torch.float64, device=self._world.device)
        return Seen(
            epoch=epoch,
            setting=self._settings.of(epoch),
            market=self._market or self._guessed(),
            times=self._times(),
            link=self._measured_link(),
            sent_bytes=float(self._world.all_reduce(sent)),
            best=best,
            evaluations=(epoch - 1) // self._eval_every if self._eval_every else 0,
        )

    def _times(self) -> Times:
        """Of the epochs since the last look; the first of them may have warmed up."""
        epochs = self._epochs[1:] or self._epochs
        names = ("time/epoch_s", "time/compute_s", "time/halo_wait_s")
        mine = [statistics.median(epoch[name] for epoch in epochs) for name in names]
        values = torch.tensor(mine, dtype=torch.float64, device=self._world.device)
        ranks = self._world.all_gather(values).cpu()
        return Times(
            epoch_s=float(ranks[:, 0].max()),
            compute_s=float(ranks[:, 1].max()),
            wait_s=float(ranks[:, 2].min()),
        )

    # ---- checkpoints ----

    def state(self) -> dict[str, Any]:
        """All that later decisions depend on, the same on every rank."""
        sent = torch.tensor([self._sent], dtype=torch.float64, device=self._world.device)
        return {
            "decisions": json.dumps([decision.to_json() for decision in self._made]),
            "link": None if self._link is None else json.dumps(self._link.to_json()),
            "sent": float(self._world.all_reduce(sent)),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`; on this rank alone."""
        for values in json.loads(state["decisions"]):
            self._take(Decision.from_json(values, self._world.size))
        self._told = len(self._made)
        self._link = None if state["link"] is None else LinkSpeed.from_json(json.loads(state["link"]))
        self._sent = state["sent"] if self._world.rank == 0 else 0.0
