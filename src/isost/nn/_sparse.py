from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
import torch
from torch.nn.functional import embedding_bag

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Graph", "Links", "row_dots", "weighted_sum"]

# Numbers gathered at a time: few enough that they stay in a core's cache; on a GPU enough to fill it.
_GATHERED_ON_CPU = 2**16
_GATHERED_ON_GPU = 2**26


@dataclass(frozen=True)
class Links:
    """Which entries of a sparse matrix are filled, in compressed rows.

    Attributes
    ----------
    columns
        Column of every entry (n_entries,), row after row.
    offsets
        First entry of every row, and the number of entries at the end (n_rows + 1,).
    n_columns
        Number of columns.
    """

    columns: Tensor
    offsets: Tensor
    n_columns: int

    @classmethod
    def from_table(cls, table: Tensor) -> Links:
        """Row i filled at the k columns ``table[i]``; table (n, k), for n columns too."""
        n_rows, n_neighbors = table.shape
        offsets = torch.arange(0, n_rows * n_neighbors + 1, n_neighbors, device=table.device)
        return cls(table.reshape(-1), offsets, n_rows)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.offsets) - 1

    @cached_property
    def rows(self) -> Tensor:
        """Row of every entry (n_entries,)."""
        counts = self.offsets.diff()
        return torch.arange(self.n_rows, device=counts.device).repeat_interleave(counts)

    @cached_property
    def transposed(self) -> tuple[Links, Tensor]:
        """The transposed matrix's links, and which entry of this one each of its entries is."""
        order = self._by_column()
        counts = torch.bincount(self.columns, minlength=self.n_columns)
        return Links(self.rows[order], _offsets(counts), self.n_rows), order

    def _by_column(self) -> Tensor:
        """Order that brings the entries of every column together, row after row."""
        if self.columns.device.type != "cpu":
            return self.columns.argsort(stable=True)
        shape, entries = (self.n_rows, self.n_columns), np.arange(len(self.columns))
        filled = sp.csr_array((entries, self.columns.numpy(), self.offsets.numpy()), shape=shape)
        return torch.from_numpy(filled.tocsc().data)  # by counting, which a sort does not know to do


def _offsets(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def weighted_sum(weights: Tensor, x: Tensor, links: Links) -> Tensor:
    """Sparse times dense: out_i = Σ_e weights_e · x[column of e] over the entries e of row i.

    Its backward pass is the same sum over the transposed matrix: no scattered additions, so it is several times
    faster than that of ``index_select``, and deterministic on every device.

    Parameters
    ----------
    weights
        Value of every entry (n_entries,).
    x
        Dense matrix (n_columns, d).
    links
        Which entries are filled.

    Returns
    -------
    Dense matrix (n_rows, d).
    """
    out: Tensor = _WeightedSum.apply(weights.to(x.dtype), x, links)
    return out


def row_dots(left: Tensor, right: Tensor, links: Links) -> Tensor:
    """Dot products left[row of e] · right[column of e] of every entry e.

    Parameters
    ----------
    left
        One vector per row (n_rows, d).
    right
        One vector per column (n_columns, d).
    links
        Which entries are wanted.

    Returns
    -------
    One number per entry (n_entries,).
    """
    dtype = torch.promote_types(left.dtype, right.dtype)  # under autocast they may differ
    out: Tensor = _RowDots.apply(left.to(dtype), right.to(dtype), links)
    return out


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, x: Tensor, links: Links) -> Tensor:
        ctx.links = links
        ctx.save_for_backward(weights, x if ctx.needs_input_grad[0] else None)
        return embedding_bag(
            links.columns,
            x.contiguous(),
            links.offsets,
            mode="sum",
            per_sample_weights=weights.contiguous(),
            include_last_offset=True,
        )

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # type: ignore[override]
        weights, x = ctx.saved_tensors
        grad_weights = row_dots(grad, x, ctx.links) if ctx.needs_input_grad[0] else None
        grad_x = None
        if ctx.needs_input_grad[1]:
            transposed, order = ctx.links.transposed
            grad_x = weighted_sum(weights[order], grad, transposed)
        return grad_weights, grad_x, None


class _RowDots(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, links: Links) -> Tensor:
        ctx.links = links
        ctx.save_for_backward(left, right)
        n, width = len(links.columns), left.shape[1]
        at_once = max((_GATHERED_ON_CPU if left.device.type == "cpu" else _GATHERED_ON_GPU) // width, 1)
        pairs, dots = left.new_empty(2, min(at_once, n), width), left.new_empty(n)
        for start in range(0, n, at_once):
            entries = slice(start, start + at_once)
            lefts, rights = pairs[:, : len(dots[entries])]
            torch.index_select(left, 0, links.rows[entries], out=lefts)
            torch.index_select(right, 0, links.columns[entries], out=rights)
            torch.sum(lefts.mul_(rights), -1, out=dots[entries])
        return dots

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # type: ignore[override]
        left, right = ctx.saved_tensors
        grad_left = weighted_sum(grad, right, ctx.links) if ctx.needs_input_grad[0] else None
        grad_right = None
        if ctx.needs_input_grad[1]:
            transposed, order = ctx.links.transposed
            grad_right = weighted_sum(grad[order], left, transposed)
        return grad_left, grad_right, None


@dataclass(frozen=True)
class Graph:
    """Weighted graph without self-loops; row i holds the points that send to point i.

    Attributes
    ----------
    links
        Sending points of every point.
    weights
        Weight of every link (n_entries,).
    """

    links: Links
    weights: Tensor

    @classmethod
    def from_table(cls, table: Tensor, dtype: torch.dtype) -> Graph:
        """Graph whose links are the neighbours in `table` (n, k), each of weight 1."""
        links = Links.from_table(table)
        return cls(links, torch.ones(len(links.columns), dtype=dtype, device=table.device))

    def convolve(self, x: Tensor) -> Tensor:
        """D^-½ (A + 2I) D^-½ x with D the row sums of A + 2I (GCN's `improved` normalisation); x (n, d)."""
        normalised, loops = self._normalised
        return weighted_sum(normalised, x, self.links) + loops.to(x.dtype) * x

    @cached_property
    def _normalised(self) -> tuple[Tensor, Tensor]:
        links, weights = self.links, self.weights
        degree = weights.new_full((links.n_rows,), 2).index_add(0, links.rows, weights)
        root = degree.rsqrt()
        return root[links.rows] * weights * root[links.columns], (2 / degree).unsqueeze(-1)

    def pooled_power(self, kept: Tensor) -> Graph:
        """Square A + I, without the diagonal, among the points `kept` (m,), ascending; compute no other entry."""
        return self._pooled_power_scipy(kept) if kept.device.type == "cpu" else self._pooled_power_torch(kept)

    def _pooled_power_scipy(self, kept: Tensor) -> Graph:
        n = self.links.n_rows
        entries = self.weights.numpy(), self.links.columns.numpy(), self.links.offsets.numpy()
        looped = sp.csr_array(entries, shape=(n, n)) + sp.eye_array(n, dtype=entries[0].dtype, format="csr")
        power = looped[kept.numpy()] @ looped[:, kept.numpy()]
        power.setdiag(0)
        power.eliminate_zeros()
        columns, offsets = (torch.from_numpy(part.astype(np.int64)) for part in (power.indices, power.indptr))
        return Graph(Links(columns, offsets, len(kept)), torch.from_numpy(power.data))

    def _pooled_power_torch(self, kept: Tensor) -> Graph:
        # Off the diagonal (A + I)² = A² + 2A: list the paths of two links and the single links between kept points.
        links, n_kept = self.links, len(kept)
        position = torch.full((links.n_rows,), -1, device=kept.device)
        position[kept] = torch.arange(n_kept, device=kept.device)
        first = (position[links.rows] >= 0).nonzero().squeeze(-1)
        middle = links.columns[first]
        # Every first link is continued by each of the links of its middle point.
        counts = links.offsets.diff()[middle]
        step = torch.arange(len(first), device=kept.device).repeat_interleave(counts)
        within = torch.arange(len(step), device=kept.device) - _offsets(counts)[step]
        second = links.offsets[middle[step]] + within
        rows = position[torch.cat([links.rows[first][step], links.rows[first]])]
        columns = position[torch.cat([links.columns[second], middle])]
        weights = torch.cat([self.weights[first][step] * self.weights[second], 2 * self.weights[first]])
        wanted = (columns >= 0) & (columns != rows)
        keys, inverse = torch.unique(rows[wanted] * n_kept + columns[wanted], return_inverse=True)
        summed = self.weights.new_zeros(len(keys)).index_add(0, inverse, weights[wanted])
        rows = torch.div(keys, n_kept, rounding_mode="floor")
        return Graph(Links(keys - rows * n_kept, _offsets(torch.bincount(rows, minlength=n_kept)), n_kept), summed)
