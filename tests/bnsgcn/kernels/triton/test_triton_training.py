"""Models trained with Triton's kernels, beside torch's; and that nothing waits for the device."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from tests.bnsgcn.kernels.dense_blocks import random_block
from tests.bnsgcn.runs import trainer_of
from tests.bnsgcn.small_graphs import PartsFolder

MODELS = [{"model": "gcn"}, {"model": "sage", "storage": "bf16"}, {"model": "gat", "heads": 2}]


@pytest.mark.parametrize("options", MODELS)
def test_an_epoch_is_that_of_torchs_kernels(
    device: torch.device, parts_folder: PartsFolder, options: dict[str, Any]
) -> None:
    base = TrainConfig(layers=2, hidden=8, dropout=0.3, lr=0.01, device="cpu", **options)
    folder = parts_folder("weighted" if options["model"] == "gcn" else "single", 1)
    losses, weights = [], []
    for kernel, place in (("torch", "cpu"), ("triton", device.type)):
        torch.manual_seed(1)
        config = dataclasses.replace(base, kernel=kernel, device=place)
        trainer = trainer_of(World.single(place), folder, config)
        losses.append([trainer.train_epoch()["loss"] for _ in range(2)])
        weights.append(torch.cat([p.detach().cpu().flatten() for p in trainer.model.parameters()]))
    tolerance = 1e-2 if "storage" in options else 1e-4
    assert losses[0] == pytest.approx(losses[1], rel=tolerance)
    torch.testing.assert_close(*weights, atol=10 * tolerance, rtol=0)
    assert losses[0][0] != losses[0][1]


class Asked(TorchDispatchMode):
    """Operations that a device cannot answer without making the host wait."""

    WAIT = ("_local_scalar_dense", "nonzero", "masked_select", "bincount", "repeat_interleave", "equal")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = call.__name__.partition(".")[0]
        if name in self.WAIT:
            self.found.append(name)
        return call(*args, **(kwargs or {}))


def test_schedules_and_orders_ask_the_device_nothing(device: torch.device) -> None:
    from bnsgcn.kernels.triton.packing import make_order
    from bnsgcn.kernels.triton.row_schedule import make_schedule

    csr = random_block(20, 30, 0.5, seed=5)[0].to(device)
    with Asked() as asked:
        schedule = make_schedule(csr, 4)
        make_order(csr.indices, torch.int32)
    assert schedule.split is not None
    assert asked.found == []
    with Asked() as asked:
        assert int(csr.indptr[-1]) == csr.num_arcs
    assert asked.found == ["_local_scalar_dense"]
