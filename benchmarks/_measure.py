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

CPU = torch.device("cpu")
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
    gpu
        GB of tensors on the GPU at their most.
    """

    wall: float = 0.0
    cpu: float = 0.0
    peak: float = 0.0
    left: float = 0.0
    gpu: float = 0.0


@contextmanager
def measured(device: torch.device = CPU) -> Iterator[Cost]:
    """Measure what is done inside; memory is read from /proc, so only on Linux, and 0 elsewhere."""
    cost = Cost()
    _finish(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    if _RESET.exists():
        _RESET.write_text("5")  # the largest size starts anew
    wall, cpu = time.perf_counter(), time.process_time()
    yield cost
    _finish(device)
    if device.type == "cuda":
        cost.gpu = torch.cuda.max_memory_allocated(device) / 2**30
    cost.wall, cost.cpu = time.perf_counter() - wall, time.process_time() - cpu
    if _STATUS.exists():
        status = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        cost.left, cost.peak = (int(status[key].split()[0]) / 2**20 for key in ("VmRSS", "VmHWM"))


def peak_flops(device: torch.device = CPU) -> float:
    """Floating-point operations a second, by the product of two square matrices of float32."""
    n = 1024 if device.type == "cpu" else 8192
    a = torch.rand(n, n, device=device)
    return 2 * n**3 / best_time(lambda: a @ a, device)


def bandwidth(device: torch.device = CPU, n: int = 2**26) -> float:
    """Bytes a second between memory and processor, by copying an array that no cache holds."""
    a, b = torch.rand(n, device=device), torch.empty(n, device=device)
    return 8 * n / best_time(lambda: b.copy_(a), device)


def seconds(cost: Cost, device: torch.device) -> float:
    """What a piece of work took: of all threads together, or of the clock where it was the GPU's."""
    return cost.cpu if device.type == "cpu" else cost.wall


def best_time(work: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """Seconds of a piece of work at its fastest."""
    taken = []
    for _ in range(repeats):
        with measured(device) as cost:
            work()
        taken.append(seconds(cost, device))
    return min(taken)


def _finish(device: torch.device) -> None:
    """Wait until a GPU has done what it was asked; the CPU does everything at once."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
