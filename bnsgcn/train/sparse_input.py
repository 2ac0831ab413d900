"""Sparse input features: chosen rows of a part's, and their precomputed aggregate.

Shapes:
    I inner rows   C source rows   D destination rows   F features
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bnsgcn.dist import World
from bnsgcn.kernels import Kernels
from bnsgcn.kernels.sparse_rows import SparseRows, joined_columns, sparse_rows
from bnsgcn.local.boundary import IntArray
from bnsgcn.nn.conv import Conv
from bnsgcn.nn.hop import Hop
from partition.adjacency import row_entries
from partition.part import SPARSE_BELOW
from partition.store import CsrFeatures, Manifest

_BLOCK_ENTRIES = 1 << 24
"""Of the columns that are dense at a time."""


def chosen_rows(
    features: CsrFeatures,
    rows: IntArray,
    device: torch.device | str,
    dtype: torch.dtype,
    kernels: Kernels,
) -> SparseRows:
    """The given rows, ascending; the values' memory map itself where it is all rows in their format."""
    splits, columns, values = features.splits, features.columns, features.values
    if rows.size != splits.size - 1:
        splits, entries = row_entries(splits, rows)
        columns, values = columns[entries], values[entries]
    pieces = (torch.from_numpy(np.asarray(piece)) for piece in (splits, columns))
    splits_there, columns_there = (piece.to(device) for piece in pieces)
    values_there = torch.from_numpy(np.asarray(values)).to(device, dtype)
    return SparseRows.of(splits_there, columns_there, values_there, features.num_columns, kernels)


def aggregate_sparse(
    world: World, manifest: Manifest, conv: Conv, hop: Hop, features: SparseRows
) -> tuple[Tensor | SparseRows, str]:
    """`conv.aggregate` of sparse rows [C, F]: [D, F], dense where sparse does not pay; a note. Collective.

    Some columns at a time are made dense, sent and summed, so that it is what dense rows would give.
    """
    width = features.shape[1]
    step = max(16, _BLOCK_ENTRIES // max(manifest.part_nodes))  # the same on all ranks
    blocks = [
        sparse_rows(
            conv.aggregate(hop, features.dense_columns(first, min(first + step, width))), features.kernels
        )
        for first in range(0, width, step)
    ]
    aggregate = joined_columns(blocks)
    counts = torch.tensor([aggregate.num_set, len(hop.dst) * width], dtype=torch.float64, device=world.device)
    entries, places = world.all_reduce(counts).tolist()
    share = entries / max(places, 1)
    said = f"the precomputed aggregate of the sparse features has {share:.2%} of its entries set: it "
    if share <= SPARSE_BELOW:
        return aggregate, said + "stays sparse"
    return aggregate.dense(), said + f"is made dense, which is faster above {SPARSE_BELOW:.0%}"
