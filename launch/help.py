"""What `--help` prints: usage, options by theme with their defaults, examples, as wide as the terminal."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from launch.fields import Option, help_of, options_of
from launch.options import ABOUT, COMMANDS, EXAMPLES, FIRST_STEPS, THEMES, Command

NARROWEST, WIDEST = 60, 120
METAVARS = {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}
NAMES = 25
"""Columns of an option's name and its value; longer ones have a line to themselves."""

Row = tuple[str, str]


def general_help() -> str:
    """Help of the whole command."""
    commands = [(name, str(kind.__doc__)) for name, kind in COMMANDS.items()]
    options: list[Row] = [
        ("--version", "Print the version."),
        ("--help", "Print this; after a command, its help."),
    ]
    return "\n".join(
        [
            *_wrapped("usage: bnsgcn COMMAND [options]", 0),
            "",
            *_wrapped(ABOUT, 0),
            *_section("commands", commands),
            *_section("options", options),
            *_section("first steps", FIRST_STEPS),
        ]
    )


def help_on(name: str) -> str:
    """Help of one command."""
    kind = COMMANDS[name]
    lines = [*_wrapped(usage(name), 7), "", *_wrapped(str(kind.__doc__), 0)]
    for theme, options in by_theme(kind).items():
        lines += _section(theme, [_row(option, help_of(kind)) for option in options])
    lines += ["", _bold("examples")]
    for example in EXAMPLES[name]:
        lines.append("  " + " \\\n".join(_wrapped(example, 6, margin=4)))
    return "\n".join(lines)


def usage(name: str) -> str:
    """The first line of a command's help."""
    options = options_of(COMMANDS[name])
    needed = [_shown(option) for option in options if option.required]
    needed += [f"[{option.positional} ...]" for option in options if option.several]
    return " ".join(["usage: bnsgcn", name, *needed, *(["[options]"] if len(needed) < len(options) else [])])


def by_theme(kind: type[Command]) -> dict[str, list[Option]]:
    """The options of a command under their headings, in the order in which they are shown."""
    theme_of = {field: theme for theme, fields in THEMES.items() for field in fields}
    found: dict[str, list[Option]] = {theme: [] for theme in ("arguments", "options", *THEMES)}
    for option in options_of(kind):
        own = "arguments" if option.positional else "options"
        found[theme_of.get(option.field, "run") if option.within else own].append(option)
    return {theme: options for theme, options in found.items() if options}


def _row(option: Option, texts: dict[str, str]) -> Row:
    return _shown(option), f"{texts.get(option.field, '')} {default_of(option)}".strip()


def _shown(option: Option) -> str:
    """What the user types, with what stands for the value."""
    if option.positional:
        return option.positional
    if option.kind is bool:
        return option.name.replace("--", "--[no-]") if option.negatable else option.name
    return f"{option.name} {'|'.join(option.choices) or METAVARS[option.kind]}"


def default_of(option: Option) -> str:
    """The default as help and reference show it, in brackets; empty where there is nothing to say."""
    if option.required:
        return "(required)"
    default: Any = option.default
    if default is None or (option.kind is bool and not option.negatable):
        return ""
    if option.kind is bool:
        return f"(default {'on' if default else 'off'})"
    return f"(default {default:g})" if option.kind is float else f"(default {default})"


def _section(title: str, rows: Iterable[Row]) -> list[str]:
    """A heading and its rows: a name and its text beside it, or below where the name is long."""
    lines = ["", _bold(title)]
    for name, text in rows:
        wrapped = _wrapped(text, 0, margin=NAMES + 4)
        if len(name) <= NAMES:
            lines.append(f"  {name:<{NAMES}}  {wrapped.pop(0) if wrapped else ''}".rstrip())
        else:
            pieces = _wrapped(name.replace("|", "| "), 6, margin=2)  # choices may go on below
            lines += ["  " + piece.replace("| ", "|") for piece in pieces]
        lines += [" " * (NAMES + 4) + line for line in wrapped]
    return lines


def _wrapped(text: str, indent: int, *, margin: int = 0) -> list[str]:
    """`text` in lines that leave `margin` columns; words, which may be commands and paths, stay whole."""
    columns = min(WIDEST, max(NARROWEST, shutil.get_terminal_size().columns))
    return textwrap.wrap(
        text,
        columns - margin,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _bold(text: str) -> str:
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[1m{text}\x1b[0m"
