"""Workers of one machine: nothing beyond loopback listens, and none outlives the launcher."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bnsgcn.record.run_folder import RunFolder
from bnsgcn.workers.crew import Crew
from bnsgcn.workers.local import _signals_noted, run_local
from bnsgcn.workers.worker import Job
from partition.errors import Stopped
from tests.launch.scene import Command

pytestmark = pytest.mark.usefixtures("fresh_workers")
ROUND_TRIP = Job(task="round_trip", workers=2, arguments={"megabytes": 1})
SMALL = ("--layers", "2", "--hidden", "8", "--eval-every", "5", "--epochs", "1000000")


def listeners(root: psutil.Process) -> list[str]:
    """Addresses at which a process or one that it has started waits for others, over TCP or UDP."""
    found = []
    for process in [root, *root.children(recursive=True)]:
        connections = process.net_connections if hasattr(process, "net_connections") else process.connections
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [
                connection.laddr.ip
                for connection in connections(kind="inet")
                if connection.status == psutil.CONN_LISTEN or (connection.laddr and not connection.raddr)
            ]
    return found


def until(condition: Callable[[], bool], launcher: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        assert launcher.poll() is None, launcher.communicate()
        time.sleep(0.05)


@pytest.mark.multi
def test_a_local_run_listens_on_loopback_alone(command: Command, two_parts: Path, tmp_path: Path) -> None:
    """Whatever the environment says: a stranger who reaches a rendezvous store can run code in torchrun."""
    run_dir = tmp_path / "run"
    seen: set[str] = set()
    launcher = command.start("train", two_parts, "--run-dir", run_dir, *SMALL)
    try:
        root = psutil.Process(launcher.pid)

        def look() -> bool:
            seen.update(listeners(root))
            return len(RunFolder(run_dir).metrics()) > 3

        until(look, launcher)
    finally:
        launcher.terminate()
        launcher.communicate(timeout=120)
    assert seen, "gloo's own sockets"
    assert seen <= {"127.0.0.1", "::1"}
    command.wait_for_no_worker()


def test_a_public_listener_is_seen() -> None:
    words = (
        "import socket, sys; s = socket.create_server(('0.0.0.0', 0)); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert "0.0.0.0" in listeners(psutil.Process())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.bind(("0.0.0.0", 0))
            assert listeners(psutil.Process()).count("0.0.0.0") >= 2
        child.communicate()


@pytest.mark.multi
def test_the_environment_of_another_launch_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside a job of torchrun or SLURM, and from a thread, which cannot note signals."""
    for name, value in {
        "RANK": "7",
        "WORLD_SIZE": "9",
        "MASTER_ADDR": "192.0.2.1",
        "MASTER_PORT": "1",
        "TORCHELASTIC_RUN_ID": "other",
        "GLOO_SOCKET_IFNAME": "nowhere0",
    }.items():
        monkeypatch.setenv(name, value)
    results: list[dict[str, float]] = []
    thread = threading.Thread(target=lambda: results.extend(run_local(ROUND_TRIP)))
    thread.start()
    thread.join(120)
    assert [result["intact"] for result in results] == [1.0, 1.0]


def test_no_worker_is_left_when_one_cannot_be_started(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {**os.environ, "RANK": "0"}
    with pytest.raises(ValueError, match="null"), Crew(tmp_path, [good, good | {"RANK": "\0"}]):
        pass
    assert not command.workers()


def test_signals_are_noted_and_those_that_are_ignored_stay_so() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with _signals_noted() as told:
            for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
                os.kill(os.getpid(), number)
        assert told == [signal.SIGTERM, signal.SIGINT, signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) == before[0]
    finally:
        signal.signal(signal.SIGHUP, before[1])


@pytest.mark.multi
def test_a_signal_while_workers_start(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    entered = Crew.__enter__

    def started(crew: Crew) -> Crew:
        found = entered(crew)
        os.kill(os.getpid(), signal.SIGTERM)
        return found

    monkeypatch.setattr(Crew, "__enter__", started)
    with pytest.raises(Stopped, match="stopped by SIGTERM"):
        run_local(ROUND_TRIP)
    assert not command.workers()
