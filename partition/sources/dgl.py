"""`dgl:NAME`: a node data set of DGL, or a folder that `dgl.distributed.partition_graph` wrote.

    dgl:reddit   dgl:yelp   dgl:flickr   dgl:cora ...      short names, see DATA_SETS
    dgl:CoauthorCSDataset                                  any class of dgl.data with one graph
    dgl:FOLDER/NAME.json                                   its graph; with `--method source`, its parts too

`root=FOLDER` is where DGL keeps its files (default: ~/.dgl). `standardise=true` scales features to mean 0 and
variance 1 over the training nodes; it is the default for yelp, as the papers do, and off elsewhere.
In a partition folder, nodes have DGL's numbers: those of the graph before are not stored there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from partition.arrays import as_numpy
from partition.errors import UserError, nearest, one_line, printable
from partition.graph import Graph
from partition.interchange import WEIGHT_KEYS, looked_up
from partition.labels import listed_nodes
from partition.optional import optional
from partition.room import check_room
from partition.sources import SourceSpec

LONGEST_NAME = 100
DATA_SETS = {
    "reddit": "RedditDataset",
    "yelp": "YelpDataset",
    "flickr": "FlickrDataset",
    "cora": "CoraGraphDataset",
    "citeseer": "CiteseerGraphDataset",
    "pubmed": "PubmedGraphDataset",
    "coauthor-cs": "CoauthorCSDataset",
    "coauthor-physics": "CoauthorPhysicsDataset",
    "amazon-computers": "AmazonCoBuyComputerDataset",
    "amazon-photo": "AmazonCoBuyPhotoDataset",
    "wiki-cs": "WikiCSDataset",
}


def load(spec: SourceSpec) -> Graph:
    """Graph of a DGL data set or partition folder."""
    spec.only("root", "directed", "features", "split_seed", "standardise", "edge_weights")
    if spec.target.endswith(".json"):
        return _partition(spec, spec.file())
    name, kind = _class(spec)
    taken = inspect.signature(kind).parameters
    options = {"raw_dir": str(spec.folder("root")) if spec.folder("root") else None, "verbose": False}
    fitting = {key: value for key, value in options.items() if key in taken}
    graph, given = spec.made_by("DGL", lambda: kind(**fitting))
    return Graph.from_dgl(graph, name=name, **given)


def _class(spec: SourceSpec) -> tuple[str, Any]:
    data_sets = optional("dgl.data")
    name = spec.target.lower()
    class_name = DATA_SETS.get(name, spec.target)
    kind = getattr(data_sets, class_name, None)
    if not inspect.isclass(kind):
        known = [*DATA_SETS, *(entry for entry in dir(data_sets) if entry.endswith("Dataset"))]
        raise UserError(
            f"{spec.text}: DGL has no data set '{spec.target}'{nearest(spec.target, known)}; "
            f"short names: {', '.join(DATA_SETS)}"
        )
    return name, kind


@dataclasses.dataclass(frozen=True)
class DglParts:
    """What the description of a partition folder says."""

    name: str
    num_nodes: int
    parts: tuple[tuple[Path, Path, Path | None], ...]
    """Files of each part: its graph, its node data and, where there is any, its edge data."""


def _partition(spec: SourceSpec, config: Path) -> Graph:
    """The graph of a folder of DGL's parts, with its assignment."""
    described = _description(config)
    check_room(str(config), 4 * described.num_nodes, "num_nodes cannot be right")
    part_of = np.full(described.num_nodes, -1, np.int32)
    tables: dict[str, npt.NDArray[Any]] = {}
    read = [_read_part(files, part, part_of, tables) for part, files in enumerate(described.parts)]
    arcs, weights = [arcs for arcs, _ in read], [found for _, found in read if found is not None]
    if (part_of < 0).any():
        lost = int(np.flatnonzero(part_of < 0)[0])
        raise UserError(f"{config}: node {lost} of {part_of.size} is in no part; the folder is not whole")
    return Graph.assembled(
        looked_up(
            str(config),
            tables.get,
            np.concatenate(arcs, axis=1),
            np.concatenate(weights) if len(weights) == len(arcs) else None,
        ),
        name=described.name,
        where=str(config),
        part_of=part_of,
        **spec.of_library(),
    )


def _description(config: Path) -> DglParts:
    if not config.is_file():
        raise UserError(
            f"{config}: no such file; dgl:FOLDER/NAME.json is what dgl.distributed.partition_graph wrote"
        )
    try:
        said = json.loads(config.read_text())
        types = len(said.get("ntypes", {"_N": 0}))
        files = [said[f"part-{part}"] for part in range(int(said["num_parts"]))]
        described = DglParts(
            printable(str(said.get("graph_name", config.stem)))[:LONGEST_NAME],
            int(said["num_nodes"]),
            tuple(
                (
                    config.parent / one["part_graph"],
                    config.parent / one["node_feats"],
                    config.parent / one["edge_feats"] if "edge_feats" in one else None,
                )
                for one in files
            ),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, OSError) as error:
        raise UserError(f"{config}: not a description of DGL parts ({one_line(error)})") from error
    if types != 1:
        raise UserError(f"{config}: {types} node types; only homogeneous graphs can be read")
    if described.num_nodes < 1 or not described.parts:
        raise UserError(f"{config}: {described.num_nodes} nodes in {len(files)} parts")
    return described


def _read_part(
    files: tuple[Path, Path, Path | None],
    part: int,
    part_of: npt.NDArray[np.int32],
    tables: dict[str, npt.NDArray[Any]],
) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Arcs [2, E] of one DGL part, in global ids, and their weights; fills in its nodes' part and data."""
    reading = optional("dgl.data.utils")
    graph_file, table_file, edge_file = files
    with _dgl_reads(graph_file):
        local = reading.load_graphs(str(graph_file))[0][0]
        found = {key: as_numpy(key, local.ndata[key]) for key in ("_ID", "inner_node")}
        ends = np.stack([as_numpy("edges", end) for end in local.edges()])
        own = as_numpy("inner_edge", local.edata["inner_edge"]).astype(bool)
    read = _tables(table_file)
    ids = listed_nodes(str(graph_file), "_ID", found["_ID"], part_of.size)
    inner = ids[found["inner_node"].astype(bool)]
    part_of[inner] = part
    for key, table in read.items():
        shape = (part_of.size, *table.shape[1:])
        whole = tables.setdefault(key.rpartition("/")[2], np.zeros(shape, table.dtype))
        if table.shape[:1] != inner.shape or whole.shape != shape:
            raise UserError(
                f"{table_file}: {key} has shape {table.shape} for {inner.size} nodes and {whole.shape} in all"
            )
        whole[inner] = table
    arcs: npt.NDArray[Any] = ids[ends[:, own]]
    of_edges = {} if edge_file is None else _tables(edge_file)
    weights = (table for key, table in of_edges.items() if key.rpartition("/")[2] in WEIGHT_KEYS)
    return arcs, next(weights, None)


def _tables(file: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a file of node or edge data."""
    with _dgl_reads(file):
        read = optional("dgl.data.utils").load_tensors(str(file))
        return {key: as_numpy(key, table) for key, table in read.items()}


@contextlib.contextmanager
def _dgl_reads(file: Path) -> Iterator[None]:
    """DGL's own format is read, and believed, by DGL; its errors are of kinds of its own."""
    if not file.is_file():
        raise UserError(f"{file}: missing; the DGL folder is not whole")
    try:
        yield
    except Exception as error:
        raise UserError(f"{file}: DGL cannot read it ({one_line(error)}); copy the folder again") from error
