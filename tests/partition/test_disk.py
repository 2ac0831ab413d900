"""Full disks and signals: what was not finished is gone, and one line says why."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from partition import disk
from partition.adjacency import csr_from_arcs
from partition.build import partition_graph
from partition.disk import reserve, said_when_full, stoppable, whole_folder
from partition.errors import Stopped, UserError

LARGE = "synthetic:nodes=3000,degree=10,features=256,classes=3"  # 3 MB of features


def command(*arguments: str | Path, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """`bnsgcn partition` in a process of its own, whose files may have `limit` bytes."""

    def limited() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    called = [sys.executable, "-m", "launch.cli", "partition", *map(str, arguments), "--method", "random"]
    return subprocess.run(called, capture_output=True, text=True, check=False, preexec_fn=limited)


def test_partition_on_a_full_disk(small_disk: Path) -> None:
    ended = command(LARGE, "--parts", "2", "--out", small_disk / "new" / "parts")
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "No space left on device" in ended.stderr
    assert list(small_disk.iterdir()) == []


def test_partition_beyond_the_size_that_a_file_may_have(tmp_path: Path) -> None:
    ended = command(LARGE, "--parts", "2", "--out", tmp_path / "new" / "parts", limit=1_000_000)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count("\n") == 1
    assert "File too large: 1.1 MB were written and there is more, but" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_scratch_on_a_full_disk(small_disk: Path) -> None:
    source, target = np.random.default_rng(0).integers(0, 10**5, (2, 400_000))
    with pytest.raises(UserError, match="scratch=") as error:
        csr_from_arcs(source, target, 10**5, symmetrise=True, scratch=small_disk)
    assert "\n" not in str(error.value)
    assert list(small_disk.iterdir()) == []


def test_reserving_more_than_there_is(small_disk: Path) -> None:
    (small_disk / "file").touch()
    reserve(small_disk / "file", 500_000)
    with pytest.raises(UserError, match=r"No space left on device: 5 rows, but .* MB are free; think"):
        with said_when_full(small_disk / "file", "5 rows", "think"):
            reserve(small_disk / "file", 5_000_000)


def test_reserving_where_the_system_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    monkeypatch.setattr(disk, "BLOCK_BYTES", 1000)
    (tmp_path / "file").write_bytes(b"begin")
    reserve(tmp_path / "file", 5500)
    assert (tmp_path / "file").read_bytes() == b"begin" + bytes(5495)


def test_other_errors_of_the_system_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), said_when_full(tmp_path, "", ""):
        raise PermissionError(errno.EACCES, "Permission denied")


STOPPED_HALFWAY = """
import sys, time
from pathlib import Path
import partition.writer, launch.cli
write = partition.writer.FolderWriter.dense_rows
def slow(*arguments):
    print("writing", flush=True)
    time.sleep(0.05)
    write(*arguments)
partition.writer.FolderWriter.dense_rows = slow
options = ["--parts", "200", "--method", "random", "--out", sys.argv[1]]
sys.exit(launch.cli.main(["partition", "synthetic:nodes=400", *options]))
"""


@pytest.mark.parametrize(
    ("number", "status", "words"),
    [
        (signal.SIGTERM, 143, "stopped by SIGTERM"),
        (signal.SIGINT, 130, "stopped by SIGINT"),
        (signal.SIGHUP, 129, "stopped by SIGHUP"),
    ],
)
def test_stopped_while_writing(tmp_path: Path, number: signal.Signals, status: int, words: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED_HALFWAY, str(tmp_path / "new" / "parts")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert any(line == "writing\n" for line in process.stdout)
    assert [path.name[:18] for path in (tmp_path / "new").iterdir()] == [".parts.unfinished-"]
    for _ in range(3):  # an impatient user does not disturb the cleaning
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (status, f"bnsgcn: error: {words}\n")
    assert list(tmp_path.iterdir()) == []


def test_handlers_of_the_caller_are_left_alone(tmp_path: Path) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        with whole_folder(tmp_path / "parts"):
            signal.raise_signal(signal.SIGTERM)
        assert seen == [signal.SIGTERM]
        assert (tmp_path / "parts").is_dir()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_signals_come_back_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="stopped by SIGTERM"), stoppable():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_thread_writes_too(tmp_path: Path) -> None:
    """Signals are the main thread's; whatever else fails is cleaned up in any."""
    errors: list[BaseException] = []

    def write() -> None:
        try:
            with whole_folder(tmp_path / "parts") as folder:
                (folder / "file").write_text("x")
                raise RuntimeError
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    assert len(errors) == 1
    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    """But not what is being written, nor what began a moment ago."""
    out = tmp_path / "parts"
    left, young, foreign = (tmp_path / f".{name}.unfinished-1" for name in ("parts", "parts.new", "other"))
    for folder in (left, young, foreign):
        (folder / "part_00000").mkdir(parents=True)
    fresh = tmp_path / ".parts.unfinished-2"
    fresh.mkdir()
    for folder in (left, foreign):
        os.utime(folder, (1, 1))
    with whole_folder(tmp_path / "parts") as busy:
        os.utime(busy, (1, 1))
        with pytest.raises(UserError, match="exists already"), whole_folder(out):
            (out.parent / "parts").mkdir()
        assert busy.is_dir()
        out.rmdir()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["parts", fresh.name, young.name, foreign.name]
    )


def test_an_existing_folder_is_never_touched(tmp_path: Path) -> None:
    partition_graph("synthetic:nodes=50", parts=1, out=tmp_path / "parts", method="random")
    with pytest.raises(UserError, match="exists already"), whole_folder(tmp_path / "parts"):
        pytest.fail("began")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="exists already"), whole_folder(tmp_path / "link"):
        pytest.fail("began")
