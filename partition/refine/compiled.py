"""The passes of sweep.c over a State, through a C struct that points into its arrays."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from partition.native import Native, load
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


class CompiledPasses:
    """`tally` and `sweep` of sweep.c."""

    def __init__(self, loaded: ctypes.CDLL) -> None:
        self._loaded = loaded

    def tally(self, state: State) -> None:
        """Fill `count`, the rows sent and the rows received."""
        self._loaded.tally(ctypes.byref(c_state(state)))

    def sweep(self, state: State, first: int) -> int:
        """Best move of every dirty node, in order from `first`; the number of moves."""
        return int(self._loaded.sweep(ctypes.byref(c_state(state)), first))


def native() -> Native:
    """The library of sweep.c, or why there is none."""
    return load(SOURCE, (1, ctypes.sizeof(CState)))


def compiled() -> CompiledPasses | None:
    """The passes of sweep.c, or None where nothing can be compiled."""
    found = native().library
    if found is None:
        return None
    found.sweep.argtypes = [ctypes.POINTER(CState), ctypes.c_int64]
    found.sweep.restype = ctypes.c_int64
    found.tally.argtypes = [ctypes.POINTER(CState)]
    found.tally.restype = None
    return CompiledPasses(found)


def c_state(state: State) -> CState:
    """Pointers into the arrays of `state`, which must outlive the result."""
    values: dict[str, Any] = {}
    for field in CState._fields_:
        value = getattr(state, field[0])
        values[field[0]] = value.ctypes.data if field[1] is POINTER else value
    return CState(**values)
