"""Signals: what was not finished is gone, and the exit status says what came."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pymetis
import pytest

from partition.adjacency import csr_from_arcs
from partition.assign.metis import metis_csr
from partition.disk import whole_folder
from partition.errors import Stopped
from partition.stopping import Stop, stoppable
from tests.partition.graphs import random_arcs

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
    _, err = process.communicate(timeout=120)
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


def test_nobody_is_stopped_twice() -> None:
    """Also where one that is stoppable calls another: who cleans up is left in peace."""
    with pytest.raises(Stopped), stoppable() as outer, stoppable() as inner:
        assert inner is outer
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("watched", [True, False])
def test_metis_is_ended_at_once(watched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's handlers would wait until it returns. A caller without ours keeps what it has."""
    seen: list[object] = []
    real = pymetis.part_graph

    def noted(*arguments: object, **options: object) -> object:
        seen.extend([signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)])
        return real(*arguments, **options)

    monkeypatch.setattr(pymetis, "part_graph", noted)
    graph = csr_from_arcs(*random_arcs(np.random.default_rng(0), 20, 60), 20, symmetrise=True)
    if watched:
        with stoppable():
            metis_csr(graph, 2)
            assert isinstance(signal.getsignal(signal.SIGINT), Stop)
    else:
        metis_csr(graph, 2)
    assert seen == [signal.SIG_DFL if watched else signal.default_int_handler, signal.SIG_DFL]
