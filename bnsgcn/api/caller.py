"""The process that calls the API: how it is interrupted, where it prints, and that it is no worker itself."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

from bnsgcn.meeting import MEETING
from bnsgcn.own import ScriptReached, reading_script
from bnsgcn.show.say import fit
from partition.errors import Stopped, UserError


def say(text: str) -> None:
    """Print a line."""
    print(fit(text), flush=True)


def say_nothing(_: str) -> None:
    """In place of `say`."""


def redirected() -> bool:
    """Whether what a child process prints would miss this process's standard output, as in a notebook."""
    return sys.stdout is not sys.__stdout__


def inside_torchrun() -> bool:
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def leave_if_worker() -> None:
    """Where the caller's script is read for a function in it, as workers do: read no further."""
    if MEETING in os.environ or reading_script():
        raise ScriptReached


def alone(what: str, command: str) -> None:
    """UserError inside torchrun, whose workers cannot start workers."""
    if inside_torchrun():
        raise UserError(f"{what} starts workers, which a worker of torchrun cannot; use {command} afterwards")


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C is a KeyboardInterrupt, as everywhere in Python."""
    try:
        yield
    except Stopped as stopped:
        if stopped.number != signal.SIGINT:
            raise
        raise KeyboardInterrupt(str(stopped)) from None
