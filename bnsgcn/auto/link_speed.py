"""How fast rows get from every rank to every other: measured once, at the start, by all at the same time.

In step s every rank sends to the one s places on and receives from the one s places back, so every pair is
measured alone in its direction while the others' links are as busy as in training.

    P parts
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from bnsgcn.dist import World
from bnsgcn.exchange.sampling import FloatArray

_ROW_BYTES = 1 << 10
_PINGS = 3
_LEAST_ROWS, _MOST_ROWS = 1 << 6, 1 << 12
"""64 KiB to 4 MiB: less passes in the burst that a shaped link allows, more takes seconds on a slow one."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LinkSpeed:
    """Of every pair, [P senders, P receivers]; the diagonal is infinitely fast.

    latency_s: of a small message.   bytes_per_s: of a large one.
    """

    latency_s: FloatArray
    bytes_per_s: FloatArray

    def to_json(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"latency_s": self.latency_s.tolist(), "bytes_per_s": self.bytes_per_s.tolist()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LinkSpeed:
        """The inverse of `to_json`."""
        return cls(**{name: np.array(matrix, np.float64) for name, matrix in values.items()})

    def transfer_s(self, pairs: FloatArray, messages: int) -> float:
        """Seconds for `pairs` bytes [P, P] in so many messages a pair, each rank's directions apart.

        A rank's sends share its link, and so do its receives; the busiest rank's are the last.
        """
        seconds = pairs / self.bytes_per_s
        busiest = max(float(seconds.sum(0).max()), float(seconds.sum(1).max()))
        return busiest + messages * float(self.latency_s.max())

    def figures(self) -> dict[str, float]:
        """The slowest and the fastest pair, for the record."""
        apart = ~np.eye(len(self.latency_s), dtype=bool)
        rates = self.bytes_per_s[apart]
        return {
            "latency_s": float(self.latency_s.max()),
            "slowest_bytes_per_s": float(rates.min()),
            "fastest_bytes_per_s": float(rates.max()),
        }


def measure_link(world: World, most_bytes: float) -> LinkSpeed:
    """The speed of every pair with messages of about `most_bytes`. Collective."""
    rows = int(np.clip(most_bytes / _ROW_BYTES, _LEAST_ROWS, _MOST_ROWS))
    mine = torch.zeros(2, world.size, dtype=torch.float64)
    for step in range(1, world.size):
        target, source = (world.rank + step) % world.size, (world.rank - step) % world.size
        latency = statistics.median(_seconds(world, 1, target, source) for _ in range(_PINGS))
        mine[0, source] = latency
        mine[1, source] = rows * _ROW_BYTES / max(_seconds(world, rows, target, source) - latency, 1e-9)
    ranks = world.all_gather(mine.flatten().to(world.device)).cpu().numpy()
    latency_s, bytes_per_s = np.moveaxis(ranks.reshape(world.size, 2, world.size), 0, 2)
    np.fill_diagonal(bytes_per_s, np.inf)
    return LinkSpeed(latency_s=latency_s, bytes_per_s=bytes_per_s)


def _seconds(world: World, rows: int, target: int, source: int) -> float:
    """From when all are ready until `rows` rows of `source` are here."""
    send, receive = [0] * world.size, [0] * world.size
    send[target] = receive[source] = rows
    sent = torch.zeros(rows, _ROW_BYTES, dtype=torch.uint8, device=world.device)
    received = torch.empty_like(sent)
    world.barrier()
    begin = time.perf_counter()
    world.all_to_all(received, sent, receive, send).wait()
    if world.streams is not None:
        world.streams.mark().synchronize()
    return time.perf_counter() - begin
