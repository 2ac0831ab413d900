"""The command line: what fits becomes a command, what does not becomes one line that says what to do."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from bnsgcn.config import TrainConfig
from launch.options import COMMANDS, EXAMPLES, Inspect, Partition, Train
from launch.parse import Mistake, parse, train_options


def test_every_option_of_a_run_is_an_option_of_train() -> None:
    for field in dataclasses.fields(TrainConfig):
        option = f"--{field.name.replace('_', '-')}"
        value = getattr(TrainConfig(), field.name)
        given = [option] if isinstance(value, bool) else [option, "fp32" if value is None else str(value)]
        given += ["--sampling-rate", "0.5"] if field.name == "halo_cache" else []
        command = parse(["train", "parts", "--run-dir", "run", *given])
        assert isinstance(command, Train), option
    assert {"run-dir", "parts", "config", "hidden", "gradient-wire-dtype"} <= set(train_options())


def test_values_arrive() -> None:
    command = parse(
        ["train", "synthetic", "--run-dir=r", "--parts", "3", "--inductive", "--no-prune", "--lr", "0.5"]
    )
    assert isinstance(command, Train)
    assert (command.source, command.run_dir, command.parts) == ("synthetic", Path("r"), 3)
    assert command.options == TrainConfig(inductive=True, prune=False, lr=0.5)
    command = parse(
        ["partition", "npz:x.npz", "--parts", "4", "--out", "o", "--objective", "cut", "--seed", "3"]
    )
    assert command == Partition(source="npz:x.npz", parts=4, out=Path("o"), objective="cut", seed=3)
    assert parse(["inspect", "o", "--json"]) == Inspect(folder=Path("o"), json=True)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trian", "unknown command 'trian'; did you mean 'train'?; see bnsgcn --help"),
        (
            "train x --run-dr y",
            "unknown option '--run-dr'; did you mean '--run-dir'?; see bnsgcn train --help",
        ),
        ("train x --run-dir y --hiden=3", "unknown option '--hiden'; did you mean '--hidden'?"),
        (
            "train x --run-dir y --model gxn",
            "--model has no choice 'gxn'; did you mean 'gcn'?; it has gat, gcn, sage",
        ),
        ("train x --run-dir y --hidden abc", "--hidden is 'abc', must be a whole number"),
        ("train x --run-dir y --lr fast", "--lr is 'fast', must be a number"),
        ("train x --run-dir y --layers 0", "--layers is 0, must be at least 1"),
        ("train x --run-dir y --dropout -1", "--dropout is -1.0, must be in [0, 1)"),
        ("train x --run-dir y --sampling-rate 2", "--sampling-rate is 2.0, must be in [0, 1]"),
        ("train x --run-dir y --model", "--model needs a value; see bnsgcn train --help"),
        ("train x", "--run-dir is missing; see bnsgcn train --help"),
        ("train --run-dir y", "DIR|SOURCE is missing"),
        ("train x z --run-dir y", "'z' is one argument too many"),
        ("inspect", "DIR is missing; see bnsgcn inspect --help"),
        ("inspect x --jsn", "unknown option '--jsn'; did you mean '--json'?"),
        ("partition x --parts 2", "--out is missing"),
        ("--hepl", "unknown option '--hepl'"),
    ],
)
def test_a_mistake_is_one_line(line: str, message: str) -> None:
    with pytest.raises(Mistake) as caught:
        parse(line.split())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_is_overridden_by_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        'source = "synthetic"\nhidden = 7\nlr = 0.125\ninductive = true\nprune = false\nrun-dir = "r"\n'
    )
    command = parse(["train", "--config", str(file), "--lr", "0.25", "--prune"])
    assert isinstance(command, Train)
    assert (command.source, command.run_dir) == ("synthetic", Path("r"))
    assert command.options == TrainConfig(hidden=7, lr=0.25, inductive=True)
    other = parse(["train", "parts", f"--config={file}", "--run-dir", "other"])
    assert isinstance(other, Train)
    assert (other.source, other.run_dir) == ("parts", Path("other"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hiden = 3", r"run\.toml: unknown option 'hiden'; did you mean 'hidden'\?"),
        ("hidden = 'x'", r"--hidden is 'x', must be a whole number \(from .*run\.toml\)"),
        ("hidden = [3]", "'hidden' is a list, must be one value"),
        ("hidden = ", r"run\.toml is not TOML"),
        ("hidden = 0", "--hidden is 0, must be at least 1"),
        ("config = 'other.toml'", "unknown option 'config'"),
    ],
)
def test_a_mistake_in_the_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(Mistake, match=message):
        parse(["train", "x", "--run-dir", "r", "--config", str(file)])
    with pytest.raises(Mistake, match="cannot be read: No such file"):
        parse(["train", "x", "--run-dir", "r", "--config", str(tmp_path / "gone.toml")])


def test_help_teaches_by_example(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        with pytest.raises(SystemExit) as caught:
            parse([name, "--help"])
        assert caught.value.code == 0
        shown = capsys.readouterr().out
        assert EXAMPLES[name][0] in shown
    with pytest.raises(SystemExit):
        parse([])
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


@pytest.mark.parametrize("example", [line for lines in EXAMPLES.values() for line in lines])
def test_the_examples_are_understood(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cora.toml").write_text("layers = 2\n")
    words = example.split()
    given = words[1:] if words[0] == "bnsgcn" else ["train", *words[words.index("launch.train") + 1 :]]
    assert isinstance(parse(given), COMMANDS[given[0]])


def test_help_does_not_wait_for_torch() -> None:
    check = (
        "import sys, launch.parse\nlaunch.parse.parse(['inspect', 'x'])\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", check], check=True)
