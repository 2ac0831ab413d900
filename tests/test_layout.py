"""What holds for the tree as a whole: who imports whom, where state may live, what documents say."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import bnsgcn
from launch.options import COMMANDS
from launch.parse import options_of

ROOT = Path(__file__).resolve().parent.parent
MAY_IMPORT = {"partition": {"partition"}, "bnsgcn": {"bnsgcn", "partition"}, "launch": set()}
PACKAGES = tuple(MAY_IMPORT)
PAGES = sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", *PAGES)
BANNED = {"ctx", "pos", "buf", "tmp", "info", "data", "util", "utils", "helper", "manager"}
THEIR_WORDS = {("graph.py", "data"), ("interchange.py", "data")}
"""PyTorch Geometric calls a graph so, and `Graph.from_pyg(data)` takes one."""
LONGEST_FILE, LONGEST_FUNCTION = 350, 60
"""Lines, as CONTRIBUTING.md tells."""
RANK_CALLS = {"get_rank", "get_world_size", "new_group", "init_process_group", "get_group_rank"}


def modules(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def breaches(package: str, source: str) -> list[str]:
    """Imports of one module that go the wrong way."""
    wrong = []
    for name in imported(ast.parse(source)):
        top = name.partition(".")[0]
        if top in PACKAGES and package != "launch" and top not in MAY_IMPORT[package]:
            wrong.append(name)
        if package == "partition" and name.startswith("torch.distributed"):
            wrong.append(name)
    return wrong


def test_imports_go_one_way() -> None:
    for package in PACKAGES:
        for path in modules(package):
            assert not breaches(package, path.read_text()), path
    assert breaches("partition", "from bnsgcn.config import TrainConfig")
    assert breaches("partition", "import torch.distributed as dist")
    assert breaches("bnsgcn", "import launch.cli")
    assert not breaches("launch", "import bnsgcn, partition.store")


ROOMS = (
    "fitting",
    "earlier",
    "shape",
    "policy_options",
    "config",
    "own",
    "capacity",
    "meeting",
    "device",
    "pending",
    "dist",
    "kernels",
    "record",
    "local",
    "exchange",
    "auto",
    "nn",
    "train",
    "plan",
    "run",
    "out",
    "predict",
    "show",
    "track",
    "workers",
    "api",
)
"""The folders and single files of bnsgcn, from the ground up; a room imports what comes before it."""


def by_name() -> dict[str, Path]:
    """Every module of the packages by its dotted name; a package by the folder's."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in modules(*PACKAGES)
    }


def imports_of(source: str, known: set[str]) -> set[str]:
    """The known modules that one imports, inside functions and for type checking too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in whole}
    return found & known


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle; empty when there are none."""
    left = {name: set(targets) - {name} for name, targets in graph.items()}

    def beside_circles() -> list[str]:
        used = set().union(*left.values())
        return [name for name, targets in left.items() if not targets & left.keys() or name not in used]

    while ends := beside_circles():
        for name in ends:
            del left[name]
    return sorted(left)


def too_high(graph: dict[str, set[str]]) -> list[str]:
    """Imports of bnsgcn that go up: 'importer -> imported'."""
    rank = {f"bnsgcn.{room}": place for place, room in enumerate(ROOMS)}

    def place(name: str) -> int:
        return rank.get(".".join(name.split(".")[:2]), -1)

    inside = [(name, target) for name, targets in graph.items() for target in targets if place(name) >= 0]
    return [f"{name} -> {target}" for name, target in inside if place(target) > place(name)]


def test_nothing_imports_upwards_and_nothing_in_a_circle() -> None:
    named = by_name()
    graph = {name: imports_of(path.read_text(), set(named)) for name, path in named.items()}
    assert not circle(graph)
    assert not too_high(graph)
    assert {name.split(".")[1] for name in named if name.startswith("bnsgcn.")} <= set(ROOMS)
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set(), "e": {"a"}}) == ["b", "c"]
    assert too_high({"bnsgcn.train.trainer": {"bnsgcn.plan.memory", "bnsgcn.config"}}) == [
        "bnsgcn.train.trainer -> bnsgcn.plan.memory"
    ]


def test_every_file_and_every_class_has_a_name_of_its_own() -> None:
    files = [path.stem for path in modules(*PACKAGES) if path.stem != "__init__"]
    assert not {name for name in files if files.count(name) > 1}
    trees = [ast.parse(path.read_text()) for path in modules(*PACKAGES)]
    classes = [node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    assert not {name for name in classes if classes.count(name) > 1}


def test_partitioning_needs_no_torch_and_other_methods_than_metis_no_pymetis() -> None:
    check = (
        "import sys\nsys.modules['pymetis'] = None\n"
        "import partition.build, partition.store, partition.quality\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


def test_a_worker_imports_nothing_that_only_sources_and_pictures_need() -> None:
    """13 MB of a worker's memory are scipy's."""
    check = (
        "import sys, bnsgcn.run, bnsgcn.workers.worker, bnsgcn.track.choice\n"
        "assert not {'scipy', 'matplotlib', 'dgl', 'ogb', 'torch_geometric', 'pymetis'} & set(sys.modules)\n"
        "assert not {'tensorboard', 'mlflow', 'wandb', 'triton'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


def rank_calls(source: str) -> list[str]:
    """Names of torch.distributed's questions about rank, size and groups that a module asks."""
    attributes = (node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute))
    return [name for name in attributes if name in RANK_CALLS]


def test_only_dist_asks_for_ranks_and_groups() -> None:
    for path in modules(*PACKAGES):
        if path != ROOT / "bnsgcn" / "dist.py":
            assert not rank_calls(path.read_text()), path
    assert rank_calls((ROOT / "bnsgcn" / "dist.py").read_text())


def names_bound(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Every name that is bound, and whether it is an argument of an autograd Function's method."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, False
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, False
            if isinstance(node, ast.FunctionDef):
                given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                for argument in given:
                    yield argument.arg, node.name in ("forward", "backward", "setup_context")


def test_names_say_what_things_are() -> None:
    for path in modules(*PACKAGES):
        found = {
            name
            for name, in_function in names_bound(ast.parse(path.read_text()))
            if name.lower() in BANNED
            and not (name == "ctx" and in_function)
            and (path.name, name) not in THEIR_WORDS
        }
        assert not found, f"{path}: {found}"
        assert path.stem not in BANNED, path
    assert ("info", False) in names_bound(ast.parse("info = 3"))


def test_no_module_keeps_distributed_state() -> None:
    """Nothing that a model or a trainer reaches is a module-level instance or a rebound global."""
    for path in modules("bnsgcn", "partition"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            assert not isinstance(node, ast.Global), f"{path}:{node.lineno} rebinds a global"
        for node in tree.body:
            value = getattr(node, "value", None)
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(value, ast.Call):
                made = ast.unparse(value.func)
                assert made.rpartition(".")[2] not in ("World", "Trainer", "SentBytes", "Spans", "Lane"), path


def test_nothing_is_unpickled_from_disk() -> None:
    loads = 0
    for path in modules(*PACKAGES):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                where = f"{path}:{node.lineno}"
                assert "pickle.load" not in called, where
                if called == "torch.load":
                    loads += 1
                    assert given.get("weights_only") == "True", where
                if called in ("np.load", "numpy.load"):
                    assert given.get("allow_pickle", "False") == "False", where
    assert loads


def test_randomness_has_a_seed() -> None:
    """No draw from a process-wide generator, and no generator without a seed."""
    for path in modules(*PACKAGES):
        text = path.read_text()
        assert not re.search(r"^\s*(import random|from random import)", text, re.MULTILINE), path
        assert "default_rng()" not in text, path
        assert not re.search(r"np\.random\.(seed|rand|randn|randint|choice|permutation|shuffle)\(", text), (
            path
        )


def test_files_and_functions_stay_readable() -> None:
    for path in modules(*PACKAGES, "benchmarks"):
        text = path.read_text()
        assert text.count("\n") <= LONGEST_FILE, f"{path} is long"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                assert length <= LONGEST_FUNCTION, f"{path}:{node.lineno} {node.name} has {length} lines"


def test_the_limits_are_those_that_contributors_are_told() -> None:
    told = (ROOT / "CONTRIBUTING.md").read_text()
    assert f"at most {LONGEST_FILE} lines a file, {LONGEST_FUNCTION} a function" in told


def test_nothing_is_left_to_do() -> None:
    marker = re.compile("TO" + "DO|FIX" + "ME|X" + "XX")
    for path in [*modules(*PACKAGES, "tests"), *(ROOT / name for name in DOCUMENTS)]:
        assert not marker.search(path.read_text()), path


def docstrings_and_comments(path: Path) -> str:
    tree = ast.parse(path.read_text())
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    texts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
    with path.open("rb") as file:
        texts += [
            token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT
        ]
    return "\n".join(texts)


FOREIGN_OPTIONS = {
    "help", "version", "nproc-per-node", "nnodes", "max-restarts", "rdzv-backend", "rdzv-id", "rdzv-endpoint",
    "rdzv-conf", "local-addr", "nodes", "gpus-per-node", "standalone", "index-url", "minutes", "write",
    "tag", "rm", "volume", "shm-size", "gpus",
}  # fmt: skip


def options_named(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--([a-z][a-z0-9-]*[a-z0-9])", text))


def known_options() -> set[str]:
    names = {option for command in COMMANDS for option in options_of(command)}
    return names | {f"no-{name}" for name in names} | FOREIGN_OPTIONS


@pytest.mark.parametrize("name", DOCUMENTS)
def test_options_that_documents_name_exist(name: str) -> None:
    assert not options_named((ROOT / name).read_text()) - known_options()


def test_options_that_docstrings_name_exist() -> None:
    for path in modules(*PACKAGES):
        assert not options_named(docstrings_and_comments(path)) - known_options(), path
    assert options_named("see --no-such-thing") - known_options()


def test_paths_that_documents_name_exist() -> None:
    for name in DOCUMENTS:
        for path in re.findall(
            r"`((?:partition|bnsgcn|launch|tests|benchmarks|examples)/[\w./-]*)`", (ROOT / name).read_text()
        ):
            assert (ROOT / path).exists(), f"{name} names {path}"


def test_public_names_are_there() -> None:
    for name in bnsgcn.__all__:
        assert getattr(bnsgcn, name).__name__.removeprefix("bnsgcn.") == name  # `train` is a room too
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = bnsgcn.nothing
    check = "import sys, bnsgcn\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_the_packages_say_that_they_are_typed() -> None:
    for package in PACKAGES:
        assert (ROOT / package / "py.typed").exists()
