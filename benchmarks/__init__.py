"""Runnable measurements and, under results/, their records. `python -m benchmarks.all` runs every one."""
