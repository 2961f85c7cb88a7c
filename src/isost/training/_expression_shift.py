from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from isost.field import LocalLinear, evenly_spread, systematic_sample
from isost.metrics import energy_distance

from ._paths import section_displacements

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from ._paths import Displacements

__all__ = ["Sampled", "choose_expression_shift", "left_out_displacements"]

_CANDIDATES = (0.0, 0.25, 0.5, 0.75, 1.0)
_WORTH = 0.02  # of the distance: a shift is taken only if some shift gains that much
_WITHOUT_EVIDENCE = 0.5  # two sections: none can be left out
_MOST_SECTIONS = 8  # left out in turn, evenly spread over the stack
_MOST_CELLS = 3000  # of each section in the comparison
_COMPS = 10
_WEIGHT_OF_SPACE = 6.0  # the larger width in units of the first component's spread, as in `isost.metrics.energy`


def left_out_displacements(positions: Sequence[NDArray[np.floating]]) -> dict[int, Displacements]:
    """Displacements between the two sections around each section that is left out: inner ones, eight at most."""
    inner = np.arange(1, len(positions) - 1)
    if not len(inner):
        return {}
    chosen = inner[evenly_spread(len(inner), _MOST_SECTIONS)]
    return {int(k): section_displacements([positions[k - 1], positions[k + 1]]) for k in chosen}


class Sampled(Protocol):
    """What the components (n, G) of a section's cells would be after a change of them, once sampled as expression."""

    def __call__(self, section: int, cells: NDArray[np.intp]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        """Read `cells`, rows of a section; what is returned samples them with components changed by (n, G)."""
        ...


def choose_expression_shift(
    positions: Sequence[NDArray[np.floating]],
    expression: Sequence[NDArray[np.floating]],
    depths: NDArray[np.floating],
    *,
    n_cells: int,
    generator: np.random.Generator,
    sampled: Sampled | None = None,
    displacements: Mapping[int, Displacements] | None = None,
) -> float:
    """Choose how far a cell's expression follows its surroundings on the way, β, from the sections themselves.

    Inner sections are left out in turn and drawn anew from their two neighbours: cells moved along straight lines,
    thinned by distance, their components changed by β times the change of the expected expression, and compared with
    the measured ones by energy distance in (x, y, 10 components). Where some β brings them nearer by 2 %, the largest
    is taken with which they are no farther than unchanged cells: the gap left by a section is twice as wide as those to
    be filled, and the change across it is foreseen less well.

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
        Cells that the expected expression is smoothed over, see `path_width`.
    generator
        Source of the random draws.
    sampled
        What becomes of changed components when they are sampled as expression; they stay as they are when None. Cells
        are read once for all changes.
    displacements
        Of the two sections around each section that is left out, from `left_out_displacements`; found here when None.

    Returns
    -------
    β: 0, 0.25, 0.5, 0.75 or 1; 0.5 when there are only two sections, as none can be left out.
    """
    displacements = left_out_displacements(positions) if displacements is None else displacements
    if not displacements:
        return _WITHOUT_EVIDENCE
    positions = [np.asarray(p, np.float64) for p in positions]
    distance = np.zeros(len(_CANDIDATES))
    for k, moved in displacements.items():
        redrawn = [
            (part, _changed(expression, part) if sampled is None else sampled(part.section, part.cells))
            for part in _redraw(positions, expression, depths, k, moved, n_cells=n_cells, generator=generator)
        ]
        leading = np.asarray(expression[k], np.float64)[:, :_COMPS]
        spread = float(leading.std(0).max()) or 1.0  # cells may all be equal
        rows = generator.permutation(len(leading))[:_MOST_CELLS]
        measured = np.c_[positions[k] * _WEIGHT_OF_SPACE, leading / spread][rows]
        for i, shift in enumerate(_CANDIDATES):
            drawn = [
                np.c_[part.place * _WEIGHT_OF_SPACE, changed(shift * part.change)[:, :_COMPS] / spread]
                for part, changed in redrawn
            ]
            distance[i] += energy_distance(np.concatenate(drawn), measured)
    if distance.min() > distance[0] - _WORTH * abs(distance[0]):
        return _CANDIDATES[0]
    return _CANDIDATES[int(np.flatnonzero(distance <= distance[0])[-1])]


class _Redrawn(NamedTuple):
    """Cells of one section, moved to where another was left out."""

    section: int
    cells: NDArray[np.intp]
    place: NDArray[np.float64]  # (n, 2)
    change: NDArray[np.float64]  # of the expected components, (n, G)


def _redraw(
    positions: Sequence[NDArray[np.floating]],
    expression: Sequence[NDArray[np.floating]],
    depths: NDArray[np.floating],
    k: int,
    moved: Displacements,
    *,
    n_cells: int,
    generator: np.random.Generator,
) -> list[_Redrawn]:
    """Draw section k anew from the two around it, at most as many cells as are compared."""
    ends = (k - 1, k + 1)
    t = float((depths[k] - depths[k - 1]) / (depths[k + 1] - depths[k - 1]))
    places = [positions[k - 1] + t * moved.up[0], positions[k + 1] + (1 - t) * moved.down[0]]
    lower, upper = (LocalLinear(positions[i], expression[i], n_cells=n_cells) for i in ends)
    sizes = [len(place) for place in places]
    everywhere = np.concatenate(places)
    kept = systematic_sample(everywhere, np.repeat([1 - t, t], sizes), generator=generator)
    kept = np.sort(generator.permutation(kept)[:_MOST_CELLS])
    parts = []
    for section, own, first, size in zip(ends, (lower, upper), (0, sizes[0]), sizes, strict=True):
        rows = kept[(kept >= first) & (kept < first + size)]
        place, cells = everywhere[rows], rows - first
        mean = (1 - t) * lower(place).mean + t * upper(place).mean
        parts.append(_Redrawn(section, cells, place, mean - own(positions[section][cells]).mean))
    return parts


def _changed(
    expression: Sequence[NDArray[np.floating]], part: _Redrawn
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    own = np.asarray(expression[part.section], np.float64)[part.cells]
    return lambda change: own + change
