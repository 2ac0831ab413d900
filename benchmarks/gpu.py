"""Everything about CUDA in one command: what runs here, how fast, and what was not run.

    python -m benchmarks.gpu --quick              two minutes
    python -m benchmarks.gpu                      at full size, within ten minutes
    python -m benchmarks.gpu --only kernels
    python -m benchmarks.gpu --only kernels --tune      the recorded tiles beside others

Needs torch 2.11 or newer, Triton and this package's files; without SciPy also parts made elsewhere, which
`python -m benchmarks.gpu_parts FOLDER` makes and --parts names. A section that cannot run says why and does
not stop the others; the record results/gpu.md names it under what was not run.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import gpu_epochs, gpu_interpreter, gpu_kernels, gpu_laws
from benchmarks.gpu_section import Options, Section
from benchmarks.measure import machine, write_record
from benchmarks.workloads import Skip

SECTIONS: dict[str, Callable[[Options], Section]] = {
    "laws": gpu_laws.measure,
    "kernels": gpu_kernels.measure,
    "epochs": gpu_epochs.measure,
    "interpreter": gpu_interpreter.measure,
}
"""Each in a file of its own; run in this order."""


@dataclasses.dataclass
class Findings:
    """What sections found, and why others found nothing."""

    bodies: list[str] = dataclasses.field(default_factory=list)
    raw: dict[str, Any] = dataclasses.field(default_factory=dict)
    not_run: list[str] = dataclasses.field(default_factory=list)
    failed: list[str] = dataclasses.field(default_factory=list)

    def run(self, name: str, measure: Callable[[Options], Section], options: Options) -> None:
        """Run one section; a failure is a finding too."""
        start = time.monotonic()
        print(f"{name} ...", flush=True)
        try:
            section = measure(options)
        except Skip as reason:
            self.not_run.append(f"{name}: {reason}")
            return
        except Exception as error:
            traceback.print_exc()
            self.failed.append(name)
            self.bodies.append(
                f"## {name}\n\nFAILED: `{type(error).__name__}: {(str(error).splitlines() or [''])[0]}`"
            )
            return
        took = time.monotonic() - start
        self.bodies.append(f"## {section.title}\n\n{section.body}\n\n({took:.0f} s)")
        self.raw[name] = section.raw
        self.failed += [f"{name}: {what}" for what in section.failed]
        self.not_run += [f"{name}: {what}" for what in section.not_run]


def device_line() -> str:
    """The GPU, and what drives it."""
    if not torch.cuda.is_available():
        return "No CUDA device: not run on a device."
    found = torch.cuda.get_device_properties(0)
    return (
        f"{found.name}, compute capability {found.major}.{found.minor}, "
        f"{found.total_memory / 2**30:.0f} GiB, {found.multi_processor_count} multiprocessors; "
        f"CUDA {torch.version.cuda}, {torch.cuda.device_count()} of them."
    )


def listed(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines) or "- nothing"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds")
    parser.add_argument(
        "--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS), metavar="SECTION"
    )
    parser.add_argument("--tune", action="store_true", help="try other tiles than the recorded ones")
    parser.add_argument("--parts", type=Path, default=None, help="parts made elsewhere")
    arguments = parser.parse_args()
    options = Options(quick=arguments.quick, tune=arguments.tune, parts=arguments.parts)
    before, findings = machine(), Findings()
    for name in arguments.only:
        findings.run(name, SECTIONS[name], options)
    left_out = [name for name in SECTIONS if name not in arguments.only]
    findings.not_run += [f"{name}: not asked for" for name in left_out]
    missing, failed = (listed(lines) for lines in (findings.not_run, findings.failed))
    write_record(
        "gpu",
        claim="What of the CUDA path ran here, and how fast.",
        body="\n\n".join(
            [device_line(), *findings.bodies, f"## Failed\n\n{failed}", f"## Not run\n\n{missing}"]
        ),
        raw=findings.raw | {"not_run": findings.not_run, "failed": findings.failed},
        does_not_show="other devices, several GPUs.",
        before=before,
    )
    raise SystemExit(1 if findings.failed else 0)


if __name__ == "__main__":
    main()
