"""Prediction with a run's best model: of all nodes or some, on its parts or on those of another graph.

Exact and distributed over as many workers as there are parts. Of some nodes, their neighbourhood is computed,
layer by layer, and nothing more; the features of other nodes are not even read.

    I inner rows of the part   K nodes asked for   W width of a row
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.local.boundary import check_parts_match
from bnsgcn.nn.models import GNN
from bnsgcn.out.best_model import BestModel, best_model
from bnsgcn.record.parquet_rows import ParquetRows
from bnsgcn.record.rows_file import RowsFile
from bnsgcn.record.run_folder import RunFolder
from bnsgcn.run import joined, opened
from bnsgcn.train.agreement import agree
from bnsgcn.train.evaluate import logits_of
from bnsgcn.train.hop_sets import HopSet, HopSets
from bnsgcn.train.layer_outputs import name_of_layer, output_of
from bnsgcn.train.trainer import make_stage
from partition.errors import UserError, one_line
from partition.graph import Graph
from partition.scaling import Scaling, check_same_scaling
from partition.store import Manifest, Part, open_part, read_manifest

Nodes = npt.NDArray[np.int64]
SHOWN = 60


def predict_run(
    run_dir: str | Path,
    out: str | Path,
    *,
    nodes: str | Nodes | None = None,
    embeddings: int | str | None = None,
    parts_dir: str | Path | None = None,
) -> tuple[int, int]:
    """Write what the best model of a run makes of nodes to `out`, .npy or .parquet; returns (rows, columns).

    Collective over as many workers as there are parts.

    Args:
        nodes: some nodes alone, one row each in this order: an array, or see `read_nodes`; None = all.
        embeddings: the output of this layer, from 0 or, negative, from the end: -2 is what the last layer
            reads, after normalisation and ReLU; or of any module by its name. None = the last layer's output,
            the logits. For the layers of a model of the user's own see `layer_outputs`.
        parts_dir: parts of another graph with the same features; None = those that the run was trained on.

    Raises:
        UserError: nodes or layer are out of range, the graph or the weights do not fit, or there is no room
            for the file; nothing of it is left then, nor after any other failure.
    """
    facts = opened(run_dir)
    config, folder, best = facts.config, Path(parts_dir or facts.parts_dir), best_model(run_dir)
    manifest = read_manifest(folder)
    check_graph(best.manifest, manifest, str(folder))
    trained, given = (Scaling.from_json(found.feature_scaling) for found in (best.manifest, manifest))
    check_same_scaling(trained, given, str(folder))
    module = layer_asked_for(best.model, embeddings)
    layers = config.layers if module is not None else layers_to_run(config, embeddings)
    chosen = read_nodes(nodes, manifest.num_nodes) if isinstance(nodes, str) else nodes
    if chosen is not None:
        check_nodes(chosen, manifest.num_nodes, "nodes")
    with joined(config) as world:
        agree(world, config, manifest, best.model)
        part = open_part(folder, world.rank, verify=chosen is None)
        column = "embedding" if module or layers < config.layers else "logits"
        file = rows_writer(Path(out), world.rank, column, chosen)
        predictor = Predictor(world, part, best, config)
        found = None if module is None else predictor.rows(chosen, module)
        widths = config.widths(manifest.num_features, best.manifest.num_classes)
        side_by_side = config.joined if layers == config.graph_layers else 1
        columns = found[1].shape[1] if found else side_by_side * widths[layers]
        shape = (manifest.num_nodes if chosen is None else chosen.size, columns)
        try:
            if world.rank == 0:
                file.create(*shape)
            world.barrier()
            file.write(*(found or predictor.rows(chosen, layers)))
            world.barrier()
        except BaseException:
            file.discard()
            raise
        if world.rank == 0:
            file.finish()
        world.barrier()
    return shape


class Predictor:
    """A trained model on this worker's part; nothing is trained and no view of the training is built."""

    def __init__(self, world: World, part: Part, best: BestModel, config: TrainConfig) -> None:
        """Collective."""
        check_parts_match(world, part)
        self._part = part
        self._model = best.model.to(world.device)
        for tensor in self._model.state_dict().values():  # a run that goes on may have a better one by now
            world.broadcast(tensor)
        # An aggregate of all the input is worth it for many passes, not for one.
        plain = dataclasses.replace(config, precompute=False)
        self._sets = HopSets(make_stage(world, plain), part, self._model, plain)

    def hop_set(self, chosen: Nodes | None, layers: int) -> HopSet:
        """The hops of the first `layers` layers for nodes. Collective."""
        targets = np.ones(self._part.num_inner, bool)
        if chosen is not None:
            targets = np.isin(self._part.node_ids, chosen)
        depth = len(self._sets.convs)
        return self._sets.exact(targets, depth=min(layers, depth))

    def rows(self, chosen: Nodes | None, layers: int | str) -> tuple[Nodes, npt.NDArray[np.float32]]:
        """This part's rows after `layers` layers, or of the module of that name.

        They come with their places in `chosen`, or node ids. Collective.
        """
        places, found = self.exact_rows(chosen, layers)
        return places, found.float().numpy()

    def exact_rows(self, chosen: Nodes | None, layers: int | str) -> tuple[Nodes, torch.Tensor]:
        """The same in the model's own number format."""
        if isinstance(layers, str):
            hops = self.hop_set(chosen, len(self._sets.convs))
            found = output_of(self._model, layers, hops).cpu()
        else:
            hops = self.hop_set(chosen, layers)
            found = logits_of(_FirstLayers(self._model, layers), hops).cpu()
        nodes: Nodes = np.array(self._part.node_ids[hops.logits_rows])
        if chosen is None or nodes.size == 0:
            return nodes, found
        order = np.argsort(nodes)
        at = np.searchsorted(nodes, chosen, sorter=order).clip(max=nodes.size - 1)
        mine = np.flatnonzero(nodes[order[at]] == chosen)
        return mine, found[torch.from_numpy(order[at[mine]])]


class _FirstLayers(torch.nn.Module):
    """A model that stops after some of its layers."""

    def __init__(self, model: torch.nn.Module, layers: int) -> None:
        super().__init__()
        self.model, self.layers = model, layers

    def forward(self, hops: object, x: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = self.model(hops, x, self.layers)
        return rows


def rows_writer(out: Path, rank: int, column: str, nodes: Nodes | None) -> RowsFile | ParquetRows:
    """Who writes `out`, by its ending."""
    return ParquetRows(out, rank, column, nodes) if out.suffix == ".parquet" else RowsFile(out)


def layer_asked_for(model: torch.nn.Module, embeddings: int | str | None) -> str | None:
    """The name of the module whose output is asked for, where that is not a number of layers of our models.

    Raises:
        UserError: there is no such module, or no such layer of a model of the user's own.
    """
    if isinstance(model, GNN) and not isinstance(embeddings, str):
        return None
    return name_of_layer(model, -1 if embeddings is None else embeddings)


def layers_to_run(config: TrainConfig, embeddings: int | str | None) -> int:
    """How many layers give what is asked for.

    Raises:
        UserError: there is no such layer.
    """
    wanted, layers = -1 if embeddings is None else int(embeddings), config.layers
    if not -layers <= wanted < layers:
        raise UserError(
            f"--embeddings {wanted}: the model has {layers} layers; use 0 to {layers - 1}, "
            f"or -{layers} to -1 from the end"
        )
    return wanted % layers + 1


def check_graph(trained: Manifest, other: Manifest | Graph, where: str) -> None:
    """UserError where the model of one graph cannot be used on another."""
    if other.num_features != trained.num_features:
        raise UserError(
            f"{where} has {other.num_features} features a node, the run was trained on "
            f"{trained.num_features}; make the same features as for {trained.name}"
        )
    if other.directed != trained.directed:
        ours, theirs = (("directed", "undirected")[not graph.directed] for graph in (other, trained))
        raise UserError(
            f"{where} is {ours}, the run was trained on an {theirs} graph; "
            f"{'leave out directed=true' if other.directed else 'add directed=true to the source'}"
        )
    weighted = other.weighted if isinstance(other, Manifest) else other.weights is not None
    if weighted != trained.weighted:
        has, had = ("edge weights" if given else "no edge weights" for given in (weighted, trained.weighted))
        raise UserError(
            f"{where} has {has}, the graph that the run was trained on has {had}; "
            f"{'add edge_weights=ignore to the source' if weighted else 'give it edge weights, such as 1'}"
        )


def write_parts_like(run_dir: str | Path, graph: Graph | str, out: Path, say: Callable[[str], None]) -> None:
    """Write parts of another graph, or of a SOURCE, for the model of a run to the new folder `out`.

    Raises:
        UserError: the model cannot be used on it, or see `partition.sources.load`.
    """
    from partition.grown import cut_like, scaled_like
    from partition.sources import load

    trained = RunFolder(run_dir).open().parts_dir
    manifest = read_manifest(trained)
    scaling = Scaling.from_json(manifest.feature_scaling)
    where = graph if isinstance(graph, str) else graph.name
    later = None if scaling is None else scaling.kind
    graph = load(graph, say, later=later) if isinstance(graph, str) else graph
    check_graph(manifest, graph, where)
    graph = scaled_like(graph, scaling, where)
    cut_like(graph, trained, out, say)


def read_nodes(text: str, num_nodes: int) -> Nodes:
    """Node ids of FILE.npy (whole numbers, or a mask [N]) or of a list such as 3,17,20-29.

    Raises:
        UserError: neither can be read, it is empty, or an id is out of range.
    """
    if text.endswith(".npy"):
        return _from_file(Path(text).expanduser(), num_nodes)
    found = _from_list(text)
    check_nodes(found, num_nodes, f"--nodes {text[:SHOWN]}")
    return found


def as_nodes(given: npt.ArrayLike, num_nodes: int, where: str) -> Nodes:
    """Node ids [K] of ids or a mask [N].

    Raises:
        UserError: it is neither, it is empty, or an id is out of range; `where` says what it came from.
    """
    found = np.asarray(given)
    if found.dtype == bool and found.shape == (num_nodes,):
        found = np.flatnonzero(found)
    elif found.ndim != 1 or (found.size and not np.issubdtype(found.dtype, np.integer)):
        raise UserError(
            f"{where}: {found.dtype} of shape {list(found.shape)}; give node ids as int64 [K], "
            f"or a mask of the {num_nodes:,} nodes"
        )
    check_nodes(found, num_nodes, where)
    return found.astype(np.int64)


def _from_file(path: Path, num_nodes: int) -> Nodes:
    if not path.is_file():
        raise UserError(f"--nodes {path}: no such file; name a .npy file of ids, or list them: 3,17,20-29")
    try:
        loaded = np.load(path, allow_pickle=False)
    except Exception as error:  # NumPy refuses a broken header with any of half a dozen types
        raise UserError(f"--nodes {path}: not a whole NumPy array file ({one_line(error)})") from error
    return as_nodes(loaded, num_nodes, f"--nodes {path}")


def _from_list(text: str) -> Nodes:
    pieces = []
    for piece in text.split(","):
        first, _, last = piece.partition("-")
        if not first.strip().isdecimal() or (last and not last.strip().isdecimal()) or len(piece) > 40:
            raise UserError(
                f"--nodes {text[:SHOWN]}: '{piece[:SHOWN]}' is no node id; list them as 3,17,20-29, "
                f"or name a .npy file"
            )
        low, high = int(first), int(last or first)
        if high >= 1 << 62 or high < low or high - low > 1 << 32:
            raise UserError(f"--nodes {text[:SHOWN]}: {piece} is no range of node ids; write 20-29")
        pieces.append(np.arange(low, high + 1, dtype=np.int64))
    return np.concatenate(pieces)


def check_nodes(nodes: npt.NDArray[Any], num_nodes: int, where: str) -> None:
    """UserError where there are none, or ids out of range."""
    if nodes.size == 0:
        raise UserError(f"{where}: 0 nodes; name at least 1, or leave it out for all {num_nodes:,}")
    wrong = nodes[(nodes < 0) | (nodes >= num_nodes)]
    if wrong.size:
        raise UserError(
            f"{where}: {wrong.size:,} of {nodes.size:,} are out of range, the first is {wrong[0]}; "
            f"the graph has {num_nodes:,} nodes, 0 to {num_nodes - 1}"
        )
