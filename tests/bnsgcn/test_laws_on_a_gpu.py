"""Laws 1 to 6 on CUDA, 1, 2 and 4 ranks on one GPU through gloo: what the laws' own tests run on CPU.

Each is as strict as there, but law 1, whose sums go in another order on a GPU than in a dense matrix: 1e-9.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.train.gradients import FlatGradients
from tests.bnsgcn import test_law1_equals_one_process as law1
from tests.bnsgcn import test_law2_adjoint as law2
from tests.bnsgcn import test_law3_unbiased as law3
from tests.bnsgcn import test_law4_stale as law4
from tests.bnsgcn import test_law5_reproducible as law5
from tests.bnsgcn import test_law6_bytes as law6
from tests.bnsgcn.runs import dense_run, largest_difference, one_run, record, trainer_of
from tests.bnsgcn.small_graphs import PartsFolder, small_graph
from tests.multiprocess import run_ranks

pytestmark = [pytest.mark.gpu, pytest.mark.multi]
ON_ONE_GPU: dict[str, Any] = {"device": "cuda", "timeout_s": 240}
TOLERANCE = 1e-9


ON_THE_HOST = law1.case("single", model="sage", precompute=True, features="host")


@pytest.mark.parametrize(("kind", "method", "config"), [*law1.CASES[::3], ON_THE_HOST])
def test_law_1(
    kind: str, method: str, config: TrainConfig, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    for parts in (1, 2, 4):
        folder = parts_folder(kind, parts, method)
        run = one_run(run_ranks(record, parts, tmp_path, folder, config, **ON_ONE_GPU))
        assert largest_difference(run, dense_run(small_graph(kind, parts), folder, config)) < TOLERANCE, parts


@pytest.mark.parametrize("parts", [2, 4])
def test_losses_in_float32_do_not_depend_on_the_ranks(
    parts: int, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config = dataclasses.replace(law1.BASE, dtype="float32")
    one, many = (
        one_run(run_ranks(record, count, tmp_path, parts_folder("single", count), config, **ON_ONE_GPU))
        for count in (1, parts)
    )
    assert many.losses == pytest.approx(one.losses, rel=1e-5)


@pytest.mark.parametrize("rate", [1.0, 0.5])
@pytest.mark.parametrize("scaled", [False, True])
def test_law_2(rate: float, scaled: bool, parts_folder: PartsFolder, tmp_path: Path) -> None:
    config = dataclasses.replace(law2.EXACT, sampling_rate=rate)
    folder = parts_folder("single", 4)
    forward, backward = law2.sides(
        run_ranks(law2.both_sides, 4, tmp_path, folder, config, scaled, **ON_ONE_GPU)
    )
    assert forward == backward != 0


@pytest.mark.parametrize("sampler", ["uniform", "importance"])
def test_law_3(sampler: Any, tmp_path: Path) -> None:
    folder = law3.tiny_parts(tmp_path / "parts", weighted=True)
    config = dataclasses.replace(law3.BASE, sampling_rate=0.4, sampler=sampler)
    ranks = run_ranks(law3.mean_over_draws, 2, tmp_path, folder, config, False, **ON_ONE_GPU)
    assert max(difference for difference, _ in ranks) < 1e-12


@pytest.mark.parametrize(
    "options", law4.VARIANTS[::2], ids=lambda options: " ".join(map(str, options.items()))
)
def test_law_4(options: dict[str, Any], parts_folder: PartsFolder, tmp_path: Path) -> None:
    config, folder = law4.variant(options), parts_folder("single", 4)
    for found in run_ranks(law4.lanes_in_codes, 4, tmp_path, folder, config, config, **ON_ONE_GPU):
        assert found == [(True, True)] * (law4.EPOCHS * config.layers)


@pytest.mark.parametrize("options", [*law5.OPTIONS, {"storage": "bf16"}], ids=law5.name_of)
def test_law_5(options: dict[str, Any], parts_folder: PartsFolder, tmp_path: Path) -> None:
    config, folder = dataclasses.replace(law5.BASE, **options), parts_folder("single", 2)
    first, again = (run_ranks(law5.digests, 2, tmp_path, folder, config, **ON_ONE_GPU) for _ in range(2))
    assert first == again
    assert first[0] == first[1]
    assert len(set(first[0])) == law5.EPOCHS
    ends = run_ranks(law5.stopped_everywhere, 2, tmp_path, folder, tmp_path / "run", config, **ON_ONE_GPU)
    assert ends == [[first[0][-1]] * (law5.EPOCHS - 1)] * 2


def test_law_6(parts_folder: PartsFolder, tmp_path: Path) -> None:
    folder, tried = parts_folder("single", 2, "metis"), law6.configs(law6.COMBINATIONS)
    ranks = run_ranks(law6.sent_bytes, 2, tmp_path, folder, tried, **ON_ONE_GPU)
    for place, config in enumerate(tried):
        assert [rank[place] for rank in ranks] == law6.counted(folder, 2, config), law6.COMBINATIONS[place]


def unsynchronised_epochs(world: World, folder: Path, config: TrainConfig) -> int:
    """Epochs in which torch would have raised where the host waits for the device before the loss."""
    trainer, reduce = trainer_of(world, folder, config), FlatGradients.reduce
    trainer.train_epoch()

    def reduce_freely(*given: Any) -> torch.Tensor:
        torch.cuda.set_sync_debug_mode("default")
        return reduce(*given)

    try:
        for _ in range(3):
            torch.cuda.set_sync_debug_mode("error")
            with mock.patch.object(FlatGradients, "reduce", reduce_freely):
                trainer.train_epoch()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return trainer.progress.epoch


@pytest.mark.parametrize("options", [o for o in law5.OPTIONS if o.get("norm") != "batch"], ids=law5.name_of)
def test_the_host_waits_for_the_loss_alone(
    options: dict[str, Any], parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config, folder = dataclasses.replace(law5.BASE, **options), parts_folder("single", 2)
    assert run_ranks(unsynchronised_epochs, 2, tmp_path, folder, config, **ON_ONE_GPU) == [4, 4]


def test_nccl_carries_grouped_messages(tmp_path: Path) -> None:
    """One rank that writes to itself, the most that one GPU has room for."""
    torch.cuda.set_device(0)
    torch.distributed.init_process_group(
        "nccl",
        init_method=f"file://{tmp_path}/meeting",
        rank=0,
        world_size=1,
        device_id=torch.device("cuda", 0),
    )
    try:
        world = dataclasses.replace(World.single("cuda"), backend="nccl")
        sent, received = torch.arange(12.0, device="cuda").view(4, 3), torch.zeros(4, 3, device="cuda")
        with world.leaving(sent):
            pending = world._grouped(received, sent, [(0, 0, 4)], [(0, 0, 4)])
        pending.wait()
        assert torch.equal(received, sent)
    finally:
        torch.distributed.destroy_process_group()
