"""A run goes on with fewer workers under torchrun, then on parts that were cut anew."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bnsgcn.record.run_folder import RunFolder
from tests.launch.scene import NODES, Command, write_graph
from tests.launch.test_torchrun import torchrun

FEW = ("--layers", "2", "--hidden", "8", "--eval-every", "2", "--threads", "1")


def launched(workers: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    call = [*torchrun("--standalone", "--nproc-per-node", str(workers)), *map(str, arguments)]
    return subprocess.run(call, check=False, capture_output=True, text=True, timeout=120)


@pytest.mark.multi
def test_fewer_workers_under_torchrun_then_other_parts(command: Command, tmp_path: Path) -> None:
    source, run_dir = f"npz:{write_graph(tmp_path / 'graph.npz')}", tmp_path / "run"
    given = (source, "--run-dir", run_dir, "--cache-dir", tmp_path / "cache", *FEW)
    first = launched(2, *given, "--epochs", "4")
    assert first.returncode == 0, first
    fewer = launched(1, *given, "--epochs", "6", "--resume")
    assert fewer.returncode == 0, fewer
    said = (
        "checkpoint epoch_000004 is of another cut of the graph (2 workers then, 1 now): weights, optimiser"
    )
    assert fewer.stderr.count(said) == 1

    (one,) = (tmp_path / "cache").glob("*-1-*")
    wanted = ("train", one, "--run-dir", run_dir, *FEW, "--epochs", "8", "--resume", "--parts", "2")
    way_out = f"bnsgcn repartition {one} --parts 2 --out "
    assert f"holds 1 parts; leave --parts out, or cut the graph anew: {way_out}" in command(*wanted).mistake()
    two, options = tmp_path / "two", ("--method", "random", "--seed", "3")
    ended = command("repartition", one, "--parts", "2", "--out", two, *options)
    assert (ended.status, ended.err) == (0, ""), ended
    assert "reading the 1 parts of" in ended.out
    ended = command("train", two, *wanted[2:])
    assert ended.status == 0, ended
    assert "(1 workers then, 2 now)" in ended.err
    assert [line["epoch"] for line in RunFolder(run_dir).metrics()] == list(range(8))

    scores = json.loads(command("evaluate", run_dir, "--json").out)
    summary = RunFolder(run_dir).summary()
    assert summary is not None
    assert scores["val_score"] == pytest.approx(summary["val_score"])
    assert RunFolder(run_dir).open().parts_dir == two
    assert command("predict", run_dir, "--out", tmp_path / "rows.npy").status == 0
    assert np.isfinite(np.load(tmp_path / "rows.npy")).all()
    assert np.load(tmp_path / "rows.npy").shape == (NODES, 3)
    assert command("report", run_dir, "--format", "md", "--out", tmp_path / "run.md").status == 0
