"""What the tests of the command share: small graphs, the command in this process or its own, its workers."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from bnsgcn.train.seal import sealed_folders
from bnsgcn.train.state_file import read_state
from launch.cli import main
from tests import forked

FAULTS = Path(__file__).parent / "faults"
NODES = 240


def write_graph(path: Path, *, seed: int = 0, multi: bool = False, **changed: object) -> Path:
    """A small graph with three communities that features tell apart, as an npz source."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, NODES)
    ends = rng.integers(0, NODES, (2, 8 * NODES))
    same = label[ends[0]] == label[ends[1]]
    arrays: dict[str, object] = {
        "edge_index": ends[:, same | (rng.random(ends.shape[1]) < 0.1)].astype(np.int32),
        "feat": (
            np.eye(3)[label] @ rng.standard_normal((3, 8)) + 0.5 * rng.standard_normal((NODES, 8))
        ).astype("f4"),
        "label": np.stack([label == 0, label != 1], 1).astype(np.uint8) if multi else label,
        "train_idx": np.arange(0, 120),
        "val_idx": np.arange(120, 180),
        "test_idx": np.arange(180, NODES),
    }
    np.savez(path, **{name: value for name, value in (arrays | changed).items() if value is not None})
    return path


def write_parts(folder: Path, parts: int = 2, *, seed: int = 0, multi: bool = False) -> Path:
    """The same graph, cut."""
    from partition.build import partition_graph

    graph = write_graph(folder.with_suffix(".npz"), seed=seed, multi=multi)
    partition_graph(f"npz:{graph}", parts=parts, out=folder)
    return folder


def newest_checkpoint(run_dir: Path) -> Path:
    """The folder that was sealed last."""
    return sealed_folders(run_dir / "checkpoints")[0]


def shared_state(run_dir: Path) -> dict[str, Any]:
    """What all ranks have in common in the newest checkpoint."""
    with (newest_checkpoint(run_dir) / "shared.pt").open("rb") as file:
        return read_state(file)


@dataclasses.dataclass(frozen=True)
class Ended:
    """How the command ended."""

    status: int
    out: str
    err: str

    def mistake(self) -> str:
        """The one line of a user's mistake."""
        assert self.status == 2, self
        assert self.err.startswith("bnsgcn: error: "), self.err
        assert self.err.count("\n") == 1, self.err
        return self.err.removeprefix("bnsgcn: error: ").rstrip("\n")


class Command:
    """Runs `bnsgcn` in this process and sees to it that no worker is left."""

    def __init__(self, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capfd = capfd
        self._mark = uuid.uuid4().hex
        monkeypatch.setenv("BNSGCN_TEST_MARK", self._mark)
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: str | Path) -> Ended:
        self._capfd.readouterr()
        status = main([str(argument) for argument in arguments])
        out, err = self._capfd.readouterr()
        assert not self.workers(), "workers are left"
        assert not forked.workers_running(), "workers are left"
        return Ended(status, out, err)

    def start(
        self, *arguments: str | Path, module: Sequence[str] = ("-m", "launch.cli")
    ) -> subprocess.Popen[str]:
        """The command in a process of its own."""
        return subprocess.Popen(
            [sys.executable, *module, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def fault(self, rank: int, epoch: int, how: str) -> None:
        """Make a rank of the next run fail."""
        self._monkeypatch.setenv("BNSGCN_TEST_FAULT", f"{rank}:{epoch}:{how}")
        path = os.pathsep.join([str(FAULTS), *sys.path])
        self._monkeypatch.setenv("PYTHONPATH", path)

    def no_fault(self) -> None:
        self._monkeypatch.delenv("BNSGCN_TEST_FAULT")

    def workers(self) -> list[psutil.Process]:
        """Worker processes of this test that are alive."""
        found = []
        for process in psutil.process_iter():
            try:
                environment = process.environ()
                alive = process.status() != psutil.STATUS_ZOMBIE
                if alive and environment.get("BNSGCN_TEST_MARK") == self._mark and "RANK" in environment:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def wait_for_no_worker(self) -> None:
        deadline = time.monotonic() + 60
        while self.workers():
            assert time.monotonic() < deadline, "workers are left"
            time.sleep(0.05)
