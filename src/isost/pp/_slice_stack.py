from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from isost import _keys as keys
from isost._checks import check_at_least
from isost._logging import logger, step
from isost._normalization import EXPRESSION, SPACE, Normalization
from isost._provenance import provenance

from ._check import tell
from ._checks import Look, findings
from ._join import join_colors, join_obs, join_obsm, join_var
from ._matrix import gene_range, join_expression, lazy_expression, read_expression, row_blocks
from ._pca import GenePCA
from ._sections import as_sections, positions, section_depths, shared_genes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["slice_stack"]

MEDIAN_GAP = 0.1  # of the normalised depth: the published setting, several integration steps wide


def slice_stack(
    adatas: Sequence[AnnData] | Mapping[str, AnnData] | AnnData,
    *,
    spatial_key: str = "spatial",
    z_key: str = "z",
    z: Sequence[float] | Mapping[str, float] | None = None,
    section_key: str = keys.SECTION,
    layer: str | None = None,
    genes: Sequence[str] | None = None,
    n_comps: int = 50,
    lazy: bool = False,
    seed: int = 0,
    check: bool = True,
) -> AnnData:
    """Prepare registered sections as one stack: joined in z order, reduced to principal components, normalised.

    A point's state is its position and its expression as principal components of the z-scored expression of all
    sections together. x and y are divided by one width, every component by its range, and z so that the median gap
    between sections is 0.1.

    Parameters
    ----------
    adatas
        A list of sections, a dict from name to section, or one AnnData with `obs[section_key]`; in any order. Sections
        may be backed by files or dask: their expression is read one section at a time. They are not changed.
    spatial_key
        Key of `obsm` with registered coordinates, (n, 2) or (n, 3), in one unit.
    z_key
        Column of `obs` with the section's depth.
    z
        One depth per section: in the order given (for one AnnData the order of `obs[section_key]`'s categories) or by
        section name. Without it depths come from `obs[z_key]`, else from a third column of `obsm[spatial_key]`. Where
        points of a section differ in depth, it lies at their mean.
    section_key
        Column of `obs` that names sections. Sections of a list that do not name themselves are called
        ``"section_0"``, … in the order given.
    layer
        Layer with the expression to use; X if None. Log-normalised values are expected and kept as they are.
    genes
        Use only these; by default all genes that the sections share, in the order of the lowest section.
    n_comps
        Number G of principal components; at most the number of genes and of points − 1.
    lazy
        Leave expression where it is, in files or by dask, and read it section by section whenever it is needed: X is
        then a dask array with a chunk for each section, and memory holds little more than their points and states.
        Components are then found from the covariance of the genes, at most 12,000. See :func:`isost.io.read_sections`.
    seed
        Starts the search for components where there are more than 2000 genes, and chooses cells to look at.
    check
        Whether to warn of what :func:`isost.pp.check` finds.

    Returns
    -------
    A new AnnData of all sections' points, in z order, with all their `obs` columns (labels in strings become
    categoricals), with `obsm` arrays that all sections have, with colours in `uns` that they agree on, and with:

    X
        Expression on the input's scale, as given; sparse if a section's was; a dask array when lazy.
    obs[section_key]
        Section of each point, an ordered categorical in z order. Row names are prefixed by it when not unique.
    obsm["spatial"]
        Positions x, y, z (n, 3), float64, input units.
    obsm["X_isost"]
        Normalised state (n, 3 + G), float32.
    varm["PCs"]
        Loadings (genes, G), orthonormal.
    var["gene_mean"], var["gene_scale"], var["gene_min"], var["gene_max"]
        Mean and standard deviation of the z-scores, and least and largest value of every gene, input's scale; in place
        of columns of these names.
    uns["isost"]
        ``params``: the parameters of this call; ``normalization``: ``minimum`` and ``scale`` of the 3 + G dimensions;
        ``n_genes``: number of genes, of which a stack may lose none; ``sections``: ``names`` and depths ``z``, in z
        order; ``provenance``: versions, platform, settings and all parameters, enough to make it again.

    Raises
    ------
    TypeError
        If something other than AnnData is given.
    KeyError
        If coordinates, depths, sections, a layer or genes are not where they were said to be.
    ValueError
        If there are fewer than two sections, one has fewer than 6 points, two lie at one depth, no gene is shared or
        varies, coordinates or expression are not finite, or `n_comps` is below 1.

    Warns
    -----
    UserWarning
        Of every finding of :func:`isost.pp.check` that is a warning; notes are logged.

    Notes
    -----
    State and normalisation are those of isoST (bioRxiv 10.1101/2025.08.15.670472); the unit of z is not fixed there.

    Examples
    --------
    >>> stack = isost.pp.slice_stack([first, second], z=[0.0, 50.0])
    """
    given = locals().copy()
    check_at_least(1, n_comps=n_comps)
    check_at_least(0, seed=seed)
    sections = as_sections(adatas, section_key=section_key)
    points = {name: positions(name, section, spatial_key=spatial_key) for name, section in sections.items()}
    depths = section_depths(sections, z=z, z_key=z_key, spatial_key=spatial_key)
    order = sorted(depths, key=depths.__getitem__)
    sections = {name: sections[name] for name in order}
    var_names = shared_genes(sections, genes=genes)

    with step("slice_stack") as notes:
        stack = _join(sections, var_names, layer=layer, section_key=section_key, lazy=lazy)
        flat = [np.column_stack([points[name][:, :2], np.full(len(points[name]), depths[name])]) for name in order]
        stack.strings_to_categoricals(stack.obs)  # labels kept as strings are labels all the same
        stack.obsm[keys.SPATIAL] = np.concatenate(flat)
        ordered_depths = np.array([depths[name] for name in order])
        params = {
            "spatial_key": spatial_key,
            "z_key": z_key,
            "section_key": section_key,
            "n_comps": n_comps,
            "seed": seed,
            **({"layer": layer} if layer is not None else {}),
        }
        _add_state(stack, ordered_depths, n_comps=n_comps, seed=seed)
        stack.uns[keys.UNS] |= {
            "params": params,
            keys.SECTIONS: {"names": np.array(order, dtype=object), "z": ordered_depths},
        }
        given["z"] = [depths[name] for name in points]  # in the order given
        stack.uns[keys.UNS][keys.PROVENANCE] = provenance("isost.pp.slice_stack", given)
        if check:
            look = Look.of(sections, points, depths, stack.X, genes_named=genes is not None, seed=seed)
            tell(findings(look), stacklevel=2)
        notes.append(
            f"{len(order)} sections, {stack.n_obs} points, {stack.n_vars} genes; wrote obsm[{keys.SPATIAL!r}], "
            f"obsm[{keys.STATE!r}], varm[{keys.PCS!r}], uns[{keys.UNS!r}]"
        )
    return stack


def _join(sections: dict[str, AnnData], genes: pd.Index, *, layer: str | None, section_key: str, lazy: bool) -> AnnData:
    """All sections' points, in the order given."""
    if lazy:
        X = lazy_expression(sections, genes, layer=layer)
    else:
        X = join_expression([read_expression(name, one, genes, layer=layer) for name, one in sections.items()])
    obs = join_obs({name: section.obs for name, section in sections.items()})
    sizes = [section.n_obs for section in sections.values()]
    obs[section_key] = pd.Categorical(np.repeat(list(sections), sizes), categories=list(sections), ordered=True)
    listed = list(sections.values())
    return AnnData(
        X,
        obs=obs,
        var=join_var(listed, genes),
        obsm=join_obsm(listed),
        uns=join_colors(listed, obs),
    )


def _add_state(stack: AnnData, depths: NDArray[np.float64], *, n_comps: int, seed: int) -> None:
    """Write the components, the state, and what undoes them."""
    pca = GenePCA.fit(stack.X, n_comps=n_comps, seed=seed)
    # components in their own unit first, whose range the normalisation needs
    state = np.empty((stack.n_obs, 3 + pca.loadings.shape[1]), np.float32)
    places, scores, start = stack.obsm[keys.SPATIAL], state[:, EXPRESSION], 0
    for block in row_blocks(stack.X):
        scores[start : start + block.shape[0]] = pca.scores(block)
        start += block.shape[0]
    lower, upper = (np.append(find(places, axis=0), find(scores, axis=0)) for find in (np.min, np.max))
    normalization = _normalization(lower, upper, depths)
    state[:, SPACE] = normalization.encode(places, dims=SPACE)
    for c in range(scores.shape[1]):  # one by one: the float64 components never exist at once
        dim = slice(3 + c, 4 + c)
        state[:, dim] = normalization.encode(state[:, dim], dims=dim)
    stack.obsm[keys.STATE] = state
    stack.varm[keys.PCS] = pca.loadings
    of_genes = dict(zip(keys.OF_GENES, (pca.mean, pca.scale, *gene_range(stack.X)), strict=True))
    if lost := [key for key, own in of_genes.items() if key in stack.var and not np.array_equal(stack.var[key], own)]:
        logger.warning("columns %s of var are replaced by those of the stack", lost)
    stack.var[list(of_genes)] = pd.DataFrame(of_genes, index=stack.var_names)
    stack.uns[keys.UNS] = {"normalization": normalization.to_dict(), "n_genes": stack.n_vars}


def _normalization(
    lower: NDArray[np.float64], upper: NDArray[np.float64], depths: NDArray[np.float64]
) -> Normalization:
    scale = upper - lower
    scale[:2] = scale[:2].max()
    scale[2] = np.median(np.diff(depths)) / MEDIAN_GAP
    # a component that only carries rounding errors must not be blown up to the range of the others
    ranges = scale[EXPRESSION]
    ranges[ranges <= 1e-5 * ranges.max()] = 1.0
    return Normalization(lower, scale)
