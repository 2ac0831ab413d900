"""A process that is killed between any two things that it does to its disk, one death a call.

    for made, survived in killed_at_every_step(make, act): ...    # look at the disk in between

`make()` makes what `act(made)` works on in a child process; the last child survives. Deaths are those of
SIGKILL: nothing is flushed and nothing cleaned up.
"""

from __future__ import annotations

import itertools
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from bnsgcn.train.state_file import _HashingFile

DIED = 77
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink"}


Made = TypeVar("Made")


def killed_at_every_step(
    make: Callable[[], Made], act: Callable[[Made], None], *, stride: int = 1, writes: int = 1
) -> Iterator[tuple[Made, bool]]:
    """Death before step 0, 1, 2 ... of `act` until it survives; yields what was made, and whether.

    With a `stride` only every so many steps are tried; of `writes` into a file, one of so many is a step.
    """
    for step in itertools.count(0, stride):
        made = make()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # fork with threads: the child only writes files
            child = os.fork()
        if child == 0:
            status = 1
            try:
                _die_at(step, writes)
                act(made)
                status = 0
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, DIED), f"step {step} ended with status {status}"
        yield made, status == 0
        if status == 0:
            return


def _die_at(step: int, writes: int) -> None:
    left, written = itertools.count(step, -1), itertools.count()

    def change() -> None:
        if next(left) == 0:
            os._exit(DIED)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in CHANGES or (event == "open" and isinstance(args[2], int) and args[2] & WRITING):
            change()

    def sync(fd: int) -> None:
        change()
        real_sync(fd)

    def write(self: _HashingFile, chunk: bytes) -> int:
        half = len(chunk) // 2
        first = real_write(self, chunk[:half])
        self.flush()
        if next(written) % writes == 0:
            change()
        return first + real_write(self, chunk[half:])

    real_sync, real_write = os.fsync, _HashingFile.write
    os.fsync = sync  # type: ignore[assignment]
    _HashingFile.write = write  # type: ignore[method-assign]
    sys.addaudithook(hook)
