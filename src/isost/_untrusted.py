from __future__ import annotations

import os
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ._faults import is_disk_full, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["check_memory", "check_zip", "untrusted"]


@contextmanager
def untrusted(path: str | os.PathLike[str]) -> Iterator[None]:
    """Read a file or folder that may be damaged or hostile: whatever goes wrong then is a ValueError that names it.

    Libraries raise almost anything for bytes that nobody meant to write. What takes more memory than there is, is a
    MemoryError. Errors that name `path` already, and those of files that are missing, there already or closed to the
    reader, and of a full disk, stay as they are.
    """
    try:
        yield
    except (FileNotFoundError, FileExistsError, PermissionError):
        raise
    except Exception as error:
        if is_disk_full(error) or (isinstance(error, ValueError) and str(path) in str(error)):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        if is_out_of_memory(error):
            msg = f"{path} takes more memory than there is ({reason})"
            raise MemoryError(msg) from error
        msg = f"{path} is damaged, or not what it should be ({reason}); write or copy it again"
        raise ValueError(msg) from error


def check_memory(path: str | os.PathLike[str], n_bytes: int, *, n_bytes_lazy: int | None = None) -> None:
    """Raise ValueError, before anything is allocated, if a file claims more than this machine's memory.

    Parameters
    ----------
    path
        The file or folder, to be named.
    n_bytes
        What reading it would take.
    n_bytes_lazy
        What reading it by ``lazy=True`` would take; None where it cannot be read so.
    """
    if not hasattr(os, "sysconf"):  # not on Windows
        return
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if n_bytes > memory:
        can_be_lazy = n_bytes_lazy is not None and n_bytes_lazy <= memory
        advice = "read it by lazy=True" if can_be_lazy else "use a machine with more"
        msg = (
            f"{path} would take {n_bytes / 2**30:.4g} GiB of memory, and there are {memory / 2**30:.4g} GiB; {advice}, "
            f"if that is what it should hold"
        )
        raise ValueError(msg)


def check_zip(path: Path) -> None:
    """Raise ValueError if a zip archive that should be uncompressed would unpack to more than it is."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > path.stat().st_size:
        msg = f"{path} is damaged: it claims to unpack to {unpacked:,} bytes, more than it has"
        raise ValueError(msg)
