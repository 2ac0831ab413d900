"""A mailbox hands out what is due, once, and says aloud what was posted twice or never."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bnsgcn.exchange.mailbox import Flight, Mailbox
from bnsgcn.pending import Pending


class Slow(Pending):
    """Counts how often it was waited for."""

    def __init__(self) -> None:
        super().__init__(None)
        self.waited = 0

    def wait(self) -> None:
        self.waited += 1


def flight(value: float, pending: Pending | None = None) -> Flight:
    draw: Any = None
    return Flight(draw, torch.full((2, 3), value), pending or Pending(), lambda rows: rows + 1)


def mailbox(*, stale: bool, first_exact: bool = True) -> Mailbox:
    return Mailbox("layer 2 features", stale=stale, first_exact=first_exact)


def test_exact_hands_out_at_once() -> None:
    box = mailbox(stale=False)
    for epoch in range(3):
        box.post(epoch, flight(epoch))
        taken = box.take(epoch)
        assert taken is not None
        assert float(taken.rows()[0, 0]) == epoch + 1
        with pytest.raises(RuntimeError, match="nothing was posted"):
            box.take(epoch)


@pytest.mark.parametrize("first_exact", [True, False])
def test_stale_hands_out_an_epoch_later(first_exact: bool) -> None:
    box, seen = mailbox(stale=True, first_exact=first_exact), []
    for epoch in range(4):
        box.post(epoch, flight(epoch))
        taken = box.take(epoch)
        seen.append(None if taken is None else float(taken.rows()[0, 0]) - 1)
    assert seen == [0 if first_exact else None, 0, 1, 2]


def test_posting_twice_names_lane_and_epoch() -> None:
    box = mailbox(stale=True)
    box.post(4, flight(0))
    with pytest.raises(RuntimeError, match="layer 2 features: posted twice in epoch 4"):
        box.post(4, flight(0))


@pytest.mark.parametrize(
    ("stale", "epoch", "message"),
    [
        (False, 3, "layer 2 features: nothing was posted in epoch 3, collected in epoch 3"),
        (True, 3, "layer 2 features: nothing was posted in epoch 2, collected in epoch 3"),
        (True, 0, "nothing was posted in epoch -1, collected in epoch 0"),
    ],
)
def test_collecting_nothing_names_lane_and_epoch(stale: bool, epoch: int, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        mailbox(stale=stale).take(epoch)


def test_collecting_twice_is_collecting_nothing() -> None:
    box = mailbox(stale=False)
    box.post(0, flight(0))
    box.take(0)
    with pytest.raises(RuntimeError, match="nothing was posted"):
        box.take(0)


def test_a_flight_is_waited_for_once() -> None:
    pending = Slow()
    one = flight(1, pending)
    assert torch.equal(one.rows(), one.rows())
    assert float(one.rows()[0, 0]) == 2  # unpacked once
    assert pending.waited == 1


def test_draining_lands_everything_and_takes_nothing_away() -> None:
    box, pending = mailbox(stale=True), Slow()
    box.post(7, flight(7, pending))
    box.drain()
    assert pending.waited == 1
    taken = box.take(8)
    assert taken is not None
    assert float(taken.rows()[0, 0]) == 8
    assert pending.waited == 1
