"""How the command ends: an exit status, and one line on standard error where something went wrong.

0 done, 2 a mistake of the user, 1 any other failure, 128 + signal when stopped. What neither the user nor the
machine is to blame for keeps its traceback: in the run folder where there is one, else below the line.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from bnsgcn.show.say import complain, complain_once, show_cursor
from bnsgcn.workers.outcome import FAILURE, MISTAKE, WorkerFailure, out_of_memory
from launch.options import Command, Partition, Sweep, Train
from launch.parse import parse
from partition.errors import Stopped, UserError, one_line

USER_OS_ERRORS = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
USER_ERRNOS = {errno.ENAMETOOLONG, errno.ELOOP, errno.EROFS}


def guarded(given: Sequence[str], do: Callable[[Command], int]) -> int:
    """Do what the command line asks for; the exit status, with the reason said where it is not 0."""
    command: Command | None = None
    try:
        command = parse(given)
        return do(command)
    except (Exception, KeyboardInterrupt) as error:
        return ending(error, command)


def ending(error: BaseException, command: Command | None = None) -> int:
    """Say in one line what an exception means for who called the command; the exit status."""
    match error:
        case UserError():
            complain_once(" ".join(str(error).split()))
            return MISTAKE
        case WorkerFailure():
            show_cursor()
            return _said(str(error), FAILURE)
        case Stopped():
            show_cursor()
            return _said(str(error), 128 + error.number)
        case KeyboardInterrupt():
            return _said("stopped by SIGINT", 128 + signal.SIGINT)
        case BrokenPipeError():
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILURE
        case OSError():
            mistake = isinstance(error, USER_OS_ERRORS) or error.errno in USER_ERRNOS
            return _said(_os_words(error), MISTAKE if mistake else FAILURE)
    # Training itself is done by the workers: what lacks memory here is the cutting of a SOURCE.
    here = Partition if isinstance(command, Train | Sweep) else type(command)
    if memory := out_of_memory(error, here.__name__.lower()):
        return _said(memory, FAILURE)
    trace = "".join(traceback.format_exception(error))
    line = f"{type(error).__name__}: {one_line(error)}"
    kept = _keep(trace, command.run_dir) if isinstance(command, Train) else None
    return _said(f"{line}; its traceback is in {kept}" if kept else f"{line}\n{trace}".rstrip(), FAILURE)


def _keep(trace: str, run_dir: Path) -> Path | None:
    """Put a traceback into the folder of a run; where it is, None if there is no run."""
    path = run_dir / "errors" / "launcher.txt"
    try:
        if (run_dir / "config.json").exists():
            path.parent.mkdir(exist_ok=True)
            path.write_text(trace)
            return path
    except OSError:
        pass
    return None


def _os_words(error: OSError) -> str:
    words = error.strerror or str(error)
    return f"{error.filename}: {words}" if error.filename else words


def _said(message: str, status: int) -> int:
    complain(message)
    return status
