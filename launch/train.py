"""The torchrun entry: `torchrun --nproc-per-node K -m launch.train DIR --run-dir RUN [options]`.

The options are those of `bnsgcn train`. A worker that torchrun starts again goes on from the last
checkpoint. Started without torchrun, this is `bnsgcn train`.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import NoReturn

from launch.commands import do
from launch.ending import guarded


def main() -> NoReturn:
    """Entry of `python -m launch.train`."""
    warnings.simplefilter("ignore")
    status = guarded(["train", *sys.argv[1:]], do)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # threads of a broken group may never end


if __name__ == "__main__":
    main()
