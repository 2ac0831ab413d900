"""One run writes into a folder; others may read there, and go on after it, however it ended."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

from bnsgcn.record.run_folder import RunFolder
from bnsgcn.train.seal import sealed_folders
from tests.launch.scene import Command, newest_checkpoint, shared_state

SMALL = ("--layers", "2", "--hidden", "8", "--dropout", "0", "--eval-every", "5", "--threads", "1")


def ended(command: Command, *arguments: str | Path) -> tuple[int, str, str]:
    process = command.start(*arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.mark.multi
@pytest.mark.slow
def test_two_runs_in_one_folder(command: Command, two_parts: Path, tmp_path: Path) -> None:
    """The second is told who the first is; evaluation goes on beside it; a killed one is followed at once."""
    run_dir = tmp_path / "run"
    train = ("train", two_parts, "--run-dir", run_dir, *SMALL)
    first = command.start(*train, "--epochs", "1000000")
    deadline = time.monotonic() + 120
    while not sealed_folders(run_dir / "checkpoints"):
        assert time.monotonic() < deadline
        assert first.poll() is None, first.communicate()
        time.sleep(0.05)
    (holder,) = [worker.pid for worker in command.workers() if worker.environ()["RANK"] == "0"]
    status, out, err = ended(command, *train, "--epochs", "1000000", "--resume")
    assert (status, err) == (
        2,
        f"bnsgcn: error: --run-dir {run_dir} is in use by process {holder} on {socket.gethostname()}; wait "
        f"for it, end it, or name a new folder (if it has ended: remove {run_dir}/.lock)\n",
    ), out
    assert "starting" not in out, "no worker was started for that"
    status, out, err = ended(command, "evaluate", run_dir, "--json")
    assert status == 0, err
    assert json.loads(out)["val_score"] > 0
    assert first.poll() is None
    first.send_signal(signal.SIGKILL)
    last = shared_state(run_dir)["progress"]["epoch"] + 50
    status, out, err = ended(command, *train, "--epochs", str(last), "--resume")
    assert (status, err) == (0, ""), "the dead one's lock has gone with it"
    assert "going on at epoch" in out
    first.communicate()
    for name in ("metrics.jsonl", "rank_0.jsonl", "rank_1.jsonl"):
        lines = (run_dir / name).read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in lines] == list(range(last)), name
    assert (run_dir / ".lock").read_bytes() == b""


@pytest.mark.multi
def test_damaged_checkpoints_are_no_reason_to_start_again(
    command: Command, two_parts: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    train = ("train", two_parts, "--run-dir", run_dir, *SMALL)
    assert command(*train, "--epochs", "10").status == 0
    for folder in sealed_folders(run_dir / "checkpoints"):
        (folder / "rank_00001.pt").write_bytes(b"short")
    before = (run_dir / "metrics.jsonl").read_bytes()
    resume = (*train, "--epochs", "12", "--resume")
    newest = newest_checkpoint(run_dir)
    assert command(*resume).mistake() == (
        f"all checkpoints of the run are damaged, 2 of 2 (the newest, {newest}: rank_00001.pt has changed on "
        f"disk); name a new --run-dir, or remove {run_dir}/checkpoints to start again at epoch 0"
    )
    assert (run_dir / "metrics.jsonl").read_bytes() == before
    assert "is damaged (rank_00001.pt has changed on disk)" in command("evaluate", run_dir).mistake()
    shutil.rmtree(run_dir / "checkpoints")
    again = command(*resume)
    assert again.status == 0
    assert again.err == f"bnsgcn: {run_dir}/checkpoints has no checkpoint yet; training starts at epoch 0\n"
    assert [line["epoch"] for line in RunFolder(run_dir).metrics()] == list(range(12))
