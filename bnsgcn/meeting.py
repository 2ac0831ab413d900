"""How the workers of one launch find one another.

The workers of one machine meet at a file that only their user can read: nothing listens for that. Workers
that torchrun has started meet at the store that it names.
"""

from __future__ import annotations

import datetime
import itertools
import os

from torch.distributed import FileStore, PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

_GROUPS = itertools.count()
"""Numbers of the groups that this process has joined through torchrun's store, alike on all ranks."""
MEETING = "BNSGCN_MEETING"
"""Names the file, in the environment of workers of one machine."""


def meet(size: int, timeout: datetime.timedelta) -> tuple[Store, int]:
    """The store through which this worker finds the others, and its rank."""
    path = os.environ.get(MEETING)
    if path:
        store: Store = FileStore(path, size)
        rank = int(os.environ["RANK"])
    else:
        common, rank, _ = next(rendezvous("env://", timeout=timeout))
        store = PrefixStore(f"{_attempt()} group {next(_GROUPS)}", common)
    store.set_timeout(timeout)
    return store, rank


def _attempt() -> str:
    """Keeps a restarted group from reading the addresses of its dead predecessor in torchrun's store.

    Several machines count their restarts apart; launch/recipes/two_machines.sh has what they need.
    """
    alone = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    return f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0') if alone else 'any'}"
