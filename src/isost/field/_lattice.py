from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from ._local_linear import Estimate

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["Lattice"]

_CORNERS = np.array([(0, 0), (0, 1), (1, 0), (1, 1)])
_ON_A_NODE = 1e-6  # of the pitch
_FARTHEST = 1e9  # nodes from the origin: their numbers are integers of 64 bits


@dataclass(frozen=True, eq=False)
class Lattice:
    """A square lattice without end, at whose nodes a smooth field is estimated for all places around them.

    Attributes
    ----------
    origin
        One of the nodes, (2,), any unit.
    pitch
        From one node to the next, the same unit.
    """

    origin: NDArray[np.float64]  # (2,)
    pitch: float

    def divided(self, times: int) -> Lattice:
        """Put nodes evenly between these, so that there are `times` as many along each axis."""
        return Lattice(self.origin, self.pitch / times)

    def interpolate(self, estimate: Callable[[NDArray[np.float64]], Estimate], query: NDArray[np.floating]) -> Estimate:
        """Estimate at `query` (m, 2) by the bilinear mean of the four nodes around; at a node, by that alone.

        A mean of estimates that are linear in the data is one, too. Its own leverage is at most the mean of theirs,
        which is what is returned; that of an estimate made at the place itself may be larger.

        Raises
        ------
        ValueError
            If a place is not finite, or so far that nodes cannot be numbered.
        """
        place = (np.asarray(query, np.float64) - self.origin) / self.pitch
        if not (np.abs(place) < _FARTHEST).all():  # nor where it is NaN
            msg = f"a place lies {_FARTHEST:.0e} nodes or more from the origin of the lattice, or is no number"
            raise ValueError(msg)
        nearest = np.rint(place)
        place = np.where(np.abs(place - nearest) < _ON_A_NODE, nearest, place)
        low = np.floor(place).astype(np.int64)
        shares = np.where(_CORNERS, (place - low)[:, None], 1 - (place - low)[:, None]).prod(2)
        first = low.min(0) if len(low) else np.zeros(2, np.int64)
        n_rows = low[:, 1].max(initial=first[1]) - first[1] + 2
        around = low[:, None] - first + _CORNERS
        used = shares > 0
        nodes, which = np.unique((around[..., 0] * n_rows + around[..., 1])[used], return_inverse=True)
        at_nodes = estimate(self.origin + (np.column_stack(np.divmod(nodes, n_rows)) + first) * self.pitch)
        mixing = csr_array((shares[used], which, np.append(0, used.sum(1).cumsum())), shape=(len(place), len(nodes)))
        return Estimate(mixing @ at_nodes.mean, mixing @ at_nodes.leverage)
