from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from scipy.spatial import cKDTree

from isost._nearest import nearest_points

from ._thinning import hilbert_order, systematic_sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["balanced_sample"]

# widths of the Gaussian kernels, in units of the spacing of the points drawn, and their strengths
_EVEN = (1.0, 4.0)
_BALANCED = (2.0, 0.75)
_ALIKE = (0.7, 1.75)
_APART = (0.5, 2.5)  # width in units of the distance that points keep
_ONCE = (0.7, 10.0)
_IN_SHARE = 0.1  # strength that holds the number of points from each cloud
_DRAWN_NEAR = 32  # points drawn among the neighbours that a point is weighed against
_SPACED_BY = 12  # points drawn around a point that tell their spacing there
_MOST_NEAR = 256
_MOST_SWEEPS = 50
_TINY = float(np.finfo(np.float64).tiny ** 0.25)  # a distance whose square still has an inverse
_BLOCK = 100_000  # points weighed against each other at a time: bounds memory


def balanced_sample(
    position: NDArray[np.floating],
    weights: NDArray[np.floating],
    values: NDArray[np.floating],
    *,
    nearest: float,
    generator: np.random.Generator,
    cloud: NDArray[np.integer],
    original: NDArray[np.integer] | None = None,
) -> NDArray[np.intp]:
    """Draw points with given expected numbers, evenly spread, representative around every place, alike beside alike.

    A systematic sample is improved by taking single points in or out as long as that lowers

        F(s) = Σ_ij (s_i − w_i)(s_j − w_j) [K_even + K_apart + K_once + (K_balanced − K_alike) r_i · r_j](i, j),

    s_i 1 for a point drawn and 0 otherwise, w_i its weight, r_i what sets its values apart from the weighted mean
    around it, K Gaussian kernels of the distance, without i = j in K_alike and K_once. All but K_apart have widths in
    units of the local spacing. K_even makes the number of points drawn around every place the expected one, K_balanced
    their mean values: together, spatially balanced sampling (Grafström & Tillé 2013, doi:10.1002/env.2194) as a
    discrepancy of kernels. K_alike, of shorter range, lets neighbours be alike, as they are inside each of two point
    clouds that are merged: drawn without regard to each other they would be strangers. K_apart keeps points from
    crowding where the two clouds overlap. Copies of one point have no part in K_alike; K_once is between them alone, so
    that they are rarely drawn side by side. The number of points from each cloud is that of the systematic sample.

    Parameters
    ----------
    position
        Points, (n, 2).
    weights
        Expected numbers in [0, 1], (n,); points with 0 are never drawn, those with 1 always.
    values
        What is to be balanced, (n, d), all on one scale.
    nearest
        Distance to the nearest neighbour that points usually keep, the unit of `position`.
    generator
        Source of the random start and order.
    cloud
        Number of the cloud that each point comes from, (n,).
    original
        Points with the same number are copies of one, (n,); each is one of its own when None.

    Returns
    -------
    Indices of the points drawn, in ascending order.
    """
    drawn = np.zeros(len(position))
    drawn[systematic_sample(position, weights, generator=generator)] = 1.0
    place, expected = np.asarray(position, np.float64), np.asarray(weights, np.float64)
    original = np.arange(len(place)) if original is None else original
    for block in np.array_split(hilbert_order(place), -(-len(place) // _BLOCK) or 1):
        open_ = (expected[block] > 0) & (expected[block] < 1)
        if open_.any() and len(block) > 1:
            energy = _energy(
                place[block], expected[block], np.asarray(values)[block], nearest=nearest, original=original[block]
            )
            drawn[block] = _Descent(energy, drawn[block], expected[block], cloud[block], open_).run(generator)
    return np.flatnonzero(drawn)


def _energy(
    place: NDArray[np.float64],
    weights: NDArray[np.float64],
    values: NDArray[np.floating],
    *,
    nearest: float,
    original: NDArray[np.integer],
) -> sp.csr_array:
    """Matrix of the quadratic form F, (n, n)."""
    near = int(np.clip(np.ceil(_DRAWN_NEAR * len(place) / weights.sum()), _DRAWN_NEAR, _MOST_NEAR))
    distance, index = nearest_points(cKDTree(place), place, near + 1)
    spacing = _spacing(distance, weights[index])
    rows = np.repeat(np.arange(len(place)), index.shape[1])
    pairs = sp.csr_array((np.ones(index.size), (rows, index.ravel())), shape=(len(place), len(place)))
    pairs = (pairs + pairs.T).tocsr()  # a point's neighbours, and those that it is a neighbour of; itself too
    rows, columns = np.repeat(np.arange(len(place)), np.diff(pairs.indptr)), pairs.indices
    squared = ((place[rows] - place[columns]) ** 2).sum(1)
    relative = squared / (spacing[rows] * spacing[columns])
    apart = _apart(pairs, weights, values)
    likeness = np.zeros(len(rows))
    for column in apart.T:  # one by one: the (pairs, d) products never exist at once
        likeness += column[rows] * column[columns]
    strangers = original[rows] != original[columns]
    total = _kernel(relative, *_EVEN) + _kernel(squared / max(nearest, _TINY) ** 2, *_APART)
    total += likeness * (_kernel(relative, *_BALANCED) - strangers * _kernel(relative, *_ALIKE))
    total += (~strangers & (rows != columns)) * _kernel(relative, *_ONCE)
    return sp.csr_array((total, columns, pairs.indptr), shape=pairs.shape)


def _spacing(distance: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spacing of the points drawn around each point, from its neighbours' distances and weights (n, k)."""
    expected = np.cumsum(weights, axis=1)
    last = np.minimum((expected < _SPACED_BY).sum(1), distance.shape[1] - 1)[:, None]
    reach, number = (np.take_along_axis(v, last, axis=1)[:, 0] for v in (distance, expected))
    return np.maximum(reach * np.sqrt(np.pi / np.maximum(number, 1e-3)), _TINY)


def _apart(pairs: sp.csr_array, weights: NDArray[np.float64], values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Deviation of each point's values from the weighted mean around it, (n, d), of mean square 1."""
    around = sp.csr_array((weights[pairs.indices], pairs.indices, pairs.indptr), shape=pairs.shape)
    number = np.maximum(around.sum(1), np.finfo(np.float64).tiny)
    centred = np.asarray(values, np.float64) - values.mean(0)
    apart: NDArray[np.float64] = centred - (around @ centred) / number[:, None]
    size = np.sqrt((apart**2).sum(1).mean())
    return apart / size if size > 0 else apart


def _kernel(squared: NDArray[np.float64], width: float, strength: float) -> NDArray[np.float64]:
    kernel: NDArray[np.float64] = strength * np.exp(-squared / (2 * width**2))
    return kernel


class _Descent:
    """Single points taken in or out as long as that lowers the energy, which tells what each would change."""

    def __init__(
        self,
        energy: sp.csr_array,
        drawn: NDArray[np.float64],
        weights: NDArray[np.float64],
        cloud: NDArray[np.integer],
        open_: NDArray[np.bool_],
    ) -> None:
        self._energy, self._own = energy, energy.diagonal() + _IN_SHARE
        self._slope = energy @ (drawn - weights)
        self._drawn, self._open = drawn.copy(), open_
        self._cloud = np.unique(cloud, return_inverse=True)[1]
        self._surplus = np.zeros(self._cloud.max() + 1)  # points of each cloud beyond the number it began with

    def run(self, generator: np.random.Generator) -> NDArray[np.float64]:
        """Descend in random order to where no single point gains anything, then restore the number of each cloud."""
        for _ in range(_MOST_SWEEPS):
            worth = np.flatnonzero(self._open & (self._change(slice(None)) < 0))
            if not len(worth):
                break
            for i in generator.permutation(worth):
                if self._change(i) < 0:  # still, after the others have been turned
                    self._turn(i)
        for k, surplus in enumerate(self._surplus):
            for _ in range(round(abs(surplus))):
                turnable = np.flatnonzero(self._open & (self._cloud == k) & (self._drawn == (surplus > 0)))
                self._turn(turnable[self._change(turnable).argmin()])
        return self._drawn

    def _change(self, points: Any) -> Any:
        """Change of the energy if one of the points were turned, for each."""
        turn = 1 - 2 * self._drawn[points]
        slope = self._slope[points] + _IN_SHARE * self._surplus[self._cloud[points]]
        return 2 * turn * slope + self._own[points]

    def _turn(self, i: int) -> None:
        turn = 1 - 2 * self._drawn[i]
        self._drawn[i] += turn
        self._surplus[self._cloud[i]] += turn
        row = slice(self._energy.indptr[i], self._energy.indptr[i + 1])
        self._slope[self._energy.indices[row]] += turn * self._energy.data[row]
