"""What a file of HDF5 or zarr would do to the reader, found from its metadata before anything is read."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from isost._untrusted import check_memory

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

__all__ = ["check_hdf5", "check_zarr"]

_LEFT_BY_LAZY = ("X", "layers")
_MEMBER_BYTES = 2**10  # about what a group or an array takes in memory beside its numbers


def check_hdf5(path: Path, file: Any, *, unread: Collection[str] = ()) -> None:
    """Raise ValueError if a file of HDF5 points into other files or holds itself, or claims more than memory holds.

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

    root = h5py.h5o.get_info(file.id).addr
    counted: dict[int, int | None] = {root: None}  # by place in the file; None as long as it is being counted
    largest_chunk = 0

    def n_bytes(name: str, node: Any) -> int:
        """Count a group or an array as often as it has names, since it is read by each of them."""
        nonlocal largest_chunk
        address = h5py.h5o.get_info(node.id).addr
        if address not in counted:
            counted[address] = None
            _check_is_here(path, name, node)
            n = _MEMBER_BYTES
            if isinstance(node, h5py.Group):
                n += sum(n_bytes(f"{name}/{member}", node[member]) for member in node)
            elif isinstance(node, h5py.Dataset):
                n += (node.size or 0) * node.dtype.itemsize
                largest_chunk = max(largest_chunk, math.prod(node.chunks or (0,)) * node.dtype.itemsize)
            counted[address] = n
        found = counted[address]
        if found is None:
            msg = f"{path} is not read: {name} is a link to what holds it"
            raise ValueError(msg)
        return found

    _check_is_here(path, "its root", file)
    _check_total(path, {name: n_bytes(name, file[name]) for name in file}, largest_chunk, unread)


def _check_is_here(path: Path, name: str, node: Any) -> None:
    import h5py

    if isinstance(node, h5py.Group):
        is_elsewhere = any(isinstance(node.get(member, getlink=True), h5py.ExternalLink) for member in node)
    else:
        is_elsewhere = isinstance(node, h5py.Dataset) and (bool(node.external) or node.is_virtual)
    if is_elsewhere:
        msg = f"{path} is not read: {name} points into other files"
        raise ValueError(msg)


def check_zarr(path: Path, group: Any, *, unread: Collection[str] = ()) -> None:
    """Raise ValueError if a store of zarr holds pickles, or claims more than memory holds; see `check_hdf5`."""
    import zarr
    from numcodecs.pickles import Pickle

    members: Counter[str] = Counter()
    largest_chunk = 0
    for name, array in group.members(max_depth=None):
        if not isinstance(array, zarr.Array):
            continue
        if any(isinstance(codec, Pickle) for codec in (*array.filters, *array.compressors)):
            msg = f"{path} is not read: {name} is pickled, and a pickle could run any program"
            raise ValueError(msg)
        members[name.split("/")[0]] += array.nbytes
        largest_chunk = max(largest_chunk, math.prod(array.shards or array.chunks) * array.dtype.itemsize)
    _check_total(path, members, largest_chunk, unread)


def _check_total(path: Path, members: Mapping[str, int], chunk: int, unread: Collection[str]) -> None:
    """Check the arrays that are read and, as a single number needs all of it, the largest chunk of any."""

    def total(left: Collection[str]) -> int:
        return chunk + sum(n_bytes for name, n_bytes in members.items() if name not in left)

    check_memory(path, total(unread), n_bytes_lazy=None if unread else total(_LEFT_BY_LAZY))
