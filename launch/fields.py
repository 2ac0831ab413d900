"""The fields of a dataclass as options of a command: name, kind, choices, default, the docstring as help.

Values come as text from the command line or as what TOML has; `Option.read` makes them what the field says,
or says in one line why not.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import itertools
import re
import reprlib
import textwrap
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bnsgcn.fitting import fitting
from partition.errors import UserError


@dataclasses.dataclass(frozen=True)
class Positional:
    """Marks a field that is given by its place, not by its name."""

    shown: str
    """What help and messages call it."""


@dataclasses.dataclass(frozen=True)
class Option:
    """One field of a command, or of the dataclass within it that holds a run's options."""

    field: str
    hint: Any
    """Its annotation."""
    kind: type
    """The same without choices and None."""
    choices: tuple[str, ...]
    default: Any
    """`dataclasses.MISSING` where the user must give one."""
    optional: bool
    """Whether None is a value."""
    positional: str
    """What help calls an argument that has no name; empty for options."""
    within: str
    """Field of the command that holds the dataclass of this field; empty for the command's own."""
    several: bool = False
    """Whether it is an argument that may be given more than once: a tuple of `kind`."""

    @property
    def name(self) -> str:
        """What the user types, dashes in front included."""
        return self.positional or f"--{self.field.replace('_', '-')}"

    @property
    def required(self) -> bool:
        """Whether the user must give it."""
        return self.default is dataclasses.MISSING

    @property
    def negatable(self) -> bool:
        """Whether it can be turned off by name: the option is on by default, or a file may turn it on."""
        return self.kind is bool and (bool(self.within) or self.default is True)

    def read(self, given: object) -> Any:
        """`given` as a value of the field.

        Raises:
            UserError: It is of another kind, none of the choices, not finite, or too large.
        """
        if self.several and isinstance(given, list):
            return tuple(self._named(each) for each in given)
        if self.optional and self.within and given == "None":  # so a message may say it
            return None
        if self.kind in (str, Path) and not self.choices:
            return self._named(given)
        value = given
        if isinstance(given, str) and self.kind in (int, float):
            with contextlib.suppress(ValueError):  # `fitting` says what is wrong with it
                value = self.kind(given)
        return fitting(self.name.lstrip("-"), value, self.hint if self.choices else self.kind)

    def _named(self, given: object) -> Any:
        """A text or a path, from which messages, files and JSON can be made."""
        shown = f"{self.name} is {reprlib.repr(given)}"
        if not isinstance(given, str) or not given or "\0" in given:
            raise UserError(f"{shown}, must be {'text' if self.kind is str else 'a path'}")
        try:
            given.encode()
        except UnicodeEncodeError:
            raise UserError(f"{shown}, must be written in UTF-8") from None
        return self.kind(given)


def options_of(kind: type) -> tuple[Option, ...]:
    """What can be given for a dataclass, fields of a dataclass within it included, in their order."""
    found: list[Option] = []
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[field.name]):
            nested = options_of(hints[field.name])
            found += [dataclasses.replace(option, within=field.name) for option in nested]
        else:
            found.append(_option(field, hints[field.name]))
    return tuple(found)


def _option(field: dataclasses.Field[Any], hint: Any) -> Option:
    shown = ""
    if typing.get_origin(hint) is typing.Annotated:
        hint, mark = typing.get_args(hint)
        shown = mark.shown
    several = typing.get_origin(hint) is tuple
    if several:
        hint = typing.get_args(hint)[0]
    kind, optional = hint, typing.get_origin(hint) in (typing.Union, types.UnionType)
    if optional:
        (kind,) = (each for each in typing.get_args(hint) if each is not types.NoneType)
    choices = typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()
    return Option(
        field=field.name,
        hint=hint,
        kind=str if choices else kind,
        choices=choices,
        default=field.default,
        optional=optional,
        positional=shown,
        within="",
        several=several,
    )


def made(kind: type, values: Mapping[str, Any]) -> Any:
    """A dataclass, with the dataclasses within it, from the values of its options by field name."""
    own: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for option in options_of(kind):
        if option.field in values:
            target = nested.setdefault(option.within, {}) if option.within else own
            target[option.field] = values[option.field]
    hints = typing.get_type_hints(kind)
    return kind(**own, **{name: hints[name](**given) for name, given in nested.items()})


def help_of(kind: type) -> dict[str, str]:
    """The docstrings below the fields of a dataclass and of those within it, where its source is there."""
    hints = typing.get_type_hints(kind)
    found: dict[str, str] = {}
    for nested in (hints[field.name] for field in dataclasses.fields(kind)):
        if dataclasses.is_dataclass(nested):
            found |= help_of(typing.cast(type, nested))
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except OSError:
        return found
    assert isinstance(tree, ast.ClassDef)
    return found | _below(tree.body)


def _below(body: Sequence[ast.stmt]) -> dict[str, str]:
    found = {}
    for above, below in itertools.pairwise(body):
        match above, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = re.sub(r"\s+", " ", text).strip()
    return found
