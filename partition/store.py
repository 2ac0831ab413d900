"""Parts on disk: `DIR/manifest.json` and `DIR/part_00000/*.npy`, read back memory-mapped and checked.

Everything that can be wrong with such a folder is a ValueError of one line that names the file.

Shapes:
    I inner rows   H halo slots   S boundary rows   F features   C classes   P parts
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from partition.adjacency import Int64Array
from partition.errors import UserError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
AGAIN = "make the parts again with `bnsgcn partition`"
Int32Array = npt.NDArray[np.int32]
ByteArray = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a folder of parts holds."""

    format_version: int
    name: str
    source: str
    source_digest: str
    method: str
    objective: str
    seed: int
    parts: int
    num_nodes: int
    num_arcs: int
    num_features: int
    num_classes: int
    task: str
    directed: bool
    num_train: int
    num_val: int
    num_test: int
    part_nodes: tuple[int, ...]
    """Inner rows of each part, [P]."""
    files: dict[str, str]
    """SHA-256 of every array file, by its name relative to the folder."""

    @property
    def part_offset(self) -> Int64Array:
        """First global id of each part, int64 [P+1]: global id = offset of the owner + owner-local row."""
        return np.concatenate([[0], np.cumsum(self.part_nodes, dtype=np.int64)]).astype(np.int64)

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest: identifies this partitioning."""
        return hashlib.sha256(self.to_text().encode()).hexdigest()

    def to_text(self) -> str:
        """The JSON text that is stored."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True) + "\n"


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Part:
    """One worker's share of the graph; arrays are memory-mapped copy-on-write.

    Self loops are not stored. Degrees are those in the whole graph, without self loops.
    """

    index: int
    manifest: Manifest
    inner_indptr: Int64Array
    """[I+1]; row = inner row."""
    inner_indices: Int32Array
    """Sources that are inner rows, ascending within a row."""
    halo_indptr: Int64Array
    """[I+1]; row = inner row."""
    halo_indices: Int32Array
    """Sources that are halo slots, ascending within a row."""
    halo_ids: Int64Array
    """[H] global id of each halo slot: offset of the owner + owner-local row; ascending."""
    halo_splits: Int64Array
    """[P+1] halo slots by owner."""
    boundary_rows: Int32Array
    """[S] inner rows, by reader, ascending: in the order of the reader's halo slots of this owner."""
    boundary_splits: Int64Array
    """[P+1] boundary rows by reader."""
    in_degree: Int32Array
    """[I] arcs into the node, whole graph."""
    out_degree: Int32Array
    """[I] arcs out of the node, whole graph."""
    halo_in_degree: Int32Array
    """[H]"""
    halo_out_degree: Int32Array
    """[H]"""
    features: npt.NDArray[np.float32]
    """[I, F]"""
    labels: npt.NDArray[Any]
    """int64 [I], -1 = unlabelled; or uint8 [I, C]."""
    split: ByteArray
    """[I] 0 none, 1 train, 2 val, 3 test."""
    halo_split: ByteArray
    """[H]"""
    node_ids: Int64Array
    """[I] original node ids."""

    @property
    def num_inner(self) -> int:
        """I."""
        return int(self.node_ids.size)

    @property
    def num_halo(self) -> int:
        """H."""
        return int(self.halo_ids.size)


ARRAYS = tuple(field.name for field in dataclasses.fields(Part) if field.name not in ("index", "manifest"))


def part_folder(index: int) -> str:
    """Name of a part's folder."""
    return f"part_{index:05d}"


def read_manifest(folder: Path | str) -> Manifest:
    """The manifest of a folder of parts; ValueError for a missing, broken or foreign one."""
    path = Path(folder) / MANIFEST
    if not Path(folder).is_dir():
        raise UserError(
            f"{folder}: no such folder of parts; make one with `bnsgcn partition SOURCE --out {folder}`"
        )
    if not path.is_file():
        raise UserError(f"{path}: not found, so {folder} is no folder of parts; {AGAIN}")
    try:
        loaded = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); {AGAIN}") from error
    version = loaded.get("format_version") if isinstance(loaded, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(f"{path}: format version {version}, but this program reads {FORMAT_VERSION}; {AGAIN}")
    wanted = {field.name for field in dataclasses.fields(Manifest)}
    if set(loaded) != wanted:
        raise UserError(
            f"{path}: keys missing or unknown: {', '.join(sorted(set(loaded) ^ wanted))}; {AGAIN}"
        )
    manifest = Manifest(**{**loaded, "part_nodes": _tuple(loaded["part_nodes"])})
    for field in dataclasses.fields(Manifest):
        kind, value = field.type.split("[")[0], getattr(manifest, field.name)
        if type(value).__name__ != kind:
            raise UserError(f"{path}: {field.name} is {value!r}, which is no {kind}; {AGAIN}")
    if len(manifest.part_nodes) != manifest.parts or sum(manifest.part_nodes) != manifest.num_nodes:
        raise UserError(
            f"{path}: {len(manifest.part_nodes)} part sizes with {sum(manifest.part_nodes)} nodes in all, "
            f"but {manifest.parts} parts and {manifest.num_nodes} nodes are stated; {AGAIN}"
        )
    return manifest


def _tuple(value: object) -> object:
    whole = isinstance(value, list) and all(type(entry) is int for entry in value)
    return tuple(value) if whole and isinstance(value, list) else value


def open_part(folder: Path | str, part: int, *, verify: bool = True) -> Part:
    """Part `part` of a folder; with `verify`, the SHA-256 of each of its files is checked first.

    Raises ValueError for a part beyond the manifest's and for a missing, truncated or altered file.
    """
    manifest = read_manifest(folder)
    if not 0 <= part < manifest.parts:
        raise UserError(f"{folder}: part {part} of {manifest.parts}; parts go from 0 to {manifest.parts - 1}")
    arrays = {name: read_array(Path(folder), manifest, part, name, verify=verify) for name in ARRAYS}
    if arrays["node_ids"].size != manifest.part_nodes[part]:
        raise UserError(
            f"{Path(folder) / part_folder(part)}: {arrays['node_ids'].size} inner nodes, but the manifest "
            f"says {manifest.part_nodes[part]}; {AGAIN}"
        )
    return Part(index=part, manifest=manifest, **arrays)


def read_array(folder: Path, manifest: Manifest, part: int, name: str, *, verify: bool) -> npt.NDArray[Any]:
    """One array of a part, memory-mapped copy-on-write."""
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
    try:
        return _mapped(path)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(
            f"{path}: not a whole array file ({' '.join(str(error).split())}); {AGAIN}"
        ) from error


def _mapped(path: Path) -> npt.NDArray[Any]:
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        assert version == (1, 0), version
        shape, _, _ = np.lib.format.read_array_header_1_0(file)
    if 0 in shape:
        empty: npt.NDArray[Any] = np.load(path, allow_pickle=False)
        return empty
    mapped: npt.NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    return mapped


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def check_free(out: Path) -> None:
    """ValueError where parts cannot be written to `out`."""
    if out.exists():
        raise UserError(f"{out}: exists already; name another --out, or remove it first")
    parent = out.parent
    if parent.exists() and not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise UserError(f"{parent}: cannot be written to; name another --out")
