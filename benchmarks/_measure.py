"""Time and memory of a piece of work, and what the machine could do at most."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Cost:
    """What a piece of work has taken; known when it is done.

    Attributes
    ----------
    wall, cpu
        Seconds by the clock, and of all threads together.
    peak, left
        GB of the process at its largest, and afterwards.
    """

    wall: float = 0.0
    cpu: float = 0.0
    peak: float = 0.0
    left: float = 0.0


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure what is done inside; memory is read from /proc, so only on Linux, and 0 elsewhere."""
    cost = Cost()
    if _RESET.exists():
        _RESET.write_text("5")  # the largest size starts anew
    wall, cpu = time.perf_counter(), time.process_time()
    yield cost
    cost.wall, cost.cpu = time.perf_counter() - wall, time.process_time() - cpu
    if _STATUS.exists():
        status = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        cost.left, cost.peak = (int(status[key].split()[0]) / 2**20 for key in ("VmRSS", "VmHWM"))


def peak_flops(n: int = 1024) -> float:
    """Floating-point operations a second, by the product of two square matrices of float32."""
    a = torch.rand(n, n)
    return 2 * n**3 / _best(lambda: a @ a)


def bandwidth(n: int = 2**26) -> float:
    """Bytes a second between memory and processor, by copying an array that no cache holds."""
    a, b = torch.rand(n), torch.empty(n)
    return 8 * n / _best(lambda: b.copy_(a))


def _best(work: Callable[[], object], repeats: int = 5) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)
