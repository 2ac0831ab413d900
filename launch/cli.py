"""The `bnsgcn` command: what the user asked for, done, or one line that says why not."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

from bnsgcn.show.say import bare_streams, say
from launch.commands import do
from launch.ending import guarded


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the `bnsgcn` command; the exit status. Python's own -W shows the warnings of libraries."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    bare_streams()
    if given == ["--version"]:
        import importlib.metadata

        say(f"bnsgcn {importlib.metadata.version('bnsgcn')}")
        return 0
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
        return guarded(given, do)


if __name__ == "__main__":
    sys.exit(main())
