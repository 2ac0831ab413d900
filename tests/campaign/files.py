"""Damaged and forged files: every one is one line, or harmless.

Damaged: bits flipped, cut short, emptied, blocks zeroed or repeated; what is read is refused or unchanged.
Forged: rewritten with right checksums; what is read must be refused, or be safe to index with.

Cases run in a child process that says which one it is at, so that a crash is seen and has a number.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from partition.errors import UserError
from partition.graph import Graph
from partition.part import CsrFeatures
from partition.store import ARRAYS, MANIFEST, Part, open_part, part_folder, read_manifest
from tests.campaign.driver import Result, started

BATCH = 25
BATCH_S = 240.0


class Files:
    """See the module."""

    name = "files"
    promise = "a damaged or forged file is refused in one line, or does no harm"

    def run(self, case: int, folder: Path) -> Result:
        """A batch of files."""
        result = Result(tried=0)
        first = case * BATCH
        with started("-m", "tests.campaign.files", str(first), str(folder)) as process:
            ended = process.finish(BATCH_S)
        if ended is None:
            result.expect(False, f"files {first} to {first + BATCH - 1} took more than {BATCH_S:g} s")
            return result
        status, out, err = ended
        lines = out.splitlines()
        result.tried = sum(line.startswith("case ") for line in lines)
        result.faults += [line.removeprefix("fault: ") for line in lines if line.startswith("fault: ")]
        result.expect(status == 0, f"{lines[-1] if lines else 'start'}: ended with {status}: {err[-300:]!r}")
        return result


# ---- what runs in the child ----


def child(first: int, folder: Path) -> None:
    """Make and read files `first` ... in `folder`."""
    scene = Scene(folder)
    kinds: list[Callable[[random.Random, Path], str]] = [
        scene.damaged_archive, scene.forged_archive, scene.damaged_part, scene.forged_part, scene.forged_part,
        scene.forged_manifest, scene.damaged_run, scene.forged_assignment, scene.forged_run,
    ]  # fmt: skip
    for case in range(first, first + BATCH):
        kind = kinds[case % len(kinds)]
        print(f"case {case} {kind.__name__}", flush=True)
        place = folder / f"case-{case}"
        place.mkdir()
        try:
            fault = kind(random.Random(case), place)
        except UserError as error:
            text = str(error)
            fine = "\n" not in text and text.isprintable() and len(text) < 1000
            fault = "" if fine else f"its line is {text[:200]!r}"
        except Exception as error:
            fault = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if fault:
            print(f"fault: file {case} ({kind.__name__}): {fault}", flush=True)
        shutil.rmtree(place, ignore_errors=True)


class Scene:
    """Whole files to damage copies of."""

    def __init__(self, folder: Path) -> None:
        from partition.build import partition_graph
        from partition.sources import load

        rng = np.random.default_rng(0)
        self.arrays: dict[str, Any] = {
            "edge_index": rng.integers(0, 120, (2, 500)).astype(np.int32),
            "label": rng.integers(0, 4, 120),
            "train_idx": np.arange(60),
            "val_idx": np.arange(60, 90),
            "test_idx": np.arange(90, 120),
        }
        dense = (rng.random((120, 20)) < 0.2) * rng.standard_normal((120, 20)).astype(np.float32)
        rows, columns = np.nonzero(dense)
        self.sparse: dict[str, Any] = {
            "feat_data": dense[rows, columns],
            "feat_indices": columns.astype(np.int32),
            "feat_indptr": np.concatenate([[0], np.cumsum((dense != 0).sum(1))]).astype(np.int64),
            "feat_shape": np.array([120, 20]),
        }
        self.dense = {"feat": dense}
        self.archive = folder / "whole.npz"
        np.savez(self.archive, **self.arrays, **self.sparse)
        self.packed = folder / "packed.npz"
        np.savez_compressed(self.packed, **self.arrays, **self.dense)
        self.digests = {path: load(f"npz:{path}").digest() for path in (self.archive, self.packed)}
        self.parts = folder / "parts"
        partition_graph(f"npz:{self.archive}", parts=3, out=self.parts, method="random")
        self.whole = [open_part(self.parts, part) for part in range(3)]
        self.run_dir = _small_run(folder)

    def damaged_archive(self, chance: random.Random, place: Path) -> str:
        """An npz with damaged bytes."""
        from partition.sources import load

        original = chance.choice((self.archive, self.packed))
        path = place / "graph.npz"
        path.write_bytes(damaged(chance, original.read_bytes()))
        same = load(f"npz:{path}").digest() == self.digests[original]
        return "" if same else "another graph was read"

    def forged_archive(self, chance: random.Random, place: Path) -> str:
        """An npz with wrong arrays and right checksums; what is accepted must be a graph that can be cut."""
        from partition.build import partition_graph

        arrays = {**self.arrays, **chance.choice((self.sparse, self.dense))}
        name = chance.choice(sorted(arrays))
        arrays[name] = forged(chance, arrays[name])
        save = chance.choice((np.savez, np.savez_compressed))
        save(place / "graph.npz", **{key: value for key, value in arrays.items() if value is not None})
        partition_graph(f"npz:{place / 'graph.npz'}", parts=2, out=place / "parts", method="random")
        return unsafe([open_part(place / "parts", part) for part in range(2)])

    def damaged_part(self, chance: random.Random, place: Path) -> str:
        """A folder of parts with one damaged file."""
        folder = _copy(self.parts, place / "parts")
        path = chance.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
        before = path.read_bytes()
        path.write_bytes(damaged(chance, before))
        found = [open_part(folder, part) for part in range(3)]
        same = all(equal_parts(one, other) for one, other in zip(found, self.whole, strict=True))
        return "" if same else f"{path.name} was read although it had changed"

    def forged_part(self, chance: random.Random, place: Path) -> str:
        """A folder of parts with a wrong array whose digest is right; accepted, it must be safe."""
        folder = _copy(self.parts, place / "parts")
        part, name = chance.randrange(3), chance.choice(ARRAYS)
        path = folder / part_folder(part) / f"{name}.npy"
        array = forged(chance, np.load(path))
        if array is None:
            path.unlink()
        else:
            np.save(path, array, allow_pickle=array.dtype == object)
            loaded = json.loads((folder / MANIFEST).read_text())
            loaded["files"][f"{part_folder(part)}/{name}.npy"] = hashlib.sha256(path.read_bytes()).hexdigest()
            (folder / MANIFEST).write_text(json.dumps(loaded, indent=1, sort_keys=True) + "\n")
        return unsafe([open_part(folder, part) for part in range(3)])

    def forged_manifest(self, chance: random.Random, place: Path) -> str:
        """A manifest with a wrong value."""
        folder = _copy(self.parts, place / "parts")
        loaded = json.loads((folder / MANIFEST).read_text())
        key = chance.choice(sorted(loaded))
        loaded[key] = odd_value(chance, loaded[key])
        (folder / MANIFEST).write_text(json.dumps(loaded))
        count = read_manifest(folder).parts
        return unsafe([open_part(folder, part) for part in range(count)])

    def forged_assignment(self, chance: random.Random, place: Path) -> str:
        """An assignment file that does not fit."""
        from partition.build import partition_graph

        array = forged(chance, np.arange(120) % 2)
        if array is not None:
            np.save(place / "parts.npy", array, allow_pickle=array.dtype == object)
        method = f"file:{place / 'parts.npy'}"
        partition_graph(f"npz:{self.archive}", parts=2, out=place / "parts", method=method)
        return unsafe([open_part(place / "parts", part) for part in range(2)])

    def damaged_run(self, chance: random.Random, place: Path) -> str:
        """A run folder with one damaged file: another checkpoint is taken, or it is refused."""
        run_dir = _copy(self.run_dir, place / "run")
        files = [path for path in run_dir.rglob("*") if path.is_file() and path.suffix in (".pt", ".json")]
        path = chance.choice(sorted(files))
        path.write_bytes(damaged(chance, path.read_bytes()))
        return _read_run(run_dir)

    def forged_run(self, chance: random.Random, place: Path) -> str:
        """A run folder with a wrong value in one of its JSON files."""
        run_dir = _copy(self.run_dir, place / "run")
        path = chance.choice(sorted(run_dir.rglob("c*.json")))
        loaded = json.loads(path.read_text())
        if chance.random() < 0.3:
            path.write_text(chance.choice(("[]", "null", "3", "[" * 20_000, "{}", '"x"', "")))
        else:
            key = chance.choice(sorted(loaded))
            loaded[key] = odd_value(chance, loaded[key])
            path.write_text(json.dumps(loaded))
        return _read_run(run_dir)


def _copy(original: Path, target: Path) -> Path:
    shutil.copytree(original, target)
    return target


def _small_run(folder: Path) -> Path:
    """A finished run of one worker, trained here."""
    from bnsgcn.config import TrainConfig
    from bnsgcn.run import train_worker
    from partition.build import partition_graph

    partition_graph("synthetic:nodes=60,degree=4,features=4,classes=3", parts=1, out=folder / "one")
    config = TrainConfig(layers=2, hidden=4, epochs=6, eval_every=2, threads=1, device="cpu")
    train_worker(folder / "one", folder / "run", config)
    return folder / "run"


def _read_run(run_dir: Path) -> str:
    from bnsgcn.dist import World
    from bnsgcn.record.run_folder import RunFolder
    from bnsgcn.train.checkpoint import Checkpoints

    RunFolder(run_dir).open()
    said: list[str] = []
    checkpoints = Checkpoints(run_dir, World.single(), say=said.append)
    for which in ("latest", "best"):
        shared, _ = checkpoints.load(which)
        if not all(bool(value.isfinite().all()) for value in shared["model"].values()):
            return f"{which}: weights that are not finite were loaded"
    return ""


def damaged(chance: random.Random, content: bytes) -> bytes:
    """The bytes of a file after something happened to it."""
    kind = chance.choice(("flip", "flip", "flips", "cut", "empty", "zeros", "repeat", "longer", "text"))
    if kind == "empty" or not content:
        return b""
    place = chance.randrange(len(content))
    if kind == "cut":
        return content[:place]
    if kind == "longer":
        return content + chance.randbytes(1 + place % 64)
    if kind == "text":
        return chance.choice((b"<html>", b"\x00" * len(content), b"version https://git-lfs"))
    if kind in ("zeros", "repeat"):
        block = bytes(512) if kind == "zeros" else content[:512]
        return content[:place] + block + content[place + 512 :]
    changed = bytearray(content)
    for _ in range(1 if kind == "flip" else 40):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def forged(chance: random.Random, array: Any) -> Any:
    """Another array in its place; None = it is left out."""
    array = np.array(array)
    kind = chance.choice(
        ("negative", "large", "swap", "reverse", "repeat", "shorter", "longer", "type", "shape", "odd",
         "gone", "huge", "shuffle", "constant")
    )  # fmt: skip
    flat = array.reshape(-1)
    place = chance.randrange(flat.size) if flat.size else 0
    if kind == "gone":
        return None
    if kind in ("negative", "large", "huge", "odd") and flat.size:
        values = {"negative": -1, "large": 1000, "huge": np.iinfo(np.int64).max, "odd": np.nan}
        wanted = values[kind]
        if array.dtype.kind in "iu":
            limits = np.iinfo(array.dtype)
            wanted = limits.max if wanted != wanted else min(max(wanted, limits.min), limits.max)
        flat[place] = wanted
        return array
    if kind == "swap" and flat.size > 1:
        other = chance.randrange(flat.size)
        flat[place], flat[other] = flat[other], flat[place]
        return array
    if kind == "repeat" and flat.size > 1:
        flat[place] = flat[place - 1]
        return array
    if kind == "shuffle":
        np.random.default_rng(place).shuffle(flat)
        return array
    if kind == "constant":
        array[...] = 1
        return array
    if kind == "shorter":
        return array[:-1] if array.ndim and len(array) else array
    if kind == "longer":
        return np.concatenate([array, array[-1:]]) if array.ndim and len(array) else np.append(array, 0)
    if kind == "type":
        kinds = (
            np.float64,
            np.complex128,
            np.bool_,
            np.int8,
            "U3",
            object,
            np.float16,
            ">i4",
            "datetime64[s]",
        )
        return array.astype(chance.choice(kinds))
    if kind == "shape":
        return chance.choice((array.reshape(-1, 1), array[None], np.array(3), np.empty(0, array.dtype)))
    return array[::-1]


def odd_value(chance: random.Random, value: Any) -> Any:
    """A JSON value where another one is expected."""
    choices: list[Any] = [
        None, -1, 0, 1 << 70, "x", "\x1b[31m", [], {}, [[[]]], 1.5, float("nan"), float("inf"), True,
        "../../etc", "/",
    ]  # fmt: skip
    if isinstance(value, int) and not isinstance(value, bool):
        choices += [value + 1, value - 1, value * 1000, str(value), float(value)]
    if isinstance(value, dict):
        choices += [dict(list(value.items())[1:]), value | {"x": 1}, dict.fromkeys(value, 0)]
    if isinstance(value, list):
        choices += [value[1:], [*value, 1], value[::-1], [-1] * len(value), [str(entry) for entry in value]]
    return chance.choice(choices)


def equal_parts(one: Part, other: Part) -> bool:
    """Whether all arrays are the same bytes."""
    return one.manifest == other.manifest and all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name == "features")
        for name in ARRAYS
    )


def unsafe(parts: list[Part]) -> str:
    """Why C code must not index with these parts, or training on them would be wrong; empty if it may."""
    for part in parts:
        inner, halo = part.num_inner, part.num_halo
        for name, columns in (("inner", inner), ("halo", halo)):
            indptr, indices = getattr(part, f"{name}_indptr"), getattr(part, f"{name}_indices")
            if indptr.size != inner + 1 or (np.diff(indptr) < 0).any() or indptr[0] != 0:
                return f"{name}_indptr of part {part.index} is not monotone"
            if indptr[-1] != indices.size:
                return f"{name}_indptr of part {part.index} does not end at its entries"
            if indices.size and not (indices.min() >= 0 and indices.max() < columns):
                return f"{name}_indices of part {part.index} are out of range"
            steps = np.diff(indices.astype(np.int64))
            within = np.ones(steps.size, bool)
            borders = indptr[1:-1]
            within[borders[(borders > 0) & (borders < indices.size)] - 1] = False
            if (steps[within] <= 0).any():
                return f"{name}_indices of part {part.index} do not ascend"
        fault = _unsafe_lists(part, inner, halo)
        if fault:
            return f"{fault} of part {part.index}"
    return ""


def _unsafe_lists(part: Part, inner: int, halo: int) -> str:
    degrees = np.diff(part.inner_indptr) + np.diff(part.halo_indptr)
    rows, classes = part.boundary_rows, part.manifest.num_classes
    faults = {
        "boundary_rows": rows.size and not (rows.min() >= 0 and rows.max() < inner),
        "boundary_splits": not _splits(part.boundary_splits, part.manifest.parts, rows.size),
        "halo_splits": not _splits(part.halo_splits, part.manifest.parts, halo),
        "halo_ids": (np.diff(part.halo_ids) <= 0).any(),
        "in_degree": not np.array_equal(part.in_degree, degrees),
        "split": not np.isin(part.split, (0, 1, 2, 3)).all() or part.split.shape != (inner,),
        "node_ids": np.unique(part.node_ids).size != inner,
        "features": _unsafe_features(part.features, inner),
        "labels": part.labels.shape[0] != inner
        or (part.labels.ndim == 1 and not ((part.labels >= -1) & (part.labels < classes)).all()),
        "order of boundary_rows": any(
            (np.diff(piece.astype(np.int64)) <= 0).any()
            for piece in np.split(rows, part.boundary_splits[1:-1])
        ),
    }
    return next((name for name, wrong in faults.items() if wrong), "")


def _unsafe_features(features: npt.NDArray[np.float32] | CsrFeatures, inner: int) -> bool:
    if not isinstance(features, CsrFeatures):
        return features.shape[0] != inner or features.dtype != np.float32
    columns, width = features.columns, features.num_columns
    return not (
        features.values.dtype == np.float32
        and features.values.size == columns.size
        and features.splits.size == inner + 1
        and (features.splits[0], features.splits[-1]) == (0, columns.size)
        and (np.diff(features.splits) >= 0).all()
        and (not columns.size or (columns.min() >= 0 and columns.max() < width))
    )


def _splits(splits: Any, parts: int, total: int) -> bool:
    return bool(
        splits.shape == (parts + 1,)
        and splits[0] == 0
        and splits[-1] == total
        and (np.diff(splits) >= 0).all()
    )


def safe_graph(graph: Graph) -> bool:
    """Whether the adjacency of a graph may be indexed with."""
    return bool(dataclasses.is_dataclass(graph) and (np.diff(graph.indptr) >= 0).all())


if __name__ == "__main__":
    import warnings

    warnings.simplefilter("ignore")
    child(int(sys.argv[1]), Path(sys.argv[2]))
