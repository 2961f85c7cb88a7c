from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from isost._checks import check_at_least

from ._cells import cell_mass, place_cells
from ._counts import draw_counts, expected_log1p, log_normalize
from ._genes import Programme, gene_programme
from ._shape import Shape
from ._tissue import CELL_TYPES, COLORS, cell_type_probabilities, density

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ._shape import Floats

__all__ = ["Organ", "organ"]

_COUNTS_PER_GENE = 2.5
_FEWEST_GENES = 20


def organ(
    *,
    n_sections: int = 7,
    cells_per_section: int = 800,
    n_genes: int = 200,
    gap: float = 60.0,
    radius: float = 250.0,
    uneven: bool = False,
    seed: int = 0,
) -> list[ad.AnnData]:
    """Cut registered sections of a synthetic organ whose truth is known everywhere.

    The organ is bent, tapers, turns a little along its depth, has a notch and a cavity running through it, layers of
    cell types around the cavity, a nucleus on one side and scattered cells throughout. Its genes are markers of the
    types, gradients along the axes, stripes, patches, housekeeping and sparse genes. The truth behind the sections is
    ``Organ(**section.uns["organ"])``, with the `uns` of any section.

    Parameters
    ----------
    n_sections
        Number of sections.
    cells_per_section
        Mean number of cells in a section; larger sections have more.
    n_genes
        Number of genes, at least 20.
    gap
        Mean distance between two sections, micrometres. The sections span the organ, so more of them at the same gap
        is a longer organ, and twice as many gaps of half the width is the same organ seen more closely.
    radius
        About half the width of the widest section, micrometres. At 250, 800 cells lie about 11 apart.
    uneven
        Whether the gaps differ, up to threefold, around their mean.
    seed
        Of the genes, the depths, the cells and their counts.

    Returns
    -------
    List of AnnData in z order, each with:

    X
        log1p of the counts normalised to 2.5 a gene in every cell (`Organ.target_sum`); CSR, float32.
    layers["counts"]
        Counts; CSR, int32.
    obsm["spatial"]
        x and y (n, 2), micrometres.
    obs["section"], obs["z"]
        Name and depth, micrometres.
    obs["cell_type"], uns["cell_type_colors"]
        Categorical, the same in all sections, and its colours.
    var["kind"]
        Marker, gradient, stripe, patch, housekeeping or sparse.
    uns["organ"]
        Arguments of `Organ`.

    Raises
    ------
    ValueError
        If a number is too small.

    Examples
    --------
    >>> sections = organ(n_sections=3, cells_per_section=100, n_genes=20)
    >>> [float(section.obs["z"].iloc[0]) for section in sections]
    [0.0, 60.0, 120.0]
    """
    _require("gap", gap, above=0)
    truth = Organ(seed=seed, n_genes=n_genes, depth=gap * max(n_sections - 1, 1), radius=radius)
    return truth.sections(n_sections=n_sections, cells_per_section=cells_per_section, uneven=uneven, seed=seed)


@dataclass(frozen=True, kw_only=True)
class Organ:
    """The organ that `organ` cuts, with its truth at any point of space.

    Points are (n, 3) arrays of x, y and z in micrometres; the first section is cut at z = 0, the last at z = depth.
    Expression and types are given by smooth formulas, which go on outside the tissue but mean nothing there.

    Attributes
    ----------
    seed
        Of the genes. The shape and the layers are always the same.
    n_genes
        Number of genes, at least 20.
    depth
        From the first to the last section, micrometres.
    radius
        About half the width of the widest section, micrometres.
    """

    seed: int = 0
    n_genes: int = 200
    depth: float = 360.0
    radius: float = 250.0

    def __post_init__(self) -> None:
        _require("n_genes", self.n_genes, above=_FEWEST_GENES - 1)
        _require("depth", self.depth, above=0)
        _require("radius", self.radius, above=0)
        check_at_least(0, seed=self.seed)

    @property
    def cell_types(self) -> tuple[str, ...]:
        """Names of the cell types, in the order of the columns of `cell_type_probabilities`."""
        return CELL_TYPES

    @property
    def gene_names(self) -> list[str]:
        """Names of the genes, in the order of the columns of `expected_expression`."""
        return self._programme.names

    @property
    def target_sum(self) -> float:
        """Counts to which a cell is normalised, also the median of the cells' totals."""
        return float(round(_COUNTS_PER_GENE * self.n_genes))

    def inside(self, xyz: ArrayLike) -> NDArray[np.bool_]:
        """Whether each point lies in the tissue: within the outline and not in the cavity, (n,)."""
        return self._shape.inside(_points(xyz))

    def surface_distance(self, xyz: ArrayLike) -> Floats:
        """Distance of each point to the nearer of outline and cavity wall in 3D, micrometres, (n,).

        Negative in the tissue, positive outside it and in the cavity. Taken to the tangent plane of the nearest of
        115,200 points of the surface; off by about a thousandth of the radius at most.
        """
        return self._shape.surface_distance(_points(xyz))

    def cell_type_probabilities(self, xyz: ArrayLike) -> Floats:
        """Chance that a cell at each point is of each of `cell_types`, (n, types); rows sum to 1."""
        return cell_type_probabilities(self._shape, _points(xyz))

    def density(self, xyz: ArrayLike) -> Floats:
        """Cells per area of a section, about 1 in a layer, (n,); 0 outside the tissue."""
        return density(self._shape, _points(xyz))

    def expected_expression(self, xyz: ArrayLike) -> Floats:
        """Mean of X over all cells that could have been measured at each point, (n, genes).

        ``E[X | xyz] = Σ_type p(type | xyz) · E[log1p(count · target_sum / total) | type, xyz]``: the mean of what the
        sections hold as X, over cell type, total and counts, and so not the log of any mean. The inner expectation is
        a sum over all counts and 48 equally likely totals, within 3e-4.
        """
        points = _points(xyz)
        chances = cell_type_probabilities(self._shape, points)
        effect = self._programme.place_effect(self._shape.body(points))
        mean = np.zeros(effect.shape)
        for k in range(len(CELL_TYPES)):
            log_shares = self._programme.log_shares(effect, k)
            mean += chances[:, [k]] * expected_log1p(log_shares, target_sum=self.target_sum)
        return mean

    def sections(
        self, *, n_sections: int = 7, cells_per_section: int = 800, uneven: bool = False, seed: int = 0
    ) -> list[ad.AnnData]:
        """Cut the organ from z = 0 to z = depth; parameters and result as in `organ`."""
        _require("n_sections", n_sections, above=0)
        _require("cells_per_section", cells_per_section, above=0)
        rng = np.random.default_rng([seed, 1])
        depths = self._depths(n_sections, uneven=uneven, rng=rng)
        masses = np.array([cell_mass(self._shape, z) for z in depths])
        numbers = np.rint(cells_per_section * masses / masses.mean()).astype(int)
        names = [f"section{k}" for k in range(n_sections)]
        return [
            self._section(place_cells(self._shape, z, max(n, 1), rng=rng), name=name, rng=rng)
            for z, n, name in zip(depths, numbers, names, strict=True)
        ]

    def cells_at(self, z: float, n: int, *, seed: int = 0, name: str = "section") -> ad.AnnData:
        """Cut one section of n cells at depth z (0 to depth), as measured ones are; `name` goes to ``obs["section"]``.

        Raises
        ------
        ValueError
            If z lies beyond the organ's sections or n is not positive.
        """
        _require("n", n, above=0)
        if not 0 <= z <= self.depth:
            msg = f"z = {z} lies outside the organ's sections, 0 to {self.depth}; choose z between, or a longer depth="
            raise ValueError(msg)
        rng = np.random.default_rng([seed, 2])
        return self._section(place_cells(self._shape, z, n, rng=rng), name=name, rng=rng)

    def cells(self, xyz: ArrayLike, *, seed: int = 0, name: str = "section") -> ad.AnnData:
        """Draw the type and counts of one cell at each point (n, 3); repeat a point to sample what may be measured."""
        return self._section(_points(xyz), name=name, rng=np.random.default_rng([seed, 3]))

    @cached_property
    def _shape(self) -> Shape:
        return Shape(radius=self.radius, depth=self.depth)

    @cached_property
    def _programme(self) -> Programme:
        return gene_programme(self.n_genes, rng=np.random.default_rng([self.seed, 0]))

    def _depths(self, n_sections: int, *, uneven: bool, rng: np.random.Generator) -> Floats:
        if n_sections == 1:
            return np.zeros(1)
        gaps = rng.uniform(0.5, 1.5, n_sections - 1) if uneven else np.ones(n_sections - 1)
        ends = np.concatenate([[0.0], np.cumsum(gaps)])
        depths: Floats = self.depth * (ends / ends[-1])
        return depths

    def _section(self, xyz: Floats, *, name: str, rng: np.random.Generator) -> ad.AnnData:
        types = _draw_types(cell_type_probabilities(self._shape, xyz), rng=rng)
        effect = self._programme.place_effect(self._shape.body(xyz))
        shares = np.exp(self._programme.log_shares(effect, types))
        counts = draw_counts(shares, target_sum=self.target_sum, rng=rng)
        obs = pd.DataFrame(
            {
                "section": pd.Categorical([name] * len(xyz)),
                "z": xyz[:, 2],
                "cell_type": pd.Categorical.from_codes(types, categories=pd.Index(CELL_TYPES)),
            },
            index=[f"{name}-{i}" for i in range(len(xyz))],
        )
        var = pd.DataFrame({"kind": pd.Categorical(self._programme.kinds)}, index=self.gene_names)
        section = ad.AnnData(log_normalize(counts, target_sum=self.target_sum), obs=obs, var=var)
        section.layers["counts"] = sp.csr_matrix(counts, dtype=np.int32)
        section.obsm["spatial"] = xyz[:, :2].copy()
        section.uns["cell_type_colors"] = list(COLORS)
        section.uns["organ"] = asdict(self)
        return section


def _draw_types(probabilities: Floats, *, rng: np.random.Generator) -> NDArray[np.int64]:
    below = np.cumsum(probabilities, axis=1)[:, :-1] < rng.random((len(probabilities), 1))
    types: NDArray[np.int64] = below.sum(axis=1)
    return types


def _points(xyz: ArrayLike) -> Floats:
    points = np.asarray(xyz, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        msg = f"points have shape {points.shape}, not (n, 3); stack x, y and z with np.column_stack"
        raise ValueError(msg)
    return points


def _require(name: str, value: float, *, above: float) -> None:
    if not value > above:
        msg = f"{name} = {value} is too small: pass {name}= more than {above}"
        raise ValueError(msg)
