from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from scipy.spatial import cKDTree

from isost import field
from isost._normalization import EXPRESSION
from isost.field import complementary_components
from isost.pp import GenePCA
from isost.training import choose_expression_shift

from ._sampling import Sampler

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

    from ._inputs import Sections

__all__ = ["choose_loadings", "choose_shift", "choose_smoothing"]

_SPATIAL_PROBES = 3000  # places, over all sections, at which expression is averaged to find what is spatial
_SPATIAL_OVER = 30  # cells around each


def choose_smoothing(
    sections: Sections, random: np.random.Generator, *, n_cells: int | None, adaptive: bool | None
) -> tuple[int, bool]:
    """Choose what is not given of how expected expression is smoothed, see `isost.field.choose_smoothing`."""
    components = [values * sections.component_scale for values in sections.expression]
    return field.choose_smoothing(
        sections.positions,
        components,
        sections.stack.depths,
        generator=random,
        n_cells=n_cells,
        adaptive=adaptive,
    )


def choose_shift(stack: AnnData, sections: Sections, n_cells: int, random: np.random.Generator) -> float:
    """Choose how far a cell's expression follows its surroundings, see `isost.training.choose_expression_shift`."""
    view = sections.stack
    sample, pca = Sampler(stack.X, view), GenePCA(view.loadings, view.gene_mean, view.gene_scale)

    def sampled(section: int, cells: NDArray[np.intp], change: NDArray[np.float64]) -> NDArray[np.float64]:
        return pca.scores(sample(view.offsets[section] + cells, change))

    raw = [view.normalization.decode(values, dims=EXPRESSION) for values in sections.expression]
    return choose_expression_shift(
        sections.positions, raw, view.depths, n_cells=n_cells, sampled=sampled, generator=random
    )


def choose_loadings(
    stack: AnnData, sections: Sections, n_comps: int, random: np.random.Generator
) -> NDArray[np.float32]:
    """Join the loadings of the stack's components and of what else is spatial: (genes, at most n_comps)."""
    view = sections.stack
    known = view.loadings
    if n_comps <= known.shape[1]:
        return known
    n_probes = max(1, _SPATIAL_PROBES // len(view.names))
    smoothed = []
    for k, positions in enumerate(sections.positions):
        probes = random.permutation(len(positions))[:n_probes]
        around = cKDTree(positions).query(positions[probes], np.arange(1, min(_SPATIAL_OVER, len(positions)) + 1))[1]
        rows = np.repeat(np.arange(len(probes)), around.shape[1])
        shares = np.full(around.size, 1 / around.shape[1])
        average = sp.csr_matrix((shares, (rows, around.ravel())), shape=(len(probes), len(positions)))
        mean = average @ stack.X[view.section(k)]
        smoothed.append(((mean.toarray() if sp.issparse(mean) else mean) - view.gene_mean) / view.gene_scale)
    extra = complementary_components(
        np.concatenate(smoothed).astype(np.float32), known, n_comps=n_comps - known.shape[1]
    )
    return np.column_stack([known, extra]).astype(np.float32)
