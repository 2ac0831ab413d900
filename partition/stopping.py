"""Signals that would end the process, as exceptions: what was begun can be removed first."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from partition.errors import Stopped

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """What a signal does: raise, once."""

    def __init__(self) -> None:
        self.later = False
        """Whoever is cleaning up is not stopped again; the process ends anyway."""

    def __call__(self, number: int, _: FrameType | None) -> None:
        """Handle a signal."""
        if not self.later:
            self.later = True
            raise KeyboardInterrupt if number == signal.SIGINT else Stopped(number)


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """Signals that would end this process as an exception; those that the caller handles are left alone.

    Raises:
        Stopped: SIGTERM or SIGHUP came.
        KeyboardInterrupt: SIGINT came.
    """
    before = {number: signal.getsignal(number) for number in STOPPING}
    stop = next((handler for handler in before.values() if isinstance(handler, Stop)), Stop())
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    try:
        for number, handler in before.items():
            if handler in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, stop)
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """For long calls of compiled code, with nothing to remove: what `stoppable` handles ends the process.

    Python would see the signal after the call, minutes later.
    """
    handled = [number for number in STOPPING if isinstance(signal.getsignal(number), Stop)]
    if threading.current_thread() is not threading.main_thread():
        handled = []
    before = {number: signal.signal(number, signal.SIG_DFL) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
