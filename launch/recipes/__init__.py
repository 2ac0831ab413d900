"""Settings of published runs, and scripts that start runs on several machines, installed with the command.

`python -m launch.recipes NAME` prints where one lies, from any folder; without a name it lists them.
"""

from __future__ import annotations

from pathlib import Path

from partition.errors import UserError, nearest

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
        if name in (file, path.stem):
            return path
    raise UserError(f"there is no recipe '{name}'{nearest(name, known)}; there are {', '.join(known)}")
