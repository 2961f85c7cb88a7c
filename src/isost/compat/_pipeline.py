from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isost._logging import logger

from ._experiment import read_json, write_json
from ._inference import frame_paths
from ._normalization import csv_digest
from ._pca import convert_pca, read_genes, read_mean_sd
from ._slices import GENES, PCA, default_z_scale
from ._volume import COMPONENTS, DENSITY, VOLUME, VolumeProcessor

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from ._pca import LinearPCA

__all__ = ["build_volume"]

RECORD = "volume.json"


def build_volume(
    data_dir: str | os.PathLike[str],
    result_dir: str | os.PathLike[str],
    volume_size: Sequence[float],
    max_lence: int,
    *,
    z_scale: float | None = None,
    swamp: bool = False,
    time: bool = False,
    genes: Sequence[str] | str | os.PathLike[str] | None = None,
    pca: Any = None,
    unscale: str | os.PathLike[str] | None = None,
    trusted: bool = False,
    resume: bool = False,
) -> list[Path]:
    """Make all outputs of a volume from the frames of an inference.

    Parameters
    ----------
    data_dir, result_dir, volume_size, max_lence
        As those of `VolumeProcessor`.
    z_scale
        What z is divided by; `default_z_scale` when None.
    swamp
        Swap x and z.
    time
        Give each frame a layer of its own, see `VolumeProcessor.result_to_time_volume`.
    genes
        Names of the genes, or a ``gene.csv``; that of `data_dir`, or the PCA's own names, when None.
    pca
        What undoes the components, see `convert_pca`; ``pca.npz`` of `data_dir` when None. Without one there is no
        table of expression.
    unscale
        Table of the mean and sd of every gene (columns gene_symbol, mean, sd), where the PCA was fitted to z-scores:
        a second table, ``log2_expr_{max_lence}_all_pc_unscaled.parquet``, then holds values · sd + mean.
    trusted
        Load the PCA from a pickle, which can run any program.
    resume
        Keep the outputs that this call has left, and make the rest; with False any there are refused.

    Returns
    -------
    Paths of the outputs.

    Raises
    ------
    FileExistsError
        If there are outputs of another call, or any and `resume` is False.
    FileNotFoundError, ValueError
        If a file is missing, or does not fit the others; it is named.

    Examples
    --------
    >>> isost.compat.build_volume(data_dir, "result", (1.0, 0.8, 0.5), 220, pca="pca.npz")
    """
    folder, data = Path(result_dir), Path(data_dir)
    if pca is None and (data / PCA).is_file():
        pca = data / PCA
    if pca is None and (unscale is not None or genes is not None):
        msg = "genes and unscale need the PCA that gives expression: pass pca=, see isost.compat.convert_pca"
        raise ValueError(msg)
    tables = {} if pca is None else _tables(pca, genes, unscale, data=data, max_lence=max_lence, trusted=trusted)
    names = list(next(iter(tables.values())).genes or ()) if tables else []
    if z_scale is None and not time:
        z_scale = default_z_scale(data)
    processor = VolumeProcessor(data, folder, volume_size, names, max_lence)
    digests = _digests(folder, data, [list(map(float, volume_size)), max_lence, z_scale, swamp, time], tables)
    _claim(folder, digests, resume=resume)
    if all((folder / name).is_file() for name in (VOLUME, DENSITY, COMPONENTS)):
        volume = np.load(folder / VOLUME, mmap_mode="r", allow_pickle=False)
    else:
        n_features = processor.normalization.n_comps
        volume, count = (
            processor.result_to_time_volume(n_features, z_scale)
            if time
            else processor.result_to_volume(n_features, z_scale, swamp)
        )
        processor.save(volume, count)
    for name, model in tables.items():
        if not (folder / name).is_file():
            processor.pc_to_expression(volume, model, max_lence, name=name)
    if not tables:
        logger.warning("no PCA was given, so that there is no table of expression: pass pca=")
    return [folder / name for name in digests]


def _tables(pca: Any, genes: Any, unscale: Any, *, data: Path, max_lence: int, trusted: bool) -> dict[str, LinearPCA]:
    """Tables of expression to write, by name, and the PCA that gives each."""
    model = convert_pca(pca, trusted=trusted)
    if genes is None and (data / GENES).is_file():
        genes = data / GENES
    if genes is not None:
        model = convert_pca(model, genes=read_genes(genes) if isinstance(genes, str | Path) else genes)
    if model.genes is None:
        msg = f"the PCA does not name its {len(model.loadings)} genes, and there is no {data / GENES}: pass genes="
        raise ValueError(msg)
    name = f"log2_expr_{max_lence}_all_pc"
    tables = {f"{name}.parquet": model}
    if unscale is not None:
        tables[f"{name}_unscaled.parquet"] = model.unscaled(*read_mean_sd(unscale, model.genes))
    return tables


def _digests(folder: Path, data: Path, numbers: list[Any], tables: dict[str, LinearPCA]) -> dict[str, str]:
    """Digest of what each output depends on, by its name, so that another call's are not taken for this one's."""
    volume = hashlib.sha256(repr((numbers, csv_digest(data))).encode())
    for path in frame_paths(folder):
        volume.update(path.read_bytes())
    found = dict.fromkeys((VOLUME, DENSITY, COMPONENTS), volume.hexdigest())
    for name, model in tables.items():
        table = volume.copy()
        table.update(repr(model.genes).encode())
        for array in (model.loadings, model.gene_mean, model.gene_scale):
            table.update(np.ascontiguousarray(array).tobytes())
        found[name] = table.hexdigest()
    return found


def _claim(folder: Path, digests: dict[str, str], *, resume: bool) -> None:
    """Make the outputs this call's own, or refuse a folder that holds another's."""
    known = read_json(folder / RECORD)
    for name, digest in digests.items():
        path = folder / name
        if path.exists() and not resume:
            msg = f"{path} exists: resume, or choose another folder, nothing was changed"
            raise FileExistsError(msg)
        if path.exists() and known.get(name) != digest:
            msg = (
                f"{path} is of another volume (other frames, size, scale, genes or PCA): delete it, nothing was changed"
            )
            raise FileExistsError(msg)
    write_json(folder / RECORD, known | digests)
