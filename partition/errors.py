"""What a user can put right, told apart from everything else that can go wrong.

Only a `UserError` becomes one line and exit status 2; any other exception keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST = 300
"""Characters of a foreign message that `one_line` keeps."""


class UserError(ValueError):
    """A mistake of the user; the message is one line with both numbers and the way out."""


def nearest(word: str, known: Iterable[str]) -> str:
    """'; did you mean ...?' or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


def one_line(error: BaseException) -> str:
    """The message of `error`, shortened, without line breaks."""
    return " ".join(str(error).split())[:LONGEST] or type(error).__name__
