"""What a worker learns of the end of another: `PeerLost`, and whose silence it was where that is known."""

from __future__ import annotations

import os
import time
from pathlib import Path
from unittest import mock

import pytest
import torch

from bnsgcn.dist import World
from bnsgcn.meeting import MEETING
from bnsgcn.pending import PeerLost, Pending, posted
from tests.multiprocess import run_ranks

TIMEOUT_S = 3.0


def rejoined(world: World, meeting: Path) -> World:
    """The same ranks in a group with a short timeout, made as the workers of one machine make it."""
    world.close()
    environment = {MEETING: str(meeting), "RANK": str(world.rank), "WORLD_SIZE": str(world.size)}
    with mock.patch.dict(os.environ, environment):
        return World.start(device="cpu", timeout_s=TIMEOUT_S)


def exchange(world: World) -> None:
    splits = [0 if rank == world.rank else 3 for rank in range(world.size)]
    total = sum(splits)
    world.all_to_all(torch.empty(total, 1), torch.ones(total, 1), splits, splits).wait()


CALLS = {
    "rows": exchange,
    "reduce": lambda world: world.all_reduce(torch.ones(3)),
    "gather": lambda world: world.all_gather(torch.ones(3)),
    "broadcast": lambda world: world.broadcast(torch.ones(3), source=1),
}


def what_survivors_see(world: World, meeting: Path, kinds: list[str], goes: bool) -> list[tuple[str, str]]:
    """Type and words of the error in every kind of call once rank 1 takes no part."""
    found = []
    for name in kinds:
        joined = rejoined(world, meeting / name)
        joined.barrier()
        seen = meeting / f"{name} seen"
        while world.rank == 1 and not goes and not seen.exists():
            time.sleep(0.05)
        if world.rank != 1:
            try:
                CALLS[name](joined)
            except Exception as error:
                found.append((type(error).__name__, str(error)))
            seen.touch()
        joined.close()
    return found


@pytest.mark.multi
@pytest.mark.parametrize("goes", [True, False], ids=["goes", "is silent"])
def test_a_lost_peer_is_told_by_type(goes: bool, tmp_path: Path) -> None:
    kinds = list(CALLS) if goes else ["rows", "reduce"]
    seen, _ = run_ranks(what_survivors_see, 2, tmp_path, tmp_path, kinds, goes, fresh=True)
    assert [kind for kind, _ in seen] == ["PeerLost"] * len(kinds)
    words = "the connection to {} has broken" if goes else "{} has not answered for 3 s (--timeout-s)"
    others = [words.format("another rank")] * (len(kinds) - 1)
    assert [said for _, said in seen] == [words.format("rank 1"), *others]


def test_an_error_of_ones_own_is_no_lost_peer() -> None:
    class LocalError(RuntimeError):
        """As torch's own for memory that a device lacks."""

    for own in (LocalError("out of memory"), ValueError("not a tensor")):
        with pytest.raises(type(own)) as caught:
            posted(mock.Mock(side_effect=own))
        assert caught.value is own
        with pytest.raises(type(own)) as caught:
            Pending([mock.Mock(wait=mock.Mock(side_effect=own))], (), World.single()).wait()
        assert caught.value is own
    for other in (RuntimeError("gloo"), torch.distributed.DistNetworkError("store")):
        with pytest.raises(PeerLost, match="another rank has broken"):
            posted(mock.Mock(side_effect=other))


def test_nobody_else_comes(tmp_path: Path) -> None:
    environment = {MEETING: str(tmp_path / "meeting"), "RANK": "0", "WORLD_SIZE": "2"}
    with mock.patch.dict(os.environ, environment), pytest.raises(PeerLost, match=r"not answered for 0.3 s"):
        World.start(device="cpu", timeout_s=0.3)


def test_a_wrong_device_for_sockets_is_this_worker_s_own_failure(tmp_path: Path) -> None:
    environment = {MEETING: str(tmp_path / "meeting"), "RANK": "0", "WORLD_SIZE": "2"}
    environment["GLOO_SOCKET_IFNAME"] = "nowhere0"
    with mock.patch.dict(os.environ, environment), pytest.raises(RuntimeError, match="nowhere0") as caught:
        World.start(device="cpu", timeout_s=20)
    assert not isinstance(caught.value, PeerLost)
