from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from isost._untrusted import check_zip, untrusted
from isost._writing import whole_file

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["find_slide", "read_arrays", "read_slide", "read_tensors", "slide_names", "write_arrays", "write_tensors"]


def read_tensors(path: str | os.PathLike[str]) -> Any:
    """Read a ``.pt`` file onto the CPU, tensors and plain containers of them alone.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or holds more than tensors: a pickle can run any program, and is then not loaded.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"there is no file {path}"
        raise FileNotFoundError(msg)
    with untrusted(path):
        check_zip(path)
        content = _loaded(path)
        _check_tensors(path, content)
        return content


def _loaded(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = " ".join(str(error).split(". This file can still be loaded")[-1].split())[-300:]
        msg = (
            f"{path} is not loaded: it is no file of tensors alone, and a pickle that needs more could run any "
            f"program ({reason})"
        )
        raise ValueError(msg) from error
    except (RuntimeError, OSError, EOFError, ValueError, LookupError) as error:
        msg = f"{path} is damaged or cut short ({' '.join(str(error).split())[:200]}); copy it again"
        raise ValueError(msg) from error


def _check_tensors(path: Path, content: Any) -> None:
    """Refuse tensors that would take more memory when they are used than the file has of them."""
    if isinstance(content, torch.Tensor):
        stored = content.layout is torch.strided and content.device.type == "cpu"
        if not stored or content.numel() * content.element_size() > content.untyped_storage().nbytes():
            msg = f"{path} is damaged: it holds a tensor of shape {tuple(content.shape)} without all of its numbers"
            raise ValueError(msg)
    elif isinstance(content, dict | list | tuple):
        for part in content.values() if isinstance(content, dict) else content:
            _check_tensors(path, part)


def read_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray[Any]]:
    """Read what `write_arrays` wrote.

    Raises
    ------
    ValueError
        If it is damaged, or holds more than arrays of numbers and text.
    """
    path = Path(path)
    with untrusted(path):
        check_zip(path)
        # opened here, as numpy would not close what turns out to be no zip archive
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}


def write_tensors(path: str | os.PathLike[str], content: Any) -> None:
    """Write a ``.pt`` file whole or not at all."""
    # By way of memory: torch writes the name of a file into it, and this one is renamed.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with whole_file(path) as unfinished:
        unfinished.write_bytes(buffer.getvalue())


def write_arrays(path: str | os.PathLike[str], arrays: dict[str, Any]) -> None:
    """Write named arrays to an ``.npz`` file whole or not at all."""
    with whole_file(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, **arrays)


def find_slide(data_dir: str | os.PathLike[str], name: str) -> Path:
    """Find the file of a section: ``shuffled_{name}.pt``, which goes first, or ``{name}.pt``."""
    tried = [Path(data_dir) / f"shuffled_{name}.pt", Path(data_dir) / f"{name}.pt"]
    for path in tried:
        if path.is_file():
            return path
    msg = f"section {name!r} has no file in {data_dir}: neither {tried[0].name} nor {tried[1].name}"
    raise FileNotFoundError(msg)


def slide_names(data_dir: str | os.PathLike[str]) -> list[str]:
    """Name all sections of a folder, in ascending order of depth.

    Raises
    ------
    FileNotFoundError
        If the folder holds no ``.pt`` files.
    ValueError
        If one of them holds no section; it is named.
    """
    names = sorted({path.stem.removeprefix("shuffled_") for path in Path(data_dir).glob("[!.]*.pt")})
    if not names:
        msg = f"{data_dir} holds no sections, such as shuffled_a.pt or a.pt"
        raise FileNotFoundError(msg)
    return sorted(names, key=lambda name: float(read_slide(find_slide(data_dir, name))[:, 2].mean()))


def read_slide(path: str | os.PathLike[str], *, n_comps: int | None = None) -> Tensor:
    """Read one section's state (N, 3 + G), float32, in file order.

    Parameters
    ----------
    path
        Its ``.pt`` file.
    n_comps
        Components G that it must have; any when None.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it does not hold such a tensor, or the tensor has other columns.
    """
    content = read_tensors(path)
    if not isinstance(content, torch.Tensor) or content.ndim != 2 or not content.is_floating_point():
        found = tuple(content.shape) if isinstance(content, torch.Tensor) else type(content).__name__
        msg = f"{path} must hold one float tensor (N, 3 + G) with columns x, y, z and components, but holds {found}"
        raise ValueError(msg)
    if content.shape[1] < 4 or len(content) == 0:
        msg = f"{path} has shape {tuple(content.shape)}; a section has points, and columns x, y, z and components"
        raise ValueError(msg)
    if n_comps is not None and content.shape[1] != 3 + n_comps:
        msg = f"{path} has {content.shape[1] - 3} components, but the model has gene_dim {n_comps}"
        raise ValueError(msg)
    if not bool(content.isfinite().all()):
        msg = f"{path} holds values that are not finite"
        raise ValueError(msg)
    return content.to(torch.float32)
