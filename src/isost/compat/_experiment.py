from __future__ import annotations

import dataclasses
import json
import re
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from isost._untrusted import untrusted
from isost._writing import whole_file
from isost.nn import Drift, from_published, to_published

from ._config import N_NEIGHBORS, read_config
from ._tensors import read_tensors, write_tensors

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from torch import Tensor

    from isost.model import ModelSettings

__all__ = ["CONFIG", "MODEL", "RESUME_NUMBERS", "RESUME_TENSORS", "Weights", "read_record", "read_weights"]

CONFIG, MODEL = "config.yml", "model.pt"
RESUME_TENSORS, RESUME_NUMBERS = "resume.safetensors", "resume.json"
_KEYS = {"f_joint", "g_joint", "iterations"}


class Weights(NamedTuple):
    """What an experiment folder holds of a trained model.

    `f` carries along the order in which the sections were given to the training, `g` back.
    """

    settings: ModelSettings
    f: Drift
    g: Drift


def checkpoints(experiment_dir: str | os.PathLike[str]) -> list[Path]:
    """Checkpoints of an experiment, by their number."""
    numbered = {
        int(match[1]): path
        for path in Path(experiment_dir).glob("checkpoint_*.pt")
        if (match := re.fullmatch(r"checkpoint_(\d+)\.pt", path.name))
    }
    return [numbered[number] for number in sorted(numbered)]


def write_weights(path: Path, f: Drift, g: Drift, *, iterations: int) -> None:
    """Write a checkpoint as the published program does: its keys and tensor names, and nothing else."""
    entries: dict[str, Any] = {
        name: OrderedDict(
            (key, tensor.detach().cpu().clone()) for key, tensor in to_published(drift.state_dict()).items()
        )
        for name, drift in (("f_joint", f), ("g_joint", g))
    }
    write_tensors(path, entries | {"iterations": iterations})


def read_weights(experiment_dir: str | os.PathLike[str], name: str = MODEL) -> Weights:
    """Read a trained model from an experiment folder.

    Raises
    ------
    FileNotFoundError
        If the checkpoint or ``config.yml`` is missing.
    ValueError
        If they cannot be read, or do not belong together.
    """
    folder = Path(experiment_dir)
    with untrusted(folder / name):
        return _weights(folder, folder / name)


def _weights(folder: Path, path: Path) -> Weights:
    content = read_tensors(path)
    config = read_config(folder / CONFIG)
    if not isinstance(content, dict) or not set(content) >= _KEYS or not _are_tensors(content):
        found = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        msg = f"{path} is no published checkpoint: it must hold {sorted(_KEYS)}, weights by name, but holds {found}"
        raise ValueError(msg)
    try:
        f, g = (from_published(content[key]) for key in ("f_joint", "g_joint"))
    except ValueError as error:
        msg = f"{path}: {error}"
        raise ValueError(msg) from error
    sizes = {
        "gene_dim": len(f[f"expression.up.{_depth(f) - 1}.bias"]),
        "hidden_dim": len(f["shape.layers.0.key.bias"]),
    }
    for key, value in sizes.items():
        if value != (said := getattr(config, key)):
            msg = f"{path} has {key} {value}, but {folder / CONFIG} says {said}: they are not of one model"
            raise ValueError(msg)
    settings = dataclasses.replace(
        config.model_settings(), unet_depth=_depth(f), planar=len(f["shape.layers.2.key.bias"]) == 2
    )
    return Weights(settings, *(_drift(settings, weights, path) for weights in (f, g)))


def _are_tensors(content: Mapping[str, Any]) -> bool:
    return all(
        isinstance(content[key], dict) and all(isinstance(value, torch.Tensor) for value in content[key].values())
        for key in ("f_joint", "g_joint")
    )


def _depth(weights: Mapping[str, Tensor]) -> int:
    return sum(bool(re.fullmatch(r"expression\.pools\.\d+\.weight", name)) for name in weights)


def _drift(settings: ModelSettings, weights: dict[str, Tensor], path: Path) -> Drift:
    with torch.device("meta"):
        drift = settings.drift()
    try:
        drift.load_state_dict({name: tensor.to(torch.float32) for name, tensor in weights.items()}, assign=True)
    except RuntimeError as error:
        msg = f"{path} holds tensors of other shapes than its sizes ask for: {error}"
        raise ValueError(msg) from error
    return drift.eval()


def read_record(experiment_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what a training here wrote down of itself; nothing for a model of the published program."""
    return read_json(Path(experiment_dir) / RESUME_NUMBERS)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of one object; an empty one when there is no file."""
    if not path.is_file():
        return {}
    with untrusted(path):
        content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        msg = f"{path} must hold one JSON object"
        raise ValueError(msg)
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1), encoding="utf-8")


def check_publishable(settings: ModelSettings) -> None:
    """Raise ValueError if the published layout has no place for such a model."""
    wrong = {
        "n_heads": (settings.n_heads, (1,)),
        "n_neighbors": (settings.n_neighbors, (N_NEIGHBORS,)),
        "unet_depth": (settings.unet_depth, (2, 3)),
    }
    for name, (value, known) in wrong.items():
        if value not in known:
            msg = f"the published program knows {name} {' or '.join(map(str, known))} alone, and this model has {value}"
            raise ValueError(msg)
