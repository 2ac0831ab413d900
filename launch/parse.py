"""From command line and TOML file to a command; whatever does not fit becomes one line, a `UserError`.

What the command line says wins over the file, and the file over the defaults.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, cast

from bnsgcn.show.say import say
from launch import originals
from launch.fields import Option, made
from launch.fields import options_of as options_of_kind
from launch.help import general_help, help_on
from launch.options import COMMANDS, Command, Train
from launch.recipes import settings
from partition.errors import UserError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def parse(arguments: Sequence[str]) -> Command:
    """The command that `arguments` ask for; SystemExit for --help.

    Raises:
        UserError: They ask for nothing that there is.
    """
    given = list(arguments) or ["--help"]
    name, rest = given[0], given[1:]
    if name in ("-h", "--help"):
        _show_and_leave(general_help())
    if name not in COMMANDS:
        what = "option" if name.startswith("-") else "command"
        near = nearest(name, ["--help", "--version"] if what == "option" else COMMANDS)
        raise UserError(f"unknown {what} '{name}'{near}; see bnsgcn --help")
    if "-h" in rest or "--help" in rest:
        _show_and_leave(help_on(name))
    values = _typed(name, rest)
    path = Path(str(values["config"])) if COMMANDS[name] is Train and "config" in values else None
    if path is None:
        return command_of(name, values)
    from_file = read_file(path, name)
    try:
        return command_of(name, from_file | values)
    except UserError as error:
        raise _with_origin(error, path, set(from_file) - set(values)) from None


def _show_and_leave(text: str) -> NoReturn:
    say(text)
    raise SystemExit(0)


def options_of(command: str) -> list[str]:
    """Names of a command's options, without dashes in front."""
    return [option.name.lstrip("-") for option in options_of_kind(COMMANDS[command]) if not option.positional]


class _Parser(argparse.ArgumentParser):
    """argparse's reading of words; it knows names alone, so that all that is wrong is said at once, by us."""

    def __init__(self, options: Iterable[Option]) -> None:
        super().__init__(
            add_help=False, allow_abbrev=False, exit_on_error=False, argument_default=argparse.SUPPRESS
        )
        for option in options:
            if option.positional:
                continue
            if option.negatable:
                self.add_argument(option.name, dest=option.field, action=argparse.BooleanOptionalAction)
            elif option.kind is bool:
                self.add_argument(option.name, dest=option.field, action="store_true")
            else:
                self.add_argument(option.name, dest=option.field)

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def _typed(name: str, words: Sequence[str]) -> dict[str, Any]:
    """What the command line says, by field: text, or True and False for switches."""
    options = options_of_kind(COMMANDS[name])
    see = f"see bnsgcn {name} --help"
    named, last = (
        (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    )
    try:
        found, left = _Parser(options).parse_known_args(_with_dashes(named, options))
    except argparse.ArgumentError as error:
        option = str(error.argument_name).partition("/")[0]
        switch = any(each.name == option and each.kind is bool for each in options)
        raise UserError(f"{option} {'takes no' if switch else 'needs a'} value; {see}") from None
    unknown = [word.partition("=")[0] for word in left if re.match(r"-[^\d.]", word)]
    if unknown:
        raise UserError(f"{_unknown(unknown, _names(options))}; {see}")
    values: dict[str, Any] = dict(vars(found))
    places = [option.field for option in options if option.positional]
    placed: list[Any] = [*left, *last]
    if placed and places and options[0].several:
        placed = [placed]
    if len(placed) > len(places):
        raise UserError(f"'{placed[len(places)]}' is one argument too many; {see}")
    return values | dict(zip(places, placed, strict=False))


def _with_dashes(words: Sequence[str], options: Sequence[Option]) -> list[str]:
    """The words with dashes for underscores in names, and with negative numbers joined to their option."""
    takes_value = {option.name for option in options if option.kind is not bool}
    tokens: list[str] = []
    for word in words:
        if tokens and tokens[-1] in takes_value and re.match(r"-[\d.]|-inf|-nan", word):
            tokens[-1] += f"={word}"
        elif word.startswith("--"):
            option, equals, value = word.partition("=")
            tokens.append(option.replace("_", "-") + equals + value)
        else:
            tokens.append(word)
    return tokens


def _names(options: Iterable[Option]) -> list[str]:
    return [option.name for option in options if not option.positional]


def _unknown(words: Sequence[str], known: Sequence[str]) -> str:
    """Says which options there are not, each with the one that was perhaps meant."""
    hints = [originals.answer(word) or _near(word, known) for word in words]
    if len(words) == 1:
        return f"unknown option '{words[0]}'{hints[0]}"
    pairs = zip(words, hints, strict=True)
    return "unknown options " + ", ".join(
        f"'{word}' ({hint.removeprefix('; ')})" if hint else f"'{word}'" for word, hint in pairs
    )


def _near(word: str, known: Sequence[str]) -> str:
    """As `nearest`; dashes in front, which all options have, make no two of them alike."""
    bare = {name.lstrip("-"): name for name in known}
    close = difflib.get_close_matches(word.lstrip("-").replace("_", "-"), bare, n=1, cutoff=0.5)
    return f"; did you mean '{bare[close[0]]}'?" if close else ""


def read_file(path: Path, command: str, *, lists: bool = False) -> dict[str, Any]:
    """What a TOML file says about a command's options, by field; with `lists`, they may have several values.

    Raises:
        UserError: It cannot be read, is not TOML, or names what is no option.
    """
    shown = path if lists else f"--config {path}"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{shown} cannot be read: {error.strerror}; name a TOML file") from None
    except (ValueError, RecursionError) as error:
        why = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise UserError(f"{shown} is not TOML: {why}") from None
    if command == "train" and isinstance(values.get("graph"), dict):
        del values["graph"]  # what a recipe is for
    known = [option.field for option in options_of_kind(COMMANDS[command]) if option.field != "config"]
    named = [field.replace("_", "-") for field in known]
    unknown = [key for key in values if key.replace("-", "_") not in known]
    if unknown:
        raise UserError(f"{path}: {_unknown([key[:60] for key in unknown], named)}")
    for key, value in values.items():
        if not isinstance(value, bool | int | float | str) and not (lists and isinstance(value, list)):
            kind = (
                "a table"
                if isinstance(value, dict)
                else "an array"
                if isinstance(value, list)
                else "a date or time"
            )
            raise UserError(f"{path}: '{key}' is {kind}, must be one value")
    return {key.replace("-", "_"): value for key, value in values.items()}


def graph_of(recipe: str) -> dict[str, Any]:
    """What the settings of that name say of the graph that they are for."""
    return dict(tomllib.loads(settings(recipe).read_text(encoding="utf-8"))["graph"])


def command_of(name: str, given: Mapping[str, Any]) -> Command:
    """The command from what was typed and read, and from a recipe that it names."""
    kind = COMMANDS[name]
    if name == "train" and "recipe" in given:
        given = {**read_file(settings(str(given["recipe"])), name), **given}
    options = options_of_kind(kind)
    missing = [option.name for option in options if option.required and option.field not in given]
    if missing:
        words = f"{', '.join(missing[:-1])} and {missing[-1]} are" if missing[1:] else f"{missing[0]} is"
        raise UserError(f"{words} missing; see bnsgcn {name} --help")
    values = {option.field: option.read(given[option.field]) for option in options if option.field in given}
    return cast(Command, made(kind, values))


def _with_origin(error: UserError, path: Path, fields: set[str]) -> UserError:
    """The same error; where it is about an option that the file alone sets, with the file's name."""
    about = re.match(r"--([a-z0-9-]+)", str(error))
    from_file = about is not None and about[1].replace("-", "_") in fields
    return UserError(f"{error} (from {path})") if from_file else error
