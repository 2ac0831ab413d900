"""A run that is over, or was stopped: its scores, what it measured, and its model at work.

N nodes   C classes   H width of a layer
"""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bnsgcn.api.caller import alone, interruptible, leave_if_worker, redirected, say_nothing
from bnsgcn.config import TrainConfig
from bnsgcn.record.recorded import as_number, history_of
from bnsgcn.record.run_folder import RunFolder
from partition.errors import UserError
from partition.optional import optional

if TYPE_CHECKING:
    import torch

    from bnsgcn.train.evaluate import Scores
    from partition.graph import Graph

Rows = npt.NDArray[np.float32]


class Run:
    """What `bnsgcn.train` gives; `bnsgcn.open_run` opens one from its folder.

    Args:
        path: the run folder.
        kept: a temporary folder that is to last as long as this object.
    """

    def __init__(self, path: Path, *, kept: Path | None = None) -> None:
        self.path = path
        if kept is not None:
            weakref.finalize(self, shutil.rmtree, kept, ignore_errors=True)

    def __repr__(self) -> str:
        found = RunFolder(self.path).summary()
        if found is None:
            return f"Run({str(self.path)!r}, not at its end)"
        return f"Run({str(self.path)!r}, test {found['metric']} {as_number(found['test_score']):.4f})"

    @property
    def config(self) -> TrainConfig:
        """The options."""
        return RunFolder(self.path).open().config

    @property
    def summary(self) -> dict[str, Any]:
        """What `summary.json` says.

        Raises:
            UserError: The run has not come to its end.
        """
        found = RunFolder(self.path).summary()
        if found is None:
            raise UserError(f"the run in {self.path} has not come to its end; go on with resume=True")
        return found

    @property
    def metric(self) -> str:
        """What the best checkpoint was chosen by."""
        return str(self.summary["metric"])

    @property
    def test_score(self) -> float:
        """Of the best checkpoint on the test nodes; NaN without any."""
        return as_number(self.summary["test_score"])

    @property
    def val_score(self) -> float:
        """Of the best checkpoint on the validation nodes; NaN without any."""
        return as_number(self.summary["val_score"])

    @property
    def best_epoch(self) -> int:
        """The epoch, from 0, after which the validation score was best."""
        return int(self.summary["best_epoch"])

    @property
    def history(self) -> dict[str, npt.NDArray[Any]]:
        """{name: values of all epochs}, of `metrics.jsonl`; NaN where an epoch has none."""
        return history_of(RunFolder(self.path).metrics())

    def to_frame(self) -> Any:
        """`history` as a pandas.DataFrame, a row an epoch.

        Raises:
            UserError: pandas is not installed.
        """
        return optional("pandas").DataFrame(self.history).set_index("epoch")

    def evaluate(self, *, per_class: bool = False) -> Scores:
        """Exact scores of the best checkpoint, on as many workers as the run had."""
        found = self._on_workers("evaluate", {"per_class": per_class}, f"bnsgcn evaluate {self.path}")
        from bnsgcn.train.counts import ClassScore
        from bnsgcn.train.evaluate import Scores

        return Scores(**found | {"per_class": [ClassScore(**row) for row in found["per_class"]]})

    def predict(self, nodes: npt.ArrayLike | None = None, *, graph: Graph | str | None = None) -> Rows:
        """Logits by the best checkpoint, exact: float32 [N, C], in the graph's own order.

        Args:
            nodes: ids, or a mask [N]; of them, in their order, their neighbourhood alone is computed.
            graph: a grown or another graph, or a SOURCE, with the same features; None = the run's own.

        Raises:
            UserError: nodes are out of range, or the graph does not fit the model.
        """
        return self._rows(None, nodes, graph)

    def embeddings(
        self,
        layer: int | str = -2,
        nodes: npt.ArrayLike | None = None,
        *,
        graph: Graph | str | None = None,
    ) -> Rows:
        """What a layer gives by the best checkpoint, exact: float32 [N, H]; `nodes`, `graph` as `predict`.

        Args:
            layer: its number, from 0 or from the end: -1 are the logits, -2 the rows that the last layer of
                our models reads; of a module of your own its convolutions count, then the logits. Or the name
                of any module in `run.model`.

        Raises:
            UserError: The model has no such layer, or it gives no row for every node.
        """
        return self._rows(layer, nodes, graph)

    def export(self, to: str, out: str | os.PathLike[str] | None = None) -> Path:
        """Write the best model for use without this package, as `bnsgcn export`; the file.

        Args:
            to: FILE.safetensors, FILE.pt2, or pyg or dgl, whose file is `out` or in the run folder.

        Raises:
            UserError: the form is unknown or cannot hold this model, or the file exists already.
        """
        from bnsgcn.out.export import export_run

        return export_run(self.path, to, None if out is None else Path(out))[0]

    def _rows(self, layer: int | str | None, nodes: npt.ArrayLike | None, graph: Graph | str | None) -> Rows:
        leave_if_worker()
        command = f"bnsgcn predict {self.path} --out FILE.npy"
        alone("run.predict", command)
        from bnsgcn.predict import as_nodes, write_parts_like
        from partition.manifest import read_manifest

        with tempfile.TemporaryDirectory(prefix="bnsgcn-") as name:
            folder, parts_dir = Path(name), RunFolder(self.path).open().parts_dir
            wanted = {"embeddings": layer, "out": str(folder / "rows.npy")}
            if graph is not None:
                parts_dir = folder / "parts"
                with interruptible():
                    write_parts_like(self.path, graph, parts_dir, say_nothing)
                wanted["parts_dir"] = str(parts_dir)
            if nodes is not None:
                np.save(folder / "nodes", as_nodes(nodes, read_manifest(parts_dir).num_nodes, "nodes"))
                wanted["nodes"] = str(folder / "nodes.npy")
            self._on_workers("predict", wanted, command)
            rows: Rows = np.load(folder / "rows.npy", allow_pickle=False)
        return rows

    @functools.cached_property
    def model(self) -> torch.nn.Module:
        """The model with the weights of the best checkpoint, on the CPU of this process, in eval mode.

        Raises:
            UserError: There is no whole checkpoint that is the best.
        """
        from bnsgcn.out.best_model import best_model

        return best_model(self.path).model

    def _on_workers(self, task: Any, arguments: dict[str, Any], command: str) -> Any:
        leave_if_worker()
        alone(f"run.{task}", command)
        from bnsgcn.workers.jobs import on_run

        with interruptible():
            return on_run(self.path, task, arguments, relayed=redirected())
