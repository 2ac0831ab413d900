"""An epoch played: what hides, what waits, who shares cores and links."""

from __future__ import annotations

import pytest

from bnsgcn.plan.timeline import EpochStep, Network, play

LINK = Network(bytes_per_s=100.0, latency_s=0.0, reduce_s=0.0)


def compute(seconds: float) -> EpochStep:
    return EpochStep(kind="compute", seconds=seconds)


def exchange(rank: int, nbytes: int, behind: float, *, workers: int = 2, age: int = 0) -> list[EpochStep]:
    """Rows to every other worker, `behind` seconds of computing, and the wait for theirs."""
    sent = tuple(0 if peer == rank else nbytes for peer in range(workers))
    return [
        EpochStep(kind="post", lane="x", sent=sent),
        compute(behind),
        EpochStep(kind="wait", lane="x", age=age),
    ]


def epoch_s(steps: list[list[EpochStep]], network: Network = LINK, at_once: float = float("inf")) -> float:
    return play(steps, network, at_once).epoch_s


def test_rows_hide_behind_what_is_computed_while_they_fly() -> None:
    def lasting(behind: float) -> float:
        return epoch_s([[compute(1), *exchange(rank, 200, behind), compute(1)] for rank in range(2)])

    assert lasting(3) == pytest.approx(5)
    assert lasting(0.5) == pytest.approx(4)  # 1, 2 of transfer, 1


def test_a_wait_lasts_until_the_slower_worker_has_posted() -> None:
    steps = [[compute(1 + rank), *exchange(rank, 100, 0), compute(1)] for rank in range(2)]
    played = play(steps, LINK)
    assert played.epoch_s == pytest.approx(4)
    assert played.computing_s == pytest.approx((2, 3))
    assert played.waiting_s == pytest.approx((2, 1))


def test_a_pipeline_waits_for_the_link_alone() -> None:
    def lasting(nbytes: int) -> float:
        return epoch_s([[*exchange(rank, nbytes, 3, age=1), compute(1)] for rank in range(2)])

    assert lasting(100) == pytest.approx(4)
    assert lasting(1000) == pytest.approx(10)


def test_messages_of_one_worker_share_its_link_and_workers_share_cores() -> None:
    steps = [[*exchange(rank, 100, 0, workers=4)] for rank in range(4)]
    assert epoch_s(steps) == pytest.approx(3)
    alone = [[compute(1)] for _ in range(4)]
    assert epoch_s(alone) == pytest.approx(1)
    assert epoch_s(alone, at_once=2) == pytest.approx(2)
    uneven = [[compute(1)], [compute(1)], [compute(3)]]
    assert epoch_s(uneven, at_once=2) == pytest.approx(3.5)  # two of three until 1.5, then one alone


def test_delays_and_the_reduction_are_added_and_factors_tell_kinds_of_work_apart() -> None:
    slow = Network(bytes_per_s=100.0, latency_s=0.5, reduce_s=0.25)
    assert epoch_s([exchange(rank, 100, 0) for rank in range(2)], slow) == pytest.approx(1.75)
    step = EpochStep(kind="compute", seconds=1.0, extra_s=10.0, transport_s=100.0)
    assert play([[step]], LINK, factors=(2.0, 3.0)).epoch_s == pytest.approx(132)


def test_workers_that_wait_for_each_other_for_ever_are_a_mistake_of_ours() -> None:
    stuck = [[EpochStep(kind="wait", lane="x")], [compute(1)]]
    assert epoch_s(stuck) == pytest.approx(1)  # nobody posts in this lane: nothing to wait for
    never = [
        [EpochStep(kind="wait", lane="x"), *exchange(0, 1, 0)],
        [EpochStep(kind="wait", lane="x"), *exchange(1, 1, 0)],
    ]
    with pytest.raises(AssertionError, match="waits for another"):
        epoch_s(never)
