"""What a user can put right, told apart from everything else that can go wrong.

Only a `UserError` becomes one line and exit status 2; any other exception keeps its traceback.
"""

from __future__ import annotations

import difflib
import re
import signal
from collections.abc import Iterable

LONGEST = 300
"""Characters of a foreign message that `one_line` keeps."""
LONGEST_LINE = 1000
"""Characters of a line of ours; what stands in the middle of a longer one is left out."""


class UserError(ValueError):
    """A mistake of the user; the message is one line with both numbers and the way out."""

    def __init__(self, message: str) -> None:
        line = printable(message)
        cut = line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE // 2]} ... {line[-400:]}"
        super().__init__(cut)


class Stopped(Exception):
    """A signal ended what was going on; whatever was unfinished has been removed."""

    def __init__(self, number: int, also: str = "") -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}{also}")
        self.number = number


def printable(text: str) -> str:
    """`text` in one line, without what a terminal obeys: names come from files that anybody may have made."""
    line = re.sub(r"[\t-\r\x85\u2028\u2029]+", " ", text)
    if line.isprintable():
        return line
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in line
    )


def nearest(word: str, known: Iterable[str]) -> str:
    """'; did you mean ...?' or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


def one_line(error: BaseException) -> str:
    """The message of `error`, shortened, in one line."""
    return printable(" ".join(str(error).split())[:LONGEST]) or type(error).__name__
