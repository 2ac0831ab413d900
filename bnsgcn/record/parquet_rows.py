"""A folder of parquet files that ranks write side by side, a file each: column `node` and a list of numbers.

NAME.parquet/part-00000.parquet, ...    what pandas, pyarrow, DuckDB and Spark read as one table
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt

from partition.disk import said_when_full
from partition.optional import optional

ROWS_PER_GROUP = 1 << 17


class ParquetRows:
    """float32 rows under a temporary name until `finish`; one rank creates, finishes or discards.

    Args:
        column: what the rows are called.
        nodes: node of each place; None = a place is a node.
    """

    def __init__(self, target: Path, rank: int, column: str, nodes: npt.NDArray[np.int64] | None) -> None:
        self._target, self._column, self._nodes = target, column, nodes
        self._partial = target.with_name(target.name + ".partial")
        self._file = self._partial / f"part-{rank:05d}.parquet"

    def create(self, rows: int, columns: int) -> None:
        """Make the folder; how much room compressed rows take is seen when they are written."""
        with said_when_full(self._target, f"{rows:,} rows of {columns}", "make room or name another --out"):
            self._partial.mkdir()

    def write(self, places: npt.NDArray[np.int64], rows: npt.NDArray[np.float32]) -> None:
        """Write this rank's rows, by place.

        Raises:
            UserError: the disk is full.
        """
        pa, parquet = optional("pyarrow"), optional("pyarrow.parquet")
        order = np.argsort(places, kind="stable")
        nodes = places[order] if self._nodes is None else self._nodes[places[order]]
        need = f"{rows.shape[0]:,} rows of {rows.shape[1]} take up to {rows.nbytes / 1e6:,.1f} MB"
        listed = pa.list_(pa.float32(), rows.shape[1])
        schema = pa.schema([("node", pa.int64()), (self._column, listed)])
        with (
            said_when_full(self._target, need, "make room or name another --out"),
            parquet.ParquetWriter(self._file, schema) as file,
        ):
            for start in range(0, order.size, ROWS_PER_GROUP):
                chosen = slice(start, start + ROWS_PER_GROUP)
                values = pa.array(rows[order[chosen]].reshape(-1))
                lists = pa.FixedSizeListArray.from_arrays(values, rows.shape[1])
                file.write_table(pa.table([pa.array(nodes[chosen]), lists], schema=schema))

    def finish(self) -> None:
        """Give the folder its name."""
        self._partial.replace(self._target)

    def discard(self) -> None:
        """Remove what was not finished."""
        shutil.rmtree(self._partial, ignore_errors=True)
