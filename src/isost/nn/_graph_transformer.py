from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from ._sparse import Links, row_dots, weighted_sum

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GraphTransformer"]


class _TransformerLayer(nn.Module):
    """Attention of every point over its neighbours, plus a linear map of the point itself.

    out_i = W_skip x_i + Σ_j α_ij W_value x_j, α_ij = softmax over the neighbours j of q_i·k_j / √width
    (TransformerConv: Shi et al., arXiv 2009.03509, eq. 3–4). Heads are concatenated, or averaged when
    `average_heads`.
    """

    def __init__(self, in_dim: int, head_dim: int, *, n_heads: int, average_heads: bool = False) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.head_dim = head_dim
        self.average_heads = average_heads
        self.query = nn.Linear(in_dim, n_heads * head_dim)
        self.key = nn.Linear(in_dim, n_heads * head_dim)
        self.value = nn.Linear(in_dim, n_heads * head_dim)
        self.skip = nn.Linear(in_dim, head_dim if average_heads else n_heads * head_dim)

    def forward(self, x: Tensor, links: Links) -> Tensor:
        attend = self._attend_to_inputs if x.shape[1] < self.head_dim else self._attend_to_values
        heads = attend(x, self.query(x).view(-1, self.head_dim), links).view(len(x), self.n_heads, self.head_dim)
        skipped: Tensor = self.skip(x)
        return skipped + (heads.mean(1) if self.average_heads else heads.flatten(1))

    def _attend_to_values(self, x: Tensor, query: Tensor, links: Links) -> Tensor:
        """Return Σ_j α_ij W_value x_j of every head; row i·h + a is head a of point i, as in `links`."""
        key, value = (linear(x).view(-1, self.head_dim) for linear in (self.key, self.value))
        return weighted_sum(self._attention(row_dots(query, key, links), links), value, links)

    def _attend_to_inputs(self, x: Tensor, query: Tensor, links: Links) -> Tensor:
        """Return the same as W_value Σ_j α_ij x_j, with q_i·k_j as (W_keyᵀ q_i)·x_j: narrow inputs are less to gather.

        The bias of the keys, alike for all neighbours, drops out of the softmax.
        """
        key, value = (linear.weight.view(self.n_heads, self.head_dim, -1) for linear in (self.key, self.value))
        x = x.repeat_interleave(self.n_heads, dim=0)
        query = torch.einsum("nhd,hdi->nhi", query.view(-1, self.n_heads, self.head_dim), key).flatten(0, 1)
        mixed = weighted_sum(self._attention(row_dots(query, x, links), links), x, links)
        heads = torch.einsum("nhi,hdi->nhd", mixed.view(-1, self.n_heads, mixed.shape[1]), value)
        return heads + self.value.bias.view(self.n_heads, self.head_dim)

    def _attention(self, dots: Tensor, links: Links) -> Tensor:
        return torch.softmax(dots.view(links.n_rows, -1) / math.sqrt(self.head_dim), dim=1).view(-1)


class GraphTransformer(nn.Module):
    """Shape drift: three layers of graph attention over the spatial neighbours.

    h1 = tanh(T1 s), h2 = tanh(T2 h1 + h1), μ_s = T3 h2, each T a TransformerConv (isoST, bioRxiv
    10.1101/2025.08.15.670472). With more heads, each has width hidden_dim / n_heads and they are concatenated; the
    last layer averages its heads; so all widths stay as with one.

    Parameters
    ----------
    in_dim, hidden_dim, out_dim
        Widths: the drift of a position has 3 → H → 3.
    n_heads
        Attention heads of each layer.

    Raises
    ------
    ValueError
        When hidden_dim is no multiple of n_heads.
    """

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, *, n_heads: int = 1) -> None:
        super().__init__()
        if n_heads < 1 or hidden_dim % n_heads:
            msg = f"hidden_dim={hidden_dim} does not split into n_heads={n_heads}: choose a divisor of hidden_dim"
            raise ValueError(msg)
        self.n_heads = n_heads
        self.layers = nn.ModuleList(
            [
                _TransformerLayer(in_dim, hidden_dim // n_heads, n_heads=n_heads),
                _TransformerLayer(hidden_dim, hidden_dim // n_heads, n_heads=n_heads),
                _TransformerLayer(hidden_dim, out_dim, n_heads=n_heads, average_heads=True),
            ]
        )

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        """Values (n, out_dim) at the points, from features `x` (n, in_dim) and the neighbour `table` (n, k)."""
        # Every head attends for itself: n_heads graphs of n points each, side by side.
        heads = torch.arange(self.n_heads, device=table.device).unsqueeze(-1)
        links = Links.from_table((table.unsqueeze(1) * self.n_heads + heads).flatten(0, 1))
        first, second, last = self.layers
        hidden = torch.tanh(first(x, links))
        hidden = torch.tanh(second(hidden, links) + hidden)
        return last(hidden, links)  # type: ignore[no-any-return]
