"""Rows that ranks write side by side: whole under their name, or not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bnsgcn.record.rows_file import RowsFile
from partition.errors import UserError


def test_rows_of_several_writers_find_their_places(tmp_path: Path) -> None:
    file = RowsFile(tmp_path / "rows.npy")
    file.create(6, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npy.partial"]
    wanted = np.arange(12, dtype=np.float32).reshape(6, 2)
    for places in ([4, 0, 5], [1, 3, 2]):
        RowsFile(tmp_path / "rows.npy").write(np.array(places), wanted[places])
    file.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["rows.npy"]
    loaded = np.load(tmp_path / "rows.npy")
    assert loaded.dtype == np.float32
    assert np.array_equal(loaded, wanted)


def test_a_full_disk_is_noticed_before_any_row_is_written(small_disk: Path) -> None:
    """A sparse file would be created, and the first row that finds no room would end the process."""
    file = RowsFile(small_disk / "rows.npy")
    with pytest.raises(UserError, match=r"100,000 rows of 5 take 2\.0 MB, but .* MB are free; make room"):
        file.create(100_000, 5)
    file.discard()
    assert list(small_disk.iterdir()) == []


def test_room_is_there_before_any_row_is_written(tmp_path: Path) -> None:
    RowsFile(tmp_path / "rows.npy").create(100_000, 5)
    assert (tmp_path / "rows.npy.partial").stat().st_blocks * 512 >= 2_000_000


def test_what_is_discarded_is_gone(tmp_path: Path) -> None:
    file = RowsFile(tmp_path / "rows.npy")
    file.create(5, 5)
    file.discard()
    file.discard()
    assert list(tmp_path.iterdir()) == []
