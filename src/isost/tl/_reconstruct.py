from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from isost import _keys as keys
from isost._checks import check_at_least, did_you_mean
from isost._faults import explained
from isost._logging import logger, step
from isost._normalization import SPACE
from isost._processes import Processes, join_processes
from isost._provenance import provenance
from isost.io import SlabFolder, read_volume
from isost.volume import Grid, decode, decoded_bytes, default_voxel_size

from ._fit import N_MEAN_COMPS, fit
from ._inputs import Sections, as_stack, check_fits, record_of, warn_many_steps
from ._labels import categorical_columns, check_labels, label_colors
from ._launch import shared
from ._size import check_size
from ._slabs import Slabs
from ._threads import few_threads

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from os import PathLike

    from numpy.typing import NDArray

    from isost.model import IsoST
    from isost.pp import Stack

__all__ = ["reconstruct"]

_LESS_MEMORY = "a larger voxel_size, fewer genes=, or store= needs less"
_LAZY_ABOVE = 2 * 2**30  # bytes of decoded expression beyond which it is decoded on read


@shared
@few_threads()
def reconstruct(
    adatas: AnnData | Sequence[AnnData] | Mapping[str, AnnData],
    *,
    model: IsoST | None = None,
    voxel_size: float | None = None,
    genes: Sequence[str] | None = None,
    lazy: bool | None = None,
    store: str | PathLike[str] | None = None,
    seed: int = 0,
    devices: int = 1,
    num_nodes: int = 1,
    stack_kws: Mapping[str, Any] | None = None,
    fit_kws: Mapping[str, Any] | None = None,
) -> AnnData:
    """Reconstruct a 3D volume of equal resolution in x, y and z from registered sections.

    Cells of every section are carried up and down through its gaps and held at the depth of each layer of voxels. A
    layer at fraction t of a gap gets 1 − t of the lower section's cells and t of the upper one's, so that cell numbers
    change smoothly from section to section; each cell is shared out among the four voxels around it, and holes of up to
    four voxels, at which no cell happens to lie, are filled. The expression of a voxel is the one expected at its
    centre.

    Parameters
    ----------
    adatas
        A stack (:func:`isost.pp.slice_stack`), or sections in any form that it takes. Not changed.
    model
        What :func:`isost.tl.fit` returned for this stack; fitted here when None.
    voxel_size
        Edge of the cubic voxels, input units. By default 1.5 times the median spacing of cells inside sections.
    genes
        Genes to decode; all by default. Any others can be decoded later from ``obsm["X_pca"]``, see
        ``uns["isost"]["all_genes"]`` below.
    lazy
        Decode genes when they are read, by dask; by default only where they would take more than 2 GiB.
    store
        Where to write the volume, ``.zarr``, instead of keeping it in memory. It is made slab by slab, each written to
        ``<store>.part`` when it is done, so that the same call goes on where an earlier one was stopped; the whole
        volume then takes the place of what was at `store`. What is returned reads from there, as
        :func:`isost.io.read_volume` does.
    seed
        Seed of the noise, and of the fit where there is no model.
    devices, num_nodes
        Processes that make the volume together, on each node and nodes, see :func:`isost.tl.fit`. Each makes its own
        slabs, on the kind of device that the model is on; an interrupted run may go on with another number of them.
        Every process returns the whole volume.
    stack_kws, fit_kws
        Passed to :func:`isost.pp.slice_stack` and :func:`isost.tl.fit`.

    Returns
    -------
    A new AnnData, one row per occupied voxel, in the order of z, then y, then x:

    X
        Expected expression (voxels, genes), float32, on the input's scale; a dask array when lazy.
    obsm["spatial"]
        Centres of the voxels (n, 3), input units.
    obsm["voxel"]
        Indices of the voxels (n, 3); spatial = origin + (voxel + ½) · voxel_size.
    obsm["X_pca"]
        Expected components (n, C), from which X is decoded: those of the stack, then those of what else is spatial in
        the genes (``model.loadings``).
    varm["PCs"]
        Loadings (genes, C).
    var["gene_mean"], var["gene_scale"]
        With the loadings they decode genes: X = (X_pca · PCsᵀ) · gene_scale + gene_mean.
    obs["density"]
        Cells that a section at this depth would have in the voxel.
    obs["measured"]
        Whether a measured section runs through the voxel's layer.
    obs["section_distance"]
        Distance in z to the nearest measured section, input units.
    obs["uncertainty"]
        Standard error of the expected expression, root mean square over z-scored components.
    obs[<column>], obs["<column>_probability"]
        For every categorical column of the sections, but for those that differ between sections and never in one, the
        most probable label at the voxel's centre, and its share among measured cells around: at fraction t of a gap
        1 − t times that among the nearest 12 cells of the lower section plus t times that of the upper one.
    uns["<column>_colors"]
        Colours of the categories, where the sections agree on them.
    uns["isost"]
        ``grid``: ``origin``, ``voxel_size``, ``shape``; ``sections``: ``names`` of the measured sections and their
        depths ``z`` (m,), input units; ``params``: ``seed``, and what ``model`` says of itself;
        ``provenance``: versions, platform, settings and all parameters, of this call, of the stack and of the model,
        enough to make it again. Where only some genes were decoded, ``all_genes``: ``names``, ``PCs``, ``gene_mean``
        and ``gene_scale`` of all of them, to decode any other by the same formula.

    Raises
    ------
    ValueError
        If the sections are bad input (see :func:`isost.pp.slice_stack`), the model belongs to others, an argument
        would have no effect, the volume would not fit in memory and there is no `store`, or ``<store>.part`` holds
        parts of another volume.
    KeyError
        If a gene is not there.
    MemoryError, OSError
        If there is too little memory, or the disk is full; the message says what was kept and what to change.

    Examples
    --------
    >>> volume = isost.tl.reconstruct(adatas)
    """
    given = locals().copy()
    check_at_least(0, seed=seed)
    if model is not None and fit_kws:
        msg = f"fit_kws={dict(fit_kws)!r} has no effect when a model is given; leave one of the two out"
        raise ValueError(msg)
    if store is not None and (lazy is False or Path(store).suffix != ".zarr"):
        msg = f"store={str(store)!r} must end in .zarr, and goes without lazy=False: genes are decoded on read"
        raise ValueError(msg)
    stack = as_stack(adatas, stack_kws)
    columns = _gene_columns(stack, genes)
    sections = Sections(stack)
    view = sections.stack
    check_labels(stack)
    grid = _grid(sections, voxel_size)
    n_numbers = _n_components(stack, model, fit_kws) + (len(columns) if lazy is False else 0)
    n_labels = len(categorical_columns(stack))
    check_size(grid, sections.stack, n_numbers=n_numbers, n_labels=n_labels, stored=store is not None)
    if model is None:
        model = fit(stack, **({"seed": seed, "devices": devices, "num_nodes": num_nodes} | dict(fit_kws or {})))
    check_fits(model, stack, view)
    processes, device = join_processes(devices, num_nodes, torch.device(model.device.type))
    if processes.count > 1:
        model = model.to(device)
    kept = "nothing is kept without store=" if store is None else f"slabs that are done are kept in {store}.part"
    with step("reconstruct") as notes, explained(less=_LESS_MEMORY, kept=lambda: kept):
        slabs = Slabs(model, stack, sections, grid, seed=seed)
        frame: dict[str, Any] = {
            "var": stack.var.iloc[columns].drop(columns=[keys.GENE_MIN, keys.GENE_MAX]),
            "varm": {keys.PCS: model.loadings[columns]},
            "uns": label_colors(stack)
            | {
                keys.UNS: {
                    "grid": grid.to_dict(),
                    keys.SECTIONS: {"names": np.array(view.names, dtype=object), "z": view.z.copy()},
                    "params": {"seed": seed, "model": repr(model)},
                    keys.PROVENANCE: provenance("isost.tl.reconstruct", given, **record_of(stack, model)),
                    **({} if genes is None else {"all_genes": _decoding(stack, model, view)}),
                }
            },
        }
        if store is None:
            rows = _joined(slabs, processes)
            X = _expression(rows["obsm"][keys.X_PCA], model, view, columns, lazy=lazy)
            volume = AnnData(X, **rows, **frame)
        else:
            volume = _stored(slabs, store, frame, processes)
        notes.append(f"{volume.n_obs} of {np.prod(grid.shape)} voxels occupied")
    return volume


def _joined(slabs: Slabs, processes: Processes) -> dict[str, Any]:
    """`obs` and `obsm` of the volume, in memory."""
    own = {i: slabs[i] for i in processes.share(range(len(slabs)))}
    made = {i: slab for some in processes.gather(own) for i, slab in some.items()}
    parts = [made[i] for i in range(len(slabs))]
    obsm = {key: np.concatenate([part.obsm[key] for part in parts]) for key in parts[0].obsm}
    return {"obs": pd.concat([part.obs for part in parts]), "obsm": obsm}


def _stored(slabs: Slabs, store: str | PathLike[str], frame: dict[str, Any], processes: Processes) -> AnnData:
    """Make the volume on disk, and open it."""
    with processes.first_before_others():
        folder = SlabFolder(store, slabs.fingerprint())
    own = set(processes.share(range(len(slabs))))
    for i in sorted(own.intersection(folder.missing(len(slabs)))):
        folder.write(i, slabs[i])
        logger.info("slab %d of %d is written", i + 1, len(slabs))
    processes.wait()
    if processes.rank == 0:
        folder.join(len(slabs), AnnData(obs=pd.DataFrame(index=[]), **frame))
    processes.wait()
    return read_volume(store)


def _decoding(adata: AnnData, model: IsoST, stack: Stack) -> dict[str, Any]:
    """Gather what decodes any gene from the components of the volume."""
    return {
        "names": adata.var_names.to_numpy(dtype=object),
        keys.PCS: model.loadings,
        keys.GENE_MEAN: stack.gene_mean,
        keys.GENE_SCALE: stack.gene_scale,
    }


def _n_components(stack: AnnData, model: IsoST | None, fit_kws: Mapping[str, Any] | None) -> int:
    """Count the components of a voxel: those of the model, or as many as one that is fitted can have."""
    if model is not None:
        return int(model.loadings.shape[1])
    most = (fit_kws or {}).get("n_mean_comps", N_MEAN_COMPS)
    return int(max(stack.varm[keys.PCS].shape[1], min(stack.n_vars, most)))


def _gene_columns(stack: AnnData, genes: Sequence[str] | None) -> NDArray[np.intp]:
    if genes is None:
        return np.arange(stack.n_vars)
    if isinstance(genes, str):
        msg = f"genes must be a list of names, got the one name {genes!r}; pass genes=[{genes!r}]"
        raise TypeError(msg)
    wanted = pd.Index(genes)
    if not wanted.is_unique:
        msg = f"genes= names {wanted[wanted.duplicated()][0]!r} twice; name it once"
        raise ValueError(msg)
    columns: NDArray[np.intp] = stack.var_names.get_indexer(wanted)
    if (columns < 0).any():
        missing = [gene for gene, column in zip(genes, columns, strict=True) if column < 0]
        such = f"it has {stack.n_vars}, such as {list(stack.var_names[:3])}"
        msg = f"genes {missing} are not in the stack; {did_you_mean(missing, stack.var_names, otherwise=such)}"
        raise KeyError(msg)
    return columns


def _grid(sections: Sections, voxel_size: float | None) -> Grid:
    """Voxels over all sections, equal in x, y and z."""
    stack = sections.stack
    places = [stack.normalization.decode(state[:, :3], dims=SPACE)[:, :2] for state in sections.states]
    chosen = default_voxel_size(places) if voxel_size is None else voxel_size
    lower, upper = (
        np.min([place.min(0) for place in places], axis=0),
        np.max([place.max(0) for place in places], axis=0),
    )
    grid = Grid.covering(np.append(lower, stack.z[0]), np.append(upper, stack.z[-1]), chosen)
    logger.info(
        "voxels of %g in x, y and z: a grid of %d × %d × %d = %s voxels, %.1f layers per gap",
        chosen,
        *grid.shape,
        f"{math.prod(grid.shape):,}",
        np.median(np.diff(stack.z)) / chosen,
    )
    gaps = np.diff(stack.z)
    warn_many_steps(stack, n_steps=(gaps / chosen).astype(int), what=f"layers of voxels of {chosen:g}")
    if chosen > gaps.max():
        logger.warning(
            "voxels of %g are wider than every gap between sections (at most %g), so that several sections share a "
            "layer: look whether z is in the same unit as x and y, or choose a smaller voxel_size",
            chosen,
            gaps.max(),
        )
    return grid


def _expression(
    components: NDArray[np.float32], model: IsoST, stack: Stack, columns: NDArray[np.intp], *, lazy: bool | None
) -> Any:
    """Decode the components to genes: a numpy array, or a dask array when lazy."""
    if lazy is None:
        lazy = decoded_bytes(len(components), len(columns)) > _LAZY_ABOVE
        if lazy:
            logger.info("expression is decoded when it is read: it would take more than %d GiB", _LAZY_ABOVE >> 30)
    return decode(components, model.loadings, stack.gene_mean, stack.gene_scale, genes=columns, lazy=lazy)
