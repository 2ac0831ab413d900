"""The builder of native code: compiled once, refused where others can write, made again when damaged."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from partition import native
from partition.native import load
from tests import forked

C = """
#include <stdint.h>
const int64_t native_layout[] = {2, 7, 16};
int64_t twice(int64_t x) { return 2 * x; }
"""
LAYOUT = (7, 16)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A C file, and a cache of its own."""
    monkeypatch.setenv("BNSGCN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BNSGCN_NATIVE", raising=False)
    load.cache_clear()
    folder = tmp_path / "sources"
    folder.mkdir()
    path = folder / "small.c"
    path.write_text(C)
    yield path
    load.cache_clear()


@pytest.fixture
def compiler(source: Path) -> str:
    try:
        return native._compiler()
    except ValueError as error:
        pytest.skip(str(error))


def kept(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "cache" / "native").iterdir())


def works(source: Path) -> bool:
    library = load(source, LAYOUT).library
    return library is not None and library.twice(21) == 42


def test_compiled_once_and_kept(
    source: Path, compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert works(source)
    (library,) = kept(tmp_path)
    assert load(source, LAYOUT).note == f"{library} by {compiler}"
    load.cache_clear()
    monkeypatch.setattr(native, "_compile", lambda *_: pytest.fail("compiled again"))
    assert works(source)


@pytest.mark.parametrize("damage", ["empty", "half", "a bit", "longer"])
def test_a_damaged_library_is_made_again(source: Path, compiler: str, tmp_path: Path, damage: str) -> None:
    """Loaded as it is, one cut short would end the process with SIGBUS."""
    library = native._library_file(source, compiler)
    whole = library.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 4
    damaged = {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "a bit": bytes(flipped),
        "longer": whole + b"x",
    }
    library.write_bytes(damaged[damage])
    assert works(source)
    assert library.read_bytes() == whole
    assert kept(tmp_path) == [library]


def race(source: Path, folder: Path, start: Path, results: Path) -> None:
    """One of several processes that begin when `start` is there."""
    os.environ["BNSGCN_CACHE"] = str(folder)
    results.with_suffix(".ready").touch()
    while not start.exists():
        time.sleep(0.001)
    results.write_text(str(works(source)))


def test_processes_that_compile_at_once_all_work(source: Path, compiler: str, tmp_path: Path) -> None:
    start, results = tmp_path / "start", [tmp_path / f"racer-{number}" for number in range(4)]
    racers = [forked.start(race, source, tmp_path / "cache", start, result) for result in results]
    while not all(result.with_suffix(".ready").exists() for result in results):
        time.sleep(0.01)
    start.touch()
    for racer in racers:
        racer.join()
    assert [result.read_text() for result in results] == ["True"] * 4
    (library,) = kept(tmp_path)
    before = library.stat().st_mtime_ns
    assert works(source)
    assert library.stat().st_mtime_ns == before, "the second time nothing is compiled"


def test_the_name_changes_with_all_that_the_library_depends_on(
    source: Path, compiler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [native._fingerprint(source, compiler)]
    assert native._fingerprint(source, compiler) == names[0]
    (source.parent / "part.h").write_text("int x;")
    names.append(native._fingerprint(source, compiler))
    monkeypatch.setattr(native, "_FLAGS", (*native._FLAGS, "-g"))
    names.append(native._fingerprint(source, compiler))
    monkeypatch.setattr(native, "_target", lambda _: "another processor")
    names.append(native._fingerprint(source, compiler))
    assert len(set(names)) == len(names)


def test_the_target_names_the_instruction_sets(compiler: str) -> None:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    for flag in ("avx2", "avx512f"):
        assert (f"__{flag.upper()}__" in native._target(compiler)) == (f" {flag} " in flags)


def test_another_layout_is_an_error(source: Path, compiler: str) -> None:
    with pytest.raises(RuntimeError, match=r"layout \(7, 16\), Python expects \(7, 24\)"):
        load(source, (7, 24))
    with pytest.raises(RuntimeError, match=r"expects \(7, 16, 8\)"):
        load(source, (7, 16, 8))


def test_what_the_compiler_says_is_kept(source: Path, compiler: str, tmp_path: Path) -> None:
    source.write_text('#include "nowhere.h"\n')
    found = load(source, LAYOUT)
    assert found.library is None
    assert "cannot compile small.c" in found.note
    assert "nowhere.h" in found.note
    assert kept(tmp_path) == []


def test_no_compiler_and_switched_off(source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", "")
    missing = load(source, LAYOUT)
    load.cache_clear()
    monkeypatch.setenv("BNSGCN_NATIVE", "off")
    off = load(source, LAYOUT)
    assert missing.library is off.library is None
    assert "no C compiler found" in missing.note
    assert "switched off by BNSGCN_NATIVE=off" in off.note


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_a_folder_that_others_can_write_is_refused(
    source: Path, compiler: str, tmp_path: Path, mode: int
) -> None:
    """Whoever can put a file there can run code as the user."""
    assert works(source)
    load.cache_clear()
    (tmp_path / "cache" / "native").chmod(mode)
    found = load(source, LAYOUT)
    assert found.library is None
    assert f"can be written by others (mode {mode & 0o777:o}); set BNSGCN_CACHE" in found.note


def test_a_folder_above_that_everybody_can_write_is_refused(
    source: Path, compiler: str, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    assert "cache can be written by everybody (mode 777)" in load(source, LAYOUT).note
    load.cache_clear()
    (tmp_path / "cache").chmod(0o777 | stat.S_ISVTX)  # as /tmp: nobody can replace what is another's
    assert works(source)


def test_a_folder_of_another_owner_is_refused(
    source: Path, compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert works(source)
    load.cache_clear()
    me = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: me + 1)
    assert f"belongs to user {me}, you are {me + 1}; set BNSGCN_CACHE" in load(source, LAYOUT).note


def test_a_link_is_judged_by_where_it_leads(source: Path, compiler: str, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "native").symlink_to(shared)
    assert "can be written by others" in load(source, LAYOUT).note


def test_a_cache_that_cannot_be_written_gives_way_to_a_temporary_one(
    source: Path, compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("a file, so no folder can be made in it")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert works(source)
    assert native.cache_folder() == tmp_path / f"bnsgcn-native-{os.getuid()}"
