from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from isost.field import LocalLinear

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from isost.field import Estimate

__all__ = ["Expectation", "Expected", "cell_variance"]

_PROBES = 1000  # cells of a section at which variances are measured
_FIELDS_KEPT = 4  # sections whose search trees are held at a time


class Expected(NamedTuple):
    """Expected components and the variance of that estimate, both (n, C)."""

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]


class Expectation:
    """Expected expression at any place between the sections.

    m(x, t) = (1 − t) m_k(x) + t m_{k+1}(x) at fraction t of gap k, m_k the local linear regression of section k. Its
    variance has two parts: the sampling variance of both regressions, and what may happen between the sections, a
    Brownian bridge: t (1 − t) δ², δ² the squared difference of the two sections in excess of their sampling variance,
    half that of the place, half the mean over the gap. It vanishes at the sections and is largest in mid-gap.

    Parameters
    ----------
    positions
        Cells of each section (n_k, 2), state units, sections in order of depth.
    components
        Components of the same cells' expression, (n_k, C) each; read when a section is first needed.
    n_cells, adaptive
        Cells that the regression smooths over, and whether only those with like surroundings count.
    cell_variance
        Variance of a cell's components about their expectation (C,).
    """

    def __init__(
        self,
        positions: Sequence[NDArray[np.floating]],
        components: Sequence[NDArray[np.floating]],
        *,
        n_cells: int,
        adaptive: bool = False,
        cell_variance: NDArray[np.floating],
    ) -> None:
        self._positions = positions
        self._variance = np.asarray(cell_variance, dtype=np.float64)
        self._field = lru_cache(_FIELDS_KEPT)(
            lambda k: LocalLinear(positions[k], components[k], n_cells=n_cells, adaptive=adaptive),
        )
        self._mean_difference = lru_cache(None)(self._measure_difference)

    def __call__(self, gap: int, fraction: float, query: NDArray[np.floating]) -> Expected:
        """Estimate the expected components at the places `query` (n, 2), state units, at a fraction of a gap."""
        if fraction in (0.0, 1.0):
            own = self._field(gap + int(fraction))(query)
            return Expected(own.mean, own.leverage[:, None] * self._variance)
        lower, upper = self._field(gap)(query), self._field(gap + 1)(query)
        t = fraction
        sampling = ((1 - t) ** 2 * lower.leverage + t**2 * upper.leverage)[:, None] * self._variance
        difference = (self._difference(lower, upper).clip(min=0) + self._mean_difference(gap)) / 2
        return Expected((1 - t) * lower.mean + t * upper.mean, sampling + t * (1 - t) * difference)

    def _difference(self, lower: Estimate, upper: Estimate) -> NDArray[np.float64]:
        """Squared difference of two sections beyond their sampling variance: unbiased, so it may be negative."""
        noise = (lower.leverage + upper.leverage)[:, None] * self._variance
        squared: NDArray[np.float64] = (lower.mean - upper.mean) ** 2 - noise
        return squared

    def _measure_difference(self, gap: int) -> NDArray[np.float64]:
        cells = self._positions[gap]
        probes = cells[:: max(1, len(cells) // _PROBES)]
        mean: NDArray[np.float64] = self._difference(self._field(gap)(probes), self._field(gap + 1)(probes)).mean(0)
        return mean.clip(min=0)


def cell_variance(
    positions: Sequence[NDArray[np.floating]],
    components: Sequence[NDArray[np.floating]],
    *,
    n_cells: int,
    adaptive: bool = False,
) -> NDArray[np.float64]:
    """Variance of a cell's components about their expectation, by leaving each cell out of its own estimate.

    Parameters
    ----------
    positions, components, n_cells, adaptive
        As those of `Expectation`.

    Returns
    -------
    Variance of each component (C,), squared units of the components; a mean over cells of all sections.
    """
    total, count = np.zeros(components[0].shape[1]), 0
    for k, position in enumerate(positions):
        values = components[k]
        probes = slice(None, None, max(1, len(position) // _PROBES))
        without = LocalLinear(position, values, n_cells=n_cells, adaptive=adaptive)(position[probes], skip_nearest=True)
        residual = np.asarray(values[probes], np.float64) - without.mean
        total += (residual**2 / (1 + without.leverage[:, None])).sum(0)
        count += len(residual)
    return total / count
