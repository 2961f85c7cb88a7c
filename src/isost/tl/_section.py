from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData, concat

from isost import _keys as keys
from isost._checks import check_at_least
from isost._faults import explained
from isost._logging import counted, step
from isost._normalization import DEPTH, SPACE
from isost._provenance import provenance
from isost.field import balanced_sample
from isost.generation import carry_sections, locate
from isost.pp import read_rows
from isost.volume import cell_spacing, decode

from ._cuts import DepthCut, PlaneCut, as_cuts, is_single
from ._inputs import Sections, check_fits, record_of
from ._labels import check_labels, label_colors, label_columns
from ._origins import Carrying, origins
from ._sampling import Sampler
from ._standard_error import gene_variance, spread_around
from ._surroundings import Surroundings
from ._threads import few_threads
from ._values import CarriedValues

if TYPE_CHECKING:
    from collections.abc import Sequence

    import scipy.sparse as sp
    from numpy.typing import ArrayLike, NDArray

    from isost.model import IsoST

__all__ = ["section"]

_ROUNDING = 1e-9  # of the stack's depth: a cell this near to a measured section lies in it
_MOST_NUMBERS = 2**24  # of cells times genes at a time: bounds memory
_LESS_MEMORY = "fewer depths or planes at a time, a smaller thickness or fewer obs= and obsm= need less"
_BALANCED_COMPS = 10  # of the sampled expression, which the cells drawn around any place must represent


@few_threads()
def section(
    stack: AnnData,
    *,
    model: IsoST,
    z: float | Sequence[float] | None = None,
    plane: tuple[ArrayLike, ArrayLike] | Sequence[tuple[ArrayLike, ArrayLike]] | None = None,
    thickness: float | None = None,
    obs: Sequence[str] | None = None,
    obsm: Sequence[str] | None = None,
    seed: int = 0,
) -> AnnData:
    """Generate the cells of a section at any depth, or on any oblique plane.

    Cells of the two sections around are carried to the place by the stochastic differential equation and thinned, so
    that at fraction t of the gap 1 − t of the lower section's and t of the upper one's remain, evenly spread and
    representative of the expression around them (see `isost.field.balanced_sample`). At a measured depth the section
    itself is returned.

    Parameters
    ----------
    stack
        What :func:`isost.pp.slice_stack` returned. Not changed.
    model
        What :func:`isost.tl.fit` returned for it.
    z
        Depth, or several, input units; between the first and the last section.
    plane
        Point and normal, each of three numbers in input units, or a list of such pairs; instead of `z`.
    thickness
        Of the slab around each plane from which cells are taken, input units; the median spacing of cells inside
        sections when None, which gives a plane as many cells to the area as a section has.
    obs, obsm
        Names of numeric columns of the stack's `obs` and of arrays of its `obsm` to carry over as well; none when None.
    seed
        Seed of noise and thinning.

    Returns
    -------
    A new AnnData, one row per generated cell:

    X
        Sampled expression, as varied as measured cells': that of the cell carried here plus what its surroundings have
        changed by, within the range of the data; sparse where the stack is.
    layers["mean"]
        Expected expression at the same place, float32.
    layers["std"]
        Standard error of that expectation, not the spread of cells, float32.
    obsm["spatial"]
        Positions (n, 3), input units; with `z` exactly at that depth.
    obsm["plane"]
        With `plane`, positions (n, 2) in the plane, input units.
    obs
        The sections' own categorical columns, but for those that differ between sections and never in one: those of
        the cell carried here, each with ``<column>_probability``, the share of that label among measured cells around:
        at fraction t of a gap 1 − t times that among the nearest 12 cells of the lower section plus t times that of the
        upper one. For every column named by `obs`, the value of the cell carried here, and as ``<column>_mean`` the one
        expected at the place, a mean of the same cells. ``measured``; ``source_section``; ``section_distance``, input
        units; and ``cut``, the number of the depth or plane, where a list was asked for.
    obsm[<key>], obsm["<key>_mean"]
        The same for every array named by `obsm`.
    uns["<column>_colors"]
        Colours of the categories, where the stack has them.
    uns["isost"]
        ``params``: ``seed``, what ``model`` says of itself, and ``z``, or ``origin``, ``normal`` (of length 1) and
        ``thickness`` of the planes; ``provenance``: versions, platform, settings and all parameters, of this call, of
        the stack and of the model, enough to make it again.

    Raises
    ------
    ValueError
        If a depth or plane lies outside the stack, not exactly one of `z` and `plane` is given, or the model belongs to
        other sections; or if a column or array to carry over is not numeric or would take a name that is written here.
    KeyError
        If there is no such column or array.
    MemoryError
        If there is too little memory; the message says what needs less.

    Examples
    --------
    >>> middle = isost.tl.section(stack, model=model, z=75.0)
    """
    given = locals().copy()
    check_at_least(0, seed=seed)
    sections = Sections(stack)
    check_fits(model, stack, sections.stack)
    check_labels(stack)
    values = CarriedValues(stack, obs=obs, obsm=obsm)
    cuts = as_cuts(sections, z=z, plane=plane, thickness=thickness)
    with step("section") as notes, explained(less=_LESS_MEMORY, kept=lambda: "nothing was written"):
        parts = [_cut(stack, sections, model, cut, values, seed=(seed, i)) for i, cut in enumerate(cuts)]
        out = parts[0]
        if not is_single(z=z, plane=plane):
            for i, part in enumerate(parts):
                part.obs[keys.CUT] = i
            names = [str(i) for i in range(len(parts))]
            out = concat(parts, keys=names, index_unique="_cut", merge="same", uns_merge="same")
        out.uns[keys.UNS] = {
            "params": {"seed": seed, "model": repr(model), **_described(cuts)},
            keys.PROVENANCE: provenance("isost.tl.section", given, **record_of(stack, model)),
        }
        notes.append(f"{counted(out.n_obs, 'cell')} on {counted(len(cuts), 'cut')}")
    return out


def _described(cuts: Sequence[DepthCut | PlaneCut]) -> dict[str, Any]:
    """Where the cuts lie, as plain arrays and numbers."""
    planes = [cut for cut in cuts if isinstance(cut, PlaneCut)]
    if not planes:
        return {"z": np.concatenate([cut.depths for cut in cuts])}
    return {
        "origin": np.array([cut.origin for cut in planes]),
        "normal": np.array([cut.normal for cut in planes]),
        "thickness": planes[0].thickness,
    }


@dataclass(frozen=True)
class _Cells:
    """Candidates for the cells of a cut, or those of them that were drawn."""

    place: NDArray[np.float64]  # (n, 3), input units
    donor: NDArray[np.intp]  # row of the stack that the cell was carried from
    change: NDArray[np.float32]  # of its components, (n, G), state units
    weight: NDArray[np.float64]  # inclusion probability
    target: NDArray[np.intp]  # which depth of the cut

    def __getitem__(self, rows: NDArray[Any]) -> _Cells:
        return _Cells(self.place[rows], self.donor[rows], self.change[rows], self.weight[rows], self.target[rows])


def _cut(
    stack: AnnData,
    sections: Sections,
    model: IsoST,
    cut: DepthCut | PlaneCut,
    values: CarriedValues,
    *,
    seed: tuple[int, int],
) -> AnnData:
    candidates, carrying = _candidates(stack, sections, model, cut, seed=seed[0])
    flat = cut.flatten(candidates.place)
    source_section = np.repeat(np.arange(len(sections.stack.names)), sections.stack.sizes)
    rows = balanced_sample(
        flat,
        candidates.weight,
        _leading_components(sections, candidates),
        nearest=cell_spacing(sections.positions) * float(sections.stack.normalization.scale[0]),
        generator=np.random.default_rng(seed),
        cloud=source_section[candidates.donor],
        original=candidates.donor,
    )
    cells = candidates[rows]
    sampled = Sampler(stack.X, sections.stack)(cells.donor, cells.change * sections.component_scale)
    distance = np.abs(cells.place[:, 2:] - sections.stack.z).min(1)
    surroundings = Surroundings(sections)(cells.place)
    mean, std = _expected(stack.X, sections, model, cut, cells, carrying, surroundings)
    labels = label_columns(stack, surroundings, cells.donor)
    numbers = values.columns(surroundings, cells.donor)
    obs = pd.concat([labels, numbers], axis=1)
    obs[keys.MEASURED] = distance <= _ROUNDING * np.ptp(sections.stack.z)
    obs[keys.SOURCE_SECTION] = pd.Categorical(
        np.array(sections.stack.names, dtype=object)[source_section[cells.donor]],
        categories=list(sections.stack.names),
        ordered=True,
    )
    obs[keys.SECTION_DISTANCE] = distance
    obs.index = pd.Index([f"cell_{i}" for i in range(len(obs))])
    obsm = {keys.SPATIAL: cells.place} | ({keys.PLANE: flat[rows]} if isinstance(cut, PlaneCut) else {})
    return AnnData(
        sampled,
        obs=obs,
        var=stack.var.drop(columns=list(keys.OF_GENES)),
        obsm=obsm | values.arrays(surroundings, cells.donor),
        layers={keys.MEAN: mean, keys.STD: std},
        uns=label_colors(stack),
    )


def _candidates(
    adata: AnnData, sections: Sections, model: IsoST, cut: DepthCut | PlaneCut, *, seed: int
) -> tuple[_Cells, Carrying]:
    """All cells carried to the depths of the cut that lie in it, with their weights; and where all of them are."""
    stack = sections.stack
    targets = stack.normalization.encode(cut.depths[:, None], dims=DEPTH)[:, 0]
    parts: list[_Cells] = []
    carrying: Carrying = {}
    for carried in carry_sections(model, sections.states, stack.depths, targets, seed=seed):
        if model.settings.mean_shift:
            carrying[carried.target, carried.section] = carried.state[:, :2].copy()
        rows = stack.section(carried.section)
        change = carried.state - stack.state[rows]
        # from the measured place, not from its float32 state: what does not move stays where it is to the last digit
        place = adata.obsm[keys.SPATIAL][rows] + change[:, :3] * stack.normalization.scale[SPACE]
        place[:, 2] = cut.depths[carried.target]
        weight = carried.weight * cut.shares(place)
        cells = _Cells(
            place, np.arange(rows.start, rows.stop), change[:, 3:], weight, np.full(len(place), carried.target)
        )
        parts.append(cells[weight > 0])
    parts.sort(key=lambda part: int(part.donor[0]) if len(part.donor) else -1)
    cells = _Cells(
        place=np.concatenate([part.place for part in parts]),
        donor=np.concatenate([part.donor for part in parts]),
        change=np.concatenate([part.change for part in parts]),
        weight=np.concatenate([part.weight for part in parts]),
        target=np.concatenate([part.target for part in parts]),
    )
    return cells, carrying


def _leading_components(sections: Sections, cells: _Cells) -> NDArray[np.float64]:
    """Find the leading components of the cells' sampled expression (n, at most 10), all on one scale."""
    components = np.concatenate([values[:, :_BALANCED_COMPS] for values in sections.expression])[cells.donor]
    scaled: NDArray[np.float64] = (components + cells.change[:, :_BALANCED_COMPS]) * sections.component_scale[
        :_BALANCED_COMPS
    ]
    return scaled


def _expected(
    X: Any,
    sections: Sections,
    model: IsoST,
    cut: DepthCut | PlaneCut,
    cells: _Cells,
    carrying: Carrying,
    surroundings: sp.csr_array,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Estimate the expected expression at the cells' places, and its standard error."""
    stack = sections.stack
    expectation = sections.expectation(model)
    places = stack.normalization.encode(cells.place, dims=SPACE)
    mean = np.empty((len(places), len(model.genes)), np.float32)
    variance = np.empty_like(mean)
    for target in np.unique(cells.target):
        rows = np.flatnonzero(cells.target == target)
        depth = stack.normalization.encode([[cut.depths[target]]], dims=DEPTH)[0, 0]
        gap, fraction = locate(stack.depths, depth)
        came_from = origins(sections, model, carrying, int(target), gap, places[rows, :2])
        expected = expectation(gap, fraction, places[rows, :2], origins=came_from)
        mean[rows] = decode(expected.mean, model.loadings, stack.gene_mean, stack.gene_scale)
        # the rows first: columns of a sparse matrix are dear
        near = np.unique(surroundings[rows].indices)
        nearby, weights = read_rows(X, near), surroundings[rows][:, near]
        n_genes = max(1, _MOST_NUMBERS // len(rows))
        for genes in (slice(first, first + n_genes) for first in range(0, len(model.genes), n_genes)):
            spread = spread_around(nearby[:, genes], weights)
            sampling, between = gene_variance(expected, spread, model.loadings[genes], stack.gene_scale[genes])
            variance[rows, genes] = sampling + model.settings.gap_variance * between
    return mean, np.sqrt(variance)
