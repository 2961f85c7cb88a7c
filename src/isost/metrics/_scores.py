from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._energy import energy_distance
from ._spatial import correlation, morans_i, neighbor_mean

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ._section import Section

__all__ = [
    "LOWER_IS_BETTER",
    "ONE_IS_BEST",
    "agree",
    "d_moran",
    "energy",
    "n_ratio",
    "per_gene",
    "r_cell",
    "r_density",
    "r_voxel",
    "score",
    "var_ratio",
]

LOWER_IS_BETTER = ("energy", "d_moran")
ONE_IS_BEST = ("var_ratio", "n_ratio")  # of the rest, higher is better

_CELLS_PER_BIN = 8
_N_COMPS = 10
_N_DRAWS = 10


def score(generated: Section, measured: Section, *, n_genes: int = 30) -> dict[str, float]:
    """Score a generated section against the measured one at the same depth.

    Scores of expression are over the genes with the strongest spatial pattern in the measured section, by Moran's I.

    Parameters
    ----------
    generated
        Generated cells: sampled expression and its expected value.
    measured
        Measured cells, with the same genes in the same order.
    n_genes
        Number of genes for the scores of expression.

    Returns
    -------
    ``r_cell``, ``r_voxel``, ``r_density``, ``energy``, ``d_moran``, ``var_ratio``, ``n_ratio`` and ``agree``, each
    defined in the function of its name: their means over genes, the median for ``var_ratio``.

    Raises
    ------
    ValueError
        If the two do not have the same genes, or the measured cells lie on one line.

    See Also
    --------
    per_gene : the same for each gene.
    baseline : sections to hold the scores against.
    """
    _check_pair(generated, measured)
    genes = np.argsort(-morans_i(measured.positions, measured.expression))[:n_genes]
    table = per_gene(generated, measured, genes=genes)
    return {
        "r_cell": float(table["r_cell"].mean()),
        "r_voxel": float(table["r_voxel"].mean()),
        "r_density": r_density(generated, measured),
        "energy": energy(generated, measured),
        "d_moran": float(table["d_moran"].mean()),
        "var_ratio": float(np.median(table["var_ratio"])),
        "n_ratio": n_ratio(generated, measured),
        "agree": float(table["agree"].mean()),
    }


def per_gene(generated: Section, measured: Section, *, genes: ArrayLike | None = None) -> dict[str, NDArray]:
    """Scores of expression for each gene.

    Parameters
    ----------
    generated, measured
        Generated and measured cells.
    genes
        Positions of the genes to score, shape (g,); by default all.

    Returns
    -------
    Columns of a table, each of shape (g,): ``gene`` (position), ``morans_i`` (of the measured section), ``r_cell``,
    ``r_voxel``, ``d_moran``, ``var_ratio`` and ``agree``.

    Raises
    ------
    ValueError
        If the two do not have the same genes, or the measured cells lie on one line.
    """
    chosen = _chosen(measured, genes)
    return {
        "gene": chosen,
        "morans_i": morans_i(measured.positions, measured.expression[:, chosen]),
        "r_cell": r_cell(generated, measured, genes=chosen),
        "r_voxel": r_voxel(generated, measured, genes=chosen),
        "d_moran": d_moran(generated, measured, genes=chosen),
        "var_ratio": var_ratio(generated, measured, genes=chosen),
        "agree": agree(generated, measured, genes=chosen),
    }


def r_cell(generated: Section, measured: Section, *, genes: ArrayLike | None = None) -> NDArray[np.float64]:
    """Pearson r of each measured cell with the expectation around it.

    The expectation is the mean of the 10 nearest generated cells' expected expression.

    Parameters
    ----------
    generated, measured
        Generated and measured cells.
    genes
        Positions of the genes, shape (g,); by default all.

    Returns
    -------
    One r for each gene, shape (g,); 0 where either is constant.

    Raises
    ------
    ValueError
        If the two do not have the same genes.
    """
    _check_pair(generated, measured)
    chosen = _chosen(measured, genes)
    expected = neighbor_mean(generated.positions, generated.mean[:, chosen], measured.positions)
    return correlation(expected, measured.expression[:, chosen])


def r_voxel(generated: Section, measured: Section, *, genes: ArrayLike | None = None) -> NDArray[np.float64]:
    """Pearson r of bins of about 8 measured cells with the expectation there.

    Bins with at least 4 cells count. The expectation is the mean over as many generated cells, the nearest to the
    bin's centre of mass, as a bin holds when their density is that of the generated section; at least 4.

    Parameters
    ----------
    generated, measured
        Generated and measured cells.
    genes
        Positions of the genes, shape (g,); by default all.

    Returns
    -------
    One r for each gene, shape (g,); 0 where either is constant, NaN where no bin has 4 cells.

    Raises
    ------
    ValueError
        If the two do not have the same genes, or the measured cells lie on one line.
    """
    _check_pair(generated, measured)
    chosen = _chosen(measured, genes)
    centers, means = _bins(measured, chosen)
    if len(centers) == 0:
        return np.full(len(chosen), np.nan)
    n_neighbors = _cells_of_a_bin(generated, measured)
    expected = neighbor_mean(generated.positions, generated.mean[:, chosen], centers, n_neighbors=n_neighbors)
    return correlation(expected, means)


def agree(generated: Section, measured: Section, *, genes: ArrayLike | None = None) -> NDArray[np.float64]:
    """Pearson r of the generated section's sampled with its own expected expression.

    Both averaged over four times the generated cells that `r_voxel` uses, around the same bins.

    Parameters
    ----------
    generated, measured
        Generated cells, and the measured ones that define the bins.
    genes
        Positions of the genes, shape (g,); by default all.

    Returns
    -------
    One r for each gene, shape (g,); 0 where either is constant, NaN where no bin has 4 cells.

    Raises
    ------
    ValueError
        If the two do not have the same genes, or the measured cells lie on one line.
    """
    _check_pair(generated, measured)
    chosen = _chosen(measured, genes)
    centers, _ = _bins(measured, chosen)
    if len(centers) == 0:
        return np.full(len(chosen), np.nan)
    n_neighbors = 4 * _cells_of_a_bin(generated, measured)
    sampled, expected = (
        neighbor_mean(generated.positions, values[:, chosen], centers, n_neighbors=n_neighbors)
        for values in (generated.expression, generated.mean)
    )
    return correlation(sampled, expected)


def d_moran(generated: Section, measured: Section, *, genes: ArrayLike | None = None) -> NDArray[np.float64]:
    """Absolute difference of Moran's I between sampled and measured expression.

    Parameters
    ----------
    generated, measured
        Generated and measured cells.
    genes
        Positions of the genes, shape (g,); by default all.

    Returns
    -------
    Shape (g,).

    Raises
    ------
    ValueError
        If the two do not have the same genes.
    """
    _check_pair(generated, measured)
    chosen = _chosen(measured, genes)
    of_generated = morans_i(generated.positions, generated.expression[:, chosen])
    return np.abs(of_generated - morans_i(measured.positions, measured.expression[:, chosen]))


def var_ratio(generated: Section, measured: Section, *, genes: ArrayLike | None = None) -> NDArray[np.float64]:
    """Variance of sampled over that of measured expression.

    Parameters
    ----------
    generated, measured
        Generated and measured cells.
    genes
        Positions of the genes, shape (g,); by default all.

    Returns
    -------
    Shape (g,).

    Raises
    ------
    ValueError
        If the two do not have the same genes.
    """
    _check_pair(generated, measured)
    chosen = _chosen(measured, genes)
    of_measured = np.maximum(measured.expression[:, chosen].var(0), 1e-12)
    return np.asarray(generated.expression[:, chosen].var(0) / of_measured)


def r_density(generated: Section, measured: Section) -> float:
    """Pearson r of cell counts on a grid.

    Bins hold about 18 measured cells and cover the measured section with a margin of a tenth of its width. Both
    sections are thinned to the same number of cells, and r is the mean of 10 draws; a random draw of the truth itself
    therefore scores below 1.

    Parameters
    ----------
    generated, measured
        Generated and measured cells.

    Returns
    -------
    Mean r; a draw in which either section has the same count everywhere adds 0.

    Raises
    ------
    ValueError
        If the measured cells lie on one line.
    """
    lower, extent = _frame(measured)
    margin = 0.1 * extent.max()
    edge = 1.5 * _bin_edge(measured)
    n_bins = np.maximum(4, np.ceil(extent / edge).astype(int))
    box = np.stack([lower - margin, lower + extent + margin], axis=1)
    n_cells = min(generated.n_cells, measured.n_cells)
    rng = np.random.default_rng(0)

    def counts(positions: NDArray[np.float64]) -> NDArray[np.float64]:
        drawn = positions[rng.permutation(len(positions))[:n_cells]]
        grid, *_ = np.histogram2d(drawn[:, 0], drawn[:, 1], bins=n_bins.tolist(), range=box.tolist())
        return np.asarray(grid).reshape(-1, 1)

    draws = [correlation(counts(generated.positions), counts(measured.positions)) for _ in range(_N_DRAWS)]
    return float(np.mean(draws))


def energy(generated: Section, measured: Section) -> float:
    """Energy distance between generated and measured cells in place and expression together.

    Coordinates are x and y, the larger width of the measured section being 6, and the 10 leading principal components
    of the measured section's z-scores, the widest having standard deviation 1. 0 is indistinguishable.

    Parameters
    ----------
    generated, measured
        Generated and measured cells; sampled expression is compared.

    Returns
    -------
    `energy_distance` of at most 6,000 cells of each.

    Raises
    ------
    ValueError
        If the two do not have the same genes, or the measured cells lie on one line.
    """
    _check_pair(generated, measured)
    lower, extent = _frame(measured)
    center, spread = measured.expression.mean(0), measured.expression.std(0) + 1e-9
    z_scores = (measured.expression - center) / spread
    components = np.linalg.svd(z_scores, full_matrices=False)[2][:_N_COMPS].T
    widest = (z_scores @ components).std(0).max()

    def coordinates(section: Section) -> NDArray[np.float64]:
        place = (section.positions - lower) / extent.max() * 6
        pcs = ((section.expression - center) / spread) @ components
        return np.concatenate([place, pcs / widest], axis=1)

    return energy_distance(coordinates(generated), coordinates(measured))


def n_ratio(generated: Section, measured: Section) -> float:
    """Divide the generated by the measured number of cells.

    Parameters
    ----------
    generated, measured
        Generated and measured cells.

    Returns
    -------
    Ratio; 1 is best.
    """
    return generated.n_cells / measured.n_cells


def _chosen(measured: Section, genes: ArrayLike | None) -> NDArray[np.intp]:
    return np.arange(measured.n_genes) if genes is None else np.asarray(genes, dtype=np.intp)


def _check_pair(generated: Section, measured: Section) -> None:
    if generated.n_genes != measured.n_genes:
        msg = (
            f"the generated section has {generated.n_genes} genes and the measured one {measured.n_genes}; "
            "give both the same genes in the same order"
        )
        raise ValueError(msg)


def _frame(section: Section) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower corner and extent of a section, both of shape (2,)."""
    lower, upper = section.positions.min(0), section.positions.max(0)
    extent = upper - lower
    if (extent == 0).any():
        msg = "the measured cells lie on one line, so they cannot be binned; score sections with a width and a height"
        raise ValueError(msg)
    return lower, extent


def _bin_edge(section: Section) -> float:
    """Edge of square bins that would hold 8 cells each if cells filled the section's box evenly."""
    _, extent = _frame(section)
    return float(np.sqrt(np.prod(extent) * _CELLS_PER_BIN / section.n_cells))


def _bins(section: Section, genes: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres of mass (b, 2) and mean expression (b, g) of the bins with at least 4 cells."""
    lower, _ = _frame(section)
    column, row = np.floor((section.positions - lower) / _bin_edge(section)).astype(int).T
    _, member, count = np.unique(column * (row.max() + 1) + row, return_inverse=True, return_counts=True)
    values = np.concatenate([section.positions, section.expression[:, genes]], axis=1)
    sums = np.stack([np.bincount(member, weights=value) for value in values.T], axis=1)
    full = count >= _CELLS_PER_BIN // 2
    means = sums[full] / count[full, None]
    return means[:, :2], means[:, 2:]


def _cells_of_a_bin(generated: Section, measured: Section) -> int:
    return max(_CELLS_PER_BIN // 2, int(_CELLS_PER_BIN * generated.n_cells / measured.n_cells))
