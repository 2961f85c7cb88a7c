from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from isost._checks import check_at_least, check_positive
from isost.training import TrajectorySettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isost.model import ModelSettings
    from isost.training import LoopSettings

    from ._inputs import Sections

__all__ = ["check_objective", "check_settings"]

_OF_FIT = frozenset({"delta_z", "sigma", "dual", "batch_size", "min_cells"})  # set by fit's own parameters
_FEWEST_CELLS = 3  # that a plane can be fitted to
_FEWEST_POOLED = 2  # points that the last pooling may leave


def check_objective(objective: str, *, sigma: Sequence[float]) -> None:
    """Raise ValueError if the objective is unknown, or `sigma` is not four numbers."""
    if objective not in ("bridge", "trajectory"):
        msg = f"objective={objective!r} is unknown; choose 'bridge' or 'trajectory'"
        raise ValueError(msg)
    if len(sigma) != 4 or not all(math.isfinite(value) and value >= 0 for value in sigma):
        msg = f"sigma must be four numbers, of x, y, z and expression, none negative, got {tuple(sigma)}"
        raise ValueError(msg)


def check_settings(
    sections: Sections,
    settings: ModelSettings,
    loop: LoopSettings,
    *,
    n_cells: int | None,
    expression_shift: float | None,
    n_mean_comps: int,
    batch_size: int,
    trajectory_kws: dict[str, Any],
) -> None:
    """Raise ValueError or TypeError, naming the parameter of `fit`, if a setting is impossible."""
    check_at_least(
        1,
        n_neighbors=settings.n_neighbors,
        hidden_dim=settings.hidden_dim,
        n_heads=settings.n_heads,
        unet_depth=settings.unet_depth,
        n_mean_comps=n_mean_comps,
        checkpoint_every=loop.checkpoint_every,
    )
    check_at_least(settings.n_neighbors + 1, batch_size=batch_size)
    check_at_least(0, seed=settings.seed)
    if n_cells is not None:
        check_at_least(_FEWEST_CELLS, n_cells=n_cells)
    check_positive(delta_z=settings.delta_z, lr=loop.lr)
    if not (isinstance(optimizer := getattr(torch.optim, loop.optimizer, None), type) and optimizer.__name__[0] != "_"):
        msg = f"optimizer={loop.optimizer!r} is not in torch.optim; choose one such as 'NAdam' or 'Adam'"
        raise ValueError(msg)
    _check_of_objective(settings, loop, expression_shift=expression_shift, trajectory_kws=trajectory_kws)
    _check_sizes(sections, settings)


def _check_of_objective(
    settings: ModelSettings, loop: LoopSettings, *, expression_shift: float | None, trajectory_kws: dict[str, Any]
) -> None:
    bridge = settings.objective == "bridge"
    known = {field.name for field in dataclasses.fields(TrajectorySettings)} - _OF_FIT
    if unknown := set(trajectory_kws) - (set() if bridge else known):
        msg = f"fit does not know {sorted(unknown)} for objective={settings.objective!r}"
        raise TypeError(msg)
    if expression_shift is not None and not (bridge and 0 <= expression_shift <= 1):
        msg = f"expression_shift must lie in [0, 1], for objective='bridge' alone, got {expression_shift}"
        raise ValueError(msg)
    if not bridge:
        return
    if loop.epochs is not None and not (isinstance(loop.epochs, int | np.integer) and loop.epochs >= 0):
        msg = f"epochs of the bridge must be one number, not negative, got {loop.epochs!r}"
        raise ValueError(msg)
    if not settings.dual:
        msg = "the bridge learns both directions: leave dual=True, or choose objective='trajectory'"
        raise ValueError(msg)
    if not settings.planar:
        msg = f"the bridge keeps the cells of a frame at one depth: sigma of z must be 0, got {settings.sigma[2]}"
        raise ValueError(msg)


def _check_sizes(sections: Sections, settings: ModelSettings) -> None:
    for name, positions in zip(sections.stack.names, sections.positions, strict=True):
        if len(positions) <= settings.n_neighbors:
            msg = (
                f"section {name!r} has {len(positions)} cells, too few for n_neighbors={settings.n_neighbors}: "
                f"leave it out, or choose fewer neighbours"
            )
            raise ValueError(msg)
        if len(positions) < _FEWEST_POOLED * 2**settings.unet_depth:
            msg = (
                f"section {name!r} has {len(positions)} cells, too few for unet_depth={settings.unet_depth}, which "
                f"halves them as many times: choose a smaller depth"
            )
            raise ValueError(msg)
