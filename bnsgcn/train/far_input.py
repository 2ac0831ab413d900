"""Input features that stay in host memory: when they do, and their precomputed aggregate.

Shapes:
    C source rows   D destination rows   F features
"""

from __future__ import annotations

import torch
from torch import Tensor

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.kernels import Kernels
from bnsgcn.kernels.host_rows import HostRows
from bnsgcn.nn.conv import Conv
from bnsgcn.nn.hop import Hop
from partition.store import CsrFeatures, Manifest, Part

_BLOCK_ENTRIES = 1 << 26
"""Of the columns that are on the device at a time."""


def stays_far(world: World, part: Part, config: TrainConfig, notes: list[str], *, takes_rows: bool) -> bool:
    """Whether --features host keeps the rows off the device; a note where it does nothing.

    `takes_rows`: whether the model knows what to do with rows that are no tensor.
    """
    if config.features == "device":
        return False
    if world.streams is None:
        notes.append("--features host does nothing on CPU: features are in host memory anyway")
    elif isinstance(part.features, CsrFeatures):
        notes.append("--features host does nothing for sparse features: what is set of them is on the device")
    elif not takes_rows:
        notes.append("--features host does nothing for a model that does not say takes_sparse")
    else:
        return True
    return False


def on_the_host(rows: Tensor, world: World, kernels: Kernels) -> HostRows:
    """Rows of host memory that layer 0 multiplies on the device."""
    assert world.streams is not None
    return HostRows(world.streams.pinned(rows), world.device, world.streams, kernels)


def aggregate_far(world: World, manifest: Manifest, conv: Conv, hop: Hop, features: HostRows) -> HostRows:
    """`conv.aggregate` of rows [C, F]: [D, F], on the host too, made some columns at a time. Collective."""
    width = features.shape[1]
    step = max(16, _BLOCK_ENTRIES // max(manifest.part_nodes))  # the same on all ranks
    aggregate = torch.empty(len(hop.dst), width, dtype=features.rows.dtype)
    for first in range(0, width, step):
        last = min(first + step, width)
        aggregate[:, first:last] = conv.aggregate(hop, features.dense_columns(first, last))
    return on_the_host(aggregate, world, features.kernels)
