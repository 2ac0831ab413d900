"""Checkpoints: exact, whole or absent, whatever happens while they are written or while they lie there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from bnsgcn.dist import World
from bnsgcn.train.checkpoint import Checkpoints
from tests.multiprocess import run_ranks


def one(folder: Path, **options: object) -> Checkpoints:
    return Checkpoints(folder, 0, 1, lambda: None, **options)  # type: ignore[arg-type]


def state(epoch: int) -> tuple[dict[str, object], dict[str, object]]:
    generator = torch.Generator().manual_seed(epoch)
    shared = {"weight": torch.randn(40, 30, generator=generator, dtype=torch.float64), "epoch": epoch}
    own = {"lane": torch.randn(7, generator=generator), "counts": [1, 2, epoch], "name": None}
    return shared, own


def assert_state(loaded: tuple[dict[str, object], dict[str, object]], epoch: int) -> None:
    for mine, expected in zip(loaded, state(epoch), strict=True):
        assert mine.keys() == expected.keys()
        for key, value in expected.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(mine[key], value)  # type: ignore[arg-type]
            else:
                assert mine[key] == value


def test_the_newest_two_and_the_best_are_kept(tmp_path: Path) -> None:
    checkpoints = one(tmp_path)
    assert checkpoints.latest() is None
    with pytest.raises(ValueError, match="no whole checkpoint; train first"):
        checkpoints.load("latest")
    with pytest.raises(ValueError, match="no best checkpoint"):
        checkpoints.load("best")
    for epoch in (10, 20, 30, 40):
        checkpoints.save(epoch, *state(epoch), best=epoch == 10)
    assert_state(checkpoints.load("latest"), 40)
    assert_state(checkpoints.load("best"), 10)
    assert_state(checkpoints.load(tmp_path / "checkpoints" / "epoch_000030"), 30)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["best.json", "epoch_000010", "epoch_000030", "epoch_000040"]


def test_saving_an_epoch_again_replaces_it(tmp_path: Path) -> None:
    checkpoints = one(tmp_path)
    checkpoints.save(10, *state(1))
    checkpoints.save(10, *state(2))
    assert_state(checkpoints.load("latest"), 2)


@pytest.mark.parametrize("name", ["shared.pt", "rank_00000.pt", "checkpoint.json"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_a_damaged_checkpoint_is_passed_over_aloud(name: str, damage: str, tmp_path: Path) -> None:
    said: list[str] = []
    checkpoints = one(tmp_path, say=said.append)
    checkpoints.save(10, *state(10))
    path = checkpoints.save(20, *state(20), best=True) / name
    assert_state(checkpoints.load("latest"), 20)
    assert not said
    content = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    elif damage == "truncate":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    assert_state(checkpoints.load("latest"), 10)
    assert len(said) == 1
    assert "epoch_000020 is damaged" in said[0]
    with pytest.raises(ValueError, match="epoch_000020 is damaged"):
        checkpoints.load("best")
    checkpoints.save(20, *state(20), best=True)
    assert_state(checkpoints.load("best"), 20)


def test_another_number_of_workers_or_another_model_is_refused(tmp_path: Path) -> None:
    one(tmp_path, identity={"graph": "a1", "model": "gcn 2 x 16"}).save(10, *state(10))
    two = Checkpoints(tmp_path, 0, 2, lambda: None)
    with pytest.raises(ValueError, match="was written by 1 workers, this run has 2; start 1 workers"):
        two.load("latest")
    with pytest.raises(ValueError, match="has model gcn 2 x 16, this run has sage 2 x 16"):
        one(tmp_path, identity={"graph": "a1", "model": "sage 2 x 16"}).load("latest")
    with pytest.raises(ValueError, match="has graph a1, this run has b2"):
        one(tmp_path, identity={"graph": "b2", "model": "gcn 2 x 16"}).load("latest")


def test_nothing_is_unpickled_into_code(tmp_path: Path) -> None:
    checkpoints = one(tmp_path)
    checkpoints.save(10, {"hook": shutil.rmtree}, {})
    with pytest.raises(Exception, match="Weights only load failed"):
        checkpoints.load("latest")


KILLED = """
import os, signal, sys, torch
from pathlib import Path
from bnsgcn.train import checkpoint
checkpoints = checkpoint.Checkpoints(sys.argv[1], 0, 1, lambda: None)
checkpoints.save(10, {"epoch": 10}, {})
real = getattr(*{"write": (checkpoint, "_sha256"), "rename": (Path, "rename")}[sys.argv[2]])
def dying(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(*{"write": (checkpoint, "_sha256"), "rename": (Path, "rename")}[sys.argv[2]], dying)
checkpoints.save(20, {"epoch": 20}, {})
"""


@pytest.mark.parametrize("moment", ["write", "rename"])
def test_killed_while_saving_leaves_the_one_before(moment: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), moment], check=False)
    assert done.returncode == -9
    folder = tmp_path / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["epoch_000010", "epoch_000020.partial"]
    checkpoints = one(tmp_path)
    assert checkpoints.load("latest")[0] == {"epoch": 10}
    checkpoints.save(30, {"epoch": 30}, {})
    assert sorted(path.name for path in folder.iterdir()) == ["epoch_000010", "epoch_000030"]


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounting a small disk needs root")
def test_a_full_disk_leaves_the_one_before(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], check=False)
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        checkpoints = one(disk)
        checkpoints.save(10, {"weight": torch.zeros(30_000)}, {})
        with pytest.raises(OSError, match=r"epoch_000020 cannot be written \(No space left on device\)"):
            checkpoints.save(20, {"weight": torch.zeros(1_000_000)}, {})
        assert checkpoints.load("latest")[0]["weight"].shape == (30_000,)
        checkpoints.save(20, {"weight": torch.zeros(40_000)}, {})
        assert checkpoints.load("latest")[0]["weight"].shape == (40_000,)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_write_that_lies_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = one(tmp_path)
    checkpoints.save(10, *state(10))
    real = torch.save

    def lying(value: object, file: object) -> None:
        real(value, file)
        os.pwrite(file._file.fileno(), b"x", 5000)  # type: ignore[attr-defined]
        file._file.flush()  # type: ignore[attr-defined]
        os.pwrite(file._file.fileno(), b"x", 5000)  # type: ignore[attr-defined]

    monkeypatch.setattr(torch, "save", lying)
    with pytest.raises(OSError, match="reads back differently"):
        checkpoints.save(20, *state(20))
    monkeypatch.undo()
    assert_state(checkpoints.load("latest"), 10)


def save_and_load(world: World, folder: Path) -> tuple[int, int, list[str]]:
    said: list[str] = []
    checkpoints = Checkpoints(folder, world.rank, world.size, world.barrier, say=said.append)
    for epoch in (10, 20):
        checkpoints.save(epoch, {"epoch": epoch}, {"rank": world.rank, "lane": torch.ones(world.rank + 1)})
    world.barrier()
    if world.rank == 0:
        (folder / "checkpoints" / "epoch_000020" / "rank_00001.pt").write_bytes(b"short")
    world.barrier()
    shared, own = checkpoints.load("latest")
    assert own["lane"].shape == (world.rank + 1,)
    return shared["epoch"], own["rank"], said


@pytest.mark.multi
def test_all_ranks_go_back_together_when_the_share_of_one_is_damaged(tmp_path: Path) -> None:
    for rank, (epoch, own_rank, said) in enumerate(run_ranks(save_and_load, 3, tmp_path, tmp_path)):
        assert (epoch, own_rank) == (10, rank)
        assert len(said) == 1
        assert "rank_00001.pt has changed on disk" in said[0]


def test_the_killed_script_is_alive_without_the_signal(tmp_path: Path) -> None:
    """Negative control: the same script, not killed, leaves epoch 20."""
    alive = textwrap.dedent(KILLED).replace(
        "os.kill(os.getpid(), signal.SIGKILL)", "return real(*args, **kwargs)"
    )
    subprocess.run([sys.executable, "-c", alive, str(tmp_path), "rename"], check=True)
    assert one(tmp_path).load("latest")[0] == {"epoch": 20}
