"""`pyg:CLASS/NAME`: a node data set of torch_geometric.datasets.

    pyg:Planetoid/Cora   pyg:Reddit   pyg:Amazon/Computers   pyg:Flickr ...

`root=FOLDER` is where PyG keeps its files (default: ~/.cache/bnsgcn/pyg/CLASS). `standardise=true` scales
features to mean 0 and variance 1 over the training nodes; it is the default for Yelp, as the papers do.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from partition.errors import UserError, nearest
from partition.graph import Graph
from partition.optional import optional
from partition.sources import SourceSpec


def load(spec: SourceSpec) -> Graph:
    """Graph of a PyG data set."""
    spec.only("root", "directed", "features", "split_seed", "standardise", "edge_weights")
    class_name, _, name = spec.target.partition("/")
    kind = _class(spec, class_name)
    takes_name = "name" in inspect.signature(kind).parameters
    if takes_name and not name:
        raise UserError(f"{spec.text}: {class_name} has several graphs; write pyg:{class_name}/NAME")
    root = spec.folder("root") or Path.home() / ".cache" / "bnsgcn" / "pyg" / class_name
    options = {"root": str(root), **({"name": name} if takes_name else {})}
    graph, given = spec.made_by("PyG", lambda: kind(**options))
    return Graph.from_pyg(graph, name=(name or class_name).lower(), **given)


def _class(spec: SourceSpec, class_name: str) -> Any:
    data_sets = optional("torch_geometric.datasets")
    kind = getattr(data_sets, class_name, None)
    if not inspect.isclass(kind):
        known = [entry for entry in dir(data_sets) if entry[:1].isupper()]
        raise UserError(
            f"{spec.text}: PyG has no data set class '{class_name}'{nearest(class_name, known)}; "
            "write pyg:CLASS/NAME, for example pyg:Planetoid/Cora"
        )
    return kind
