"""For how many machines a graph is cut before it is trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launch.options import Train
from launch.parts import parts_of
from partition.errors import UserError
from partition.manifest import MANIFEST


def quiet(_: str) -> None:
    return


def test_torchruns_layout_decides_where_it_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four workers, two a machine; one machine without torchrun, or with other parts than workers."""
    source = "synthetic:nodes=60,degree=4,features=2,classes=2,communities=2"

    def hosts_of(**options: object) -> int:
        given = {"source": source, "run_dir": tmp_path / "run", "cache_dir": tmp_path / "cache", **options}
        return int(json.loads((parts_of(Train(**given), quiet) / MANIFEST).read_text()).get("hosts", 1))

    assert hosts_of(parts=4) == 1
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert hosts_of() == 2
    assert hosts_of(parts=2) == 1
    assert hosts_of(method="random") == 1
    with pytest.raises(UserError, match=r"each would cut another way; cut once with .* --hosts 2"):
        hosts_of(method="kahypar")
