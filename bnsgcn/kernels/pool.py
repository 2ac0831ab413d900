"""Memory for large matrices, kept by the process and handed out again when its tensor has died.

The C library gives every block above 32 MB back to the kernel when it is freed; the next matrix of the same
size is mapped and cleared page by page again. On 122,000 x 128 floats that makes a copy take 26 ms instead
of 4.5 ms, and every other pass over a fresh matrix likewise. An epoch asks for the same few sizes again and
again, so a block is lent once more for the size it was made for, or one not much smaller; blocks are never
split, so memory stays flat from the second epoch on (a heap told to keep what is freed grew by a fifth).
In 2 MiB pages.

Process-wide, as any allocator. CPU only: CUDA has torch's own.
"""

from __future__ import annotations

import bisect
import collections
import mmap
import os
import threading
import weakref

import numpy as np
import torch
from torch import Tensor

_PAGE = 1 << 21
_SMALLEST = 1 << 22
"""Smaller tensors come from torch, which does not give their memory back."""
_WASTE = 1.25
"""A block may be lent for a tensor that is this many times smaller."""

_NUMPY_DTYPES: dict[torch.dtype, type[np.generic]] = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.bfloat16: np.uint16,
}


class Pool:
    """Blocks of anonymous memory by size; a block returns when the tensor made of it dies.

    A tensor may die at any moment, in any thread and in the middle of `_take` (cycle collection): what comes
    back waits in a queue until the next block is taken.
    """

    def __init__(self) -> None:
        self._returned: collections.deque[mmap.mmap] = collections.deque()
        self._taking = threading.Lock()
        self._sizes: list[int] = []
        self._blocks: list[mmap.mmap] = []
        self.mapped_bytes = 0

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """An uninitialised tensor in memory of this pool."""
        count = int(np.prod(shape, dtype=np.int64))
        block = self._take(count * dtype.itemsize)
        array = np.frombuffer(block, dtype=_NUMPY_DTYPES[dtype], count=count).reshape(shape)
        # torch holds the array until the last tensor that shares its memory is gone.
        weakref.finalize(array, self._returned.append, block).atexit = False
        return torch.from_numpy(array).view(dtype)

    def _take(self, needed: int) -> mmap.mmap:
        size = -(-needed // _PAGE) * _PAGE
        with self._taking:
            self._collect_returned()
            place = bisect.bisect_left(self._sizes, size)
            if place < len(self._sizes) and self._sizes[place] <= _WASTE * size:
                del self._sizes[place]
                return self._blocks.pop(place)
            self.mapped_bytes += size
        return _map(size)

    def _collect_returned(self) -> None:
        while self._returned:
            block = self._returned.popleft()
            place = bisect.bisect_left(self._sizes, len(block))
            self._sizes.insert(place, len(block))
            self._blocks.insert(place, block)


def _map(size: int) -> mmap.mmap:
    """Anonymous memory in large pages; private, since shared memory has none."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return mmap.mmap(-1, size)
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    block.madvise(mmap.MADV_HUGEPAGE)
    return block


_pool = Pool()


def empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """An uninitialised tensor with the dtype and device of `like`, from the pool where it is large."""
    nbytes = int(np.prod(shape, dtype=np.int64)) * like.element_size()
    if like.device.type != "cpu" or nbytes < _SMALLEST or like.dtype not in _NUMPY_DTYPES:
        return torch.empty(shape, dtype=like.dtype, device=like.device)
    return _pool.empty(shape, like.dtype)


def prefer_large_pages() -> None:
    """Have torch's own allocator ask for 2 MiB pages too; before the first large tensor of a process."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
