"""The torch backend with DGL's copy-and-sum kernel, on CPU and where DGL can be imported.

DGL is asked for its kernel alone: the block's arrays are wrapped, never copied into a graph of its own.
Float32 and float64, unweighted; every other dtype and device takes the torch path, and so do weighted blocks,
which DGL sums slower than torch does.
"""

from __future__ import annotations

import importlib
import os
import warnings
import weakref
from typing import Any

import torch
from torch import Tensor

from bnsgcn.kernels.csr import Csr
from bnsgcn.kernels.torch_backend import TorchKernels, check_rows
from partition.errors import UserError

_DTYPES = (torch.float32, torch.float64)


class DglKernels(TorchKernels):
    """Sums by DGL, everything else by torch.

    Raises:
        UserError: DGL cannot be imported here; the message says why.
    """

    name = "dgl"

    def __init__(self) -> None:
        super().__init__()
        os.environ.setdefault("DGLBACKEND", "pytorch")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a package that is not developed any more
                self._operators: Any = importlib.import_module("dgl._sparse_ops")
                self._index: Any = importlib.import_module("dgl.heterograph_index")
        except Exception as error:  # whatever a foreign binary package raises while it loads
            raise UserError(f"DGL cannot be imported ({error}); use --kernel torch") from error
        self._graphs: weakref.WeakKeyDictionary[Csr, Any] = weakref.WeakKeyDictionary()

    def sum_rows(
        self,
        csr: Csr,
        x: Tensor,
        *,
        row_scale: Tensor | None = None,
        col_scale: Tensor | None = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """See Kernels.sum_rows."""
        fits = x.device.type == "cpu" and x.dtype in _DTYPES and csr.weights is None
        if not fits or not csr.num_arcs or not x.shape[1]:
            return super().sum_rows(csr, x, row_scale=row_scale, col_scale=col_scale, out=out)
        check_rows(x, csr)
        scaled = x if col_scale is None else x * col_scale[:, None]
        result, _ = self._operators._gspmm(self._graph(csr), "copy_lhs", "sum", scaled.contiguous(), None)
        if row_scale is not None:
            result *= row_scale[:, None]
        return result if out is None else out.add_(result)

    def _graph(self, csr: Csr) -> Any:
        """The block as DGL's bipartite graph index; its in-arcs are our rows."""
        known = self._graphs.get(csr)
        if known is None:
            nothing = torch.empty(0, dtype=csr.indices.dtype)
            known = self._index.create_unitgraph_from_csr(
                2, csr.num_cols, csr.num_rows, csr.indptr, csr.indices, nothing, ["csc"], transpose=True
            )
            self._graphs[csr] = known
        return known
