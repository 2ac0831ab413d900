"""torchrun's agent, held to its deadline, to the one line of a worker and to its exit status."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bnsgcn.record.run_folder import RunFolder
from tests.launch.hosts import Host, cut
from tests.launch.scene import Command

AGENT = [sys.executable, "-m", "launch.agent"]
ALONE = ("--standalone", "--nproc-per-node", "2", "-m", "launch.train")
SMALL = ("--layers", "2", "--hidden", "8", "--dropout", "0", "--eval-every", "5", "--threads", "1")


def agent(*words: str | Path) -> subprocess.CompletedProcess[str]:
    call = [*AGENT, *map(str, words)]
    return subprocess.run(call, check=False, capture_output=True, text=True, timeout=120)


def test_the_command_line_is_read_before_anything_starts(two_parts: Path, tmp_path: Path) -> None:
    ended = agent(*ALONE, two_parts, "--run-dir", tmp_path / "run", "--hiden", "3")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("bnsgcn: error: unknown option '--hiden'; did you mean '--hidden'?")
    assert ended.stderr.count("\n") == 1
    ended = agent("--standalone", "train.py")
    assert ended.returncode == 2
    assert "there is no '-m launch.train'" in ended.stderr


@pytest.mark.multi
@pytest.mark.parametrize("how", ["stop", "mistake"])
def test_the_last_words_and_the_status_are_the_worker_s(
    how: str, command: Command, two_parts: Path, tmp_path: Path
) -> None:
    command.fault(1, 7, how)
    run_dir = tmp_path / "run"
    ended = agent(*ALONE, two_parts, "--run-dir", run_dir, *SMALL, "--epochs", "20", "--timeout-s", "8")
    took_s = time.time() - (run_dir / "rank_1.jsonl").stat().st_mtime
    lines = ended.stderr.splitlines()
    assert all(line.startswith("bnsgcn: error: ") for line in lines), ended.stderr
    if how == "stop":
        assert ended.returncode == 1
        assert took_s < 8 + 25, "torchrun alone takes half a minute more"
        said = "rank 1 was stopped and did not answer within 8 s (--timeout-s)"
    else:
        assert ended.returncode == 2
        said = "--seven is 7, must be 8"
    assert f"bnsgcn: error: {said}" in lines
    assert not command.workers()


STATES = """
import os, signal, subprocess, sys, time
from launch.agent import _state
states = [_state()]
call = [sys.executable, "-c", "input()"]
child = subprocess.Popen(call, stdin=subprocess.PIPE, env={**os.environ, "RANK": "0"})
def until(state):
    deadline = time.monotonic() + 30
    while _state() != state and time.monotonic() < deadline:
        time.sleep(0.01)
    states.append(_state())
until("at work")
child.send_signal(signal.SIGSTOP)
until("stopped")
child.kill()
until("unnoticed")
child.wait()
print(*states, _state(), sep=", ")
"""


def test_how_it_stands_with_the_workers() -> None:
    ended = subprocess.run([sys.executable, "-c", STATES], check=True, capture_output=True, text=True)
    assert ended.stdout == "alone, at work, stopped, unnoticed, alone\n"


WATCH = """
import sys, time
from pathlib import Path
from launch import torchrun
torchrun.STUCK_S = 0.2
folder = Path(sys.argv[1])
(folder / "rank_0.txt").write_text("of an earlier attempt")
import threading
threading.Thread(target=torchrun._watch_others, args=(folder, 1), daemon=True).start()
time.sleep(1)
(folder / "rank_1.txt").write_text("its own")
time.sleep(1)
print("still here", flush=True)
(folder / "rank_0.txt").write_text("of this attempt, and longer")
time.sleep(600)
"""


def test_a_rank_that_does_not_notice_the_end_of_others_ends(tmp_path: Path) -> None:
    """torchrun on another machine would not end it."""
    call = [sys.executable, "-c", WATCH, str(tmp_path)]
    ended = subprocess.run(call, check=False, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (1, "still here\n")
    where = tmp_path / "rank_1.txt"
    line = f"rank 1: others have failed, and this rank does not notice; where it is is in {where}"
    assert ended.stderr == f"bnsgcn: error: {line}\n"
    assert 'File "<string>"' in where.read_text()


@pytest.mark.multi
@pytest.mark.netns
@pytest.mark.slow
def test_a_cut_link_ends_both_machines(
    command: Command, two_hosts: tuple[Host, Host], two_parts: Path, tmp_path: Path
) -> None:
    run_dir, first = tmp_path / "run", two_hosts[0].address
    meeting = ("--rdzv-backend", "c10d", "--rdzv-id", "cut", "--rdzv-endpoint", f"{first}:29513")
    train = ("-m", "launch.train", str(two_parts), "--run-dir", str(run_dir), *SMALL)
    started = []
    for host in two_hosts:
        place = ("--rdzv-conf", f"is_host={int(host is two_hosts[0])}", "--local-addr", host.address)
        call = [*AGENT, "--nnodes", "2", "--nproc-per-node", "1", *meeting, *place, *train]
        call += ["--epochs", "1000000", "--timeout-s", "8"]
        environment = os.environ | {"GLOO_SOCKET_IFNAME": host.device}
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(host.call(*call), text=True, env=environment, **pipes))
    deadline = time.monotonic() + 120
    while len(RunFolder(run_dir).metrics()) < 5:
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in started)
        time.sleep(0.1)
    cut(*two_hosts)
    cut(*two_hosts[::-1])
    begin = time.monotonic()
    ends = [process.communicate(timeout=120)[1] for process in started]
    assert time.monotonic() - begin < 8 + 60, (
        "plain torchrun asks the other machine for more than two minutes"
    )
    assert [process.returncode for process in started] == [1, 1]
    assert all("has not answered for 8 s (--timeout-s)" in said for said in ends), ends
    assert "Traceback" not in "".join(ends)
    command.wait_for_no_worker()
