from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isost._keys import SECTION
from isost._writing import whole_file, whole_folder

from ._split import split_sections

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData

__all__ = ["read", "read_sections", "write"]

SUFFIXES = (".h5ad", ".zarr")


def read(path: str | PathLike[str], *, lazy: bool = False) -> AnnData:
    """Read one AnnData.

    Parameters
    ----------
    path
        A file ``.h5ad`` or a folder ``.zarr``.
    lazy
        Leave `X` and `layers` where they are, as dask arrays that are read when they are computed.

    Returns
    -------
    The AnnData, in memory but for what is lazy.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    ValueError
        If `path` ends in neither ``.h5ad`` nor ``.zarr``.
    """
    import anndata

    path = _with_suffix(path)
    if not path.exists():
        msg = f"there is no {path}"
        raise FileNotFoundError(msg)
    if lazy:
        return _read_lazily(path)
    return anndata.read_h5ad(path) if path.suffix == ".h5ad" else anndata.read_zarr(path)


def _read_lazily(path: Path) -> AnnData:
    import h5py
    import zarr
    from anndata import AnnData
    from anndata.experimental import read_elem_lazy
    from anndata.io import read_elem

    store: Any = h5py.File(path) if path.suffix == ".h5ad" else nullcontext(zarr.open_group(path, mode="r"))
    with store as group:
        X = read_elem_lazy(group["X"]) if "X" in group else None
        layers = {name: read_elem_lazy(group[f"layers/{name}"]) for name in group.get("layers", {})}
        others = {name: read_elem(group[name]) for name in ("obs", "var", "obsm", "varm", "uns") if name in group}
        return AnnData(X, layers=layers, **others)


def write(adata: AnnData, path: str | PathLike[str]) -> None:
    """Write one AnnData so that a file at `path` is always a whole one.

    It is written under another name beside `path` and then renamed; what was there before is replaced only then.

    Parameters
    ----------
    adata
        The AnnData.
    path
        Ends in ``.h5ad`` or ``.zarr``; its folder is made if need be.

    Raises
    ------
    ValueError
        If `path` ends in neither ``.h5ad`` nor ``.zarr``.
    """
    path = _with_suffix(path)
    if path.suffix == ".h5ad":
        with whole_file(path) as unfinished:
            adata.write_h5ad(unfinished)
    else:
        with whole_folder(path) as unfinished, warnings.catch_warnings():
            # the format is whatever anndata's own setting says, and `read` reads both
            warnings.filterwarnings("ignore", message="Writing zarr v2 data will no longer be the default")
            adata.write_zarr(unfinished)


def read_sections(
    paths: str | PathLike[str] | Iterable[str | PathLike[str]], *, section_key: str = SECTION, lazy: bool = False
) -> dict[str, AnnData]:
    """Read sections from files.

    Parameters
    ----------
    paths
        A folder with one file ``.h5ad`` or folder ``.zarr`` for each section, a list of these, or a single one that
        holds several sections.
    section_key
        Column of `obs` by which a single file is split.
    lazy
        Leave `X` and `layers` in the files, to be read when they are computed, as
        ``isost.pp.slice_stack(lazy=True)`` does.

    Returns
    -------
    Section name to AnnData. A file's name without its suffix is the section's name; a folder's files come in natural
    order (``s2`` before ``s10``), listed files in the order given. A single file's sections are named by its column,
    in the order of its categories.

    Raises
    ------
    FileNotFoundError
        If a file is missing, or a folder holds no sections.
    KeyError
        If a single file has no column `section_key`.
    ValueError
        If two files have one name, or a name ends in neither ``.h5ad`` nor ``.zarr``.
    """
    if isinstance(paths, Iterable) and not isinstance(paths, str):
        files = [Path(path) for path in paths]
    elif _is_folder_of_files(Path(paths)):
        files = _files_in(Path(paths))
    else:
        return split_sections(read(paths, lazy=lazy), section_key=section_key)
    names = [file.stem for file in files]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        msg = f"two files are called {twice!r}; a section takes its name from its file, so rename one of them"
        raise ValueError(msg)
    return {name: read(file, lazy=lazy) for name, file in zip(names, files, strict=True)}


def _is_folder_of_files(path: Path) -> bool:
    return path.is_dir() and path.suffix not in SUFFIXES


def _files_in(folder: Path) -> list[Path]:
    # a hidden name is an unfinished file of `write`
    files = [file for file in folder.iterdir() if file.suffix in SUFFIXES and not file.name.startswith(".")]
    if not files:
        msg = f"{folder} holds no files that end in {' or '.join(SUFFIXES)}"
        raise FileNotFoundError(msg)
    return sorted(files, key=_natural)


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort numbers inside a name as numbers."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", path.name) if part]


def _with_suffix(path: str | PathLike[str]) -> Path:
    path = Path(path)
    if path.suffix not in SUFFIXES:
        msg = f"{path} must end in {' or '.join(SUFFIXES)}"
        raise ValueError(msg)
    return path
