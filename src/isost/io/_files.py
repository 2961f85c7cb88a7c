from __future__ import annotations

import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isost._checks import layer_names
from isost._untrusted import untrusted
from isost._writing import whole_file, whole_folder

from ._stored import LAZY_ENCODINGS, LEFT_BY_LAZY, NESTED_ENCODINGS, check_hdf5, check_zarr

if TYPE_CHECKING:
    from collections.abc import Collection
    from os import PathLike

    from anndata import AnnData

__all__ = ["SUFFIXES", "read", "read_parts", "write"]

SUFFIXES = (".h5ad", ".zarr")
"""What the name of a file of one AnnData ends in."""

_PARTS = ("X", "obs", "var", "uns", "obsm", "varm", "obsp", "varp", "layers", "raw")


def read(path: str | PathLike[str], *, lazy: bool = False) -> AnnData:
    """Read one AnnData.

    Parameters
    ----------
    path
        A file ``.h5ad`` or a folder ``.zarr``.
    lazy
        Leave `X`, `layers`, `obsp` and `raw` where they are, as dask arrays that are read when they are computed.

    Returns
    -------
    The AnnData, in memory but for what is lazy.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    ValueError
        If `path` ends in neither ``.h5ad`` nor ``.zarr``, is damaged or no AnnData, would take more than the memory
        there is, holds pickles, or points into other files.
    """
    if not Path(path).exists():
        msg = f"there is no {path}"
        raise FileNotFoundError(msg)
    path = _with_suffix(path)
    with untrusted(path):
        return _read(path, lazy=lazy)


def _read(path: Path, *, lazy: bool) -> AnnData:
    import anndata
    import h5py
    import zarr
    from anndata import AnnData

    on_disk = LEFT_BY_LAZY if lazy else ()
    store: Any = h5py.File(path) if path.suffix == ".h5ad" else nullcontext(zarr.open_group(path, mode="r"))
    with store as group:
        check: Any = check_hdf5 if path.suffix == ".h5ad" else check_zarr
        check(path, group, lazy=on_disk)
        if not lazy:
            return anndata.read_h5ad(path) if path.suffix == ".h5ad" else anndata.read_zarr(path)
        return AnnData(**read_parts(group, on_disk=on_disk))


def read_parts(group: Any, *, on_disk: Collection[str]) -> dict[str, Any]:
    """Read what an open AnnData consists of, as its constructor takes it.

    Parameters
    ----------
    group
        The open file or folder.
    on_disk
        Parts whose arrays, dense or sparse, become dask arrays.
    """
    from anndata.io import read_elem

    return {name: (_lazily if name in on_disk else read_elem)(group[name]) for name in _PARTS if name in group}


def _lazily(node: Any) -> Any:
    from anndata.experimental import read_elem_lazy
    from anndata.io import read_elem

    encoding = node.attrs.get("encoding-type")
    if encoding in NESTED_ENCODINGS:
        return {name: _lazily(node[name]) for name in node}
    return read_elem_lazy(node) if encoding in LAZY_ENCODINGS else read_elem(node)


def write(adata: AnnData, path: str | PathLike[str]) -> None:
    """Write one AnnData so that a file at `path` is always a whole one.

    It is written under another name beside `path` and then renamed; what was there before is replaced only then.
    Labels kept as strings are written as categoricals.

    Parameters
    ----------
    adata
        The AnnData, in memory, lazy or backed; not changed.
    path
        Ends in ``.h5ad`` or ``.zarr``; its folder is made if need be.

    Raises
    ------
    ValueError
        If `path` ends in neither ``.h5ad`` nor ``.zarr``.
    OSError
        If there is no space for it; what was there before is then as it was.
    """
    from anndata import settings

    path = _with_suffix(path)
    # names that were read from a file of pandas 3 are such, and anndata 0.12 would not write them unless told
    any_text = settings.override(allow_write_nullable_strings=True)
    if path.suffix == ".h5ad":
        # asked beforehand, as a disk that fills while libhdf5 writes leaves that unsound for the rest of the process
        with whole_file(path, n_bytes=_n_bytes(adata)) as unfinished, any_text:
            _shallow(adata).write_h5ad(unfinished)
    else:
        with whole_folder(path) as unfinished, warnings.catch_warnings(), any_text:
            # the format is whatever anndata's own setting says, and `read` reads both
            warnings.filterwarnings("ignore", message="Writing zarr v2 data will no longer be the default")
            _shallow(adata).write_zarr(unfinished)


def _shallow(adata: AnnData) -> AnnData:
    """Copy an AnnData without its arrays: anndata turns strings into labels, and moves a backed one, as it writes."""
    from anndata import AnnData, settings

    fields = ("obs", "var", "obsm", "varm", "obsp", "varp")
    raw = None if adata.raw is None else {name: getattr(adata.raw, name) for name in ("X", "var", "varm")}
    with settings.override(check_uniqueness=False):
        copy = AnnData(adata.X, **{name: getattr(adata, name) for name in fields}, layers=_layers(adata), raw=raw)
    copy.uns = adata.uns  # afterwards, as the constructor would move old entries out of it
    return copy


def _n_bytes(adata: AnnData) -> int:
    """Size of the largest arrays, of those whose size is known without reading them."""
    return sum(map(_array_bytes, (adata.X, *_layers(adata).values(), *adata.obsm.values())))


def _layers(adata: AnnData) -> dict[str, Any]:
    return {name: adata.layers[name] for name in layer_names(adata)}


def _array_bytes(array: Any) -> int:
    import scipy.sparse as sp
    from anndata.abc import CSCDataset, CSRDataset

    if sp.issparse(array):
        return int(array.data.nbytes + array.indices.nbytes + array.indptr.nbytes)
    if isinstance(array, CSRDataset | CSCDataset):
        return sum(int(array.group[name].nbytes) for name in ("data", "indices", "indptr"))
    is_lazy_sparse = sp.issparse(getattr(array, "_meta", None))  # whose nbytes are those of a dense array
    return 0 if is_lazy_sparse else int(getattr(array, "nbytes", 0))


def _with_suffix(path: str | PathLike[str]) -> Path:
    path = Path(path)
    if path.suffix not in SUFFIXES:
        msg = f"{path} must end in {' or '.join(SUFFIXES)}"
        raise ValueError(msg)
    return path
