"""A .npy file that ranks write side by side, each its own rows, on a file system that all of them see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from partition.disk import reserve, said_when_full


class RowsFile:
    """float32 rows under a temporary name until `finish`; one rank creates, finishes or discards."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._partial = target.with_name(target.name + ".partial")

    def create(self, rows: int, columns: int) -> None:
        """Make room for all rows, so that none can fail to be written.

        Raises:
            UserError: there is no such room on the disk.
        """
        size = 4 * rows * columns
        need = f"{rows:,} rows of {columns} take {size / 1e6:,.1f} MB"
        described = {"descr": "<f4", "fortran_order": False, "shape": (rows, columns)}
        with said_when_full(self._target, need, "make room or name another --out"):
            with self._partial.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, described)
            reserve(self._partial, self._partial.stat().st_size + size)

    def write(self, places: npt.NDArray[np.int64], rows: npt.NDArray[np.float32]) -> None:
        """Put `rows` where they belong."""
        mapped = np.lib.format.open_memmap(self._partial, mode="r+")
        mapped[places] = rows
        mapped.flush()

    def finish(self) -> None:
        """Give the file its name."""
        self._partial.replace(self._target)

    def discard(self) -> None:
        """Remove what was not finished."""
        self._partial.unlink(missing_ok=True)
