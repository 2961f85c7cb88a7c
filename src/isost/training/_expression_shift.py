from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from isost.field import LocalLinear, systematic_sample
from isost.metrics import energy_distance

from ._paths import section_displacements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["choose_expression_shift"]

_CANDIDATES = (0.0, 0.5, 1.0)
_WITHOUT_EVIDENCE = 0.5  # two sections: none can be left out
_MOST_SECTIONS = 8  # left out in turn, evenly spread over the stack
_MOST_CELLS = 3000  # of each section in the comparison
_COMPS = 10
_WEIGHT_OF_SPACE = 6.0  # the larger width in units of the first component's spread, as in `isost.metrics.energy`


def choose_expression_shift(
    positions: Sequence[NDArray[np.floating]],
    expression: Sequence[NDArray[np.floating]],
    depths: NDArray[np.floating],
    *,
    n_cells: int,
    generator: np.random.Generator,
) -> float:
    """Choose how far a cell's expression follows its surroundings on the way, β, from the sections themselves.

    Inner sections are left out in turn and drawn anew from their two neighbours: cells moved along straight lines,
    thinned by distance, their components changed by β times the change of the expected expression. The β is taken
    whose cells are nearest to the measured ones by energy distance in (x, y, 10 components).

    Smoothly varying genes ask for 1; sparse counts, where most of a cell's expression is noise that no neighbour
    shares, for less.

    Parameters
    ----------
    positions
        Cells of each section (n_k, 2), state units, sections in order of depth.
    expression
        Principal components of the same cells (n_k, G), all on one scale.
    depths
        Depth of each section (K,).
    n_cells
        Cells that the expected expression is smoothed over.
    generator
        Source of the random draws.

    Returns
    -------
    β: 0, 0.5 or 1; 0.5 when there are only two sections, as none can be left out.
    """
    inner = np.arange(1, len(positions) - 1)
    if not len(inner):
        return _WITHOUT_EVIDENCE
    chosen = inner[np.unique(np.linspace(0, len(inner) - 1, min(_MOST_SECTIONS, len(inner))).round().astype(int))]
    positions = [np.asarray(p, np.float64) for p in positions]
    leading = [np.asarray(e, np.float64)[:, :_COMPS] for e in expression]
    distance = np.zeros(len(_CANDIDATES))
    for k in chosen:
        ends = (k - 1, k + 1)
        t = (depths[k] - depths[k - 1]) / (depths[k + 1] - depths[k - 1])
        place, own, change = _redrawn(
            [positions[i] for i in ends], [leading[i] for i in ends], t, n_cells=n_cells, generator=generator
        )
        spread = max(float(leading[k].std(0).max()), np.finfo(np.float64).tiny)
        measured = _limited(np.c_[positions[k] * _WEIGHT_OF_SPACE, leading[k] / spread], generator)
        rows = generator.permutation(len(place))[:_MOST_CELLS]
        for i, shift in enumerate(_CANDIDATES):
            drawn = np.c_[place * _WEIGHT_OF_SPACE, (own + shift * change) / spread][rows]
            distance[i] += energy_distance(drawn, measured)
    return _CANDIDATES[int(distance.argmin())]


def _redrawn(
    positions: Sequence[NDArray[np.float64]],
    expression: Sequence[NDArray[np.float64]],
    t: float,
    *,
    n_cells: int,
    generator: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Cells at fraction t between two sections: places, their own components, and the change of the expected ones."""
    moved = section_displacements(positions)
    places = [positions[0] + t * moved.up[0], positions[1] + (1 - t) * moved.down[0]]
    lower, upper = (LocalLinear(p, e, n_cells=n_cells) for p, e in zip(positions, expression, strict=True))
    change = [
        (1 - t) * lower(place).mean + t * upper(place).mean - own(start).mean
        for place, own, start in zip(places, (lower, upper), positions, strict=True)
    ]
    place = np.concatenate(places)
    weights = np.repeat([1 - t, t], [len(p) for p in places])
    kept = systematic_sample(place, weights, generator=generator)
    return place[kept], np.concatenate(expression)[kept], np.concatenate(change)[kept]


def _limited(values: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    return values[generator.permutation(len(values))[:_MOST_CELLS]]
