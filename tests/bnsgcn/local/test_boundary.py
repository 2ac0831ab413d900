"""Parts that are sound alone but do not fit each other are found before the first exchange, on every rank."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bnsgcn.dist import World
from bnsgcn.local.boundary import check_parts_match
from partition.errors import UserError
from partition.manifest import read_manifest
from partition.store import Part, open_part
from tests.bnsgcn.small_graphs import PartsFolder
from tests.multiprocess import run_ranks
from tests.partition.forged_parts import restate, rewrite


def matched(world: World, folder: Path) -> str:
    try:
        check_parts_match(world, open_part(folder, world.rank))
    except UserError as error:
        return str(error)
    return ""


def other_rows(folder: Path, part: Part) -> None:
    """Rank 1 lists another row for rank 0 than that one has as halo slot."""
    rows, listed = np.array(part.boundary_rows), slice(*part.boundary_splits[0:2])
    missing = np.setdiff1d(np.arange(part.num_inner), rows[listed])[0]
    rows[listed] = np.sort([missing, *rows[listed][1:]])
    rewrite(folder, 1, "boundary_rows", rows)


def other_split(folder: Path, part: Part) -> None:
    split = np.array(part.halo_split)
    split[0] = (split[0] + 1) % 4
    rewrite(folder, 1, "halo_split", split)


def other_count(folder: Path, part: Part) -> None:
    restate(folder, num_train=part.manifest.num_train + 1)


def other_nodes(folder: Path, part: Part) -> None:
    ids = np.array(part.node_ids)
    ids[0] = open_part(folder, 0).node_ids[0]
    rewrite(folder, 1, "node_ids", ids)


@pytest.mark.multi
@pytest.mark.parametrize(
    ("forge", "said"),
    [
        (None, ""),
        (
            other_rows,
            "the boundary rows of part 1 for part 0 are not the halo slots that part 0 has of part 1",
        ),
        (other_split, "are not the halo slots that part 1 has of part 0"),
        (other_count, "num_train is"),
        (other_nodes, "node ids is"),
    ],
)
def test_parts_are_compared(
    forge: Callable[[Path, Part], None] | None, said: str, parts_folder: PartsFolder, tmp_path: Path
) -> None:
    folder = tmp_path / "parts"
    shutil.copytree(parts_folder("single", 3), folder)
    assert read_manifest(folder).parts == 3
    if forge is not None:
        forge(folder, open_part(folder, 1))
    lines = run_ranks(matched, 3, tmp_path, folder)
    assert lines == [lines[0]] * 3
    assert bool(lines[0]) == bool(said)
    assert said in lines[0]
