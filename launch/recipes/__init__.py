"""Settings of published runs, and scripts that start runs on several machines, installed with the command.

`bnsgcn train --recipe NAME` takes the settings; its table [graph] says which graph they are for.
`python -m launch.recipes NAME` prints where a recipe lies, from any folder; without a name it lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from partition.errors import UserError, nearest
from partition.manifest import Manifest

FOLDERS = (Path(__file__).parent, Path(__file__).parent.parent / "slurm")
KINDS = (".toml", ".sh", ".sbatch")


def recipes() -> dict[str, Path]:
    """Where each recipe lies, by its file's name."""
    found = (path for folder in FOLDERS for path in sorted(folder.iterdir()))
    return {path.name: path for path in found if path.suffix in KINDS}


def recipe(name: str) -> Path:
    """Where the recipe lies; its file's name with or without the ending.

    Raises:
        UserError: There is none of that name.
    """
    known = recipes()
    for file, path in known.items():
        if name in (file, path.stem, path.stem.removeprefix("ogbn-")):
            return path
    raise UserError(f"there is no recipe '{name}'{nearest(name, known)}; there are {', '.join(known)}")


def settings(name: str) -> Path:
    """The settings of that name, for --recipe.

    Raises:
        UserError: There are none.
    """
    found = [path for path in recipes().values() if path.suffix == ".toml"]
    for path in found:
        if name in (path.stem, path.stem.removeprefix("ogbn-")):
            return path
    names = [path.stem for path in found]
    raise UserError(f"--recipe {name}: there is none{nearest(name, names)}; there are {', '.join(names)}")


def check_graph_of(name: str, graph: Mapping[str, Any], manifest: Manifest) -> None:
    """UserError where a recipe is for a graph of another shape; `graph` is its table of that name."""
    have = {"features": manifest.num_features, "classes": manifest.num_classes, "task": manifest.task}
    for fact, expected in graph.items():
        if have[fact] != expected:
            what = f"{expected} {fact}" if fact != "task" else f"{expected}-label nodes"
            got = have[fact] if fact != "task" else f"{have[fact]}-label ones"
            raise UserError(
                f"--recipe {name} is for a graph with {what}, {manifest.name} has {got}; "
                f"take another recipe, or its values by --config {settings(name)}"
            )
