"""The lock on a run folder: one process writes, the second learns who; it goes with its process."""

from __future__ import annotations

import errno
import fcntl
import gc
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bnsgcn.record import run_lock
from bnsgcn.record.run_lock import RunLock
from partition.errors import UserError

HOLD = """
import sys, time
from pathlib import Path
from bnsgcn.record.run_lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "PATIENCE_S", 0.0)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lock on `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_second_process_learns_who_the_first_is(
    holder: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = (
        rf"--run-dir {tmp_path} is in use by process {holder.pid} on {socket.gethostname()}; "
        rf"wait for it, end it, or name a new folder \(if it has ended: remove {tmp_path}/.lock\)$"
    )
    for refused in (RunLock(tmp_path).acquire, RunLock(tmp_path).check):
        with pytest.raises(UserError, match=message):
            refused()
    (tmp_path / ".lock").write_bytes(b"\xff\x00what")
    with pytest.raises(UserError, match="in use by another process;"):
        RunLock(tmp_path).acquire()
    holder.send_signal(signal.SIGKILL)
    monkeypatch.setattr(run_lock, "PATIENCE_S", 30.0)  # the kernel needs a moment, and is given it
    RunLock(tmp_path).check()
    RunLock(tmp_path).acquire()


def test_it_is_let_go_by_release_and_with_its_object(tmp_path: Path) -> None:
    first, second = RunLock(tmp_path), RunLock(tmp_path)
    first.acquire()
    first.acquire()
    first.check()
    with pytest.raises(UserError, match=f"process {os.getpid()} on"):
        second.acquire()
    first.release()
    first.release()
    assert (tmp_path / ".lock").read_bytes() == b""
    second.acquire()
    with pytest.raises(UserError):
        first.check()
    del second
    gc.collect()
    first.acquire()


def test_a_child_that_ends_lets_nothing_go(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    lock.acquire()
    child = os.fork()
    if child == 0:
        lock.release()
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(UserError, match=f"process {os.getpid()} on"):
        RunLock(tmp_path).check()


def test_a_folder_without_a_lock_is_free(tmp_path: Path) -> None:
    RunLock(tmp_path / "nowhere").check()
    with pytest.raises(FileNotFoundError):
        RunLock(tmp_path / "nowhere").acquire()


def test_without_kernel_locks_what_is_written_has_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(fd: int, kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    path, host = tmp_path / ".lock", socket.gethostname()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for content in ("", "nonsense", f"{host} {ended.pid}\n", f"{host} {os.getpid()}\n", f"{host} {10**30}"):
        path.write_text(content)
        RunLock(tmp_path).check()
        lock = RunLock(tmp_path)
        lock.acquire()
        assert path.read_text() == f"{host} {os.getpid()}\n"
        lock.release()
    for content in (f"{host} {os.getppid()}\n", "elsewhere 17\n"):
        path.write_text(content)
        name, number = content.split()
        with pytest.raises(UserError, match=f"in use by process {number} on {name}; .* remove {path}"):
            RunLock(tmp_path).acquire()
        path.unlink()
        RunLock(tmp_path).acquire()
