"""How tensors reach the native library: addresses, plain numbers and the structures of native*.h."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from bnsgcn.kernels import random_bits
from bnsgcn.kernels.native.build import native
from bnsgcn.kernels.torch_backend import TorchKernels
from partition.errors import UserError

int64 = ctypes.c_int64
REALS = {torch.float32: "f32", torch.float64: "f64"}
IDS = {torch.int32: "i32", torch.int64: "i64"}
C_REALS: dict[torch.dtype, Any] = {torch.float32: ctypes.c_float, torch.float64: ctypes.c_double}


class NativeKernels(TorchKernels):
    """The torch kernels with a native library at hand.

    Raises:
        ValueError: there is no compiler or it failed; the message says why.
    """

    def __init__(self) -> None:
        super().__init__()
        found = native()
        if found.library is None:
            raise UserError(f"{found.note}; or use --kernel torch")
        self._library = found.library

    def _call(self, name: str, *arguments: Any, returns: Any = None) -> Any:
        function = self._library[name]
        function.restype = returns
        return function(*arguments)


def address(tensor: Tensor | None) -> ctypes.c_void_p:
    """Where a tensor's numbers are; null for None. The caller keeps the tensor alive."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def threads() -> int:
    """As many threads as torch uses."""
    return torch.get_num_threads()


def on_cpu(*tensors: Tensor | None) -> bool:
    """All given tensors are plain CPU tensors."""
    return all(tensor is None or tensor.device.type == "cpu" for tensor in tensors)


def dense(x: Tensor, *others: Tensor | None) -> bool:
    """Matrices on CPU that the elementwise kernels take: float32 or float64, one dtype, contiguous."""
    return (
        x.dtype in REALS
        and on_cpu(x, *others)
        and all(other is None or (other.dtype == x.dtype and other.is_contiguous()) for other in others)
    )


def matching(vector: Tensor | None, x: Tensor) -> Tensor | None:
    """A scale, weight or bias in x's dtype, its numbers one after another."""
    return None if vector is None else vector.detach().to(x.dtype).contiguous()


def row_ids(ids: Tensor, rows: int) -> Tensor:
    """Node ids of `rows` rows as contiguous int64.

    Raises:
        ValueError: there are more or fewer ids than rows.
    """
    if ids.numel() != rows:
        raise ValueError(f"{ids.numel()} node ids for {rows} rows; pass one id for each row")
    return ids.to(torch.int64).contiguous()


def row_index(index: Tensor, rows: int) -> Tensor:
    """A list of rows as contiguous int64.

    Raises:
        IndexError: an entry is outside [0, rows), as torch's own indexing raises.
    """
    if index.numel():
        low, high = (int(bound) for bound in torch.aminmax(index))
        if low < 0 or high >= rows:
            raise IndexError(f"row numbers run from {low} to {high}, there are {rows} rows")
    return index.to(torch.int64).contiguous()


class SumTask(ctypes.Structure):
    """`sum_task` of sum.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("indptr", "indices")),
        *((name, int64) for name in ("num_rows", "num_arcs")),
        ("x", ctypes.c_void_p),
        *((name, int64) for name in ("x_stride", "columns")),
        *((name, ctypes.c_void_p) for name in ("row_scale", "col_scale", "out")),
        ("out_stride", int64),
        *((name, ctypes.c_int) for name in ("accumulate", "prefetch")),
        ("rows_at_once", int64),
        ("threads", ctypes.c_int),
    )


def _norm_fields(real: Any) -> tuple[tuple[str, Any], ...]:
    return (
        *((name, ctypes.c_void_p) for name in ("grad", "x", "out", "mean", "rstd", "weight", "bias")),
        *((name, ctypes.c_void_p) for name in ("grad_weight", "grad_bias", "node_ids")),
        *((name, int64) for name in ("rows", "columns", "key")),
        *((name, real) for name in ("eps", "scale")),
        ("levels", ctypes.c_int32),
        *((name, ctypes.c_int) for name in ("relu", "threads")),
    )


class _NormTask32(ctypes.Structure):
    """`norm_task` of dense.h with float as REAL."""

    _fields_ = _norm_fields(ctypes.c_float)


class _NormTask64(ctypes.Structure):
    """The same with double."""

    _fields_ = _norm_fields(ctypes.c_double)


def norm_task(x: Tensor, drawn: tuple[Tensor, int, float], **fields: Any) -> Any:
    """A norm task for x's dtype; `drawn` are node ids, key and drop probability, tensors become addresses."""
    node_ids, key, p = drawn
    levels = random_bits.keep_levels(p)
    task = (_NormTask32 if x.dtype == torch.float32 else _NormTask64)()
    task.rows, task.columns, task.threads = x.shape[0], x.shape[1], threads()
    task.x, task.node_ids, task.key = address(x), address(node_ids), int64(key)
    task.levels, task.scale = levels, random_bits.LEVELS / levels
    for name, value in fields.items():
        setattr(task, name, address(value) if value is None or isinstance(value, Tensor) else value)
    return task


def _attention_fields(real: Any) -> tuple[tuple[str, Any], ...]:
    return (
        *((name, ctypes.c_void_p) for name in ("indptr", "indices")),
        *((name, int64) for name in ("num_rows", "heads", "width")),
        *((name, ctypes.c_void_p) for name in ("row_score", "col_score", "col_x", "row_x")),
        *((name, ctypes.c_void_p) for name in ("shift", "grad_weight")),
        ("slope", real),
        *((name, ctypes.c_void_p) for name in ("out", "out_score")),
        *((name, ctypes.c_int) for name in ("kind", "threads")),
    )


class _AttentionTask32(ctypes.Structure):
    """`attention_task` of attention.h with float as REAL."""

    _fields_ = _attention_fields(ctypes.c_float)


class _AttentionTask64(ctypes.Structure):
    """The same with double."""

    _fields_ = _attention_fields(ctypes.c_double)


def attention_task(dtype: torch.dtype, **fields: Any) -> Any:
    """An attention task for `dtype`; tensors become addresses."""
    task = (_AttentionTask32 if dtype == torch.float32 else _AttentionTask64)()
    task.threads = threads()
    for name, value in fields.items():
        setattr(task, name, address(value) if value is None or isinstance(value, Tensor) else value)
    return task
