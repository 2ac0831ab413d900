"""How tensors reach the functions of kernels.c: addresses, numbers of eight bytes, structures of both."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bnsgcn.kernels.protocol import LayerNorm, Moments
from bnsgcn.kernels.random_bits import Mask
from partition.errors import UserError
from partition.native import Native, load

REALS = {torch.float32: "f32", torch.float64: "f64"}
SUMMED = REALS | {torch.bfloat16: "bf16"}
"""Formats of rows that are summed."""
IDS = {torch.int32: "i32", torch.int64: "i64"}

_SOURCE = Path(__file__).with_name("kernels.c")
_VERSION = 2
"""Of the functions' arguments, as in kernels.c."""


def _pointers(*names: str) -> tuple[tuple[str, Any], ...]:
    return tuple((name, ctypes.c_void_p) for name in names)


def _integers(*names: str) -> tuple[tuple[str, Any], ...]:
    return tuple((name, ctypes.c_int64) for name in names)


def _floats(*names: str) -> tuple[tuple[str, Any], ...]:
    return tuple((name, ctypes.c_double) for name in names)


class Task(ctypes.Structure):
    """Many arguments in one structure; tensors become addresses, and stay alive as long as it does."""

    alive: tuple[Tensor | float | None, ...]

    @classmethod
    def of(cls, **fields: Tensor | float | None) -> Task:
        """A task for as many threads as torch uses; fields that are not named are zero."""
        task = cls()
        task.alive = tuple(fields.values())
        fields["threads"] = torch.get_num_threads()
        for name, value in fields.items():
            assert hasattr(cls, name), f"{cls.__name__} has no {name}"
            setattr(task, name, value.data_ptr() if isinstance(value, Tensor) else value)
        return task


class SumTask(Task):
    """`sum_task` of sum.h."""

    _fields_ = (
        *_pointers("indptr", "indices"),
        *_integers("num_rows", "num_arcs"),
        *_pointers("x"),
        *_integers("x_stride", "columns"),
        *_pointers("row_scale", "col_scale", "weights", "out"),
        *_integers("out_stride", "accumulate", "prefetch", "rows_at_once", "threads"),
    )


class NormTask(Task):
    """`norm_task` of dense.h."""

    _fields_ = (
        *_pointers("grad", "x", "out", "mean", "rstd", "weight", "bias"),
        *_pointers("grad_weight", "grad_bias", "node_ids"),
        *_integers("rows", "columns", "key", "levels"),
        *_floats("eps", "scale"),
        *_integers("threads"),
    )


class AttentionTask(Task):
    """`attention_task` of attention.h."""

    _fields_ = (
        *_pointers("indptr", "indices"),
        *_integers("num_rows", "heads", "width"),
        *_pointers("row_score", "col_score", "col_x", "row_x", "shift", "grad_weight"),
        *_floats("slope"),
        *_pointers("out", "out_score"),
        *_integers("kind", "threads"),
    )


def native() -> Native:
    """The compiled library, or why there is none."""
    return load(_SOURCE, (_VERSION, *(ctypes.sizeof(task) for task in (SumTask, NormTask, AttentionTask))))


class Library:
    """The functions of kernels.c.

    Raises:
        UserError: there is no compiler or it failed; the message says why.
    """

    def __init__(self) -> None:
        found = native()
        if found.library is None:
            raise UserError(f"{found.note}; or use --kernel torch")
        self._functions = found.library

    def call(self, name: str, *arguments: Tensor | Task | float | None) -> int:
        """What the function returns: a count, or 0.

        Raises:
            MemoryError: there is no memory for its scratch rows.
        """
        function = getattr(self._functions, name)
        function.restype = ctypes.c_int64
        result = int(function(*(_argument(value) for value in arguments)))
        if result < 0:
            raise MemoryError(f"no memory for the scratch rows of {name}")
        return result


def _argument(value: Tensor | Task | float | None) -> Any:
    """As C takes it: the address of a tensor (null for None) or task, an int64 or a double."""
    if value is None or isinstance(value, Tensor):
        return ctypes.c_void_p(None if value is None else value.data_ptr())
    if isinstance(value, Task):
        return ctypes.byref(value)
    return ctypes.c_double(value) if isinstance(value, float) else ctypes.c_int64(value)


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


def matching(vector: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A scale, weight or bias in `dtype`, its numbers one after another."""
    return None if vector is None else vector.detach().to(dtype).contiguous()


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


def norm_task(x: Tensor, moments: Moments, norm: LayerNorm, mask: Mask, **fields: Any) -> Task:
    """What both passes of the norm are given."""
    return NormTask.of(
        x=x.contiguous(),
        rows=x.shape[0],
        columns=x.shape[1],
        mean=moments.mean,
        rstd=moments.rstd,
        weight=matching(norm.weight, x.dtype),
        bias=matching(norm.bias, x.dtype),
        node_ids=row_ids(mask.node_ids, x.shape[0]),
        key=mask.key,
        levels=mask.levels,
        scale=mask.scale,
        **fields,
    )
