"""What is decided follows from what was seen: made-up links and times, one decision after the other."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from bnsgcn.auto.allotment import Market
from bnsgcn.auto.decision import Decision
from bnsgcn.auto.few_bytes import FewBytes, error_limit
from bnsgcn.auto.hiding import HIDDEN, Hiding
from bnsgcn.auto.link_speed import LinkSpeed
from bnsgcn.auto.seen import Seen, Times
from bnsgcn.exchange.settings import Setting
from tests.bnsgcn.auto.test_allotment import LAYERS, PARTS, market

COMPUTE_S = 0.1
OFFERED = market()
EXACT = OFFERED.of(Setting.whole(LAYERS, PARTS))


def link(alone_s: float) -> LinkSpeed:
    """One on which an exact epoch's rows alone take so long."""
    speed = LinkSpeed(latency_s=np.zeros((PARTS, PARTS)), bytes_per_s=np.ones((PARTS, PARTS)))
    rate = speed.transfer_s(*OFFERED.pairs(EXACT.setting)) / alone_s
    return dataclasses.replace(speed, bytes_per_s=np.full((PARTS, PARTS), rate))


def epochs_on(
    speed: LinkSpeed,
    looks: int,
    imbalance_s: float = 0.0,
    tolerance: float = 0.3,
    offered: Market = OFFERED,
) -> list[tuple[Decision, float]]:
    """Decisions where half of the computation hides transfers, all of it late ones, and the waiting share."""
    way, seen = Hiding(tolerance=tolerance), Seen(epoch=0, setting=EXACT.setting, market=offered, link=speed)
    decision, found = way.first(seen), []
    for look in range(1, looks + 1):
        alone_s = speed.transfer_s(*OFFERED.pairs(decision.setting))
        hides_s = COMPUTE_S * (1.0 if decision.setting.pipeline else 0.5)
        wait_s = max(0.0, alone_s - hides_s) + imbalance_s
        found.append((decision, min(wait_s, alone_s) / (COMPUTE_S + wait_s)))
        times = Times(epoch_s=COMPUTE_S + wait_s, compute_s=COMPUTE_S, wait_s=wait_s)
        now = dataclasses.replace(seen, epoch=10 * look, setting=decision.setting, times=times)
        decision = way.decide(now, decision.memory) or decision
    return found


def test_where_transfers_hide_exchange_stays_exact() -> None:
    for imbalance_s in (0.0, 0.5):  # waiting for another's work is no reason
        found = epochs_on(link(0.002), 5, imbalance_s)
        assert all(decision.setting.is_exact for decision, _ in found)
        assert "exact: waiting for rows takes" in found[-1][0].reason


@pytest.mark.parametrize("alone_s", [0.1, 0.5, 1.5])
def test_on_a_slow_link_the_nearest_to_exact_that_hides_is_found(alone_s: float) -> None:
    found = epochs_on(link(alone_s), 8, tolerance=30.0)
    last, waits = found[-1]
    assert waits <= HIDDEN
    assert not last.setting.is_exact
    assert last.expected_bytes is not None
    hides = EXACT.bytes * COMPUTE_S / 2 / alone_s
    assert 0.4 * hides < last.expected_bytes < 1.2 * hides
    if alone_s == 0.1:  # half as many bytes are had by rounding alone
        assert (last.setting.rates == 1).all()
    assert found[0][0].setting.is_exact == (alone_s < 1)


@pytest.mark.parametrize("gap", [1e-4, 0.5])
def test_rows_an_epoch_late_are_taken_where_they_change_little(gap: float) -> None:
    found = epochs_on(link(0.5), 8, tolerance=3.0, offered=market(gap=gap))
    last, waits = found[-1]
    assert last.setting.pipeline == (gap < 0.1)
    assert ("an epoch late" in last.reason) == last.setting.pipeline or "waiting" in last.reason
    assert waits <= HIDDEN
    if last.setting.pipeline:
        fresh = epochs_on(link(0.5), 8, tolerance=3.0)[-1][0]
        assert fresh.expected_error is not None
        assert last.expected_error is not None
        assert last.expected_error < fresh.expected_error


def test_the_error_limit_is_not_passed_for_the_time() -> None:
    last = epochs_on(link(1000.0), 8)[-1][0]
    assert last.expected_error is not None
    assert last.expected_error <= error_limit(0.3)
    assert "pass the error limit" in last.reason


def decided(way: FewBytes, scores: list[float | None]) -> list[Decision]:
    """A decision for every look, after which the best validation score is so high."""
    seen = Seen(epoch=0, setting=EXACT.setting)
    made, looks = [way.first(seen)], [epoch for epoch in range(way.epochs) if way.looks(epoch, 0)]
    sent, since = 0.0, 0
    for look, best in zip(looks, scores, strict=False):
        sent += (look + 1 - since) * (made[-1].expected_bytes or OFFERED.of(made[-1].setting).bytes)
        since = look + 1
        told: dict[str, Any] = {"best": best, "evaluations": look // 5, "sent_bytes": sent}
        next_one = dataclasses.replace(seen, epoch=look + 1, market=OFFERED, setting=made[-1].setting, **told)
        decision = way.decide(next_one, made[-1].memory)
        assert decision is not None
        made.append(decision)
    return made


def test_coarse_while_scores_rise_and_fine_in_the_end() -> None:
    way = FewBytes(0.3, 40)
    made = decided(way, [None, 0.6, 0.7, 0.8, 0.9])
    assert [each.stage for each in made] == ["measure", "coarse", "coarse", "coarse", "coarse", "fine"]
    assert made[-1].epoch == way.fine_from == 34
    assert made[-1].expected_error is not None
    assert made[-1].expected_error <= 0.05 * error_limit(0.3)
    for each in made[1:-1]:
        assert each.expected_error is not None
        assert each.expected_error <= error_limit(0.3)
        assert (each.expected_bytes or 0) < 0.5 * EXACT.bytes


@pytest.mark.parametrize("helps", [True, False])
def test_where_scores_stall_a_trial_tells_whether_it_is_the_error(helps: bool) -> None:
    made = decided(FewBytes(0.3, 200), [None, 0.5, 0.5, 0.5, 0.8 if helps else 0.501, 0.82, 0.84])
    assert [each.stage for each in made][3:6] == ["coarse", "trial", "coarse"]
    limits = [each.memory["limit"] for each in made[4:6]]
    assert limits[1] == pytest.approx(limits[0] / (2 if helps else 1))
    assert ("brought more" in made[5].reason) == helps


@pytest.mark.parametrize("share", [0.05, 0.15, 0.4, 1.0])
def test_a_budget_is_kept_and_used(share: float) -> None:
    way = FewBytes(0.3, 100, share * EXACT.bytes)
    made = decided(way, [None] * 20)
    ends = [*(each.epoch for each in made[1:]), 100]
    whole = OFFERED.of(made[0].setting).bytes
    sent = sum(
        (each.expected_bytes or whole) * (end - each.epoch) for each, end in zip(made, ends, strict=True)
    )
    thinnest = OFFERED.within_bytes(0.0).bytes
    assert sent <= 1.1 * max(way.budget, thinnest) * 100
    if share > 0.1:
        assert sent > 0.6 * min(share, 0.9) * EXACT.bytes * 100
