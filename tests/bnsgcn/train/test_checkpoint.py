"""Checkpoints: exact, whole or absent, whatever happens while they are written or while they lie there."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bnsgcn.dist import World
from bnsgcn.train import checkpoint, state_file
from bnsgcn.train.checkpoint import Checkpoints
from bnsgcn.train.seal import Best, Seal, best_folder, sealed_folders
from partition.errors import UserError
from tests.killing import killed_at_every_step
from tests.multiprocess import run_ranks


def one(folder: Path, **options: Any) -> Checkpoints:
    return Checkpoints(folder, World.single(), **options)


def state(epoch: int) -> tuple[dict[str, object], dict[str, object]]:
    generator = torch.Generator().manual_seed(epoch)
    shared = {"weight": torch.randn(40, 30, generator=generator, dtype=torch.float64), "epoch": epoch}
    own = {"lane": torch.randn(7, generator=generator), "counts": [1, 2, epoch], "name": None}
    return shared, own


def assert_state(loaded: tuple[dict[str, object], dict[str, object] | None], epoch: int) -> None:
    for mine, expected in zip(loaded, state(epoch), strict=True):
        assert mine is not None
        assert mine.keys() == expected.keys()
        for key, value in expected.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(mine[key], value)  # type: ignore[arg-type]
            else:
                assert mine[key] == value


def best(epoch: int) -> Best:
    return Best(epoch=epoch, score=0.5)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_the_newest_two_and_their_best_are_kept(tmp_path: Path) -> None:
    checkpoints = one(tmp_path)
    with pytest.raises(ValueError, match="no whole checkpoint; train first"):
        checkpoints.load("latest")
    with pytest.raises(ValueError, match="no best checkpoint"):
        checkpoints.load("best")
    for epoch in (10, 20, 30, 40):
        checkpoints.save(epoch, *state(epoch), best=best(10))
    assert_state(checkpoints.load("latest"), 40)
    assert_state(checkpoints.load("best"), 10)
    assert_state(checkpoints.load(tmp_path / "checkpoints" / "epoch_000030"), 30)
    assert names(tmp_path) == ["epoch_000010", "epoch_000030", "epoch_000040"]
    checkpoints.save(50, *state(50), best=best(50))
    assert names(tmp_path) == ["epoch_000010", "epoch_000040", "epoch_000050"], "epoch 40 still counts on 10"
    checkpoints.save(60, *state(60), best=best(50))
    assert names(tmp_path) == ["epoch_000050", "epoch_000060"]


def test_a_run_without_validation_nodes_has_no_best(tmp_path: Path) -> None:
    one(tmp_path).save(10, *state(10))
    with pytest.raises(ValueError, match="no best checkpoint"):
        one(tmp_path).load("best")


def test_saving_an_epoch_again_replaces_it(tmp_path: Path) -> None:
    checkpoints = one(tmp_path)
    checkpoints.save(5, *state(5))
    checkpoints.save(10, *state(1))
    checkpoints.save(10, *state(2))
    assert_state(checkpoints.load("latest"), 2)
    assert names(tmp_path) == ["epoch_000005", "epoch_000010"], "the one before is still the one before"


def test_epochs_are_numbers(tmp_path: Path) -> None:
    """As text 1000000 comes before 999999."""
    checkpoints = one(tmp_path)
    (tmp_path / "checkpoints" / "epoch_000007.copy").mkdir(parents=True)
    for epoch in (999_998, 999_999, 1_000_000, 1_000_001, 2**63 - 1, 2**63):
        checkpoints.save(epoch, {"epoch": epoch}, {}, best=best(1_000_000) if epoch >= 1_000_000 else None)
        assert checkpoints.load("latest")[0] == {"epoch": epoch}
    kept = ["epoch_1000000", "epoch_9223372036854775807", "epoch_9223372036854775808"]
    assert names(tmp_path) == ["epoch_000007.copy", *kept], "and what is not ours stays"


def test_what_a_run_left_that_went_back_goes(tmp_path: Path) -> None:
    """Resumed from 20 because 30 and 40 are damaged, with another pace: neither may push 20 out."""
    checkpoints = one(tmp_path)
    checkpoints.save(20, *state(20))
    for epoch in (30, 40):
        shutil.copytree(
            tmp_path / "checkpoints" / "epoch_000020", tmp_path / "checkpoints" / f"epoch_0000{epoch}"
        )
        (tmp_path / "checkpoints" / f"epoch_0000{epoch}" / "shared.pt").write_bytes(b"")
    again = one(tmp_path, say=lambda line: None)
    assert_state(again.load("latest"), 20)
    again.save(35, *state(35))
    assert names(tmp_path) == ["epoch_000020", "epoch_000035"]


# ---- damage ----


def damages(content: bytes) -> Iterator[bytes | None]:
    """Nothing, half, two bytes short, one byte more, and single bits flipped from front to back."""
    yield from (None, b"", content[: len(content) // 2], content[:-2], content + b"\0", bytes(len(content)))
    for place in range(0, len(content), max(1, len(content) // 60)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        yield bytes(flipped)


@pytest.mark.parametrize("name", ["shared.pt", "rank_00000.pt", "checkpoint.json"])
def test_a_damaged_checkpoint_is_passed_over_aloud(name: str, tmp_path: Path) -> None:
    said: list[str] = []
    checkpoints = one(tmp_path, say=said.append)
    checkpoints.save(10, *state(10), best=best(10))
    path = checkpoints.save(20, *state(20), best=best(20)) / name
    assert_state(checkpoints.load("latest"), 20)
    assert not said
    content = path.read_bytes()
    for damaged in damages(content):
        path.unlink(missing_ok=True)
        if damaged is not None:
            path.write_bytes(damaged)
        assert_state(checkpoints.load("latest"), 10)
        assert said.pop().startswith("checkpoint epoch_000020 is damaged (")
        assert not said
        with pytest.raises(UserError, match=r"epoch_000020 is damaged \(.*\); train again or go on with"):
            checkpoints.load("best")
        with pytest.raises(UserError, match="epoch_000020 is damaged"):
            checkpoints.load(path.parent)
    checkpoints.save(20, *state(20), best=best(20))
    assert_state(checkpoints.load("best"), 20)


FORGED = {
    "a list": "[]",
    "null": "null",
    "a number": "3",
    "deep": "[" * 20_000 + "]" * 20_000,
    "deep inside": '{"files": ' + "[" * 20_000 + "]" * 20_000 + "}",
    "digits": '{"epoch": ' + "9" * 5000 + "}",
    "empty": "{}",
    "no text": "\udcff",
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_seal_that_is_none_is_one_line(kind: str, tmp_path: Path) -> None:
    said: list[str] = []
    checkpoints = one(tmp_path, say=said.append)
    checkpoints.save(10, *state(10), best=best(10))
    newest = checkpoints.save(20, *state(20), best=best(20))
    (newest / "checkpoint.json").write_bytes(FORGED[kind].encode(errors="surrogateescape"))
    assert_state(checkpoints.load("latest"), 10)
    assert len(said) == 1
    for load in (lambda: checkpoints.load("best"), lambda: best_folder(tmp_path / "checkpoints")):
        with pytest.raises(UserError, match="epoch_000020 is damaged") as refused:
            load()
        assert "\n" not in str(refused.value)


def test_a_seal_of_another_version_is_passed_over(tmp_path: Path) -> None:
    """Its digest is right, its fields are not ours."""
    said: list[str] = []
    checkpoints = one(tmp_path, say=said.append)
    checkpoints.save(10, *state(10))
    newest = checkpoints.save(20, *state(20))

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Other(Seal):
        mood: str = "good"

    Other(**dataclasses.asdict(Seal.read(newest))).write(newest)
    assert_state(checkpoints.load("latest"), 10)
    assert "of another version" in said[0]


def test_all_damaged_is_no_reason_to_start_again(tmp_path: Path) -> None:
    said: list[str] = []
    checkpoints = one(tmp_path, say=said.append)
    assert not checkpoints.found()
    assert said.pop() == f"{tmp_path / 'checkpoints'} has no checkpoint yet; training starts at epoch 0"
    for epoch in (10, 20):
        (checkpoints.save(epoch, *state(epoch)) / "shared.pt").write_bytes(b"short")
    assert checkpoints.found()
    message = (
        r"all checkpoints of the run are damaged, 2 of 2 \(the newest, .*epoch_000020: shared.pt has changed "
        r"on disk\); name a new --run-dir, or remove .*checkpoints to start again at epoch 0"
    )
    with pytest.raises(UserError, match=message):
        checkpoints.load("latest")
    assert not said, "one line"
    shutil.rmtree(tmp_path / "checkpoints")
    assert not checkpoints.found()


def test_another_number_of_workers_or_another_model_is_refused(tmp_path: Path) -> None:
    one(tmp_path, identity={"graph": "a1", "model": "gcn 2 x 16"}).save(10, *state(10))
    path = sealed_folders(tmp_path / "checkpoints")[0]
    dataclasses.replace(Seal.read(path), workers=3).write(path)
    with pytest.raises(UserError, match="was written by 3 workers, this run has 1; start 3 workers"):
        one(tmp_path).load("latest")
    dataclasses.replace(Seal.read(path), workers=1).write(path)
    with pytest.raises(UserError, match="has model gcn 2 x 16, this run has sage 2 x 16"):
        one(tmp_path, identity={"graph": "a1", "model": "sage 2 x 16"}).load("latest")
    with pytest.raises(UserError, match="has graph a1, this run has b2"):
        one(tmp_path, identity={"graph": "b2", "model": "gcn 2 x 16"}).load("latest")


def test_another_cut_of_the_same_graph_gives_what_is_shared_aloud(tmp_path: Path) -> None:
    """Of the files of the ranks that saved, nothing is read: they may be damaged or gone."""
    said: list[str] = []
    two = {"graph": "a1", "parts": "two", "model": "gcn"}
    one(tmp_path, identity=two).save(10, *state(10), best=best(10))
    path = sealed_folders(tmp_path / "checkpoints")[0]
    for workers, parts in ((2, "two"), (1, "other two")):
        dataclasses.replace(Seal.read(path), workers=workers).write(path)
        again = one(tmp_path, identity=two | {"parts": parts}, say=said.append)
        shared, own = again.load("latest")
        assert own is None
        assert_state((shared, state(10)[1]), 10)
        assert f"({workers} workers then, 1 now)" in said.pop()
        assert again.load("best")[1] is None
        assert not said, "whoever looks at the best is not told"
        (path / "rank_00000.pt").unlink(missing_ok=True)
    (path / "shared.pt").write_bytes(b"short")
    with pytest.raises(UserError, match="all checkpoints of the run are damaged"):
        again.load("latest")


def test_a_checkpoint_that_does_not_say_its_graph_wants_its_own_parts(tmp_path: Path) -> None:
    """Those of earlier versions."""
    old = {"parts": "two", "model": "gcn"}
    one(tmp_path, identity=old).save(10, *state(10))
    now = old | {"graph": "a1"}
    assert_state(one(tmp_path, identity=now).load("latest"), 10)
    with pytest.raises(UserError, match="has parts two, this run has three"):
        one(tmp_path, identity=now | {"parts": "three"}).load("latest")
    path = sealed_folders(tmp_path / "checkpoints")[0]
    dataclasses.replace(Seal.read(path), workers=2).write(path)
    with pytest.raises(UserError, match="was written by 2 workers, this run has 1; start 2 workers"):
        one(tmp_path, identity=now).load("latest")


def test_nothing_is_unpickled_into_code(tmp_path: Path) -> None:
    checkpoints = one(tmp_path)
    checkpoints.save(10, {"hook": shutil.rmtree}, {})
    with pytest.raises(Exception, match="Weights only load failed"):
        checkpoints.load("latest")


def test_the_best_of_a_run_that_goes_on_may_go_while_it_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one(tmp_path).save(10, *state(10), best=best(10))
    real = Checkpoints._read

    def late(self: Checkpoints, path: Path) -> Any:
        monkeypatch.setattr(Checkpoints, "_read", real)
        for epoch in (20, 30):
            one(tmp_path).save(epoch, *state(epoch), best=best(epoch))
        one(tmp_path).save(40, *state(40), best=best(30))
        assert not path.exists()
        return real(self, path)

    monkeypatch.setattr(Checkpoints, "_read", late)
    assert_state(one(tmp_path).load("best"), 30)


# ---- death ----


def fresh(folder: Path) -> None:
    del folder


def two_there(folder: Path) -> None:
    for epoch in (10, 20):
        one(folder).save(epoch, *state(epoch), best=best(10))


def only_the_same_there(folder: Path) -> None:
    one(folder).save(30, *state(30), best=best(30))


def a_damaged_one_there(folder: Path) -> None:
    two_there(folder)
    path = one(folder).save(30, *state(30), best=best(30))
    (path / "shared.pt").write_bytes(b"short")


@pytest.mark.parametrize(
    ("before", "epochs"),
    [(fresh, {None}), (two_there, {20}), (only_the_same_there, {30}), (a_damaged_one_there, {20})],
    ids=["fresh", "two there", "the same there", "a damaged one there"],
)
def test_killed_at_any_step_of_a_save(
    before: Callable[[Path], None], epochs: set[int | None], tmp_path: Path
) -> None:
    """What is there is the old or the new, whole, and the best is the one that it was sealed with."""
    before(tmp_path / "before")

    folders = (tmp_path / str(number) for number in itertools.count())

    def copy() -> Path:
        folder = next(folders)
        shutil.copytree(tmp_path / "before", folder) if (tmp_path / "before").exists() else folder.mkdir()
        return folder

    outcomes, writes = [], 1 if before is fresh else 5
    for folder, survived in killed_at_every_step(
        copy, lambda folder: one(folder).save(30, *state(31), best=best(30)), writes=writes
    ):
        outcomes.append(found_in(folder))
        assert not survived or outcomes[-1] == 31
        one(folder).save(30, *state(32), best=best(30))
        assert found_in(folder) == 32
        assert all(name in ("epoch_000010", "epoch_000020", "epoch_000030") for name in names(folder))
    assert len(outcomes) > 8
    assert set(outcomes) == epochs | {31}
    assert outcomes == sorted(outcomes, key=lambda found: found == 31), "once it is there it stays"


def found_in(folder: Path) -> int | None:
    """Which state a resumed run goes on with; its best is as the sealed score says."""
    checkpoints = one(folder, say=lambda line: None)
    if not checkpoints.found():
        return None
    found = int(checkpoints.load("latest")[0]["epoch"])
    assert_state(checkpoints.load("latest"), found)
    if found != 20 or not [path for path in sealed_folders(checkpoints.folder) if "30" in path.name]:
        assert_state(checkpoints.load("best"), 10 if found == 20 else found)
    return found


class Alone(World):
    """Rank 0 of two; the other one goes before the n-th thing that is said."""

    def all_gather_text(self, text: str) -> list[str]:
        if next(self._messages) == 1:
            raise RuntimeError("connection closed by peer")
        return [text, json.dumps({"given": {"rank_00001.pt": "0" * 64}})]


def test_a_rank_that_goes_leaves_the_ones_before(tmp_path: Path) -> None:
    one(tmp_path).save(10, *state(10))
    for spoken in (0, 1):
        world = Alone(rank=0, size=2, device=torch.device("cpu"), _messages=itertools.count(1 - spoken))
        with pytest.raises((RuntimeError, UserError)):
            Checkpoints(tmp_path, world).save(20, *state(20))
        assert_state(one(tmp_path).load("latest"), 10)


# ---- disks ----


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    call = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)]
    if sys.platform != "linux" or subprocess.run(call, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs Linux and root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_leaves_the_ones_before_and_nothing_else(small_disk: Path) -> None:
    checkpoints = one(small_disk)
    checkpoints.save(10, {"weight": torch.zeros(30_000)}, {})
    with pytest.raises(OSError, match=r"epoch_000020 cannot be written \(No space left on device\)") as full:
        checkpoints.save(20, {"weight": torch.zeros(1_000_000)}, {})
    assert "\n" not in str(full.value)
    assert names(small_disk) == ["epoch_000010"]
    assert checkpoints.load("latest")[0]["weight"].shape == (30_000,)
    checkpoints.save(20, {"weight": torch.zeros(40_000)}, {})
    assert checkpoints.load("latest")[0]["weight"].shape == (40_000,)


@pytest.mark.parametrize("step", range(3), ids=["shared", "own", "seal"])
def test_any_step_may_find_the_disk_full(step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one(tmp_path).save(10, *state(10))
    real, left = os.fsync, itertools.count(step, -1)

    def full(fd: int) -> None:
        if next(left) == 0:
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"epoch_000020 cannot be written \(No space left on device\)"):
        one(tmp_path).save(20, *state(20))
    assert names(tmp_path) == ["epoch_000010"]
    assert_state(one(tmp_path).load("latest"), 10)


def test_a_write_that_lies_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = one(tmp_path)
    checkpoints.save(10, *state(10))
    real = torch.save

    def lying(value: object, file: object) -> None:
        real(value, file)
        file._file.flush()  # type: ignore[attr-defined]
        os.pwrite(file._file.fileno(), b"x", 5000)  # type: ignore[attr-defined]

    monkeypatch.setattr(torch, "save", lying)
    with pytest.raises(OSError, match="reads back differently"):
        checkpoints.save(20, *state(20))
    monkeypatch.undo()
    assert_state(checkpoints.load("latest"), 10)


# ---- several ranks ----


def save_and_load(world: World, folder: Path) -> tuple[int, int, list[str]]:
    said: list[str] = []
    checkpoints = Checkpoints(folder, world, say=said.append)
    for epoch in (10, 20):
        checkpoints.save(epoch, {"epoch": epoch}, {"rank": world.rank, "lane": torch.ones(world.rank + 1)})
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


def hashed_by_each(world: World, folder: Path) -> tuple[list[str], list[str]]:
    """Files that this rank reads and hashes while it saves, and while it loads."""
    hashed: list[str] = []
    real = state_file.sha256_of

    def counting(file: Any) -> str:
        hashed.append(Path(file.name).name)
        return real(file)

    checkpoints = Checkpoints(folder, world)
    state_file.sha256_of = checkpoint.sha256_of = counting  # type: ignore[attr-defined]
    try:
        checkpoints.save(10, {"epoch": 10}, {"rank": world.rank})
        saving = hashed.copy()
        checkpoints.load("latest")
    finally:
        state_file.sha256_of = checkpoint.sha256_of = real  # type: ignore[attr-defined]
    return saving, hashed[len(saving) :]


@pytest.mark.multi
def test_every_rank_hashes_its_own_file_once(tmp_path: Path) -> None:
    for rank, (saving, loading) in enumerate(run_ranks(hashed_by_each, 3, tmp_path, tmp_path)):
        own = [*(["shared.pt"] if rank == 0 else []), f"rank_0000{rank}.pt"]
        assert saving == loading == own


def one_cannot_write(world: World, folder: Path, faulty: int) -> list[str]:
    checkpoints = Checkpoints(folder, world)
    checkpoints.save(10, {"epoch": 10}, {"rank": world.rank})
    real, messages = checkpoint.write_state, []

    def full(path: Path, state: Any) -> str:
        digest = real(path, state)
        if world.rank == faulty:
            raise OSError(28, "No space left on device")
        return digest

    def unseen(path: Path, state: Any) -> str:
        digest = real(path, state)
        if world.rank == faulty:
            path.unlink()
        return digest

    for wrong in (full, unseen):
        checkpoint.write_state = wrong  # type: ignore[attr-defined]
        try:
            checkpoints.save(20, {"epoch": 20}, {"rank": world.rank})
        except (OSError, UserError) as error:
            messages.append(str(error))
        finally:
            checkpoint.write_state = real  # type: ignore[attr-defined]
    assert checkpoints.load("latest")[1] == {"rank": world.rank}
    return messages


@pytest.mark.multi
@pytest.mark.parametrize("faulty", [0, 1])
def test_all_ranks_learn_that_one_cannot_write(faulty: int, tmp_path: Path) -> None:
    first, second = run_ranks(one_cannot_write, 2, tmp_path, tmp_path, faulty)
    assert first == second
    assert "epoch_000020 cannot be written (No space left on device)" in first[0]
    lost = "shared.pt" if faulty == 0 else "rank_00001.pt"
    assert f"{lost}; put --run-dir where all machines see it" in first[1]
    assert names(tmp_path) == ["epoch_000010"]


def texts(world: World) -> list[str]:
    return world.all_gather_text("grüße" * world.rank)


@pytest.mark.multi
def test_texts_of_any_length_reach_all_ranks(tmp_path: Path) -> None:
    assert run_ranks(texts, 3, tmp_path) == [["", "grüße", "grüßegrüße"]] * 3
    assert World.single().all_gather_text("alone") == ["alone"]
