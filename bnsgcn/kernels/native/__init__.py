"""Our own kernels in C, compiled on first use: sums, attention, elementwise passes, rows by index."""
