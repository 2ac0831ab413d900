"""What can be asked for on the command line: one frozen dataclass a command.

Docstrings are the help texts, which fields.py reads. Nothing here imports torch, so that `--help` answers
at once.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

from bnsgcn.config import TrainConfig
from launch.fields import Positional
from partition.errors import UserError

CACHE = Path("~/.cache/bnsgcn/parts")
MOST_LAYERS, MOST_HIDDEN = 10_000, 10_000_000
"""Beyond these a model is a slip of the keyboard."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Partition:
    """Cut a graph into parts on disk."""

    source: Annotated[str, Positional("SOURCE")]
    """The graph: synthetic, npz:FILE, ogb:ogbn-products, dgl:reddit, pyg:Planetoid/Cora. Options follow,
    joined by commas: synthetic:nodes=20000,degree=20 (also features, classes, communities, seed)."""
    parts: int
    """Number of parts; one worker trains each."""
    out: Path
    """New folder for the parts."""
    method: str = "metis"
    """metis, kahypar (fewer rows, slower; an extra), random, streaming[:ldg|:fennel] and coarse (for graphs
    that METIS cannot hold), file:ASSIGNMENT.npy (one part index a node), source (a folder of DGL parts)."""
    objective: Literal["volume", "cut"] = "volume"
    """What METIS minimises: rows to send, or edges between parts."""
    seed: int = 0
    """Seed of the partitioner."""
    refine: bool = True
    """Lower the largest part's rows sent and uneven work after METIS (not with --objective cut)."""
    hosts: int = 1
    """Machines that train together: parts are cut for machines first, then for the workers of each."""
    starts: int = 0
    """METIS runs of which the best is kept; 0 = a number that suits the size."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Repartition:
    """Cut the graph of a folder of parts into other parts, without its source."""

    folder: Annotated[Path, Positional("DIR")]
    """Folder of parts, made by bnsgcn partition."""
    parts: int
    """Number of parts; one worker trains each."""
    out: Path
    """New folder for the parts."""
    method: str = "metis"
    """metis, kahypar, random, streaming[:ldg|:fennel], coarse, file:ASSIGNMENT.npy (a part index a node)."""
    objective: Literal["volume", "cut"] = "volume"
    """What METIS minimises: rows to send, or edges between parts."""
    seed: int = 0
    """Seed of the partitioner."""
    refine: bool = True
    """Lower the largest part's rows sent and uneven work after METIS (not with --objective cut)."""
    hosts: int = 1
    """Machines that train together: parts are cut for machines first, then for the workers of each."""
    starts: int = 0
    """METIS runs of which the best is kept; 0 = a number that suits the size."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspect:
    """Show what a folder of parts costs: balance, halo slots, rows sent."""

    folder: Annotated[Path, Positional("DIR")]
    """Folder of parts, made by bnsgcn partition."""
    hosts: int = 0
    """Machines between which rows are counted; 0 = those that the parts were cut for."""
    json: bool = False
    """Print JSON instead of a table."""
    plot: Path | None = None
    """Also draw who sends how much to whom, and each part's load."""
    layers: int = 3
    """Layers of the model whose memory is estimated."""
    hidden: int = 128
    """Width of its hidden layers."""

    def __post_init__(self) -> None:
        _within("layers", self.layers, 1, MOST_LAYERS)
        _within("hidden", self.hidden, 1, MOST_HIDDEN)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """Predict memory, bytes and epoch time of a run before it is run."""

    folder: Annotated[Path, Positional("DIR")]
    """Folder of parts, made by bnsgcn partition."""
    grid: bool = False
    """Compare wire dtypes, sampling rates, pipeline and smoothing, and choose."""
    calibrate: bool = False
    """First train some epochs here, with a worker a part, and take rates, delays and memory from them."""
    link_gbit_s: float | None = None
    """What the link of one worker carries each way, Gbit/s, each worker on a machine like this one; if not
    given, all workers are on this machine."""
    memory_gb: float | None = None
    """What a worker may use at most, GB; only plans that fit are chosen."""
    json: bool = False
    """Print JSON instead of a table."""
    options: TrainConfig = dataclasses.field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if self.link_gbit_s is not None and not self.link_gbit_s > 0:
            raise UserError(
                f"--link-gbit-s is {self.link_gbit_s:g}, must be above 0; leave it out for one machine"
            )
        if self.memory_gb is not None and not self.memory_gb > 0:
            raise UserError(f"--memory-gb is {self.memory_gb:g}, must be above 0; leave it out for no limit")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """Train on one worker a part, then print the score."""

    source: Annotated[str, Positional("DIR|SOURCE")]
    """Folder of parts, or a graph (see bnsgcn partition --help), which is cut into parts once and kept."""
    run_dir: Path
    """Folder of this run: records, checkpoints, summary."""
    parts: int | None = None
    """Parts, and so workers, into which a SOURCE is cut: 2 if not given."""
    method: str = "metis"
    """How a SOURCE is cut; see bnsgcn partition --help."""
    objective: Literal["volume", "cut"] = "volume"
    """What METIS minimises when it cuts a SOURCE."""
    cache_dir: Path = CACHE
    """Where the parts of a SOURCE are kept."""
    seeds: str | None = None
    """Train once with each of these seeds, such as 0-9 or 0,3,7, in RUN/seed_K, and show mean and standard
    deviation; with --resume, what has ended is left as it is."""
    quiet: bool = False
    """Say nothing but errors, and at the end the line with the score."""
    json: bool = False
    """Print a line of JSON at the start, after every epoch and at the end, and nothing else, on standard
    output; progress goes to standard error. With --quiet the last line alone."""
    config: Path | None = None
    """TOML file with any of these options; what the command line says wins."""
    recipe: str | None = None
    """Settings that suit a graph, such as cora, amazon-computers, minesweeper, ogbn-arxiv or reddit; --config
    and the command line win."""
    options: TrainConfig = dataclasses.field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if self.parts is not None and self.parts < 1:
            raise UserError(f"--parts is {self.parts}, must be at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """Train with every combination of option values, one run after the other, and compare them."""

    file: Annotated[Path, Positional("FILE.toml")]
    """Options of train, source and run-dir among them, with lists of the values to compare. Each run has a
    folder within run-dir, named by what differs; done again, the command does what is not done yet."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Score a run's best checkpoint exactly, on as many workers as it has parts."""

    run: Annotated[Path, Positional("RUN")]
    """Run folder."""
    per_class: bool = False
    """Also show precision, recall and F1 of every class on the test nodes."""
    json: bool = False
    """Print JSON instead of text."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predict:
    """Write the logits of all nodes, in the graph's own node order, or of some, in yours."""

    run: Annotated[Path, Positional("RUN")]
    """Run folder."""
    out: Path
    """New .npy file, float32 [nodes, classes]; or .parquet, a folder with a file a worker."""
    nodes: str | None = None
    """These nodes alone, computing their neighbourhood and no more: ids as 3,17,20-29, or FILE.npy of ids or
    of a mask."""
    source: str | None = None
    """Another graph with the same features (see bnsgcn partition --help), such as this one with new nodes
    after the old; cut like the training's where the nodes are the same."""
    embeddings: int | None = None
    """The output of this layer instead, from 0, or from the end: -2 is what the last layer reads."""
    format: Literal["npy", "parquet"] | None = None
    """npy, or parquet with the columns node and logits (or embedding); by --out if not given."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Show what runs measured: one page with figures and remarks, of one run or of several side by side."""

    runs: Annotated[tuple[Path, ...], Positional("RUN")]
    """Run folder, finished or not; or a folder of runs, such as that of --seeds or of a sweep. Several are
    compared."""
    out: Path | None = None
    """File to write; report.html, or standard output for the other formats, if not given."""
    format: Literal["html", "md", "csv", "json"] | None = None
    """A page, Markdown, CSV with a row a run, or JSON; by the ending of --out if not given."""
    figures: Path | None = None
    """Write each figure into this folder too, as NAME.svg and NAME.png."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """Write a run's best model in a form that others load."""

    run: Annotated[Path, Positional("RUN")]
    """Run folder."""
    to: str
    """FILE.safetensors (tensors by name), FILE.pt2 (a torch.export program of features and a CSR graph, which
    torch alone runs), pyg or dgl (state dict of that library's own layers)."""
    out: Path | None = None
    """File for --to safetensors, pt2, pyg or dgl; in RUN if not given."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Doctor:
    """Show versions, devices and kernels, and try a round trip between two processes."""


def _within(option: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UserError(f"--{option} is {value}, must be in [{low}, {high}]")


Command = (
    Partition | Repartition | Inspect | Plan | Train | Sweep | Evaluate | Predict | Report | Export | Doctor
)

COMMANDS: dict[str, type[Command]] = {
    "partition": Partition,
    "repartition": Repartition,
    "inspect": Inspect,
    "plan": Plan,
    "train": Train,
    "sweep": Sweep,
    "evaluate": Evaluate,
    "predict": Predict,
    "report": Report,
    "export": Export,
    "doctor": Doctor,
}

THEMES = {
    "model": (
        *("model", "layers", "hidden", "heads", "dropout", "norm", "activation", "residual"),
        *("jumping_knowledge", "input_linear", "input_dropout", "linear_layers", "init", "self_loops"),
    ),
    "training": (
        *(
            "epochs",
            "seed",
            "eval_every",
            "patience",
            "metric",
            "class_weights",
            "val_share",
        ),
        *("precompute", "inductive", "prune", "amp", "dtype", "storage"),
    ),
    "optimisation": (
        *("optimizer", "lr", "lr_schedule", "lr_patience", "warmup", "weight_decay"),
        *("clip_norm", "ema", "label_smoothing"),
    ),
    "policy": ("policy", "aim", "tolerance", "max_bytes", "replay"),
    "sampling": ("sampling_rate", "sampler", "draw_per_layer", "halo_cache"),
    "staleness": ("pipeline", "first_epoch", "smooth_features", "smooth_gradients", "smooth_window"),
    "wire": ("wire_dtype", "gradient_wire_dtype"),
    "machine": ("backend", "device", "kernel", "threads", "features", "timeout_s"),
    "run": ("checkpoint_every", "resume", "telemetry_every", "track", "profile"),
}
"""The fields of `TrainConfig` as `--help` and the reference group them; those of no theme are under run."""

ABOUT = "Distributed full-graph training of graph convolutional networks."
FIRST_STEPS = (
    ("bnsgcn train synthetic --run-dir runs/first", "A graph made up, two workers, a score."),
    ("bnsgcn evaluate runs/first", "The score of its best checkpoint."),
    ("bnsgcn train --help", "Every option, with examples."),
)

EXAMPLES = {
    "partition": (
        "bnsgcn partition synthetic --parts 2 --out parts/synthetic",
        "bnsgcn partition npz:graphs/cora.npz --parts 4 --out parts/cora --objective cut",
        "bnsgcn partition npz:graphs/blog.npz,features=degree --parts 2 --out parts/blog",
    ),
    "repartition": ("bnsgcn repartition parts/cora --parts 2 --out parts/cora-2",),
    "inspect": (
        "bnsgcn inspect parts/cora",
        "bnsgcn inspect parts/cora --json",
        "bnsgcn inspect parts/cora --plot cora.png",
    ),
    "plan": (
        "bnsgcn plan parts/cora --model sage --layers 4 --hidden 256",
        "bnsgcn plan parts/cora --grid --link-gbit-s 1",
        "bnsgcn plan parts/cora --calibrate",
    ),
    "train": (
        "bnsgcn train synthetic --run-dir runs/first",
        "bnsgcn train parts/cora --run-dir runs/cora --model gcn --layers 2 --hidden 16 --lr 0.01",
        "bnsgcn train parts/cora --run-dir runs/cora --config cora.toml --epochs 400",
        "bnsgcn train parts/cora --run-dir runs/cora --config cora.toml --epochs 400 --resume",
        "bnsgcn train parts/cora --run-dir runs/ten --config cora.toml --seeds 0-9",
        "bnsgcn train npz:cora.npz,features=row --run-dir runs/known --recipe cora",
        "bnsgcn train parts/cora --run-dir runs/seen --track tensorboard,csv --profile 3-5",
        "torchrun --nproc-per-node 4 -m launch.train parts/cora --run-dir runs/cora",
    ),
    "sweep": ("bnsgcn sweep grid.toml",),
    "evaluate": (
        "bnsgcn evaluate runs/first",
        "bnsgcn evaluate runs/first --per-class",
        "bnsgcn evaluate runs/first --json",
    ),
    "predict": (
        "bnsgcn predict runs/first --out logits.npy",
        "bnsgcn predict runs/first --nodes 3,17,20-29 --out some.npy",
        "bnsgcn predict runs/first --embeddings -2 --out embeddings.parquet",
        "bnsgcn predict runs/cora --source npz:grown.npz --out grown.npy",
    ),
    "report": (
        "bnsgcn report runs/first --out first.html",
        "bnsgcn report runs/exact runs/sampled --out both.html --figures figures",
        "bnsgcn report runs/grid --format md",
    ),
    "export": (
        "bnsgcn export runs/first --to model.pt2",
        "bnsgcn export runs/first --to pyg --out model.pt",
    ),
    "doctor": ("bnsgcn doctor",),
}
