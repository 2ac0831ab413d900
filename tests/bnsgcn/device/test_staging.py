"""Messages through host memory: on a stand-in that copies as late as a device may, they are those of a CPU.

The stand-in's rooms hold garbage until somebody waits; its counts show that the host waits for no device
while rows leave and arrive. The same transport on a GPU: tests/bnsgcn/test_laws_on_a_gpu.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.device import staging
from bnsgcn.dist import World
from bnsgcn.pending import PeerLost
from tests.bnsgcn.device.late_streams import LateMark, LateStreams
from tests.bnsgcn.runs import record
from tests.bnsgcn.small_graphs import PartsFolder
from tests.multiprocess import run_ranks

BASE = TrainConfig(layers=3, hidden=6, heads=2, dropout=0.4, lr=0.02, kernel="torch")


def counts_of(world: World) -> dict[str, int]:
    assert isinstance(world.streams, LateStreams)
    return dict(world.streams.counts)


def exchanged(world: World, dtype: torch.dtype, waits: bool = True) -> tuple[bool, dict[str, int], int]:
    """Whether rows of uneven lists, one's own among them, arrive; the counts; pieces of two rows sent."""
    send = [(world.rank + 3 * peer) % 7 for peer in range(world.size)]
    receive = [(peer + 3 * world.rank) % 7 for peer in range(world.size)]
    sent = torch.cat([torch.full((rows, 3), 10 * world.rank + peer) for peer, rows in enumerate(send)])
    expected = torch.cat([torch.full((rows, 3), 10 * peer + world.rank) for peer, rows in enumerate(receive)])
    received = torch.zeros(sum(receive), 3, dtype=dtype)
    forgets = contextlib.nullcontext() if waits else mock.patch.object(LateMark, "synchronize")
    with mock.patch.object(staging, "PIECE_BYTES", 6 * dtype.itemsize), forgets:
        pending = world.all_to_all(received, sent.to(dtype), receive, send)
        pending.wait()
    pieces = sum(-(-rows // 2) for peer, rows in enumerate(send) if peer != world.rank)
    return torch.equal(received, expected.to(dtype)), counts_of(world), pieces


@pytest.mark.multi
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.uint8])
def test_rows_arrive_in_pieces_and_the_host_waits_for_no_copy(dtype: torch.dtype, tmp_path: Path) -> None:
    for intact, counts, pieces in run_ranks(exchanged, 3, tmp_path, dtype, device="late"):
        assert intact
        assert counts["courier host waits"] == pieces
        assert "host waits" not in counts
        assert counts["holds"] == 1


@pytest.mark.multi
def test_a_courier_that_does_not_wait_is_noticed(tmp_path: Path) -> None:
    assert not any(
        intact for intact, *_ in run_ranks(exchanged, 3, tmp_path, torch.float32, False, device="late")
    )


def collected(world: World) -> list[Any]:
    own = torch.arange(4.0) + world.rank
    return [
        world.all_reduce(own.clone()).tolist(),
        world.all_reduce(own.clone(), "max").tolist(),
        world.broadcast(own.clone(), 1).tolist(),
        world.all_gather(own).tolist(),
        world.all_gather_text("x" * world.rank),
        world.all_to_all_now(own, [2, 2], [2, 2]).tolist(),
    ]


@pytest.mark.multi
def test_collectives_are_those_of_a_cpu(tmp_path: Path) -> None:
    assert run_ranks(collected, 2, tmp_path, device="late") == run_ranks(collected, 2, tmp_path)


def grouped(world: World) -> bool:
    """nccl's way, over gloo: rank r sends r + 1 rows to its peer."""
    mine, theirs = world.rank + 1, 2 - world.rank
    received, sent = torch.zeros(theirs, 2), torch.full((mine, 2), float(world.rank))
    peer = 1 - world.rank
    world._grouped(received, sent, [(peer, 0, theirs)], [(peer, 0, mine)]).wait()
    world._grouped(received[:0], sent[:0], [(peer, 0, 0)], [(peer, 0, 0)]).wait()
    return bool((received == peer).all())


@pytest.mark.multi
def test_messages_in_one_group(tmp_path: Path) -> None:
    assert run_ranks(grouped, 2, tmp_path) == [True, True]


POLICIES: list[dict[str, Any]] = [
    {},
    {"model": "gat", "sampling_rate": 0.5},
    {"model": "gcn", "norm": "batch", "precompute": True, "inductive": True},
    {
        "pipeline": True,
        "smooth_features": True,
        "smooth_gradients": True,
        "sampling_rate": 0.4,
        "wire_dtype": "int8",
        "gradient_wire_dtype": "fp16",
        "telemetry_every": 1,
    },
    {
        "sampling_rate": 0.4,
        "sampler": "importance",
        "halo_cache": True,
        "pipeline": True,
        "wire_dtype": "bf16",
    },
]


@pytest.mark.multi
@pytest.mark.parametrize("options", POLICIES, ids=lambda options: " ".join(options) or "exact")
def test_a_run_through_staging_is_bitwise_that_of_a_cpu(
    options: dict[str, Any], parts_folder: PartsFolder, tmp_path: Path
) -> None:
    config, folder = dataclasses.replace(BASE, **options), parts_folder("single", 3)
    plain, staged = (
        run_ranks(record, 3, tmp_path, folder, config, 4, device=device) for device in ("cpu", "late")
    )
    assert [rank.digests for rank in staged] == [rank.digests for rank in plain]
    assert len(set(plain[0].digests)) == 4


def what_is_seen(world: World) -> str:
    """The words of the error when rank 1 takes no part."""
    if world.rank == 1:
        return ""
    with pytest.raises(PeerLost) as caught:
        world.all_to_all(torch.zeros(3, 1), torch.ones(3, 1), [0, 3], [0, 3]).wait()
    return str(caught.value)


def left(world: World, meeting: Path) -> str:
    """In a group of its own with a short timeout."""
    world.close()
    brief = World.join(str(meeting), rank=world.rank, size=2, timeout_s=10, streams=LateStreams())
    try:
        brief.barrier()
        return what_is_seen(brief)
    finally:
        brief.close()


@pytest.mark.multi
def test_a_lost_peer_is_named(tmp_path: Path) -> None:
    assert "rank 1" in run_ranks(left, 2, tmp_path, tmp_path / "brief", fresh=True)[0]
