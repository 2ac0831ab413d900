"""Figures as people read them, each with its unit."""

from __future__ import annotations

import math


def number(value: float | None) -> str:
    """Four digits after the point, fewer of large ones; a dash for what is not there."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.2e}"


def duration(seconds: float | None) -> str:
    """Seconds in a unit that leaves three digits."""
    if seconds is None or math.isnan(seconds):
        return "-"
    if seconds >= 1000:
        return f"{seconds:.0f} s"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def size(count: float | None) -> str:
    """Bytes in a unit that leaves few digits."""
    if count is None or math.isnan(count):
        return "-"
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def short(count: int) -> str:
    """A count with at most four digits and a letter."""
    for limit, letter in ((1e9, " G"), (1e6, " M"), (1e4, " k")):
        if count >= limit:
            return f"{count / (1000 if letter == ' k' else limit):.1f}{letter}"
    return f"{count:,}"
