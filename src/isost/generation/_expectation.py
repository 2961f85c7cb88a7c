from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, cast

import numpy as np
from scipy.spatial import cKDTree

from isost._nearest import nearest_points
from isost.field import LocalLinear, evenly_spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from isost.field import Estimate

__all__ = ["Expectation", "Expected", "cell_variance", "trace_back"]

_PROBES = 1000  # cells of a section at which variances are measured
_MOST_SECTIONS = 16  # in which they are
_CARRIED_AROUND = 15  # cells whose displacement tells where the tissue of a place comes from
_FIELDS_KEPT = 4  # sections whose search trees are held at a time


@dataclass(frozen=True)
class Expected:
    """Expected components at some places, and how firmly they stand.

    Attributes
    ----------
    mean
        Expected components (n, C).
    variance
        Variance of that estimate (n, C).
    leverage
        Sampling variance of the estimate in units of the variance of one cell (n,).
    apart
        Difference of the two sections' estimates (n, C); zero at a section.
    apart_leverage
        Sampling variance of that difference in units of the variance of one cell (n,).
    bridge
        t (1 − t) at fraction t of the gap: variance between the sections in units of their squared difference.
    """

    mean: NDArray[np.float64]
    variance: NDArray[np.float64]
    leverage: NDArray[np.float64]
    apart: NDArray[np.float64]
    apart_leverage: NDArray[np.float64]
    bridge: float


class Expectation:
    """Expected expression at any place between the sections.

    m(x, t) = (1 − t) m_k(x) + t m_{k+1}(x) at fraction t of gap k, m_k the local linear regression of section k. Its
    variance has two parts: the sampling variance of both regressions, and what may happen between the sections,
    c t (1 − t) δ², δ² the squared difference of the two sections in excess of their sampling variance, half that of the
    place, half the mean over the gap. It vanishes at the sections and is largest in mid-gap. For expression that does a
    random walk along depth, c = 1 (a Brownian bridge); it is more where sections differ at random from one to the next,
    and less where change is steady, so c is measured on sections left out, see `gap_variance`.

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
    gap_variance
        The factor c.
    """

    def __init__(
        self,
        positions: Sequence[NDArray[np.floating]],
        components: Sequence[NDArray[np.floating]],
        *,
        n_cells: int,
        adaptive: bool = False,
        cell_variance: NDArray[np.floating],
        gap_variance: float = 1.0,
    ) -> None:
        self._positions = positions
        self._gap_variance = gap_variance
        self._variance = np.asarray(cell_variance, dtype=np.float64)
        self._field = lru_cache(_FIELDS_KEPT)(
            lambda k: LocalLinear(positions[k], components[k], n_cells=n_cells, adaptive=adaptive),
        )
        self._mean_difference = lru_cache(None)(self._measure_difference)

    def __call__(
        self,
        gap: int,
        fraction: float,
        query: NDArray[np.floating],
        *,
        origins: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None,
    ) -> Expected:
        """Estimate the expected components at the places `query` (n, 2), state units, at a fraction of a gap.

        With `origins`, m_k and m_{k+1} are taken at these places of the two sections (n, 2), where the tissue of each
        query place comes from, see `trace_back`; otherwise at the query places themselves.
        """
        below, above = (query, query) if origins is None else origins
        lower = None if fraction == 1 else self.at_section(gap, below)
        upper = None if fraction == 0 else self.at_section(gap + 1, above)
        return self.between(gap, fraction, lower, upper)

    def at_section(self, k: int, place: NDArray[np.floating]) -> Estimate:
        """Estimate the expected components of section k at places (n, 2) of it, state units: m_k and its leverage."""
        return self._field(k)(place)

    def window(self, k: int) -> float:
        """Radius of the window over which section k is smoothed, state units."""
        return self._field(k).window

    def between(self, gap: int, fraction: float, lower: Estimate | None, upper: Estimate | None) -> Expected:
        """Combine what was estimated at the two sections of a gap, of which one is enough at a section itself."""
        t = fraction
        if t in (0.0, 1.0) or lower is None or upper is None:
            own = cast("Estimate", upper if t else lower)
            nothing = np.zeros_like(own.mean)
            return Expected(
                own.mean, own.leverage[:, None] * self._variance, own.leverage, nothing, np.zeros(len(nothing)), 0.0
            )
        leverage = (1 - t) ** 2 * lower.leverage + t**2 * upper.leverage
        apart, apart_leverage = lower.mean - upper.mean, lower.leverage + upper.leverage
        difference = (self._beyond_sampling(apart, apart_leverage).clip(min=0) + self._mean_difference(gap)) / 2
        bridge = t * (1 - t)
        return Expected(
            mean=(1 - t) * lower.mean + t * upper.mean,
            variance=leverage[:, None] * self._variance + self._gap_variance * bridge * difference,
            leverage=leverage,
            apart=apart,
            apart_leverage=apart_leverage,
            bridge=bridge,
        )

    def _beyond_sampling(self, apart: NDArray[np.float64], apart_leverage: NDArray[np.float64]) -> NDArray[np.float64]:
        """Squared difference of two sections beyond its sampling variance: unbiased, so it may be negative."""
        squared: NDArray[np.float64] = apart**2 - apart_leverage[:, None] * self._variance
        return squared

    def _measure_difference(self, gap: int) -> NDArray[np.float64]:
        cells = self._positions[gap]
        probes = cells[:: max(1, len(cells) // _PROBES)]
        lower, upper = self._field(gap)(probes), self._field(gap + 1)(probes)
        squared = self._beyond_sampling(lower.mean - upper.mean, lower.leverage + upper.leverage)
        mean: NDArray[np.float64] = squared.mean(0)
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
    Variance of each component (C,), squared units of the components; a mean over cells of all sections, or of 16 of
    them evenly spread over the stack.
    """
    parts, count = [], 0
    for k in evenly_spread(len(positions), _MOST_SECTIONS):
        position, values = positions[k], components[k]
        probes = slice(None, None, max(1, len(position) // _PROBES))
        without = LocalLinear(position, values, n_cells=n_cells, adaptive=adaptive)(position[probes], skip_nearest=True)
        residual = np.asarray(values[probes], np.float64) - without.mean
        parts.append((residual**2 / (1 + without.leverage[:, None])).sum(0))
        count += len(residual)
    variance: NDArray[np.float64] = np.sum(parts, axis=0) / count
    return variance


def trace_back(
    query: NDArray[np.floating], start: NDArray[np.floating], moved: NDArray[np.floating], *, share: float
) -> NDArray[np.float64]:
    """Find where in a section the tissue at places between the sections comes from.

    Parameters
    ----------
    query
        Places (n, 2), at one depth.
    start, moved
        Cells of the section, where they were measured and where they have been carried at that depth, both (m, 2).
    share
        Part of the displacement that is undone, in [0, 1].

    Returns
    -------
    The places less that share of the mean displacement of the cells carried nearest to them, (n, 2).
    """
    if not share or not len(moved):
        return np.asarray(query, np.float64)
    near = nearest_points(cKDTree(moved), query, _CARRIED_AROUND)[1]
    shift = np.asarray(moved, np.float64) - start
    origin: NDArray[np.float64] = query - share * shift[near].mean(1)
    return origin
