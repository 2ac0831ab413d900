"""From a graph and an assignment to parts on disk, part by part.

Peak memory is the graph plus one part. The folder is written under a temporary name and renamed at the
end: it either is whole or is not there.

Shapes:
    N nodes   P parts   I inner rows   H halo slots   E entries
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from partition.adjacency import Adjacency, Int64Array, IntArray, row_entries, row_numbers, splits_from_counts
from partition.assign import Objective, Progress, Recipe, assign
from partition.disk import check_free, whole_folder
from partition.errors import UserError, printable
from partition.features import describe_features
from partition.graph import TEST, TRAIN, VAL, Graph
from partition.manifest import CSR, FORMAT_VERSION, MANIFEST, Manifest, contradiction
from partition.order import locality_order
from partition.sources import load
from partition.writer import FolderWriter


@dataclasses.dataclass(frozen=True)
class Built:
    """A folder of parts that was just made."""

    folder: Path
    manifest: Manifest
    seconds: dict[str, float]
    """Seconds of each phase: read, assign, order, write."""


@dataclasses.dataclass(frozen=True)
class Numbering:
    """Global ids: the nodes of part 0 in their order, then those of part 1, ..."""

    node_ids: Int64Array
    """[N] original node of each global id."""
    global_ids: Int64Array
    """[N] global id of each original node."""
    offset: Int64Array
    """[P+1] first global id of each part."""

    def nodes(self, part: int) -> Int64Array:
        """Original ids of a part's nodes, in the part's order."""
        return self.node_ids[self.offset[part] : self.offset[part + 1]]


def partition_graph(
    source: str | Graph,
    *,
    parts: int,
    out: Path,
    method: str = "metis",
    objective: Objective = "volume",
    seed: int = 0,
    refine: bool = True,
    order: str = "pieces",
    hosts: int = 1,
    progress: Progress | None = None,
) -> Manifest:
    """Cut `source` into `parts` and write them to the new folder `out`."""
    recipe = Recipe(
        parts=parts,
        method=method,
        objective=objective,
        seed=seed,
        refine=refine,
        order=order,
        hosts=hosts,
    )
    return build_parts(source, recipe, out=out, progress=progress).manifest


def build_parts(
    source: str | Graph,
    recipe: Recipe,
    *,
    out: Path,
    progress: Progress | None = None,
    source_digest: str | None = None,
) -> Built:
    """The same, with the seconds that each phase took.

    Args:
        source_digest: of the graph, where it is known, as it is of one that comes from parts: they may store
            features in another form than the source.
    """
    say = progress or _silent
    check_free(out)
    seconds: dict[str, float] = {}
    with _phase("read", seconds):
        if isinstance(source, str):
            say(f"reading {source}")
            graph = load(source, say)
        else:
            graph = source
    for note in graph.notes:
        say(note)
    say(f"{graph.name}: {graph.num_nodes:,} nodes, {graph.num_arcs:,} arcs, {graph.num_features} features")
    if sparse := describe_features(graph.features, graph.stored):
        say(sparse)
    with _phase("assign", seconds):
        say(f"assigning nodes to {recipe.parts} parts: {recipe.method}, objective {recipe.objective}")
        part_of = assign(graph, recipe, say)
    with _phase("order", seconds):
        say("ordering the nodes inside each part")
        numbering = number_nodes(
            graph, part_of, recipe.parts, order=recipe.order, seed=recipe.seed, progress=say
        )
    with _phase("write", seconds):
        manifest = _manifest(graph, recipe, numbering, source_digest or graph.digest())
        manifest = _write_folder(graph, manifest, numbering, out, say)
    say(f"wrote {out}: " + ", ".join(f"{name} {spent:.1f} s" for name, spent in seconds.items()))
    return Built(out, manifest, seconds)


def _silent(_: str) -> None:
    return


def _spoken(parts: range, what: str, say: Progress) -> Iterator[int]:
    """The parts, saying every two seconds how far it is."""
    last = time.monotonic()
    for part in parts:
        yield part
        if time.monotonic() - last > 2:
            last = time.monotonic()
            say(f"{what} {part + 1} of {len(parts)}")


@contextlib.contextmanager
def _phase(name: str, seconds: dict[str, float]) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - start


def number_nodes(
    graph: Graph,
    part_of: npt.NDArray[np.int32],
    parts: int,
    *,
    order: str = "pieces",
    seed: int = 0,
    progress: Progress | None = None,
) -> Numbering:
    """Global ids by part and by locality inside each part."""
    node_ids = np.argsort(part_of, kind="stable").astype(np.int64)
    offset = splits_from_counts(np.bincount(part_of, minlength=parts))
    local = np.empty(graph.num_nodes, np.int64)
    for part in _spoken(range(parts), "ordered part", progress or _silent):
        nodes = node_ids[offset[part] : offset[part + 1]]
        local[nodes] = np.arange(nodes.size)
        inner = _inner(graph, nodes, part_of, part, local)
        if graph.directed:
            inner = inner.undirected()
        node_ids[offset[part] : offset[part + 1]] = nodes[locality_order(inner, order=order, seed=seed)]
    global_ids = np.empty(graph.num_nodes, np.int64)
    global_ids[node_ids] = np.arange(graph.num_nodes)
    return Numbering(node_ids, global_ids, offset)


def _inner(
    graph: Graph, nodes: Int64Array, part_of: npt.NDArray[np.int32], part: int, local: Int64Array
) -> Adjacency:
    """The arcs inside a part, its nodes numbered by `local`."""
    splits, entries = row_entries(graph.indptr, nodes)
    sources = graph.indices[entries]
    inside = part_of[sources] == part
    return Adjacency(_kept_splits(splits, inside), local[sources[inside]])


def _kept_splits(splits: Int64Array, kept: npt.NDArray[np.bool_]) -> Int64Array:
    """Row splits of the kept entries."""
    return splits_from_counts(kept)[splits]


def _write_folder(
    graph: Graph, manifest: Manifest, numbering: Numbering, out: Path, say: Progress
) -> Manifest:
    """Write the parts; the manifest, which knows their files now."""
    if wrong := contradiction(dataclasses.asdict(manifest)):
        raise UserError(f"{graph.name}: {wrong}")
    with whole_folder(out) as folder:
        writer = FolderWriter(folder)
        degrees = (graph.in_degree(), graph.out_degree())
        halos = [
            _write_part(writer, graph, numbering, part, degrees)
            for part in _spoken(range(manifest.parts), "wrote part", say)
        ]
        for part in range(manifest.parts):
            _write_boundary(writer, numbering, part, halos)
        manifest = dataclasses.replace(manifest, files=writer.digests)
        (folder / MANIFEST).write_text(manifest.to_text())
    return manifest


def _manifest(graph: Graph, recipe: Recipe, numbering: Numbering, source_digest: str) -> Manifest:
    """The facts of the parts, files aside."""
    counts = np.bincount(graph.split, minlength=4)
    return Manifest(
        format_version=FORMAT_VERSION,
        name=printable(graph.name),
        source=printable(graph.source),
        source_digest=source_digest,
        method=printable(recipe.method),
        objective=recipe.objective,
        seed=recipe.seed,
        refine=recipe.refine,
        starts=recipe.starts,
        hosts=recipe.hosts,
        order=recipe.order,
        parts=recipe.parts,
        num_nodes=graph.num_nodes,
        num_arcs=graph.num_arcs,
        num_features=graph.num_features,
        num_classes=graph.num_classes,
        task=graph.task,
        directed=graph.directed,
        num_train=int(counts[TRAIN]),
        num_val=int(counts[VAL]),
        num_test=int(counts[TEST]),
        part_nodes=tuple(int(size) for size in np.diff(numbering.offset)),
        files={},
        weighted=graph.weights is not None,
        feature_storage=graph.feature_storage,
        feature_scaling={} if graph.scaling is None else graph.scaling.to_json(),
    )


def _write_part(
    writer: FolderWriter, graph: Graph, numbering: Numbering, part: int, degrees: tuple[IntArray, IntArray]
) -> Int64Array:
    """Write a part, all but its boundary; its halo slots as global ids."""
    nodes = numbering.nodes(part)
    first, last = int(numbering.offset[part]), int(numbering.offset[part + 1])
    splits, entries = row_entries(graph.indptr, nodes)
    columns = numbering.global_ids[graph.indices[entries]]
    weights = None if graph.weights is None else graph.weights[entries]
    del entries
    inside = (columns >= first) & (columns < last)
    inner_weights = None if weights is None else weights[inside]
    _write_arcs(writer, part, "inner", _kept_splits(splits, inside), columns[inside] - first, inner_weights)
    outside = columns[~inside]
    halo_splits = _kept_splits(splits, ~inside)
    halo_weights = None if weights is None else weights[~inside]
    del columns, inside, weights, inner_weights
    halo_ids = np.unique(outside)
    _write_arcs(writer, part, "halo", halo_splits, np.searchsorted(halo_ids, outside), halo_weights)
    writer.array(part, "halo_ids", halo_ids)
    writer.array(part, "halo_splits", np.searchsorted(halo_ids, numbering.offset))
    for side, degree in zip(("in", "out"), degrees, strict=True):
        writer.array(part, f"{side}_degree", degree[nodes])
    if graph.feature_storage == CSR:
        writer.sparse_rows(part, graph, nodes)
    else:
        writer.dense_rows(part, "features", graph, nodes)
    writer.array(part, "labels", graph.labels[nodes])
    writer.array(part, "split", graph.split[nodes])
    writer.array(part, "halo_split", graph.split[numbering.node_ids[halo_ids]])
    writer.array(part, "node_ids", nodes)
    return halo_ids


def _write_arcs(
    writer: FolderWriter,
    part: int,
    of: str,
    indptr: Int64Array,
    columns: Int64Array,
    weights: npt.NDArray[np.float32] | None,
) -> None:
    """Write one block's arcs, columns ascending within each row, as int32, and what they weigh."""
    width = int(columns.max(initial=0)) + 1
    keys = row_numbers(indptr).astype(np.int64) * width
    keys += columns
    if weights is not None:
        weights = weights[np.argsort(keys)]  # no key is there twice
        writer.array(part, f"{of}_weights", weights)
    keys.sort()
    keys %= width
    writer.array(part, f"{of}_indptr", indptr)
    writer.array(part, f"{of}_indices", keys.astype(np.int32))


def _write_boundary(writer: FolderWriter, numbering: Numbering, part: int, halos: list[Int64Array]) -> None:
    """Boundary rows of a part are the halo slots that the others have of it."""
    first, last = numbering.offset[part], numbering.offset[part + 1]
    lists = [halo[slice(*np.searchsorted(halo, (first, last)))] - first for halo in halos]
    writer.array(part, "boundary_rows", np.concatenate(lists).astype(np.int32))
    writer.array(part, "boundary_splits", splits_from_counts(np.array([rows.size for rows in lists])))
