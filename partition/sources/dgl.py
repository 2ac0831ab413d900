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
import inspect
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from partition.errors import UserError, nearest, one_line
from partition.graph import Graph
from partition.interchange import as_numpy, from_dgl
from partition.optional import optional
from partition.sources import SourceSpec
from partition.sources.features import standardised

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
    spec.only("root", "directed", "features", "split_seed", "standardise")
    if spec.target.endswith(".json"):
        return _partition(spec, Path(spec.target).expanduser())
    name, kind = _class(spec)
    taken = inspect.signature(kind).parameters
    options = {"raw_dir": str(spec.folder("root")) if spec.folder("root") else None, "verbose": False}
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            made = kind(**{key: value for key, value in options.items() if key in taken})
            graph = made[0]
    except Exception as error:  # whatever a download or an unpacking of theirs ends with
        raise UserError(
            f"{spec.text}: DGL could not load it ({type(error).__name__}: {one_line(error)}); "
            "put its files under root=FOLDER, or use npz:FILE"
        ) from error
    read = from_dgl(
        graph,
        name=name,
        source=spec.text,
        features=spec.options.get("features", ""),
        directed=spec.flag("directed"),
        num_classes=int(getattr(made, "num_classes", 0) or 0),
        split_seed=spec.integer("split_seed", 0),
    )
    return standardised(read) if spec.flag("standardise", default=name == "yelp") else read


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


def _partition(spec: SourceSpec, config: Path) -> Graph:
    """The graph of a folder of DGL's parts, with its assignment."""
    if not config.is_file():
        raise UserError(
            f"{config}: no such file; dgl:FOLDER/NAME.json is what dgl.distributed.partition_graph wrote"
        )
    try:
        described = json.loads(config.read_text())
        parts, num_nodes = int(described["num_parts"]), int(described["num_nodes"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{config}: not a description of DGL parts ({error})") from error
    if len(described.get("ntypes", {"_N": 0})) != 1:
        raise UserError(
            f"{config}: {len(described['ntypes'])} node types; only homogeneous graphs can be read"
        )
    part_of = np.empty(num_nodes, np.int32)
    tables: dict[str, npt.NDArray[Any]] = {}
    arcs = [
        _read_part(config.parent, described[f"part-{part}"], part, num_nodes, part_of, tables)
        for part in range(parts)
    ]
    whole = optional("dgl").graph(tuple(np.concatenate(arcs, axis=1)), num_nodes=num_nodes)
    torch = optional("torch")
    for key, table in tables.items():
        whole.ndata[key] = torch.from_numpy(table)
    return from_dgl(
        whole,
        name=str(described.get("graph_name", config.stem)),
        source=spec.text,
        features=spec.options.get("features", ""),
        directed=spec.flag("directed"),
        split_seed=spec.integer("split_seed", 0),
        part_of=part_of,
    )


def _read_part(
    folder: Path,
    files: dict[str, str],
    part: int,
    num_nodes: int,
    part_of: npt.NDArray[np.int32],
    tables: dict[str, npt.NDArray[Any]],
) -> npt.NDArray[Any]:
    """Arcs [2, E] of one DGL part, in global ids; fills in its nodes' part and node data."""
    reading = optional("dgl.data.utils")
    for name in ("part_graph", "node_feats"):
        if not (folder / files[name]).is_file():
            raise UserError(f"{folder / files[name]}: missing; part {part} of the DGL folder is not whole")
    local = reading.load_graphs(str(folder / files["part_graph"]))[0][0]
    ids, inner = as_numpy(local.ndata["_ID"]), as_numpy(local.ndata["inner_node"]).astype(bool)
    part_of[ids[inner]] = part
    for key, tensor in reading.load_tensors(str(folder / files["node_feats"])).items():
        table = as_numpy(tensor)
        whole = tables.setdefault(
            key.rpartition("/")[2], np.zeros((num_nodes, *table.shape[1:]), table.dtype)
        )
        whole[ids[inner]] = table
    source, target = (as_numpy(ends) for ends in local.edges())
    own = as_numpy(local.edata["inner_edge"]).astype(bool)
    arcs: npt.NDArray[Any] = ids[np.stack([source[own], target[own]])]
    return arcs
