from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch

from isost import _keys as keys
from isost._faults import explained
from isost._logging import counted, step
from isost._processes import join_processes
from isost._provenance import provenance
from isost._settings import settings as session
from isost.generation import cell_variance
from isost.model import IsoST, ModelSettings
from isost.sde import step_count
from isost.training import (
    LoopSettings,
    left_out_displacements,
    optimize,
)

from ._calibration import choose_gap_variance
from ._fit_checks import check_objective, check_settings
from ._fit_choices import choose_loadings, choose_settings
from ._fit_objectives import prepare_objective
from ._inputs import Sections, as_device, warn_many_steps
from ._launch import shared
from ._threads import few_threads

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from numpy.typing import NDArray

    from isost.training import Displacements

__all__ = ["N_MEAN_COMPS", "fit"]

N_MEAN_COMPS = 200

_PLANAR_BELOW = 1e-4  # of sigma_z: as published, frames are then flat
_LR = {"bridge": 9e-3, "trajectory": 1e-3}
_LESS_MEMORY = "a smaller batch_size or hidden_dim, or isost.pp.slice_stack(lazy=True), needs less"


@shared
@few_threads()
def fit(
    stack: AnnData,
    *,
    objective: Literal["bridge", "trajectory"] = "bridge",
    epochs: int | Sequence[int] | None = None,
    delta_z: float = 0.02,
    sigma: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
    n_neighbors: int = 5,
    hidden_dim: int = 128,
    n_heads: int = 1,
    unet_depth: int = 2,
    dual: bool = True,
    expression_shift: float | None = None,
    n_cells: int | None = None,
    adaptive: bool | None = None,
    n_mean_comps: int = N_MEAN_COMPS,
    batch_size: int = 512,
    optimizer: str = "NAdam",
    lr: float | None = None,
    weight_decay: float = 1e-8,
    seed: int = 0,
    device: str | torch.device | None = None,
    devices: int = 1,
    num_nodes: int = 1,
    progress: bool | None = None,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 50,
    **trajectory_kws: Any,
) -> IsoST:
    """Learn how cells' positions and expression change with depth.

    Two graph networks for each direction give the drift of the stochastic differential equation that carries a
    section's cells through the gaps (isoST, bioRxiv 10.1101/2025.08.15.670472). Ctrl-C ends training early and returns
    the model as it is.

    Parameters
    ----------
    stack
        What :func:`isost.pp.slice_stack` returned. It is not changed.
    objective
        ``"bridge"``: the drifts are regressed on the velocity of transport paths between the sections, without
        simulation; minutes on a CPU. ``"trajectory"``: as published, each section is carried through the gap and
        compared with the next one.
    epochs
        For the bridge one number, by default as many as make 200 steps. For the trajectory one to four: joint; shape,
        expression; shape, expression, joint; joint, shape, expression, joint; by default (100, 100, 100).
    delta_z
        Wanted length of a step in z; the median gap is 0.1.
    sigma
        Noise of x, y, z and of every component, state units per root of z (x and y relative to the larger width). At
        most 1e-4 in z keeps the cells of a frame at one depth.
    n_neighbors, hidden_dim, n_heads, unet_depth
        Neighbours in the graph, width of both networks, attention heads, poolings of the graph U-Net. The published
        model has 5, 64, 1, 2.
    dual
        Learn both directions; with False only the forward one. The bridge always learns both.
    expression_shift
        How far a cell's expression follows its surroundings, β in [0, 1]; chosen by leaving out sections when None.
    n_cells
        Cells that the expected expression is smoothed over; chosen by cross-validation when None.
    adaptive
        Whether only those of them count whose surroundings are alike, which keeps edges and thin layers sharp; chosen
        by cross-validation when None.
    n_mean_comps
        Components, at most, in which expected expression is estimated: those of the stack, then those of what else is
        spatial in the genes. With at least as many as genes nothing is lost.
    batch_size
        Most cells of one section that one step sees; larger sections are cut into compact tiles of full density.
    optimizer, lr, weight_decay
        Of `torch.optim`; lr is 9e-3 (annealed) for the bridge and 1e-3 (constant) for the trajectory when None.
    seed
        Seed of weights, tiles and noise. Global random state is not touched.
    device
        Where to train; a GPU when None and there is one.
    devices, num_nodes
        Processes that train together, on each node and nodes: the blocks of every step are shared out, and the model
        is the same but for rounding. Each has a GPU of its own where `device` is one. Those of one node are started
        here; those of several, or of a whole script, by torchrun or SLURM, and each then returns the model. Ctrl-C ends
        them all, and the checkpoint is what is left.
    progress
        Whether to show a progress bar; `isost.settings.progress` when None.
    checkpoint_dir
        Folder for a checkpoint every `checkpoint_every` epochs; training continues from the one it holds.
    **trajectory_kws
        For the trajectory: ``alpha``, ``stride``, ``freeze``, ``warm_up_rate``, ``beta_start_value``,
        ``beta_end_value``, ``beta_start_iteration``, ``beta_n_iterations``, ``blur``, ``scaling``, ``checkpoint``.

    Returns
    -------
    The model; `model.history` has a row an epoch, `model.provenance` says what made it.

    Raises
    ------
    ValueError
        If `stack` is no stack, a setting is impossible, there is no GPU where `device` asks for one, or another number
        of processes was started than ``devices * num_nodes``.
    FloatingPointError
        If the loss is no longer finite; the message says between which sections. The weights of the last good step
        are then in `checkpoint_dir`, as ``last_good.safetensors``.
    MemoryError, OSError
        If there is too little memory, or the disk is full; the message says what was kept and what to change.

    Examples
    --------
    >>> model = isost.tl.fit(isost.pp.slice_stack(adatas))
    """
    given = locals().copy()
    given |= given.pop("trajectory_kws")
    sections = Sections(stack)
    check_objective(objective, sigma=sigma)
    settings = ModelSettings(
        objective=objective,
        n_comps=sections.stack.normalization.n_comps,
        hidden_dim=hidden_dim,
        n_heads=n_heads,
        unet_depth=unet_depth,
        n_neighbors=n_neighbors,
        planar=sigma[2] <= _PLANAR_BELOW,
        dual=dual,
        delta_z=delta_z,
        sigma=(float(sigma[0]), float(sigma[1]), float(sigma[2]), float(sigma[3])),
        seed=seed,
    )
    loop = LoopSettings(
        epochs=epochs,
        optimizer=optimizer,
        lr=lr if lr is not None else _LR[objective],
        weight_decay=weight_decay,
        anneal=objective == "bridge",
        seed=seed,
        progress=session.progress if progress is None else progress,
        checkpoint_dir=None if checkpoint_dir is None else Path(checkpoint_dir),
        checkpoint_every=checkpoint_every,
        sections=sections.stack.names,
    )
    check_settings(
        sections,
        settings,
        loop,
        n_cells=n_cells,
        expression_shift=expression_shift,
        n_mean_comps=n_mean_comps,
        batch_size=batch_size,
        trajectory_kws=trajectory_kws,
    )
    processes, here = join_processes(devices, num_nodes, as_device(device))
    n_steps = np.array([step_count(gap, delta_z) for gap in np.diff(sections.stack.depths)])
    warn_many_steps(sections.stack, n_steps=n_steps, what="steps")

    random = np.random.default_rng(seed)
    with step("fit") as notes, explained(less=_LESS_MEMORY, kept=loop.kept):
        moved = left_out_displacements(sections.positions)
        settings = choose_settings(
            stack,
            sections,
            moved,
            random,
            settings,
            n_cells=n_cells,
            adaptive=adaptive,
            expression_shift=expression_shift,
        )
        loadings = choose_loadings(stack, sections, n_mean_comps, random)
        model = _fresh_model(settings, stack, sections, loadings, random, moved)
        task, default_epochs = prepare_objective(
            model, sections, here, batch_size=batch_size, processes=processes, trajectory_kws=trajectory_kws
        )
        model = processes.of_first(model).to(here)  # so that nothing that was chosen differs, not even by rounding
        loop = dataclasses.replace(
            loop,
            epochs=default_epochs if epochs is None else epochs,
            fingerprint=_fingerprint(sections, settings, trajectory_kws),
        )
        model.history = pd.DataFrame(optimize(task, model.forward, model.backward, settings=loop, processes=processes))
        for drift in model.drifts.values():
            drift.eval()
        model.provenance = provenance(
            "isost.tl.fit", given, device=as_device(device), stack=stack.uns[keys.UNS].get(keys.PROVENANCE)
        )
        notes.append(
            f"objective {objective!r}, {counted(len(model.history), 'epoch')}, expression smoothed over "
            f"{settings.n_cells} {'like ' if settings.adaptive else ''}cells, "
            f"expression_shift {settings.expression_shift:g}"
        )
    return model


def _fingerprint(sections: Sections, settings: ModelSettings, kws: dict[str, Any]) -> str:
    """Digest of what a fit depends on, so that a checkpoint of another one is not continued."""
    digest = hashlib.sha256(repr((settings, session.precision, sorted(kws.items()))).encode())
    digest.update(np.ascontiguousarray(sections.stack.state).data)
    return digest.hexdigest()


def _fresh_model(
    settings: ModelSettings,
    stack: AnnData,
    sections: Sections,
    loadings: NDArray[np.float32],
    random: np.random.Generator,
    moved: Mapping[int, Displacements],
) -> IsoST:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)  # that of the CPU alone: no other is forked
        forward = settings.drift()
        backward = settings.drift() if settings.dual else None
    components = sections.components(loadings)
    mean, mean_square = np.sum([[values.sum(0), (values**2).sum(0)] for values in components], axis=0) / stack.n_obs
    component_variance = mean_square - mean**2
    smoothing: dict[str, Any] = {"n_cells": settings.n_cells, "adaptive": settings.adaptive}
    own = cell_variance(sections.positions, components, **smoothing)
    gap_variance = choose_gap_variance(
        stack,
        sections,
        loadings,
        random,
        moved,
        mean_shift=settings.mean_shift,
        component_variance=component_variance,
        cell_variance=own,
        **smoothing,
    )
    settings = dataclasses.replace(settings, gap_variance=gap_variance)
    return IsoST(
        settings,
        forward,
        backward,
        normalization=sections.stack.normalization,
        genes=list(stack.var_names),
        loadings=loadings,
        component_variance=component_variance,
        cell_variance=own,
    )
