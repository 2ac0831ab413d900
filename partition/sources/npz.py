"""`npz:FILE`: one NumPy archive with a whole graph.

Keys: `edge_index` [2, E]; `feat` [N, F] or the CSR pieces `feat_data feat_indices feat_indptr feat_shape`;
`label` [N] (-1 = unlabelled) or multi-hot [N, C]; `train_idx val_idx test_idx`, node ids or masks [N], none
or all but perhaps `val_idx`; optionally `edge_weight` [E], `num_classes` and `meta`, a JSON string whose
`name` is used. `split_masks` [S, N] of codes (0 none, 1 train, 2 val, 3 test) are splits to choose from.

Options: `directed=true`, `features=degree|random:F|sparse|dense`, `split=K` (of split_masks, from 0),
`split_seed=N`, `edge_weights=ignore`, and `label=KEY` for another label array of the archive; where `KEY` is
`label_X` and the archive has `X_idx`, only those nodes are labelled.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from partition.arrays import WHOLE, check_kind
from partition.errors import UserError, nearest
from partition.features import WAYS_OUT, CsrPieces, Features, recipe_and_storage
from partition.graph import Graph
from partition.labels import listed_nodes
from partition.sources import SourceSpec
from partition.sources.archive import open_archive
from partition.weights import uses_weights

SPLIT_KEYS = ("train_idx", "val_idx", "test_idx")
LONGEST_NAME = 100
Arrays = Mapping[str, npt.NDArray[Any]]


def load(spec: SourceSpec) -> Graph:
    """Graph of an archive."""
    spec.only("directed", "features", "label", "split", "split_seed", "scratch", "edge_weights")
    if not spec.target:
        raise UserError(f"{spec.text}: no file named; write npz:FILE.npz")
    path = spec.file()
    if not path.exists():
        raise UserError(f"{path}: no such file; npz:FILE needs a NumPy archive{_neighbours(path)}")
    if not path.is_file():
        raise UserError(f"{path}: not a file; npz:FILE needs a NumPy archive")
    with open_archive(path, spec.say) as arrays:
        return _graph(spec, str(path), arrays)


def _graph(spec: SourceSpec, name: str, arrays: Arrays) -> Graph:
    labels = _needed(name, arrays, spec.options.get("label", "label"))
    num_nodes = labels.shape[0] if labels.ndim else 0
    recipe, stored = recipe_and_storage(spec.options.get("features", ""))
    weighted = uses_weights(spec.text, spec.options.get("edge_weights", "use")) and "edge_weight" in arrays
    return Graph.from_arrays(
        lambda: _needed(name, arrays, "edge_index"),
        edge_weight=(lambda: arrays["edge_weight"]) if weighted else None,
        features=recipe or (lambda: _features(spec, name, arrays)),
        stored=stored,
        labels=labels,
        labelled=_labelled(spec, name, arrays, num_nodes),
        split=_split(name, arrays) if "split" not in spec.options else _chosen(spec, name, arrays),
        num_classes=arrays.get("num_classes"),
        directed=spec.flag("directed"),
        name=_stated_name(arrays) or pathlib.Path(name).stem,
        where=name,
        source=spec.text,
        split_seed=spec.seed("split_seed"),
        scratch=spec.folder("scratch"),
    )


def _needed(name: str, arrays: Arrays, key: str) -> npt.NDArray[Any]:
    if key not in arrays:
        raise UserError(
            f"{name}: no array '{key}'{nearest(key, list(arrays))}; it has: {', '.join(sorted(arrays))}"
        )
    return arrays[key]


def _labelled(spec: SourceSpec, name: str, arrays: Arrays, num_nodes: int) -> npt.NDArray[Any] | None:
    """Nodes that the label array is about, where the archive lists them."""
    key = spec.options.get("label", "label").removeprefix("label_") + "_idx"
    if key not in arrays or key in SPLIT_KEYS:
        return None
    return listed_nodes(name, key, arrays[key], num_nodes)


def _split(name: str, arrays: Arrays) -> tuple[Any, ...] | None:
    present = [key for key in SPLIT_KEYS if key in arrays]
    missing = [key for key in SPLIT_KEYS if key not in arrays]
    if present and missing and missing != ["val_idx"]:
        raise UserError(
            f"{name}: {', '.join(present)} but no {', '.join(missing)}; give train_idx and test_idx, with or "
            "without val_idx, or none of the three for a seeded 60/20/20 split"
        )
    return tuple(arrays[key].reshape(-1) if key in arrays else () for key in SPLIT_KEYS) if present else None


def _chosen(spec: SourceSpec, name: str, arrays: Arrays) -> npt.NDArray[Any]:
    """One of the archive's splits, codes [N]."""
    masks, number = arrays.get("split_masks"), spec.integer("split", 0)
    if masks is None or masks.ndim != 2:
        raise UserError(
            f"{name}: split={number} picks one of split_masks [S, N], which is not there; "
            f"use split=random with split_seed={number}"
        )
    if number >= masks.shape[0]:
        raise UserError(
            f"{name}: split={number}, but split_masks has {masks.shape[0]}; use 0 to {masks.shape[0] - 1}"
        )
    chosen: npt.NDArray[Any] = masks[number]
    return chosen


def _features(spec: SourceSpec, name: str, arrays: Arrays) -> Features:
    if "feat" in arrays:
        return arrays["feat"]
    if "feat_data" in arrays:
        values, columns, splits, shape = (
            _needed(name, arrays, f"feat_{piece}") for piece in ("data", "indices", "indptr", "shape")
        )
        check_kind(f"{name}: feat_shape", shape, WHOLE, "two whole numbers")
        if shape.shape != (2,) or (shape < 0).any():
            raise UserError(f"{name}: feat_shape is {shape.tolist()}; expected two whole numbers, [N, F]")
        return CsrPieces(values, columns, splits, (int(shape[0]), int(shape[1])))
    raise UserError(f"{name}: no node features; add {WAYS_OUT}: {spec.text},features=degree")


def _stated_name(arrays: Arrays) -> str:
    """The name in `meta`, where that can be read."""
    stated = arrays.get("meta")
    if stated is None or stated.dtype.kind != "U" or stated.size != 1:
        return ""
    try:
        meta = json.loads(stated.item())
    except (ValueError, RecursionError):
        return ""
    name = meta.get("name") if isinstance(meta, dict) else None
    return name[:LONGEST_NAME] if isinstance(name, str) else ""


def _neighbours(path: pathlib.Path) -> str:
    if not path.parent.is_dir():
        return f" (and there is no folder {path.parent})"
    return nearest(path.name, sorted(other.name for other in path.parent.glob("*.npz")))
