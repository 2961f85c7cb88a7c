from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial.distance import cdist

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["energy_distance"]

_BLOCK = 1024


def energy_distance(a: NDArray[np.float64], b: NDArray[np.float64], *, n_points: int = 6000, seed: int = 0) -> float:
    """Unbiased energy distance between two samples (Székely & Rizzo 2013, doi:10.1016/j.jspi.2013.03.018).

    ``2 E|A − B| − E|A − A'| − E|B − B'|``, each mean over pairs of distinct points; near 0, and as often below as
    above, when both come from one distribution.

    Parameters
    ----------
    a, b
        Samples, shapes (n, d) and (m, d).
    n_points
        At most so many points of each, drawn without replacement.
    seed
        Seed of that draw.

    Returns
    -------
    Distance in the unit of the coordinates.
    """
    rng = np.random.default_rng(seed)
    a = a[rng.permutation(len(a))[:n_points]]
    b = b[rng.permutation(len(b))[:n_points]]
    across = _summed_distances(a, b) / (len(a) * len(b))
    return 2 * across - _mean_within(a) - _mean_within(b)


def _mean_within(points: NDArray[np.float64]) -> float:
    n = len(points)
    return _summed_distances(points, points) / (n * (n - 1))


def _summed_distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    # In blocks: all pairs of 6,000 points would take 288 MB at once.
    return float(sum(cdist(a[start : start + _BLOCK], b).sum() for start in range(0, len(a), _BLOCK)))
