"""Processes that begin with torch imported, forked from one that has imported it once for all.

A fresh interpreter takes more than a second of CPU for that, and most tests are about what a process does,
not how it starts. The fork server has one thread and has done nothing but import; what it forks gets its
variables, folder and streams from the caller, as a fresh process does. Tests that are about interpreters,
about launchers of their own, or about what is imported, start real ones.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any
from unittest import mock

PRELOADED = ["numpy", "scipy.sparse", "torch.distributed", "bnsgcn.run", "bnsgcn.predict", "tests.forked"]
WORKER = "bnsgcn.workers.worker"
FAULTS = Path(__file__).parent / "launch" / "faults" / "sitecustomize.py"
"""What a fresh interpreter imports when it begins, where a test says so."""


@functools.cache
def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    found = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    with mock.patch.dict(os.environ, found):
        forkserver.ensure_running()
    return context


class Stream:
    """A file descriptor of this process, for one that is started with it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> Any:
        return _received, (DupFd(self.fd),)


def _received(duplicate: Any) -> int:
    return int(duplicate.detach())


def start(body: Callable[..., object], *args: object) -> BaseProcess:
    """`body(*args)` in a process of its own, which ends with this one."""
    process = _server().Process(target=body, args=args, daemon=True)
    process.start()
    return process


def printed(script: str, environment: Mapping[str, str]) -> str:
    """What a Python script prints in a process of these variables.

    Raises:
        AssertionError: It fails.
    """
    with tempfile.TemporaryFile("w+") as out:
        process = start(_run, script, dict(environment), Stream(out.fileno()))
        process.join()
        out.seek(0)
        said = out.read()
    assert process.exitcode == 0, said
    return said.strip()


def _run(script: str, environment: dict[str, str], out: int) -> None:
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ.clear()
    os.environ.update(environment)
    exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})


class ForkedWorker:
    """What `subprocess.Popen` of `python -m bnsgcn.workers.worker FOLDER` is to the code that starts it."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], out: int, err: int) -> None:
        streams = Stream(out), Stream(err)
        self._process = start(_work, list(words), dict(environment), os.getcwd(), os.getpid(), *streams)
        self._process.name = WORKER

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        status = self._process.exitcode
        if status is None:
            raise subprocess.TimeoutExpired(WORKER, timeout or 0.0)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start_worker(
    words: Sequence[str], *, env: Mapping[str, str], stdout: Any, stderr: Any, stdin: int
) -> Any:
    """Takes the place of `subprocess.Popen`; a worker whose launcher looks for it in /proc is a fresh one."""
    assert list(words[:3]) == [sys.executable, "-m", WORKER], words
    if env.get("BNSGCN_TEST_FAULT", "").endswith(":stop"):
        return subprocess.Popen(words, env=env, stdin=stdin, stdout=stdout, stderr=stderr)
    out, err = (default if given is None else given.fileno() for default, given in ((1, stdout), (2, stderr)))
    return ForkedWorker(words[2:], env, out, err)


def workers_running() -> list[BaseProcess]:
    """Forked workers that have not ended."""
    return [process for process in multiprocessing.active_children() if process.name == WORKER]


def _work(
    words: list[str], environment: dict[str, str], folder: str, launcher: int, out: int, err: int
) -> None:
    """What a worker that was started as a program does, from its variables on."""
    import torch

    from bnsgcn.workers import worker

    os.dup2(out, 1)
    os.dup2(err, 2)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    installed = [path for path in sys.path if path.startswith((sys.prefix, sys.base_prefix))]
    sys.path[:] = [*environment["PYTHONPATH"].split(os.pathsep), *installed]
    sys.argv[:] = words
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    os.getppid = lambda: launcher  # of the fork server it is a child
    if "BNSGCN_TEST_FAULT" in environment:
        runpy.run_path(str(FAULTS))
    worker.main()
