"""Forged graphs: archives whose checksums are right and whose content is not, and matrices tampered with.

    python -m tests.partition.forgeries FOLDER FIRST LAST

tries the forgeries of those seeds, each of which has to end in a UserError of one line or in a graph that can
be cut; the number of a seed is printed before it is tried, so that a crash names it.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from partition.assign import Recipe, assign
from partition.errors import UserError
from partition.graph import Graph
from partition.sources import load
from tests.partition.archives import arrays_of_a_graph, changed, npy, write_members

EXTREMES = (0, 1, -1, 2, 7, 8, 9, 255, -(2**31), 2**31, 2**32, -(2**63), 2**63 - 1, 2**62)
KINDS = (
    "?",
    "i1",
    "u1",
    "i2",
    "i4",
    ">i4",
    "i8",
    "u8",
    ">u8",
    "f2",
    "f4",
    "f8",
    "g",
    "c8",
    "U3",
    "S2",
    "M8[s]",
)
ODD_NUMBERS = (np.nan, np.inf, -np.inf, 1e300, -1e300, 0.5, -0.0)
SPLIT_KEYS = ("train_idx", "val_idx", "test_idx")
SPARSE_KEYS = ("feat_data", "feat_indices", "feat_indptr", "feat_shape")


def whole_graph(rng: np.random.Generator) -> dict[str, Any]:
    """Arrays of one of the forms that there are."""
    changes: dict[str, Any] = {}
    if rng.random() < 0.6:
        matrix = sp.csr_matrix(arrays_of_a_graph()["feat"] * (rng.random((8, 3)) < 0.6))
        pieces = (matrix.data, matrix.indices, matrix.indptr, np.array(matrix.shape))
        changes |= {"feat": None, **dict(zip(SPARSE_KEYS, pieces, strict=True))}
    if rng.random() < 0.3:
        changes["label"] = rng.integers(0, 2, (8, 3), np.uint8)
    if rng.random() < 0.3:
        changes |= {
            f"{part}_idx": np.arange(8) % 3 == code for code, part in enumerate(("train", "val", "test"))
        }
    if rng.random() < 0.2:
        changes |= dict.fromkeys(SPLIT_KEYS)
    if rng.random() < 0.5:
        changes |= {"num_classes": np.int64(3), "meta": np.array('{"name": "forged"}')}
    return changed(changes)


def forged(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:
    """`array` with one thing wrong, or right by chance."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _forged(rng, np.array(array))
        except (ValueError, TypeError, RuntimeError, OverflowError):  # no such cast
            return np.array(array)


def _forged(rng: np.random.Generator, array: np.ndarray) -> np.ndarray:
    flat = array.reshape(-1)
    way = rng.integers(9)
    if way == 0 and flat.size and array.dtype.kind in "iu":
        wrong = np.array(EXTREMES, object)[rng.integers(len(EXTREMES))]
        wide = flat.astype(object)
        wide[rng.integers(flat.size, size=rng.integers(1, 4))] = wrong
        kind = np.int64 if min(wide) < 0 else np.uint64
        return wide.astype(kind).reshape(array.shape)
    if way == 1 and array.dtype.kind != "U":
        return array.astype(KINDS[rng.integers(len(KINDS))])
    if way == 2 and flat.size:
        odd = flat.astype(np.float64) if array.dtype.kind != "U" else np.zeros(flat.size)
        odd[rng.integers(flat.size)] = ODD_NUMBERS[rng.integers(len(ODD_NUMBERS))]
        return odd.reshape(array.shape)
    if way == 3:
        return flat[: rng.integers(flat.size + 1)]
    if way == 4:
        return array[None] if rng.random() < 0.5 else np.asfortranarray(array.T)
    if way == 5 and flat.size:
        return rng.permutation(flat).reshape(array.shape)
    if way == 6:
        return np.concatenate([flat, flat])
    if way == 7 and array.dtype.kind != "U":  # any bytes at all
        noise = rng.integers(0, 256, array.nbytes, np.uint8)
        return noise.view(array.dtype).reshape(array.shape)
    return array[..., ::-1] if array.ndim else array


def try_archive(rng: np.random.Generator, path: Path) -> Graph:
    arrays = whole_graph(rng)
    keys = sorted(arrays)
    for _ in range(rng.integers(1, 4)):
        key = keys[rng.integers(len(keys))]
        if rng.random() < 0.1:
            arrays[key] = arrays[keys[rng.integers(len(keys))]]
        arrays[key] = forged(rng, arrays[key])
    members = {key: npy(array) for key, array in arrays.items()}
    if rng.random() < 0.2:  # a header or content that is not of NumPy's making
        key = keys[rng.integers(len(keys))]
        content = bytearray(members[key])
        for place in rng.integers(len(content), size=rng.integers(1, 5)):
            content[place] = rng.integers(256)
        members[key] = bytes(content)
    options = ("", ",directed=true", ",features=degree", f",scratch={path.parent}")
    option = options[rng.integers(len(options))] if rng.random() < 0.4 else ""
    return load(write_members(path, members, compressed=bool(rng.random() < 0.4)) + option)


def try_matrix(rng: np.random.Generator) -> Graph:
    """scipy looks at its pieces when a matrix is made, and no more when they are replaced."""
    arrays = arrays_of_a_graph()
    dense = sp.csr_matrix(arrays["feat"] * (rng.random((8, 3)) < 0.6))
    matrix = dense.asformat(str(rng.choice(["csr", "csc", "coo", "bsr"])))
    names = ("row", "col", "data") if matrix.format == "coo" else ("indptr", "indices", "data")
    name = names[rng.integers(3)]
    with warnings.catch_warnings(), contextlib.suppress(ValueError, TypeError):  # the setter may object
        warnings.simplefilter("ignore")
        setattr(matrix, name, forged(rng, getattr(matrix, name)))
    return Graph.from_arrays(arrays["edge_index"], features=matrix, labels=arrays["label"])


def try_seed(seed: int, folder: Path) -> str:
    """What became of it: refused or read; anything else is raised."""
    rng = np.random.default_rng([seed, 0xF0A6])
    try:
        graph = try_matrix(rng) if seed % 5 == 0 else try_archive(rng, folder / "forged.npz")
        assign(graph, Recipe(parts=2), lambda _: None)
    except UserError as error:
        message = str(error)
        if not message.isprintable():
            raise AssertionError(f"more than a line: {message!r}") from error
        return "refused"
    graph.digest()
    graph.out_degree()
    rows = graph.features[np.arange(graph.num_nodes)[::-1]]
    assert rows.shape == (graph.num_nodes, graph.num_features)
    return "read"


def main(folder: str, first: str, last: str) -> None:
    warnings.simplefilter("error")
    ends: Counter[str] = Counter()
    for seed in range(int(first), int(last)):
        print(seed, file=sys.stderr, flush=True)
        ends[try_seed(seed, Path(folder))] += 1
    print(*(f"{end} {count}" for end, count in sorted(ends.items())))


if __name__ == "__main__":
    main(*sys.argv[1:])
