"""Labels and splits as they come, made into what a Graph holds.

Shapes:
    N nodes   C classes (tasks, for multi-label)
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from partition.adjacency import BoolArray, IntArray
from partition.arrays import REAL, WHOLE, as_numpy, check_kind
from partition.errors import UserError

Task = Literal["single", "multi"]

NONE, TRAIN, VAL, TEST = 0, 1, 2, 3
SPLIT_NAMES = {TRAIN: "train", VAL: "val", TEST: "test"}

MOST_UNSEEN_CLASSES = 1000
"""A small graph may state more classes than it has nodes, but not more than this."""
LARGEST_SEED = (1 << 64) - 1
PLANETOID = (20, 500, 1000)
"""Training nodes a class, validation nodes and test nodes of a split like the Planetoid graphs'."""


def as_labels(name: str, labels: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Task]:
    """(int64 [N], "single") or (uint8 [N, C], "multi"); NaN class ids become -1."""
    if labels.shape[:1] == (0,):
        raise UserError(f"{name}: label is empty; a graph needs at least 1 node")
    check_kind(f"{name}: label", labels, REAL, "class ids (whole numbers) or multi-hot zeros and ones")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and labels.shape[1]:
        wrong = (labels != 0) & (labels != 1)
        if wrong.any():
            row = int(np.flatnonzero(wrong.any(axis=1))[0])
            raise UserError(f"{name}: multi-hot label row {row} has an entry that is neither 0 nor 1")
        return np.ascontiguousarray(labels, dtype=np.uint8), "multi"
    if labels.ndim != 1:
        raise UserError(f"{name}: label has shape {labels.shape}; expected [N] or multi-hot [N, C]")
    return _class_ids(name, labels), "single"


def _class_ids(name: str, labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """int64 [N] of numbers that may be fractions, infinite or beyond 64 bits."""
    if labels.dtype.kind == "f":
        with np.errstate(over="ignore"):
            labels = np.where(np.isnan(labels), -1, labels).astype(np.float64, copy=False)
    if labels.dtype.kind == "f" or labels.dtype == np.uint64:
        wrong = (labels != np.floor(labels)) | (labels < -(2.0**62)) | (labels > 2.0**62)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise UserError(
                f"{name}: label {labels[row]} of node {row} is no class id; expected whole numbers"
            )
    return np.ascontiguousarray(labels, dtype=np.int64)


def count_classes(name: str, labels: npt.NDArray[Any], task: Task) -> int:
    """Classes seen (single) or label columns (multi); UserError for more classes than nodes."""
    if task == "multi":
        return int(labels.shape[1])
    highest = int(labels.max(initial=0))
    if highest >= labels.size:
        node = int(np.flatnonzero(labels == highest)[0])
        raise UserError(
            f"{name}: label {highest} of node {node} is out of range: {highest + 1} classes for "
            f"{labels.size} nodes; class ids count from 0 without large gaps, and -1 means unlabelled"
        )
    return highest + 1


def stated_classes(name: str, stated: npt.ArrayLike, num_nodes: int) -> int:
    """The one whole number `stated`, within reason; whether the labels keep to it is another question."""
    number = as_numpy(f"{name}: num_classes", stated)
    check_kind(f"{name}: num_classes", number, WHOLE, "one whole number")
    if number.size != 1:
        raise UserError(f"{name}: num_classes has shape {number.shape}; expected one whole number")
    classes, most = int(number.item()), max(num_nodes, MOST_UNSEEN_CLASSES)
    if not 1 <= classes <= most:
        raise UserError(
            f"{name}: num_classes is {classes} with {num_nodes} nodes; it must lie between 1 and {most}"
        )
    return classes


def labelled_nodes(
    name: str, labels: npt.NDArray[Any], task: Task, listed: npt.ArrayLike | None
) -> BoolArray:
    """Nodes whose label means something, [N]: those `listed`, where there is a list."""
    known = np.ones(labels.shape[0], np.bool_)
    if listed is not None:
        known[:] = False
        known[listed_nodes(name, "labelled", listed, known.size)] = True
    return known & (labels >= 0) if task == "single" else known


def checked_seed(what: str, seed: int) -> int:
    """`seed`, where it has 64 bits and no sign."""
    if not 0 <= seed <= LARGEST_SEED:
        raise UserError(f"{what} is {seed}; a seed lies between 0 and {LARGEST_SEED}")
    return seed


def seeded_split(labelled: BoolArray, seed: int) -> tuple[npt.NDArray[np.uint8], str]:
    """60/20/20 of the labelled nodes, and the sentence that says so."""
    nodes = np.random.default_rng([seed, 0x5B11]).permutation(np.flatnonzero(labelled))
    split = np.zeros(labelled.size, np.uint8)
    train, val = (nodes.size * 6 + 5) // 10, (nodes.size * 8 + 5) // 10
    split[nodes[:train]], split[nodes[train:val]], split[nodes[val:]] = TRAIN, VAL, TEST
    return split, f"no split in the source: {nodes.size} labelled nodes split 60/20/20 with seed {seed}"


def planetoid_split(name: str, labels: npt.NDArray[Any], seed: int) -> tuple[npt.NDArray[np.uint8], str]:
    """20 nodes of each class, then 500 and 1,000 others (Yang et al., ICML 2016), and the sentence on it."""
    nodes = np.random.default_rng([seed, 0x5B12]).permutation(np.flatnonzero(labels >= 0))
    order = nodes[np.argsort(labels[nodes], kind="stable")]
    _, first = np.unique(labels[order], return_index=True)
    place = np.arange(order.size) - np.repeat(first, np.diff(np.append(first, order.size)))
    split = np.zeros(labels.size, np.uint8)
    split[order[place < PLANETOID[0]]] = TRAIN
    others = nodes[split[nodes] == NONE]
    val, test = PLANETOID[1:]
    if others.size <= val:
        raise UserError(
            f"{name}: split=planetoid wants more than {val} nodes beside the training nodes, to validate and "
            f"test, {others.size} are left; use split=random"
        )
    split[others[:val]], split[others[val : val + test]] = VAL, TEST
    counts = np.bincount(split, minlength=4)[TRAIN:].tolist()
    return split, f"split=planetoid: {'/'.join(map(str, counts))} nodes with seed {seed}"


def listed_nodes(name: str, key: str, listed: npt.ArrayLike, num_nodes: int) -> IntArray:
    """Node ids from a list of ids or a mask [N].

    Raises:
        UserError: fractions, another length of the mask, or an id that is no node's.
    """
    nodes = as_numpy(f"{name}: {key}", listed).reshape(-1)
    if nodes.dtype == np.bool_:
        if nodes.size != num_nodes:
            raise UserError(f"{name}: {key} is a mask of {nodes.size} entries for {num_nodes} nodes")
        return np.flatnonzero(nodes.view(np.uint8))  # bytes: a forged mask holds others than 0 and 1
    if nodes.size == 0:
        return np.empty(0, np.int64)
    check_kind(f"{name}: {key}", nodes, WHOLE, f"node ids (whole numbers) or a mask of {num_nodes} booleans")
    low, high = int(nodes.min()), int(nodes.max())
    if low < 0 or high >= num_nodes:
        wrong = low if low < 0 else high
        raise UserError(
            f"{name}: {key} names node {wrong}, but there are {num_nodes} nodes; "
            f"ids go from 0 to {num_nodes - 1}"
        )
    return nodes.astype(np.int64, copy=False)


def split_from_indices(
    name: str, num_nodes: int, train: npt.ArrayLike, val: npt.ArrayLike, test: npt.ArrayLike
) -> npt.NDArray[np.uint8]:
    """uint8 [N] from three lists of node ids or masks [N]; that of validation nodes may be empty.

    Raises:
        UserError: another list is empty, is no list of nodes, or overlaps another.
    """
    split = np.zeros(num_nodes, np.uint8)
    for code, listed in ((TRAIN, train), (VAL, val), (TEST, test)):
        part = SPLIT_NAMES[code]
        nodes = listed_nodes(name, f"{part}_idx", listed, num_nodes)
        if nodes.size == 0 and code != VAL:
            raise UserError(
                f"{name}: {part}_idx is empty (0 of {num_nodes} nodes); give train_idx and test_idx at least "
                "one node each, or leave them and val_idx out for a seeded 60/20/20 split"
            )
        taken = split[nodes]
        overlap = np.flatnonzero((taken != NONE) & (taken != code))
        if overlap.size:
            at = int(overlap[0])
            raise UserError(
                f"{name}: node {int(nodes[at])} is in {SPLIT_NAMES[int(taken[at])]}_idx and in {part}_idx; "
                "a node belongs to one split"
            )
        split[nodes] = code
    return split


def as_split(name: str, split: Any, num_nodes: int) -> npt.NDArray[np.uint8]:
    """uint8 [N] from codes [N], or from the three lists (train, val, test) of node ids or masks."""
    if isinstance(split, list | tuple) and len(split) == 3 and all(map(_is_list, split)):
        return split_from_indices(name, num_nodes, *split)
    codes = as_numpy(f"{name}: split", split)
    check_kind(f"{name}: split", codes, WHOLE, "codes (0 none, 1 train, 2 val, 3 test) or three lists")
    if codes.shape != (num_nodes,):
        raise UserError(f"{name}: split of shape {codes.shape} for {num_nodes} nodes")
    if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) <= TEST:
        wrong = int(codes.min() if codes.min() < 0 else codes.max())
        raise UserError(f"{name}: split code {wrong}; codes are 0 none, 1 train, 2 val, 3 test")
    return codes.astype(np.uint8, copy=False)


def _is_list(value: Any) -> bool:
    return bool(getattr(value, "ndim", isinstance(value, list | tuple | range)))


def labelled_split(split: npt.NDArray[np.uint8], labelled: BoolArray) -> tuple[npt.NDArray[np.uint8], int]:
    """`split` without the unlabelled nodes, and how many those were."""
    lost = (split != NONE) & ~labelled
    count = int(lost.sum())
    return (np.where(lost, NONE, split).astype(np.uint8), count) if count else (split, 0)
