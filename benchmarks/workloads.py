"""Where the benchmark graphs come from: generated once from the workload file, kept in a cache folder.

    python -m benchmarks.workloads [NAME ...]        makes them ahead of time and prints where they lie

The generator and the real graphs live in a folder beside the repository (`../shared`); `--shared` or the
environment variable BNSGCN_SHARED name another one. A name `products-like@2` means the same recipe with
twice the nodes, arcs and communities, at the same degree.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
import types
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent


class Skip(Exception):
    """A measurement that cannot run here; the message says why."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """The model that a workload is made for."""

    layers: int
    hidden: int
    dropout: float
    lr: float


RECIPES = {
    "reddit-like": Recipe(layers=4, hidden=256, dropout=0.5, lr=0.01),
    "products-like": Recipe(layers=3, hidden=128, dropout=0.3, lr=0.003),
    "small": Recipe(layers=3, hidden=64, dropout=0.5, lr=0.01),
}


def recipe(name: str) -> Recipe:
    """The recipe of workload `name`, whatever its size."""
    return RECIPES[name.partition("@")[0]]


def shared_folder(given: Path | None = None) -> Path:
    """The folder with the generator and the real graphs; Skip where there is none."""
    folder = given or Path(os.environ.get("BNSGCN_SHARED", ROOT.parent / "shared"))
    if not (folder / "workloads.py").is_file():
        raise Skip(f"no workloads.py in {folder}; name its folder with --shared or BNSGCN_SHARED")
    return folder


def cache_folder() -> Path:
    """Where generated graphs and their parts are kept between runs."""
    base = os.environ.get("BNSGCN_BENCH_CACHE")
    if base is None:
        base = str(Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "bnsgcn-benchmarks")
    folder = Path(base)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _generator(folder: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_workloads", folder / "workloads.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _generate(name: str, folder: Path) -> dict[str, np.ndarray]:
    module = _generator(folder)
    base, _, factor = name.partition("@")
    if base not in module.SPECS:
        raise ValueError(f"no workload {base!r}; there are {', '.join(module.SPECS)}")
    if factor:
        grown = dict(module.SPECS[base])
        for key in ("nodes", "arcs", "communities"):
            grown[key] = int(grown[key] * float(factor))
        module.SPECS[name] = grown
    return module.workload(name)


def workload_path(name: str, shared: Path | None = None) -> Path:
    """The npz file of workload `name`, generated when it is not in the cache yet."""
    path = cache_folder() / f"{name}.npz"
    if not path.exists():
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        with partial.open("wb") as stream:
            np.savez(stream, **_generate(name, shared_folder(shared)))
        partial.rename(path)
    return path


def real_graphs(shared: Path | None = None) -> dict[str, Path]:
    """Name -> npz file of every real graph in the shared folder; Skip where there is none."""
    graphs = {path.stem: path for path in sorted((shared_folder(shared) / "data").glob("*.npz"))}
    if not graphs:
        raise Skip(f"no graphs in {shared_folder(shared) / 'data'}")
    return graphs


def parts_folder(source: str, parts: int, *, method: str = "metis", objective: str = "volume") -> Path:
    """The source cut into parts, once; later calls get the same folder."""
    from partition.cache import cached_parts

    return cached_parts(source, parts, method, objective, 0, cache_folder() / "parts")


def workload_parts(name: str, parts: int, shared: Path | None = None) -> Path:
    """The parts of a workload."""
    return parts_folder(f"npz:{workload_path(name, shared)}", parts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=list(RECIPES), metavar="NAME", help=", ".join(RECIPES))
    parser.add_argument("--shared", type=Path, default=None)
    arguments = parser.parse_args()
    for wanted in arguments.names:
        print(workload_path(wanted, arguments.shared))
