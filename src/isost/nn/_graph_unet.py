from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn

from ._neighbors import block_bounds
from ._sparse import Graph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["GraphUNet"]


class _GraphConvolution(nn.Module):
    """GCN layer with self-loops of weight 2: x ↦ D^-½ (A + 2I) D^-½ x W + b (Kipf & Welling, arXiv 1609.02907)."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, out_dim, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_dim))
        nn.init.xavier_uniform_(self.linear.weight)

    def forward(self, x: Tensor, graph: Graph) -> Tensor:
        return graph.convolve(self.linear(x)) + self.bias


class _TopKPool(nn.Module):
    """Keeps, in every block, the share of the points that score highest, gated by their score (Graph U-Nets)."""

    def __init__(self, dim: int, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio
        self.weight = nn.Parameter(torch.empty(1, dim))
        bound = 1 / math.sqrt(dim)
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor, sizes: Sequence[int]) -> tuple[Tensor, Tensor, list[int]]:
        score = torch.tanh((x * self.weight).sum(-1) / self.weight.norm(p=2, dim=-1))
        # In the precision of the scores, so that ceil(ratio · n) is the number that PyG keeps.
        precision = torch.promote_types(x.dtype, torch.float32)
        n_kept = (self.ratio * torch.tensor(sizes, dtype=precision)).ceil().long().tolist()
        kept = torch.cat(
            [
                start + score[start:stop].argsort(descending=True, stable=True)[:n].sort().values
                for (start, stop), n in zip(pairwise(block_bounds(len(x), sizes)), n_kept, strict=True)
            ]
        )
        return x.index_select(0, kept) * score.index_select(0, kept).unsqueeze(-1), kept, n_kept


class GraphUNet(nn.Module):
    """Expression drift: a graph U-Net over the spatial neighbours.

    GCN layers with self-loop weight 2; before each pooling the graph is replaced by its second power (A + I)² without
    diagonal; top-k pooling keeps the best-scoring share of each block, gated by tanh of the score; on the way up the
    kept points are put back and added to what was there (Gao & Ji, Graph U-Nets, arXiv 1905.05178; PyG's
    ``GraphUNet(..., pool_ratios=pool_ratio, sum_res=True, act=torch.tanh)``). Each block is pooled for itself, so that
    several blocks together give what each gives alone.

    Parameters
    ----------
    in_dim, hidden_dim, out_dim
        Widths: the drift of the expression has 3 + G → H → G.
    depth
        Poolings; the published model has 2, its image-regularised variant 3.
    pool_ratio
        Share of points that a pooling keeps, in (0, 1).

    Raises
    ------
    ValueError
        When depth is below 1 or pool_ratio not inside (0, 1).
    """

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, *, depth: int = 2, pool_ratio: float = 0.5) -> None:
        super().__init__()
        if depth < 1:
            msg = f"depth must be at least 1, not {depth}"
            raise ValueError(msg)
        if not 0 < pool_ratio < 1:
            msg = f"pool_ratio must lie between 0 and 1, not {pool_ratio}"
            raise ValueError(msg)
        self.depth = depth
        widths_down = [in_dim] + [hidden_dim] * depth
        widths_up = [hidden_dim] * (depth - 1) + [out_dim]
        self.down = nn.ModuleList([_GraphConvolution(width, hidden_dim) for width in widths_down])
        self.pools = nn.ModuleList([_TopKPool(hidden_dim, pool_ratio) for _ in range(depth)])
        self.up = nn.ModuleList([_GraphConvolution(hidden_dim, width) for width in widths_up])

    def forward(self, x: Tensor, table: Tensor, *, sizes: Sequence[int] | None = None) -> Tensor:
        """Values (n, out_dim) at the points, from features `x` (n, in_dim) and the neighbour `table` (n, k).

        Parameters
        ----------
        x
            Features (n, in_dim); the points of one block lie one after another.
        table
            Neighbours of every point (n, k), as `nearest_neighbors` gives them.
        sizes
            Points in each block, summing to n; one block when None.
        """
        sizes = [len(x)] if sizes is None else sizes
        graph = Graph.from_table(table, x.dtype)
        x = torch.tanh(self.down[0](x, graph))
        skipped = []
        for pool, convolution in zip(self.pools, self.down[1:], strict=True):
            pooled, kept, sizes = pool(x, sizes)
            skipped.append((x, graph, kept))
            graph = graph.pooled_power(kept)
            x = torch.tanh(convolution(pooled, graph))
        for level, convolution in enumerate(self.up, start=1):
            before, graph, kept = skipped.pop()
            x = convolution(before.index_add(0, kept, x), graph)
            x = torch.tanh(x) if level < self.depth else x
        return x
