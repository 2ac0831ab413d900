"""From command line and TOML file to a command; whatever does not fit becomes one line, a `Mistake`.

The options of a file are put before those of the command line, so that the latter win.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, cast

import tyro
from tyro import _errors as tyro_events

from bnsgcn.config import TrainConfig
from launch.options import ABOUT, COMMANDS, EXAMPLES, FIRST_STEPS, Command, Train
from partition.errors import UserError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Mistake(UserError):
    """Something that the user can put right; the message is one line."""

    def __init__(self, message: str, option: str = "") -> None:
        super().__init__(message)
        self.option = option


def parse(arguments: Sequence[str]) -> Command:
    """The command that `arguments` ask for; SystemExit for --help.

    Raises:
        Mistake: They ask for nothing that there is.
    """
    given = list(arguments)
    if not given:
        given = ["--help"]
    named = given[0] if given[0] in COMMANDS else ""
    if not named and not given[0].startswith("-"):
        raise Mistake(f"unknown command '{given[0]}'{nearest(given[0], COMMANDS)}; see bnsgcn --help")
    path, from_file = _file_options(given) if named == "train" else (None, {})
    tokens = [_token(key, value) for key, value in from_file.items() if key != "source"]
    try:
        with tyro_events.on_parse_error(_Reject(named)):
            command = tyro.cli(
                _grammar(named),
                prog="bnsgcn",
                description=_described(ABOUT, FIRST_STEPS),
                args=[*given[:1], *tokens, *given[1:]],
            )
    except Mistake as mistake:
        if path is not None and _key(mistake.option) in from_file and mistake.option not in given:
            raise Mistake(f"{mistake} (from {path})") from None
        raise
    return _with_source(cast(Command, command), str(from_file.get("source", "")))


def _grammar(named: str) -> Any:
    """The union of all commands; the one that is `named` with its examples."""
    kinds = []
    for name, kind in COMMANDS.items():
        text = _described(str(kind.__doc__), EXAMPLES[name] if name == named else ())
        kinds.append(Annotated[kind, tyro.conf.subcommand(name, description=text)])
    return reduce(or_, kinds)


def _described(text: str, examples: Sequence[str]) -> str:
    return (
        "\n".join([text, "", "For example", "", *(f"  {example}" for example in examples)])
        if examples
        else text
    )


def _with_source(command: Command, source: str) -> Command:
    """The same command; `source` from the file where the command line names none."""
    if isinstance(command, Train) and not command.source:
        if not source:
            raise Mistake("DIR|SOURCE is missing: name a folder of parts or a graph; see bnsgcn train --help")
        return dataclasses.replace(command, source=source)
    return command


def train_options() -> list[str]:
    """Names of all options of `bnsgcn train`, without dashes in front."""
    return options_of("train")


def _key(name: str) -> str:
    return name.lstrip("-").replace("_", "-")


def _file_options(arguments: list[str]) -> tuple[Path | None, dict[str, Any]]:
    """The TOML file that --config names and what is in it, by option name."""
    path = _named_file(arguments)
    if path is None:
        return None, {}
    try:
        values = tomllib.loads(path.read_text())
    except OSError as error:
        raise Mistake(f"--config {path} cannot be read: {error.strerror}; name a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Mistake(f"--config {path} is not TOML: {error}") from None
    known = [*train_options(), "source"]
    for key, value in values.items():
        if _key(key) not in known or _key(key) == "config":
            raise Mistake(f"{path}: unknown option '{key}'{nearest(_key(key), known)}")
        if not isinstance(value, bool | int | float | str):
            raise Mistake(f"{path}: '{key}' is a {type(value).__name__}, must be one value")
    return path, {_key(key): value for key, value in values.items()}


def _named_file(arguments: list[str]) -> Path | None:
    for index, argument in enumerate(arguments):
        if argument == "--config" and index + 1 < len(arguments):
            return Path(arguments[index + 1])
        if argument.startswith("--config="):
            return Path(argument.partition("=")[2])
    return None


def _token(key: str, value: bool | float | str) -> str:
    if isinstance(value, bool):
        return f"--{key}" if value else f"--no-{key}"
    return f"--{key}={value}"


class _Reject:
    """Turns tyro's parse failures into `Mistake`s."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._see = f"see bnsgcn {command} --help" if command else "see bnsgcn --help"

    def __call__(self, event: tyro_events.ParseErrorEvent) -> None:
        match event:
            case tyro_events.UnrecognizedArgs(tokens=[token, *_]):
                raise self._unknown(token)
            case tyro_events.MissingArgs(unrecognized_tokens=[token, *_]):
                raise self._unknown(token)
            case tyro_events.MissingArgs(missing_arguments=[first, *_]):
                raise Mistake(f"{_name(first.arg)} is missing; {self._see}")
            case tyro_events.InvalidChoice(argument=argument, value=value, choices=choices):
                near = nearest(value, choices)
                names = ", ".join(sorted(set(choices) - {"None"}))
                raise Mistake(
                    f"{_name(argument)} has no choice '{value}'{near}; it has {names}", _name(argument)
                )
            case tyro_events.BadValue(argument=argument):
                raise Mistake(f"{_name(argument)} needs a value; {self._see}", _name(argument))
            case tyro_events.InstantiationFailure(argument=argument, message=message):
                line = re.sub(r"\s+", " ", message).strip()
                if argument is None:
                    raise Mistake(line)
                raise Mistake(f"{_name(argument)} {_plainly(line)}", _name(argument))
        raise Mistake(f"the command line is not understood; {self._see}")

    def _unknown(self, token: str) -> Mistake:
        if not token.startswith("-"):
            return Mistake(f"'{token}' is one argument too many; {self._see}")
        option = token.partition("=")[0]
        near = nearest(option.replace("_", "-"), [f"--{name}" for name in options_of(self._command)])
        return Mistake(f"unknown option '{option}'{near}; {self._see}", option)


def options_of(command: str) -> list[str]:
    """Names of a command's options, without dashes in front."""
    own = [field.name for field in dataclasses.fields(COMMANDS[command])] if command else []
    nested = [field.name for field in dataclasses.fields(TrainConfig)] if "options" in own else []
    return [_key(name) for name in [*own, *nested] if name not in ("options", "source", "folder", "run")]


def _name(argument: Any) -> str:
    """What the user types for an argument."""
    if argument.is_positional():
        return str(argument.lowered.metavar).strip("[]")
    return str(argument.lowered.name_or_flags[-1])


def _plainly(message: str) -> str:
    """Python's words for a value that is no number, in the user's."""
    kinds = {"invalid literal for int": "a whole number", "could not convert string to float": "a number"}
    for start, kind in kinds.items():
        if message.startswith(start):
            return f"is {message.rpartition(': ')[2]}, must be {kind}"
    return f"does not fit: {message}"
