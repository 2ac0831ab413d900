"""Parts on disk: `DIR/manifest.json` and `DIR/part_00000/*.npy`, read back memory-mapped and checked.

Everything that can be wrong with such a folder is a UserError of one line that names the file: nothing
that was read here can make compiled code touch memory that is not its own.
"""

from __future__ import annotations

import hashlib
import math
import reprlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from partition import checks
from partition.checks import check_part, check_values
from partition.errors import UserError, one_line
from partition.manifest import AGAIN, FORMAT_VERSION, MANIFEST, Manifest, read_manifest
from partition.part import ARRAYS, CsrFeatures, Part, array_layout, part_of_arrays
from partition.remembered import is_remembered, key_of, remember


def part_folder(index: int) -> str:
    """Name of a part's folder."""
    return f"part_{index:05d}"


def open_part(folder: Path | str, part: int, *, verify: bool = True) -> Part:
    """Part `part` of a folder, checked; with `verify`, the SHA-256 of each of its files is checked too.

    Without `verify`, the values of features are not read at all. With it, what was found sound before
    is not checked again.

    Raises:
        UserError: a part beyond the manifest's; a file that is missing, truncated or altered, or does not
            fit the others even though its SHA-256 is right.
    """
    manifest = read_manifest(folder)
    if not 0 <= part < manifest.parts:
        raise UserError(f"{folder}: part {part} of {manifest.parts}; parts go from 0 to {manifest.parts - 1}")
    layout = array_layout(manifest, part)
    arrays = {name: read_array(Path(folder), manifest, part, name, verify=verify) for name in layout}
    opened, where = part_of_arrays(part, manifest, arrays), Path(folder) / part_folder(part)
    key = key_of(manifest.digest, part, file_digest(Path(checks.__file__)))
    if not (verify and is_remembered(key)):
        check_part(opened, where)
        if verify:
            check_values(opened, where)
            remember(key)
    return opened


def read_array(folder: Path, manifest: Manifest, part: int, name: str, *, verify: bool) -> npt.NDArray[Any]:
    """One array of a part, memory-mapped copy-on-write; its dtype and shape are as they should be."""
    relative = f"{part_folder(part)}/{name}.npy"
    path = folder / relative
    if relative not in manifest.files:
        raise UserError(f"{folder / MANIFEST}: does not list {relative}; {AGAIN}")
    if not path.is_file():
        raise UserError(f"{path}: missing; copy it from where the parts were made, or {AGAIN}")
    if verify and (found := file_digest(path)) != manifest.files[relative]:
        raise UserError(
            f"{path}: truncated or altered: SHA-256 {found[:12]}..., but the manifest says "
            f"{manifest.files[relative][:12]}... ({path.stat().st_size} bytes); copy it again or {AGAIN}"
        )
    dtype, wanted = array_layout(manifest, part)[name]
    shape, offset = _header(path, dtype)
    listed = reprlib.repr(list(shape))
    if len(shape) != len(wanted) or any(size not in (None, shape[axis]) for axis, size in enumerate(wanted)):
        expected = ", ".join("any" if size is None else str(size) for size in wanted)
        raise UserError(f"{path}: shape {listed}, but the manifest says [{expected}]; {AGAIN}")
    size, there = math.prod(shape) * dtype.itemsize, path.stat().st_size
    if there != offset + size:
        raise UserError(f"{path}: {there} bytes are more or less than {dtype} {listed} takes; {AGAIN}")
    return np.memmap(path, dtype, "c", offset, shape) if size else np.empty(shape, dtype)


def _header(path: Path, dtype: np.dtype[Any]) -> tuple[tuple[int, ...], int]:
    """Shape of a .npy file's array and where its content begins; the array is one of `dtype` in C order."""
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"npy format version {version}, expected (1, 0)")
            shape, fortran, found = np.lib.format.read_array_header_1_0(file)
            offset = file.tell()
    except Exception as error:  # NumPy refuses a broken header with any of half a dozen types
        raise UserError(f"{path}: not a whole array file ({one_line(error)}); {AGAIN}") from error
    if found != dtype or (fortran and len(shape) > 1) or min(shape, default=0) < 0:
        order, listed = "column-wise " if fortran else "", reprlib.repr(list(shape))
        raise UserError(
            f"{path}: {order}{str(found)[:80]} of shape {listed}, but {dtype} in rows is expected; {AGAIN}"
        )
    return shape, offset


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def folder_digest(*folders: Path) -> str:
    """SHA-256 of the sources in some folders: names and content."""
    digest = hashlib.sha256()
    for home in folders:
        for path in sorted(path for path in home.rglob("*") if path.suffix in (".py", ".c", ".h")):
            digest.update(f"{path.relative_to(home).as_posix()} {file_digest(path)}\n".encode())
    return digest.hexdigest()


__all__ = [
    "AGAIN",
    "ARRAYS",
    "FORMAT_VERSION",
    "MANIFEST",
    "CsrFeatures",
    "Manifest",
    "Part",
    "file_digest",
    "open_part",
    "part_folder",
    "read_array",
    "read_manifest",
]
