"""How a worker ended, told to the launcher through a file a rank: done, mistake or failure.

A rank that has lost another one fails too; that is a consequence, and the cause is looked for elsewhere.
"""

from __future__ import annotations

import dataclasses
import json
import time
import traceback
from pathlib import Path
from typing import Any, Literal

from partition.errors import UserError

Kind = Literal["done", "mistake", "failure", "lost"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """The end of one worker."""

    rank: int
    kind: Kind
    message: str = ""
    """One line."""
    trace: str = ""
    """The whole traceback."""
    result: Any = None
    """What a worker that is done has to say, ready for JSON."""
    at_s: float = 0.0
    """Wall clock of the end, seconds since 1970."""

    def write(self, folder: Path) -> None:
        """Put it where the launcher reads it, whole or not at all."""
        partial = folder / f"rank_{self.rank}.partial"
        partial.write_text(json.dumps(dataclasses.asdict(self)))
        partial.replace(folder / f"rank_{self.rank}.json")


def outcome_of(error: Exception, rank: int) -> Outcome:
    """What an exception means: a UserError is the user's, a lost peer is not this rank's."""
    from bnsgcn.dist import PeerLost

    line = " ".join(str(error).split()) or type(error).__name__
    kind: Kind = "failure"
    if isinstance(error, UserError):
        kind = "mistake"
    elif isinstance(error, PeerLost):
        kind = "lost"
    named = (
        line if isinstance(error, UserError | OSError) or _ours(error) else f"{type(error).__name__}: {line}"
    )
    trace = "".join(traceback.format_exception(error))
    return Outcome(rank=rank, kind=kind, message=named, trace=trace, at_s=time.time())


def _ours(error: Exception) -> bool:
    """Whether the message was written for the reader, as those of our own exception classes are."""
    return type(error).__module__.partition(".")[0] in ("bnsgcn", "partition", "launch")


def read_outcomes(folder: Path) -> list[Outcome]:
    """All that workers have left in `folder`, causes before consequences, then by time."""
    found = [Outcome(**json.loads(path.read_text())) for path in folder.glob("rank_*.json")]
    order: dict[Kind, int] = {"mistake": 0, "failure": 0, "lost": 1, "done": 2}
    return sorted(found, key=lambda outcome: (order[outcome.kind], outcome.at_s))
