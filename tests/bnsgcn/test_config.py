"""A wrong option dies before any process exists, and says which, with both numbers and the way out."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from bnsgcn.config import TrainConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 0}, "--layers is 0, must be at least 1"),
        ({"hidden": 0}, "--hidden is 0, must be at least 1"),
        ({"dropout": 1.0}, r"--dropout is 1\.0, must be in \[0, 1\)"),
        ({"dropout": -0.1}, r"--dropout is -0\.1"),
        ({"linear_layers": 3}, "--linear-layers 3 of --layers 3: .*use at most 2"),
        (
            {"model": "gat", "hidden": 10, "heads": 4},
            "--hidden 10 is not a multiple of --heads 4; use --hidden 12",
        ),
        ({"model": "gat", "precompute": True}, "--precompute needs a fixed aggregation"),
        ({"lr": 0.0}, r"--lr is 0\.0, must be above 0; try 0\.01"),
        ({"lr": float("nan")}, "--lr is nan"),
        ({"weight_decay": -1.0}, r"--weight-decay is -1\.0"),
        ({"epochs": -1}, "--epochs is -1"),
        ({"eval_every": -1}, "--eval-every is -1"),
        ({"checkpoint_every": -2}, "--checkpoint-every is -2"),
        ({"timeout_s": 0.0}, r"--timeout-s is 0\.0, must be above 0; try 600"),
        ({"sampling_rate": 1.5}, r"--sampling-rate is 1\.5, must be in \[0, 1\]"),
        ({"sampling_rate": float("nan")}, "--sampling-rate is nan"),
        ({"smooth_decay": 1.0}, r"--smooth-decay is 1\.0, must be in \[0, 1\)"),
        ({"device": "cpu", "backend": "nccl"}, "--backend nccl needs --device cuda; use --backend gloo"),
        ({"halo_cache": True}, r"--halo-cache .*--sampling-rate 1\.0"),
    ],
)
def test_a_wrong_value_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as failure:
        TrainConfig(**options)
    assert "\n" not in str(failure.value)


def test_a_config_survives_json() -> None:
    config = TrainConfig(model="gat", sampling_rate=0.25, gradient_wire_dtype="int8", pipeline=True)
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(ValueError, match="unknown option 'sampling_rat'"):
        TrainConfig.from_json({"sampling_rat": 0.5})


def test_every_field_is_documented_and_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().lr = 1.0  # type: ignore[misc]
