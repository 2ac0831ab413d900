"""A wrong option dies before any process exists, and says which, with both numbers and the way out."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from bnsgcn.config import TrainConfig
from partition.errors import UserError


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
        ({"optimizer": "sgd"}, "--optimizer has no choice 'sgd'; it has adam, adamw"),
        ({"lr_schedule": "cosin"}, r"--lr-schedule has no choice 'cosin'; did you mean 'cosine'\?"),
        ({"lr_patience": 0}, "--lr-patience is 0, must be at least 1"),
        ({"clip_norm": -1.0}, r"--clip-norm is -1\.0, must be at least 0"),
        ({"ema": 1.0}, r"--ema is 1\.0, must be in \[0, 1\)"),
        ({"label_smoothing": 1.0}, r"--label-smoothing is 1\.0, must be in \[0, 1\)"),
        (
            {"warmup": 300},
            "--warmup 300 leaves none of --epochs 200 at the full rate; use at most 199",
        ),
        ({"input_dropout": 1}, r"--input-dropout is 1\.0, must be in \[0, 1\)"),
        (
            {"jumping_knowledge": "cat"},
            "--jumping-knowledge cat is read by a linear layer, .* use --linear-layers 1 with --layers 4",
        ),
        ({"input_linear": True, "precompute": True}, "--input-linear learns it; leave one out"),
        ({"activation": "rely"}, "--activation has no choice 'rely'; did you mean 'relu'"),
        ({"warmup": 200}, "--warmup 200 leaves none of --epochs 200"),
        (
            {"lr_schedule": "plateau", "eval_every": 0},
            "--lr-schedule plateau waits for evaluations, --eval-every is 0",
        ),
        (
            {"lr_schedule": "plateau", "patience": 5},
            "--patience 5 ends the run before --lr-patience 5 lowers the rate; use --patience 6 or more",
        ),
        ({"epochs": -1}, "--epochs is -1"),
        ({"eval_every": -1}, "--eval-every is -1"),
        ({"checkpoint_every": -2}, "--checkpoint-every is -2"),
        ({"timeout_s": 0.0}, r"--timeout-s is 0, must be in \[0\.001, 31536000\], a year; try 600"),
        ({"timeout_s": 1e300}, r"--timeout-s is 1e\+300, must be in"),
        ({"timeout_s": math.inf}, "--timeout-s is inf, must be finite"),
        ({"lr": math.inf}, "--lr is inf, must be finite"),
        ({"lr": 10**400}, "--lr is inf, must be finite"),
        ({"weight_decay": math.inf}, "--weight-decay is inf, must be finite"),
        ({"dropout": math.nan}, "--dropout is nan, must be finite"),
        ({"smooth_window": math.nan}, "--smooth-window is nan, must be finite"),
        ({"seed": -1}, "--seed is -1, must be at least 0"),
        ({"seed": 2**63}, r"--seed is 9223372036854775808, must be below 2\*\*63 \(9223372036854775808\)"),
        ({"seed": 10**9000}, r"--seed is a number of 29898 bits, must be below 2\*\*63"),
        ({"model": "frob"}, "--model has no choice 'frob'; it has gat, gcn, sage"),
        ({"model": "saga"}, r"--model has no choice 'saga'; did you mean 'sage'\?"),
        ({"model": None}, "--model has no choice None"),
        ({"model": ["gcn"]}, r"--model has no choice \['gcn'\]"),
        ({"gradient_wire_dtype": "in8"}, r"--gradient-wire-dtype has no choice 'in8'; did you mean 'int8'\?"),
        ({"model": "\x1b[2J"}, r"--model has no choice '\\x1b\[2J'"),
        ({"layers": True}, "--layers is True, must be a whole number"),
        ({"layers": 3.0}, r"--layers is 3\.0, must be a whole number"),
        ({"layers": "3"}, "--layers is '3', must be a whole number"),
        ({"epochs": None}, "--epochs is None, must be a whole number"),
        ({"lr": "0.1"}, r"--lr is '0\.1', must be a number"),
        ({"lr": True}, "--lr is True, must be a number"),
        ({"resume": 1}, "--resume is 1, must be True or False"),
        ({"sampling_rate": 1.5}, r"--sampling-rate is 1\.5, must be in \[0, 1\]"),
        ({"sampling_rate": float("nan")}, "--sampling-rate is nan"),
        ({"smooth_window": 0.95}, r"--smooth-window is 0\.95, must be at least 1"),
        ({"device": "cpu", "backend": "nccl"}, "--backend nccl needs --device cuda; use --backend gloo"),
        ({"halo_cache": True}, r"--halo-cache .*--sampling-rate 1\.0"),
        (
            {"policy": "auto", "sampling_rate": 0.1},
            r"--policy auto chooses what is exchanged, --sampling-rate 0\.1 does so too; leave one out",
        ),
        ({"policy": "auto", "pipeline": True}, "--policy auto .*, --pipeline True does so too"),
        ({"policy": "auto", "wire_dtype": "int8"}, "--policy auto .*, --wire-dtype int8 does so too"),
        ({"tolerance": 0.5}, r"--tolerance 0\.5 is for --policy auto, --policy is fixed; leave one out"),
        ({"max_bytes": 1e6}, r"--max-bytes 1000000\.0 is for --policy auto"),
        ({"replay": "runs/first"}, "--replay runs/first is for --policy auto"),
        ({"policy": "auto", "tolerance": 0.0}, "--tolerance is 0, must be above 0; exact training is"),
        ({"policy": "auto", "max_bytes": -1.0}, r"--max-bytes is -1\.0, must be at least 0"),
        (
            {"policy": "auto", "aim": "bytes", "eval_every": 0},
            "--tolerance is measured by validation scores, --eval-every is 0; try 10",
        ),
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
    with pytest.raises(
        ValueError, match=r"unknown option 'sampling_rat' in .*; did you mean 'sampling_rate'\?"
    ):
        TrainConfig.from_json({"sampling_rat": 0.5})


def test_a_run_made_with_a_decay_has_the_window_that_averages_alike() -> None:
    before = {"smooth_decay": 0.75, "sampler": "uniform", "sampling_rate": 0.1, "smooth_features": True}
    assert TrainConfig.from_json(before) == TrainConfig(
        smooth_window=4, sampler="uniform", sampling_rate=0.1, smooth_features=True
    )
    without = before | {"sampling_rate": 1.0, "smooth_features": False}
    assert TrainConfig.from_json(without) == TrainConfig(), "what had no effect stands in nobody's way"


@pytest.mark.parametrize("field", dataclasses.fields(TrainConfig), ids=lambda field: field.name)
@pytest.mark.parametrize("value", [Ellipsis, b"1", 1j, (), {}, math.nan, -(10**30), "\n"], ids=repr)
def test_no_field_takes_what_it_is_not_for(field: dataclasses.Field[Any], value: Any) -> None:
    with pytest.raises(UserError) as failure:
        TrainConfig(**{field.name: value})
    assert f"--{field.name.replace('_', '-')}" in str(failure.value)
    assert "\n" not in str(failure.value)


def test_numbers_of_other_kinds_become_plain_ones() -> None:
    config = TrainConfig(layers=np.int64(2), lr=np.float64(0.5), dropout=0)  # type: ignore[arg-type]
    assert config == TrainConfig(layers=2, lr=0.5, dropout=0.0)
    assert [type(value) for value in (config.layers, config.lr, config.dropout)] == [int, float, float]


@pytest.mark.parametrize("values", [[], None, "sage", 3])
def test_a_configuration_that_is_no_object_is_refused(values: Any) -> None:
    with pytest.raises(UserError, match="must be an object of options"):
        TrainConfig.from_json(values)


def test_every_field_is_documented_and_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().lr = 1.0  # type: ignore[misc]
