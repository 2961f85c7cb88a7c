from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._settings import settings

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.spatial import cKDTree

__all__ = ["nearest_points"]


def nearest_points(
    tree: cKDTree, place: NDArray[np.floating], last: int, *, first: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Search a tree for the points nearest to each place, with `isost.settings.n_threads` threads.

    Parameters
    ----------
    tree
        The points.
    place
        Places (m, d), the same unit.
    last
        Last rank that is wanted; that of the farthest point where there are fewer.
    first
        First rank: 2 leaves out the nearest, which is the point itself where places are the points.

    Returns
    -------
    Distance and index, both (m, k), nearest first; also for k = 1.
    """
    distance, index = tree.query(place, np.arange(first, min(last, tree.n) + 1), workers=settings.n_threads)
    return distance, index
