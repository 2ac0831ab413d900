"""Memory of dead matrices is lent again, and only then."""

from __future__ import annotations

import resource
import threading

import torch

from bnsgcn.kernels.pool import Pool, empty

LIKE = torch.empty(0)
SHAPE = (20_000, 128)


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def test_a_matrix_made_again_takes_the_same_memory() -> None:
    first = empty(SHAPE, LIKE).zero_()
    address = first.data_ptr()
    del first
    before = page_faults()
    for _ in range(20):
        again = empty(SHAPE, LIKE).zero_()
        assert again.data_ptr() == address
        del again
    assert page_faults() - before < SHAPE[0] * SHAPE[1] * 4 // 4096


def test_living_tensors_never_share_memory() -> None:
    pool = Pool()
    matrices = [pool.empty(SHAPE, torch.float32).fill_(value) for value in range(5)]
    view = matrices[3][10:20]
    del matrices[3]
    others = [pool.empty(SHAPE, torch.float32).fill_(100 + value) for value in range(3)]
    assert bool((view == 3).all()), "a view keeps its memory from being lent again"
    for value, matrix in zip((0, 1, 2, 4), matrices, strict=True):
        assert bool((matrix == value).all())
    assert [float(other[0, 0]) for other in others] == [100, 101, 102]


def test_memory_is_flat_when_sizes_repeat() -> None:
    pool = Pool()
    mapped = []
    for _ in range(5):
        kept = [pool.empty((rows, 128), torch.float32) for rows in (20_000, 9_000, 20_000, 15_000)]
        del kept[1], kept[0]
        kept += [pool.empty((9_000, 128), torch.float32), pool.empty((19_000, 128), torch.float32)]
        del kept
        mapped.append(pool.mapped_bytes)
    assert len(set(mapped)) == 1


def test_threads_and_cycles_never_get_the_same_block() -> None:
    """Several threads make, check and drop matrices; some die with a reference cycle, at any time."""
    pool, wrong = Pool(), []

    def work(value: int) -> None:
        for turn in range(40):
            matrix = pool.empty((10_000 + 700 * (turn % 3), 110), torch.float32).fill_(value)
            if turn % 4 == 0:
                cycle: list[object] = [matrix]
                cycle.append(cycle)
            if not bool((matrix == value).all()):
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_much_larger_block_is_not_lent() -> None:
    pool = Pool()
    large = pool.empty((200_000, 128), torch.float32)
    address = large.data_ptr()
    del large
    assert pool.empty(SHAPE, torch.float32).data_ptr() != address


def test_small_and_other_tensors_come_from_torch() -> None:
    assert empty((10, 10), LIKE).shape == (10, 10)
    assert empty(SHAPE, LIKE.half()).dtype == torch.float16
    assert empty(SHAPE, LIKE.double()).dtype == torch.float64


def test_a_gradient_flows_through_pooled_memory() -> None:
    x = empty(SHAPE, LIKE).fill_(2.0).requires_grad_()
    (x * x).sum().backward()
    assert x.grad is not None
    assert bool((x.grad == 4).all())
