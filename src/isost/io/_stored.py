"""What a file of HDF5 or zarr would do to the reader, found from its metadata before anything is read."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

from isost._untrusted import check_memory

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

__all__ = ["LAZY_ENCODINGS", "LEFT_BY_LAZY", "NESTED_ENCODINGS", "check_hdf5", "check_zarr"]

LEFT_BY_LAZY = ("X", "layers", "obsp", "raw")
"""Parts of an AnnData whose arrays ``lazy=True`` leaves on disk."""

LAZY_ENCODINGS = ("array", "csr_matrix", "csc_matrix")
"""What can be left on disk of a part; all else in it is read."""

NESTED_ENCODINGS = ("dict", "raw")
_MEMBER_BYTES = 2**10  # about what a group, an array or a chunk of a lazy one takes in memory beside its numbers
_ZARR_METADATA = (".zarray", ".zattrs", "zarr.json")
_LAZY_ROWS = 1000  # of sparse arrays and of those without chunks, in each chunk of a lazy one


def check_hdf5(path: Path, file: Any, *, unread: Collection[str] = (), lazy: Collection[str] = ()) -> None:
    """Raise ValueError if a file of HDF5 points into other files or holds itself, or claims more than memory holds.

    Parameters
    ----------
    path
        Its path.
    file
        The open file.
    unread
        Members of the root that are not read.
    lazy
        Those whose arrays stay on disk.
    """
    import h5py

    root = h5py.h5o.get_info(file.id).addr
    counted: dict[int, _Size | None] = {root: None}  # by place in the file; None as long as it is being counted
    largest_chunk = 0

    def size_of(name: str, node: Any) -> _Size:
        """Count a group or an array as often as it has names, since it is read by each of them."""
        nonlocal largest_chunk
        address = h5py.h5o.get_info(node.id).addr
        if address not in counted:
            counted[address] = None
            _check_is_here(path, name, node)
            members: list[_Size] = []
            own = _MEMBER_BYTES
            if isinstance(node, h5py.Group):
                members = [size_of(f"{name}/{member}", node[member]) for member in node]
            elif isinstance(node, h5py.Dataset):
                own += (node.size or 0) * node.dtype.itemsize
                largest_chunk = max(largest_chunk, math.prod(node.chunks or (0,)) * node.dtype.itemsize)
            counted[address] = _Size.of(node, own, members)
        found = counted[address]
        if found is None:
            msg = f"{path} is not read: {name} is a link to what holds it"
            raise ValueError(msg)
        return found

    _check_is_here(path, "its root", file)
    _check_total(path, {name: size_of(name, file[name]) for name in file}, largest_chunk, unread=unread, lazy=lazy)


class _Size(NamedTuple):
    """Bytes that a part of an AnnData takes in memory."""

    whole: int
    lazy: int  # where its arrays stay on disk

    @classmethod
    def of(cls, node: Any, own: int, members: Sequence[_Size]) -> _Size:
        """Size of a group or an array of `own` bytes, and of what it holds."""
        whole = own + sum(size.whole for size in members)
        encoding = node.attrs.get("encoding-type")
        if encoding in NESTED_ENCODINGS:
            return cls(whole, own + sum(size.lazy for size in members))
        return cls(whole, _lazy_bytes(node) if encoding in LAZY_ENCODINGS else whole)


def _lazy_bytes(node: Any) -> int:
    """Memory that a lazy array takes, by the number of its chunks."""
    shape: Sequence[int] = node.shape if hasattr(node, "shape") else [int(n) for n in node.attrs["shape"]]
    chunks = getattr(node, "chunks", None) or (_LAZY_ROWS, *shape[1:])
    n_chunks: int = math.prod(-(-n // max(1, chunk)) for n, chunk in zip(shape, chunks, strict=False))
    return _MEMBER_BYTES * n_chunks


def _check_is_here(path: Path, name: str, node: Any) -> None:
    import h5py

    if isinstance(node, h5py.Group):
        is_elsewhere = any(isinstance(node.get(member, getlink=True), h5py.ExternalLink) for member in node)
    else:
        is_elsewhere = isinstance(node, h5py.Dataset) and (bool(node.external) or node.is_virtual)
    if is_elsewhere:
        msg = f"{path} is not read: {name} points into other files"
        raise ValueError(msg)


def check_zarr(
    path: Path, group: Any, *, unread: Collection[str] = (), lazy: Collection[str] = (), can_be_lazy: bool = True
) -> None:
    """Raise ValueError if a store of zarr holds pickles, or claims more than memory holds; see `check_hdf5`.

    Where `can_be_lazy` is False it cannot be read by ``lazy=True``, and that is not advised.
    """
    import zarr
    from numcodecs.pickles import Pickle

    nodes = dict(group.members(max_depth=None))
    sizes: dict[str, _Size] = {}
    held: dict[str, list[_Size]] = defaultdict(list)
    largest_chunk = 0
    for name in sorted(nodes, key=lambda name: name.count("/"), reverse=True):  # the deepest first
        node, own = nodes[name], _MEMBER_BYTES
        if isinstance(node, zarr.Array):
            if any(isinstance(codec, Pickle) for codec in (*node.filters, *node.compressors)):
                msg = f"{path} is not read: {name} is pickled, and a pickle could run any program"
                raise ValueError(msg)
            _check_blosc(path, name, node)
            own += node.nbytes
            largest_chunk = max(largest_chunk, math.prod(node.shards or node.chunks) * node.dtype.itemsize)
        sizes[name] = _Size.of(node, own, held[name])
        held[name.rpartition("/")[0]].append(sizes[name])
    parts = {name: size for name, size in sizes.items() if "/" not in name}
    _check_total(path, parts, largest_chunk, unread=unread, lazy=lazy, can_be_lazy=can_be_lazy)


def _check_blosc(path: Path, name: str, array: Any) -> None:
    """Raise ValueError if a chunk is not as long as its header says: Blosc would read beyond its end, and crash.

    Chunks in shards are not looked at.
    """
    from numcodecs import Blosc
    from zarr.codecs import BloscCodec

    if array.shards or not array.compressors or not isinstance(array.compressors[-1], Blosc | BloscCodec):
        return
    for chunk in (path / name).rglob("*"):
        if chunk.is_file() and chunk.name not in _ZARR_METADATA:
            with chunk.open("rb") as file:
                header = file.read(16)
            if int.from_bytes(header[12:], "little") != chunk.stat().st_size:
                msg = f"{path} is damaged: the chunk {chunk.relative_to(path)} is not as long as it says"
                raise ValueError(msg)


def _check_total(
    path: Path,
    parts: Mapping[str, _Size],
    chunk: int,
    *,
    unread: Collection[str],
    lazy: Collection[str],
    can_be_lazy: bool = True,
) -> None:
    """Check what is read and, as a single number needs all of it, the largest chunk of any array."""
    read = {name: size for name, size in parts.items() if name not in unread}

    def total(left: Collection[str]) -> int:
        return chunk + sum(size.lazy if name in left else size.whole for name, size in read.items())

    can_be_lazy = can_be_lazy and not unread and not lazy
    check_memory(path, total(lazy), n_bytes_lazy=total(LEFT_BY_LAZY) if can_be_lazy else None)
