"""Which rows each layer sends to whom: boundary lists and halo slots, pruned to what the layer needs.

Made once at start, by two small collectives. Sampling draws from the *base lists* (those of the lowest
layer that exchanges); the lists of the layers above are subsets of them, so one draw serves all layers.

    I inner rows of the part   H halo slots   S boundary rows (a row read by three peers counts three times)
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bnsgcn.dist import World
from partition.errors import UserError
from partition.fit import check_lists, check_sums, list_digests, sums
from partition.store import Part

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, eq=False)
class HaloPlan:
    """One layer's lists.

    send_rows: int64 [S], positions among the layer's source rows, by reader.   send_part: int64 [S], the same
    entries as positions in the part's boundary list.   recv_part: int64 [H], the layer's halo slots as
    positions in the part's halo slots, ascending.   *_splits: entries per peer, [P].
    """

    send_rows: IntArray
    send_part: IntArray
    send_splits: IntArray
    recv_part: IntArray
    recv_splits: IntArray


def counts_of(splits: npt.NDArray[np.integer]) -> IntArray:
    """Entries per peer from cumulative splits [P + 1]."""
    return np.diff(splits).astype(np.int64)


def to_owners(world: World, part: Part, slot_values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Send one value per halo slot [H] to the slots' owners; returns one value per boundary row [S]."""
    return swap(world, slot_values, counts_of(part.halo_splits), counts_of(part.boundary_splits))


def swap(world: World, values: npt.NDArray[Any], send: IntArray, receive: IntArray) -> npt.NDArray[Any]:
    """Send `send[r]` of the values to rank r; returns `receive[r]` values of it. Collective."""
    sent = torch.from_numpy(np.ascontiguousarray(values).copy()).to(world.device)
    received: npt.NDArray[Any] = world.all_to_all_now(sent, send, receive).cpu().numpy()
    return received


def check_parts_match(world: World, part: Part) -> None:
    """See to it that parts send what their readers expect and together are the graph. Collective.

    Raises:
        UserError: on every rank the same line; parts were mixed up or forged.
    """
    sent, expected = list_digests(part)
    once = [1] * world.size
    theirs = world.all_to_all_now(torch.from_numpy(expected).to(world.device), once, once)
    counted = world.all_reduce(torch.from_numpy(sums(part)).to(world.device))
    line, where = "", f"the parts of {part.manifest.name}"
    try:
        check_lists(part.index, sent, theirs.cpu().numpy(), where)
        check_sums(part.manifest, counted.cpu().numpy(), where)
    except UserError as error:
        line = str(error)
    if lines := [said for said in world.all_gather_text(line) if said]:
        raise UserError(lines[0])


def plan_halo(part: Part, source_position: IntArray, asked: BoolArray, slots: IntArray) -> HaloPlan:
    """The lists of one layer.

    Args:
        source_position: [I], position of an inner row among the layer's source rows, -1 = not a source row.
        asked: [S] of the part, whether the reader asked for this boundary entry.
        slots: [H of the layer], the halo slots that this part asked for, ascending.
    """
    entries = np.flatnonzero(asked)
    rows = source_position[part.boundary_rows[entries]]
    assert (rows >= 0).all(), "a peer asked for a row that the layer does not compute"
    return HaloPlan(
        send_rows=rows,
        send_part=entries,
        send_splits=_per_peer(entries, part.boundary_splits),
        recv_part=slots,
        recv_splits=_per_peer(slots, part.halo_splits),
    )


def _per_peer(positions: IntArray, splits: npt.NDArray[np.integer]) -> IntArray:
    """How many of the ascending `positions` lie in each stretch of `splits` [P + 1]."""
    ends: IntArray = np.searchsorted(positions, splits).astype(np.int64)
    return np.diff(ends)


def kept_splits(keep: BoolArray, splits: IntArray) -> IntArray:
    """Entries per peer [P] after keeping `keep` [S] of lists with `splits` [P] entries per peer."""
    ends = np.concatenate([[0], np.cumsum(splits)])
    running = np.concatenate([[0], np.cumsum(keep)])
    kept: IntArray = np.diff(running[ends]).astype(np.int64)
    return kept


def as_index(positions: IntArray, device: torch.device) -> Tensor:
    """int64 index tensor on `device`."""
    return torch.from_numpy(np.ascontiguousarray(positions, dtype=np.int64)).to(device)
