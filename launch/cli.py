"""The `bnsgcn` command: what the user asked for, done, or one line that says why not."""

from __future__ import annotations

import importlib.metadata
import sys
import warnings
from collections.abc import Sequence

from launch.commands import do
from launch.ending import guarded
from launch.parse import parse


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of the `bnsgcn` command; the exit status."""
    warnings.simplefilter("ignore")
    given = list(sys.argv[1:] if arguments is None else arguments)
    return guarded(lambda: _run(given))


def _run(given: list[str]) -> int:
    if given == ["--version"]:
        print(f"bnsgcn {importlib.metadata.version('bnsgcn')}")
        return 0
    return do(parse(given))


if __name__ == "__main__":
    sys.exit(main())
