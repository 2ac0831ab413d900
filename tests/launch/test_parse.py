"""The command line: what fits becomes a command, what does not becomes one line that says what to do."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bnsgcn.config import TrainConfig
from launch import fields
from launch.fields import help_of
from launch.options import COMMANDS, EXAMPLES, THEMES, Inspect, Partition, Train
from launch.parse import options_of, parse
from partition.errors import UserError

WHERE_NONE = {"gradient_wire_dtype": "fp32", "metric": "macro-f1", "class_weights": "balanced"}
"""Something to give for options that have no value by default."""


def test_every_option_of_a_run_is_an_option_of_train() -> None:
    for field in dataclasses.fields(TrainConfig):
        option = f"--{field.name.replace('_', '-')}"
        value = getattr(TrainConfig(), field.name)
        given = [option] if isinstance(value, bool) else [option, WHERE_NONE.get(field.name, str(value))]
        given += ["--sampling-rate", "0.5"] if field.name == "halo_cache" else []
        command = parse(["train", "parts", "--run-dir", "run", *given])
        assert isinstance(command, Train), option
    assert {"run-dir", "parts", "config", "hidden", "gradient-wire-dtype"} <= set(options_of("train"))


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
        ("partition", "SOURCE, --parts and --out are missing; see bnsgcn partition --help"),
        ("--hepl", "unknown option '--hepl'; did you mean '--help'?"),
        (
            "train x --run-dir y --hiden 3 --use-pp --frobnicate=1 --epoch 4",
            "unknown options '--hiden' (did you mean '--hidden'?), '--use-pp' (here: --precompute), "
            "'--frobnicate', '--epoch' (did you mean '--epochs'?); see bnsgcn train --help",
        ),
        ("train x --run-dir y --use_pp", "unknown option '--use-pp'; here: --precompute; see"),
        (
            "train x --run-dir y --smooth-decay 0.95",
            "unknown option '--smooth-decay'; it is --smooth-window now, in epochs: 1 / (1 - decay), "
            "so --smooth-window 20 for 0.95; see bnsgcn train --help",
        ),
        ("train --dataset reddit", "here: SOURCE, as in bnsgcn train dgl:reddit"),
        ("train x --run-dir y --resume=yes", "--resume takes no value"),
        ("train x --run-dir=", "--run-dir is '', must be a path"),
        ("train x --run-dir y --lr nan", "--lr is nan, must be finite"),
        ("train x --run-dir y --timeout-s=1e999", "--timeout-s is inf, must be finite"),
        ("train x --run-dir y --weight-decay -1", "--weight-decay is -1.0, must be at least 0"),
        ("train x --run-dir y --weight-decay -1e-3", "--weight-decay is -0.001, must be at least 0"),
        (f"train x --run-dir y --hidden {2**64}", f"--hidden is {2**64}, must be below 2**63"),
        (f"train x --run-dir y --hidden {'9' * 5000}", "999', must be a whole number"),
        ("train x --run-dir y --parts 0", "--parts is 0, must be at least 1"),
        ("inspect x --layers -1", "--layers is -1, must be in [1, 10000]"),
        ("inspect x --hidden 0", "--hidden is 0, must be in [1, 10000000]"),
        ("plan x --memory-gb nan", "--memory-gb is nan, must be finite"),
        ("plan x --memory-gb -1", "--memory-gb is -1, must be above 0"),
        ("plan x --link-gbit-s nan", "--link-gbit-s is nan, must be finite"),
        ("plan x --link-gbit-s -inf", "--link-gbit-s is -inf, must be finite"),
        ("plan x --link-gbit-s 0", "--link-gbit-s is 0, must be above 0; leave it out for one machine"),
    ],
)
def test_a_mistake_is_one_line(line: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(line.split(" "))
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
        ("hidden = [3]", "'hidden' is an array, must be one value"),
        ("[model]\nhidden = 3", r"run\.toml: unknown option 'model'|is a table, must be one value"),
        ("hidden = 3.5", r"--hidden is 3.5, must be a whole number \(from .*run\.toml\)"),
        ("hidden = true", "--hidden is True, must be a whole number"),
        ("lr = 1979-05-27", "'lr' is a date or time, must be one value"),
        ("lr = inf", r"--lr is inf, must be finite \(from"),
        ("inductive = 1", "--inductive is 1, must be True or False"),
        ("inductive = 'yes'", "--inductive is 'yes', must be True or False"),
        ("method = 3", "--method is 3, must be text"),
        ('cache-dir = "a\\u0000b"', r"--cache-dir is 'a\\x00b', must be a path"),
        ("use-pp = true\nhiden = 3", "'use-pp' .here: --precompute., 'hiden' .did you mean 'hidden'.."),
        (f"hidden = {'9' * 5000}", "is not TOML: "),
        ("hidden = " + "[" * 20_000, "is not TOML: it is nested too deep"),
        ("hidden = 3\nhidden = 4", "is not TOML: "),
        ("hidden = ", r"run\.toml is not TOML"),
        ("hidden = 0", r"--hidden is 0, must be at least 1 \(from .*run\.toml\)"),
        ("config = 'other.toml'", "unknown option 'config'"),
    ],
)
def test_a_mistake_in_the_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        parse(["train", "x", "--run-dir", "r", "--config", str(file)])
    with pytest.raises(UserError, match="cannot be read: No such file"):
        parse(["train", "x", "--run-dir", "r", "--config", str(tmp_path / "gone.toml")])


ODD = (
    *(
        "",
        "-1",
        "nan",
        "-inf",
        "1e999",
        "x",
        "--",
        "-",
        "-x",
        "--foo",
        "=",
        "9" * 5000,
        "None",
        "\x1b[2J",
        "\udcff",
    ),
    *(
        "\0",
        "1_000",
        "0x10",
        ".5",
        "--no-",
        "--no-lr",
        "%(prog)s",
        "@file",
        "--help=3",
        "---",
        "--lr=",
        "--lr==3",
    ),
)


def test_no_line_is_anything_but_a_command_or_a_mistake() -> None:
    draw = np.random.default_rng(0)
    mistakes = []
    for _ in range(500):
        name = str(draw.choice([*COMMANDS]))
        words = [f"--{option}" for option in options_of(name)]
        words += [f"{word}={odd}" for word in words for odd in draw.choice(ODD, 2)] + list(ODD)
        try:
            parse([name, *map(str, draw.choice(words, draw.integers(0, 6)))])
        except UserError as error:
            mistakes.append(str(error))
    assert len(mistakes) > 400
    assert all(mistake.isprintable() for mistake in mistakes)


def shown_by(given: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        parse(given)
    assert caught.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches_by_example(
    name: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    shown = shown_by([name, "--help"], capsys)
    assert max(len(line) for line in shown.splitlines()) <= columns
    assert "\x1b" not in shown
    plain = " ".join(shown.replace("\\\n", " ").split())
    for example in EXAMPLES[name]:
        assert example in plain
    texts = help_of(COMMANDS[name])
    for option in fields.options_of(COMMANDS[name]):
        assert option.name.lstrip("-") in plain
        assert texts[option.field] in plain, option.field
        if isinstance(option.default, int | str | float) and not isinstance(option.default, bool):
            assert (
                f"{texts[option.field]} (default {option.default:{'g' if option.kind is float else ''}})"
                in plain
            )


def test_help_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    shown = shown_by([], capsys)
    assert shown == shown_by(["--help"], capsys)
    assert all(name in shown for name in COMMANDS)


def test_every_option_of_a_run_has_one_theme() -> None:
    themed = [field for fields_of in THEMES.values() for field in fields_of]
    assert sorted(themed) == sorted(field.name for field in dataclasses.fields(TrainConfig))


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
