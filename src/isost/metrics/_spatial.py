from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from isost._nearest import nearest_points

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["correlation", "local_linear", "mean_of_others", "morans_i", "neighbor_mean"]

# Sums of squares below this are rounding, not variation.
_CONSTANT = 1e-12


def neighbor_mean(
    positions: NDArray[np.float64], values: NDArray[np.float64], at: NDArray[np.float64], *, n_neighbors: int = 10
) -> NDArray[np.float64]:
    """Mean of values over the nearest points.

    Parameters
    ----------
    positions
        Points, shape (n, d).
    values
        Their values, shape (n, g).
    at
        Places to take the mean at, shape (m, d).
    n_neighbors
        Number of nearest points; all of them where there are fewer.

    Returns
    -------
    Shape (m, g).
    """
    _, index = nearest_points(cKDTree(positions), at, n_neighbors)
    return _combine(np.full(index.shape, 1 / index.shape[1]), index, values)


def mean_of_others(
    positions: NDArray[np.float64], values: NDArray[np.float64], *, n_neighbors: int
) -> NDArray[np.float64]:
    """Mean of values over each point's nearest points, itself not among them; all of shape (n, g)."""
    _, index = nearest_points(cKDTree(positions), positions, n_neighbors + 1)
    others = index[:, 1:]
    return _combine(np.full(others.shape, 1 / others.shape[1]), others, values)


def local_linear(
    positions: NDArray[np.float64], values: NDArray[np.float64], at: NDArray[np.float64], *, n_neighbors: int = 60
) -> NDArray[np.float64]:
    """Local linear regression of values on place.

    At each place a plane is fitted to the nearest points with tricube weights that vanish just beyond the furthest
    of them (Cleveland 1979, doi:10.1080/01621459.1979.10481038); a small ridge on the slopes, 1e-3 of the summed
    weight, keeps points on a line from giving an unbounded one.

    Parameters
    ----------
    positions
        Points, shape (n, d).
    values
        Their values, shape (n, g).
    at
        Places to fit at, shape (m, d).
    n_neighbors
        Number of nearest points; all of them where there are fewer.

    Returns
    -------
    Shape (m, g).
    """
    distance, index = nearest_points(cKDTree(positions), at, n_neighbors)
    radius = np.maximum(distance[:, -1:] * 1.0001, _CONSTANT)
    weight = (1 - (distance / radius) ** 3) ** 3
    offsets = (positions[index] - at[:, None]) / radius[..., None]
    design = np.concatenate([np.ones((*index.shape, 1)), offsets], axis=2)
    normal = np.einsum("mk,mki,mkj->mij", weight, design, design, optimize=True)
    slopes = np.arange(1, design.shape[2])
    normal[:, slopes, slopes] += 1e-3 * weight.sum(1)[:, None]
    # The fit at the place itself is linear in the values; solving for its coefficients spares one fit per gene.
    intercept = np.zeros((len(at), design.shape[2], 1))
    intercept[:, 0] = 1
    coefficients = np.linalg.solve(normal, intercept)
    return _combine(weight * (design @ coefficients)[..., 0], index, values)


def morans_i(
    positions: NDArray[np.float64], values: NDArray[np.float64], *, n_neighbors: int = 6
) -> NDArray[np.float64]:
    """Moran's I of each column on the graph of nearest neighbours (Moran 1950, doi:10.2307/2332142).

    Parameters
    ----------
    positions
        Points, shape (n, d).
    values
        Their values, shape (n, g).
    n_neighbors
        Number of neighbours of each point, itself not among them, all of one weight.

    Returns
    -------
    Shape (g,); 0 where a column is constant.
    """
    centered = values - values.mean(0)
    lagged = mean_of_others(positions, centered, n_neighbors=n_neighbors)
    return np.asarray((centered * lagged).sum(0) / np.maximum((centered**2).sum(0), _CONSTANT))


def correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson correlation of each column of `a` (n, g) with that of `b`; 0 where a column is constant."""
    a_centered, b_centered = a - a.mean(0), b - b.mean(0)
    spread = np.sqrt((a_centered**2).sum(0) * (b_centered**2).sum(0))
    covariation = (a_centered * b_centered).sum(0)
    return np.where(spread > _CONSTANT, covariation / np.maximum(spread, _CONSTANT), 0.0)


def _combine(weights: NDArray[np.float64], index: NDArray[np.intp], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum weights (m, k) times the indexed rows of values (n, g), without an array of shape (m, k, g)."""
    starts = np.arange(len(index) + 1) * index.shape[1]
    return np.asarray(csr_array((weights.ravel(), index.ravel(), starts), shape=(len(index), len(values))) @ values)
