"""Our layers and trainings beside another library's: same graph, same weights, float64.

A library gives adapters: modules that hold one of its layers and show its parameters under our names and in
our shapes (`mine`, views that can be written to). Everything else is here.

    N nodes   F inputs   C classes
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.nn import Conv, GATConv, GCNConv, SAGEConv
from bnsgcn.nn.hop import Hop
from bnsgcn.nn.models import build_model
from bnsgcn.train.trainer import Trainer
from partition.build import partition_graph
from partition.graph import TRAIN, Graph
from partition.store import open_part

NODES, ISOLATED, FEATURES, CLASSES = 60, 4, 6, 5
STEPS = 10
TOLERANCE = 1e-10
# Adam divides a gradient of 1e-17, zero but for rounding, by about 1e-8: lr scales that noise.
TRAINING = TrainConfig(layers=3, hidden=6, heads=2, dropout=0.0, lr=0.004, dtype="float64")
EXACT_TYPE = torch.float64


Read = Callable[[torch.nn.Parameter], Tensor]


def value_of(parameter: torch.nn.Parameter) -> Tensor:
    """The parameter itself, writable."""
    return parameter.data


def gradient_of(parameter: torch.nn.Parameter) -> Tensor:
    """The gradient that it has."""
    assert parameter.grad is not None
    return parameter.grad


class Adapter(Protocol):
    """One layer of another library."""

    def mine(self, read: Read) -> dict[str, Tensor]:
        """What `read` gives of its parameters (value or gradient), by our names, as views in our shapes."""

    def __call__(self, h: Tensor) -> Tensor:
        """h [N, in] -> [N, out]."""


MakeAdapter = Callable[[str, int, int, bool], Adapter]
"""(model, inputs, outputs of all heads together, concat) -> a layer over the maker's graph."""


def random_graph(seed: int, *, directed: bool = False, weighted: bool = False) -> Graph:
    """A graph with duplicate arcs, self loops and isolated nodes in its source."""
    rng = np.random.default_rng(seed)
    return Graph.from_arrays(
        rng.integers(0, NODES - ISOLATED, (2, 4 * NODES)),
        edge_weight=np.random.default_rng(seed + 100).lognormal(0, 1, 4 * NODES) if weighted else None,
        features=rng.standard_normal((NODES, FEATURES)).astype(np.float32),
        labels=rng.integers(0, CLASSES, NODES),
        num_classes=CLASSES,
        directed=directed,
        source=f"random {seed}",
    )


def arcs_of(graph: Graph, *, self_loops: bool) -> tuple[Tensor, Tensor]:
    """Sources and targets of all arcs, int64, sorted by target."""
    target = np.repeat(np.arange(graph.num_nodes), np.diff(graph.indptr))
    source = graph.indices.astype(np.int64)
    if self_loops:
        loops = np.arange(graph.num_nodes)
        source, target = np.concatenate([source, loops]), np.concatenate([target, loops])
        order = np.argsort(target, kind="stable")
        source, target = source[order], target[order]
    return torch.from_numpy(source), torch.from_numpy(target)


def weights_of(graph: Graph, *, self_loops: bool) -> Tensor:
    """What the arcs of `arcs_of` weigh, loops 1."""
    assert graph.weights is not None
    weights = graph.weights.astype(np.float64)
    if self_loops:  # after the others of their row, where the stable sort puts them
        weights = np.insert(weights, graph.indptr[1:], 1.0)
    return torch.from_numpy(weights)


def our_conv(model: str, inputs: int, outputs: int, *, heads: int = 2, concat: bool = True) -> Conv:
    """One of our layers; `outputs` counts all heads together."""
    if model == "gcn":
        return GCNConv(inputs, outputs)
    if model == "sage":
        return SAGEConv(inputs, outputs)
    return GATConv(inputs, outputs // heads if concat else outputs, heads=heads, concat=concat)


class OneLayer(torch.nn.Module):
    """A model of one convolution."""

    def __init__(self, conv: Conv) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, hops: Sequence[Hop], x: Tensor) -> Tensor:
        logits: Tensor = self.conv(hops[0], x)
        return logits


def seeded(conv: Conv, seed: int) -> Conv:
    """The same layer with random weights, biases included."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in conv.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=EXACT_TYPE)
    return conv


def layer_difference(graph: Graph, conv: Conv, peer: Adapter, tmp_path: Path, *, self_loops: bool) -> float:
    """Largest difference of outputs [N, out] and of the gradients of input and parameters."""
    parameters = dict(conv.named_parameters())
    for name, value in peer.mine(value_of).items():
        value.copy_(parameters[name].data)
    partition_graph(graph, parts=1, out=tmp_path / "parts")
    part = open_part(tmp_path / "parts", 0)
    config = dataclasses.replace(TRAINING, self_loops=self_loops, prune=False)
    trainer = Trainer(World.single(), part, OneLayer(conv), config)
    order = torch.from_numpy(np.array(part.node_ids))
    x = torch.from_numpy(np.asarray(graph.features)).to(EXACT_TYPE)

    ours_x = x[order].requires_grad_()
    ours = conv(trainer.training.hops[0], ours_x)
    cotangent = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=EXACT_TYPE)
    gradients = torch.autograd.grad((ours * cotangent).sum(), [ours_x, *parameters.values()])

    peer_x = x.clone().requires_grad_()
    theirs = peer(peer_x)
    (theirs[order] * cotangent).sum().backward()
    peer_gradients = peer.mine(gradient_of)
    assert peer_gradients.keys() == parameters.keys()
    assert peer_x.grad is not None
    pairs = [(ours, theirs[order]), (gradients[0], peer_x.grad[order])]
    pairs += [(mine, peer_gradients[name]) for mine, name in zip(gradients[1:], parameters, strict=True)]
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


class PeerNet(torch.nn.Module):
    """The command line's model out of another library's layers and torch's LayerNorm."""

    def __init__(self, adapters: list[Adapter], width: int) -> None:
        super().__init__()
        self.adapters = torch.nn.ModuleList(adapters)  # type: ignore[arg-type]
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(width, dtype=EXACT_TYPE) for _ in adapters[1:])

    def mine(self) -> dict[str, Tensor]:
        """All parameters by our names, writable."""
        shown: dict[str, Tensor] = {}
        for i, norm in enumerate(self.norms):
            shown |= {f"between.{i}.weight": norm.weight.data, f"between.{i}.bias": norm.bias.data}
        for i, adapter in enumerate(self.adapters):
            shown |= {f"convs.{i}.{name}": value for name, value in adapter.mine(value_of).items()}
        return shown

    def forward(self, x: Tensor) -> Tensor:
        h = self.adapters[0](x)
        for norm, adapter in zip(self.norms, list(self.adapters)[1:], strict=True):
            h = adapter(functional.relu(norm(h)))
        return h


def peer_weights(
    graph: Graph, model: str, make: MakeAdapter, initial: dict[str, Tensor]
) -> dict[str, np.ndarray]:
    """Weights by our names after STEPS full-graph Adam steps of the library's model from `initial`."""
    widths = [FEATURES] + [TRAINING.hidden] * (TRAINING.layers - 1) + [CLASSES]
    adapters = [
        make(model, widths[i], widths[i + 1], i + 1 < TRAINING.layers) for i in range(TRAINING.layers)
    ]
    net = PeerNet(adapters, TRAINING.hidden)
    shown = net.mine()
    assert shown.keys() == initial.keys()
    for name, value in shown.items():
        value.copy_(initial[name])
    optimizer = torch.optim.Adam(net.parameters(), lr=TRAINING.lr)
    x = torch.from_numpy(np.asarray(graph.features)).to(EXACT_TYPE)
    train = torch.from_numpy(graph.split == TRAIN)
    labels = torch.from_numpy(graph.labels)
    for _ in range(STEPS):
        optimizer.zero_grad()
        functional.cross_entropy(net(x)[train], labels[train]).backward()
        optimizer.step()
    return {name: value.numpy().copy() for name, value in net.mine().items()}


def our_initial_weights(folder: Path, config: TrainConfig) -> dict[str, Tensor]:
    """The weights that our run starts from."""
    return build_model(open_part(folder, 0).manifest, config).to(EXACT_TYPE).state_dict()


def weights_difference(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> float:
    """Largest difference of all weights; both sides must name the same ones."""
    assert ours.keys() == theirs.keys()
    return max(float(np.abs(ours[name] - theirs[name]).max()) for name in ours)
