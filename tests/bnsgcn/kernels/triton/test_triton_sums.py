"""Row sums against torch's kernels on CPU: number formats, scales, weights, ids, odd widths, empty rows."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from bnsgcn.kernels import Block, Csr, Kernels
from bnsgcn.kernels.autograd import sum_block
from tests.bnsgcn.kernels.dense_blocks import block_of, random_block, weighted_block

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 2e-2, torch.float16: 2e-3}
CASES = [
    # rows, columns, features, density, dtype, ids, weighted, row scale, column scale, out given
    (13, 9, 5, 0.4, torch.float32, torch.int32, False, False, False, False),
    (13, 9, 33, 0.4, torch.float32, torch.int64, True, True, True, True),
    (5, 20, 47, 0.9, torch.float64, torch.int32, True, False, True, False),
    (9, 7, 130, 0.5, torch.float64, torch.int64, False, True, True, True),
    (9, 7, 40, 0.5, torch.bfloat16, torch.int32, True, True, True, False),
    (9, 7, 17, 0.5, torch.float16, torch.int32, False, True, False, True),
    (3, 4, 300, 0.7, torch.float32, torch.int32, False, False, True, False),
    (9, 7, 1, 0.5, torch.float32, torch.int32, True, True, True, True),
    (6, 6, 8, 0.0, torch.float32, torch.int32, False, True, False, False),
    (0, 6, 8, 0.0, torch.float32, torch.int32, False, True, False, False),
    (6, 0, 8, 0.0, torch.float32, torch.int32, False, False, False, True),
]


@pytest.mark.parametrize("case", CASES)
def test_equals_torchs_sum(
    kernels: Kernels, reference: Kernels, device: torch.device, way: str, case: tuple[object, ...]
) -> None:
    rows, cols, features, density, dtype, ids, weighted, *scaled = case
    csr, _ = (weighted_block if weighted else random_block)(rows, cols, density, 3)  # type: ignore[arg-type]
    csr = dataclasses.replace(csr, indptr=csr.indptr.to(ids), indices=csr.indices.to(ids))  # type: ignore[arg-type]
    x = torch.randn(cols, features).to(dtype)  # type: ignore[arg-type]
    row_scale = torch.rand(rows).to(x.dtype) if scaled[0] else None  # type: ignore[arg-type]
    col_scale = torch.rand(cols).to(x.dtype) if scaled[1] else None  # type: ignore[arg-type]
    out = torch.randn(rows, features).to(x.dtype) if scaled[2] else None  # type: ignore[arg-type]
    wide = [None if given is None else given.double() for given in (row_scale, col_scale, out)]
    wanted = reference.sum_rows(csr, x.double(), row_scale=wide[0], col_scale=wide[1], out=wide[2])
    there = [None if given is None else given.to(device) for given in (row_scale, col_scale, out)]
    result = kernels.sum_rows(
        csr.to(device), x.to(device), row_scale=there[0], col_scale=there[1], out=there[2]
    )
    assert result.dtype == x.dtype
    assert there[2] is None or result.data_ptr() == there[2].data_ptr()
    tolerance = TOLERANCE[x.dtype]
    torch.testing.assert_close(result.cpu().double(), wanted, atol=tolerance, rtol=tolerance)


def test_the_comparison_notices_sums_that_are_left_waiting(
    kernels: Kernels, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bnsgcn.kernels.triton import row_schedule, row_sums

    csr, dense = random_block(12, 20, 0.6, seed=4)
    x = torch.randn(20, 5)
    monkeypatch.setattr(row_schedule, "longest_segment", lambda rows, arcs: 4)
    monkeypatch.setattr(row_sums, "add_waiting", lambda *_, **__: None)
    out = torch.zeros(12, 5, device=device)
    result = kernels.sum_rows(csr.to(device), x.to(device), out=out).cpu().double()
    assert not torch.allclose(result, dense @ x.double(), atol=0.1)


def test_bf16_rows_are_summed_in_float32(kernels: Kernels, device: torch.device) -> None:
    """257 ones: bfloat16 would stop at 256. The sum may be asked for as float32."""
    csr = block_of(torch.ones(1, 257, dtype=torch.bool)).to(device)
    ones = torch.ones(257, 3, dtype=torch.bfloat16, device=device)
    out = torch.zeros(1, 3, device=device)
    kernels.sum_rows(csr, ones, out=out)
    assert out.tolist() == [[257.0] * 3]


def test_takes_column_slices_and_transposed_matrices(kernels: Kernels, device: torch.device) -> None:
    csr, dense = random_block(10, 8, 0.5, seed=2)
    both, room = torch.randn(8, 60, device=device), torch.randn(10, 60, device=device)
    before = room.clone()
    kernels.sum_rows(csr.to(device), both[:, 30:], out=room[:, :30])
    wanted = before[:, :30].cpu().double() + dense @ both[:, 30:].cpu().double()
    torch.testing.assert_close(room[:, :30].cpu().double(), wanted, atol=1e-5, rtol=1e-5)
    assert torch.equal(room[:, 30:], before[:, 30:])
    x = torch.randn(5, 8, device=device).t()
    result = kernels.sum_rows(csr.to(device), x)
    torch.testing.assert_close(result.cpu().double(), dense @ x.cpu().double(), atol=1e-5, rtol=1e-5)


def test_bitwise_the_same_every_time_and_weights_of_1_change_no_bit(
    kernels: Kernels, device: torch.device, way: str
) -> None:
    csr = random_block(20, 30, 0.4, seed=5)[0].to(device)
    x, scale = torch.randn(30, 20, device=device), torch.rand(20, device=device)
    ones = dataclasses.replace(csr, weights=torch.ones(csr.num_arcs, device=device))
    again = dataclasses.replace(csr, indptr=csr.indptr.clone())  # a schedule of its own
    first, *others = [kernels.sum_rows(block, x, row_scale=scale) for block in (csr, csr, again, ones)]
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("make", [random_block, weighted_block])
def test_gradients(kernels: Kernels, device: torch.device, make: object) -> None:
    csr: Csr = make(4, 5, 0.5, 6)[0].to(device)  # type: ignore[operator]
    scales = [torch.rand(size, dtype=torch.float64, device=device) for size in (4, 5)]
    x = torch.randn(5, 2, dtype=torch.float64, device=device, requires_grad=True)
    base = torch.randn(4, 2, dtype=torch.float64, device=device, requires_grad=True)
    block = Block(csr, kernels)

    def total(x: Tensor, base: Tensor) -> Tensor:
        return sum_block(block, x, row_scale=scales[0], col_scale=scales[1], addend=base * 2)

    assert torch.autograd.gradcheck(total, (x, base), fast_mode=True)


def test_a_matrix_of_another_height_is_refused(kernels: Kernels, device: torch.device) -> None:
    csr = random_block(9, 12, 0.5, seed=3)[0].to(device)
    with pytest.raises(ValueError, match=r"\(11, 4\).*12 columns"):
        kernels.sum_rows(csr, torch.randn(11, 4, device=device))


@pytest.mark.parametrize("longest", [1, 3, 4, 100])
@pytest.mark.parametrize("seed", range(3))
def test_a_schedule_has_every_arc_once_and_in_order(device: torch.device, longest: int, seed: int) -> None:
    from bnsgcn.kernels.triton.row_schedule import make_schedule

    csr, _ = random_block(17, 40, (0.0, 0.2, 0.9)[seed], seed)
    csr = Csr.of(torch.cat([csr.indptr, csr.indptr[-1:].expand(3)]), csr.indices, 40)
    schedule = make_schedule(csr.to(device), longest)
    segments, slots = schedule.segments, {}
    covered: dict[int, list[int]] = {row: [] for row in range(csr.num_rows)}
    lengths = []
    pieces = [segments.start, segments.stop, segments.row]
    pieces.append(torch.full_like(segments.row, -1) if segments.slot is None else segments.slot)
    for start, stop, row, slot in zip(*(piece.tolist() for piece in pieces), strict=True):
        lengths.append((stop - start).bit_length() if row >= 0 else -1)
        if row < 0:
            assert (start, stop, slot) == (0, 0, -1)
        elif slot >= 0:
            slots[slot] = (row, start, stop)
        else:
            covered[row].append((start, stop))  # type: ignore[arg-type]
    assert lengths == sorted(lengths, reverse=True)
    assert all(slot < schedule.slots for slot in slots)
    if schedule.split is not None:
        split = schedule.split
        for start, stop, row in zip(*(p.tolist() for p in (split.start, split.stop, split.row)), strict=True):
            if row >= 0:
                covered[row] = [slots.pop(slot)[1:] for slot in range(start, stop)]
    assert not slots
    ends = csr.indptr.tolist()
    for row, found in covered.items():
        assert all(b - a <= longest for a, b in found)
        assert [arc for a, b in found for arc in range(a, b)] == list(range(ends[row], ends[row + 1]))


def test_schedules_are_made_once_a_block(kernels: Kernels, device: torch.device) -> None:
    from bnsgcn.kernels.triton.row_schedule import Schedules

    csr, schedules = random_block(9, 12, 0.5, seed=3)[0].to(device), Schedules()
    weighted = dataclasses.replace(csr, weights=torch.ones(csr.num_arcs, device=device))
    assert schedules.of(csr) is schedules.of(weighted)


@pytest.mark.gpu
def test_a_matrix_beyond_int32(device: torch.device, kernels: Kernels) -> None:
    if device.type == "cpu":
        pytest.skip("four gigabytes: on a GPU only")
    rows = 2**31 // 64 + 1_000
    x = torch.ones(rows, 64, dtype=torch.bfloat16, device=device)
    x[-1] = 3
    last = torch.full((40,), rows - 1, device=device)
    csr = Csr.of(torch.tensor([0, 40, 40], device=device), last, rows)
    assert kernels.sum_rows(csr, x).tolist() == [[120.0] * 64, [0.0] * 64]
    assert kernels.gather_rows(x, last[:2]).tolist() == [[3.0] * 64] * 2
