from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from isost._writing import whole_file

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from torch import Tensor, nn
    from torch.optim import Optimizer

__all__ = ["load_checkpoint", "save_checkpoint"]

_NUMBERS = "isost"  # entry of the safetensors header that holds everything that is not a tensor, as JSON


def save_checkpoint(
    path: str | os.PathLike[str],
    *,
    modules: Mapping[str, nn.Module],
    optimizer: Optimizer,
    progress: Mapping[str, Any],
) -> None:
    """Write a training state to one safetensors file, whole or not at all.

    Tensors are stored as such, everything else as JSON in the file's header, never as a pickle. The file is written
    under a temporary name beside `path` and then renamed, so that whoever reads `path` finds the old state or the new.

    Parameters
    ----------
    path
        File to write; its folder is made when missing.
    modules
        Networks by name.
    optimizer
        Optimiser over their parameters.
    progress
        Where training stands: names to numbers, strings, lists and dicts of them (JSON), or to tensors, such as a
        generator's state.

    Raises
    ------
    TypeError
        If an entry of `progress` is neither a tensor nor JSON.
    """
    tensors = {
        f"module/{name}/{key}": value for name, part in modules.items() for key, value in part.state_dict().items()
    }
    tensors |= {f"progress/{key}": value for key, value in progress.items() if isinstance(value, torch.Tensor)}
    optimizer_state = optimizer.state_dict()
    optimizer_numbers: dict[str, dict[str, Any]] = {}
    for index, entries in optimizer_state["state"].items():
        for key, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer/{index}/{key}"] = value
            else:
                optimizer_numbers.setdefault(str(index), {})[key] = value
    numbers = {
        "progress": {key: value for key, value in progress.items() if not isinstance(value, torch.Tensor)},
        "optimizer": {"state": optimizer_numbers, "param_groups": optimizer_state["param_groups"]},
        "modules": list(modules),
    }
    try:
        header = json.dumps(numbers)
    except TypeError as error:
        msg = f"progress must hold tensors, or numbers, strings, lists and dicts of them: {error}"
        raise TypeError(msg) from error
    # Clones, as safetensors refuses tensors that share memory.
    stored = {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}
    with whole_file(path) as unfinished:
        unfinished.write_bytes(save(stored, metadata={_NUMBERS: header}))


def load_checkpoint(
    path: str | os.PathLike[str], *, modules: Mapping[str, nn.Module], optimizer: Optimizer
) -> dict[str, Any]:
    """Restore networks and optimiser in place from a file of `save_checkpoint`.

    Training goes on bit for bit as if it had not stopped.

    Parameters
    ----------
    path
        File written by `save_checkpoint`.
    modules
        Networks under the names they were saved with.
    optimizer
        Optimiser of the same kind over the same parameters in the same order.

    Returns
    -------
    `progress` as it was saved; tensors on the CPU.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not a checkpoint of isost, or its networks have other names.
    RuntimeError
        If a network has another shape than the one saved.
    """
    path = Path(path)
    if not path.is_file():
        msg = f"there is no checkpoint {path}"
        raise FileNotFoundError(msg)
    with safe_open(path, framework="pt") as file:
        header = (file.metadata() or {}).get(_NUMBERS)
        if header is None:
            msg = f"{path} is not a training checkpoint of isost"
            raise ValueError(msg)
        numbers = json.loads(header)
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - the handle is no mapping
    if set(numbers["modules"]) != set(modules):
        msg = f"{path} holds the networks {sorted(numbers['modules'])}, not {sorted(modules)}"
        raise ValueError(msg)
    for name, part in modules.items():
        part.load_state_dict(_under(f"module/{name}/", tensors))
    _restore_optimizer(optimizer, numbers["optimizer"], _under("optimizer/", tensors))
    return {**numbers["progress"], **_under("progress/", tensors)}


def _restore_optimizer(optimizer: Optimizer, numbers: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Load its state, if that is of this optimiser's kind and weights, which torch does not ask."""
    state: dict[int, dict[str, Any]] = {int(index): dict(entries) for index, entries in numbers["state"].items()}
    for key, value in tensors.items():
        index, name = key.split("/", maxsplit=1)
        state.setdefault(int(index), {})[name] = value
    # JSON knows no tuples, which some settings (betas) are.
    groups: list[dict[str, Any]] = [
        {key: tuple(value) if isinstance(value, list) and key != "params" else value for key, value in group.items()}
        for group in numbers["param_groups"]
    ]
    weights: list[Tensor] = [weight for group in optimizer.param_groups for weight in group["params"]]
    for number, entries in state.items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor) and value.shape not in ((), weights[number].shape):
                msg = f"{name} of the optimiser has shape {tuple(value.shape)}, not {tuple(weights[number].shape)}"
                raise ValueError(msg)
    if [_kinds(group) for group in groups] != [_kinds(group) for group in optimizer.param_groups]:
        raise ValueError("the optimiser's settings are those of another kind")
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    # torch brings restored state to the parameter's dtype and device. NAdam's running product is float32 beside any
    # parameter, and on the host: from a GPU it would be waited for twice for each weight in every step.
    for number, entries in state.items():
        restored = optimizer.state[weights[number]]
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                restored[name] = value if value.ndim == 0 else restored[name].to(value.dtype)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _kinds(group: dict[str, Any]) -> dict[str, type]:
    return {key: type(value) for key, value in group.items()}
