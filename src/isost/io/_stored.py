"""What a file of HDF5 or zarr would do to the reader, found from its metadata before anything is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isost._untrusted import check_memory

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

__all__ = ["check_hdf5", "check_zarr"]

_ADVICE = "read it by lazy=True"


def check_hdf5(path: Path, file: Any, *, unread: Collection[str] = ()) -> None:
    """Raise ValueError if a file of HDF5 points into other files, or claims more than memory holds.

    Parameters
    ----------
    path
        Its path.
    file
        The open file.
    unread
        Members of the root that stay on disk.
    """
    import h5py

    n_bytes = 0

    def look(name: str, node: Any) -> None:
        nonlocal n_bytes
        if isinstance(node, h5py.Group):
            links = [node.get(member, getlink=True) for member in node]
            is_elsewhere = any(isinstance(link, h5py.ExternalLink) for link in links)
        else:
            is_elsewhere = bool(node.external) or node.is_virtual
            if name.split("/")[0] not in unread:
                n_bytes += (node.size or 0) * node.dtype.itemsize
        if is_elsewhere:
            msg = f"{path} is not read: {name or 'its root'} points into other files"
            raise ValueError(msg)

    look("", file)
    file.visititems(look)
    check_memory(path, n_bytes, advice=_ADVICE)


def check_zarr(path: Path, group: Any, *, unread: Collection[str] = ()) -> None:
    """Raise ValueError if a store of zarr holds pickles, or claims more than memory holds; see `check_hdf5`."""
    import zarr
    from numcodecs.pickles import Pickle

    n_bytes = 0
    for name, array in group.members(max_depth=None):
        if not isinstance(array, zarr.Array):
            continue
        if any(isinstance(codec, Pickle) for codec in (*array.filters, *array.compressors)):
            msg = f"{path} is not read: {name} is pickled, and a pickle could run any program"
            raise ValueError(msg)
        if name.split("/")[0] not in unread:
            n_bytes += array.nbytes
    check_memory(path, n_bytes, advice=_ADVICE)
