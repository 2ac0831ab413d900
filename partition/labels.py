"""Labels and splits as they come, made into what a Graph holds.

Shapes:
    N nodes   C classes (tasks, for multi-label)
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from partition.adjacency import BoolArray
from partition.errors import UserError

Task = Literal["single", "multi"]

NONE, TRAIN, VAL, TEST = 0, 1, 2, 3
SPLIT_NAMES = {TRAIN: "train", VAL: "val", TEST: "test"}


def as_labels(name: str, labels: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Task]:
    """(int64 [N], "single") or (uint8 [N, C], "multi"); NaN class ids become -1."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        if not np.isin(labels, (0, 1)).all():
            row = int(np.flatnonzero(~np.isin(labels, (0, 1)).all(axis=1))[0])
            raise UserError(f"{name}: multi-hot label row {row} has an entry that is neither 0 nor 1")
        return np.ascontiguousarray(labels, dtype=np.uint8), "multi"
    if labels.ndim != 1:
        raise UserError(f"{name}: label has shape {labels.shape}; expected [N] or multi-hot [N, C]")
    if np.issubdtype(labels.dtype, np.floating):
        labels = np.where(np.isnan(labels), -1, labels)
        if (labels != np.floor(labels)).any():
            row = int(np.flatnonzero(labels != np.floor(labels))[0])
            raise UserError(
                f"{name}: label {labels[row]} of node {row} is no class id; expected whole numbers"
            )
    return np.ascontiguousarray(labels, dtype=np.int64), "single"


def count_classes(name: str, labels: npt.NDArray[Any], task: Task) -> int:
    """Classes seen (single) or label columns (multi); ValueError for more classes than nodes."""
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


def seeded_split(labelled: BoolArray, seed: int) -> tuple[npt.NDArray[np.uint8], str]:
    """60/20/20 of the labelled nodes, and the sentence that says so."""
    nodes = np.random.default_rng([seed, 0x5B11]).permutation(np.flatnonzero(labelled))
    split = np.zeros(labelled.size, np.uint8)
    train, val = (nodes.size * 6 + 5) // 10, (nodes.size * 8 + 5) // 10
    split[nodes[:train]], split[nodes[train:val]], split[nodes[val:]] = TRAIN, VAL, TEST
    return split, f"no split in the source: {nodes.size} labelled nodes split 60/20/20 with seed {seed}"


def split_from_indices(
    name: str, num_nodes: int, train: npt.ArrayLike, val: npt.ArrayLike, test: npt.ArrayLike
) -> npt.NDArray[np.uint8]:
    """uint8 [N] from three lists of node ids; ValueError for an empty, overlapping or wrong list."""
    split = np.zeros(num_nodes, np.uint8)
    for code, listed in ((TRAIN, train), (VAL, val), (TEST, test)):
        nodes = np.asarray(listed)
        part = SPLIT_NAMES[code]
        if nodes.dtype == np.bool_:
            nodes = np.flatnonzero(nodes)
        nodes = nodes.reshape(-1)
        if nodes.size == 0:
            raise UserError(
                f"{name}: {part}_idx is empty (0 of {num_nodes} nodes); give each of train_idx, val_idx and "
                "test_idx at least one node, or leave all three out for a seeded 60/20/20 split"
            )
        if nodes.min() < 0 or nodes.max() >= num_nodes:
            wrong = int(nodes.min() if nodes.min() < 0 else nodes.max())
            raise UserError(f"{name}: {part}_idx names node {wrong}, but there are {num_nodes} nodes")
        taken = split[nodes]
        if ((taken != NONE) & (taken != code)).any():
            at = int(np.flatnonzero((taken != NONE) & (taken != code))[0])
            raise UserError(
                f"{name}: node {int(nodes[at])} is in {SPLIT_NAMES[int(taken[at])]}_idx and in {part}_idx; "
                "a node belongs to one split"
            )
        split[nodes] = code
    return split


def labelled_split(split: npt.NDArray[np.uint8], labelled: BoolArray) -> tuple[npt.NDArray[np.uint8], int]:
    """`split` without the unlabelled nodes, and how many those were."""
    lost = (split != NONE) & ~labelled
    count = int(lost.sum())
    return (np.where(lost, NONE, split).astype(np.uint8), count) if count else (split, 0)
