"""The command that does a run again."""

from __future__ import annotations

import shlex
from typing import Any

from bnsgcn.config import TrainConfig
from bnsgcn.own import Reference
from bnsgcn.record.recorded import RecordedRun


def command_again(run: RecordedRun) -> str:
    """What to type, or to write in Python, for the same run in a folder beside it."""
    facts = run.facts
    folder = f"{run.path}-again"
    if facts.own:
        return _in_python(run, folder)
    words = ["bnsgcn", "train"]
    if facts.launch:
        words = ["torchrun", "--nproc-per-node", str(facts.parts), "-m", "launch.train"]
    words += [str(facts.parts_dir), "--run-dir", folder]
    for name, value in changed(facts.config).items():
        option = name.replace("_", "-")
        words += (
            [f"--{'' if value else 'no-'}{option}"]
            if isinstance(value, bool)
            else [f"--{option}", str(value)]
        )
    return shlex.join(words)


def changed(config: TrainConfig) -> dict[str, Any]:
    """The options that are not at their defaults; whether it was resumed decides nothing."""
    default = TrainConfig().to_json()
    return {
        name: value for name, value in config.to_json().items() if value != default[name] and name != "resume"
    }


def _in_python(run: RecordedRun, folder: str) -> str:
    facts = run.facts
    own = {kind: str(Reference(**where)) for kind, where in facts.own.items()}
    given = [f"{name}={value!r}" for name, value in changed(facts.config).items() if name not in own]
    functions = [f"{kind}={name}" for kind, name in own.items()]
    lines = ",\n    ".join([repr(str(facts.parts_dir)), f"run_dir={folder!r}", *functions, *given])
    return f"bnsgcn.train(\n    {lines},\n)"
