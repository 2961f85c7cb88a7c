from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from isost._keys import GENE_MAX, GENE_MEAN, GENE_MIN, GENE_SCALE, PCS, SECTION, SECTIONS, SPATIAL, STATE, UNS
from isost._logging import logger, step
from isost._normalization import EXPRESSION, SPACE, Normalization
from isost._untrusted import untrusted
from isost._writing import whole_file
from isost.pp import Stack

from ._experiment import read_json, write_json
from ._normalization import MINIMUM, SCALE, csv_digest, read_normalization, write_normalization
from ._pca import LinearPCA, convert_pca, read_genes
from ._tensors import find_slide, read_arrays, read_slide, write_arrays, write_tensors

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["read_stack", "write_stack"]

GENES, PCA = "gene.csv", "pca.npz"
RECORD, ROWS = "stack.json", "rows.npz"


def read_stack(
    data_dir: str | os.PathLike[str],
    slide_names: Sequence[str],
    *,
    genes: Sequence[str] | str | os.PathLike[str] | None = None,
    pca: Any = None,
    decode: bool = False,
    trusted: bool = False,
) -> AnnData:
    """Read sections of the published layout as one stack.

    Parameters
    ----------
    data_dir
        Folder of the sections, ``shuffled_{name}.pt`` or ``{name}.pt``, with ``min_dic.csv`` and ``scale_dic.csv``.
    slide_names
        The sections, with whatever suffix their files have, in any order.
    genes
        Names of the genes, or a ``gene.csv``; that of `data_dir` when None and there is one.
    pca
        What undoes the components, see `convert_pca`: an ``.npz``, a pickle (with `trusted`), or the fitted object;
        ``pca.npz`` of `data_dir` when None and there is one.
    decode
        Decode X, the expression of all genes (points, genes); needed by :func:`isost.tl.section` and
        :func:`isost.tl.reconstruct`.
    trusted
        Load the PCA from a pickle, which can run any program.

    Returns
    -------
    What :func:`isost.pp.slice_stack` returns: sections in the order of z, ``obsm["X_isost"]`` the state as it is in the
    files, ``obsm["spatial"]`` in input units, without X unless `decode`. Rows are in the order in which
    `write_stack` found them, where it wrote the files, else in file order. Without a PCA the components
    stand for genes: the variables are ``PC_1``, ``PC_2``, …, and X holds their values.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If one is damaged, no tensor, or does not belong to the others; it is named.

    Examples
    --------
    >>> stack = isost.compat.read_stack(data_dir, slide_names, pca="pca.npz", decode=True)
    """
    folder, names = Path(data_dir), [str(name) for name in slide_names]
    if len(set(names)) != len(names) or len(names) < 2:
        msg = f"slide_names must hold two or more different sections, got {names}"
        raise ValueError(msg)
    with step("read_stack") as notes:
        sections = [read_slide(find_slide(folder, name)) for name in names]
        widths = {name: section.shape[1] for name, section in zip(names, sections, strict=True)}
        if odd := [name for name in names if widths[name] != widths[names[0]]]:
            path = find_slide(folder, odd[0])
            msg = f"{path} has {widths[odd[0]] - 3} components, but {names[0]} has {widths[names[0]] - 3}"
            raise ValueError(msg)
        with untrusted(folder):
            record = _record(folder)
            normalization = read_normalization(
                folder, n_comps=widths[names[0]] - 3, z_scale=float(record.get("z_scale", 1.0))
            )
            states = _in_first_order(folder, names, sections)
            z = _depths(names, states, normalization, record)
        model = _pca(folder, pca, genes, trusted=trusted, n_comps=normalization.n_comps)
        order = sorted(range(len(names)), key=z.__getitem__)
        if min(np.diff([z[k] for k in order])) <= 0:
            msg = f"two sections of {names} lie at one depth in {folder}: depths are {z}"
            raise ValueError(msg)
        stack = _stack([names[k] for k in order], [states[k] for k in order], normalization, model, decode=decode)
        stack.uns[UNS][SECTIONS]["z"] = np.array([z[k] for k in order])
        stack.uns[UNS]["params"]["slide_names"] = np.array(names, dtype=object)
        notes.append(f"{len(names)} sections, {stack.n_obs} points")
    return stack


def write_stack(
    stack: AnnData,
    data_dir: str | os.PathLike[str],
    *,
    subsets: Sequence[int] = (),
    shuffle: bool = True,
    seed: int = 0,
) -> None:
    """Write a stack in the published layout.

    Parameters
    ----------
    stack
        What :func:`isost.pp.slice_stack` or `read_stack` returned. Not changed.
    data_dir
        Folder to write to: for each section ``shuffled_{name}.pt``, the normalised state (N, 3 + G) float32;
        ``min_dic.csv`` and ``scale_dic.csv``; ``gene.csv`` and the components as ``pca.npz``; and for `read_stack`
        ``stack.json`` and ``rows.npz``, the row of the stack that each row of a file was.
    subsets
        For each number n, also folders ``1_of_{n}_normPC_1`` to ``1_of_{n}_normPC_{n}`` inside, each with one n-th of
        every section's points.
    shuffle
        Shuffle the rows of each section, as splitting into parts by file order needs; with False the files are called
        ``{name}.pt`` and keep the order.
    seed
        Of the shuffle: the same seed, the same order.

    Raises
    ------
    FileExistsError
        If a file to be written exists.
    ValueError
        If this is no stack, a section's name is no file name, or a subset would leave a section without points.

    Notes
    -----
    The files have no place for the scale of z, which is 1 in the published sets. That of this stack is kept in
    ``stack.json``, and is what `VolumeProcessor.result_to_volume` needs as ``z_scale``: see `default_z_scale`.

    Examples
    --------
    >>> isost.compat.write_stack(isost.pp.slice_stack(adatas), data_dir, subsets=[5])
    """
    view, folder = Stack.from_anndata(stack), Path(data_dir)
    files = {name: f"{'shuffled_' if shuffle else ''}{name}.pt" for name in view.names}
    if wrong := [name for name in view.names if Path(files[name]).name != files[name]]:
        msg = f"section {wrong[0]!r} cannot be a file name; rename it first"
        raise ValueError(msg)
    if max(subsets, default=1) > view.sizes.min() or min(subsets, default=1) < 1:
        msg = f"subsets={list(subsets)} must be positive, and at most the {view.sizes.min()} points of a section"
        raise ValueError(msg)
    plan = _plan(view, folder, subsets=subsets, shuffle=shuffle, seed=seed)
    extras = _extras(stack, view)
    for target in plan:
        for name in [*files.values(), MINIMUM, SCALE, RECORD, ROWS, *extras]:
            if (target / name).exists():
                msg = f"{target / name} exists: choose another folder, nothing was written"
                raise FileExistsError(msg)
    with step("write_stack") as notes:
        for target, rows in plan.items():
            for k, name in enumerate(view.names):
                own = view.state[view.section(k)][rows[k]]
                write_tensors(target / files[name], torch.from_numpy(np.ascontiguousarray(own)))
            write_normalization(target, view.normalization)
            for name, write in extras.items():
                write(target / name)
            write_arrays(target / ROWS, {f"section_{k}": rows[k] for k in range(len(view.names))})
            write_json(
                target / RECORD,
                {
                    "sections": list(view.names),
                    "z": view.z.tolist(),
                    "z_scale": float(view.normalization.scale[2]),
                    "normalization": csv_digest(target),
                    "seed": seed if shuffle else None,
                },
            )
        notes.append(f"{len(view.names)} sections to {len(plan)} folders")


def default_z_scale(data_dir: str | os.PathLike[str]) -> float | None:
    """Say what z of a folder's sections is to be divided by for voxels of equal size in x, y and z.

    Returns
    -------
    The scale of x and y over that of z, where `write_stack` wrote the folder; None where z has no scale of its own,
    as in the published sets, so that the scale of x and y serves.
    """
    z_scale = float(_record(Path(data_dir)).get("z_scale", 1.0))
    return None if z_scale == 1.0 else float(read_normalization(data_dir).scale[0]) / z_scale


def _plan(
    view: Stack, folder: Path, *, subsets: Sequence[int], shuffle: bool, seed: int
) -> dict[Path, list[NDArray[np.int64]]]:
    """Rows of each section, in file order, for every folder to be written."""
    order = [
        np.random.default_rng([seed, k]).permutation(size) if shuffle else np.arange(size)
        for k, size in enumerate(view.sizes)
    ]
    plan = {folder: order}
    for n in subsets:
        for i in range(n):
            plan[folder / f"1_of_{n}_normPC_{i + 1}"] = [rows[i::n] for rows in order]
    return plan


def _extras(stack: AnnData, view: Stack) -> dict[str, Any]:
    """Files of genes and components, and what writes them; none where the components stand for genes."""
    if list(stack.var_names) == _component_names(view.normalization.n_comps):
        return {}
    genes = tuple(map(str, stack.var_names))
    model = LinearPCA(view.loadings.astype(np.float64), view.gene_mean, view.gene_scale, genes)

    def write_genes(path: Path) -> None:
        with whole_file(path) as unfinished:
            pd.DataFrame({"gene_symbol": genes}).to_csv(unfinished)

    return {GENES: write_genes, PCA: model.save}


def _record(folder: Path) -> dict[str, Any]:
    record = read_json(folder / RECORD)
    if record and record.get("normalization") != csv_digest(folder):
        msg = f"{folder / MINIMUM} and {SCALE} are not those that were written with these sections, see {RECORD}"
        raise ValueError(msg)
    return record


def _in_first_order(folder: Path, names: Sequence[str], sections: Sequence[Tensor]) -> list[NDArray[np.float32]]:
    """States of the sections, their rows as they were before `write_stack` shuffled them."""
    written = list(_record(folder).get("sections", []))
    if not (folder / ROWS).is_file() or not set(names) <= set(written):
        return [section.numpy() for section in sections]
    file = read_arrays(folder / ROWS)
    rows = [file[f"section_{written.index(name)}"] for name in names]
    for name, section, own in zip(names, sections, rows, strict=True):
        if own.ndim != 1 or len(own) != len(section):
            msg = f"{find_slide(folder, name)} has {len(section)} points, but {folder / ROWS} knows {own.size} of it"
            raise ValueError(msg)
    return [section.numpy()[np.argsort(own)] for section, own in zip(sections, rows, strict=True)]


def _depths(
    names: Sequence[str],
    sections: Sequence[NDArray[np.float32]],
    normalization: Normalization,
    record: dict[str, Any],
) -> list[float]:
    """Depth of each section, input units: as it was written down, else the mean over its points."""
    known = dict(zip(record.get("sections", []), record.get("z", []), strict=True))
    means = [float(section[:, 2].mean(dtype=np.float64)) for section in sections]
    decoded = normalization.decode(np.array(means)[:, None], dims=slice(2, 3))[:, 0]
    return [float(known.get(name, depth)) for name, depth in zip(names, decoded, strict=True)]


def _pca(folder: Path, pca: Any, genes: Any, *, trusted: bool, n_comps: int) -> LinearPCA:
    """Make what decodes the components, with names of genes; without a PCA the components stand for genes."""
    if pca is None and (folder / PCA).is_file():
        pca = folder / PCA
    if pca is None:
        if genes is not None:
            msg = "genes= needs the PCA that turns components into them: pass pca=, see isost.compat.convert_pca"
            raise ValueError(msg)
        logger.info("no PCA was given: the components stand for genes; pass pca= for the expression of genes")
        names = tuple(_component_names(n_comps))
        return LinearPCA(np.eye(n_comps), np.zeros(n_comps), np.ones(n_comps), names)
    model = convert_pca(pca, trusted=trusted)
    if genes is None and (folder / GENES).is_file():
        genes = folder / GENES
    if genes is not None:
        listed = read_genes(genes) if isinstance(genes, str | Path) else list(genes)
        with untrusted(folder):
            model = convert_pca(model, genes=listed)
    what = pca if isinstance(pca, str | Path) else "the PCA"
    if model.genes is None:
        msg = f"{what} does not name its {len(model.loadings)} genes, and there is no {folder / GENES}: pass genes="
        raise ValueError(msg)
    if len(set(model.genes)) < len(model.genes):
        msg = f"the genes of {what} are not all different; give them unique names by genes="
        raise ValueError(msg)
    if model.loadings.shape[1] != n_comps:
        msg = f"{what} has {model.loadings.shape[1]} components, but the sections have {n_comps}"
        raise ValueError(msg)
    if not model.is_orthonormal:
        msg = f"{what} is whitened: its components have no length, so that a stack cannot hold them as loadings"
        raise ValueError(msg)
    return model


def _component_names(n_comps: int) -> list[str]:
    return [f"PC_{i + 1}" for i in range(n_comps)]


def _stack(
    names: Sequence[str],
    sections: Sequence[NDArray[np.float32]],
    normalization: Normalization,
    model: LinearPCA,
    *,
    decode: bool,
) -> AnnData:
    state = np.concatenate(sections)
    sizes = [len(section) for section in sections]
    index = [f"{name}_{i}" for name, size in zip(names, sizes, strict=True) for i in range(size)]
    labels = pd.Categorical(np.repeat(list(names), sizes), categories=list(names), ordered=True)
    X = model.inverse_transform(normalization.decode(state[:, EXPRESSION], dims=EXPRESSION)) if decode else None
    return AnnData(
        X,
        obs=pd.DataFrame({SECTION: labels}, index=index),
        var=pd.DataFrame(
            {
                GENE_MEAN: model.gene_mean,
                GENE_SCALE: model.gene_scale,
                GENE_MIN: -np.inf if X is None else X.min(axis=0),
                GENE_MAX: np.inf if X is None else X.max(axis=0),
            },
            index=list(model.genes or ()),
        ),
        obsm={SPATIAL: normalization.decode(state[:, SPACE], dims=SPACE), STATE: state},
        varm={PCS: model.loadings.astype(np.float32)},
        uns={
            UNS: {
                "params": {
                    "spatial_key": SPATIAL,
                    "z_key": "z",
                    "section_key": SECTION,
                    "n_comps": normalization.n_comps,
                },
                SECTIONS: {"names": np.array(names, dtype=object)},
                "normalization": normalization.to_dict(),
                "n_genes": len(model.gene_mean),
            }
        },
    )
