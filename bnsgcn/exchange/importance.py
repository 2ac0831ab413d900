"""The weights of importance draws, worked out by the reader of a row and told to its owner."""

from __future__ import annotations

import numpy as np

from bnsgcn.config import ModelName
from bnsgcn.dist import World
from bnsgcn.exchange import sampling
from bnsgcn.exchange.sampling import FloatArray
from bnsgcn.local.blocks import Degrees, LayerBlocks
from bnsgcn.local.boundary import IntArray, swap


def importance_weights(
    world: World, layer: LayerBlocks, degrees: tuple[Degrees, Degrees], model: ModelName
) -> tuple[list[FloatArray], list[FloatArray]]:
    """The weights of the layer's boundary rows, by reader, and of its halo slots, by owner. Collective.

    `degrees`: in-degrees of the layer's rows [D], out-degrees of its source rows [C].
    """
    plan, csr = layer.plan, layer.halo.csr
    rows, slots = csr.row_ids().cpu().numpy(), csr.indices.cpu().numpy()
    slot_degree = swap(world, degrees[1][plan.send_rows], plan.send_splits, plan.recv_splits)
    arc_weight = None if csr.weights is None else csr.weights.cpu().numpy()
    slot_weight = sampling.slot_importance(model, slots, degrees[0][rows], slot_degree, arc_weight)
    row_weight = swap(world, slot_weight, plan.recv_splits, plan.send_splits)
    return _split(row_weight, plan.send_splits), _split(slot_weight, plan.recv_splits)


def _split(values: FloatArray, splits: IntArray) -> list[FloatArray]:
    return np.split(values, np.cumsum(splits)[:-1])
