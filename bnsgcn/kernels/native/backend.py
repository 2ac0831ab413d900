"""Our own kernels in C (native*.h): float32 and float64 on CPU; anything else takes the torch path.

Results are bitwise the same for any number of threads: a row is summed by one thread in the order of its
arcs, and sums over rows are made of chunks of a fixed size.
"""

from __future__ import annotations

from bnsgcn.kernels.native.compiled_blocks import CompiledBlocks
from bnsgcn.kernels.native.compiled_elementwise import CompiledElementwise
from bnsgcn.kernels.native.compiled_rows import CompiledRows


class CompiledKernels(CompiledBlocks, CompiledRows, CompiledElementwise):
    """Compiled C where it applies, torch elsewhere."""

    name = "compiled"
