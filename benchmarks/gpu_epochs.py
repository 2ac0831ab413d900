"""Exact epochs on the GPU beside the operations of PyG on the same graph, and what the device could do.

SAGE on power-law graphs as large as ten reddit-likes and products-likes (a tenth of that with --quick), one
worker: ours with each backend, in fp32 and with bf16 rows, and the same model with torch's CSR product, which
is what PyG's SAGEConv calls; torch_geometric's own layers where it is installed. One after the other, each
after two epochs that do not count.

    N nodes   E arcs   F features
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.gpu_kernels import power_law_block
from benchmarks.gpu_section import Options, Section, cuda, device_ms
from benchmarks.measure import Spread, table
from bnsgcn.config import TrainConfig
from bnsgcn.dist import World
from bnsgcn.exchange.clock import Clock
from bnsgcn.kernels import Block, Csr, Kernels, select
from bnsgcn.nn.hop import Hop, Rows
from bnsgcn.nn.models import GNN
from bnsgcn.train.optimizer import Adam
from partition.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A graph and the model that it is for."""

    rows: int
    degree: int
    features: int
    classes: int
    layers: int
    hidden: int


FULL = {
    "reddit-like x 10": Case(rows=580_000, degree=100, features=602, classes=41, layers=4, hidden=256),
    "products-like x 10": Case(rows=2_450_000, degree=49, features=100, classes=47, layers=3, hidden=128),
}
QUICK = {name: dataclasses.replace(case, rows=case.rows // 10) for name, case in FULL.items()}
Epoch = Callable[[], Any]


def our_epoch(
    case: Case, csr: Csr, x: Tensor, labels: Tensor, kernels: Kernels, storage: torch.dtype | None = None
) -> Epoch:
    """An epoch of the options' model over hops of one worker, rows kept as `storage` (None = as computed)."""
    config = TrainConfig(layers=case.layers, hidden=case.hidden, dropout=0.3)
    device, world, clock = x.device, World.single(str(x.device)), Clock(0)
    rows = Rows(torch.arange(case.rows, device=device), clock, world, kernels, storage, storage)
    x = rows.keep(x)
    degree = csr.degrees().float().clamp(min=1)
    block = Block(csr, kernels)
    hops = [
        Hop(
            index=layer,
            src=rows,
            dst=rows,
            dst_place=None,
            inner=block,
            lane=None,
            in_degree=degree,
            out_degree=degree,
        )
        for layer in range(case.layers)
    ]
    torch.manual_seed(0)
    model = GNN(case.features, case.classes, config).to(device)
    return stepping(model, lambda: model(hops, x), labels, Adam(model.parameters(), lr=0.01), clock)


def stepping(
    model: nn.Module,
    forward: Callable[[], Tensor],
    labels: Tensor,
    optimizer: Any,
    clock: Clock | None = None,
) -> Epoch:
    """Forward, loss, backward, step."""

    def epoch() -> None:
        model.zero_grad(set_to_none=True)
        F.cross_entropy(forward(), labels).backward()
        optimizer.step()
        if clock is not None:
            clock.epoch += 1

    return epoch


class CsrSage(nn.Module):
    """SAGE's mean as PyG's layer computes it from a CSR matrix of torch."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.neighbours, self.own = nn.Linear(inputs, outputs), nn.Linear(inputs, outputs, bias=False)

    def forward(self, h: Tensor, graph: tuple[Tensor, Tensor]) -> Tensor:
        """h [N, F], (adjacency, 1 / degree [N, 1]) -> [N, out]."""
        return self.neighbours(graph[0] @ h * graph[1]) + self.own(h)


class Stack(nn.Module):
    """Convolutions with norm, ReLU and dropout between."""

    def __init__(self, convs: list[nn.Module], hidden: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden) for _ in convs[1:])

    def forward(self, h: Tensor, graph: Any) -> Tensor:
        """h [N, F] -> [N, C]."""
        h = F.dropout(h, 0.3)
        for norm, conv in zip(self.norms, self.convs[:-1], strict=True):
            h = F.dropout(F.relu(norm(conv(h, graph))), 0.3)
        logits: Tensor = self.convs[-1](h, graph)
        return logits


def their_epoch(case: Case, csr: Csr, x: Tensor, labels: Tensor, *, library: bool) -> Epoch:
    """The same model by PyG's operations; `library`: by its own layers, ImportError where there are none."""
    widths = [case.features, *[case.hidden] * (case.layers - 1), case.classes]
    make: Callable[[int, int], nn.Module] = CsrSage
    indptr, indices = csr.indptr.long(), csr.indices.long()
    size = (csr.num_rows, csr.num_cols)
    adjacency = torch.sparse_csr_tensor(
        indptr, indices, torch.ones_like(indices, dtype=x.dtype), size, check_invariants=False
    )
    graph: Any = (adjacency, csr.degrees().clamp(min=1).to(x.dtype).reciprocal().unsqueeze(1))
    if library:
        from torch_geometric.nn import SAGEConv

        make, graph = lambda a, b: SAGEConv(a, b, aggr="mean"), adjacency
    torch.manual_seed(0)
    model = Stack([make(a, b) for a, b in itertools.pairwise(widths)], case.hidden).to(x.device)
    return stepping(
        model, lambda: model(x, graph), labels, torch.optim.Adam(model.parameters(), foreach=True)
    )


def bound_ms(case: Case, csr: Csr, x: Tensor, rounds: int) -> float:
    """The least that the device needs: gathered rows of all sums at the rate of its copies, and products."""
    widths = [case.features, *[case.hidden] * (case.layers - 1), case.classes]
    copy = torch.empty(1 << 28, dtype=torch.uint8, device=x.device)
    other = torch.empty_like(copy)
    rate = 2 * copy.numel() / device_ms(lambda: other.copy_(copy), rounds).median
    total = 0.0
    for layer, (width_in, width_out) in enumerate(itertools.pairwise(widths)):
        sums = 1 if layer == 0 and width_in <= width_out else 2
        total += sums * csr.num_arcs * min(width_in, width_out) * 4 / rate
        h, weight = (
            torch.empty(case.rows, width_in, device=x.device),
            torch.empty(width_in, width_out, device=x.device),
        )
        products = 2 * (2 if layer == 0 else 3)  # own and neighbours; forward, weights, rows
        total += products * device_ms(lambda h=h, w=weight: h @ w, rounds).median
    return total


def contest(case: Case, rounds: int) -> tuple[dict[str, Spread], float, list[str]]:
    """Milliseconds an epoch of every contestant, the bound, and who did not run."""
    device, missing = cuda(), []
    csr = power_law_block(case.rows, case.degree, device)
    x = torch.randn(case.rows, case.features, device=device)
    labels = torch.randint(case.classes, (case.rows,), device=device)
    makers: dict[str, Callable[[], Epoch]] = {
        "ours, triton": lambda: our_epoch(case, csr, x, labels, select("triton", device)),
        "ours, triton, bf16 rows": lambda: our_epoch(
            case, csr, x, labels, select("triton", device), torch.bfloat16
        ),
        "ours, torch": lambda: our_epoch(case, csr, x, labels, select("torch", device)),
        "PyG's operations (torch CSR)": lambda: their_epoch(case, csr, x, labels, library=False),
        "torch_geometric": lambda: their_epoch(case, csr, x, labels, library=True),
    }
    found = {}
    for name, make in makers.items():
        try:
            found[name] = device_ms(make(), rounds)
        except (ImportError, UserError, torch.cuda.OutOfMemoryError) as reason:
            missing.append(f"{name}: {str(reason).splitlines()[0]}")
        torch.cuda.empty_cache()
    return found, bound_ms(case, csr, x, rounds), missing


def measure(options: Options) -> Section:
    """Both graphs; Skip without a GPU."""
    cuda()
    rows, raw, not_run = [], {}, []
    for name, case in (QUICK if options.quick else FULL).items():
        found, bound, missing = contest(case, 3 if options.quick else 7)
        not_run += [f"{name}: {line}" for line in missing]
        theirs = found.get("torch_geometric") or found.get("PyG's operations (torch CSR)")
        for who, spread in found.items():
            share = "" if theirs is None else f"{spread.median / theirs.median:.2f}"
            rows.append([name, who, spread.show(1), share, f"{spread.median / bound:.2f}"])
        raw[name] = {who: dataclasses.asdict(spread) for who, spread in found.items()} | {"bound_ms": bound}
    body = table(["graph", "who", "ms an epoch", "of PyG's", "of the bound"], rows)
    return Section(title="Exact epochs, one worker", body=body, raw=raw, not_run=not_run)
