from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from scipy.spatial import cKDTree

from isost import field
from isost._nearest import nearest_points
from isost._normalization import EXPRESSION
from isost.field import LocalLinear, complementary_components
from isost.generation import trace_back
from isost.pp import GenePCA, read_rows
from isost.training import choose_expression_shift, path_width

from ._sampling import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anndata import AnnData
    from numpy.typing import NDArray

    from isost.model import ModelSettings
    from isost.training import Displacements

    from ._inputs import Sections

__all__ = ["choose_loadings", "choose_mean_shift", "choose_settings"]

_MEAN_SHIFTS = (0.0, 1.0)
_MEAN_PROBES = 3000  # cells of each section left out at which they are compared
_SPATIAL_PROBES = 3000  # places, over all sections, at which expression is averaged to find what is spatial
_SPATIAL_OVER = 30  # cells around each


def choose_settings(
    stack: AnnData,
    sections: Sections,
    displacements: Mapping[int, Displacements],
    random: np.random.Generator,
    settings: ModelSettings,
    *,
    n_cells: int | None,
    adaptive: bool | None,
    expression_shift: float | None,
) -> ModelSettings:
    """Choose, by cells and sections left out, what is None and whether expected expression moves with the tissue.

    `displacements` says how far the tissue of the sections around each one left out moves to it.
    """
    n_cells, adaptive = field.choose_smoothing(
        sections.positions,
        _ScaledComponents(sections),
        sections.stack.depths,
        generator=random,
        n_cells=n_cells,
        adaptive=adaptive,
    )
    mean_shift = 0.0
    if settings.objective == "bridge":  # it alone learns to carry cells where the sections' displacements say
        if expression_shift is None:
            width = path_width(n_cells, adaptive=adaptive)
            expression_shift = _choose_expression_shift(stack, sections, displacements, width, random)
        mean_shift = choose_mean_shift(sections, displacements, random, n_cells=n_cells, adaptive=adaptive)
    return dataclasses.replace(
        settings,
        n_cells=n_cells,
        adaptive=adaptive,
        expression_shift=expression_shift or 0.0,
        mean_shift=mean_shift,
    )


class _ScaledComponents(Sequence["NDArray[np.float64]"]):
    """Principal components of each section's cells (n_k, G), all on one scale; made when asked for."""

    def __init__(self, sections: Sections) -> None:
        self._sections = sections

    def __len__(self) -> int:
        return len(self._sections.expression)

    def __getitem__(self, k: Any) -> Any:
        return self._sections.expression[k] * self._sections.component_scale


def choose_mean_shift(
    sections: Sections,
    displacements: Mapping[int, Displacements],
    random: np.random.Generator,
    *,
    n_cells: int,
    adaptive: bool,
) -> float:
    """Choose whether expected expression moves with the tissue, α = 1, or stays in place, α = 0.

    Every section left out is predicted from the two around it, m = (1 − t) m_k(x − α v_k) + t m_{k+1}(x − α v_{k+1}), v
    how far each one's tissue has moved. It moves where that is nearer by more than twice the standard error of the
    difference over cells.
    """
    errors = []
    components = _ScaledComponents(sections)
    for k, moved in displacements.items():
        ends, depths = (k - 1, k + 1), sections.stack.depths
        t = float((depths[k] - depths[k - 1]) / (depths[k + 1] - depths[k - 1]))
        smooth = [LocalLinear(sections.positions[i], components[i], n_cells=n_cells, adaptive=adaptive) for i in ends]
        probes = random.permutation(len(sections.positions[k]))[:_MEAN_PROBES]
        query, truth = sections.positions[k][probes], components[k][probes]
        way = (t * moved.up[0], (1 - t) * moved.down[0])
        part = []
        for share in _MEAN_SHIFTS:
            below, above = (
                estimate(trace_back(query, sections.positions[i], sections.positions[i] + shift, share=share)).mean
                for estimate, i, shift in zip(smooth, ends, way, strict=True)
            )
            part.append((((1 - t) * below + t * above - truth) ** 2).sum(1))
        errors.append(np.array(part))
    if not errors:
        return 0.0
    error = np.concatenate(errors, axis=1)  # (α, cells)
    best = int(error.mean(1).argmin())
    gain = error[0] - error[best]
    return _MEAN_SHIFTS[best] if gain.mean() > 2 * gain.std() / np.sqrt(len(gain)) else 0.0


def _choose_expression_shift(
    stack: AnnData,
    sections: Sections,
    displacements: Mapping[int, Displacements],
    n_cells: int,
    random: np.random.Generator,
) -> float:
    """Choose how far a cell's expression follows its surroundings, see `isost.training.choose_expression_shift`."""
    view = sections.stack
    sample, pca = Sampler(stack.X, view), GenePCA(view.loadings, view.gene_mean, view.gene_scale)

    def sampled(section: int, cells: NDArray[np.intp]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        own = read_rows(stack.X, view.offsets[section] + cells)
        return lambda change: pca.scores(sample.changed(own, change))

    raw = [view.normalization.decode(values, dims=EXPRESSION) for values in sections.expression]
    return choose_expression_shift(
        sections.positions,
        raw,
        view.depths,
        n_cells=n_cells,
        sampled=sampled,
        generator=random,
        displacements=displacements,
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
        around = nearest_points(cKDTree(positions), positions[probes], _SPATIAL_OVER)[1]
        rows = np.repeat(np.arange(len(probes)), around.shape[1])
        shares = np.full(around.size, 1 / around.shape[1])
        average = sp.csr_matrix((shares, (rows, around.ravel())), shape=(len(probes), len(positions)))
        mean = average @ read_rows(stack.X, view.section(k))
        smoothed.append(((mean.toarray() if sp.issparse(mean) else mean) - view.gene_mean) / view.gene_scale)
    extra = complementary_components(
        np.concatenate(smoothed).astype(np.float32), known, n_comps=n_comps - known.shape[1]
    )
    return np.column_stack([known, extra]).astype(np.float32)
