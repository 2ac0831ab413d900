"""Wrong calls of the command: one line that names the thing, status 2, nothing left behind."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import random
import signal
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from bnsgcn.config import TrainConfig
from launch.options import COMMANDS
from tests.campaign import runs
from tests.campaign.driver import Result

LONGEST = 1020
LIMIT_S = 20
WHOLE = (
    "x",
    "1.5",
    "",
    "nan",
    "inf",
    "1e3",
    "9" * 30,
    "-" + "9" * 30,
    "0x10",
    "1,000",
    "\x1b[31m7",
    "٣x",
    "--",
)
REAL = ("x", "", "nan", "inf", "-inf", "1e999", "1,5", "0.1.2", "\x1b[2J", "½")
CHOICE = ("frob", "", "SAGE ", "gcn,sage", "\x1b[31mgcn", "0")
CONTRADICTIONS = (
    ("--layers", "2", "--linear-layers", "2"),
    ("--model", "gat", "--hidden", "10", "--heads", "4"),
    ("--model", "gat", "--precompute"),
    ("--backend", "nccl", "--device", "cpu"),
    ("--halo-cache",),
    ("--dropout", "1"),
    ("--sampling-rate", "1.01"),
    ("--smooth-window", "0.5"),
    ("--layers", "0"),
    ("--lr", "0"),
    ("--epochs", "-1"),
    ("--threads", "100000"),
    ("--timeout-s", "1e300"),
    ("--timeout-s", "0"),
    ("--seed", str(1 << 64)),
    ("--weight-decay", "-1"),
    ("--parts", "3"),
    ("--parts", "0"),
    ("--config", "/nowhere.toml"),
)
SOURCES = (
    "npx:a.npz", "npz:/nowhere.npz", "npz:", "synthetic:nodes=x", "synthetic:nodes=-1", "synthetic:nodes=1x",
    "synthetic:degree=nan", "synthetic:between=2", "synthetic:frob=1", "synthetic:seed=" + "9" * 30,
    "ogb:ogbn-nothing", "dgl:nothing-there", "pyg:Nothing/There", "", "synthetic:noise=inf", "npz:/dev/null",
    "npz:/", "synthetic:train=0.9,val=0.9", "synthetic:nodes=10,degree=50", "/nowhere/parts", "nowhere/",
    "x" * 5000,
)  # fmt: skip
FOREIGN = ("--use-pp", "--n-layers", "--enable-pipeline", "--hiden", "--leyers", "--lr_", "---", "--é", "-q")


class Calls:
    """See the module."""

    name = "calls"
    promise = "a wrong call ends with status 2 and one line, at once, and leaves nothing behind"

    def run(self, case: int, folder: Path) -> Result:
        """One wrong call."""
        chance = random.Random(case)
        makers: list[Callable[[random.Random, Path], list[str]]] = [
            _bad_value, _bad_value, _bad_value, _bad_value, _contradiction, _bad_source, _foreign, _missing,
            _toml,
            _bad_folder,
        ]  # fmt: skip
        arguments = makers[case % len(makers)](chance, folder)
        before = sorted(str(path) for path in folder.rglob("*"))
        result, shown = Result(), repr(arguments)[:300]
        status, err = called(arguments)
        result.expect(status == 2, f"case {case}: {shown} ended with status {status}: {err[:200]!r}")
        result.expect(
            err.startswith("bnsgcn: error: ") and err.count("\n") == 1 and err.rstrip("\n").isprintable(),
            f"case {case}: {shown} printed {err[:300]!r}",
        )
        result.expect(len(err) <= LONGEST, f"case {case}: {shown} printed {len(err)} characters")
        after = sorted(str(path) for path in folder.rglob("*"))
        result.expect(after == before, f"case {case}: {shown} left {set(after) - set(before)}")
        return result


def called(arguments: list[str]) -> tuple[int | None, str]:
    """(status, standard error) of the command in this process."""
    from launch.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _deadline():
        try:
            status: int | None = main(arguments)
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else None
        except BaseException as error:  # a case must not end the campaign
            return None, f"{type(error).__name__}: {error}"
    return status, err.getvalue()


class _Late(BaseException):
    """The call was not refused in time."""


@contextlib.contextmanager
def _deadline() -> Iterator[None]:
    def late(*_: object) -> None:
        raise _Late(f"not refused within {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def options_with_types(command: str) -> list[tuple[str, Any]]:
    """(option, type) of a command."""
    found = []
    kind: Any = COMMANDS[command]
    hints = typing.get_type_hints(kind, include_extras=False)
    for field in dataclasses.fields(kind):
        if hints[field.name] is TrainConfig:
            inner = typing.get_type_hints(TrainConfig)
            found += [(each.name, inner[each.name]) for each in dataclasses.fields(TrainConfig)]
        else:
            found.append((field.name, hints[field.name]))
    skipped = ("source", "folder", "run", "options")
    return [(name.replace("_", "-"), hint) for name, hint in found if name not in skipped]


def wrong_values(hint: Any) -> tuple[str, ...]:
    """Values that no option of this type takes."""
    kinds = [kind for kind in (*typing.get_args(hint), hint) if kind is not type(None)]
    if any(typing.get_origin(kind) is Literal for kind in kinds):
        return CHOICE
    if int in kinds and bool not in kinds:
        return WHOLE
    return REAL if float in kinds else ()


def _base(command: str, folder: Path) -> list[str]:
    """A call of a command that would be right, but for what is added."""
    parts, out = str(runs.parts_dir()), str(folder / "out")
    return {
        "partition": ["partition", "synthetic:nodes=50", "--parts", "2", "--out", out],
        "inspect": ["inspect", parts],
        "plan": ["plan", parts],
        "train": ["train", parts, "--run-dir", out],
        "evaluate": ["evaluate", str(folder)],
        "predict": ["predict", str(folder), "--out", str(folder / "out.npy")],
        "doctor": ["doctor"],
    }[command]


def _bad_value(chance: random.Random, folder: Path) -> list[str]:
    while True:
        command = chance.choice(("partition", "inspect", "plan", "train", "train", "train"))
        name, hint = chance.choice(options_with_types(command))
        values = wrong_values(hint)
        if values:
            value = chance.choice(values)
            glued = chance.random() < 0.5
            return [*_base(command, folder), *([f"--{name}={value}"] if glued else [f"--{name}", value])]


def _contradiction(chance: random.Random, folder: Path) -> list[str]:
    return [*_base("train", folder), *chance.choice(CONTRADICTIONS)]


def _bad_source(chance: random.Random, folder: Path) -> list[str]:
    source = chance.choice(SOURCES)
    if chance.random() < 0.5:
        return ["partition", source, "--parts", "2", "--out", str(folder / "out")]
    return ["train", source, "--run-dir", str(folder / "run"), "--cache-dir", str(folder.parent / "cache")]


def _foreign(chance: random.Random, folder: Path) -> list[str]:
    command = chance.choice(("partition", "inspect", "plan", "train", "evaluate", "predict", "doctor"))
    return [*_base(command, folder), chance.choice(FOREIGN), *chance.choice(((), ("3",)))]


def _missing(chance: random.Random, folder: Path) -> list[str]:
    return chance.choice(
        (
            ["train"],
            ["partition"],
            ["inspect"],
            ["plan"],
            ["evaluate"],
            ["predict"],
            ["frob"],
            ["trian", "x"],
            ["train", str(runs.parts_dir())],
            ["partition", "synthetic"],
            ["predict", str(folder)],
            [""],
            ["partition", "synthetic", "--parts"],
            ["train", "a", "b", "--run-dir", str(folder / "r")],
            ["evaluate", str(folder / "gone")],
            ["inspect", str(folder / "gone")],
            ["\x1b[31mtrain"],
        )
    )


def _toml(chance: random.Random, folder: Path) -> list[str]:
    text = chance.choice(
        (
            "layers = ",
            "layers = 'x'",
            "layers = [1]",
            "frob = 1",
            "layers = 1.5",
            "lr = nan",
            "\x00",
            "= 3",
            "a = " + "[" * 20_000,
            "[layers]\nx = 1",
            "\x1b = 1",
            '"\\u001b[31m" = 1',
            "pipeline = 3",
            "model = 7",
            "layers = 9999999999999999999999",
            "config = 'x'",
            "run_dir = 3\nlayers = 0",
        )
    )
    path = folder / "options.toml"
    path.write_text(text)
    return [*_base("train", folder), "--config", str(path)]


def _bad_folder(chance: random.Random, folder: Path) -> list[str]:
    """A folder or file that is not what the command needs."""
    place = folder / "thing"
    kind = chance.choice(("empty", "file", "json", "list", "deep", "binary", "loop"))
    if kind == "file":
        place.write_text("x")
    elif kind == "loop":
        os.symlink(place, place)
    else:
        place.mkdir()
    text = {"json": "{", "list": "[]", "deep": "[" * 20_000, "binary": "\udcff\x00"}.get(kind)
    if text is not None:
        for name in ("manifest.json", "config.json"):
            (place / name).write_text(text, errors="surrogateescape")
    command = chance.choice(("inspect", "plan", "train", "evaluate", "predict"))
    more = {"train": ["--run-dir", str(folder / "run")], "predict": ["--out", str(folder / "out.npy")]}
    return [command, str(place), *more.get(command, [])]
