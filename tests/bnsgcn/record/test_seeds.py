"""Lists of seeds, and what their runs say together."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.record.hardware import device_name, hardware
from bnsgcn.record.seeds import entry, over_seeds, seeds_of
from partition.errors import UserError


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("0-9", list(range(10))), ("0,3,7", [0, 3, 7]), ("5", [5]), ("0, 7-9 ,4", [0, 7, 8, 9, 4])],
)
def test_lists_of_seeds(text: str, seeds: list[int]) -> None:
    assert seeds_of(text) == seeds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be seeds such as 0-9 or 0,3,7"),
        ("a", "must be seeds"),
        ("-1", "must be seeds"),
        ("1.5", "must be seeds"),
        ("0..3", "must be seeds"),
        ("0,,3", "must be seeds"),
        ("9-0", "9-0 ends before it begins; write 0-9"),
        ("0-3,2", "seed 2 is there twice"),
        ("0-99999999999999999", "more than 10000 seeds"),
        ("9" * 40, "must be seeds"),
        ("٣", "must be seeds"),
    ],
)
def test_what_is_no_list_of_seeds_is_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        seeds_of(text)
    assert str(caught.value).startswith("--seeds is ")
    assert "\n" not in str(caught.value)


def summary(val: float | None, test: float, seed: int) -> dict[str, object]:
    return {
        "metric": "accuracy",
        "val_score": val,
        "test_score": test,
        "best_epoch": 3,
        "epochs": 10,
        "epoch_s_median": 0.5,
        "peak_rss_bytes": 1e8,
        "parameters": 12345,
        "hardware": "1 x abacus",
        "parts": 2,
        "config": TrainConfig(seed=seed).to_json(),
    }


def test_mean_and_sample_deviation() -> None:
    vals, tests = [0.5, 0.625, 0.75], [0.25, 0.5, 0.875]
    found = over_seeds({seed: summary(vals[seed], tests[seed], seed) for seed in range(3)}, "ring")
    assert found["val_score_mean"] == pytest.approx(np.mean(vals))
    assert found["val_score_std"] == pytest.approx(np.std(vals, ddof=1))
    assert found["test_score_mean"] == pytest.approx(np.mean(tests))
    assert found["test_score_std"] == pytest.approx(np.std(tests, ddof=1))
    assert (found["seeds"], found["name"], "seed" in found["config"]) == ([0, 1, 2], "ring", False)
    assert [run["seed"] for run in found["runs"]] == [0, 1, 2]
    assert entry(found) == [
        f"  Test accuracy        {np.mean(tests):.4f} ± {np.std(tests, ddof=1):.4f} (3 seeds)",
        "  Validation accuracy  0.6250 ± 0.1250 (3 seeds)",
        "  #Params              12,345",
        "  Hardware             1 x abacus",
    ]


def test_one_seed_has_no_deviation_and_no_score_is_no_number() -> None:
    one = over_seeds({4: summary(0.5, 0.25, 4)}, "ring")
    assert math.isnan(one["test_score_std"])
    assert entry(one)[0].endswith("0.2500 (1 seed)")
    two = over_seeds({0: summary(None, 0.25, 0), 1: summary(0.5, 0.25, 1)}, "ring")
    assert math.isnan(two["val_score_mean"])
    assert two["test_score_std"] == 0


def test_hardware_is_one_line() -> None:
    assert hardware(World.single()) == f"1 x {device_name(torch.device('cpu'))}"
    assert device_name(torch.device("cpu")).endswith(" GB)")
