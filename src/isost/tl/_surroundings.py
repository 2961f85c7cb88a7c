from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from scipy.spatial import cKDTree

from isost._nearest import nearest_points
from isost._normalization import SPACE
from isost.generation import locate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._inputs import Sections

__all__ = ["Surroundings"]

_CELLS = 12  # around a place, in each section; labels of sections left out are scored alike from 10 to 20


class Surroundings:
    """Measured cells around places: the nearest ones in the section below and in the one above.

    Parameters
    ----------
    sections
        The stack's arrays.
    """

    def __init__(self, sections: Sections) -> None:
        self._sections = sections
        self._tree = lru_cache(2)(lambda k: cKDTree(sections.positions[k]))

    def __call__(self, place: NDArray[np.float64]) -> sp.csr_array:
        """Weights of the measured cells around each place.

        At fraction t of a gap 1 − t is shared equally among the cells of the lower section and t among the upper
        one's.

        Parameters
        ----------
        place
            Places (n, 3), input units; between the first section and the last.

        Returns
        -------
        Weights (n, cells of the stack); the sum of a row is 1.
        """
        stack = self._sections.stack
        state = stack.normalization.encode(place, dims=SPACE)
        gap, fraction = self.located(state[:, 2])
        weights = sp.csr_array((len(place), int(stack.offsets[-1])))
        for k in np.unique(gap):
            share = np.where(gap == k, 1.0, 0.0)
            weights += self.between((k, k + 1), state[:, :2], share * (1 - fraction), share * fraction)
        return weights

    def located(self, depth: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Gap and fraction of it at which each depth (n,), state units, lies, see `isost.generation.locate`."""
        depths, which = np.unique(depth, return_inverse=True)
        places = [locate(self._sections.stack.depths, one) for one in depths]
        gap = np.array([place.gap for place in places], dtype=np.intp)
        return gap[which], np.array([place.fraction for place in places])[which]

    def nearest(self, section: int, place: NDArray[np.floating]) -> NDArray[np.intp]:
        """Rows of a section's cells nearest to places (n, 2), state units: (n, 12), or all where it has fewer."""
        return nearest_points(self._tree(section), place, _CELLS)[1]

    def between(
        self,
        ends: tuple[int, int],
        place: NDArray[np.floating],
        lower: NDArray[np.float64],
        upper: NDArray[np.float64],
    ) -> sp.csr_array:
        """Weights of two sections' cells around places (n, 2), state units, that share `lower` and `upper` of each."""
        stack = self._sections.stack
        rows, columns, weights = [], [], []
        for section, share in zip(ends, (lower, upper), strict=True):
            here = np.flatnonzero(share > 0)
            nearest = self.nearest(section, place[here])
            n = nearest.shape[1]
            rows.append(np.repeat(here, n))
            columns.append(stack.offsets[section] + nearest.ravel())
            weights.append(np.repeat(share[here] / n, n))
        entries = (np.concatenate(rows), np.concatenate(columns))
        return sp.csr_array((np.concatenate(weights), entries), shape=(len(place), int(stack.offsets[-1])))
