"""Every measurement, one after the other; records under benchmarks/results/.

    python -m benchmarks.all --quick             a few minutes: small graphs, few rounds; shows that all runs
    python -m benchmarks.all                     full size: timings, then the studies (hours on two cores)
    python -m benchmarks.all --only epoch link

Timings first, while nothing else runs. A measurement that cannot run here says why and does not stop the
others.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from benchmarks.workloads import ROOT, cache_folder

FULL: dict[str, list[str]] = {
    "epoch": [],
    "limit": [],
    "link": [],
    "plan_accuracy": [],
    "growth": [],
    "sparse_features": [],
    "memory": [],
    "kernels": [],
    "partition_time": [],
    "partition_order": [],
    "partition_quality": [],
    "partition_hosts": [],
    "partition_large": [],
    "new_nodes": [],
    "variance": [],
    "wire_error": [],
    "error_per_byte": [],
    "auto_cost": [],
    "scores": [],
    "tuned": [],
    "initial_weights": [],
    "accuracy": [],
}
QUICK: dict[str, list[str]] = {
    "epoch": ["small", "--rounds", "2", "--epochs", "2"],
    "limit": ["small", "--rounds", "2"],
    "link": ["small", "--rounds", "2", "--epochs", "2"],
    "plan_accuracy": ["--only", "sage:small:2"],
    "growth": ["small", "--rounds", "2"],
    "sparse_features": ["--nodes", "4000", "--rounds", "2", "--epochs", "2"],
    "memory": ["small", "--epochs", "40"],
    "new_nodes": ["--graph", "small", "--nodes", "100", "--repeats", "1"],
    "variance": ["--graphs", "cora", "--rates", "0.1", "--epochs", "15"],
    "wire_error": ["--graphs", "cora", "--cuts", "random:2", "--epochs", "14"],
    "error_per_byte": ["--graphs", "cora", "--cuts", "random:2"],
    "auto_cost": ["small", "--rounds", "2", "--epochs", "2"],
    "scores": ["--graphs", "cora", "--seeds", "1", "--parts", "1", "2"],
    "tuned": ["--cases", "cora", "--seeds", "1", "--parts", "1", "2"],
    "initial_weights": ["--graphs", "cora", "--seeds", "1"],
    "accuracy": ["--graphs", "cora", "--cuts", "random:2", "--seeds", "1"],
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small settings; records go to the cache folder")
    parser.add_argument("--only", nargs="*", choices=list(FULL), default=None)
    options = parser.parse_args()
    chosen = QUICK if options.quick else FULL
    places = {"BNSGCN_BENCH_RESULTS": str(cache_folder() / "quick")} if options.quick else {}
    failed = []
    for name, arguments in chosen.items():
        if options.only and name not in options.only:
            continue
        print(f"== {name}", flush=True)
        start = time.monotonic()
        command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
        if subprocess.run(command, cwd=ROOT, env={**os.environ, **places}).returncode:
            failed.append(name)
        print(f"== {name}: {time.monotonic() - start:.0f} s\n", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
