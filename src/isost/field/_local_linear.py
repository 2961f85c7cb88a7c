from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from isost._nearest import nearest_points

from ._thinning import hilbert_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Estimate", "LocalLinear"]

_BLOCK = 4096  # query points at a time: bounds what the fits of all of them hold
_RIDGE = 1e-2  # of the slopes, relative to the weights: tames what is extrapolated beyond the edge
_LEADING = 10  # columns that tell one kind of surroundings from another
_PROBES = 1000  # cells at which the window is measured
_TOLERANCE = 2.0  # of their squared difference, in units of its sampling variance: beyond it places are unlike


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

    def __getitem__(self, rows: NDArray[np.intp]) -> Estimate:
        """Estimate at some of the query points."""
        return Estimate(self.mean[rows], self.leverage[rows])


class LocalLinear:
    """Local linear regression on the plane (loess, Cleveland 1979) over the nearest measured cells.

    The value at a place is that of a plane fitted to the `n_cells` nearest cells with tricube weights. Unlike a plain
    local mean it has next to no bias at the edge of the tissue: only that of a small ridge on the slopes, which keeps
    values far outside within a few spreads of the data. It is linear in the data, so its sampling variance is known.

    When `adaptive`, only cells with like surroundings count: adaptive weights smoothing (Polzehl & Spokoiny 2000,
    doi:10.1111/1467-9868.00235) with one pilot, a plain regression m̂ over half as many cells. A cell i then counts at a
    place Q with its tricube weight times exp(−T / 2λ), T = mean over leading columns c of
    (m̂_c(x_i) − m̂_c(Q))² / σ_c² (ℓ_i + ℓ_Q), σ² the variance of a cell about the pilot, ℓ the pilot's leverage and
    λ = 2. Within one kind of tissue T is about 1 and the window may be wide; across a border T is large, so that thin
    layers and sharp edges are not smeared.

    Parameters
    ----------
    position
        Measured cells, (n, 2), any unit.
    values
        What to smooth, (n, d); when adaptive the leading columns, such as principal components, come first.
    n_cells
        Cells under the smoothing window; at most n are used.
    adaptive
        Whether only cells with like surroundings count.
    """

    def __init__(
        self,
        position: NDArray[np.floating],
        values: NDArray[np.floating],
        *,
        n_cells: int,
        adaptive: bool = False,
    ) -> None:
        measured: NDArray[np.float64] = np.asarray(position, dtype=np.float64)
        # cells that are near each other lie near each other in memory, too
        along = hilbert_order(measured)
        self._origin = measured.mean(0)
        self._position = (measured - self._origin)[along]
        self._values = np.asarray(values, dtype=np.float64)[along]
        self._tree = cKDTree(self._position)
        self.n_cells = min(n_cells, len(position))
        self._pilot = _Pilot(self._position, self._values[:, :_LEADING], self.n_cells // 2) if adaptive else None

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
        along = hilbert_order(centred)
        for start in range(0, len(centred), _BLOCK):
            rows = along[start : start + _BLOCK]
            weights, cells = self._weights(centred[rows], skip_nearest=skip_nearest)
            # as a sparse matrix: the (m, k, d) neighbours' values never exist at once
            shape, starts = (len(cells), len(self._values)), np.arange(0, cells.size + 1, cells.shape[1])
            mean[rows] = csr_array((weights.ravel(), cells.ravel(), starts), shape=shape) @ self._values
            leverage[rows] = (weights**2).sum(1)
        return Estimate(mean, leverage)

    @cached_property
    def window(self) -> float:
        """Radius of the smoothing window: median distance from a cell to the last of those under it, input units."""
        probes = self._position[:: max(1, len(self._position) // _PROBES)]
        return float(np.median(nearest_points(self._tree, probes, self.n_cells, first=self.n_cells)[0]))

    def _weights(
        self, query: NDArray[np.float64], *, skip_nearest: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        n_skipped = int(skip_nearest)
        distance, cells = nearest_points(self._tree, query, self.n_cells + n_skipped, first=1 + n_skipped)
        width = np.maximum(distance[:, -1:] * 1.0001, np.finfo(np.float64).tiny)
        kernel = (1 - (distance / width) ** 3) ** 3
        if self._pilot is not None:
            kernel *= self._pilot.likeness(query, cells, skip_nearest=skip_nearest)
        x, y = ((self._position[:, axis][cells] - query[:, axis, None]) / width for axis in (0, 1))
        return kernel * _intercept(kernel, x, y), cells


def _intercept(kernel: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Find the factors that turn weights of a local mean into those of a plane's value at the origin, all (m, k).

    The plane a + b x + c y fitted with weights w has at the origin the value Σ w (α + β x + γ y) v / Σ w, (α, β, γ) the
    first row of the inverse of the matrix of its moments, here by cofactors.
    """
    total = kernel.sum(1)
    by_x, by_y = kernel * x, kernel * y
    mx, my = by_x.sum(1) / total, by_y.sum(1) / total
    mxx, mxy, myy = (np.einsum("mk,mk->m", *pair) / total for pair in ((by_x, x), (by_x, y), (by_y, y)))
    mxx, myy = mxx + _RIDGE, myy + _RIDGE
    alpha, beta, gamma = mxx * myy - mxy**2, mxy * my - mx * myy, mx * mxy - mxx * my
    scale = total * (alpha + mx * beta + my * gamma)
    alpha, beta, gamma = (part[:, None] / scale[:, None] for part in (alpha, beta, gamma))
    factor: NDArray[np.float64] = alpha + beta * x + gamma * y
    return factor


class _Pilot:
    """What surroundings look like at a first, plain estimate, and how alike two of them are."""

    def __init__(self, position: NDArray[np.float64], values: NDArray[np.float64], n_cells: int) -> None:
        self._smooth = LocalLinear(position, values, n_cells=max(n_cells, 1))
        self._at_cells = self._smooth(position)
        floor = np.maximum(1e-12 * values.var(axis=0), np.finfo(np.float64).tiny)
        self._variance = np.maximum(((values - self._at_cells.mean) ** 2).mean(0), floor)

    def likeness(
        self, query: NDArray[np.float64], cells: NDArray[np.intp], *, skip_nearest: bool
    ) -> NDArray[np.float64]:
        """Factor exp(−T / 2λ) of each cell's weight at each query point, (m, k), 1 for the cell most alike."""
        here, there = self._smooth(query, skip_nearest=skip_nearest), self._at_cells
        difference = np.zeros(cells.shape)
        for c, variance in enumerate(self._variance):  # one by one: the (m, k, columns) never exist at once
            difference += (there.mean[:, c][cells] - here.mean[:, c, None]) ** 2 / variance
        noise = there.leverage[cells] + here.leverage[:, None]
        unlike = difference / len(self._variance) / (2 * _TOLERANCE * noise)
        # relative to the cell most alike: only ratios count, and where none is alike all would be 0
        factor: NDArray[np.float64] = np.exp(unlike.min(1, keepdims=True) - unlike)
        return factor
