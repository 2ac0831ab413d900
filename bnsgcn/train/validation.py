"""Where a graph has training and test nodes alone, some of the training nodes become validation nodes.

Which ones depends on the seed and their original ids, so not on how the graph is cut: those with the smallest
random bits.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.kernels.random_bits import Stream, key, row_state
from bnsgcn.local.boundary import counts_of, swap
from partition.errors import UserError
from partition.labels import TRAIN, VAL
from partition.manifest import Manifest
from partition.part import Part


def validation_nodes(config: TrainConfig, manifest: Manifest) -> int:
    """How many training nodes are to become validation nodes.

    Raises:
        UserError: the graph has no validation nodes and --val-share is not given, or has both.
    """
    if manifest.num_val:
        if config.val_share:
            raise UserError(
                f"--val-share {config.val_share:g}, but {manifest.name} has {manifest.num_val} validation "
                f"nodes; leave it out"
            )
        return 0
    if not config.val_share:
        too = ", --tolerance is measured with them" if config.policy == "auto" else ""
        raise UserError(
            f"{manifest.name} has 0 validation nodes, and the best checkpoint is chosen by them{too}; "
            f"--val-share 0.1 takes a tenth of its {manifest.num_train} training nodes"
        )
    if manifest.num_train < 2:
        raise UserError(
            f"--val-share {config.val_share:g} needs at least 2 training nodes, {manifest.name} has "
            f"{manifest.num_train}; name validation nodes in the graph"
        )
    return min(max(1, round(config.val_share * manifest.num_train)), manifest.num_train - 1)


def with_validation(world: World, part: Part, config: TrainConfig) -> tuple[Part, list[str]]:
    """The part with the validation nodes that the options ask for, and the lines that say so. Collective.

    Raises:
        UserError: see `validation_nodes`.
    """
    wanted, manifest = validation_nodes(config, part.manifest), part.manifest
    if not wanted:
        return part, []
    training = np.flatnonzero(part.split == TRAIN)
    bits = row_state(key(config.seed, 0, 0, Stream.VALIDATION), torch.from_numpy(part.node_ids[training]))
    words = bits.view(torch.int64).flatten().numpy()
    split = np.array(part.split)
    split[training[words <= _threshold(world, words, wanted)]] = VAL
    sent, received = counts_of(part.boundary_splits), counts_of(part.halo_splits)
    halo_split = swap(world, split[part.boundary_rows], sent, received)
    said = (
        f"validation: {wanted:,} of the {manifest.num_train:,} training nodes, drawn with seed {config.seed} "
        f"(--val-share {config.val_share:g})"
    )
    return dataclasses.replace(part, split=split, halo_split=halo_split), [said]


def _threshold(world: World, words: npt.NDArray[np.int64], wanted: int) -> int:
    """The smallest number that at least `wanted` words of all ranks do not exceed. Collective."""
    ordered = np.sort(words)
    low, high = -(1 << 63), (1 << 63) - 1
    while low < high:
        middle = (low + high) // 2
        below = torch.tensor([np.searchsorted(ordered, middle, side="right")], device=world.device)
        if int(world.all_reduce(below)) >= wanted:
            high = middle
        else:
            low = middle + 1
    return low
