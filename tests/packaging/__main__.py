"""`python -m tests.packaging`: builds sdist and wheel, and tries the wheel in clean environments.

One for every Python from 3.10 to 3.13 that is on PATH, that pyenv has, or that uv fetches. The wheel is built
from the sdist, so a file that the sdist lacks is lacking everywhere; both are compared with the tree. What is
installed is tried outside the checkout: every module, the commands, a run of two workers.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("partition", "bnsgcn", "launch")
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
IMPORT_ALL = """
import importlib, pkgutil, sys
for package in ("partition", "bnsgcn", "launch"):
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        if not found.name.endswith("__main__") and "dgl" not in found.name.rpartition(".")[2]:
            importlib.import_module(found.name)
assert "site-packages" in sys.modules["bnsgcn"].__file__, sys.modules["bnsgcn"].__file__
"""


def main() -> int:
    """0 when every Python that there is passes."""
    parser = argparse.ArgumentParser(prog="python -m tests.packaging", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder of sdist and wheel")
    parser.add_argument("--versions", nargs="+", default=VERSIONS, help="of Python")
    parser.add_argument("--no-fetch", action="store_true", help="try the Pythons that are here alone")
    options = parser.parse_args()
    wheel = build(options.out)
    print(f"built {wheel.name} and its sdist in {options.out}", flush=True)
    failed = []
    with tempfile.TemporaryDirectory(prefix="bnsgcn-packaging-") as name:
        for version in options.versions:
            python, why = interpreter(version, Path(name), fetch=not options.no_fetch)
            folder = Path(name) / f"on-{version}"
            problem = tried(python, wheel, folder) if python else ""
            shutil.rmtree(folder, ignore_errors=True)  # an environment takes gigabytes
            print(f"python {version:<5} {problem or 'passed' if python else f'not tried: {why}'}", flush=True)
            failed += [version] if problem else []
    return 1 if failed else 0


def build(out: Path) -> Path:
    """The wheel in `out`, made from the sdist beside it; both hold what they should."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(ROOT / "build", ignore_errors=True)
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(out), str(ROOT)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    for where, held, wanted in (
        ("sdist", in_sdist, set(tracked)),
        (
            "wheel",
            in_wheel,
            {name for name in tracked if name.startswith(tuple(f"{each}/" for each in PACKAGES))},
        ),
    ):
        if missing := sorted(wanted - held):
            raise SystemExit(f"the {where} lacks {', '.join(missing)}; see MANIFEST.in and setup.cfg")
    return wheel


def interpreter(version: str, work: Path, *, fetch: bool) -> tuple[Path | None, str]:
    """A Python of that version, or None and why there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    named = shutil.which(f"python{version}")
    places = [*sorted(pyenv.glob(f"{version}.*/bin/python")), *([Path(named)] if named else [])]
    for place in places:
        if answers(place, version):
            return place, ""
    return fetched(version, work) if fetch else (None, "it is not here")


def answers(python: Path, version: str) -> bool:
    """Whether it runs and is of the version; a shim of pyenv may not."""
    asked = [str(python), "-c", "import sys, ensurepip; print('%d.%d' % sys.version_info[:2])"]
    ended = subprocess.run(asked, capture_output=True, text=True, check=False)
    return ended.stdout.strip() == version


def fetched(version: str, work: Path) -> tuple[Path | None, str]:
    """A Python that uv fetches, into a throw-away environment."""
    home = work / "uv"
    environment = os.environ | {"UV_PYTHON_INSTALL_DIR": str(work / "pythons")}

    def said(*words: str) -> str:
        return subprocess.run(
            words, check=True, capture_output=True, text=True, env=environment
        ).stdout.strip()

    try:
        if not home.exists():
            said(sys.executable, "-m", "venv", str(home))
            said(str(home / "bin/pip"), "install", "-qq", "uv")
        said(str(home / "bin/uv"), "python", "install", version)
        return Path(said(str(home / "bin/uv"), "python", "find", version)), ""
    except (OSError, subprocess.CalledProcessError) as error:
        lines = str(getattr(error, "stderr", "") or error).strip().splitlines()
        return None, f"it is not here and cannot be fetched ({lines[-1].strip()})"


def tried(python: Path, wheel: Path, folder: Path) -> str:
    """What went wrong with the wheel in a clean environment, in one line; empty if nothing did."""
    folder.mkdir()
    inside, bnsgcn = str(folder / "venv/bin/python"), str(folder / "venv/bin/bnsgcn")
    pinned = ("-c", str(ROOT / "constraints.txt"))
    steps: tuple[tuple[str, ...], ...] = (
        (str(python), "-m", "venv", "venv"),
        (inside, "-m", "pip", "install", "-qq", *pinned, f"{wheel}[export]"),
        (inside, "-m", "pip", "check"),
        (inside, "-c", IMPORT_ALL),
        (bnsgcn, "--version"),
        (bnsgcn, "doctor"),
        (
            bnsgcn,
            "train",
            "synthetic:nodes=2000",
            "--run-dir",
            "run",
            "--cache-dir",
            "parts",
            "--epochs",
            "6",
        ),
        (bnsgcn, "evaluate", "run", "--json"),
        (bnsgcn, "predict", "run", "--out", "logits.npy"),
        (bnsgcn, "export", "run", "--to", "safetensors"),
        (inside, "-m", "launch.recipes", "reddit", "train.sbatch"),
    )
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    clean["BNSGCN_CACHE"] = str(folder / "kernels")
    for words in steps:
        ended = subprocess.run(words, cwd=folder, env=clean, capture_output=True, text=True, check=False)
        if ended.returncode != 0:
            last = (ended.stderr.strip() or ended.stdout.strip() or "nothing was said").splitlines()[-1]
            return f"failed: {' '.join(words)[:120]!r}: {last}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
