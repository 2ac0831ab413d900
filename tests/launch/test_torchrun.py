"""The torchrun entry: the same program, restarts from the last checkpoint, and two hosts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bnsgcn.record.run_folder import RunFolder
from launch.cli import main
from launch.options import Train
from launch.parse import parse
from tests.launch.hosts import Host
from tests.launch.scene import Command, shared_state, write_parts

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--layers", "2", "--hidden", "8", "--dropout", "0.2", "--eval-every", "5", "--epochs", "20")
SMALL = (*SMALL, "--threads", "1")
RECIPES = ROOT / "launch" / "recipes"


def torchrun(*options: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", *options, "-m", "launch.train"]


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = shared_state(run_dir)["model"]
    return found


def assert_bitwise_equal(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def whole_run(two_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run of `bnsgcn train` on loopback."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    assert main(["train", str(two_parts), "--run-dir", str(run_dir), *SMALL, "--quiet"]) == 0
    return run_dir


@pytest.mark.multi
def test_a_killed_worker_is_started_again_and_goes_on(
    command: Command, whole_run: Path, two_parts: Path, tmp_path: Path
) -> None:
    command.fault(1, 12, "kill")
    run_dir = tmp_path / "run"
    call = [*torchrun("--standalone", "--nproc-per-node", "2", "--max-restarts", "1"), str(two_parts)]
    done = subprocess.run(
        [*call, "--run-dir", str(run_dir), *SMALL], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "going on at epoch 10" in done.stdout
    assert not command.workers()
    assert [line["epoch"] for line in RunFolder(run_dir).metrics()] == list(range(20))
    assert_bitwise_equal(run_dir, whole_run)


AGENT = """
import os, subprocess, sys
os.environ |= {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
for epochs in sys.argv[1].split():
    ended = subprocess.run([sys.executable, "-m", "launch.train", *sys.argv[2:], "--epochs", epochs])
sys.exit(ended.returncode)
"""
"""Starts a worker as torchrun does, and starts it again."""


def test_another_launch_does_not_go_on_unasked(tmp_path: Path) -> None:
    """torchrun's id of a launch without --rdzv-id is "none", the same for all."""
    parts, run_dir = write_parts(tmp_path / "one", parts=1), tmp_path / "run"

    def launch(epochs: str, *more: str) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-c", AGENT, epochs, str(parts), "--run-dir", str(run_dir), *SMALL, *more]
        return subprocess.run(call, check=False, capture_output=True, text=True, timeout=120)

    first = launch("3 5")
    assert first.returncode == 0, first
    assert "going on at epoch 3" in first.stdout
    second = launch("7")
    assert second.returncode == 2
    assert "holds a run already; add --resume" in second.stderr
    assert [line["epoch"] for line in RunFolder(run_dir).metrics()] == list(range(5))
    assert launch("7", "--resume").returncode == 0
    assert [line["epoch"] for line in RunFolder(run_dir).metrics()] == list(range(7))


@pytest.mark.multi
def test_the_wrong_number_of_workers_is_a_mistake(command: Command, two_parts: Path, tmp_path: Path) -> None:
    call = [
        *torchrun("--standalone", "--nproc-per-node", "3"),
        str(two_parts),
        "--run-dir",
        str(tmp_path / "run"),
    ]
    done = subprocess.run(call, check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    way_out = "start 2 workers or cut the graph anew: bnsgcn repartition DIR --parts 3 --out DIR2"
    line = f"bnsgcn: error: 2 parts but 3 workers; {way_out}\n"
    assert done.stderr.count(line) == 1, "one rank speaks for all"
    assert "exitcode  : 2" in done.stderr
    assert "traceback : 2 parts but 3 workers" in done.stderr, "in torchrun's own words"
    assert "launch/train.py" not in done.stderr, "no traceback of a worker"
    assert not (tmp_path / "run").exists()
    assert not command.workers()


@pytest.mark.multi
@pytest.mark.netns
@pytest.mark.slow
def test_two_hosts_train_the_same_weights_as_one_though_a_worker_is_killed(
    command: Command, two_hosts: tuple[Host, Host], whole_run: Path, two_parts: Path, tmp_path: Path
) -> None:
    command.fault(1, 12, "kill")
    run_dir = tmp_path / "run"
    script = str(RECIPES / "two_machines.sh")
    given = [script, str(two_parts), str(run_dir), "1", f"{two_hosts[0].address}:29511"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    started = [
        subprocess.Popen(
            host.call(*given, host.address, *SMALL),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PATH": path},
        )
        for host in two_hosts
    ]
    ends = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], ends
    assert sum("test accuracy" in out for out, _ in ends) == 1, "rank 0 alone speaks"
    assert sum("going on at epoch 10" in out for out, _ in ends) == 1
    command.no_fault()
    assert not command.workers()
    assert_bitwise_equal(run_dir, whole_run)
    other = tmp_path / "other"
    assert command("train", two_parts, "--run-dir", other, *SMALL, "--seed", "1").status == 0
    with pytest.raises(AssertionError):
        assert_bitwise_equal(run_dir, other)


@pytest.mark.parametrize("name", ["reddit", "ogbn-products", "yelp"])
def test_the_recipes_are_understood(name: str) -> None:
    found = parse(["train", "parts", "--run-dir", "run", "--config", str(RECIPES / f"{name}.toml")])
    assert isinstance(found, Train)
    assert found.options.norm == "layer"
    assert found.options.precompute
    expected = {
        "reddit": (4, 256, 0, 0.01, 0.5, 3000, True),
        "ogbn-products": (3, 128, 0, 0.003, 0.3, 500, False),
        "yelp": (4, 512, 2, 0.001, 0.1, 3000, True),
    }
    options = found.options
    assert expected[name] == (
        options.layers, options.hidden, options.linear_layers, options.lr, options.dropout, options.epochs,
        options.inductive,
    )  # fmt: skip


@pytest.mark.parametrize("script", ["recipes/two_machines.sh", "slurm/train.sbatch"])
def test_the_scripts_parse(script: str) -> None:
    subprocess.run(["bash", "-n", str(ROOT / "launch" / script)], check=True)
