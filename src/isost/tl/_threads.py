from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from threadpoolctl import threadpool_limits

from isost._settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["few_threads"]


@contextmanager
def few_threads() -> Iterator[None]:
    """Compute with `isost.settings.n_threads` threads, and leave the caller's number as it was.

    Graphs of some thousand points are many short operations. Where another process keeps a core busy, threads that
    wait for each other at the end of every one of them take several times as long as one thread does.
    """
    before = torch.get_num_threads()
    with threadpool_limits(limits=settings.n_threads):
        torch.set_num_threads(settings.n_threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)
