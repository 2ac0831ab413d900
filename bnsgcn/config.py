"""What a training run is made of: one frozen dataclass, checked before any process group exists.

Every field is an option of `bnsgcn train` with the same name (underscores become dashes). Nothing here
imports torch, so that `--help` and wrong values answer at once.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import reprlib
from collections.abc import Collection, Mapping
from typing import Any, Literal, get_type_hints

from bnsgcn.earlier import of_now
from bnsgcn.fitting import at_least, fitting, within
from bnsgcn.policy_options import PolicyOptions
from bnsgcn.shape import Shape
from partition.errors import UserError, nearest

ModelName = Literal["gcn", "sage", "gat"]
NormName = Literal["layer", "batch", "none"]
ActivationName = Literal["relu", "leaky-relu", "elu", "gelu"]
InitName = Literal["uniform", "xavier"]
OptimizerName = Literal["adam", "adamw"]
ScheduleName = Literal["constant", "cosine", "plateau"]
PolicyName = Literal["fixed", "auto"]
AimName = Literal["time", "bytes"]
SamplerName = Literal["uniform", "importance"]
FirstEpoch = Literal["exact", "zeros"]
WireDtype = Literal["fp32", "bf16", "fp16", "int8", "int4"]
BackendName = Literal["gloo", "nccl", "auto"]
DeviceName = Literal["cpu", "cuda", "auto"]
KernelName = Literal["auto", "compiled", "dgl", "torch", "triton"]
TrackerName = Literal["csv", "tensorboard", "mlflow", "wandb"]
MetricName = Literal["accuracy", "micro-f1", "macro-f1", "roc-auc", "average-precision"]

BALANCED = "balanced"
"""Class weights that make all classes count alike."""
YEAR_S = 365 * 24 * 3600.0
PRUNE_BELOW = 0.9
"""A layer that needs more of the rows than this computes all: the gathers would cost more than they save."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(Shape, PolicyOptions):
    """Options of one training run."""

    model: ModelName = "sage"
    """Graph convolution: gcn (Kipf and Welling), sage (GraphSAGE, mean), gat (attention)."""
    layers: int = 3
    """Layers in all, trailing linear layers included."""
    hidden: int = 128
    """Width of the hidden layers (of all heads together for gat)."""
    heads: int = 4
    """Attention heads of gat; the last layer averages them."""
    dropout: float = 0.5
    """Share of the entries of a layer's input that are zeroed, in [0, 1)."""
    norm: NormName = "layer"
    """Normalisation after every layer but the last: layer, batch (over all workers) or none."""
    activation: ActivationName = "relu"
    """What follows the normalisation: relu, leaky-relu, elu or gelu."""
    linear_layers: int = 0
    """How many of the last layers are plain linear layers; 1 is an output head."""
    input_linear: bool = False
    """A linear layer with activation and dropout before the first graph layer, not counted in --layers."""
    input_dropout: float | None = None
    """Share of the entries of the input features that are zeroed, in [0, 1); as --dropout when not given."""
    residual: bool = False
    """Add its input to what a graph layer gives, through a linear layer where the widths differ."""
    jumping_knowledge: Literal["cat", "max"] | None = None
    """What the first linear layer reads: of the outputs of all graph layers cat (side by side) or max (the
    largest of each entry); if not given the last one alone."""
    init: InitName = "uniform"
    """How weights are drawn: uniform (within 1/sqrt(fan in), biases too) or xavier (Glorot, biases 0)."""
    self_loops: bool = True
    """Add one self loop to every node, as the papers do."""

    optimizer: OptimizerName = "adam"
    """adam (weight decay is an L2 penalty), or adamw (weights shrink by it apart from the gradient)."""
    lr: float = 0.01
    """Learning rate."""
    lr_schedule: ScheduleName = "constant"
    """What the rate does after the warm-up: constant; cosine, a half wave towards 0 at the end; plateau, half
    as much after every --lr-patience evaluations without a better validation score."""
    lr_patience: int = 5
    """Evaluations that the plateau waits for."""
    warmup: int = 0
    """Epochs in which the rate rises in equal steps to its full height."""
    weight_decay: float = 0.0
    """L2 penalty of adam; of adamw, the share that weights lose in a step, times the rate."""
    clip_norm: float = 0.0
    """Scale gradients down to this norm, over all weights and workers, where theirs is larger; 0 = never."""
    ema: float = 0.0
    """Decay of a moving average of the weights, which scores, predictions and the best checkpoint are of, in
    [0, 1); 0 = the weights themselves."""
    label_smoothing: float = 0.0
    """Share of a node's label that the loss spreads evenly over all classes, in [0, 1)."""
    epochs: int = 200
    """Epochs to train."""
    seed: int = 0
    """Seed of weights, dropout and draws."""
    eval_every: int = 10
    """Evaluate every this many epochs, exactly and on all workers; 0 = at the end only."""
    patience: int = 0
    """Stop after this many evaluations without a better validation score; 0 = never."""
    metric: MetricName | None = None
    """What the best checkpoint is chosen by; if not given accuracy, for several labels a node micro-f1."""
    class_weights: str | None = None
    """Weights of the classes in the loss: balanced, or a file (.npy or text) with one number a class. Of
    several labels a node, they weigh the nodes that have the label."""
    val_share: float = 0.0
    """Share of the training nodes that become validation nodes, of a graph that has none; in [0, 1)."""
    precompute: bool = False
    """Aggregate the input features once at the start (not with gat); layer 0 then sends nothing."""
    inductive: bool = False
    """Train on the edges between training nodes only; evaluate on all edges."""
    prune: bool = True
    """Compute only the rows that can reach the loss; exact, off for comparison."""
    amp: Literal["off", "bf16"] = "off"
    """Number format of dense products; weights and sums stay fp32."""
    dtype: Literal["float32", "float64"] = "float32"
    """Number format of weights and activations."""
    storage: Literal["fp32", "bf16"] = "fp32"
    """Number format of rows that are kept and sent: fp32 (as computed) or bf16, half the bytes; sums and
    products are added up in fp32, weights and what Adam keeps stay fp32."""
    features: Literal["device", "host"] = "device"
    """Where the input features stay: device, or host (pinned memory of the machine, read piece by piece by
    layer 0, for graphs whose features a GPU has no room for)."""

    policy: PolicyName = "fixed"
    """Who chooses what is exchanged: fixed, the options below; auto, by what is measured as it trains."""
    aim: AimName = "time"
    """What --policy auto saves: time (exact wherever transfers hide), or bytes, whatever the link."""
    tolerance: float = 0.3
    """Points of the validation score that --policy auto may cost, above 0."""
    max_bytes: float = 0.0
    """With --policy auto, bytes that all workers may send in the mean epoch of the run; 0 = no limit."""
    replay: str | None = None
    """With --policy auto, a run folder whose decisions hold again, epoch by epoch; nothing is measured."""
    sampling_rate: float = 1.0
    """Share of each boundary list that is sent in an epoch, in [0, 1]; 1 = exact."""
    sampler: SamplerName = "importance"
    """How boundary rows are drawn when the rate is below 1: importance, by what a row weighs in its readers'
    sums; uniform, all alike (BNS-GCN)."""
    draw_per_layer: bool = False
    """Draw anew for every layer instead of once an epoch."""
    halo_cache: bool = False
    """Slots that are not drawn keep their last received value instead of being scaled away."""
    pipeline: bool = False
    """Use the halo rows and gradients of the previous epoch, so that traffic hides behind computation."""
    first_epoch: FirstEpoch = "exact"
    """What epoch 0 of the pipeline reads: exact (one synchronous epoch) or zeros (the paper)."""
    smooth_features: bool = False
    """Moving average of received halo features."""
    smooth_gradients: bool = False
    """Moving average of received boundary gradients."""
    smooth_window: float = 10.0
    """Epochs that the moving averages reach back, at least 1: what is s epochs old weighs (1 - 1 / window)^s,
    whatever the sampling rate; 1 = off."""
    wire_dtype: WireDtype = "fp32"
    """Number format of feature rows while they travel (fp32 = as computed)."""
    gradient_wire_dtype: WireDtype | None = None
    """The same for gradients; as --wire-dtype when not given."""
    telemetry_every: int = 0
    """Measure sampling error, staleness gap and slot age every this many epochs; 0 = never."""

    backend: BackendName = "auto"
    """Collectives: gloo (CPU), nccl (CUDA), auto."""
    device: DeviceName = "auto"
    """Where tensors live."""
    kernel: KernelName = "auto"
    """Aggregation kernels; auto takes the fastest that works here."""
    threads: int = 0
    """Compute threads of a worker; 0 = cores / local workers."""
    timeout_s: float = 600.0
    """Seconds after which a silent peer counts as dead."""
    checkpoint_every: int = 0
    """Epochs between checkpoints besides the best one; 0 = with every evaluation."""
    resume: bool = False
    """Go on from the last checkpoint of the run folder."""
    track: str | None = None
    """Where every epoch is written besides metrics.jsonl, joined by commas: csv, tensorboard, mlflow, wandb
    (offline); all in the run folder."""
    profile: str | None = None
    """Trace these epochs, counted from 1, such as 3 or 3-5: a file a rank in RUN/profile for ui.perfetto.dev,
    and a table of the ten largest."""

    def __post_init__(self) -> None:
        for name, kind in _kinds().items():
            object.__setattr__(self, name, fitting(name.replace("_", "-"), getattr(self, name), kind))
        self._check_model()
        self._check_training()
        self._check_steps()
        self._check_exchange()
        self.check_policy()
        self._check_record()

    def _check_model(self) -> None:
        at_least("layers", self.layers, 1)
        at_least("hidden", self.hidden, 1)
        at_least("heads", self.heads, 1)
        within("dropout", self.dropout, 0.0, 1.0, open_right=True)
        self.check_shape()
        if self.model == "gat" and self.precompute:
            raise UserError(
                "--precompute needs a fixed aggregation, gat learns its own; leave it out or use sage, gcn"
            )

    def _check_training(self) -> None:
        if not self.lr > 0:
            raise UserError(f"--lr is {self.lr}, must be above 0; try 0.01")
        at_least("weight-decay", self.weight_decay, 0)
        within("val-share", self.val_share, 0.0, 1.0, open_right=True)
        for name in (
            "epochs",
            "eval_every",
            "patience",
            "checkpoint_every",
            "telemetry_every",
            "threads",
            "seed",
        ):
            at_least(name.replace("_", "-"), getattr(self, name), 0)
        if not 0.001 <= self.timeout_s <= YEAR_S:
            raise UserError(
                f"--timeout-s is {self.timeout_s:g}, must be in [0.001, {YEAR_S:.0f}], a year; try 600"
            )

        if self.storage == "bf16" and self.dtype == "float64":
            raise UserError("--storage bf16 keeps rows of float32; leave out --dtype float64 or --storage")

    def _check_steps(self) -> None:
        at_least("clip-norm", self.clip_norm, 0)
        at_least("lr-patience", self.lr_patience, 1)
        at_least("warmup", self.warmup, 0)
        within("ema", self.ema, 0.0, 1.0, open_right=True)
        within("label-smoothing", self.label_smoothing, 0.0, 1.0, open_right=True)
        if 0 < self.warmup >= self.epochs:
            raise UserError(
                f"--warmup {self.warmup} leaves none of --epochs {self.epochs} at the full rate; "
                f"use at most {max(0, self.epochs - 1)}"
            )
        if self.lr_schedule == "plateau" and self.eval_every == 0:
            raise UserError("--lr-schedule plateau waits for evaluations, --eval-every is 0; try 10")
        if self.lr_schedule == "plateau" and 0 < self.patience <= self.lr_patience:
            raise UserError(
                f"--patience {self.patience} ends the run before --lr-patience {self.lr_patience} lowers the "
                f"rate; use --patience {self.lr_patience + 1} or more"
            )

    def check_own(self, kinds: Collection[str]) -> None:
        """Raise the UserError of an option in whose place the user has a function, of one of `kinds`."""
        for kind, name in (
            ("optimizer", "optimizer"),
            ("schedule", "lr_schedule"),
            ("schedule", "warmup"),
            ("loss", "label_smoothing"),
            ("loss", "class_weights"),
            ("model", "storage"),
        ):
            value = getattr(self, name)
            if kind in kinds and value != getattr(type(self), name):
                raise UserError(
                    f"--{name.replace('_', '-')} {value} and the {kind} of your own: leave one out"
                )

    def _check_exchange(self) -> None:
        within("sampling-rate", self.sampling_rate, 0.0, 1.0)
        at_least("smooth-window", self.smooth_window, 1)
        if self.device == "cpu" and self.backend == "nccl":
            raise UserError("--backend nccl needs --device cuda; use --backend gloo with --device cpu")
        if self.halo_cache and self.sampling_rate == 1.0:
            raise UserError(
                "--halo-cache fills slots that were not drawn, with --sampling-rate 1.0 there are none"
            )

    def _check_record(self) -> None:
        for name in self.tracked:
            fitting("track", name, TrackerName)
        if len(set(self.tracked)) < len(self.tracked):
            raise UserError(f"--track {self.track} names a tracker twice; name each once")
        if self.profile is None:
            return
        if re.fullmatch(r"[1-9]\d{0,17}(-[1-9]\d{0,17})?", self.profile) is None:
            raise UserError(
                f"--profile is {reprlib.repr(self.profile)}, must be epochs, counted from 1, such as 3 or 3-5"
            )
        if not self.profiled:
            raise UserError(f"--profile {self.profile} ends before it begins; name the first epoch first")
        if self.profiled.stop > self.epochs:
            raise UserError(
                f"--profile {self.profile} is not within --epochs {self.epochs}; name earlier ones"
            )

    @property
    def tracked(self) -> tuple[str, ...]:
        """The names in `track`."""
        return () if self.track is None else tuple(name.strip() for name in self.track.split(","))

    @property
    def profiled(self) -> range:
        """The epochs of `profile`, counted from 0."""
        if self.profile is None:
            return range(0)
        first, _, last = self.profile.partition("-")
        return range(int(first) - 1, int(last or first))

    @property
    def row_number_bytes(self) -> int:
        """Bytes of one number of rows, as they are kept."""
        return 2 if self.storage == "bf16" else self.number_bytes

    @property
    def number_bytes(self) -> int:
        """Bytes of one number of weights and activations."""
        return 8 if self.dtype == "float64" else 4

    def to_json(self) -> dict[str, Any]:
        """Field values, ready for json.dump."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainConfig:
        """The inverse of `to_json`, also of an earlier version's; a missing field has its default.

        Raises:
            UserError: a field that this version does not know, or a value that does not fit.
        """
        if not isinstance(values, Mapping):
            raise UserError(f"the configuration is {reprlib.repr(values)}, must be an object of options")
        known = [field.name for field in dataclasses.fields(cls)]
        values = of_now(values)
        unknown = sorted(str(name) for name in values if name not in known)
        if unknown:
            raise UserError(
                f"unknown option {reprlib.repr(unknown[0])} in the configuration{nearest(unknown[0], known)}"
                f"; see bnsgcn train --help"
            )
        return cls(**values)


@functools.cache
def _kinds() -> dict[str, Any]:
    """The type of every option."""
    return get_type_hints(TrainConfig)
