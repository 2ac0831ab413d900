"""NumPy archives as a mapping of arrays; members stored without compression are memory-mapped.

`numpy.savez` stores members uncompressed, so that each is a .npy file at a known place inside the
archive: it is mapped there, read-only, instead of being read into memory.
"""

from __future__ import annotations

import contextlib
import pathlib
import struct
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from partition.errors import UserError

LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, file name length, extra field length


class Archive(Mapping[str, npt.NDArray[Any]]):
    """Arrays of an open archive, by key; a compressed member is read whole, each time it is asked for."""

    def __init__(self, path: pathlib.Path, members: zipfile.ZipFile) -> None:
        self._path = path
        self._zip = members
        self._infos = {entry.filename.removesuffix(".npy"): entry for entry in members.infolist()}

    def __getitem__(self, key: str) -> npt.NDArray[Any]:
        entry = self._infos[key]
        try:
            return self._mapped(entry) if entry.compress_type == zipfile.ZIP_STORED else self._read(entry)
        except ValueError as error:
            raise UserError(f"{self._path}: array '{key}' cannot be read ({error})") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)

    def __contains__(self, key: object) -> bool:
        return key in self._infos

    def _read(self, entry: zipfile.ZipInfo) -> npt.NDArray[Any]:
        with self._zip.open(entry) as member:
            array: npt.NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
            return array

    def _mapped(self, entry: zipfile.ZipInfo) -> npt.NDArray[Any]:
        with self._path.open("rb") as file:
            file.seek(entry.header_offset)
            signature, name_length, extra_length = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
            if signature != b"PK\x03\x04":
                raise zipfile.BadZipFile(f"no member at byte {entry.header_offset}")
            file.seek(name_length + extra_length, 1)
            version = np.lib.format.read_magic(file)
            reader = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran_order, dtype = reader(file)
            if dtype.hasobject:
                raise UserError("it holds Python objects")
            if 0 in shape or shape == ():
                return self._read(entry)
            return np.memmap(
                self._path,
                dtype,
                mode="r",
                offset=file.tell(),
                shape=shape,
                order="F" if fortran_order else "C",
            )


@contextlib.contextmanager
def open_archive(path: pathlib.Path) -> Iterator[Archive]:
    """The arrays of the archive at `path`; mapped ones stay valid after closing."""
    with zipfile.ZipFile(path) as members:
        yield Archive(path, members)
