from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp

from isost._checks import check_volume, optional
from isost._keys import UNS, VOXEL
from isost._writing import whole_file
from isost.volume import Grid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from os import PathLike

    from anndata import AnnData
    from numpy.typing import NDArray

    Unit = Literal["µm", "um", "mm"]
    Write = Callable[[Path, Any, Grid, list[str], Unit | None], None]

__all__ = ["volume_image", "write_image"]

_SLAB_BYTES = 64 * 2**20
_TIFF_BYTES = 2 * 2**30  # half of what a plain TIFF can address, as zlib may not make it smaller and OME adds its XML
_SPELT: dict[Any, Unit] = {"um": "µm", "\N{GREEK SMALL LETTER MU}m": "µm"}  # as many keyboards have it
_NIFTI_UNITS = {"µm": "micron", "mm": "mm", None: "unknown"}


def write_image(
    volume: AnnData,
    path: str | PathLike[str],
    *,
    channels: str | Sequence[str] | None = None,
    unit: Unit | None = None,
    fill: float = 0.0,
) -> None:
    """Write a volume as a 3D image for image tools: NRRD, NIfTI or OME-TIFF.

    Parameters
    ----------
    volume
        What :func:`isost.tl.reconstruct` returned.
    path
        Ends in ``.nrrd``, ``.nii``, ``.nii.gz``, ``.tif`` or ``.tiff``. What was there before is replaced once the
        new file is whole.
    channels
        Genes, or numeric columns of `obs` such as ``"density"``, to write; by default all genes.
    unit
        Of the positions, to be written with them; nothing is converted, and nothing said when None. ``"um"`` is
        ``"µm"``.
    fill
        Value outside the tissue.

    Raises
    ------
    ImportError
        If nibabel (NIfTI) or pynrrd (NRRD) is not installed; the extra ``isost[images]`` has both.
    KeyError
        If this is no volume, or a channel is not there.
    ValueError
        If `path` ends in something else, the unit is another one, there is no channel, one is not numeric, or genes
        share a name.

    Notes
    -----
    Values are float32. Every header has the edge of a voxel and the position of the centre of voxel (0, 0, 0):

    ``.nrrd``
        Axes x, y, z, channel, fastest first (``nrrd.read`` returns them in this order); ``space directions`` and
        ``space origin``; channel names as a JSON list under ``channels``.
    ``.nii``, ``.nii.gz``
        Axes x, y, z, channel; the affine; channel names as a JSON list in a comment extension.
    ``.tif``, ``.tiff``
        OME-TIFF, BigTIFF above 2 GiB; axes channel, z, y, x; ``PhysicalSize`` of the pixels, ``Position`` of the
        planes, names of the channels.

    An image of one channel has no axis for it in NRRD and NIfTI.

    Examples
    --------
    >>> isost.io.write_image(volume, "volume.nii.gz", channels=["Gad1", "density"], unit="µm")
    """
    path = Path(path)
    write = next((write for suffix, write in _WRITERS.items() if path.name.endswith(suffix)), None)
    if write is None:
        msg = f"{path} must end in one of {', '.join(_WRITERS)}"
        raise ValueError(msg)
    unit = _SPELT.get(unit, unit)
    if unit not in _NIFTI_UNITS:
        msg = f"unit must be 'µm', 'mm' or None, not {unit!r}"
        raise ValueError(msg)
    image, grid, names = volume_image(volume, channels, fill=fill)
    with whole_file(path) as unfinished:
        write(unfinished, image, grid, names, unit)


def volume_image(volume: AnnData, channels: str | Sequence[str] | None, *, fill: float) -> tuple[Any, Grid, list[str]]:
    """Lay the voxels of a volume out as an image.

    Returns
    -------
    A dask array (c, z, y, x), float32, made a few layers at a time when read; the grid of its voxels; and the names of
    its channels.
    """
    import dask.array as da
    from dask.delayed import delayed

    check_volume(volume)
    grid = Grid.from_dict(volume.uns[UNS]["grid"])
    names = list(volume.var_names) if channels is None else [channels] if isinstance(channels, str) else list(channels)
    if not names:
        msg = "there is no channel to write; name genes, or numeric columns of obs, by channels="
        raise ValueError(msg)
    is_gene, columns = _channels(volume, names)
    expression = volume[:, [name for name, gene in zip(names, is_gene, strict=True) if gene]].X
    expression = expression.tocsr() if sp.issparse(expression) else expression  # rows are taken from it
    index = np.asarray(volume.obsm[VOXEL])
    order = np.argsort(index[:, 2], kind="stable")
    nx, ny, nz = grid.shape
    thickness = max(1, _SLAB_BYTES // (4 * len(names) * nx * ny))
    slabs = []
    for start in range(0, nz, thickness):
        stop = min(start + thickness, nz)
        rows = order[slice(*np.searchsorted(index[order, 2], [start, stop]))]
        shape = (len(names), stop - start, ny, nx)
        slab = delayed(_slab)(expression[rows], columns[rows], is_gene, index[rows] - [0, 0, start], shape, fill)
        slabs.append(da.from_delayed(slab, shape, np.float32))
    return da.concatenate(slabs, axis=1).rechunk({0: 1}), grid, names


def _channels(volume: AnnData, names: list[str]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Whether each channel is a gene, and the columns of `obs` that the others are."""
    if not volume.var_names.is_unique:
        msg = "genes of this volume share a name; call var_names_make_unique() on it"
        raise ValueError(msg)
    is_gene = np.isin(names, volume.var_names)
    others = [name for name, gene in zip(names, is_gene, strict=True) if not gene]
    if missing := [name for name in others if name not in volume.obs]:
        msg = f"channels {missing} are neither genes nor columns of obs (it has {list(volume.obs.columns)})"
        raise KeyError(msg)
    try:
        return is_gene, volume.obs[others].to_numpy(dtype=np.float32)
    except (TypeError, ValueError) as error:
        msg = f"channels {others} of obs must be numeric: {error}"
        raise ValueError(msg) from error


def _slab(
    expression: Any, columns: NDArray, is_gene: NDArray[np.bool_], index: NDArray, shape: tuple[int, ...], fill: float
) -> NDArray[np.float32]:
    values = np.empty((len(index), len(is_gene)), dtype=np.float32)
    values[:, is_gene] = expression.toarray() if sp.issparse(expression) else expression
    values[:, ~is_gene] = columns
    image = np.full(shape, fill, dtype=np.float32)
    image[:, index[:, 2], index[:, 1], index[:, 0]] = values.T
    return image


def _write_nrrd(path: Path, image: Any, grid: Grid, names: list[str], unit: Unit | None) -> None:
    nrrd = optional("nrrd", by="this format", extra="images", package="pynrrd")
    data = _without_single(image)
    directions = np.full((data.ndim, 3), np.nan)  # the axis of the channels has none
    directions[:3] = np.eye(3) * grid.voxel_size
    header = {
        "space dimension": 3,
        "space directions": directions,
        "space origin": grid.centers([0, 0, 0]),
        "kinds": ["domain", "domain", "domain", "list"][: data.ndim],
        "channels": json.dumps(names),
        **({"space units": [unit.replace("µ", "u")] * 3} if unit else {}),  # the header is ASCII
    }
    nrrd.write(str(path), data, header, index_order="C")


def _write_nifti(path: Path, image: Any, grid: Grid, names: list[str], unit: Unit | None) -> None:
    nibabel = optional("nibabel", by="this format", extra="images")
    affine = np.diag([grid.voxel_size] * 3 + [1.0])
    affine[:3, 3] = grid.centers([0, 0, 0])
    nifti = nibabel.Nifti1Image(_without_single(image).T, affine)
    nifti.header.set_xyzt_units(_NIFTI_UNITS[unit])
    nifti.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", json.dumps(names).encode()))
    nibabel.save(nifti, path)


def _write_tiff(path: Path, image: Any, grid: Grid, names: list[str], unit: Unit | None) -> None:
    import tifffile

    planes = len(names) * grid.shape[2]
    x, y, _ = grid.centers([0, 0, 0])
    position = {"X": [x] * planes, "Y": [y] * planes, "Z": np.tile(grid.layer_depths(), len(names)).tolist()}
    said = unit or "reference frame"  # what OME calls a unit that it is not told
    metadata = {
        "axes": "CZYX",
        "Channel": {"Name": names},
        "Plane": {f"Position{axis}": values for axis, values in position.items()}
        | {f"Position{axis}Unit": [said] * planes for axis in position},
        **{f"PhysicalSize{axis}": grid.voxel_size for axis in position},
        **{f"PhysicalSize{axis}Unit": said for axis in position},
    }
    tifffile.imwrite(
        path,
        np.asarray(image),
        ome=True,
        bigtiff=image.nbytes > _TIFF_BYTES,  # tifffile chooses by itself only where nothing is compressed
        photometric="minisblack",
        compression="zlib",
        metadata=metadata,
    )


_WRITERS: dict[str, Write] = {
    ".nrrd": _write_nrrd,
    ".nii": _write_nifti,
    ".nii.gz": _write_nifti,
    ".tif": _write_tiff,
    ".tiff": _write_tiff,
}


def _without_single(image: Any) -> NDArray[np.float32]:
    """Make the image, without the axis of the channels where there is only one."""
    return np.asarray(image[0] if len(image) == 1 else image)
