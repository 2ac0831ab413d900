"""Archives of a small graph, whole or forged: every member is written with a right checksum."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np


def arrays_of_a_graph() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    return {
        "edge_index": np.array([[0, 1, 1, 2, 5, 5], [1, 0, 2, 3, 5, 4]], np.int32),  # a duplicate, a loop
        "feat": rng.random((8, 3)).astype(np.float32),
        "label": np.array([0, 1, 2, 0, 1, 2, -1, 0]),
        "train_idx": np.array([0, 1, 2]),
        "val_idx": np.array([3, 4]),
        "test_idx": np.array([5]),
    }


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """The arrays of the graph with `changes`; None takes one away."""
    return {key: value for key, value in {**arrays_of_a_graph(), **changes}.items() if value is not None}


def npy(array: Any, version: tuple[int, int] | None = None) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, np.asarray(array), version=version, allow_pickle=True)
    return content.getvalue()


def forged_npy(header: str, content: bytes = b"", version: int = 1) -> bytes:
    """A .npy file with any header at all."""
    text = header.encode("latin1") + b"\n"
    length = len(text).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + content


def write_members(path: Path, members: dict[str, bytes], compressed: bool = False) -> str:
    """An archive of these members, and the SOURCE that names it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for key, content in members.items():
            archive.writestr(f"{key}.npy", content)
    return f"npz:{path}"


def write(tmp_path: Path, changes: dict[str, Any], compressed: bool = False) -> str:
    (np.savez_compressed if compressed else np.savez)(tmp_path / "graph.npz", **changed(changes))
    return f"npz:{tmp_path}/graph.npz"
