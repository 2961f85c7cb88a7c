from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["counted", "logger", "step"]

logger = logging.getLogger("isost")  # without a handler of its own: Python then shows warnings by itself


def counted(n: int, noun: str) -> str:
    """Say how many there are of what takes an s for more than one."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


@contextmanager
def step(what: str) -> Iterator[list[str]]:
    """Log the time that a step took, and whatever it appended to the list it is given."""
    start = time.perf_counter()
    notes: list[str] = []
    yield notes
    said = "; ".join([f"{what} took {time.perf_counter() - start:.1f} s", *notes])
    logger.info(said)
