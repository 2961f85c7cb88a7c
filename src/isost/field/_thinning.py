from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["evenly_spread", "hilbert_order", "systematic_sample"]

_BITS = 16


def hilbert_order(position: NDArray[np.floating]) -> NDArray[np.intp]:
    """Order points of the plane along a Hilbert curve, so that neighbours in the order are neighbours in space.

    Parameters
    ----------
    position
        Points, (n, 2).

    Returns
    -------
    Indices of the points in the order of the curve, (n,).
    """
    if not len(position):
        return np.zeros(0, dtype=np.intp)
    low = position.min(0)
    width = max(float((position - low).max()), np.finfo(np.float64).tiny)
    cells = 1 << _BITS
    x, y = np.minimum((position - low) / width * cells, cells - 1).astype(np.int64).T.copy()
    distance = np.zeros(len(position), dtype=np.int64)
    side = cells >> 1
    while side:
        right, upper = (x & side) > 0, (y & side) > 0
        distance += side * side * np.where(right, 3 - upper, upper)
        # enter the quadrant: the curve inside is the whole curve, mirrored and turned
        mirrored = right & ~upper
        x = np.where(mirrored, cells - 1 - x, x)
        y = np.where(mirrored, cells - 1 - y, y)
        x, y = np.where(upper, x, y), np.where(upper, y, x)
        side >>= 1
    return np.argsort(distance, kind="stable")


def evenly_spread(n: int, at_most: int) -> NDArray[np.intp]:
    """Choose some of n things in a row, such as sections in a stack: all, or so many from the first to the last."""
    chosen: NDArray[np.intp] = np.unique(np.linspace(0, n - 1, min(at_most, n)).round().astype(np.intp))
    return chosen


def systematic_sample(
    position: NDArray[np.floating], weights: NDArray[np.floating], *, generator: np.random.Generator
) -> NDArray[np.intp]:
    """Draw points with the given inclusion probabilities, evenly spread in space.

    Systematic sampling (Madow 1949) along a Hilbert curve: the weights are added up in the order of the curve and a
    point is taken wherever the sum, begun at one random offset, passes a whole number. The number drawn differs from
    the sum of the weights by less than one, in any stretch of the curve too, where independent coin flips would
    scatter by its square root.

    Parameters
    ----------
    position
        Points, (n, 2).
    weights
        Inclusion probabilities in [0, 1], (n,).
    generator
        Source of the one random number used.

    Returns
    -------
    Indices of the points drawn, in ascending order.
    """
    order = hilbert_order(position)
    # in float64 whatever the weights: a long float32 sum would lose whole points
    total = np.cumsum(weights[order], dtype=np.float64)
    passed = np.floor(np.concatenate([[0.0], total]) + generator.random())
    return np.sort(order[np.diff(passed) > 0])
