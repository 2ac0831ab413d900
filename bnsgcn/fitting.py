"""Values of options: made plain and of the type that a field has, or within bounds, or a mistake in one line.

Nothing here imports torch.
"""

from __future__ import annotations

import math
import numbers
import reprlib
from typing import Any, get_args

from partition.errors import UserError, nearest


def fitting(option: str, value: Any, kind: Any) -> Any:
    """`value` as the plain Python value of type `kind`, a Literal included; UserError where it is none."""
    if kind is bool:
        if isinstance(value, bool):
            return value
        raise UserError(f"--{option} is {reprlib.repr(value)}, must be True or False")
    if kind is int:
        return _whole(option, value)
    if kind is float or (float in get_args(kind) and value is not None):
        return _number(option, value)
    if str in get_args(kind) and isinstance(value, str) and value.strip():
        return str(value)
    words = [word for entry in (kind, *get_args(kind)) for word in get_args(entry) if isinstance(word, str)]
    if isinstance(value, str) and value in words:
        return words[words.index(value)]
    if value is None and type(None) in get_args(kind):
        return None
    if str in get_args(kind):
        raise UserError(f"--{option} is {reprlib.repr(value)}, must be text")
    raise UserError(
        f"--{option} has no choice {reprlib.repr(value)}{nearest(str(value), words)}; "
        f"it has {', '.join(sorted(set(words)))}"
    )


def _whole(option: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise UserError(f"--{option} is {reprlib.repr(value)}, must be a whole number")
    whole = int(value)
    if whole.bit_length() > 63:
        shown = whole if whole.bit_length() < 256 else f"a number of {whole.bit_length()} bits"
        raise UserError(f"--{option} is {shown}, must be below 2**63 ({1 << 63})")
    return whole


def _number(option: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise UserError(f"--{option} is {reprlib.repr(value)}, must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise UserError(f"--{option} is {number}, must be finite")
    return number


def at_least(option: str, value: float, least: float) -> None:
    """UserError for a value below `least`."""
    if not value >= least:
        raise UserError(f"--{option} is {value}, must be at least {least}")


def within(option: str, value: float, low: float, high: float, *, open_right: bool = False) -> None:
    """UserError for a value outside [low, high]; if `open_right`, for `high` too."""
    if not (low <= value < high if open_right else low <= value <= high):
        raise UserError(f"--{option} is {value}, must be in [{low:g}, {high:g}{')' if open_right else ']'}")
