"""`npz:FILE`: one NumPy archive with a whole graph.

Keys: `edge_index` [2, E]; `feat` [N, F] or the CSR pieces `feat_data feat_indices feat_indptr feat_shape`;
`label` [N] (-1 = unlabelled) or multi-hot [N, C]; `train_idx val_idx test_idx`, all or none; optionally
`num_classes` and `meta`, a JSON string whose `name` is used.

Options: `directed=true`, `features=degree|random:F`, `split_seed=N`, and `label=KEY` for another label
array of the archive; where `KEY` is `label_X` and the archive has `X_idx`, only those nodes are labelled.
"""

from __future__ import annotations

import json
import pathlib
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from partition.adjacency import csr_from_arcs
from partition.errors import UserError, nearest, one_line
from partition.graph import Features, Graph, as_features, checked_arcs
from partition.labels import as_labels, count_classes, labelled_split, seeded_split, split_from_indices
from partition.sources import SourceSpec
from partition.sources.archive import open_archive
from partition.sources.features import WAYS_OUT, made_features

SPLIT_KEYS = ("train_idx", "val_idx", "test_idx")
SPARSE_KEYS = ("feat_data", "feat_indices", "feat_indptr", "feat_shape")


def load(spec: SourceSpec) -> Graph:
    """Graph of an archive."""
    spec.only("directed", "features", "label", "split_seed", "scratch")
    if not spec.target:
        raise UserError(f"{spec.text}: no file named; write npz:FILE.npz")
    path = pathlib.Path(spec.target).expanduser()
    if not path.is_file():
        raise UserError(f"{path}: no such file; npz:FILE needs a NumPy archive{_neighbours(path)}")
    try:
        with open_archive(path) as arrays:
            return _graph(spec, str(path), arrays)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise UserError(
            f"{path}: not a whole NumPy archive ({one_line(error)}); copy or make it again"
        ) from error


def _graph(spec: SourceSpec, name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Graph:
    labels, task = as_labels(name, _label_array(spec, name, arrays))
    num_nodes = labels.shape[0]
    arcs = checked_arcs(name, _needed(name, arrays, "edge_index"), num_nodes)
    directed = spec.flag("directed")
    adjacency = csr_from_arcs(
        arcs[0], arcs[1], num_nodes, symmetrise=not directed, scratch=spec.folder("scratch")
    )
    del arcs
    labelled = _labelled(spec, name, arrays, labels, task)
    split, notes = _split(spec, name, arrays, labelled)
    split, dropped = labelled_split(split, labelled)
    if dropped:
        notes = (*notes, f"{dropped} nodes of the split have no label and were left out of it")
    stated = int(arrays["num_classes"]) if "num_classes" in arrays else 0
    return Graph(
        adjacency=adjacency,
        features=_features(spec, name, arrays, adjacency.degree),
        labels=labels,
        split=split,
        num_classes=stated or count_classes(name, labels, task),
        task=task,
        directed=directed,
        name=_stated_name(arrays) or pathlib.Path(name).stem,
        source=spec.text,
        notes=notes,
    )


def _needed(name: str, arrays: Mapping[str, npt.NDArray[Any]], key: str) -> npt.NDArray[Any]:
    if key not in arrays:
        raise UserError(
            f"{name}: no array '{key}'{nearest(key, list(arrays))}; it has: {', '.join(sorted(arrays))}"
        )
    return arrays[key]


def _label_array(spec: SourceSpec, name: str, arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return _needed(name, arrays, spec.options.get("label", "label"))


def _labelled(
    spec: SourceSpec, name: str, arrays: Mapping[str, npt.NDArray[Any]], labels: npt.NDArray[Any], task: str
) -> npt.NDArray[np.bool_]:
    """Nodes whose label means something, [N]."""
    labelled = labels >= 0 if task == "single" else np.ones(labels.shape[0], np.bool_)
    listed = spec.options.get("label", "label").removeprefix("label_") + "_idx"
    if listed in arrays and listed not in SPLIT_KEYS:
        only = np.zeros(labels.shape[0], np.bool_)
        only[arrays[listed]] = True
        labelled &= only
    return labelled


def _split(
    spec: SourceSpec, name: str, arrays: Mapping[str, npt.NDArray[Any]], labelled: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    present = [key for key in SPLIT_KEYS if key in arrays]
    if not present:
        split, note = seeded_split(labelled, spec.integer("split_seed", 0))
        return split, (note,)
    if len(present) < len(SPLIT_KEYS):
        missing = ", ".join(key for key in SPLIT_KEYS if key not in arrays)
        raise UserError(
            f"{name}: {', '.join(present)} but no {missing}; give all of {', '.join(SPLIT_KEYS)}, "
            "or none for a seeded 60/20/20 split"
        )
    return split_from_indices(name, labelled.size, *(arrays[key] for key in SPLIT_KEYS)), ()


def _features(
    spec: SourceSpec, name: str, arrays: Mapping[str, npt.NDArray[Any]], degree: npt.NDArray[Any]
) -> Features:
    if "features" in spec.options:
        return made_features(spec.text, spec.options["features"], degree)
    if "feat" in arrays:
        return as_features(arrays["feat"])
    if "feat_data" in arrays:
        values, columns, splits, shape = (_needed(name, arrays, key) for key in SPARSE_KEYS)
        return _sparse(name, values, columns, splits, shape)
    raise UserError(f"{name}: no node features; add {WAYS_OUT}: {spec.text},features=degree")


def _sparse(
    name: str,
    values: npt.NDArray[Any],
    columns: npt.NDArray[Any],
    splits: npt.NDArray[Any],
    shape: npt.NDArray[Any],
) -> Features:
    rows, width = (int(size) for size in shape)
    if splits.size != rows + 1 or columns.size != values.size or int(splits[-1]) != values.size:
        raise UserError(
            f"{name}: CSR features do not fit together: {values.size} values, {columns.size} columns, "
            f"{splits.size} row splits for shape [{rows}, {width}]"
        )
    if columns.size and (int(columns.min()) < 0 or int(columns.max()) >= width):
        raise UserError(f"{name}: feat_indices go up to {int(columns.max())}, but there are {width} columns")
    return as_features(sp.csr_matrix((values, columns.astype(np.int64), splits), shape=(rows, width)))


def _stated_name(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    if "meta" not in arrays:
        return ""
    try:
        meta = json.loads(str(arrays["meta"]))
    except json.JSONDecodeError:
        return ""
    return str(meta.get("name", "")) if isinstance(meta, dict) else ""


def _neighbours(path: pathlib.Path) -> str:
    if not path.parent.is_dir():
        return f" (and there is no folder {path.parent})"
    return nearest(path.name, sorted(other.name for other in path.parent.glob("*.npz")))
