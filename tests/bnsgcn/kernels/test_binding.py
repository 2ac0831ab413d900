"""What crosses between Python and C: structures field by field, and failures."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import pytest
import torch

import bnsgcn.kernels.native
from bnsgcn.kernels import Csr, Kernels, LayerNorm, Mask
from bnsgcn.kernels.native.binding import AttentionTask, Library, NormTask, SumTask
from bnsgcn.kernels.protocol import Moments
from partition.refine.compiled import SOURCE as ANNEAL
from partition.refine.compiled import CState

FOLDER = Path(bnsgcn.kernels.native.__file__).parent
TYPES = {"int64_t": ctypes.c_int64, "int32_t": ctypes.c_int32, "double": ctypes.c_double}


def fields_of(path: Path, name: str) -> list[tuple[str, type]]:
    """Names and types of a C structure's fields; every pointer is a c_void_p."""
    (body,) = re.findall(r"typedef struct \{([^{}]*)\} " + re.escape(name), path.read_text())
    found = []
    for declaration in re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL).split(";")[:-1]:
        kind, names = re.fullmatch(r"\s*(?:const )?(\w+)\s+(.*)", declaration, re.DOTALL).groups()
        for field in names.split(","):
            pointer = field.strip().startswith("*")
            found.append((field.strip(" *\n"), ctypes.c_void_p if pointer else TYPES[kind]))
    return found


@pytest.mark.parametrize(
    ("structure", "file", "name"),
    [
        (SumTask, FOLDER / "sum.h", "NAME(sum_task)"),
        (NormTask, FOLDER / "dense.h", "NAME(norm_task)"),
        (AttentionTask, FOLDER / "attention.h", "NAME(attention_task)"),
        (CState, ANNEAL, "State"),
    ],
)
def test_structures_agree_field_by_field(structure: type[ctypes.Structure], file: Path, name: str) -> None:
    """The size, which is checked at load, does not notice two fields that have changed places."""
    assert list(structure._fields_) == fields_of(file, name)


def test_a_task_has_no_other_fields() -> None:
    with pytest.raises(AssertionError, match="SumTask has no colums"):
        SumTask.of(colums=3)


def test_a_task_keeps_its_tensors() -> None:
    task = SumTask.of(x=torch.full((1000,), 7.0))
    others = [torch.zeros(1000) for _ in range(100)]
    assert ctypes.cast(task.x, ctypes.POINTER(ctypes.c_float))[999] == 7.0
    assert len(others) == 100


def empty_block() -> Csr:
    return Csr.of(torch.zeros(1, dtype=torch.int64), torch.empty(0, dtype=torch.int64), 0)


@pytest.mark.parametrize("threads", [1, 2])
def test_no_memory_for_scratch_rows_is_an_error(compiled: Kernels, threads: int) -> None:
    """Rows longer than an address space: none is there, but scratch for one would be needed."""
    before, huge = torch.get_num_threads(), 1 << 46
    x, mask = torch.empty(0, huge), Mask(torch.empty(0, dtype=torch.int64), 0, 0.5)
    moments, scores = Moments(torch.empty(0), torch.empty(0)), torch.empty(0, 1)
    try:
        torch.set_num_threads(threads)
        with pytest.raises(MemoryError, match="norm_forward_f32"):
            compiled.norm_relu_dropout(x, LayerNorm(), mask)
        with pytest.raises(MemoryError, match="norm_backward_f32"):
            compiled.norm_relu_dropout_backward(x, x, moments, LayerNorm(), mask)
        with pytest.raises(MemoryError, match="attention_f32_i32"):
            compiled.attention_sum(empty_block(), scores, scores, x[:, None], scores, 0.2)
    finally:
        torch.set_num_threads(before)


def test_an_unknown_function_is_an_error(compiled: Kernels) -> None:
    with pytest.raises(AttributeError, match="sum_rows_f16"):
        Library().call("sum_rows_f16")
