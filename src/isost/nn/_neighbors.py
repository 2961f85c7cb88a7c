from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["block_bounds", "nearest_neighbors"]

# Distances held at once by the brute-force search: 2**26 float64 values are 512 MiB.
_DISTANCES_AT_ONCE = 2**26


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
    search = _tree_search if position.device.type == "cpu" else _chunked_search
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
    found = np.asarray(cKDTree(points).query(points, n_neighbors + 1, workers=1)[1], dtype=np.int64)
    is_self = found == np.arange(len(points))[:, None]
    # Among many points at one place the tree may return n_neighbors + 1 others: then the last one goes.
    is_self[~is_self.any(axis=1), -1] = True
    return torch.from_numpy(found[~is_self].reshape(len(points), n_neighbors))


def _chunked_search(position: Tensor, n_neighbors: int, *, chunk: int | None = None) -> Tensor:
    # Differences, not |a|² + |b|² − 2ab: those cancel at large offsets, even after centring a wide section.
    points = position.to(torch.float64)
    chunk = chunk or max(_DISTANCES_AT_ONCE // len(points), 1)
    found = []
    for start in range(0, len(points), chunk):
        centres = points[start : start + chunk]
        distance = points.new_zeros(len(centres), len(points))
        for axis in range(points.shape[1]):
            distance += (centres[:, None, axis] - points[None, :, axis]).square_()
        rows = torch.arange(len(centres), device=points.device)
        distance[rows, rows + start] = torch.inf
        found.append(distance.topk(n_neighbors, largest=False).indices)
    return torch.cat(found)
