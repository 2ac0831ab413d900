"""NumPy archives as a mapping of arrays; members stored without compression are memory-mapped.

`numpy.savez` stores members uncompressed, so that each is a .npy file at a known place inside the
archive: it is mapped there, read-only, instead of being read into memory. Nothing in the file is believed:
an array's header has to agree with the size of its member before anything is allocated, and its bytes with
the member's checksum before anything is done with them. A mapped array is read once for that, from front
to back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import struct
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from partition.errors import UserError, one_line
from partition.room import check_room

LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, file name length, extra field length
BLOCK_BYTES = 1 << 18
LARGE_BYTES = 1 << 30
PLAIN_KINDS = "biufcmMSU"


@dataclasses.dataclass(frozen=True)
class ArrayHeader:
    """What a .npy file says before its content."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    header_bytes: int

    @property
    def content_bytes(self) -> int:
        """Size of the content; exact, however large the shape claims to be."""
        return math.prod(self.shape) * self.dtype.itemsize


class Archive(Mapping[str, npt.NDArray[Any]]):
    """Arrays of an open archive, by key; a compressed member is read whole, each time it is asked for."""

    def __init__(
        self, name: str, file: IO[bytes], members: zipfile.ZipFile, say: Callable[[str], None]
    ) -> None:
        self._name = name
        self._file = file
        self._zip = members
        self._say = say
        names = [member.filename for member in members.infolist() if member.filename.endswith(".npy")]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise UserError(f"{name}: two members are called '{twice[0]}'; make the archive again")
        self._members = {name.removesuffix(".npy"): members.getinfo(name) for name in names}

    def __getitem__(self, key: str) -> npt.NDArray[Any]:
        """The array `key`.

        Raises:
            KeyError: there is none.
            UserError: it is damaged, forged, too large, or no array of numbers or text.
        """
        member = self._members[key]
        try:
            return self._array(key, member)
        except UserError:
            raise
        except Exception as error:  # zipfile, decompressors and NumPy's parser all fail in their own ways
            raise UserError(
                f"{self._name}: array '{key}' cannot be read ({one_line(error)}); "
                "copy or make the archive again"
            ) from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, key: object) -> bool:
        return key in self._members

    def _array(self, key: str, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
        with self._zip.open(member) as content:
            header = read_header(content)
            claimed = header.header_bytes + header.content_bytes
            if claimed != member.file_size:
                raise ValueError(f"it claims {claimed} bytes, the archive holds {member.file_size} of it")
            if member.compress_type == zipfile.ZIP_STORED and header.content_bytes:
                array = self._mapped(key, member, content, header)
            else:
                array = self._read(key, content, header)
        _check_content(array)
        return array

    def _read(self, key: str, content: IO[bytes], header: ArrayHeader) -> npt.NDArray[Any]:
        size = header.content_bytes
        check_room(
            f"{self._name}: array '{key}'",
            size,
            "store it uncompressed (numpy.savez), so that it need not be held in memory",
        )
        array = np.empty(size, np.uint8)
        for start in range(0, size, BLOCK_BYTES):
            wanted = min(BLOCK_BYTES, size - start)
            block = content.read(wanted)
            if len(block) < wanted:
                raise EOFError(f"it ends after {start + len(block)} of {size} bytes")
            array[start : start + wanted] = np.frombuffer(block, np.uint8)
        if content.read(1):  # at its end the checksum is compared
            raise ValueError("it is longer than it claims")
        return array.view(header.dtype).reshape(header.shape, order="F" if header.fortran_order else "C")

    def _mapped(
        self, key: str, member: zipfile.ZipInfo, content: IO[bytes], header: ArrayHeader
    ) -> npt.NDArray[Any]:
        if member.compress_size != member.file_size:
            raise ValueError(f"stored in {member.compress_size} bytes, but {member.file_size} long")
        if member.file_size >= LARGE_BYTES:
            self._say(f"comparing the checksum of '{key}', {member.file_size / 1e9:,.1f} GB of {self._name}")
        while content.read(BLOCK_BYTES):
            pass
        self._file.seek(member.header_offset)
        _, name_length, extra_length = LOCAL_HEADER.unpack(self._file.read(LOCAL_HEADER.size))
        start = member.header_offset + LOCAL_HEADER.size + name_length + extra_length
        return np.memmap(
            self._file,
            header.dtype,
            mode="r",
            offset=start + header.header_bytes,
            shape=header.shape,
            order="F" if header.fortran_order else "C",
        )


def read_header(content: IO[bytes]) -> ArrayHeader:
    """The header of a .npy file, which `content` is at the start of.

    Raises:
        ValueError: it is none, or not one of an array of plain numbers or text.
    """
    version = np.lib.format.read_magic(content)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"npy version {version[0]}.{version[1]}; known are 1.0, 2.0 and 3.0")
    first = version == (1, 0)
    reader = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = reader(content)
    if dtype.kind not in PLAIN_KINDS or dtype.itemsize == 0:
        raise ValueError(f"its dtype is {dtype}; only plain numbers and text are read")
    if any(isinstance(size, bool) or size < 0 for size in shape):
        raise ValueError(f"its shape is {shape}")
    return ArrayHeader(shape, fortran_order, dtype, content.tell())


def _check_content(array: npt.NDArray[Any]) -> None:
    """ValueError for truth values and letters that are none: NumPy and Python take them at their word."""
    if array.dtype == np.bool_ and (array.view(np.uint8) > 1).any():
        raise ValueError("a truth value in it is neither 0 nor 1")
    if array.dtype.kind == "U":
        letters = array.reshape(-1).view(f"{array.dtype.byteorder}u4")
        if (letters > sys.maxunicode).any():
            raise ValueError("a letter in it is beyond Unicode")


@contextlib.contextmanager
def open_archive(path: Path, say: Callable[[str], None]) -> Iterator[Archive]:
    """The arrays of the archive at `path`; mapped ones stay valid after closing.

    `say` is told of a checksum that takes a while.

    Raises:
        UserError: the file cannot be opened or is no NumPy archive.
    """
    with contextlib.ExitStack() as opened:
        try:
            file = opened.enter_context(path.open("rb"))
        except OSError as error:
            raise UserError(f"{path}: cannot be opened ({error.strerror})") from error
        try:
            archive = Archive(str(path), file, opened.enter_context(zipfile.ZipFile(file)), say)
        except UserError:
            raise
        except Exception as error:  # zipfile fails in more ways than BadZipFile on a forged directory
            raise UserError(
                f"{path}: not a whole NumPy archive ({one_line(error)}); copy or make it again"
            ) from error
        yield archive
