"""The passes of anneal.c over a State, through a C struct that points into its arrays."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

from partition.native import Native, load
from partition.refine.state import State

SOURCE = Path(__file__).with_name("anneal.c")
POINTER = ctypes.c_void_p
READ = ("indptr", "indices", "weights", "per_mean", "cap", "strength", "price", "patience")


class CState(ctypes.Structure):
    """`State` of anneal.c, field by field."""

    _fields_ = (
        ("nodes", ctypes.c_int64),
        ("parts", ctypes.c_int32),
        ("kinds", ctypes.c_int32),
        *((name, POINTER) for name in READ),
        *((name, ctypes.c_double) for name in ("unit", "pull")),
        *((name, POINTER) for name in ("part_of", "count", "loads", "size", "paid", "change")),
    )


class CompiledPasses:
    """`tally` and `anneal` of anneal.c."""

    def __init__(self, loaded: ctypes.CDLL) -> None:
        self._loaded = loaded

    def tally(self, state: State) -> None:
        """Fill `count`, the rows sent and the rows received."""
        self._loaded.tally(ctypes.byref(c_state(state)))

    def anneal(self, state: State, proposals: int, hot: float, cold: float, seed: int) -> int:
        """Random moves at a temperature that falls from `hot` to `cold`; the number of moves made."""
        return int(self._loaded.anneal(ctypes.byref(c_state(state)), proposals, hot, cold, seed))


def native() -> Native:
    """The library of anneal.c, or why there is none."""
    return load(SOURCE, (3, ctypes.sizeof(CState)))


def compiled() -> CompiledPasses | None:
    """The passes of anneal.c, or None where nothing can be compiled."""
    found = native().library
    if found is None:
        return None
    found.anneal.argtypes = [
        *(ctypes.POINTER(CState), ctypes.c_int64, ctypes.c_double, ctypes.c_double, ctypes.c_uint64)
    ]
    found.anneal.restype = ctypes.c_int64
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
