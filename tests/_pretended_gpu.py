"""A GPU that is only pretended, so that mistakes of device show on a machine without one.

A tensor "on the GPU" is one of the CPU whose storage is marked. `_Calls` stands before torch's Python functions: what
they make with ``device="cuda"``, or move there, is marked, ``.device`` says so, and NumPy gets none. `_Operations`
stands below and sees every operation, those of the backward pass too: marks go on to its results, tensors of both
places in it are refused where CUDA refuses them, and where the host waits for the device is written down.

What it cannot show: CUDA's own kernels, their precision, memory and speed; several GPUs; files read straight onto one.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU = torch.device("cuda", 0)
_TO_HOST = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
_INDEXED = ("aten.index.Tensor", "aten.index_put_.default", "aten.index_put.default", "aten._index_put_impl_.default")


class PretendedGPU:
    """What is on the device, and what the host has waited for.

    Attributes
    ----------
    waits
        Function and number of entries of everything that was copied to the host, whole tensors and single numbers.
    """

    def __init__(self) -> None:
        self._storages: set[StorageWeakRef] = set()  # weak, and yet no new storage gets the place of an old one
        self.waits: list[tuple[str, int]] = []

    def __enter__(self) -> PretendedGPU:
        self._modes = ExitStack()
        for mode in (_Operations(self), _Calls(self)):
            self._modes.enter_context(mode)
        return self

    def __exit__(self, *error: object) -> None:
        self._modes.close()

    def holds(self, tensor: Tensor) -> bool:
        return StorageWeakRef(tensor.untyped_storage()) in self._storages

    def copied(self) -> list[tuple[str, int]]:
        """Those of `waits` that were more than the coordinates of a point."""
        return [(what, size) for what, size in self.waits if size > 3]

    def put(self, tensor: Tensor, *, here: bool) -> Tensor:
        change = self._storages.add if here else self._storages.discard
        change(StorageWeakRef(tensor.untyped_storage()))
        return tensor


class _Calls(TorchFunctionMode):
    """Answers what asks for a device, and moves to it; leaves all else to torch."""

    def __init__(self, gpu: PretendedGPU) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.backward:  # with this mode on, which torch's own functions are not under
            with self:
                engine, ones = torch.autograd.Variable._execution_engine, torch.ones_like(args[0])
                return engine.run_backward((args[0],), (ones,), False, False, (), accumulate_grad=True)
        own = args[0] if args and isinstance(args[0], Tensor) else None
        if own is not None and self.gpu.holds(own):
            answers = {Tensor.device.__get__: GPU, Tensor.is_cuda.__get__: True, Tensor.is_cpu.__get__: False}
            if func in answers:
                return answers[func]
            if func in (Tensor.numpy, Tensor.__array__):
                raise TypeError("can't convert cuda:0 device type tensor to numpy")
            if func is Tensor.tolist:
                self.gpu.waits.append(("tolist", own.numel()))
        place = self._place(func, own, args, kwargs)
        if place is None:
            return func(*args, **kwargs)
        if place == "cuda" and kwargs.get("generator") is not None:
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        moved = func(*map(_on_cpu, args), **{name: _on_cpu(value) for name, value in kwargs.items()})
        if place == "cpu" and self.gpu.holds(moved):
            self.gpu.waits.append((func.__name__, moved.numel()))
        if func in (Tensor.to, Tensor.cpu, Tensor.cuda, torch.as_tensor) and (place == "cuda") != self.gpu.holds(moved):
            moved = moved.clone()
        return self.gpu.put(moved, here=place == "cuda")

    def _place(self, func: Any, own: Tensor | None, args: Any, kwargs: Any) -> str | None:
        """Kind of the device that a call names, cuda or cpu; None where it names none, or another."""
        if func in (Tensor.cpu, Tensor.cuda):
            return func.__name__
        if func is Tensor.new_tensor and own is not None and "device" not in kwargs:
            return "cuda" if self.gpu.holds(own) else "cpu"
        for value in (kwargs.get("device"), *(args[1:] if func is Tensor.to else ())):
            if isinstance(value, Tensor):
                return "cuda" if self.gpu.holds(value) else "cpu"
            if isinstance(value, str | torch.device) and (kind := torch.device(value).type) in ("cpu", "cuda"):
                return kind
        return None


def _on_cpu(value: Any) -> Any:
    return torch.device("cpu") if isinstance(value, str | torch.device) and "cuda" in str(value) else value


class _Operations(TorchDispatchMode):
    """Lets marks go on from operation to operation, and refuses tensors of two places."""

    def __init__(self, gpu: PretendedGPU) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs or {})) if isinstance(leaf, Tensor)]
        away = [tensor for tensor in tensors if not self.gpu.holds(tensor)]
        here = len(away) < len(tensors)
        if here and str(func) == "aten.copy_.default":
            if not self.gpu.holds(args[0]):
                self.gpu.waits.append((str(func), args[0].numel()))
            return func(*args, **(kwargs or {}))
        if here and away and not self._may_mix(func, args, away):
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, found cuda:0 and cpu")
        out = func(*args, **(kwargs or {}))
        if here:
            if any(tag in func.tags for tag in _TO_HOST) and not self._by_number(func, args):
                self.gpu.waits.append((str(func), 1))
            for tensor in (leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)):
                self.gpu.put(tensor, here=True)
        return out

    @staticmethod
    def _by_number(func: Any, args: Any) -> bool:
        """Whether entries are taken by their numbers, which tell how many there are, unlike a mask."""
        return str(func) in _INDEXED and all(index is None or index.dtype != torch.bool for index in args[1])

    def _may_mix(self, func: Any, args: Any, away: list[Tensor]) -> bool:
        """Whether CUDA takes these tensors of the CPU too: single numbers, and indices into a tensor of its own."""
        if str(func) in _INDEXED:
            indices = {id(index) for index in args[1] if index is not None}
            return self.gpu.holds(args[0]) and all(id(t) in indices or t.ndim == 0 for t in away)
        return torch.Tag.pointwise in func.tags and all(tensor.ndim == 0 for tensor in away)
