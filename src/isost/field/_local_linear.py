from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Estimate", "LocalLinear"]

_BLOCK = 4096  # query points at a time: bounds what the fits of all of them hold
_RIDGE = 1e-2  # of the slopes, relative to the weights: tames what is extrapolated beyond the edge


@dataclass(frozen=True)
class Estimate:
    """A smoothed value at each query point and how firmly it stands.

    Attributes
    ----------
    mean
        Estimated expectation, (n, d).
    leverage
        Sum of squared smoothing weights, (n,): the estimate's sampling variance in units of the variance of one cell.
    """

    mean: NDArray[np.float64]
    leverage: NDArray[np.float64]


class LocalLinear:
    """Local linear regression on the plane (loess, Cleveland 1979) over the nearest measured cells.

    The value at a place is that of a plane fitted to the `n_cells` nearest cells with tricube weights. Unlike a plain
    local mean it has next to no bias at the edge of the tissue: only that of a small ridge on the slopes, which keeps
    values far outside within a few spreads of the data. It is linear in the data, so its sampling variance is known.

    Parameters
    ----------
    position
        Measured cells, (n, 2), any unit.
    values
        What to smooth, (n, d).
    n_cells
        Cells under the smoothing window; at most n are used.
    """

    def __init__(self, position: NDArray[np.floating], values: NDArray[np.floating], *, n_cells: int) -> None:
        measured: NDArray[np.float64] = np.asarray(position, dtype=np.float64)
        self._origin = measured.mean(0)
        self._position = measured - self._origin
        self._values = np.ascontiguousarray(values, dtype=np.float64)
        self._tree = cKDTree(self._position)
        self.n_cells = min(n_cells, len(position))

    def __call__(self, query: NDArray[np.floating], *, skip_nearest: bool = False) -> Estimate:
        """Estimate at `query` (m, 2).

        With `skip_nearest` the nearest cell of each query point is left out: at the measured cells themselves this is
        leave-one-cell-out.

        Raises
        ------
        ValueError
            When the only cell would be left out.
        """
        if skip_nearest and len(self._position) < 2:
            msg = "skip_nearest=True leaves out the only cell there is: smooth a section of at least two cells"
            raise ValueError(msg)
        centred: NDArray[np.float64] = np.asarray(query, dtype=np.float64) - self._origin
        mean = np.empty((len(centred), self._values.shape[1]))
        leverage = np.empty(len(centred))
        for start in range(0, len(centred), _BLOCK):
            rows = slice(start, start + _BLOCK)
            weights, cells = self._weights(centred[rows], skip_nearest=skip_nearest)
            # as a sparse matrix: the (m, k, d) neighbours' values never exist at once
            shape, starts = (len(cells), len(self._values)), np.arange(0, cells.size + 1, cells.shape[1])
            mean[rows] = csr_array((weights.ravel(), cells.ravel(), starts), shape=shape) @ self._values
            leverage[rows] = (weights**2).sum(1)
        return Estimate(mean, leverage)

    def _weights(
        self, query: NDArray[np.float64], *, skip_nearest: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        n_skipped = int(skip_nearest)
        n_asked = min(self.n_cells + n_skipped, len(self._position))
        distance, cells = self._tree.query(query, np.arange(1 + n_skipped, n_asked + 1))
        width = np.maximum(distance[:, -1:] * 1.0001, np.finfo(np.float64).tiny)
        tricube = (1 - (distance / width) ** 3) ** 3
        offset = (self._position[cells] - query[:, None]) / width[..., None]
        design = np.concatenate([np.ones_like(offset[..., :1]), offset], axis=-1)  # (m, k, 3)
        weighted = design * tricube[..., None]
        gram = np.swapaxes(weighted, 1, 2) @ design
        gram += _RIDGE * tricube.sum(1)[:, None, None] * np.diag([0.0, 1.0, 1.0])
        # the value at the query point is the intercept: the first row of the inverse applied to every cell
        intercept = np.linalg.solve(gram, np.broadcast_to(np.eye(3)[:, :1], (len(query), 3, 1)))
        return (weighted @ intercept)[..., 0], cells
