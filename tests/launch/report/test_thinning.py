"""Thinned lines: as many points as there are pixels, and every peak."""

from __future__ import annotations

import numpy as np

from launch.report.thinning import binned, thinned


def test_short_lines_stay_and_unknown_values_go() -> None:
    x, y = thinned(np.arange(5.0), np.array([1, np.nan, 3, np.inf, 5]), 100)
    assert x.tolist() == [0, 2, 4]
    assert y.tolist() == [1, 3, 5]
    assert thinned(np.zeros(0), np.zeros(0), 100)[0].size == 0


def test_every_peak_stays_and_the_points_are_few() -> None:
    y = np.sin(np.arange(30_000) / 500)
    y[[7, 12_345, 29_998]] = 9, -9, 8
    x, thin = thinned(np.arange(30_000.0), y, 100)
    assert x.size <= 400
    assert {9, -9, 8} <= set(thin.tolist())
    assert (np.diff(x) > 0).all()
    assert (x[0], x[-1]) == (0, 29_999)
    dropped = y[:: 30_000 // 400]
    assert not {9, -9, 8} <= set(dropped.tolist()), "points at even distances would do as well"


def test_on_every_pixel_the_extent_is_that_of_all_points() -> None:
    rng, columns = np.random.default_rng(0), 50
    x, y = np.cumsum(rng.random(20_000)), rng.standard_normal(20_000)
    tx, ty = thinned(x, y, columns)
    place = lambda a: np.minimum((a - x[0]) / (x[-1] - x[0]) * columns, columns - 1).astype(int)  # noqa: E731
    for column in range(columns):
        whole, thin = y[place(x) == column], ty[place(tx) == column]
        assert (whole.min(), whole.max()) == (thin.min(), thin.max())


def test_bins_hold_all_epochs_once() -> None:
    edges, (rows,) = binned(np.arange(1.0, 11), [np.arange(10.0)], 4, reduce=np.sum)
    assert edges.tolist() == [1, 3, 6, 9, 11]
    assert rows.sum() == 45
    edges, (rows,) = binned(np.array([1.0]), [np.array([3.0])], 4)
    assert (edges.tolist(), rows.tolist()) == ([1, 2], [3])
