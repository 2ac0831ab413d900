"""A model as a `torch.export` program: torch alone loads and runs it.

    run = torch.export.load("model.pt2").module()
    logits = run(x, indptr, indices)        # [N, F], int64 [N+1], int64 [E]: N of 2 or more, any E

Row i of the CSR graph lists the sources of the arcs into i, as `scipy.sparse.csr_matrix` of (target, source)
does; of an undirected graph both directions are arcs. Self loops need not be given: those of the model are
added, others do not count.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch.export import Dim

from bnsgcn.out.best_model import BestModel
from bnsgcn.out.plain import PlainGNN


def write_program(best: BestModel, path: Path) -> None:
    """Write the program of a model."""
    program = exported(best)
    with path.open("wb") as file:
        torch.export.save(program, file)


def exported(best: BestModel) -> torch.export.ExportedProgram:
    """The program, traced on a graph of three nodes with numbers of nodes and arcs left open."""
    dtype = next(best.model.parameters()).dtype
    example = (
        torch.zeros(3, best.manifest.num_features, dtype=dtype),
        torch.tensor([0, 1, 3, 4]),
        torch.tensor([1, 0, 2, 1]),
    )
    nodes = Dim("nodes")
    shapes = {"x": {0: nodes}, "indptr": {0: nodes + 1}, "indices": {0: Dim("arcs")}}
    model = copy.deepcopy(best.gnn).requires_grad_(False)
    plain = PlainGNN(model, self_loops=best.config.self_loops).eval()
    return torch.export.export(plain, example, dynamic_shapes=shapes)
