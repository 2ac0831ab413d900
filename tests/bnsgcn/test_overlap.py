"""What stands between sending and waiting, in a layer that exchanges before it multiplies.

Forward: the own rows' product. Backward: every product but the one that makes the halo's gradient.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch.distributed import TCPStore

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.exchange.lane import Lane
from bnsgcn.nn import conv, products
from bnsgcn.nn.products import Late, late, product
from tests.bnsgcn.runs import trainer_of
from tests.bnsgcn.small_graphs import PartsFolder
from tests.multiprocess import run_ranks

CONFIG = TrainConfig(layers=3, hidden=16, dropout=0.0, precompute=True)
"""Layer 1 is 16 to 16 wide, so it exchanges before it multiplies; layer 2 multiplies before."""


def order_of_an_epoch(world: World, folder: Path, config: TrainConfig, at_once: bool) -> list[str]:
    """The steps of layer 1: what is sent and awaited, and the products between."""
    trainer = trainer_of(world, folder, config)
    steps: list[str] = []

    def heard(kind: Any, name: str, label: str) -> Any:
        real = getattr(kind, name)

        def call(self: Any, *args: Any, **names: Any) -> Any:
            layer = f"{label} {self._layer}" if isinstance(self, Lane) else label
            steps.append(layer)
            return real(self, *args, **names)

        return mock.patch.object(kind, name, call)

    def plain(weight: torch.Tensor) -> Late | torch.Tensor:
        return weight if at_once else late(weight)

    with (
        heard(Lane, "post_features", "send features"),
        heard(Lane, "take_features", "await features"),
        heard(Lane, "post_gradients", "send gradients"),
        heard(Lane, "take_gradients", "await gradients"),
        heard(products._Factors, "weight_gradients", "weight gradients"),
        heard(products._Factors, "row_gradients", "row gradients"),
        mock.patch.object(conv, "late", plain),
        mock.patch.object(conv, "product", forward_heard(steps)),
    ):
        trainer.train_epoch()
    return steps


def forward_heard(steps: list[str]) -> Any:
    def call(*args: Any, **names: Any) -> torch.Tensor:
        steps.append("product")
        return product(*args, **names)

    return call


def between(steps: list[str], first: str, last: str) -> list[str]:
    return steps[steps.index(first) + 1 : steps.index(last)]


@pytest.mark.multi
@pytest.mark.parametrize(("model", "forward", "backward"), [("sage", 1, 3), ("gcn", 0, 1)])
def test_products_hide_what_flies(
    model: Any, forward: int, backward: int, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config = dataclasses.replace(CONFIG, model=model)
    for steps in run_ranks(order_of_an_epoch, 2, tmp_path, parts_folder("single", 2), config, False):
        assert between(steps, "send features 1", "await features 1") == ["product"] * forward
        hidden = between(steps, "send gradients 1", "await gradients 1")
        # weight_gradients is also asked for no weights at all: by the late weight's product, before.
        assert hidden.count("weight gradients") + hidden.count("row gradients") == backward


@pytest.mark.multi
def test_a_weight_that_is_not_late_would_be_noticed(parts_folder: PartsFolder, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, model="gcn")
    for steps in run_ranks(order_of_an_epoch, 2, tmp_path, parts_folder("single", 2), config, True):
        assert between(steps, "send gradients 1", "await gradients 1") == []


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_a_late_gradient_is_the_same_bits(precision: torch.dtype | None) -> None:
    generator = torch.Generator().manual_seed(0)
    x, g = torch.randn(9000, 64, generator=generator), torch.randn(9000, 48, generator=generator)
    found = []
    for wrap in (lambda weight: weight, late):
        weight = torch.randn(48, 64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        into = torch.ones(9000, 48, requires_grad=True) * 2
        rows = x.clone().requires_grad_()
        out = product(rows, wrap(weight), precision=precision, into=into)
        out.backward(g)
        assert out is into
        found.append((out.detach().clone(), rows.grad, weight.grad))
    for early, afterwards in zip(*found, strict=True):
        assert early is not None
        assert afterwards is not None
        assert torch.equal(early, afterwards)


def socket_thread_policies(world: World, port: int) -> list[int]:
    """Scheduling policies of gloo's socket threads in a group made as torchrun's workers make it."""
    world.close()
    environment = {
        "RANK": str(world.rank),
        "WORLD_SIZE": str(world.size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }
    with mock.patch.dict(os.environ, environment):
        started = World.start(device="cpu", timeout_s=60)
    started.barrier()
    tasks = list(Path("/proc/self/task").iterdir())
    sockets = [int(task.name) for task in tasks if (task / "comm").read_text().startswith("gloo_tcp")]
    policies = [os.sched_getscheduler(task) for task in sockets]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER  # the compute thread
    started.barrier()
    return policies


@pytest.mark.multi
@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="not Linux")
def test_socket_threads_do_not_interrupt(tmp_path: Path) -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for policies in run_ranks(socket_thread_policies, 2, tmp_path, store.port, fresh=True):
        assert policies
        assert set(policies) == {os.SCHED_BATCH}
