"""Node features: as they come, checked and made float32; or made, where there are none.

features=degree        column 0 log(1 + degree), then a one-hot of floor(log2(1 + degree)), 32 columns in all
features=random:64     64 seeded standard normal columns, the same for the same node id
features=sparse        those that there are, stored and multiplied sparse, however many are set
features=dense         those that there are, stored dense, however few are set

Shapes:
    N nodes   F features   E entries of a sparse matrix
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from partition.adjacency import Int64Array
from partition.arrays import REAL, WHOLE, as_numpy, check_kind
from partition.errors import UserError, one_line
from partition.manifest import CSR, DENSE
from partition.part import SPARSE_BELOW
from partition.room import check_room

Features = Any  # float32 [N, F]: ndarray, memmap or scipy CSR matrix (scipy has no stubs)

DEGREE_COLUMNS = 32
MOST_COLUMNS = 1 << 24
"""Wider features are taken for a mistake: they become dense rows and rows of a weight."""
SPARSE_COLUMNS = 128
"""Narrower sparse matrices become dense: rows of the width that hidden layers have, or less."""
STORED: tuple[str, ...] = ("sparse", "dense")
"""What says how features are stored instead of how they are made."""
WAYS_OUT = "features=degree (made from node degrees) or features=random:64 (64 random columns)"


@dataclasses.dataclass(frozen=True, eq=False)
class CsrPieces:
    """A sparse matrix as it comes, unchecked."""

    values: npt.NDArray[Any]
    """[E]"""
    columns: npt.NDArray[Any]
    """[E]"""
    splits: npt.NDArray[Any]
    """[N+1]"""
    shape: tuple[int, int]


def read_features(name: str, given: Any, degree: Int64Array, stored: str) -> Features:
    """float32 [N, F] of an array, a matrix, a recipe or a function that gives one, to be so `stored`."""
    table = given() if callable(given) else given
    if isinstance(table, str):
        table = made_features(name, table, degree)
    return as_stored(name, as_features(name, table), stored)


def as_features(name: str, features: Any) -> Features:
    """float32 [N, F], without loading a memmap that already is."""
    if isinstance(features, CsrPieces):
        _check_width(name, features.shape[1])
        return _checked_csr(name, features)
    if sp.issparse(features) and features.ndim == 2:
        return _as_csr(name, features)
    array = as_numpy(f"{name}: features", features)
    check_kind(f"{name}: the feature array", array, REAL, "real numbers")
    return _as_float32(array)


def _as_float32(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and check_features names its row
        return array.astype(np.float32, copy=False)


def _as_csr(name: str, matrix: Any) -> Features:
    rows, width = matrix.shape
    if matrix.format in ("csr", "csc"):
        shape = (rows, width) if matrix.format == "csr" else (width, rows)
        made = _checked_csr(name, CsrPieces(matrix.data, matrix.indices, matrix.indptr, shape))
        return made if matrix.format == "csr" else made.T.tocsr()
    try:
        listed = matrix.tocoo()
    except Exception as error:  # whatever scipy makes of pieces that do not fit together
        raise UserError(f"{name}: features are no {matrix.format} matrix ({one_line(error)})") from error
    check_kind(f"{name}: the feature array", listed.data, REAL, "real numbers")
    _check_columns(name, listed.row, rows)
    _check_columns(name, listed.col, width)
    if not listed.row.shape == listed.col.shape == listed.data.shape:
        raise UserError(
            f"{name}: features have {listed.row.shape} rows, {listed.col.shape} columns and "
            f"{listed.data.shape} values"
        )
    return sp.csr_matrix((_as_float32(listed.data), (listed.row, listed.col)), shape=(rows, width))


def _checked_csr(name: str, pieces: CsrPieces) -> Features:
    """A scipy CSR matrix, float32 and in memory, of pieces that may come from anywhere.

    scipy's compiled code believes what it is given and writes beyond its arrays where that is wrong: it sees
    the pieces only once they are known to fit together. Unsorted and repeated columns are put in order.
    """
    values, columns, splits, shape = pieces.values, pieces.columns, pieces.splits, pieces.shape
    check_kind(f"{name}: feat_data", values, REAL, "real numbers")
    check_kind(f"{name}: feat_indptr", splits, WHOLE, "whole numbers")
    if splits.shape != (shape[0] + 1,) or values.ndim != 1 or columns.shape != values.shape:
        raise UserError(
            f"{name}: CSR features do not fit together: data {values.shape}, indices {columns.shape} and "
            f"indptr {splits.shape} for shape {list(shape)}"
        )
    if int(splits[0]) != 0 or int(splits[-1]) != values.size:
        raise UserError(
            f"{name}: feat_indptr goes from {int(splits[0])} to {int(splits[-1])}; "
            f"it has to go from 0 to the {values.size} entries"
        )
    falling = np.flatnonzero(splits[1:] < splits[:-1])
    if falling.size:
        row = int(falling[0])
        first, last = int(splits[row]), int(splits[row + 1])
        raise UserError(f"{name}: feat_indptr says that row {row} goes from entry {first} to entry {last}")
    _check_columns(name, columns, shape[1])
    index = np.int32 if max(values.size, *shape) <= np.iinfo(np.int32).max else np.int64
    made = sp.csr_matrix(
        (_in_memory(_as_float32(values)), _in_memory(columns, index), _in_memory(splits, index)), shape=shape
    )
    if not made.has_canonical_format:
        made = made.copy()  # sorting is in place, and the pieces are the caller's
        made.sum_duplicates()
    return made


def _check_columns(name: str, columns: npt.NDArray[Any], width: int) -> None:
    check_kind(f"{name}: feat_indices", columns, WHOLE, "whole numbers")
    if columns.size and not 0 <= int(columns.min()) <= int(columns.max()) < width:
        raise UserError(
            f"{name}: feat_indices go from {int(columns.min())} to {int(columns.max())}, "
            f"but there are {width} columns"
        )


def _in_memory(piece: npt.NDArray[Any], dtype: type[np.generic] | None = None) -> npt.NDArray[Any]:
    """`piece` where compiled code can use it: off the file, which may change, and aligned."""
    return np.array(piece, dtype) if isinstance(piece, np.memmap) else np.require(piece, dtype, ["C", "A"])


def _check_width(name: str, width: int) -> None:
    if not 1 <= width <= MOST_COLUMNS:
        raise UserError(f"{name}: features have {width} columns; expected between 1 and {MOST_COLUMNS}")


def as_stored(name: str, features: Features, stored: str) -> Features:
    """float32 [N, F], a CSR matrix where they are to be stored sparse.

    Raises:
        UserError: `stored` is neither empty nor one of `STORED`.
    """
    if stored not in ("", *STORED):
        raise UserError(f"{name}: features stored {stored} are unknown; store them {' or '.join(STORED)}")
    if stored != "sparse" or sp.issparse(features) or features.ndim != 2 or 0 in features.shape:
        return features
    step = rows_at_once(features.shape[1])
    blocks = (features[start : start + step] for start in range(0, features.shape[0], step))
    return sp.vstack([sp.csr_matrix(block) for block in blocks], "csr")


def rows_at_once(width: int) -> int:
    """How many rows are looked at together."""
    return max(1, (1 << 22) // width)


def check_features(name: str, features: Features, num_nodes: int) -> None:
    """UserError where `features` is not finite [N, F], naming the first row that is not."""
    if features.ndim != 2 or features.shape[0] != num_nodes:
        raise UserError(
            f"{name}: features have shape {tuple(features.shape)}, but there are {num_nodes} nodes (labels); "
            f"expected [{num_nodes}, F]"
        )
    _check_width(name, features.shape[1])
    if sp.issparse(features):
        wrong = np.flatnonzero(~np.isfinite(features.data))
        if wrong.size:
            row = int(np.searchsorted(features.indptr, wrong[0], side="right")) - 1
            _raise_not_finite(name, row, num_nodes)
        return
    step = rows_at_once(features.shape[1])
    for start in range(0, num_nodes, step):
        finite = np.isfinite(features[start : start + step])
        if not finite.all():
            _raise_not_finite(name, start + int(np.flatnonzero(~finite.all(axis=1))[0]), num_nodes)


def _raise_not_finite(name: str, row: int, num_nodes: int) -> None:
    raise UserError(
        f"{name}: features of row {row} (of {num_nodes}) hold NaN or infinity; "
        "replace them in the source, for example with numpy.nan_to_num"
    )


def recipe_and_storage(asked: str) -> tuple[str, str]:
    """(how features are made, how they are stored) as `features=ASKED` says; one of the two is empty."""
    return ("", asked) if asked in STORED else (asked, "")


def made_features(name: str, recipe: str, degree: Int64Array) -> npt.NDArray[np.float32]:
    """float32 [N, F] by the recipe after `features=`; UserError names what there is."""
    kind, _, width = recipe.partition(":")
    if kind == "degree" and not width:
        return degree_features(degree)
    if kind == "random" and width.isdecimal() and len(width) < 20 and int(width) > 0:
        columns = int(width)
        check_room(f"{name}: features={recipe}", 4 * columns * degree.size, "use fewer columns")
        return np.random.default_rng([0, 0xFEA7]).standard_normal((degree.size, columns), dtype=np.float32)
    if recipe in STORED:
        raise UserError(f"{name}: features={recipe} is about features that there are; use {WAYS_OUT}")
    raise UserError(
        f"{name}: features={recipe} is unknown; use {WAYS_OUT}; sparse or dense store what there is"
    )


def degree_features(degree: Int64Array) -> npt.NDArray[np.float32]:
    """float32 [N, 32] from degrees [N]."""
    features = np.zeros((degree.size, DEGREE_COLUMNS), np.float32)
    log2 = np.log2(1.0 + degree)
    features[:, 0] = log2 * np.log(2.0)
    bucket = np.minimum(log2.astype(np.int64), DEGREE_COLUMNS - 2)
    features[np.arange(degree.size), 1 + bucket] = 1.0
    return features


def dense_features(features: Features) -> npt.NDArray[np.float32]:
    """A new float32 [N, F] in memory."""
    dense = features if isinstance(features, np.ndarray) else features.toarray()
    return np.array(dense, np.float32)


def feature_storage(features: Features, stored: str = "") -> str:
    """How parts store `features`: as `stored` says, or sparse where that pays."""
    if not sp.issparse(features) or stored == "dense":
        return DENSE
    pays = features.shape[1] >= SPARSE_COLUMNS and _density(features) <= SPARSE_BELOW
    return CSR if pays or stored == "sparse" else DENSE


def describe_features(features: Features, stored: str = "") -> str:
    """What becomes of a sparse matrix, in a line; empty for a dense one."""
    if not sp.issparse(features):
        return ""
    what = f"sparse features, {_density(features):.2%} of {features.shape[1]} columns set: "
    if feature_storage(features, stored) == CSR:
        why = "" if feature_storage(features) == CSR else " (features=sparse)"
        return f"{what}they stay sparse, on disk and in training{why}"
    if stored == "dense":
        return what + "they become dense (features=dense)"
    return (
        what + f"they become dense; they would stay sparse with at most {SPARSE_BELOW:.0%} of at least "
        f"{SPARSE_COLUMNS} columns set, or with features=sparse"
    )


def _density(features: Features) -> float:
    rows, width = features.shape
    density: float = np.count_nonzero(features.data) / (rows * width)
    return density
