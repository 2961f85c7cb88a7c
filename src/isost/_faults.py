from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["explained", "is_disk_full", "is_out_of_memory"]

# What libraries that have no error of their own for it say: the system's words, torch's, CUDA's and cuBLAS's.
_DISK_FULL = {code: os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}
_OUT_OF_MEMORY = (
    os.strerror(errno.ENOMEM),
    "DefaultCPUAllocator",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def is_disk_full(error: BaseException) -> bool:
    """Whether there was no room to write to, or a quota or the largest size of a file was reached."""
    known = isinstance(error, OSError) and error.errno in _DISK_FULL
    return known or any(words in str(error) for words in _DISK_FULL.values())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was too little memory, of the CPU or of a GPU."""
    known = isinstance(error, MemoryError | torch.cuda.OutOfMemoryError)
    return known or any(words in str(error) for words in _OUT_OF_MEMORY)


@contextmanager
def explained(*, less: str, kept: Callable[[], str]) -> Iterator[None]:
    """Say of a full disk and of too little memory what was kept and what to change.

    Parameters
    ----------
    less
        What needs less memory.
    kept
        Says what is on disk by now, and how to go on from it.

    Raises
    ------
    OSError
        With ``errno.ENOSPC``, where the disk is full.
    MemoryError
        Where there is too little memory, on a GPU too.
    """
    try:
        yield
    except Exception as error:
        if is_disk_full(error):
            said = error.strerror if isinstance(error, OSError) and error.strerror else _first_line(error)
            raise OSError(errno.ENOSPC, f"{said}; {kept()}") from error
        if is_out_of_memory(error):
            on_gpu = "; or device='cpu'" if "CUDA" in str(error) else ""
            msg = f"out of memory ({_first_line(error)}): {less}{on_gpu}; {kept()}"
            raise MemoryError(msg) from error
        raise


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
