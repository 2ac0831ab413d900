"""How a worker ended, told to the launcher through a file a rank: done, mistake or failure.

A rank that has lost another one fails too; that is a consequence, and the cause is looked for elsewhere.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import time
import traceback
from pathlib import Path
from typing import Any, Literal

from bnsgcn.record.run_folder import RunFolder
from partition.errors import UserError, one_line, printable

Kind = Literal["done", "mistake", "failure", "lost"]

MISTAKE, FAILURE = 2, 1
"""Exit statuses."""
_TORCH_ON_CPU = "DefaultCPUAllocator: "
"""Torch's lack of memory is a type on CUDA and a word on CPU."""


LESS_MEMORY = {
    "partition": "take --method streaming, or scratch=FOLDER in an ogb: SOURCE",
    "repartition": "do it on a machine with more memory",
    "inspect": "look at it on a machine with more memory",
    "plan": "partition into more parts, or use fewer --hidden",
    "train": "partition into more parts for more machines, or use fewer --hidden",
    "evaluate": "run it on more machines or one with more memory",
    "predict": "run it on more machines or one with more memory",
}
"""The way out of a lack of memory, by what was to be done."""


class WorkerFailure(RuntimeError):
    """A worker failed for a reason that is not the user's; names the rank."""


class RankTraceback(Exception):
    """The traceback of a rank, as the cause of the failure that it came to."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """The end of one worker."""

    rank: int
    kind: Kind
    message: str = ""
    """One line."""
    trace: str = ""
    """The whole traceback."""
    kept: str = ""
    """The file of the run folder that has the traceback too."""
    result: Any = None
    """What a worker that is done has to say, ready for JSON."""
    at_s: float = 0.0
    """Wall clock of the end, seconds since 1970."""

    @property
    def status(self) -> int:
        """The exit status of the worker."""
        return {"done": 0, "mistake": MISTAKE, "failure": FAILURE, "lost": FAILURE}[self.kind]

    def traceback(self) -> str:
        """What to add to the message: where the traceback is, or the traceback itself."""
        return f"; its traceback is in {self.kept}" if self.kept else f"\n{self.trace}".rstrip()

    def write(self, folder: Path) -> None:
        """Put it where the launcher reads it, whole or not at all."""
        partial = folder / f"rank_{self.rank}.partial"
        partial.write_text(json.dumps(dataclasses.asdict(self)))
        partial.replace(folder / f"rank_{self.rank}.json")


def out_of_memory(error: BaseException, task: str) -> str:
    """The line for a lack of memory, with the way out; empty when that is not what `error` means."""
    words = one_line(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or _TORCH_ON_CPU in words:
        return f"not enough memory: {words}; {LESS_MEMORY.get(task, 'free some and try again')}"
    return ""


def outcome_of(
    error: Exception, rank: int, run_dir: str | Path | None = None, task: str = "train"
) -> Outcome:
    """What an exception means: a UserError is the user's, a lost peer is not this rank's.

    Of all but mistakes the traceback is kept in the run folder, where there is one.
    """
    from bnsgcn.pending import PeerLost

    ours = type(error).__module__.partition(".")[0] in ("bnsgcn", "partition", "launch")
    line = printable(" ".join(str(error).split())) if ours else one_line(error)
    kind: Kind = "failure"
    if isinstance(error, UserError):
        kind = "mistake"
    elif isinstance(error, PeerLost):
        kind = "lost"
    named = line if ours or isinstance(error, OSError) else f"{type(error).__name__}: {line}"
    named = out_of_memory(error, task) or named
    trace = "".join(traceback.format_exception(error))
    kept = None
    if run_dir is not None and kind != "mistake":
        with contextlib.suppress(OSError):
            kept = RunFolder(run_dir).log_error(rank, trace)
        if kept is None and isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            trace = ""  # no room for it either, and the line says what is to be known
    return Outcome(rank=rank, kind=kind, message=named, trace=trace, kept=str(kept or ""), at_s=time.time())


def read_outcomes(folder: Path) -> list[Outcome]:
    """All that workers have left in `folder`, causes before consequences, then by time."""
    found = [Outcome(**json.loads(path.read_text())) for path in folder.glob("rank_*.json")]
    order: dict[Kind, int] = {"mistake": 0, "failure": 0, "lost": 1, "done": 2}
    return sorted(found, key=lambda outcome: (order[outcome.kind], outcome.at_s))
