from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.spatial import cKDTree

from isost._nearest import nearest_points

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["block_bounds", "nearest_neighbors"]

# Distances held at once on a GPU; they, their parts and indices are some ten arrays of at most 128 MiB.
_DISTANCES_AT_ONCE = 2**24
_FLAT = 1e-6  # of the largest extent: points that spread less in a dimension lie in a plane


def nearest_neighbors(position: Tensor, n_neighbors: int, *, sizes: Sequence[int] | None = None) -> Tensor:
    """Nearest neighbours of every point among the other points of its block.

    The spatial graph of the drift (isoST, bioRxiv 10.1101/2025.08.15.670472): n_neighbors edges towards every point,
    no self-loops. A point is never its own neighbour, also where several points share one place. Distances are exact
    in float64 whatever the dtype and offset of the coordinates, and no gradient flows through the choice.

    Parameters
    ----------
    position
        Coordinates (n, 3), any one unit; the points of one block lie one after another.
    n_neighbors
        Neighbours k of every point.
    sizes
        Points in each block, summing to n; one block when None. Neighbours never come from another block.

    Returns
    -------
    Row indices into `position` (n, k), int64, on the device of `position`, nearest first.

    Raises
    ------
    ValueError
        When `sizes` does not sum to n, or a block has fewer than n_neighbors + 1 points.
    """
    if n_neighbors < 1:
        msg = f"n_neighbors must be at least 1, not {n_neighbors}"
        raise ValueError(msg)
    bounds = block_bounds(len(position), sizes)
    for block, (start, stop) in enumerate(pairwise(bounds)):
        if stop - start <= n_neighbors:
            msg = (
                f"block {block} has {stop - start} points, but each needs {n_neighbors} neighbours: "
                f"drop that section or pass n_neighbors={max(stop - start - 1, 1)} or less"
            )
            raise ValueError(msg)
    search = _tree_search if position.device.type == "cpu" else _grid_search
    position = position.detach()
    return torch.cat([search(position[start:stop], n_neighbors) + start for start, stop in pairwise(bounds)])


def block_bounds(n_points: int, sizes: Sequence[int] | None) -> list[int]:
    """First row of every block, and the end of the last; raises when `sizes` does not cover the n points."""
    if sizes is None:
        return [0, n_points]
    bounds = [0]
    for size in sizes:
        bounds.append(bounds[-1] + int(size))
    if bounds[-1] != n_points:
        msg = f"sizes sum to {bounds[-1]}, but there are {n_points} points: pass the number of points of every block"
        raise ValueError(msg)
    return bounds


def _tree_search(position: Tensor, n_neighbors: int) -> Tensor:
    points = position.numpy().astype(np.float64)
    found = np.asarray(nearest_points(cKDTree(points), points, n_neighbors + 1)[1], dtype=np.int64)
    is_self = found == np.arange(len(points))[:, None]
    # Among many points at one place the tree may return n_neighbors + 1 others: then the last one goes.
    is_self[~is_self.any(axis=1), -1] = True
    return torch.from_numpy(found[~is_self].reshape(len(points), n_neighbors))


def _grid_search(position: Tensor, n_neighbors: int) -> Tensor:
    """Neighbours in time linear in the points, on any device: each is compared with those of the cells around its own.

    What lies beyond these cells is farther than the side of one, so a point whose neighbours are all nearer than that
    has its own; the few others are compared with all points.
    """
    points = position.to(torch.float64)
    extent = points.amax(0) - points.amin(0)
    wide = extent > _FLAT * extent.max()  # the cells of a frame lie in a plane
    if not wide.any():
        return _compared_with_all(points, torch.arange(len(points), device=points.device), n_neighbors)
    volume, n_wide = float(extent[wide].prod()), int(wide.sum())
    side = (volume * (n_neighbors + 1) / len(points)) ** (1 / n_wide)  # about so many points in a cell
    cell = ((points - points.amin(0)) / side * wide).long()
    shape = cell.amax(0) + 1
    strides = torch.stack([shape[1] * shape[2], shape[2], torch.ones_like(shape[2])])
    number = (cell * strides).sum(1)
    order = number.argsort(stable=True)
    counts = torch.bincount(number, minlength=int(shape.prod()))
    first = counts.cumsum(0) - counts
    near = torch.arange(-1, 2, device=points.device)
    around = torch.cartesian_prod(*(near if w else near[1:2] for w in wide.tolist()))
    most = len(around) * int(counts.max())
    if most >= len(points):
        return _compared_with_all(points, torch.arange(len(points), device=points.device), n_neighbors)
    found, is_exact = [], []
    for rows in torch.arange(len(points), device=points.device).split(max(_DISTANCES_AT_ONCE // most, 1)):
        beside = cell[rows, None] + around
        inside = ((beside >= 0) & (beside < shape)).all(-1)
        beside_number = (beside * strides).sum(-1).where(inside, 0)
        last = counts[beside_number].where(inside, 0).cumsum(1)  # of each cell's points among those to compare with
        # no fewer than are wanted, though these rows may all lie alone
        n_places = max(int(last[:, -1].max()), n_neighbors)
        place = torch.arange(n_places, device=points.device).expand(len(rows), -1).contiguous()
        which = torch.searchsorted(last, place, right=True).clamp_max_(len(around) - 1)
        begin = first[beside_number] - torch.cat([torch.zeros_like(last[:, :1]), last[:, :-1]], dim=1)
        other = order[(begin.gather(1, which) + place).clamp_(0, len(points) - 1)]
        distance = (points[rows, None] - points[other]).square().sum(-1)
        distance[(place >= last[:, -1:]) | (other == rows[:, None])] = torch.inf
        nearest = distance.topk(n_neighbors, largest=False)
        found.append(other.gather(1, nearest.indices))
        is_exact.append(nearest.values[:, -1] <= side**2)
    table = torch.cat(found)
    doubtful = (~torch.cat(is_exact)).nonzero().squeeze(1)
    table[doubtful] = _compared_with_all(points, doubtful, n_neighbors)
    return table


def _compared_with_all(points: Tensor, rows: Tensor, n_neighbors: int) -> Tensor:
    # Differences, not |a|² + |b|² − 2ab: those cancel at large offsets, even after centring a wide section.
    found = [points.new_empty(0, n_neighbors, dtype=torch.int64)]
    for centres in rows.split(max(_DISTANCES_AT_ONCE // len(points), 1)):
        distance = points.new_zeros(len(centres), len(points))
        for axis in range(points.shape[1]):
            distance += (points[centres, None, axis] - points[None, :, axis]).square_()
        distance.scatter_(1, centres[:, None], torch.inf)
        found.append(distance.topk(n_neighbors, largest=False).indices)
    return torch.cat(found)
