"""Bytes go where they buy the most: never worse than one rate for all, never above what was asked."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bnsgcn.auto.allotment import Market
from bnsgcn.auto.figures import Figures
from bnsgcn.auto.prices import GRID, Prices
from bnsgcn.exchange.sampling import inclusion_probabilities
from bnsgcn.exchange.settings import Setting

LAYERS, PARTS = (1, 2), 3
WIRES = ("fp32", "bf16", "int8", "int4")


def market(seed: int = 0, gap: float = np.nan) -> Market:
    """Lists of other lengths and weights, rows of other sizes, layers of other widths."""
    rng = np.random.default_rng(seed)
    shape = (len(LAYERS), PARTS, PARTS, len(GRID))
    rows, thinned = np.zeros(shape), np.zeros(shape)
    for place in np.ndindex(shape[:3]):
        if place[1] != place[2]:
            weight = rng.lognormal(0, 1.5, rng.integers(20, 200))
            for column, rate in enumerate(GRID):
                probability = inclusion_probabilities(weight, float(rate))
                rows[place][column] = probability.sum()
                thinned[place][column] = (weight**2 / probability).sum()
    figures = Figures(
        row_squares=rng.uniform(0.1, 4.0, shape[:3]),
        levels=np.array([4e4, 1e4]),
        wires=WIRES,
        rounding=np.array([[0, 3e-6, 5e-5, 0.02], [0, 3e-6, 5e-5, 0.02]]),
        row_bytes=np.array([[256.0, 128, 72, 40], [80, 40, 28, 18]]),
        gaps=np.full(2, gap),
    )
    return Market(Prices(LAYERS, rows, thinned, thinned[..., -1]), figures)


def uniform(rate: float, wire: str) -> Setting:
    whole = Setting.whole(LAYERS, PARTS, wire)  # type: ignore[arg-type]
    return Setting(layers=LAYERS, rates=whole.rates * rate, wires=whole.wires)


@pytest.mark.parametrize("seed", range(3))
def test_no_rate_for_all_has_a_smaller_error_at_its_bytes(seed: int) -> None:
    offered, gained = market(seed), []
    for rate, wire in itertools.product(GRID[4:-1:3], WIRES):
        fixed = offered.of(uniform(float(rate), wire))
        if fixed.bytes < offered.within_bytes(0.0).bytes:
            continue  # so few are refused
        chosen = offered.within_bytes(fixed.bytes)
        assert chosen.bytes <= fixed.bytes
        assert chosen.error <= fixed.error
        gained.append(fixed.error / chosen.error)
    assert max(gained) > 2


def test_the_whole_exchange_is_exact_and_whoever_can_pay_gets_it() -> None:
    offered = market()
    whole = offered.of(Setting.whole(LAYERS, PARTS))
    assert whole.error == 0
    assert whole.setting.is_exact
    assert offered.within_bytes(whole.bytes).setting.is_exact
    rounded = offered.within_bytes(0.5 * whole.bytes)
    assert (rounded.setting.rates == 1).all()
    assert set(rounded.setting.wires) <= {"bf16", "int8"}
    assert not offered.within_bytes(0.2 * whole.bytes).setting.is_exact


def test_an_error_is_had_for_the_fewest_bytes() -> None:
    offered = market()
    found = [offered.within_error(limit) for limit in (0.01, 0.1, 0.3)]
    for allotment, limit in zip(found, (0.01, 0.1, 0.3), strict=True):
        assert 0.5 * limit < allotment.error <= limit
        assert offered.within_bytes(allotment.bytes).error <= allotment.error
    assert [each.bytes for each in found] == sorted((each.bytes for each in found), reverse=True)


def test_rates_that_are_worse_than_nothing_are_refused() -> None:
    """However few bytes are asked for: below them the draws' error is larger than the sum of the list."""
    offered = market()
    thinnest = offered.within_bytes(0.0)
    useful = offered._prices.useful
    place = np.searchsorted(GRID, thinnest.setting.rates)
    assert np.take_along_axis(useful, place[..., None], -1).all()
    assert not useful[..., 0].all()
    assert thinnest.bytes > 0


def test_bytes_by_pair_are_those_of_the_epoch() -> None:
    offered = market()
    for setting in (Setting.whole(LAYERS, PARTS), offered.within_error(0.2).setting):
        pairs, messages = offered.pairs(setting)
        assert pairs.sum() == pytest.approx(offered.of(setting).bytes)
        assert not pairs.diagonal().any()
        assert messages == 2 * len(LAYERS)
