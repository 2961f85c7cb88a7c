from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
import yaml

from isost._keys import SECTIONS, UNS
from isost._logging import logger
from isost._normalization import EXPRESSION, Normalization
from isost._untrusted import untrusted
from isost._writing import whole_file
from isost.field import choose_smoothing
from isost.generation import cell_variance
from isost.model import IsoST
from isost.pp import Stack

from ._config import UNET_DEPTHS
from ._experiment import CONFIG, MODEL, check_publishable, checkpoints, read_record, read_weights, write_weights

if TYPE_CHECKING:
    import os

    from anndata import AnnData

__all__ = ["load_checkpoint", "save_checkpoint"]


def load_checkpoint(
    experiment_dir: str | os.PathLike[str],
    stack: AnnData | None = None,
    *,
    name: str = MODEL,
    n_cells: int | None = None,
    device: str | torch.device = "cpu",
) -> IsoST:
    """Load a model of the published layout, made here or by the published program.

    Parameters
    ----------
    experiment_dir
        Folder with ``config.yml`` and ``model.pt``.
    stack
        The sections that it was trained on, see `read_stack`: an experiment folder holds no normalisation, genes or
        components, which :func:`isost.tl.section` and :func:`isost.tl.reconstruct` need. Not changed. When None, the
        model knows its drift alone (`IsoST.drift`).
    name
        The checkpoint, such as ``checkpoint_3.pt``.
    n_cells
        Cells that the expected expression is smoothed over; chosen by cross-validation when None.
    device
        Where the networks go.

    Returns
    -------
    The model. Its forward direction is upwards: where the sections were trained on from the highest down, that is
    ``g_joint``.

    Raises
    ------
    FileNotFoundError
        If the checkpoint or the config is missing.
    ValueError
        If they cannot be read, or do not belong together or to the stack; the file is named.

    Examples
    --------
    >>> stack = isost.compat.read_stack(data_dir, slide_names, pca="pca.npz", decode=True)
    >>> model = isost.compat.load_checkpoint("experiments", stack)
    >>> section = isost.tl.section(stack, model=model, z=0.45)
    """
    weights, record = read_weights(experiment_dir, name), read_record(experiment_dir)
    with untrusted(experiment_dir):
        settings = dataclasses.replace(weights.settings, seed=int(record.get("seed", 0)))
        history = pd.DataFrame(record.get("history", []))
    up, down = weights.f.to(device), weights.g.to(device)
    if record.get("descending", _is_descending(stack)):
        if not settings.dual:
            msg = (
                f"{Path(experiment_dir) / name} was trained downwards alone (dual: false), and isost.tl starts from "
                f"the lower section: train it on the sections in ascending order"
            )
            raise ValueError(msg)
        up, down = down, up
    rest: dict[str, Any]
    if stack is None:
        dims = np.zeros(3 + settings.n_comps), np.ones(3 + settings.n_comps)
        none = np.empty(0)
        rest = {"normalization": Normalization(*dims), "genes": [], "loadings": np.empty((0, settings.n_comps))}
        rest |= {"component_variance": none, "cell_variance": none}
    else:
        view = Stack.from_anndata(stack)
        if view.normalization.n_comps != settings.n_comps:
            msg = (
                f"{Path(experiment_dir) / name} has gene_dim {settings.n_comps}, but the stack has "
                f"{view.normalization.n_comps} components"
            )
            raise ValueError(msg)
        n_cells, adaptive, rest = _of_stack(view, n_cells)
        settings = dataclasses.replace(settings, n_cells=n_cells, adaptive=adaptive)
        rest |= {"normalization": view.normalization, "genes": list(stack.var_names)}
    return IsoST(settings, up, down if settings.dual else None, history=history, **rest)


def save_checkpoint(model: IsoST, experiment_dir: str | os.PathLike[str]) -> None:
    """Save a model in the published layout: ``config.yml`` and ``model.pt``.

    Normalisation, genes and components have no place in it: they go beside the sections, see `write_stack`.

    Parameters
    ----------
    model
        What :func:`isost.tl.fit` or `load_checkpoint` returned.
    experiment_dir
        Folder to write to.

    Raises
    ------
    FileExistsError
        If it holds a model, a checkpoint or a config.
    ValueError
        If the model has attention heads, neighbours or a depth of the graph U-Net that the layout cannot hold.
    """
    folder, settings = Path(experiment_dir), model.settings
    check_publishable(settings)
    for path in (folder / CONFIG, folder / MODEL, *checkpoints(folder)):
        if path.exists():
            msg = f"{path} exists: choose another folder, nothing was written"
            raise FileExistsError(msg)
    if settings.planar:
        logger.warning("the model is planar, which the published program cannot run: its shape drift has two outputs")
    params = {
        "gene_dim": settings.n_comps,
        "hidden_dim": settings.hidden_dim,
        "delta_d": settings.delta_z,
        **dict(zip(("std_x", "std_y", "std_z", "std_seq"), settings.sigma, strict=True)),
        "stride": 1,
        "dual": settings.dual,
    }
    trainer = next(name for name, depth in UNET_DEPTHS.items() if depth == settings.unet_depth)
    with whole_file(folder / CONFIG) as unfinished:
        unfinished.write_text(yaml.safe_dump({"trainer": trainer, "params": params}), encoding="utf-8")
    backward = model.backward
    if backward is None:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(settings.seed)
            backward = settings.drift()
    write_weights(folder / MODEL, model.forward, backward, iterations=len(model.history))


def _is_descending(stack: AnnData | None) -> bool:
    """Whether the sections of a stack that `read_stack` made were named from the highest down."""
    kept = {} if stack is None else stack.uns.get(UNS, {})
    given = [str(name) for name in kept.get("params", {}).get("slide_names", [])]
    return len(given) > 1 and given == [str(name) for name in kept[SECTIONS]["names"]][::-1]


def _of_stack(view: Stack, n_cells: int | None) -> tuple[int, bool, dict[str, Any]]:
    """Gather what a model knows of its sections' components beside the drifts."""
    states = [view.state[view.section(k)] for k in range(len(view.names))]
    positions = [state[:, :2].astype(np.float64) for state in states]
    components = [view.normalization.decode(state[:, EXPRESSION], dims=EXPRESSION) for state in states]
    n_cells, adaptive = choose_smoothing(
        positions, components, view.depths, generator=np.random.default_rng(0), n_cells=n_cells
    )
    return (
        n_cells,
        adaptive,
        {
            "loadings": view.loadings,
            "component_variance": np.concatenate(components).var(axis=0),
            "cell_variance": cell_variance(positions, components, n_cells=n_cells, adaptive=adaptive),
        },
    )
