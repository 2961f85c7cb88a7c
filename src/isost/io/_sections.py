from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from anndata import AnnData

from isost._keys import SECTION

from ._files import SUFFIXES, read
from ._spatialdata import is_spatialdata_store, read_spatialdata, sections_of
from ._split import split_sections

if TYPE_CHECKING:
    from os import PathLike

    from spatialdata import SpatialData

__all__ = ["read_sections"]


def read_sections(
    source: str | PathLike[str] | Iterable[str | PathLike[str]] | AnnData | SpatialData,
    *,
    section_key: str = SECTION,
    coordinate_system: str = "global",
    lazy: bool = False,
) -> dict[str, AnnData]:
    """Read sections from wherever they are, as :func:`isost.pp.slice_stack` takes them.

    Parameters
    ----------
    source
        A folder with one file ``.h5ad`` or folder ``.zarr`` for each section; a list of these; or all sections
        together, in an AnnData or its file, or in a SpatialData or its folder ``.zarr``.
    section_key
        Column of `obs` by which one AnnData, or the only table of a SpatialData, is split. A SpatialData with several
        tables has one for each section.
    coordinate_system
        Where the sections of a SpatialData are registered to each other. Cells lie at the centroids of the elements
        that their table annotates, transformed to it; those of a table that annotates none stay where its
        ``obsm["spatial"]`` has them.
    lazy
        Leave `X`, `layers`, `obsp` and `raw` of files of AnnData there, to be read when they are computed, as
        ``isost.pp.slice_stack(lazy=True)`` does.

    Returns
    -------
    Section name to AnnData. A file's name without its suffix is the section's name; a folder's files come in natural
    order (``s2`` before ``s10``), listed files in the order given. Sections of one AnnData are named by its column,
    in the order of its categories, and are views of it; those of several tables are named by them.

    Raises
    ------
    FileNotFoundError
        If a file is missing, or a folder holds no sections.
    KeyError
        If one AnnData has no column `section_key`, or a SpatialData has no places for the cells of a table, or no such
        coordinate system.
    ValueError
        If two files have one name, or a name ends in neither ``.h5ad`` nor ``.zarr``; or as :func:`isost.io.read` does.

    Examples
    --------
    >>> sections = isost.io.read_sections("sections")
    >>> stack = isost.pp.slice_stack(sections)
    """
    if isinstance(source, AnnData):
        return split_sections(source, section_key=section_key)
    if hasattr(source, "tables"):
        return sections_of(source, section_key=section_key, coordinate_system=coordinate_system)
    if isinstance(source, Iterable) and not isinstance(source, str):
        return _read_files([Path(path) for path in source], lazy=lazy)
    path = Path(source)
    if path.is_dir() and path.suffix not in SUFFIXES:
        return _read_files(_files_in(path), lazy=lazy)
    whole = read_spatialdata(path) if is_spatialdata_store(path) else read(path, lazy=lazy)
    return read_sections(whole, section_key=section_key, coordinate_system=coordinate_system)


def _read_files(files: list[Path], *, lazy: bool) -> dict[str, AnnData]:
    names = [file.stem for file in files]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        msg = f"two files are called {twice!r}; a section takes its name from its file, so rename one of them"
        raise ValueError(msg)
    return {name: read(file, lazy=lazy) for name, file in zip(names, files, strict=True)}


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
