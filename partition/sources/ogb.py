"""`ogb:NAME`: the raw folder of a node data set of the Open Graph Benchmark, read without the ogb package.

    ROOT/ogbn_arxiv/raw/{edge,node-feat,node-label,num-node-list}.csv.gz           arxiv, products
    ROOT/ogbn_proteins/raw/{edge,edge-feat,node-label,num-node-list}.csv.gz        proteins
    ROOT/ogbn_papers100M/raw/{data,node-label}.npz                                 papers100M
    ROOT/ogbn_*/split/SPLIT/{train,valid,test}.csv.gz

ROOT is `root=FOLDER`, by default `dataset` as in ogb. Where the folder is absent, the archive is fetched
through the ogb package, without its question whether a newer ogb exists. Arcs are symmetrised. proteins has
no node features: they are the means of the features of a node's edges, as in the benchmark's own examples.

Leskovec et al., "Open Graph Benchmark", NeurIPS 2020.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import shutil
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from partition.edges import checked_arcs
from partition.errors import UserError, nearest, one_line
from partition.features import Features, recipe_and_storage
from partition.graph import Graph
from partition.optional import optional
from partition.sources import SourceSpec
from partition.sources.archive import open_archive

DEFAULT_ROOT = "dataset"


@dataclasses.dataclass(frozen=True)
class OgbSet:
    """What the benchmark says about a data set."""

    split: str
    classes: int
    binary: bool = False


SETS = {
    "ogbn-arxiv": OgbSet("time", 40),
    "ogbn-products": OgbSet("sales_ranking", 47),
    "ogbn-proteins": OgbSet("species", 112),
    "ogbn-papers100M": OgbSet("time", 172, binary=True),
}


def load(spec: SourceSpec) -> Graph:
    """Graph of a data set of `SETS`."""
    spec.only("root", "directed", "features", "scratch")
    if spec.target not in SETS:
        raise UserError(
            f"{spec.text}: unknown data set '{spec.target}'{nearest(spec.target, list(SETS))}; "
            f"there are: {', '.join(SETS)}"
        )
    root = spec.folder("root") or Path(DEFAULT_ROOT)
    folder = root / spec.target.replace("-", "_")
    if not (folder / "raw").is_dir():
        _download(spec.target, root, folder)
    try:
        return _read(spec, folder, SETS[spec.target])
    except (OSError, EOFError) as error:
        raise UserError(f"{folder}: cannot be read ({one_line(error)}); fetch it again") from error


def _read(spec: SourceSpec, folder: Path, known: OgbSet) -> Graph:
    raw = folder / "raw"
    edge_index, features, labels = _binary(raw, spec.say) if known.binary else _text(raw)
    recipe, stored = recipe_and_storage(spec.options.get("features", ""))
    return Graph.from_arrays(
        edge_index,
        features=recipe or features,
        stored=stored,
        labels=labels,
        split=_split(folder, known),
        num_classes=known.classes,
        directed=spec.flag("directed"),
        name=spec.target,
        source=spec.text,
        scratch=spec.folder("scratch"),
    )


def _text(raw: Path) -> tuple[npt.NDArray[Any], Features, npt.NDArray[Any]]:
    """edge_index, features, labels from the csv.gz files."""
    edge_index = _table(raw / "edge.csv.gz", np.int64).T
    labels = _table(raw / "node-label.csv.gz", np.float64)
    stated = int(_table(raw / "num-node-list.csv.gz", np.int64)[0, 0])
    if stated != labels.shape[0]:
        raise UserError(f"{raw}: {labels.shape[0]} labels for {stated} nodes; fetch the folder again")
    if (raw / "node-feat.csv.gz").is_file():
        return edge_index, _table(raw / "node-feat.csv.gz", np.float32), labels
    arcs = checked_arcs(str(raw), edge_index, stated)
    edge_features = _table(raw / "edge-feat.csv.gz", np.float32)
    if edge_features.shape[0] != arcs.shape[1]:
        raise UserError(
            f"{raw}: features of {edge_features.shape[0]} edges for {arcs.shape[1]}; fetch the folder again"
        )
    return arcs, edge_means(arcs, edge_features, stated), labels


def _binary(raw: Path, say: Callable[[str], None]) -> tuple[npt.NDArray[Any], Features, npt.NDArray[Any]]:
    """The same from the npz files, memory-mapped where they are stored uncompressed."""
    for path in (raw / "data.npz", raw / "node-label.npz"):
        if not path.is_file():
            raise UserError(f"{path}: missing; fetch the folder again")
    with open_archive(raw / "data.npz", say) as arrays, open_archive(raw / "node-label.npz", say) as labels:
        try:
            return arrays["edge_index"], arrays["node_feat"], labels["node_label"]
        except KeyError as error:
            raise UserError(f"{raw}: no array {error}; fetch the folder again") from error


def edge_means(
    edge_index: npt.NDArray[Any], edge_features: npt.NDArray[np.float32], num_nodes: int
) -> npt.NDArray[np.float32]:
    """Mean of the features of a node's edges, either end: float32 [N, columns]; zeros for isolated nodes."""
    ends = np.concatenate([edge_index[0], edge_index[1]])
    degree = np.maximum(1, np.bincount(ends, minlength=num_nodes))
    means = np.empty((num_nodes, edge_features.shape[1]), np.float32)
    for column in range(edge_features.shape[1]):
        twice = np.tile(edge_features[:, column], 2)
        means[:, column] = np.bincount(ends, weights=twice, minlength=num_nodes) / degree
    return means


def _split(folder: Path, known: OgbSet) -> list[npt.NDArray[Any]]:
    lists = folder / "split" / known.split
    return [_table(lists / f"{part}.csv.gz", np.int64)[:, 0] for part in ("train", "valid", "test")]


def _table(path: Path, dtype: Any) -> npt.NDArray[Any]:
    """A csv.gz file without header, [rows, columns]."""
    if not path.is_file():
        raise UserError(f"{path}: missing; fetch the folder again")
    pandas = optional("pandas")
    try:
        with np.errstate(invalid="ignore"):  # pandas tries a cast before it says what is wrong
            frame = pandas.read_csv(path, compression="gzip", header=None, dtype=dtype)
    except (ValueError, OverflowError, EOFError, OSError, zlib.error) as error:
        raise UserError(f"{path}: not a whole csv.gz file ({one_line(error)})") from error
    table: npt.NDArray[Any] = frame.to_numpy()
    return table


def _download(name: str, root: Path, folder: Path) -> None:
    wanted = f"{folder / 'raw'}: not there"
    try:
        with quiet_ogb() as url_tools:
            address = _address(name)
            root.mkdir(parents=True, exist_ok=True)
            archive = url_tools.download_url(address, str(root), log=False)
            url_tools.extract_zip(archive, str(root))
    except (UserError, OSError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{wanted}, and it cannot be fetched ({one_line(error)}); put the unpacked folder there, "
            f"or name another with ogb:{name},root=FOLDER"
        ) from error
    Path(archive).unlink()
    unpacked = root / Path(address).stem
    if unpacked != folder:
        shutil.rmtree(folder, ignore_errors=True)
        unpacked.rename(folder)


def _address(name: str) -> str:
    """Where the benchmark keeps the archive, from the table that comes with ogb."""
    package = optional("ogb")
    table = Path(str(package.__file__)).parent / "nodeproppred" / "master.csv"
    with table.open(newline="") as file:
        rows = list(csv.reader(file))
    column = rows[0].index(name)
    return next(row[column] for row in rows if row[0] == "url")


@contextlib.contextmanager
def quiet_ogb() -> Iterator[Any]:
    """ogb's download functions; its import asks the network for a newer ogb unless `outdated` is absent."""
    absent = object()
    before = sys.modules.get("outdated", absent)
    sys.modules["outdated"] = None  # type: ignore[assignment]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield optional("ogb.utils.url")
    finally:
        if before is absent:
            del sys.modules["outdated"]
        else:
            sys.modules["outdated"] = before  # type: ignore[assignment]
