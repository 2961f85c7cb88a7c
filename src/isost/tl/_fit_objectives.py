from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from isost._logging import logger, step
from isost.field import LocalLinear
from isost.training import (
    BridgeObjective,
    TrajectoryObjective,
    TrajectorySettings,
    initialize_drift,
    path_width,
    sampled_tiles,
    section_displacements,
    section_paths,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from isost._processes import Processes
    from isost.model import IsoST
    from isost.training import Objective

    from ._inputs import Sections

__all__ = ["prepare_objective"]

_BRIDGE_STEPS = 200
_TRAJECTORY_EPOCHS = (100, 100, 100)
_MOST_LEARNT = 2**19  # cells whose paths are held at a time: 1.3 GB, where expression shifts


def prepare_objective(
    model: IsoST,
    sections: Sections,
    device: torch.device,
    *,
    batch_size: int,
    processes: Processes,
    trajectory_kws: Mapping[str, Any],
) -> tuple[Objective, int | Sequence[int]]:
    """Prepare what the model is trained by, and tell for how many epochs unless the caller says so."""
    if model.settings.objective == "bridge":
        task = _bridge(model, sections, device, batch_size=batch_size, processes=processes)
        return task, -(-_BRIDGE_STEPS // max(1, len(task.batches())))
    published = _trajectory(model, sections, device, batch_size=batch_size, processes=processes, **trajectory_kws)
    return published, _TRAJECTORY_EPOCHS


def _bridge(
    model: IsoST, sections: Sections, device: torch.device, *, batch_size: int, processes: Processes
) -> BridgeObjective:
    width = path_width(model.settings.n_cells, adaptive=model.settings.adaptive)
    with step("transport between sections"):
        paths = section_paths(
            sections.positions,
            sections.expression,
            sections.stack.depths,
            field=lambda k: LocalLinear(sections.positions[k], sections.expression[k], n_cells=width),
            displacements=section_displacements(sections.positions),
            expression_shift=model.settings.expression_shift,
            blocks=_sample(sections, batch_size=batch_size, seed=model.settings.seed),
        )
    for drift, direction in zip(model.drifts.values(), paths, strict=True):
        initialize_drift(drift, direction)
    forward, backward = (direction.to(device) for direction in paths)
    at_least = model.settings.n_neighbors + 1
    task = BridgeObjective(forward, backward, batch_size=batch_size, at_least=at_least, processes=processes)
    if not task.moves_expression:
        logger.info("expression_shift is 0: cells keep their own expression, and the expression drift stays at zero")
    return task


def _sample(sections: Sections, *, batch_size: int, seed: int) -> Callable[[int], Sequence[NDArray[np.integer]]] | None:
    """Find tiles of each section to learn from, where learning from all cells would take too much memory."""
    share = _MOST_LEARNT / sections.stack.sizes.sum()
    if share >= 1:
        return None
    logger.info("paths are learnt from tiles of the sections that hold %.0f%% of their cells", 100 * share)
    generator = torch.Generator().manual_seed(seed)

    def tiles(k: int) -> list[NDArray[np.integer]]:
        position = torch.as_tensor(sections.positions[k])
        drawn = sampled_tiles(position, round(share * len(position)), batch_size=batch_size, generator=generator)
        return [tile.numpy() for tile in drawn]

    return tiles


def _trajectory(
    model: IsoST, sections: Sections, device: torch.device, *, batch_size: int, processes: Processes, **kws: Any
) -> TrajectoryObjective:
    settings = TrajectorySettings(
        delta_z=model.settings.delta_z,
        sigma=model.settings.sigma,
        dual=model.settings.dual,
        batch_size=batch_size,
        min_cells=model.settings.n_neighbors + 1,
        **kws,
    )
    states = [torch.as_tensor(state, device=device) for state in sections.states]
    return TrajectoryObjective(states, torch.as_tensor(sections.stack.depths), settings=settings, processes=processes)
