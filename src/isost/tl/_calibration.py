from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from isost.field import systematic_sample
from isost.generation import Expectation, trace_back
from isost.pp import read_rows
from isost.volume import decode

from ._inputs import dense
from ._standard_error import gene_variance, spread_around
from ._surroundings import Surroundings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anndata import AnnData
    from numpy.typing import NDArray

    from isost.training import Displacements

    from ._inputs import Sections

__all__ = ["choose_gap_variance"]

_NOMINAL, _HALF_WIDTH = 0.9, 1.645  # share of a normal distribution within so many standard deviations
_WITHOUT_EVIDENCE = 1.0  # two sections: none can be left out
_RANGE = (0.05, 50.0)
_N_GENES = 30  # those whose pattern is clearest
_MOST_BINS = 50_000  # over all sections: bounds memory
_CELLS_A_BIN, _FEWEST_MEASURED, _FEWEST_DRAWN = 8, 4, 3


class _Bins(NamedTuple):
    """What was found and expected in bins of a section left out, each (bins, genes)."""

    error: NDArray[np.float64]  # of the mean, absolute
    sampling: NDArray[np.float64]  # variance of the estimate
    between: NDArray[np.float64]
    cells: NDArray[np.float64]  # variance of the mean of the bin's cells


def choose_gap_variance(
    stack: AnnData,
    sections: Sections,
    loadings: NDArray[np.floating],
    random: np.random.Generator,
    displacements: Mapping[int, Displacements],
    *,
    mean_shift: float,
    component_variance: NDArray[np.float64],
    **estimate: Any,
) -> float:
    """Choose how much may happen between two sections, by intervals for sections that were left out.

    Inner sections are left out in turn, and the mean expression of small groups of neighbouring cells is predicted from
    the two sections around: mean ± 1.645 √(σ² + s²/n), σ² the variance of the expectation, s² that of the cells
    drawn there and n the number of measured ones. The factor is taken with which 90 % of these intervals hold what was
    measured.

    Parameters
    ----------
    stack, sections
        The stack and its arrays.
    loadings
        Components that the expectation is estimated in (genes, C).
    random
        Draws the cells.
    displacements
        Of the sections around each section that is left out.
    mean_shift
        How far expected expression moves with the tissue.
    component_variance
        Variance of each component over all cells (C,).
    **estimate
        ``n_cells``, ``adaptive`` and ``cell_variance`` of `isost.generation.Expectation`.

    Returns
    -------
    The factor, between 0.05 and 50; 1 when there are only two sections, as none can be left out.
    """
    if not displacements:
        return _WITHOUT_EVIDENCE
    components = sections.components(loadings)
    genes = _clearest(loadings, component_variance, estimate["cell_variance"])
    parts = [
        _spread(
            _left_out(stack, sections, loadings, components, k, genes, random, estimate, moved, mean_shift),
            at_most=-(-_MOST_BINS // len(displacements)),
        )
        for k, moved in displacements.items()
    ]
    bins = _Bins(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    if not len(bins.error):
        return _WITHOUT_EVIDENCE

    def covered(factor: float) -> float:
        half_width = _HALF_WIDTH * np.sqrt(bins.sampling + factor * bins.between + bins.cells)
        return float((bins.error <= half_width).mean())

    low, high = np.log(_RANGE)
    for _ in range(30):  # bisection: the share covered can only grow with the factor
        middle = (low + high) / 2
        low, high = (middle, high) if covered(np.exp(middle)) < _NOMINAL else (low, middle)
    return float(np.exp((low + high) / 2).round(4))


def _spread(bins: _Bins, *, at_most: int) -> _Bins:
    """Take evenly spread bins, at most so many; they come in order of place."""
    every = max(1, -(-len(bins.error) // at_most))
    return _Bins(*(column[::every].copy() for column in bins))


def _clearest(
    loadings: NDArray[np.floating], component_variance: NDArray[np.float64], cell_variance: NDArray[np.float64]
) -> NDArray[np.intp]:
    """Genes with the largest share of their variance in what cells share with their surroundings."""
    shared = np.maximum(component_variance - cell_variance, 0)
    return np.argsort(-(np.asarray(loadings, np.float64) ** 2 @ shared), kind="stable")[:_N_GENES]


def _left_out(
    stack: AnnData,
    sections: Sections,
    loadings: NDArray[np.floating],
    components: Any,
    k: int,
    genes: NDArray[np.intp],
    random: np.random.Generator,
    estimate: dict[str, Any],
    moved: Displacements,
    mean_shift: float,
) -> _Bins:
    """Predict section k from the two around it."""
    view, ends = sections.stack, (k - 1, k + 1)
    t = float((view.depths[k] - view.depths[k - 1]) / (view.depths[k + 1] - view.depths[k - 1]))
    places = np.concatenate([sections.positions[i] for i in ends])
    weights = np.repeat([1 - t, t], [len(sections.positions[i]) for i in ends])
    drawn = systematic_sample(places, weights, generator=random)
    donors = np.concatenate([np.arange(view.offsets[i], view.offsets[i] + view.sizes[i]) for i in ends])[drawn]
    between_them = Expectation([sections.positions[i] for i in ends], [components[i] for i in ends], **estimate)
    below, above = (
        trace_back(places[drawn], sections.positions[i], sections.positions[i] + way, share=mean_shift)
        for i, way in zip(ends, (t * moved.up[0], (1 - t) * moved.down[0]), strict=True)
    )
    expected = between_them(0, t, places[drawn], origins=(below, above))
    X = stack.X[:, genes]
    scale, own = view.gene_scale[genes], loadings[genes]
    mean = decode(expected.mean, own, view.gene_mean[genes], scale)
    shares = (np.full(len(drawn), share) for share in (1 - t, t))
    spread = spread_around(X, Surroundings(sections).between(ends, places[drawn], *shares))
    sampling, between = gene_variance(expected, spread, own, scale)
    here, there, number = _shared_bins(sections.positions[k], places[drawn])
    measured, cells = dense(read_rows(X, view.section(k))), dense(read_rows(X, donors))
    n_drawn = np.asarray(there.sum(1)).ravel()[:, None]
    spread = np.maximum(_mean_in(there, cells**2) - _mean_in(there, cells) ** 2, 0) * n_drawn / (n_drawn - 1)
    return _Bins(
        error=np.abs(_mean_in(there, mean) - _mean_in(here, measured)),
        sampling=_mean_in(there, sampling),
        between=_mean_in(there, between),
        cells=spread / number[:, None],
    )


def _shared_bins(
    measured: NDArray[np.float64], drawn: NDArray[np.float64]
) -> tuple[sp.csr_array, sp.csr_array, NDArray[np.float64]]:
    """Which measured and which drawn cells lie in each bin that has enough of both, and how many measured ones."""
    low, high = measured.min(0), measured.max(0)
    width, height = high - low
    area = max(width * height, 1e-6 * max(width, height) ** 2)  # cells may lie on a line
    side = max(float(np.sqrt(area * _CELLS_A_BIN / len(measured))), 1e-9)
    index = np.floor((np.concatenate([measured, drawn]) - low) / side).astype(np.int64)
    bins = np.unique(index, axis=0, return_inverse=True)[1].ravel()
    members = [
        sp.csr_array((np.ones(len(own)), (own, np.arange(len(own)))), shape=(bins.max() + 1, len(own)))
        for own in (bins[: len(measured)], bins[len(measured) :])
    ]
    number, n_drawn = (np.asarray(which.sum(1)).ravel() for which in members)
    enough = (number >= _FEWEST_MEASURED) & (n_drawn >= _FEWEST_DRAWN)
    return members[0][enough], members[1][enough], number[enough]


def _mean_in(members: sp.csr_array, values: NDArray[np.floating]) -> NDArray[np.float64]:
    number = np.asarray(members.sum(1)).ravel()
    mean: NDArray[np.float64] = (members @ np.asarray(values, np.float64)) / number[:, None]
    return mean
