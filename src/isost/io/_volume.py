from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isost import _keys as keys
from isost._logging import logger
from isost._untrusted import untrusted
from isost._writing import remove, take_place, whole_file
from isost.volume import decode

from ._files import read_parts, write
from ._stored import LEFT_BY_LAZY, check_hdf5, check_zarr

if TYPE_CHECKING:
    from os import PathLike

    from anndata import AnnData

__all__ = ["SlabFolder", "read_volume"]

_ON_DISK = (*LEFT_BY_LAZY, "obsm")
_CHUNK_BYTES = 8 * 2**20
_TEXT_BYTES = 64  # about what a name takes in memory


def read_volume(path: str | PathLike[str]) -> AnnData:
    """Open a volume in zarr without reading it into memory.

    Parameters
    ----------
    path
        A volume ``.zarr``, written by ``isost.tl.reconstruct(store=)`` or :func:`isost.io.write`.

    Returns
    -------
    The volume as :func:`isost.tl.reconstruct` describes it, with whatever else it was written with. `obs` and `var` are
    in memory; `X` and the arrays of `obsm`, `layers`, `obsp` and `raw` are dask arrays, read when they are computed.
    Where no `X` was written, as by ``reconstruct(store=)``, genes are decoded from ``obsm["X_pca"]`` at that moment.

    Raises
    ------
    FileNotFoundError
        If there is nothing at `path`.
    ValueError
        If this is not a volume in zarr, is damaged or holds pickles, or its `obs` would take more than the memory there
        is.

    Examples
    --------
    >>> volume = isost.io.read_volume("volume.zarr")
    >>> volume[:, "Gad1"].X.compute()
    """
    path = Path(path)
    if not path.exists():
        msg = f"there is no {path}"
        raise FileNotFoundError(msg)
    with untrusted(path):
        return _opened(path)


def _opened(path: Path) -> AnnData:
    import zarr
    from anndata import AnnData, settings

    group: Any = zarr.open_group(path, mode="r") if path.suffix == ".zarr" else {}
    if f"uns/{keys.UNS}/grid" not in group or f"obsm/{keys.X_PCA}" not in group:
        msg = f"{path} is no volume in zarr, as isost.tl.reconstruct(store=) writes it; isost.io.read reads other files"
        raise ValueError(msg)
    check_zarr(path, group, lazy=_ON_DISK)
    parts = read_parts(group, on_disk=_ON_DISK)
    if keys.GENE_MEAN not in parts["var"]:  # older volumes keep them in `uns`, where they do not follow the genes
        kept = parts["uns"][keys.UNS]
        parts["var"] = parts["var"].assign(**{key: kept.pop(key) for key in (keys.GENE_MEAN, keys.GENE_SCALE)})
    if "X" not in parts:
        mean, scale = parts["var"][keys.GENE_MEAN], parts["var"][keys.GENE_SCALE]
        parts["X"] = decode(parts["obsm"][keys.X_PCA], parts["varm"][keys.PCS], mean, scale, lazy=True)
    with settings.override(check_uniqueness=False):  # no two voxels share a name, and the index would be kept twice
        return AnnData(**parts)


class SlabFolder:
    """Slabs of a volume on their way into one store, kept so that an interrupted run goes on where it stopped.

    They lie in ``<store>.part``, each written under another name and then renamed. Several processes may write to it,
    each its own slabs.

    Parameters
    ----------
    store
        Where the volume is to be, ``.zarr``.
    fingerprint
        Digest of what the slabs depend on.

    Raises
    ------
    ValueError
        If the folder has something else in it than slabs of this fingerprint.
    """

    def __init__(self, store: str | PathLike[str], fingerprint: str) -> None:
        self._store = Path(store)
        self._folder = self._store.with_name(f"{self._store.name}.part")
        label = self._folder / "fingerprint"
        found = label.read_bytes() if label.is_file() else None
        if found is None and not self._holds_something():
            with whole_file(label) as unfinished:
                unfinished.write_text(fingerprint)
        elif found != fingerprint.encode() or self._folder.is_symlink():
            msg = (
                f"{self._folder} holds parts of another volume (other sections, model, voxel_size, seed, precision or "
                "versions), or something else: repeat the call that began it, delete the folder, or choose another "
                "store"
            )
            raise ValueError(msg)

    def _holds_something(self) -> bool:
        # a hidden name is an unfinished file of a process that was killed
        return self._folder.is_dir() and any(not path.name.startswith(".") for path in self._folder.iterdir())

    def missing(self, n: int) -> list[int]:
        """Which of `n` slabs are still to be made."""
        left = [i for i in range(n) if not self._is_whole(i)]
        if len(left) < n:
            logger.info("%d of %d slabs are in %s already", n - len(left), n, self._folder)
        return left

    def write(self, i: int, slab: AnnData) -> None:
        """Keep slab `i`."""
        write(slab, self._path(i))

    def join(self, n: int, frame: AnnData) -> None:
        """Make the store of `n` slabs, one after another, and remove the folder.

        Parameters
        ----------
        n
            Number of slabs, all there.
        frame
            An AnnData without rows, with what does not belong to rows.
        """
        import h5py
        import zarr

        unfinished = self._folder / "unfinished.zarr"
        write(frame, unfinished)
        whole = zarr.open_group(unfinished, mode="r+", use_consolidated=False)
        for name in ("obs", "obsm"):
            del whole[name]
            for i in range(n):
                with untrusted(self._path(i)), h5py.File(self._path(i)) as slab:
                    check_hdf5(self._path(i), slab, unread=set(slab) - {"obs", "obsm"})
                    _append(slab[name], whole.require_group(name))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
            zarr.consolidate_metadata(whole.store)
        take_place(unfinished, self._store)
        remove(self._folder)

    def _path(self, i: int) -> Path:
        return self._folder / f"slab-{i}.h5ad"

    def _is_whole(self, i: int) -> bool:
        import h5py

        try:
            h5py.File(self._path(i)).close()
        except OSError:  # not there, or cut off
            return False
        return True


def _append(rows: Any, out: Any) -> None:
    """Add the rows of every array in a group of HDF5 to the arrays of the same names in a group of zarr.

    `anndata.experimental.concat_on_disk` would hold all of `obs` in memory, several times over.
    """
    import h5py

    out.attrs.update(_plain(rows.attrs))
    for name, member in rows.items():
        if isinstance(member, h5py.Group):
            _append(member, out.require_group(name))
            continue
        is_text = h5py.check_string_dtype(member.dtype) is not None
        values = member.asstr()[:] if is_text else member[:]
        if name not in out:
            row_bytes = _TEXT_BYTES if is_text else values.itemsize * values[:1].size
            chunks = (max(1, _CHUNK_BYTES // row_bytes), *values.shape[1:])
            dtype: Any = str if is_text else values.dtype
            # compressed, components would save a twentieth, and take five times as long to read
            how: Any = {"compressors": None} if name == keys.X_PCA else {}
            begun = out.create_array(name, shape=(0, *values.shape[1:]), chunks=chunks, dtype=dtype, **how)
            begun.attrs.update(_plain(member.attrs))
        elif name == "categories":  # of a column: the same in all slabs
            continue
        out[name].append(values)


def _plain(attributes: Any) -> dict[str, Any]:
    """Attributes of HDF5, as JSON can hold them."""
    return {key: value.tolist() if hasattr(value, "tolist") else value for key, value in attributes.items()}
