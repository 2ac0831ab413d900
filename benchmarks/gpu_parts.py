"""Parts for `python -m benchmarks.gpu` on a machine without SciPy and METIS: made here, carried there.

    python -m benchmarks.gpu_parts FOLDER          then there: python -m benchmarks.gpu --parts FOLDER

Small graphs in 1, 2 and 4 parts, for the laws; some hundred kilobytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

COUNTS = (1, 2, 4)
KINDS = ("single", "weighted")


def parts_of(root: Path, kind: str, count: int) -> Path:
    """A small graph in `count` parts below `root`, made where it is not there yet."""
    folder = root / f"{kind}-{count}-random"
    if folder.exists():
        return folder
    from tests.bnsgcn.small_graphs import folder_maker

    return folder_maker(root)(kind, count)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    out = parser.parse_args().folder
    out.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        for count in COUNTS:
            print(parts_of(out, kind, count))
