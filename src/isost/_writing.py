from __future__ import annotations

import errno
import os
import shutil
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ._faults import is_disk_full

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["remove", "take_place", "whole_file", "whole_folder"]


@contextmanager
def whole_file(path: str | os.PathLike[str], *, n_bytes: int = 0) -> Iterator[Path]:
    """Write a file whole or not at all.

    Parameters
    ----------
    path
        File to write; its folder is made when missing.
    n_bytes
        What it will take at least; nothing is begun without so much space.

    Yields
    ------
    A path beside it to write to, with the same suffixes. It is renamed to `path` when the block ends, so that whoever
    reads `path` finds the old file or the new, and removed when the block raises.

    Raises
    ------
    OSError
        With ``errno.ENOSPC`` and what to do, if the disk is full.
    """
    path = Path(path)
    with _unfinished(path, n_bytes=n_bytes) as unfinished:
        yield unfinished
        _reach_disk(unfinished)
        unfinished.replace(path)
        _entries_reach_disk(path.parent)


@contextmanager
def whole_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a folder whole or not at all.

    Parameters
    ----------
    path
        Folder to write; the one it lies in is made when missing.

    Yields
    ------
    A path beside it to write to, with the same suffix. It takes the place of `path` when the block ends and is removed
    when the block raises. Whoever reads `path` finds the old folder, the new, or for a moment none.

    Raises
    ------
    OSError
        With ``errno.ENOSPC`` and what to do, if the disk is full.
    """
    path = Path(path)
    with _unfinished(path) as unfinished:
        yield unfinished
        take_place(unfinished, path)


@contextmanager
def _unfinished(path: Path, *, n_bytes: int = 0) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = _hidden(path)
    try:
        if shutil.disk_usage(path.parent).free < n_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield unfinished
    except Exception as error:
        if not is_disk_full(error):
            raise
        msg = f"no space is left to write {path}, and nothing was changed there: free some, or choose another disk"
        raise OSError(errno.ENOSPC, msg) from error
    finally:
        remove(unfinished)


def take_place(new: Path, path: Path) -> None:
    """Put a file or folder where there may be an old one, which is only removed once the new one is there."""
    _reach_disk(new)
    old = _hidden(path)
    if os.path.lexists(path):
        path.rename(old)  # a folder cannot be renamed onto one that holds something
    new.replace(path)
    _entries_reach_disk(path.parent)
    remove(old)


def _reach_disk(path: Path) -> None:
    """Wait until a file, or a folder with all it holds, would outlast a power cut.

    Until then the system may have written the new name and not yet what is under it. This takes a few milliseconds a
    file, beside the bytes that have to be written anyway; the chunks of a volume are some MB each.
    """
    if path.is_dir():
        for member in path.iterdir():
            _reach_disk(member)
        _entries_reach_disk(path)
    else:
        with path.open("rb+") as file:
            os.fsync(file.fileno())


def _entries_reach_disk(folder: Path) -> None:
    """Wait until the names in a folder would outlast a power cut."""
    with suppress(OSError):  # Windows opens no folders, and not every file system of a network can do this
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _hidden(path: Path) -> Path:
    return path.with_name(f".{uuid.uuid4().hex}-{path.name}")


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all it holds, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
