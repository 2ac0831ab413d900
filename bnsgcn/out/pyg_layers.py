"""Our convolutions as PyG's own: GCNConv, SAGEConv (mean) and GATConv of torch_geometric.nn."""

from __future__ import annotations

from bnsgcn.nn.conv import Conv, GATConv, GCNConv, SAGEConv
from bnsgcn.out.best_model import BestModel
from bnsgcn.out.their_layers import TheirLayer, bias_of, their_layers
from partition.errors import UserError


def pyg_layers(best: BestModel) -> dict[str, TheirLayer]:
    """The layers of a model, for an `edge_index` that has the model's self loops already.

    Raises:
        UserError: a GCN of a directed graph.
    """
    if best.config.model == "gcn" and best.manifest.directed:
        raise UserError(
            "--to pyg: PyG's GCNConv scales both ends of an arc by in-degrees, this GCN of a directed "
            "graph its sources by out-degrees; use --to dgl, or FILE.pt2"
        )
    return their_layers(best, _pyg_layer)


def _pyg_layer(conv: Conv) -> TheirLayer:
    sizes = f"{conv.in_features}, {conv.out_features}"
    if isinstance(conv, GCNConv):
        bias = bias_of(conv.bias, conv.out_features, conv.weight)
        made = f"torch_geometric.nn.GCNConv({sizes}, add_self_loops=False)"
        return TheirLayer(made, {"lin.weight": conv.weight, "bias": bias})
    if isinstance(conv, SAGEConv):
        weights = {
            "lin_l.weight": conv.weight_neigh,
            "lin_l.bias": bias_of(conv.bias, conv.out_features, conv.weight_self),
            "lin_r.weight": conv.weight_self,
        }
        return TheirLayer(f"torch_geometric.nn.SAGEConv({sizes})", weights)
    assert isinstance(conv, GATConv)
    width = conv.out_features * (conv.heads if conv.concat else 1)
    made = (
        f"torch_geometric.nn.GATConv({sizes}, heads={conv.heads}, concat={conv.concat}, add_self_loops=False)"
    )
    weights = {
        "lin.weight": conv.weight,
        "att_src": conv.score_src,
        "att_dst": conv.score_dst,
        "bias": bias_of(conv.bias, width, conv.weight),
    }
    return TheirLayer(made, weights)
