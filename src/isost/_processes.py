from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from lightning_fabric import Fabric
    from torch import Tensor

__all__ = ["ALONE", "Processes", "join_processes"]

_T = TypeVar("_T")
_PATIENCE = timedelta(days=30)  # one may wait for another as long as that has work to do


@dataclass(frozen=True)
class Processes:
    """Processes that do the work of one call together; by default this one alone.

    All of them run the same code on the same input, and divide what takes long.

    Attributes
    ----------
    rank
        Number of this process, from 0.
    count
        How many there are.
    fabric
        What connects them.
    """

    rank: int = 0
    count: int = 1
    fabric: Fabric | None = None

    def share(self, items: Sequence[_T], *, first: int = 0) -> Sequence[_T]:
        """Take what this process does of some work, the items numbered from `first`: every `count`-th one."""
        return items[(self.rank - first) % self.count :: self.count]

    def mean(self, values: Tensor) -> Tensor:
        """Mean of the processes' values, which may be overwritten."""
        return values if self.fabric is None else cast("Tensor", self.fabric.all_reduce(values, reduce_op="mean"))

    def of_first(self, value: _T) -> _T:
        """Take the first process's value, which must be on the CPU."""
        return value if self.fabric is None else self.fabric.broadcast(value)

    def gather(self, value: _T) -> list[_T]:
        """Return the values of all processes, in the order of their ranks."""
        if self.fabric is None:
            return [value]
        import torch

        values: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(values, value)
        return values

    def first_before_others(self) -> AbstractContextManager[None]:
        """Let the first process finish a block before the others enter it."""
        return nullcontext() if self.fabric is None else self.fabric.rank_zero_first()

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.fabric is not None:
            self.fabric.barrier()


ALONE = Processes()


def join_processes(devices: int, num_nodes: int, device: torch.device) -> tuple[Processes, torch.device]:
    """Join the other processes of a call, which torchrun or SLURM started; the environment tells where they are.

    Parameters
    ----------
    devices
        Processes on each node, each with a GPU of its own where `device` is one.
    num_nodes
        Nodes.
    device
        The kind of device to compute on.

    Returns
    -------
    The processes, and the device of this one.

    Raises
    ------
    ValueError
        If another number of processes was started, or there are too few GPUs.
    """
    if devices * num_nodes == 1:
        return ALONE, device
    import torch
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy

    if device.index is not None:
        msg = f"device='{device}' is a single one, so devices must be 1: say device={device.type!r} to use several"
        raise ValueError(msg)
    if device.type == "cuda" and devices > torch.cuda.device_count():
        msg = f"devices={devices}, but there are {torch.cuda.device_count()} GPUs here; choose fewer, or device='cpu'"
        raise ValueError(msg)
    strategy = DDPStrategy(timeout=_PATIENCE)
    fabric = Fabric(accelerator=device.type, devices=devices, num_nodes=num_nodes, strategy=strategy)
    n_threads = torch.get_num_threads()
    fabric.launch()
    torch.set_num_threads(n_threads)  # it takes all there are
    return Processes(fabric.global_rank, fabric.world_size, fabric), fabric.device
