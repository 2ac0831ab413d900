"""The whole `bnsgcn partition` on products-like beside DGL's METIS call alone: seconds, volume, balance.

    python -m benchmarks.partition_time                     2 and 8 parts, 3 rounds
    python -m benchmarks.partition_time --parts 8 --rounds 1

In a round each takes its turn in a process of its own: DGL's `metis_partition_assignment(objtype="vol")`
(the call alone, its graph made before the clock starts), pymetis with the cut objective (the call alone),
and the command `bnsgcn partition npz:FILE` from start to end, Python's start, reading and writing included.
Ratios are taken round by round.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import Spread, machine, table, write_record
from benchmarks.workloads import workload_path

PEERS = ("DGL vol", "pymetis cut")


def peer(name: str, path: Path, parts: int) -> None:
    """One call; prints its seconds and figures."""
    os.environ.setdefault("DGLBACKEND", "pytorch")
    import dgl
    import torch

    from benchmarks.partition_quality import figures
    from partition.adjacency import row_numbers
    from partition.assign.metis import metis_csr
    from partition.sources import load

    graph = load(f"npz:{path}")
    wide = graph.indices.astype("int64")
    target = torch.from_numpy(row_numbers(graph.indptr).astype("int64"))
    made = dgl.graph((torch.from_numpy(wide), target), num_nodes=graph.num_nodes)
    start = time.perf_counter()
    if name == "DGL vol":
        part_of = dgl.metis_partition_assignment(made, parts, objtype="vol").numpy().astype("int32")
    else:
        part_of = metis_csr(graph.adjacency, parts)
    print(json.dumps({"seconds": time.perf_counter() - start, **figures(graph, part_of, parts)}))


def run_peer(name: str, path: Path, parts: int) -> dict[str, Any]:
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "benchmarks.partition_time",
        "--peer",
        name,
        str(path),
        str(parts),
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def run_ours(path: Path, parts: int) -> dict[str, Any]:
    """The command, from start to end."""
    from partition.quality import inspect_parts

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "parts"
        command = [sys.executable, "-m", "launch.cli", "partition", f"npz:{path}", "--parts", str(parts)]
        start = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        if status != 0:
            raise RuntimeError(f"bnsgcn partition ended with status {status}: {said}")
        quality = inspect_parts(out)
        worst = quality.worst_over_mean
        return {
            "seconds": seconds,
            "peak_bytes": usage.ru_maxrss * 1024,
            "phases": next((line for line in said.splitlines() if ": read " in line), "").rpartition(": ")[2],
            "volume": quality.total_volume,
            "send": worst["send_rows"],
            "recv": worst["recv_rows"],
            "nodes": worst["inner_nodes"],
            "arcs": worst["arcs"],
            "train": worst["train_nodes"],
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workload", default="products-like")
    parser.add_argument("--parts", nargs="+", type=int, default=[2, 8])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shared", type=Path, default=None)
    parser.add_argument("--peer", nargs=3, metavar=("NAME", "FILE", "PARTS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        peer(options.peer[0], Path(options.peer[1]), int(options.peer[2]))
        return
    before = machine()
    path = workload_path(options.workload, options.shared)
    runs: dict[int, list[dict[str, Any]]] = {parts: [] for parts in options.parts}
    for turn in range(options.rounds):
        for parts in options.parts:
            found = {name: run_peer(name, path, parts) for name in PEERS}
            found["bnsgcn partition"] = run_ours(path, parts)
            runs[parts].append(found)
            print(
                turn, parts, {name: round(values["seconds"], 2) for name, values in found.items()}, flush=True
            )
    report(options.workload, runs, before)


def report(workload: str, runs: dict[int, list[dict[str, Any]]], before: dict[str, Any]) -> None:
    rows, claims = [], []
    for parts, rounds in runs.items():
        for name in rounds[0]:
            found = rounds[0][name]
            seconds = Spread.of([turn[name]["seconds"] for turn in rounds])
            ratio = Spread.of([turn[name]["seconds"] / turn["DGL vol"]["seconds"] for turn in rounds])
            loads = [f"{found[load]:.3f}" for load in ("send", "arcs", "nodes", "train")]
            rows.append([parts, name, seconds.show(), ratio.show(), f"{found['volume']:,}", *loads])
            if name == "bnsgcn partition":
                lowest = min(rounds[0][peer_name]["volume"] for peer_name in PEERS)
                claims.append(
                    f"{parts} parts: {found['volume'] / lowest:.3f} x the better peer's rows, worst send "
                    f"{found['send']:.3f}, worst arcs {found['arcs']:.3f}, {ratio.median:.2f} x DGL's call"
                )
    header = ["parts", "what", "seconds", "/ DGL's call", "rows sent"]
    header += [f"worst {load}" for load in ("send", "arcs", "nodes", "train")]
    ours = [turn["bnsgcn partition"] for rounds in runs.values() for turn in rounds]
    peak = max(values["peak_bytes"] for values in ours) / 2**30
    write_record(
        "partition_time",
        claim=f"{workload}, the whole command with reading and writing: " + "; ".join(claims) + ".",
        body=f"{table(header, rows)}\n\nMedian (quartiles) of {len(next(iter(runs.values())))} rounds. "
        f"Peak of ours: {peak:.2f} GiB. Phases of the last run: {ours[-1]['phases']}.",
        raw=runs,
        does_not_show="a cold disk cache, other graphs, or DGL's time to read and to write.",
        before=before,
    )


if __name__ == "__main__":
    main()
