"""From options to draws: every row, a uniform sample, or one by importance."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.exchange.draws import DrawSource, FullDraws, SampledDraws, Sampling
from bnsgcn.exchange.sampling import FloatArray
from bnsgcn.kernels import Block
from bnsgcn.local.boundary import HaloPlan, IntArray

Degrees = tuple[Tensor, Tensor]


def draw_source(
    config: TrainConfig, world: World, plans: dict[int, HaloPlan], blocks: dict[int, Block], degrees: Degrees
) -> DrawSource:
    """Who gives the layers that exchange their draws. Collective when draws are weighted.

    `degrees`: in-degrees of the rows and out-degrees of the source rows of the lowest layer that exchanges.
    """
    if config.sampling_rate == 1.0 or not plans:
        return FullDraws(world, plans, blocks)
    how = Sampling(
        rate=config.sampling_rate,
        seed=config.seed,
        per_layer=config.draw_per_layer,
        scaled=config.model != "gat" and not config.halo_cache,
        full_first_epoch=config.halo_cache and config.first_epoch == "exact",
    )
    weights = None
    if config.sampler == "importance":
        base = min(plans)
        weights = _importance(world, degrees, plans[base], blocks[base], config.model)
    return SampledDraws(world, plans, blocks, how, weights)


def _importance(
    world: World, degrees: Degrees, plan: HaloPlan, block: Block, model: str
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Importance of every base entry, per reader and per owner: what a row weighs in the reader's sums.

    With a_ij the weight of neighbour j in row i (1 / d_i for a mean, 1 / sqrt(d_i d_j) for GCN), row j weighs
    sqrt(sum_i a_ij^2). The reader computes it and sends it to the owner, once.
    """
    row_weight = degrees[0].double().clamp(min=1) ** (-1.0 if model == "gcn" else -2.0)
    csr = block.transposed
    sums = torch.zeros(csr.num_rows, dtype=torch.float64, device=csr.device)
    sums.index_add_(0, csr.row_ids().long(), row_weight[csr.indices.long()])
    received = world.all_to_all_now(sums, plan.recv_splits, plan.send_splits)
    slot_weight, row_sums = sums.cpu().numpy(), received.cpu().numpy()
    if model == "gcn":
        degree = degrees[1].double().clamp(min=1)[torch.from_numpy(plan.send_rows).to(csr.device)]
        halo_degree = world.all_to_all_now(degree, plan.send_splits, plan.recv_splits)
        slot_weight, row_sums = slot_weight / halo_degree.cpu().numpy(), row_sums / degree.cpu().numpy()
    return _split(np.sqrt(row_sums), plan.send_splits), _split(np.sqrt(slot_weight), plan.recv_splits)


def _split(values: FloatArray, splits: IntArray) -> list[FloatArray]:
    return np.split(values, np.cumsum(splits)[:-1])
