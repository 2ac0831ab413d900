"""What a caller or a library hands over, as a NumPy array on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from partition.errors import UserError, one_line

REAL = "biuf"
WHOLE = "iu"


def as_numpy(what: str, value: Any) -> npt.NDArray[Any]:
    """A tensor, array or nested list as an array; what is memory-mapped stays so.

    Raises:
        UserError: it is none, for example ragged or a sparse tensor.
    """
    if isinstance(value, np.memmap):
        return value
    try:
        array: npt.NDArray[Any] = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except Exception as error:  # torch and NumPy refuse with TypeError, ValueError and RuntimeError alike
        raise UserError(f"{what} cannot be read as an array ({one_line(error)})") from error
    return array


def check_kind(what: str, array: npt.NDArray[Any], kinds: str, expected: str) -> None:
    """UserError for an array whose dtype is none of the `kinds` (the letters of `numpy.dtype.kind`)."""
    if array.dtype.kind not in kinds:
        raise UserError(f"{what} has dtype {array.dtype}; expected {expected}")
