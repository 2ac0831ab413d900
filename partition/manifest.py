"""`DIR/manifest.json`: what a folder of parts holds, checked before anything relies on it.

Whatever can be wrong with it is a UserError of one line that names the file.

Shapes:
    P parts
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from partition.adjacency import Int64Array
from partition.errors import UserError
from partition.labels import LARGEST_SEED, MOST_UNSEEN_CLASSES
from partition.scaling import wrong_scaling

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
AGAIN = "make the parts again with `bnsgcn partition`"
MOST_COLUMNS = 1 << 24
DENSE, CSR = "dense", "csr"
"""How features are stored."""
DEFAULTS: dict[str, Any] = {"feature_storage": DENSE, "hosts": 1, "weighted": False, "feature_scaling": {}}
"""Of what only some parts have: left out where it is the default, so that all others stay as they are."""
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


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
    refine: bool
    starts: int
    order: str
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
    feature_storage: str = DENSE
    """dense (features.npy) or csr (feature_splits, feature_columns, feature_values)."""
    hosts: int = 1
    """Machines that the parts were cut for, part p for machine p // (parts / hosts)."""
    weighted: bool = False
    """Whether arcs have weights (inner_weights, halo_weights)."""
    feature_scaling: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What was done to the features, with the statistics that do it to new nodes; see scaling.py."""

    @property
    def part_offset(self) -> Int64Array:
        """First global id of each part, int64 [P+1]: global id = offset of the owner + owner-local row."""
        return np.concatenate([[0], np.cumsum(self.part_nodes, dtype=np.int64)]).astype(np.int64)

    @property
    def graph_digest(self) -> str:
        """Identifies the graph, however it is cut."""
        return self.source_digest + (" directed" if self.directed else "")

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest: identifies this partitioning."""
        return hashlib.sha256(self.to_text().encode()).hexdigest()

    def to_text(self) -> str:
        """The JSON text that is stored."""
        return json.dumps(_without_defaults(dataclasses.asdict(self)), indent=1, sort_keys=True) + "\n"


def _without_defaults(stored: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in stored.items() if DEFAULTS.get(name) != value}


def read_manifest(folder: Path | str) -> Manifest:
    """The manifest of a folder of parts.

    Raises:
        UserError: it is missing, broken, foreign or contradicts itself.
    """
    path = Path(folder) / MANIFEST
    if not Path(folder).is_dir():
        raise UserError(
            f"{folder}: no such folder of parts; make one with `bnsgcn partition SOURCE --out {folder}`"
        )
    if not path.is_file():
        raise UserError(f"{path}: not found, so {folder} is no folder of parts; {AGAIN}")
    try:
        loaded = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({reprlib.repr(str(error))}); {AGAIN}") from error
    version = loaded.get("format_version") if isinstance(loaded, dict) else None
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise UserError(
            f"{path}: format version {reprlib.repr(version)}, but this program reads {FORMAT_VERSION}; "
            f"{AGAIN}"
        )
    loaded = DEFAULTS | loaded
    if wrong := _wrong(loaded):
        raise UserError(f"{path}: {wrong}; {AGAIN}")
    return Manifest(**{**loaded, "part_nodes": tuple(loaded["part_nodes"])})


def _wrong(loaded: dict[str, Any]) -> str:
    """What is wrong with the content; empty when nothing is."""
    fields = {field.name: field.type.split("[")[0] for field in dataclasses.fields(Manifest)}
    if set(loaded) != set(fields):
        return f"keys missing or unknown: {', '.join(sorted(set(loaded) ^ set(fields)))[:200]}"
    for name, kind in fields.items():
        found = type(loaded[name]).__name__
        if found != {"tuple": "list"}.get(kind, kind):
            return f"{name} is {reprlib.repr(loaded[name])}, which is no {kind}"
    return contradiction(loaded) or _wrong_files(loaded["files"])


def contradiction(loaded: Mapping[str, Any]) -> str:
    """Which of the counts are impossible, or contradict each other; empty when none do."""
    sizes = loaded["part_nodes"]
    if not all(type(size) is int and 0 < size <= np.iinfo(np.int32).max for size in sizes):
        return f"part_nodes is {reprlib.repr(sizes)}; every part has 1 to {2**31 - 1} nodes"
    if len(sizes) != loaded["parts"] or sum(sizes) != loaded["num_nodes"]:
        return (
            f"{len(sizes)} part sizes with {sum(sizes)} nodes in all, but {reprlib.repr(loaded['parts'])} "
            f"parts and {reprlib.repr(loaded['num_nodes'])} nodes are stated"
        )
    if not 1 <= loaded["hosts"] <= loaded["parts"] or loaded["parts"] % loaded["hosts"]:
        return f"hosts is {reprlib.repr(loaded['hosts'])}, which does not divide {loaded['parts']} parts"
    if loaded["task"] not in ("single", "multi"):
        return f"task is {reprlib.repr(loaded['task'])}, neither single nor multi"
    if loaded["feature_storage"] not in (DENSE, CSR):
        return f"feature_storage is {reprlib.repr(loaded['feature_storage'])}, neither {DENSE} nor {CSR}"
    nodes = loaded["num_nodes"]
    bounds = {
        "num_arcs": (0, nodes * (nodes - 1)),
        "num_features": (1, MOST_COLUMNS),
        "num_classes": (1, MOST_COLUMNS if loaded["task"] == "multi" else max(nodes, MOST_UNSEEN_CLASSES)),
        "num_train": (1, nodes),
        "num_val": (0, nodes),
        "num_test": (1, nodes),
        "seed": (0, LARGEST_SEED),
    }
    for name, (least, most) in bounds.items():
        if not least <= loaded[name] <= most:
            return f"{name} is {reprlib.repr(loaded[name])}, out of range: {least} to {most}"
    return wrong_scaling(loaded["feature_scaling"], loaded["num_features"])


def _wrong_files(files: dict[Any, Any]) -> str:
    for name, digest in files.items():
        if not isinstance(digest, str) or not _DIGEST.match(digest):
            return f"the digest of {reprlib.repr(name)} is {reprlib.repr(digest)}, which is no SHA-256"
    return ""
