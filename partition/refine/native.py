"""The compiled sweep: the C struct, filled with the arrays of a State."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partition.native import library

if TYPE_CHECKING:
    from partition.refine.state import State

SOURCE = Path(__file__).with_name("sweep.c")
POINTER = ctypes.c_void_p


class CState(ctypes.Structure):
    """`State` of sweep.c, field by field."""

    _fields_ = (
        ("nodes", ctypes.c_int64),
        ("parts", ctypes.c_int32),
        ("kinds", ctypes.c_int32),
        *((name, POINTER) for name in ("indptr", "indices", "weights", "per_mean", "cap", "strength")),
        *((name, ctypes.c_double) for name in ("unit", "pull")),
        *((name, POINTER) for name in ("part_of", "count", "loads", "size", "dirty", "change", "base")),
    )


def compiled() -> ctypes.CDLL | None:
    """The library of sweep.c, or None where nothing can be compiled."""
    found = library(SOURCE)
    if found is not None:
        found.sweep.argtypes = [ctypes.POINTER(CState), ctypes.c_int64]
        found.sweep.restype = ctypes.c_int64
        found.tally.argtypes = [ctypes.POINTER(CState)]
        found.tally.restype = None
    return found


def c_state(state: State) -> CState:
    """Pointers into the arrays of `state`, which must outlive the result."""
    values: dict[str, Any] = {}
    for field in CState._fields_:
        value = getattr(state, field[0])
        values[field[0]] = value.ctypes.data if field[1] is POINTER else value
    return CState(**values)
