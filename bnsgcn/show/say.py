"""Whatever the command says passes here, so that a name from outside never moves a terminal's cursor."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from bnsgcn.show.columns import fitted
from partition.errors import printable


def fit(text: str) -> str:
    """`text`, every line of it printable."""
    return "\n".join(printable(line) for line in text.split("\n"))


def say(text: str, stream: TextIO | None = None) -> None:
    """Print a line on standard output, or elsewhere."""
    print(fit(text), file=stream, flush=True)


def teller(*, quiet: bool, json: bool) -> Callable[[str], None]:
    """What says how far things are: not on the standard output of --json, and nowhere with --quiet."""
    if quiet:
        return lambda _: None
    return (lambda text: say(text, sys.stderr)) if json else tell


def tell(text: str) -> None:
    """Say how far things are; on a terminal lines go on below between words."""
    wide = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    say(text if wide is None else "\n".join(fitted(line, wide) for line in fit(text).split("\n")))


def complain(text: str) -> None:
    """Print a line on standard error, after the command's name."""
    print(f"bnsgcn: error: {fit(text)}", file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Print a line on standard error that ends nothing."""
    print(f"bnsgcn: warning: {fit(text)}", file=sys.stderr, flush=True)


def complain_once(text: str) -> None:
    """The same; of the workers of one machine that torchrun started, one alone prints a line that all have.

    torchrun gives each of them a file for its error, in a folder beside those of the others.
    """
    place = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if place:
        line = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]
        try:
            Path(place).parent.with_name(f"said-{line}").open("x").close()
        except FileExistsError:
            return
        except OSError:
            pass  # twice is better than never
    complain(text)


def show_cursor() -> None:
    """Undo what a live view that was cut off did: it hid the cursor and left it behind its last line."""
    if sys.stdout.isatty():
        print("\x1b[?25h", flush=True)


def bare_streams() -> None:
    """Let what standard output and error cannot encode come out as an escape instead of an exception."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
