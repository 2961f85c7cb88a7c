from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ._local_linear import LocalLinear
from ._thinning import evenly_spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["choose_smoothing"]

_CANDIDATES = (8, 12, 17, 24, 34, 48, 68, 96, 136)
_N_PROBES = 1500  # cells per section at which the error is measured
_PROBES_ENOUGH = 12_000  # in all sections at which it is, evenly spread over the stack


def choose_smoothing(
    positions: Sequence[NDArray[np.floating]],
    values: Sequence[NDArray[np.floating]],
    depths: NDArray[np.floating],
    *,
    generator: np.random.Generator,
    n_cells: int | None = None,
    adaptive: bool | None = None,
) -> tuple[int, bool]:
    """Choose how the local linear regression smooths, from the sections themselves.

    Two errors are measured at 1,500 cells of each section, or of as many sections as make 12,000: leaving out the cell
    (its own section is smoothed), and leaving out its whole section (its two neighbours are, weighted by distance in
    depth). The first is minimised by too narrow a window, since what sections do not share is fitted too; the second by
    too wide a one, since its gap is double. The geometric mean of the two is taken. This is done with and without
    adaptive weights; those are kept for which the product of the two errors is smaller.

    Parameters
    ----------
    positions
        Cells of each section, (n_k, 2), sections in order of depth.
    values
        Expression of the same cells, (n_k, d), all d on one scale, leading components first.
    depths
        Depth of each section, (K,).
    generator
        Chooses the cells at which the errors are measured.
    n_cells, adaptive
        What is already decided.

    Returns
    -------
    Number of cells under the window, and whether only those with like surroundings count.
    """
    smallest = min(map(len, positions))
    candidates = [n_cells] if n_cells else [k for k in _CANDIDATES if k < smallest] or [smallest]
    families = (adaptive,) if adaptive is not None else (False, True) if smallest > _CANDIDATES[0] else (False,)
    if len(candidates) == len(families) == 1:
        return candidates[0], families[0]
    usual = float(np.mean([min(len(position), _N_PROBES) for position in positions]))
    probed = evenly_spread(len(positions), int(np.ceil(_PROBES_ENOUGH / usual)))
    probes = {int(k): generator.permutation(len(positions[k]))[:_N_PROBES] for k in probed}
    found = []
    for family in families:
        by_cell, by_section = (
            np.array(errors)
            for errors in zip(
                *(_errors(positions, values, depths, probes, n_cells=k, adaptive=family) for k in candidates),
                strict=True,
            )
        )
        narrow = _best(candidates, by_cell)
        wide = _best(candidates, by_section) if len(positions) > 2 else narrow
        width = round(float(np.sqrt(narrow * wide)))
        error = sum(float(np.interp(np.log(width), np.log(candidates), e)) for e in map(_log, (by_cell, by_section)))
        found.append((error, width, family))
    _, width, family = min(found)
    return width, family


def _errors(
    positions: Sequence[NDArray[np.floating]],
    values: Sequence[NDArray[np.floating]],
    depths: NDArray[np.floating],
    probes: Mapping[int, NDArray[np.intp]],
    *,
    n_cells: int,
    adaptive: bool,
) -> tuple[float, float]:
    """Mean squared errors at the probes: leaving out the cell, and leaving out its section."""
    smooth = lru_cache(3)(lambda k: LocalLinear(positions[k], values[k], n_cells=n_cells, adaptive=adaptive))
    by_cell = by_section = 0.0
    for k, probe in probes.items():
        query, truth = positions[k][probe], values[k][probe]
        by_cell += float(((smooth(k)(query, skip_nearest=True).mean - truth) ** 2).mean())
        if 0 < k < len(positions) - 1:
            t = (depths[k] - depths[k - 1]) / (depths[k + 1] - depths[k - 1])
            mean = (1 - t) * smooth(k - 1)(query).mean + t * smooth(k + 1)(query).mean
            by_section += float(((mean - truth) ** 2).mean())
    return by_cell, by_section


def _log(error: NDArray[np.float64]) -> NDArray[np.float64]:
    logarithm: NDArray[np.float64] = np.log(np.maximum(error, np.finfo(np.float64).tiny))
    return logarithm


def _best(candidates: Sequence[int], error: NDArray[np.float64]) -> float:
    """Minimum of the error over log width, between candidates by the parabola through the lowest three."""
    i = int(error.argmin())
    if i in (0, len(candidates) - 1):
        return float(candidates[i])
    x = np.log(candidates[i - 1 : i + 2])
    curvature, slope, _ = np.polyfit(x, error[i - 1 : i + 2], 2)
    return float(np.exp(np.clip(-slope / (2 * curvature), x[0], x[2]))) if curvature > 0 else float(candidates[i])
