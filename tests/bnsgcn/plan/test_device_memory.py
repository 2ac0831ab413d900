"""A GPU whose memory does not last: one line with what an epoch needs, by purpose, and what would fit."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from unittest import mock

import pytest
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.plan.choose import choose
from bnsgcn.plan.costs import plan
from bnsgcn.plan.device_memory import CONTEXT_BYTES, FAR_BYTES, largest_device_bytes, too_little
from bnsgcn.plan.machine import Machine
from bnsgcn.run import train_worker
from partition.errors import UserError
from tests.bnsgcn.small_graphs import PartsFolder

ON_GPU = TrainConfig(layers=3, hidden=1 << 20, device="cuda")
RATES = Machine(sum_bytes_per_s=1e10, products_per_s=5e10, pass_bytes_per_s=2e9, device_bytes=10**9)


def needs(folder: Path, config: TrainConfig) -> int:
    return sum(largest_device_bytes(folder, config).values())


def test_the_line_names_purposes_and_what_would_fit(parts_folder: PartsFolder) -> None:
    folder, have = parts_folder("single", 2), 10**9
    line = too_little(folder, ON_GPU, have)
    assert "\n" not in line
    assert f"an epoch needs about {needs(folder, ON_GPU) / 1e9:.1f} GB of it (weights" in line
    assert "a worker has 1.0 GB" in line
    offered = re.search(r"--hidden (\d+) \(", line)
    assert offered is not None
    narrow = int(offered[1])
    assert needs(folder, dataclasses.replace(ON_GPU, hidden=narrow)) <= have
    assert needs(folder, dataclasses.replace(ON_GPU, hidden=2 * narrow)) > have
    assert re.search(r"or about \d+ parts on as many GPUs$", line)


def test_features_on_the_host_leave_two_pieces_on_the_device(parts_folder: PartsFolder) -> None:
    far = largest_device_bytes(parts_folder("single", 2), dataclasses.replace(ON_GPU, features="host"))
    assert (far["features"], far["context"]) == (FAR_BYTES, CONTEXT_BYTES)
    assert "process" not in far


def test_a_plan_knows_the_device(parts_folder: PartsFolder) -> None:
    folder = parts_folder("single", 2)
    with pytest.raises(
        UserError, match=r"a worker needs [\d,]+ bytes of a GPU and has 1,000,000,000; partition"
    ):
        choose([plan(folder, ON_GPU, RATES)])
    assert plan(folder, dataclasses.replace(ON_GPU, hidden=16), RATES).fits
    on_cpu = plan(
        folder, dataclasses.replace(ON_GPU, device="cpu"), dataclasses.replace(RATES, device_bytes=None)
    )
    assert on_cpu.fits
    assert on_cpu.ranks[0].device_bytes == {}


def test_training_that_runs_out_of_it_says_so(parts_folder: PartsFolder, tmp_path: Path) -> None:
    folder, config = parts_folder("single", 1), TrainConfig(layers=2, hidden=16, epochs=1, device="cpu")
    out = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    with (
        mock.patch("bnsgcn.train.trainer.Trainer.fit", side_effect=out),
        mock.patch("bnsgcn.run.memory_of", return_value=10**8),
        pytest.raises(UserError, match=r"not enough memory on the GPU: an epoch needs about .* would fit: "),
    ):
        train_worker(folder, tmp_path / "run", config)
