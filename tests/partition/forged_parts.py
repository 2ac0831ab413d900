"""Folders of parts forged on purpose: arrays and manifests changed, every digest right again.

    python -m tests.partition.forged_parts FOLDER CASES SEED

opens that many forgeries of the parts at FOLDER, one after the other in this one process, and prints how many
were refused; a crash ends it early.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from partition.errors import UserError
from partition.manifest import MANIFEST, read_manifest
from partition.part import ARRAYS
from partition.quality import inspect_parts
from partition.store import file_digest, open_part, part_folder

Change = Callable[[np.random.Generator, np.ndarray], Any]


def rewrite(folder: Path, part: int, name: str, array: np.ndarray | bytes) -> None:
    """Replace an array of a part, or the bytes of its file, and put the digest right."""
    path = folder / part_folder(part) / f"{name}.npy"
    if isinstance(array, bytes):
        path.write_bytes(array)
    else:
        np.save(path, array, allow_pickle=False)
    restate(folder, files={f"{part_folder(part)}/{name}.npy": file_digest(path)})


def restate(folder: Path, **facts: Any) -> None:
    """Replace facts of the manifest; entries of `files` are replaced one by one."""
    path = folder / MANIFEST
    loaded = json.loads(path.read_text())
    files = {**loaded["files"], **facts.pop("files", {})}
    path.write_text(json.dumps({**loaded, **facts, "files": files}))


def _some(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:
    """A few entries replaced by numbers of any size."""
    flat = array.reshape(-1)
    if flat.size:
        at = rng.integers(0, flat.size, rng.integers(1, 4))
        wild = rng.choice(
            np.array([-1, 0, 1, 2, 9, flat.size, 2**15, 2**31 - 1, -(2**31), 2**62, -(2**62)]), at.size
        )
        flat[at] = wild.astype(array.dtype)
    return array


def _nudged(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:
    if array.size:
        array.reshape(-1)[rng.integers(0, array.size)] += rng.choice(np.array([1, 3])).astype(array.dtype)
    return array


def _twice(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:
    if array.size > 1:
        at = rng.integers(0, array.shape[0], 2)
        array[at[0]] = array[at[1]]
    return array


CHANGES: tuple[Change, ...] = (
    _some,
    _nudged,
    _twice,
    lambda rng, array: rng.permutation(array),
    lambda rng, array: array[::-1],
    lambda rng, array: array[:-1],
    lambda rng, array: np.concatenate([array, array[-1:]]),
    lambda rng, array: array[:0],
    lambda rng, array: np.roll(array, 1, axis=0),
    lambda rng, array: np.asfortranarray(array),
    lambda rng, array: array.astype(rng.choice(np.array(["<i8", ">i8", "<i4", "<f4", "|u1", "<c8", "|b1"]))),
    lambda rng, array: array.reshape(1, -1),
    lambda rng, array: array.astype(">i4").tobytes(),
    lambda rng, array: np.full_like(array, rng.choice(np.array([0, 1, 100])).astype(array.dtype)),
    lambda rng, array: (
        np.full(array.shape, np.nan) if array.dtype == np.float32 else -np.abs(array.astype("i8"))
    ),
)
FACTS = (
    0, 1, -1, 2, 3, 10**6, 2**31, 2**63, 10**30, 10**400, 1.5, float("nan"), float("inf"), True, None, "",
    "x", [], [1], {}, [10**18], ["1"], [True], [[]],
)  # fmt: skip
HEADERS = (
    b"\x93NUMPY\x02\x00\x76\x00\x00\x00",
    b"\x93NUMPY\x03\x00\x76\x00\x00\x00",
    b"\x93NUMPY\x01\x00\xff\xff",
    b"\x93NUMPY\x09\x09",
    b"PK\x03\x04",
    b"",
    b"\x93NUMPY\x01\x00\x10\x27" + b"(" * 10_000,
    b"\x93NUMPY\x01\x00\x76\x00{'descr': '<i8', 'fortran_order': False, 'shape': (-1,), }".ljust(128),
    b"\x93NUMPY\x01\x00\x76\x00{'descr': '|O', 'fortran_order': False, 'shape': (9,), }".ljust(128),
    b"\x93NUMPY\x01\x00\x76\x00{'descr': '<i8', 'fortran_order': False, 'shape': (0, %d), }".ljust(128)
    % 10**30,
)


def forge(folder: Path, rng: np.random.Generator) -> Path:
    """One forgery, usually of an array, sometimes of a header or the manifest; the file that changed."""
    kind = rng.integers(0, 10)
    if kind == 0:
        facts = [name for name in vars(read_manifest(folder)) if name != "files"]
        value = FACTS[rng.integers(0, len(FACTS))]
        restate(folder, **{str(rng.choice(facts)): value})
        return folder / MANIFEST
    part, name = int(rng.integers(0, 3)), ARRAYS[rng.integers(0, len(ARRAYS))]
    path = folder / part_folder(part) / f"{name}.npy"
    if kind == 1:
        rewrite(folder, part, name, HEADERS[rng.integers(0, len(HEADERS))])
        return path
    changed = np.load(path)
    for _ in range(rng.integers(1, 3)):
        changed = CHANGES[rng.integers(0, len(CHANGES))](rng, changed)
        if isinstance(changed, bytes):
            break
        changed = np.array(changed)
    rewrite(folder, part, name, changed)
    return path


def opened(folder: Path) -> str:
    """'' where the folder opens and everything in it can be indexed with; else the line that refuses it."""
    try:
        inspect_parts(folder)
        for part in range(read_manifest(folder).parts):
            open_part(folder, part)
    except UserError as error:
        return str(error)
    return ""


def main(source: Path, cases: int, seed: int) -> None:
    """Try many forgeries of one folder."""
    refused = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "parts"
        shutil.copytree(source, folder)
        for case in range(cases):
            changed = forge(folder, np.random.default_rng([seed, case]))
            line = opened(folder)
            assert "\n" not in line, line
            assert len(line) < 1000, line
            refused += bool(line)
            for path in (changed, folder / MANIFEST):
                shutil.copyfile(source / path.relative_to(folder), path)
    print(json.dumps({"cases": cases, "refused": refused}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
