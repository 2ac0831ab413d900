"""Whether something fits into the memory of this machine, asked before it is allocated."""

from __future__ import annotations

import os

from partition.errors import UserError


def check_room(what: str, needed: int, way_out: str) -> None:
    """UserError where `needed` bytes are more than the machine has, whatever else is in its memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise UserError(
            f"{what} would take {needed / 1e9:,.1f} GB, but the memory of this machine is "
            f"{memory / 1e9:,.1f} GB; {way_out}"
        )
