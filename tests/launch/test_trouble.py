"""Mistakes and failures through the command line: status, message, folder, and no worker left."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bnsgcn.record.run_folder import RunFolder
from bnsgcn.train.seal import sealed_folders
from bnsgcn.workers.outcome import WorkerFailure
from launch.cli import main
from launch.ending import ending, guarded
from launch.options import Train
from partition.errors import Stopped, UserError
from tests.launch.scene import NODES, Command, newest_checkpoint, shared_state, write_graph

SMALL = ("--layers", "2", "--hidden", "8", "--dropout", "0", "--eval-every", "5")


def test_parquet_without_pyarrow_is_one_line(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    said = command("predict", tmp_path / "run", "--out", tmp_path / "rows.parquet", "--format", "parquet")
    assert said.mistake().startswith("pyarrow cannot be imported")
    assert said.mistake().endswith("pip install 'bnsgcn[parquet]', or use --format npy")
    assert not list(tmp_path.iterdir())


def with_nan() -> np.ndarray:
    features = np.ones((NODES, 4), np.float32)
    features[17, 2] = np.nan
    return features


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"feat": with_nan()}, r"row 17 \(of 240\)"),
        ({"label": np.full(NODES, -7)}, "label -7 of node 0"),
        ({"edge_index": np.array([[0, 1], [1, 999]])}, "names node 999, but there are 240 nodes"),
        ({"test_idx": np.array([], np.int64)}, "test_idx is empty"),
        ({"feat": None}, "features=degree .* features=random:64"),
        ({"train_idx": np.arange(300)}, "names node 299, but there are 240 nodes"),
    ],
)
def test_a_graph_with_a_fault(
    changed: dict[str, object], message: str, command: Command, tmp_path: Path
) -> None:
    graph = write_graph(tmp_path / "bad.npz", **changed)
    ended = command("partition", f"npz:{graph}", "--parts", "2", "--out", tmp_path / "parts")
    assert re.search(message, ended.mistake()), ended.err
    assert not (tmp_path / "parts").exists()
    ended = command("train", f"npz:{graph}", "--run-dir", tmp_path / "run", "--cache-dir", tmp_path / "cache")
    assert re.search(message, ended.mistake()), ended.err
    assert not (tmp_path / "run").exists()


def test_wrong_names_and_numbers(command: Command, two_parts: Path, tmp_path: Path) -> None:
    graph = write_graph(tmp_path / "small.npz")
    out = ("--out", tmp_path / "parts")
    assert "500 parts for 240 nodes" in command("partition", f"npz:{graph}", "--parts", "500", *out).mistake()
    assert "did you mean 'npz'?" in command("partition", f"npx:{graph}", "--parts", "2", *out).mistake()
    assert "no such file" in command("partition", f"npz:{graph}.gone", "--parts", "2", *out).mistake()
    none = command("partition", f"npz:{graph}", "--parts", "0", *out).mistake()
    assert "--parts 0 is out of range; use 1 to" in none
    exists = command("partition", f"npz:{graph}", "--parts", "2", "--out", two_parts).mistake()
    assert "exists already" in exists
    run = ("--run-dir", tmp_path / "run")
    assert (
        f"--parts 3, but {two_parts} holds 2 parts"
        in command("train", two_parts, "--parts", "3", *run).mistake()
    )
    assert "no folder of parts" in command("train", tmp_path / "gone", *run).mistake()
    assert "did you mean 'npz'?" in command("train", f"npx:{graph}", *run).mistake()
    assert "manifest.json" in command("inspect", tmp_path).mistake()
    assert "is no run folder" in command("evaluate", tmp_path).mistake()
    assert "is no run folder" in command("predict", tmp_path, "--out", tmp_path / "x.npy").mistake()
    assert "exists already" in command("predict", tmp_path, "--out", graph).mistake()
    assert "does not end in .npy" in command("predict", tmp_path, "--out", tmp_path / "x.txt").mistake()
    assert "there is no folder" in command("predict", tmp_path, "--out", tmp_path / "a" / "x.npy").mistake()
    assert "did you mean '--hidden'?" in command("train", two_parts, *run, "--hiden", "3").mistake()
    assert (
        "1000000 parts need as many workers" in command("train", graph, "--parts", "1000000", *run).mistake()
    )
    assert not (tmp_path / "run").exists()


def test_what_ends_as_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever reaches the command's end, as status and line."""

    def told(error: BaseException) -> tuple[int, str]:
        def fail(_: object) -> int:
            raise error

        return guarded(["doctor"], fail), capsys.readouterr().err

    assert told(UserError("a\n  b")) == (2, "bnsgcn: error: a b\n")
    assert told(WorkerFailure("rank 1 failed: x")) == (1, "bnsgcn: error: rank 1 failed: x\n")
    assert told(Stopped(signal.SIGTERM))[0] == 143
    assert told(KeyboardInterrupt()) == (130, "bnsgcn: error: stopped by SIGINT\n")
    assert told(PermissionError(13, "Permission denied", "/none/x")) == (
        2,
        "bnsgcn: error: /none/x: Permission denied\n",
    )
    assert told(OSError(28, "No space left on device")) == (1, "bnsgcn: error: No space left on device\n")
    assert told(OSError(36, "File name too long", "x" * 300))[0] == 2
    for foreign in (ArithmeticError("a bug of ours"), ValueError("torch's own")):
        status, said = told(foreign)
        assert status == 1
        assert said.startswith(f"bnsgcn: error: {type(foreign).__name__}: {foreign}\nTraceback (most recent")
        assert "in fail\n    raise error" in said, "the traceback is kept"


def test_the_traceback_of_a_run_stays_in_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    command = Train(source="parts", run_dir=run_dir)
    assert ending(KeyError("x"), command) == 1
    assert capsys.readouterr().err.count("\n") > 1, "there is no run yet"
    run_dir.mkdir()
    (run_dir / "config.json").write_text("{}")
    assert ending(KeyError("x"), command) == 1
    kept = run_dir / "errors" / "launcher.txt"
    assert capsys.readouterr().err == f"bnsgcn: error: KeyError: 'x'; its traceback is in {kept}\n"
    assert kept.read_text().rstrip().endswith("KeyError: 'x'")


@pytest.mark.parametrize(
    ("words", "way_out"),
    [
        ("partition x --parts 2 --out o", "take --method streaming, or scratch=FOLDER"),
        ("train x --run-dir r", "take --method streaming, or scratch=FOLDER"),
        ("plan x", "partition into more parts, or use fewer --hidden"),
        ("predict r --out x.npy", "more machines or one with more memory"),
    ],
)
def test_the_way_out_of_a_lack_of_memory_fits_the_command(
    words: str, way_out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> int:
        raise MemoryError("Unable to allocate 3 TiB")

    assert guarded(words.split(), fail) == 1
    said = capsys.readouterr().err
    assert said.startswith("bnsgcn: error: not enough memory: Unable to allocate 3 TiB; ")
    assert way_out in said
    assert said.count("\n") == 1


def test_warnings_come_back_after_the_command(command: Command) -> None:
    before = list(warnings.filters)
    assert "unknown command" in command("trian").mistake()
    assert warnings.filters == before


NASTY = "\x1b]0;owned\x07\x1b[2J\u202e\udcff\u009b"


def test_names_from_outside_move_no_cursor(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('"hid\\u001b[2Jen" = 3\n"\\u009b" = 1\n')
    for name in (NASTY, NASTY.replace("\udcff", "")):
        for call in [
            ("inspect", name),
            ("train", f"npz:{name}.npz", "--run-dir", tmp_path / "run"),
            ("train", "x", "--run-dir", "y", f"--{name}"),
            ("train", "x", "--run-dir", "y", "--config", file),
            ("train", "x", "--run-dir", "y", "--config", name),
            ("train", "x", "--run-dir", "y", "--model", name),
            ("train", "x", "--run-dir", "y", "--hidden", name),
            ("evaluate", name),
            (name,),
        ]:
            said = command(*call).mistake()
            assert said.isprintable(), said
            assert "\\x1b" in said


def test_a_graphs_name_from_outside_moves_no_cursor(
    command: Command, two_parts: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(two_parts, own)
    manifest = json.loads((own / "manifest.json").read_text())
    (own / "manifest.json").write_text(json.dumps(manifest | {"name": f"graph{NASTY}"}))
    for words in (("inspect", own), ("plan", own)):
        ended = command(*words)
        assert ended.status == 0, ended
        assert ended.out.replace("\n", "").isprintable(), ended.out
        assert "graph\\x1b]0;owned" in ended.out


@pytest.fixture
def own_parts(two_parts: Path, tmp_path: Path) -> Path:
    """A copy of the parts that a test may damage."""
    shutil.copytree(two_parts, tmp_path / "own")
    return tmp_path / "own"


@pytest.mark.multi
@pytest.mark.parametrize("damage", ["truncate", "flip"])
def test_a_damaged_part_is_named(damage: str, command: Command, own_parts: Path, tmp_path: Path) -> None:
    path = own_parts / "part_00001" / "features.npy"
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(content[:-8])
    else:
        content[-5] ^= 16
        path.write_bytes(content)
    message = command("train", own_parts, "--run-dir", tmp_path / "run", *SMALL).mistake()
    assert "part_00001/features.npy" in message


@pytest.mark.multi
def test_a_missing_part_is_named(command: Command, own_parts: Path, tmp_path: Path) -> None:
    shutil.rmtree(own_parts / "part_00001")
    message = command("train", own_parts, "--run-dir", tmp_path / "run", *SMALL).mistake()
    assert "part_00001" in message


@pytest.fixture(scope="module")
def a_run(two_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on two parts; copy before use."""
    run_dir = tmp_path_factory.mktemp("runs") / "done"
    assert (
        main(["train", str(two_parts), "--run-dir", str(run_dir), *SMALL, "--epochs", "10", "--quiet"]) == 0
    )
    return run_dir


def test_a_run_of_another_graph_or_model(
    command: Command, a_run: Path, two_parts: Path, three_parts: Path
) -> None:
    given = ("--run-dir", a_run, *SMALL, "--resume")
    message = command("train", three_parts, *given).mistake()
    assert "is a run on 'small' in 2 parts" in message
    assert "these parts are 'other' in 3 parts" in message
    message = command("train", two_parts, *given, "--model", "gcn").mistake()
    assert "--model is gcn, the run in" in message
    assert "was started with sage" in message


@pytest.mark.multi
def test_a_checkpoint_of_another_model(
    command: Command, a_run: Path, two_parts: Path, tmp_path: Path
) -> None:
    shutil.copytree(a_run, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    facts = json.loads(path.read_text())
    facts["config"]["hidden"] = 24
    path.write_text(json.dumps(facts))
    message = command("evaluate", tmp_path / "run").mistake()
    assert "has model sage 2x8" in message
    assert "this run has sage 2x24" in message


@pytest.mark.multi
def test_a_damaged_checkpoint_is_passed_over(
    command: Command, a_run: Path, two_parts: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(a_run, run_dir)
    newest = newest_checkpoint(run_dir)
    (newest / "shared.pt").write_bytes(b"nothing")
    ended = command("train", two_parts, "--run-dir", run_dir, *SMALL, "--epochs", "12", "--resume")
    assert ended.status == 0, ended
    assert ended.err == (
        f"bnsgcn: checkpoint {newest.name} is damaged (shared.pt has changed on disk); "
        f"going back to the one before\n"
    )
    assert [line["epoch"] for line in RunFolder(run_dir).metrics()] == list(range(12))


@pytest.mark.multi
def test_a_loss_that_is_not_finite(command: Command, two_parts: Path, tmp_path: Path) -> None:
    ended = command(
        "train", two_parts, "--run-dir", tmp_path / "run", *SMALL, "--norm", "none", "--lr", "1e30"
    )
    assert ended.status == 1, ended
    assert "the loss is " in ended.err
    assert " in epoch " in ended.err
    assert "layer" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.multi
def test_a_rank_that_raises(command: Command, two_parts: Path, tmp_path: Path) -> None:
    command.fault(1, 7, "raise")
    run_dir = tmp_path / "run"
    ended = command("train", two_parts, "--run-dir", run_dir, *SMALL, "--epochs", "20")
    assert ended.status == 1, ended
    trace = run_dir / "errors" / "rank_1.txt"
    assert ended.err == (
        f"bnsgcn: error: rank 1 failed: ArithmeticError: seven is not eight; its traceback is in {trace}\n"
    )
    assert trace.read_text().rstrip().endswith("ArithmeticError: seven is not eight")
    command.no_fault()
    ended = command("train", two_parts, "--run-dir", run_dir, *SMALL, "--epochs", "20", "--resume")
    assert ended.status == 0, ended
    assert "going on at epoch 5" in ended.out
    whole = command("train", two_parts, "--run-dir", tmp_path / "whole", *SMALL, "--epochs", "20")
    assert whole.status == 0
    assert losses(run_dir) == losses(tmp_path / "whole")


def losses(run_dir: Path) -> list[float]:
    return [line["loss"] for line in RunFolder(run_dir).metrics()]


@pytest.mark.multi
@pytest.mark.parametrize(
    ("how", "status", "message"),
    [
        ("kill", 1, "rank 1 of the workers was killed by SIGKILL; the same command with --resume goes on"),
        ("exit", 1, "rank 1 ended with status 3 and said nothing"),
        ("mistake", 2, "--seven is 7, must be 8"),
    ],
    ids=["kill", "exit", "mistake"],
)
def test_a_rank_that_goes(
    how: str, status: int, message: str, command: Command, two_parts: Path, tmp_path: Path
) -> None:
    command.fault(1, 7, how)
    ended = command("train", two_parts, "--run-dir", tmp_path / "run", *SMALL, "--epochs", "20")
    assert ended.status == status, ended
    assert ended.err.startswith(f"bnsgcn: error: {message}"), ended.err
    assert ended.err.count("\n") == 1
    assert shared_state(tmp_path / "run")["progress"]["epoch"] == 5


@pytest.mark.multi
@pytest.mark.parametrize("how", ["stop", "sleep"])
def test_a_rank_that_falls_silent_is_named_within_the_timeout(
    how: str, command: Command, two_parts: Path, tmp_path: Path
) -> None:
    command.fault(1, 7, how)
    run_dir = tmp_path / "run"
    given = ("train", two_parts, "--run-dir", run_dir, *SMALL, "--epochs", "20", "--timeout-s", "8")
    ended = command(*given)
    took_s = time.time() - (run_dir / "rank_1.jsonl").stat().st_mtime
    assert ended.status == 1, ended
    assert took_s < 8 + 25, "from the last epoch of the silent rank to the end of the command, once 40 s"
    where = run_dir / "errors" / "rank_1.txt"
    silent, way_on = "did not answer within 8 s (--timeout-s)", "the same command with --resume goes on"
    words = {
        "stop": f"rank 1 was stopped and {silent}; {way_on} from the last checkpoint",
        "sleep": f"rank 1 {silent}; where it was is in {where}",
    }
    assert ended.err == f"bnsgcn: error: {words[how]}\n"
    if how == "sleep":
        assert "sitecustomize.py" in where.read_text(), "its stack"


@pytest.mark.multi
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ending_the_launcher_ends_the_workers(
    number: signal.Signals, command: Command, two_parts: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    launcher = command.start("train", two_parts, "--run-dir", run_dir, *SMALL, "--epochs", "1000000")
    deadline = time.monotonic() + 120
    while len(RunFolder(run_dir).metrics()) < 10:
        assert time.monotonic() < deadline
        assert launcher.poll() is None, launcher.communicate()
        time.sleep(0.1)
    assert len(command.workers()) == 2
    launcher.send_signal(number)
    _, err = launcher.communicate(timeout=120)
    command.wait_for_no_worker()
    if number == signal.SIGKILL:
        assert launcher.returncode == -9
    else:
        assert launcher.returncode == 128 + number
        assert err == f"bnsgcn: error: stopped by {number.name}; all workers have ended\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    call = ["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(disk)]
    if sys.platform != "linux" or subprocess.run(call, check=False, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs Linux and root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.mark.multi
@pytest.mark.slow
def test_a_full_disk_while_a_checkpoint_is_written(
    command: Command, two_parts: Path, small_disk: Path
) -> None:
    run_dir = small_disk / "run"
    given = ("train", two_parts, "--run-dir", run_dir, *SMALL, "--epochs", "20")
    filler = small_disk / "filler"
    launcher = command.start(*given, "--epochs", "1000000")
    deadline = time.monotonic() + 120
    while not sealed_folders(run_dir / "checkpoints"):
        assert time.monotonic() < deadline
        assert launcher.poll() is None, launcher.communicate()
        time.sleep(0.01)
    with pytest.raises(OSError, match="No space left"), filler.open("wb") as file:
        file.write(bytes(1 << 20))
    _, err = launcher.communicate(timeout=120)
    command.wait_for_no_worker()
    assert launcher.returncode == 1, err
    assert err.count("\n") == 1, err
    assert "rank " in err
    assert "No space left on device" in err
    filler.unlink()
    epoch = shared_state(run_dir)["progress"]["epoch"]
    assert epoch >= 5
    ended = command(*given, "--epochs", str(epoch + 1), "--resume")
    assert ended.status == 0, ended
